"""What a training run is asked to do: defaults, then a recipe, then the command line."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

import yaml

from detector.data.mixture import canonical, complete_options, parse
from detector.frame import FITS, parse_tiles
from detector.values import coerced, model_options, plain, types_of
from sia_gen.core.errors import UserError, near_names

__all__ = [
    "HARMLESS",
    "TrainOptions",
    "model_options",
    "parse_settings",
    "resolve",
    "restored",
    "without_unasked",
]

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
PROTOCOLS = ("last", "held-out", "best-on-test")
SCHEDULES = ("constant", "cosine")


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """One category's training. `steps` 0 means `epochs` times the category's normal images.

    `tiles` is SIDE[:OVERLAP] or empty; with tiles `resolution` is their side.
    """

    recipe: str = "realnet"
    model: str = "realnet"
    source: str = "sdas"
    resolution: int = 256
    fit: str = "stretch"
    tiles: str = ""
    batch: int = 16
    steps: int = 0
    epochs: int = 0
    lr: float = 1e-4
    schedule: str = "constant"
    seed: int = 0
    precision: str = "auto"
    holdout: float = 0.0
    foreground: bool = True
    protocol: str = "last"
    look_every: int = 0
    patience: int = 0
    allow_foreign_shards: bool = False
    checkpoint_seconds: float = 120.0
    cache_gib: float = 2.0
    methods: dict[str, dict[str, Any]] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuses values that no run can have, naming the option."""
        if self.precision not in PRECISIONS:
            raise UserError(f"precision {self.precision!r} is not one of {', '.join(PRECISIONS)}")
        if self.protocol not in PROTOCOLS:
            raise UserError(f"protocol {self.protocol!r} is not one of {', '.join(PROTOCOLS)}")
        if self.protocol == "held-out" and not self.holdout:
            raise UserError("protocol held-out needs --holdout, e.g. 0.1: the images to choose by")
        if self.look_every < 0 or self.patience < 0:
            raise UserError("look_every and patience must not be below 0")
        if self.patience and self.protocol == "last":
            raise UserError("patience has nothing to look at with protocol last: use held-out")
        if self.schedule not in SCHEDULES:
            raise UserError(f"schedule {self.schedule!r} is not one of {', '.join(SCHEDULES)}")
        if self.batch < 2 or self.batch % 2:
            raise UserError(f"batch {self.batch}: half of it is normal, so give an even number")
        side, _ = parse_tiles(self.tiles)
        if side and side != self.resolution:
            raise UserError(
                f"tiles {self.tiles} and resolution {self.resolution} differ: with tiles the"
                " network sees squares of their side, so leave out the resolution"
            )
        if self.fit not in FITS:
            raise UserError(f"fit {self.fit!r} is not one of {', '.join(FITS)}")
        if side and self.fit != "stretch":
            raise UserError(f"fit {self.fit} and tiles exclude each other: tiles keep the scale")
        if side and self.protocol == "best-on-test":
            raise UserError("protocol best-on-test is not offered with tiles: use held-out")
        if self.resolution < 16:
            raise UserError(f"resolution {self.resolution}: at least 16 is needed")
        if self.steps < 0 or self.epochs < 0 or not (self.steps or self.epochs):
            raise UserError("give --steps or --epochs of at least 1")
        if not 0 < self.lr < 1:
            raise UserError(f"lr {self.lr} is not in (0, 1)")
        if not 0 <= self.holdout < 0.9:
            raise UserError(f"holdout {self.holdout} is not in [0, 0.9)")
        if self.checkpoint_seconds <= 0 or self.cache_gib < 0:
            raise UserError("checkpoint_seconds must be above 0 and cache_gib not below it")

    def rate(self, done: int, total: int) -> float:
        """Returns the learning rate of the step after `done` of `total` steps.

        The paper's is constant. `cosine` falls to a hundredth: in short trainings the last
        checkpoint is otherwise wherever the last few batches threw it.
        """
        if self.schedule == "constant":
            return self.lr
        return self.lr * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done / total)))

    def total_steps(self, images: int) -> int:
        """Returns the number of optimiser steps for a category with so many training images."""
        return self.steps or self.epochs * -(-images // self.batch)


# How often to save and how much to keep in memory change nothing in what is computed.
HARMLESS = ("checkpoint_seconds", "cache_gib")


def resolve(recipe: str, given: dict[str, Any], model: type[Any]) -> TrainOptions:
    """Returns the options of a recipe with `given` on top; unknown names list the near ones."""
    from sia_gen.core.recipes import read_recipe

    values = read_recipe(recipe, "detector")
    # The budget is one thing under two names: what the command line gives replaces the recipe's.
    if given.get("steps") or given.get("epochs"):
        values = {k: v for k, v in values.items() if k not in {"steps", "epochs"}}
    own: dict[str, Any] = {"recipe": recipe}
    inner: dict[str, Any] = {}
    methods: dict[str, dict[str, Any]] = {}
    train_types, model_types = types_of(TrainOptions), types_of(model)
    for name in ("recipe", "options", "methods"):
        del train_types[name]
    for where, settings in ((f"recipe {recipe}", values), ("command line", given)):
        for name, value in settings.items():
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


def without_unasked(options: dict[str, Any]) -> dict[str, Any]:
    """Returns recorded options without those that came later and are not made use of.

    So runs of before and after have the same options where they mean the same.
    """
    usual = {"fit": "stretch", "tiles": ""}
    return {k: v for k, v in options.items() if not (k in usual and usual[k] == v)}


def parse_settings(settings: tuple[str, ...]) -> dict[str, Any]:
    """Returns `--set key=value` arguments as a dict; values are read as YAML."""
    found: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key:
            raise UserError(f"--set {setting!r}: expected key=value, e.g. --set rrs=off")
        # YAML 1.1 reads a bare `off` as False, but here it is a mode's name.
        value = text if text in {"on", "off", "yes", "no"} else yaml.safe_load(text)
        found[key.replace("-", "_")] = value
    return found


def restored(document: dict[str, Any]) -> TrainOptions:
    """Returns the options that a run folder recorded."""
    try:
        return TrainOptions(**document)
    except TypeError as error:
        raise UserError(f"the recorded options are of another version: {error}") from error
