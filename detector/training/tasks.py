"""From what was asked to checked tasks: what can be refused without torch is refused here first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from detector import run_folder as runfolder
from detector.data.source import check_category, needs_shards
from detector.data.task import Task, single, together
from detector.options import TrainOptions, resolve
from detector.training.asked import Asked
from detector.training.needs import missing
from sia_gen.core.data.category import Category, as_recorded
from sia_gen.core.data.dataset import open_dataset
from sia_gen.core.errors import UserError
from sia_gen.core.store.made_from import MadeFrom, made_from
from sia_gen.core.store.mirror import local_folder
from sia_gen.core.store.objects import locate
from sia_gen.core.store.shards import find_shards
from sia_gen.streams.addresses import Tars, as_place, open_tars

RECIPE = "realnet-demo"  # needs no download
WHY_RECIPE = "needs no download; the paper's detector is realnet"
DATA = "textures"


@dataclass(frozen=True, kw_only=True)
class Job:
    """One training: its task, what its folder will record, and how far it is."""

    task: Task
    document: dict[str, Any]
    state: str  # new, unfinished or finished


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Checked trainings, and the defaults that were taken for what was not asked."""

    options: TrainOptions
    jobs: tuple[Job, ...]
    device: str
    defaults: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Data and categories, and the words for where each came from if it was not given."""

    data: str
    categories: str
    recipe: str
    defaults: dict[str, str]


def _made_from(asked: Asked) -> MadeFrom | None:
    """Returns what the record of the shards' run says, where there is one."""
    place = None if asked.shards is None else as_place(asked.shards)
    return None if place is None else made_from(place)


def choose(asked: Asked) -> Chosen:
    """Returns data, categories and recipe: those that were given, else the defaults."""
    told: dict[str, str] = {}
    data, categories = asked.data, asked.categories
    if data is None:
        made = _made_from(asked)
        if made is not None:
            data = made.data
            told["--data"] = f"{data} (as {made.record} says)"
            if categories is None:
                categories = ",".join(made.categories)
                told["--categories"] = categories
        else:
            data = DATA
            told["--data"] = DATA
    recipe = asked.recipe or RECIPE
    if asked.recipe is None:
        told["--recipe"] = f"{recipe} ({WHY_RECIPE})"
    return Chosen(data=data, categories=categories or "all", recipe=recipe, defaults=told)


def find_tasks(asked: Asked, chosen: Chosen, options: TrainOptions) -> list[Task]:
    """Returns the tasks: all categories are checked before the first is trained."""
    dataset = open_dataset(chosen.data, asked.value_range)
    categories = dataset.select(chosen.categories)
    if made := _made_from(asked):
        categories = as_recorded(categories, made.value_ranges)
    data = dataset.origin or chosen.data
    if options.stream:
        streams = _streams(asked, categories, options)
        tasks = [single(c, [], data, s) for c, s in zip(categories, streams, strict=True)]
    else:
        run = None if asked.shards is None else local_folder(locate(asked.shards))
        tasks = [single(one, _tars(one, run, options), data) for one in categories]
    return [together(tasks)] if asked.multi_class else tasks


def _streams(asked: Asked, categories: Sequence[Category], options: TrainOptions) -> list[Tars]:
    """Returns what each category streams; tars without records serve one category alone."""
    if asked.shards is None or not needs_shards(options.source):
        raise UserError("--stream needs a source of synthetic images, sdas, and their --shards")
    foreign = options.allow_foreign_shards
    found = []
    for category in categories:
        tars = open_tars(asked.shards, None if foreign else category.key)
        kinds = {str(r.get("category", "unknown")) for r in tars.records if r}
        if not foreign and kinds - {category.key}:
            raise UserError(
                f"{asked.shards} holds synthetic images of {', '.join(sorted(kinds))}, not of"
                f" {category.key} alone: --allow-foreign-shards if this is what you want"
            )
        if not foreign and len(categories) > 1 and not all(tars.records):
            raise UserError(
                f"{asked.shards}: nothing says which category its images are of: name one with"
                " --categories, or --allow-foreign-shards to use them for all"
            )
        found.append(tars)
    return found


def _tars(category: Category, made: Path | None, options: TrainOptions) -> list[Path]:
    if made is None or not needs_shards(options.source):
        return []
    foreign = options.allow_foreign_shards
    tars = find_shards(made, None if foreign or made.is_file() else category.key)
    check_category(tars, category.key, allow_foreign=foreign)
    return tars


def plan(asked: Asked) -> Plan:
    """Returns the checked trainings; UserError names what is wrong or missing."""
    chosen = choose(asked)
    lacking = missing(asked.given, chosen.recipe, asked.shards)
    if lacking:
        raise UserError(lacking[0] if len(lacking) == 1 else "; ".join(lacking))
    # From here on torch is needed: a model's own options stand beside its networks.
    from detector import models
    from detector.training import selection
    from sia_gen.compute.device import choose_device, choose_precision
    from sia_gen.core.plugins import load
    from sia_gen.core.recipes import read_recipe

    name = asked.given.get("model") or read_recipe(chosen.recipe, "detector").get("model")
    plugin = load(models, str(name or TrainOptions.model))
    options = resolve(chosen.recipe, asked.given, plugin.Options)
    device = choose_device(asked.device)
    options = replace(options, precision=choose_precision(options.precision, device))
    if (options.source == "none") == plugin.PAIRS:
        takes = "needs a source of anomalous pairs" if plugin.PAIRS else "takes no source but none"
        raise UserError(f"source {options.source}: model {name} {takes}; give another --source")
    jobs = []
    for task in find_tasks(asked, chosen, options):
        selection.check(options, task)
        document = runfolder.describe(options, task)
        state = runfolder.check_claim(runfolder.folder_of(asked.out, task), document)
        jobs.append(Job(task=task, document=document, state=state))
    return Plan(options=options, jobs=tuple(jobs), device=str(device), defaults=chosen.defaults)
