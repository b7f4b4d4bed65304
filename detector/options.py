"""What a training run is asked to do: defaults, then a recipe, then the command line."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from detector.mixture import canonical, complete_options, parse
from detector.words import FITS, IMAGE_SCORES, parse_tiles
from sia_gen.core import shared_options
from sia_gen.core.errors import UserError, near_names
from sia_gen.core.options import (
    Checked,
    coerced,
    current_names,
    from_values,
    option,
    plain,
    settings,
)

__all__ = [
    "HARMLESS",
    "TrainOptions",
    "model_options",
    "resolve",
    "restored",
    "without_unasked",
]

LOOK = 10  # steps between looks at the loss: each look waits for the device
BUDGETS = {"steps", "epochs", "budget_minutes"}
PRECISIONS = ("auto", "fp32", "bf16", "fp16")


@dataclass(frozen=True, kw_only=True)
class TrainOptions(Checked):
    """One category's training. `steps` 0 means `epochs` times the category's normal images.

    What stands on the command line has a flag; the others are set by a recipe or --set.
    """

    recipe: str = option("realnet-demo", "The recipe these came from.", command_line=False)
    model: str = option("realnet", "A module of detector/models.", command_line=False)
    source: str = option(
        "sdas",
        "A synthesis method, a mixture (sdas:0.5,dtd:0.5), or none.",
        metavar="SOURCE",
    )
    resolution: int = option(256, "Side of the images in pixels.", low=16)
    tiles: str = option(
        "",
        "Look at squares of so many pixels of the image as it is, overlapping by a quarter.",
        metavar="SIDE[:OVERLAP]",
        shown="whole images",
    )
    fit: str = option("stretch", "How whole images become square.", choices=FITS)
    batch_size: int = option(
        16, "Images a step, half of them normal: an even number.", low=2, former=("batch",)
    )
    accumulate: int = option(1, "Batches whose gradients make one step.", low=1, command_line=False)
    gradient_clip: float = option(
        0.0, "Largest norm of the gradient; 0: any.", low=0, command_line=False
    )
    steps: int = option(0, "Optimiser steps.", low=0, shown="the recipe's")
    epochs: int = option(
        0, "Passes over the normal images, instead of --steps.", low=0, shown="the recipe's"
    )
    budget_minutes: float = option(
        0.0,
        "Minutes of training, instead of --steps: as many steps as fit, by measured speed.",
        low=0,
        shown="none",
        flag="--budget",
        metavar="MINUTES",
    )
    keep_every: int = option(
        0, f"Keep the weights after every so many steps too, a multiple of {LOOK}.", low=0
    )
    image_score: str = option(
        "max",
        "What decides an image: a rule of detector/scorefile.py.",
        choices=IMAGE_SCORES,
        command_line=False,
    )
    learning_rate: float = option(1e-4, "Adam's learning rate.", above=0, below=1, former=("lr",))
    schedule: str = option(
        "constant",
        "How the learning rate goes on.",
        choices=("constant", "cosine"),
        command_line=False,
    )
    seed: int = option(0, "Everything random follows from it.", low=0)
    precision: str = option("auto", "Precision of the networks.", choices=PRECISIONS)
    holdout: float | None = option(
        None,
        "Share of normal images kept out of training, for a threshold that keeps its promise.",
        low=0,
        below=0.9,
        shown="a tenth of 20 images or more",
    )
    foreground: bool = option(True, "Put anomalies on the foreground alone.", command_line=False)
    protocol: str = option(
        "last",
        "Which step's weights become the checkpoint.",
        choices=("last", "held-out", "best-on-test"),
    )
    look_every: int = option(
        0, "Steps between looks at the model; 0: 20 looks in all.", low=0, command_line=False
    )
    patience: int = option(0, "Stop after so many looks without a better one; 0: never.", low=0)
    stream: bool = option(
        False,
        "Read --shards in order and copy nothing: a run, or any WebDataset (s3://, https://,"
        " {000..123}.tar); not the same bytes in every run.",
    )
    allow_foreign_shards: bool = option(False, "Take shards of other categories.")
    checkpoint_seconds: float = option(
        120.0, "Seconds between states to go on from.", above=0, command_line=False
    )
    cache_gib: float = option(
        2.0, "GiB of images and targets kept in memory.", low=0, command_line=False
    )
    report_to: str = shared_options.report_to()
    methods: dict[str, dict[str, Any]] = option({}, "Options of each method.", command_line=False)
    options: dict[str, Any] = option({}, "Options of the model.", command_line=False)

    def __post_init__(self) -> None:
        """Refuses values that no run can have, naming the option."""
        super().__post_init__()
        if self.protocol == "held-out" and not self.holdout:
            raise UserError("protocol held-out needs --holdout, e.g. 0.1: the images to choose by")
        if self.stream and (self.protocol == "held-out" or self.budget_minutes):
            raise UserError(
                "stream gives other images at each look: protocol held-out and --budget, which take"
                " steps twice, need shards read without --stream"
            )
        if self.patience and self.protocol == "last":
            raise UserError("patience has nothing to look at with protocol last: use held-out")
        side, _ = parse_tiles(self.tiles)
        if side and side != self.resolution:
            raise UserError(
                f"tiles {self.tiles} and resolution {self.resolution} differ: with tiles the"
                " network sees squares of their side, so leave out the resolution"
            )
        if side and self.fit != "stretch":
            raise UserError(f"fit {self.fit} and tiles exclude each other: tiles keep the scale")
        if side and self.protocol == "best-on-test":
            raise UserError("protocol best-on-test is not offered with tiles: use held-out")
        if self.batch_size % 2:
            raise UserError(
                f"batch_size {self.batch_size}: half of it is normal, so give an even number"
            )
        if bool(self.steps or self.epochs) == bool(self.budget_minutes):
            raise UserError("give --steps, --epochs or --budget, above 0")
        if self.keep_every % LOOK:
            raise UserError(f"keep_every {self.keep_every} is no multiple of {LOOK}")

    def rate(self, done: int, total: int) -> float:
        """Returns the learning rate of the step after `done` of `total` steps.

        The paper's is constant. `cosine` falls to a hundredth: in short trainings the last
        checkpoint is otherwise wherever the last few batches threw it.
        """
        if self.schedule == "constant":
            return self.learning_rate
        return self.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done / total)))

    @property
    def each(self) -> int:
        """Images of one optimiser step."""
        return self.batch_size * self.accumulate

    def total_steps(self, images: int) -> int:
        """Returns the number of optimiser steps for a category with so many training images.

        A budget knows it once the training's speed is measured; until then the least stands.
        """
        return self.steps or self.epochs * -(-images // self.each) or LOOK


# How often to save or keep and how much to hold in memory change nothing in what is computed.
HARMLESS = ("checkpoint_seconds", "cache_gib", "keep_every", "report_to")


def resolve(recipe: str, given: dict[str, Any], model: type[Any]) -> TrainOptions:
    """Returns the options of a recipe with `given` on top; unknown names list the near ones."""
    from sia_gen.core.recipes import read_recipe

    values = current_names(TrainOptions, read_recipe(recipe, "detector"), f"recipe {recipe}")
    given = current_names(TrainOptions, given, "command line")
    # The budget is one thing under three names: what the command line gives replaces the recipe's.
    if any(given.get(name) for name in BUDGETS):
        values = {k: v for k, v in values.items() if k not in BUDGETS}
    own: dict[str, Any] = {"recipe": recipe}
    inner: dict[str, Any] = {}
    methods: dict[str, dict[str, Any]] = {}
    train_types = {name: one.type for name, one in settings(TrainOptions).items()}
    model_types = {name: one.type for name, one in settings(model).items()}
    for name in ("recipe", "options", "methods"):
        del train_types[name]
    for where, layer in ((f"recipe {recipe}", values), ("command line", given)):
        for name, value in layer.items():
            method, dot, option = str(name).partition(".")
            if name in train_types:
                own[name] = coerced(value, train_types[name], f"{where}: {name}")
            elif name in model_types:
                inner[name] = coerced(value, model_types[name], f"{where}: {name}")
            elif dot:
                methods.setdefault(method, {})[option] = value
            else:
                near = near_names(str(name), [*train_types, *model_types])
                raise UserError(f"{where}: option {name!r} is unknown.{near}")
    own["source"] = canonical(own.get("source", TrainOptions.source))
    side, overlap = parse_tiles(own.get("tiles", ""))
    if side:
        own["tiles"] = f"{side}:{overlap}"
        if "resolution" not in given:  # a recipe's resolution is for whole images
            own["resolution"] = side
    # A recipe may speak of methods that another --source leaves out; the command line may not.
    used = parse(own["source"])
    asked = {str(name).partition(".")[0] for name in given if "." in str(name)}
    methods = {name: set_ for name, set_ in methods.items() if name in used or name in asked}
    own["methods"] = complete_options(own["source"], methods)
    complete = model(**inner)
    return TrainOptions(**own, options=plain(dataclasses.asdict(complete)))


# Options that came later, with what a run did that could not name them yet.
LATER: dict[str, Any] = {
    "fit": "stretch", "tiles": "", "accumulate": 1, "gradient_clip": 0.0, "budget_minutes": 0.0,
    "image_score": "max", "stream": False,
}  # fmt: skip
LATER_OF_REALNET: dict[str, Any] = {
    "bank": 0, "sees_bank": False, "bank_weight": 0.0, "discriminator": "paper", "whole": 0,
    "whole_weight": 0.0, "bank_neighbourhood": 1, "bank_by_layer": False,
}  # fmt: skip


def without_unasked(options: dict[str, Any], later: dict[str, Any] = LATER) -> dict[str, Any]:
    """Returns recorded options without those that came later and are not made use of.

    So runs of before and after have the same options where they mean the same.
    """
    return {k: v for k, v in options.items() if not (k in later and later[k] == v)}


def model_options(cls: type[Any], values: dict[str, Any]) -> Any:
    """Returns a model's or method's Options from their recorded form."""
    return from_values(cls, values, "recorded options")


def restored(document: dict[str, Any]) -> TrainOptions:
    """Returns the options that a run folder recorded, also under the names of earlier versions."""
    made: TrainOptions = from_values(TrainOptions, document, "recorded options")
    return made
