"""What a table still needs before its numbers are the paper's: data, textures, weights."""

from __future__ import annotations

from harness.quality import weights_list
from harness.reproduce.plan import TEXTURES, Options, Plan
from sia_gen.core.data.dataset import read_manifest
from sia_gen.core.recipes import read_recipe


def needs(plan: Plan, options: Options) -> list[str]:
    """Returns a line for each thing that is missing, and how to give it."""
    return [*_data(plan), *_textures(plan, options), *_weights(plan)]


def _data(plan: Plan) -> list[str]:
    if plan.measured_on != plan.dataset:
        return [f"data: {plan.dataset}, not {plan.measured_on}: --data {plan.dataset}=DIR"]
    absent = read_manifest(plan.dataset).keys() - {name for name, _ in plan.categories}
    return [f"data: the categories {', '.join(sorted(absent))}"] if absent else []


def _textures(plan: Plan, options: Options) -> list[str]:
    rows = [row.name for row in plan.rows if TEXTURES in row.needs]
    if options.textures or not rows:
        return []
    return [f"textures: {', '.join(rows)} blend them in: --textures DIR"]


def _after(words: tuple[str, ...], option: str) -> list[str]:
    return [words[i + 1] for i, word in enumerate(words[:-1]) if word == option]


def _weights(plan: Plan) -> list[str]:
    commands = {job.command for cell in plan.cells for job in cell.jobs}
    found: dict[str, None] = {}
    known = {entry.name: entry for entry in weights_list.ENTRIES}
    for command in sorted(commands):
        for network in _after(command, "--features"):
            status = weights_list.look(known[network]) if network in known else None
            if status is not None and status.state != "ready":
                found[f"weights: {network}: {status.what_to_do}"] = None
        given = any(word.startswith("--weights") for word in command)
        for recipe in [] if given else _after(command, "--recipe"):
            detector = read_recipe(recipe, "detector")
            asked, _, tag = str(detector.get("weights", "")).partition(":")
            if asked == "pretrained":
                name = ".".join(filter(None, (str(detector.get("backbone", "")), tag)))
                found[f"weights: recipe {recipe} takes timm's {name}, which timm downloads at"
                      " first use: or --train --weights=FILE"] = None  # fmt: skip
    return list(found)
