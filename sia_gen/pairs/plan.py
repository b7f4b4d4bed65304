"""What `sia-gen synthesize` is to make: options, data and method, checked, as a list of shards."""

import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sia_gen import methods
from sia_gen.core.context import context_of
from sia_gen.core.data.category import Category
from sia_gen.core.data.dataset import open_dataset
from sia_gen.core.errors import UserError
from sia_gen.core.keys import key_prefixes, plain_name, sample_key
from sia_gen.core.pixels.foreground import rule_for
from sia_gen.core.plugins import load
from sia_gen.core.provenance import hash_options, sha256_file
from sia_gen.core.settings import make_options
from sia_gen.core.store.files import read_json
from sia_gen.core.store.objects import require_local
from sia_gen.core.store.shards import find_shards, read_record
from sia_gen.runs import folder as run_folder

NAME = run_folder.PAIRS
KIND = "sia-gen pairs"
SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class SynthesisOptions:
    """What pairs are made, from what, into which folder."""

    method: str
    out: str
    data: str = "textures"
    categories: str = "all"
    per_category: int = 1000
    resolution: int = 256
    seed: int = 0
    shard_size: int = 500
    foreground: str = ""
    shards: str = ""
    normal: bool = False
    value_range: tuple[float, float] | None = None
    settings: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        """Refuses values that no run could use, by their names."""
        for name, low, high in (
            ("per_category", 1, 100_000_000),
            ("resolution", 16, 4096),
            ("shard_size", 1, 100_000),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                flag = "--" + name.replace("_", "-")
                raise UserError(f"{flag} {value}: expected {low} to {high}")
        if not 0 <= self.seed < 2**63:
            raise UserError(f"--seed {self.seed}: expected 0 <= seed < 2**63")


def shard_file(spec: dict[str, Any]) -> str:
    """Returns where a shard of this specification lies in its folder."""
    category = spec["category"]
    return f"shards/{spec['dataset']}/{category}/{category}-{spec['shard']:05}.tar"


@dataclass(frozen=True, kw_only=True)
class Task:
    """One shard and everything that a process needs to make it."""

    spec: dict[str, Any]
    category: Category
    method: str
    options: Any
    shards: tuple[Path, ...]
    out: Path
    normal: bool

    @property
    def tar(self) -> Path:
        """The shard's file."""
        return self.out / shard_file(self.spec)

    @property
    def spec_hash(self) -> str:
        """The hash that a finished shard's record must carry."""
        return hash_options(self.spec)

    def key(self, index: int) -> str:
        """Returns a pair's key in the tar: no dots, ASCII and short, as tar readers need."""
        return sample_key(str(self.spec.get("keys") or plain_name(self.category.name)), index)


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A run that was checked and may start; nothing is written yet."""

    out: Path
    document: dict[str, Any]
    tasks: list[Task]


def _hash_files(paths: list[Path], root: Path) -> str:
    return hash_options([[os.path.relpath(p, root), sha256_file(p)] for p in paths])


def _foreground_facts(category: Category) -> dict[str, str]:
    """Returns the rule without its path, and what a mask folder holds."""
    if not category.foreground.startswith("masks "):
        return {"foreground": category.foreground, "foreground_sha256": ""}
    folder = Path(category.foreground.removeprefix("masks "))
    files = [p for p in sorted(folder.iterdir()) if p.is_file()]
    return {"foreground": "masks", "foreground_sha256": _hash_files(files, folder)}


def _sources(options: SynthesisOptions, made: Any, category: Category) -> tuple[list[Path], str]:
    """Returns the shards that a method takes images from, and the hash of all that it takes."""
    if options.method == "sdas" and options.shards:
        tars = find_shards(Path(options.shards), category.key)
        digests = [str((read_record(tar) or {}).get("sha256")) for tar in tars]
        return tars, hash_options(digests)
    if options.method == "dtd" and made.textures:
        from sia_gen.methods.dtd import find_textures

        folder = Path(made.textures)
        return [], _hash_files(list(find_textures(folder)), folder)
    return [], ""


def prepare(options: SynthesisOptions) -> Prepared:
    """Returns a checked run; UserError names what is wrong with options, data or output."""
    module = load(methods, options.method)
    made = make_options(module.Options, dict(options.settings), f"method {options.method}")
    out = _checked_output(options.out)
    dataset = open_dataset(options.data, options.value_range)
    for root in dataset.roots:
        run_folder.require_apart(out, root)
    tasks: list[Task] = []
    facts: dict[str, Any] = {}
    chosen = dataset.select(options.categories)
    prefixes = key_prefixes([(c.dataset, c.name) for c in chosen])
    for category in chosen:
        if options.foreground:
            rule = rule_for(options.foreground, category.name)
            category = replace(category, foreground=rule)
        tars, sources = _sources(options, made, category)
        shared = {
            "method": f"{options.method}-{module.VERSION}",
            "options": {**asdict(made), **({"textures": ""} if options.method == "dtd" else {})},
            "dataset": category.dataset,
            "category": category.name,
            "seed": options.seed,
            "resolution": options.resolution,
            "normal_images_sha256": _hash_files(list(category.train), category.root),
            "sources_sha256": sources,
            **_foreground_facts(category),
            **(
                {}
                if (own := prefixes[category.dataset, category.name]) == plain_name(category.name)
                else {"keys": own}
            ),
            **({"value_range": list(known)} if (known := category.value_range) else {}),
            "format": "pairs-png-1" + ("-normal" if options.normal else ""),
        }
        # Built here once, so that a missing folder or shard is told before anything is written.
        module.build(made, context_of(category, options.resolution, tuple(tars)))
        facts[category.key] = shared
        for shard, first in enumerate(range(0, options.per_category, options.shard_size)):
            count = min(options.shard_size, options.per_category - first)
            tasks.append(
                Task(
                    spec={**shared, "shard": shard, "first": first, "count": count},
                    category=category,
                    method=options.method,
                    options=made,
                    shards=tuple(tars),
                    out=out,
                    normal=options.normal,
                )
            )
    recipe = {
        "per_category": options.per_category,
        "shard_size": options.shard_size,
        "categories": facts,
    }
    document = {"schema": SCHEMA, "kind": KIND, "recipe": recipe, "options": asdict(options)}
    _require_same(out, recipe)
    return Prepared(out=out, document=document, tasks=tasks)


def _checked_output(given: str) -> Path:
    out = require_local(given, "--out").resolve()
    if out.exists() and not out.is_dir():
        raise UserError(f"output {given} is a file: give a folder")
    others = [p.name for p in out.iterdir() if p.name[0] != "."] if out.is_dir() else []
    if others and NAME not in others:
        message = f"output {given} holds other files ({others[0]}) and no {NAME}: give a new folder"
        raise UserError(message)
    return out


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        found: dict[str, Any] = {}
        for key, inner in value.items():
            found |= _flat(inner, f"{name}.{key}" if name else str(key))
        return found
    return {name: list(value) if isinstance(value, tuple) else value}


def has_results(out: Path) -> bool:
    """Returns whether a folder holds the description of a run and at least one finished shard."""
    return (out / NAME).is_file() and any((out / "shards").rglob("*.json"))


def _require_same(out: Path, recipe: dict[str, Any]) -> None:
    """Raises UserError where the folder belongs to a run that makes other pairs.

    A run that has made nothing yet binds nobody.
    """
    if not has_results(out):
        return
    content = read_json(out / NAME)
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise UserError(f"{out / NAME} is not of `sia-gen synthesize`: give another --out")
    old, new = _flat(content.get("recipe", {})), _flat(recipe)
    differing = sorted(k for k in old.keys() | new.keys() if old.get(k) != new.get(k))
    if differing:
        changed = [k.split(".")[1] for k in differing if k.endswith(".normal_images_sha256")]
        if len(changed) == len(differing):
            raise UserError(
                f"the normal images of {', '.join(changed)} were changed since {out} was begun:"
                " put them back, or give another --out"
            )
        shown = "; ".join(f"{k}: {old.get(k)} there, {new.get(k)} asked" for k in differing[:5])
        message = (
            f"{out} belongs to a run that makes other pairs ({shown}): give the same options to go"
            " on with it, or another --out"
        )
        raise UserError(message)
