"""What a training run is asked to do: defaults, then a recipe, then the command line."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from dataclasses import dataclass, field
from typing import Any

import yaml

from sia_gen.core.errors import UserError, near_names

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
SOURCES = ("sdas", "noise", "none")
SCHEDULES = ("constant", "cosine")


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """One category's training. `steps` 0 means `epochs` times the category's normal images."""

    recipe: str = "realnet"
    model: str = "realnet"
    source: str = "sdas"
    resolution: int = 256
    batch: int = 16
    steps: int = 0
    epochs: int = 0
    lr: float = 1e-4
    schedule: str = "constant"
    seed: int = 0
    precision: str = "auto"
    holdout: float = 0.0
    foreground: bool = True
    allow_foreign_shards: bool = False
    checkpoint_seconds: float = 120.0
    cache_gib: float = 2.0
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuses values that no run can have, naming the option."""
        if self.source not in SOURCES:
            raise UserError(
                f"source {self.source!r} is unknown.{near_names(self.source, [*SOURCES])}"
            )
        if self.precision not in PRECISIONS:
            raise UserError(f"precision {self.precision!r} is not one of {', '.join(PRECISIONS)}")
        if self.schedule not in SCHEDULES:
            raise UserError(f"schedule {self.schedule!r} is not one of {', '.join(SCHEDULES)}")
        if self.batch < 2 or self.batch % 2:
            raise UserError(f"batch {self.batch}: half of it is normal, so give an even number")
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


def resolve(recipe: str, given: dict[str, Any], model_options: type[Any]) -> TrainOptions:
    """Returns the options of a recipe with `given` on top; unknown names list the near ones."""
    from sia_gen.core.recipes import read_recipe

    values = read_recipe(recipe, "detector")
    # The budget is one thing under two names: what the command line gives replaces the recipe's.
    if given.get("steps") or given.get("epochs"):
        values = {k: v for k, v in values.items() if k not in {"steps", "epochs"}}
    own: dict[str, Any] = {"recipe": recipe}
    inner: dict[str, Any] = {}
    train_types, model_types = _types(TrainOptions), _types(model_options)
    for name in ("recipe", "options"):
        del train_types[name]
    for where, source in ((f"recipe {recipe}", values), ("command line", given)):
        for name, value in source.items():
            if name in train_types:
                own[name] = _coerced(value, train_types[name], f"{where}: {name}")
            elif name in model_types:
                inner[name] = _coerced(value, model_types[name], f"{where}: {name}")
            else:
                near = near_names(str(name), [*train_types, *model_types])
                raise UserError(f"{where}: option {name!r} is unknown.{near}")
    complete = model_options(**inner)
    return TrainOptions(**own, options=_plain(dataclasses.asdict(complete)))


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


def _types(cls: type[Any]) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, tuple | list) else value


def _coerced(value: Any, wanted: Any, where: str) -> Any:
    """Returns a value from YAML or a flag as the type that the option declares."""
    origin = typing.get_origin(wanted)
    if origin is tuple:
        items = [part for part in value.split(",") if part] if isinstance(value, str) else value
        items = [items] if isinstance(items, int | float) else items
        if not isinstance(items, list | tuple):
            raise UserError(f"{where}: expected a list, found {value!r}")
        inner = typing.get_args(wanted)[0]
        return tuple(_coerced(item, inner, where) for item in items)
    if isinstance(origin, types.UnionType):
        raise TypeError(f"{where}: unions are not options")
    if wanted is bool and isinstance(value, bool):
        return value
    if wanted is bool and value in {"on", "off", "yes", "no"}:
        return value in {"on", "yes"}
    if wanted is str and isinstance(value, str | int | float) and not isinstance(value, bool):
        return str(value)
    if wanted in {int, float} and not isinstance(value, bool):
        try:
            number = float(value)
        except (TypeError, ValueError) as error:
            raise UserError(f"{where}: expected a number, found {value!r}") from error
        if wanted is float:
            return number
        if number.is_integer():
            return int(number)
    name = getattr(wanted, "__name__", str(wanted))
    raise UserError(f"{where}: expected {name}, found {value!r}")


def restored(document: dict[str, Any]) -> TrainOptions:
    """Returns the options that a run folder recorded."""
    try:
        return TrainOptions(**document)
    except TypeError as error:
        raise UserError(f"the recorded options are of another version: {error}") from error


def model_options(cls: type[Any], values: dict[str, Any]) -> Any:
    """Returns a model's Options from their JSON form (lists become tuples)."""
    hints = _types(cls)
    unknown = [name for name in values if name not in hints]
    if unknown:
        raise UserError(f"model options {', '.join(unknown)} are of another version")
    return cls(**{n: _coerced(v, hints[n], n) for n, v in values.items()})
