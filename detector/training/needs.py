"""What a training needs and does not find, told without torch and without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from detector.data.source import needs_shards
from detector.mixture import canonical, complete_options, parse
from detector.options import TrainOptions
from detector.run_folder import weights_file
from sia_gen.core.errors import UserError
from sia_gen.core.options import current_names
from sia_gen.core.recipes import read_recipe
from sia_gen.streams.addresses import as_place


def _values(recipe: str, given: dict[str, Any]) -> dict[str, Any]:
    recorded = current_names(TrainOptions, read_recipe(recipe, "detector"), f"recipe {recipe}")
    return recorded | current_names(TrainOptions, given, "command line")


def missing(given: dict[str, Any], recipe: str, shards: str | None) -> list[str]:
    """Returns a sentence for each thing that is not there: weights file, textures, shards.

    UserError where recipe or source is unknown, so that nothing can be said of what they need.
    """
    values = _values(recipe, given)
    source = canonical(str(values.get("source", TrainOptions.source)))
    found = []
    try:
        weights_file(str(values.get("backbone", "")), str(values.get("weights", "none")))
    except UserError as error:
        found.append(str(error))
    found += _textures(source, values)
    if needs_shards(source):
        if shards is None:
            found.append(
                "source sdas needs --shards with a run folder of `sia-gen run` (or give --source"
                " noise)"
            )
        elif not _exists(shards):
            found.append(f"shards {shards} do not exist: `sia-gen run --out {shards}` makes them")
    return found


def downloads(given: dict[str, Any], recipe: str) -> str:
    """Returns a sentence on weights that training would fetch, or an empty text."""
    values = _values(recipe, given)
    weights = str(values.get("weights", ""))
    if weights.partition(":")[0] != "pretrained":
        return ""
    return (
        f"weights {weights} of {values.get('backbone', 'the backbone')}: timm downloads them unless"
        " they are in its cache; --weights FILE needs no network"
    )


def _exists(shards: str) -> bool:
    place = as_place(shards)  # what has braces, or lies on the web, is seen when it is opened
    return place is None or place.is_file() or place.is_dir()


def _textures(source: str, values: dict[str, Any]) -> list[str]:
    methods: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        method, dot, option = str(name).partition(".")
        if dot and method in parse(source):
            methods.setdefault(method, {})[option] = value
    found = []
    for name, options in complete_options(source, methods).items():
        if options.get("textures") == "":
            found.append(f"source {name} needs a folder of textures: give --textures DIR")
        elif "textures" in options and not Path(str(options["textures"])).is_dir():
            found.append(
                f"textures {options['textures']} is no folder: give the folder of DTD's images"
            )
    return found
