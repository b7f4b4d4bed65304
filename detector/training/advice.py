"""What a person should know of a training: few images, detail that is lost, what is promised."""

from __future__ import annotations

from typing import Any

from detector.data.task import Task
from detector.options import TrainOptions
from detector.run_folder import ENOUGH, split_task
from detector.threshold import decide
from sia_gen.core.pixels.images import read_size

USUAL = 100  # normal images from which on a detector is seldom short of them
LARGE = 2.5  # reduction of a side from which on small defects are in danger
LOOKED_AT = 50  # files whose headers tell the usual size


def before(options: TrainOptions, task: Task) -> list[str]:
    """Returns a line for each thing about the images that bodes ill, with what to do."""
    found = []
    for category, (used, held) in zip(
        task.categories, split_task(task, options.holdout), strict=True
    ):
        count = len(category.train)
        if count < USUAL:
            rest = "" if held or count >= ENOUGH else ", and none is held out for the threshold"
            found.append(
                f"{category.key}: {count} normal images are few{rest}; a hundred or more show what"
                " varies among good parts"
            )
        sides = sorted(min(read_size(path)) for path in used[:LOOKED_AT])
        side = sides[len(sides) // 2]
        if not options.tiles and side > LARGE * options.resolution:
            found.append(
                f"{category.key}: images of {side} pixels and more become {options.resolution} x"
                f" {options.resolution}, a defect of 20 pixels {20 * options.resolution // side}:"
                f" `--tiles {options.resolution}` looks at them at full scale"
            )
    return found


def after(facts: dict[str, Any]) -> str:
    """Returns what a finished detector's threshold promises, in a line."""
    decision = decide(facts, None, 0.05)
    return f"threshold {decision.threshold:.4g} from {decision.origin}"
