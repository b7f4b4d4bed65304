"""The state of a run, read from its files alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sia_gen import lock, run_folder
from sia_gen.core.errors import UserError
from sia_gen.core.files import read_json
from sia_gen.plan import remaining, specs
from sia_gen.progress import NAME as PROGRESS
from sia_gen.progress import duration


def read(run: Path) -> dict[str, Any]:
    """Returns a run's state as a JSON object.

    `state` is running, complete, failed (shards are in quarantine), or incomplete.
    """
    recipe = run_folder.read_recipe(run)
    planned = specs(recipe)
    missing = remaining(planned, run)
    names = {spec.name for spec in missing}
    failed = sorted(path.stem for path in (run / "failed").glob("*.json") if path.stem in names)
    holder = lock.read(run)
    live = holder is not None and bool(holder["live"])
    if live:
        state = "running"
    elif not missing:
        state = "complete"
    else:
        state = "failed" if failed else "incomplete"
    progress: dict[str, Any] = {}
    if live and (run / PROGRESS).is_file():
        progress = read_json(run / PROGRESS)
    missing_images = sum(spec.count for spec in missing)
    per_category = {category: recipe.per_category for category in recipe.categories}
    for spec in missing:
        per_category[spec.key if spec.key in per_category else spec.category] -= spec.count
    return {
        "run": str(run),
        "state": state,
        "images": recipe.images,
        "images_done": recipe.images - missing_images,
        "images_in_work": progress.get("images_in_work", 0),
        "shards": len(planned),
        "shards_done": len(planned) - len(missing),
        "failed": failed,
        "categories": per_category,
        "images_per_second": progress.get("images_per_second"),
        "seconds_left": progress.get("seconds_left"),
        "held_by": {name: holder[name] for name in ("pid", "host", "live")} if holder else None,
    }


def describe(state: dict[str, Any]) -> str:
    """Returns a state as text for people."""
    share = 100 * state["images_done"] / state["images"]
    lines = [
        f"{state['run']}: {state['state']}",
        f"  images {state['images_done']}/{state['images']} ({share:.0f}%),"
        f" shards {state['shards_done']}/{state['shards']}",
    ]
    if state["images_per_second"]:
        left = state["seconds_left"]
        lines.append(
            f"  {state['images_per_second']:.3g} images/s"
            + (f", {duration(left)} left" if left is not None else "")
        )
    lines += [f"  {name}: {images} images" for name, images in state["categories"].items()]
    if state["held_by"]:
        holder = state["held_by"]
        word = "held by" if holder["live"] else "left by a dead run,"
        lines.append(f"  {word} pid {holder['pid']} on {holder['host']}")
    lines += [f"  failed: {name} (see failed/{name}.json)" for name in state["failed"]]
    return "\n".join(lines)


def require_run(run: str) -> Path:
    """Returns the run folder of an argument; UserError where there is none."""
    path = Path(run).resolve()
    try:
        run_folder.read(path)
    except OSError as error:
        raise UserError(f"run folder {run} cannot be read: {error.strerror or error}") from error
    return path
