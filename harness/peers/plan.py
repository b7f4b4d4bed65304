"""Options to cells: one peer on one category with one seed, described down to the last argument.

The description is all that a worker is given, and its hash tells whether a finished cell is the
one that is asked for. The protocol of the row follows from it alone, so that a failed cell and its
later success are the same row.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from harness.peers import catalog
from harness.peers.catalog import PRETRAINED, Peer
from harness.peers.options import Options
from sia_gen.core.data.dataset import Category
from sia_gen.core.errors import UserError
from sia_gen.core.provenance import hash_options, sha256_file
from sia_gen.core.version import __version__

# Settings of `--set MODEL.KEY=VALUE` that are ours; all others go to the model's constructor.
OURS = ("steps", "batch_size", "train_images")
FORMER = {"batch": "batch_size"}
READ_AS = (
    "whole test set scored; none lost to a validation split",
    "images and masks read as for every other row: one size, no crop, no resize of its own",
    "raw maps; no scaling by thresholds that test labels chose",
    "last weights; no look at the test set",
)


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One run: the peer, the category, the seed, the whole description, and what it lacks."""

    peer: Peer
    category: Category
    spec: dict[str, Any]
    lacks: str

    @property
    def spec_hash(self) -> str:
        """The description's hash; where things lie does not count, nor on what it runs."""
        unlike = {"data", "paths", "device"}
        return hash_options({k: v for k, v in self.spec.items() if k not in unlike})

    @property
    def seed(self) -> int:
        """The seed of everything random in the cell."""
        return int(self.spec["seed"])

    @property
    def label(self) -> str:
        """What messages call the cell."""
        return f"{self.peer.name} · {self.category.key} · seed {self.seed}"

    def folder(self, out: Path) -> Path:
        """Returns the cell's folder below OUT."""
        return out / self.peer.name / self.category.key / f"seed-{self.seed}"


def version() -> str:
    """Returns the installed anomalib's version."""
    try:
        return metadata.version("anomalib")
    except metadata.PackageNotFoundError:
        return "unknown"


def _settings(options: Options, chosen: list[Peer]) -> dict[str, dict[str, Any]]:
    """Returns the settings by peer; UserError for one that names no chosen peer."""
    found: dict[str, dict[str, Any]] = {peer.name: {} for peer in chosen}
    for text in options.settings:
        name, equals, value = text.partition("=")
        model, dot, key = name.rpartition(".")
        if not equals or not key:
            raise UserError(
                f"--set {text!r}: expected MODEL.KEY=VALUE, or KEY=VALUE for all models"
            )
        peers = catalog.select(model) if dot else chosen
        for peer in peers:
            if peer.name not in found:
                raise UserError(f"--set {text!r}: {peer.name} is not among the models of this run")
            try:
                found[peer.name][FORMER.get(key, key)] = yaml.safe_load(value)
            except yaml.YAMLError as error:
                raise UserError(f"--set {text!r}: the value cannot be read: {error}") from error
    for name, settings in found.items():
        for key in OURS:
            value = settings.get(key, 1)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise UserError(f"--set {name}.{key}={value}: expected a whole number from 1 on")
    return found


def backbone_of(options: Options) -> str:
    """Returns the backbone's timm name: as given, or the weights file's own name."""
    if options.backbone:
        return options.backbone
    if not options.weights or options.weights == PRETRAINED:
        return ""
    import timm

    stem = Path(options.weights).stem
    if timm.is_model(stem.partition(".")[0]):
        return stem
    raise UserError(
        f"--weights {options.weights}: the file's name is no timm model's: give --backbone NAME"
    )


def _facts(weights: str) -> str:
    if not weights:
        return "none"
    if weights == PRETRAINED:
        return PRETRAINED
    path = Path(weights)
    if not path.is_file():
        raise UserError(f"--weights {path} does not exist: give a file, or `pretrained`")
    return sha256_file(path)


def _images(category: Category) -> str:
    paths = [*category.train, *(e.path for e in category.test)]
    paths += [mask for e in category.test for mask in e.masks]
    return hash_options([[str(p.relative_to(category.root)), sha256_file(p)] for p in paths])


def cells(options: Options, data: str, categories: tuple[Category, ...]) -> list[Trial]:
    """Returns all cells, peer by peer; nothing is written and no model is built."""
    chosen = catalog.select(options.models)
    settings = _settings(options, chosen)
    backbone, sha256 = backbone_of(options), _facts(options.weights)
    if options.textures and not Path(options.textures).is_dir():
        raise UserError(f"--textures {options.textures} is no folder")
    for category in categories:
        if not category.test or not category.train:
            raise UserError(f"{category.root} needs train/good and test images to run a peer on it")
    unnamed = [p.name for p in chosen if p.backbone and not p.only]
    if options.weights == PRETRAINED and not backbone and unnamed:
        raise UserError(
            f"--weights pretrained: name the --backbone of {unnamed[0]}, such as"
            " wide_resnet50_2.tv_in1k (the papers' weights) or resnet18"
        )
    images = {category.key: _images(category) for category in categories}
    found = []
    for peer in chosen:
        own = settings[peer.name]
        named = backbone or (peer.only[0] if peer.only and options.weights == PRETRAINED else "")
        lacks = catalog.missing(
            peer, backbone=named, weights=options.weights, textures=options.textures
        )
        arguments = peer.arguments | {k: v for k, v in own.items() if k not in OURS}
        for category in categories:
            for seed in options.seeds:
                spec = {
                    "schema": 1,
                    "model": peer.name,
                    "class": peer.cls,
                    "anomalib": version(),
                    "category": category.key,
                    "images_sha256": images[category.key],
                    "size": options.resolution,
                    "seed": seed,
                    "steps": int(own.get("steps", options.steps)),
                    "batch": peer.batch or int(own.get("batch_size", options.batch_size)),
                    "train_images": own.get("train_images", options.train_images),
                    "arguments": arguments,
                    "backbone": named if peer.backbone else "",
                    "layers": list(options.layers) if peer.layers else [],
                    "weights_sha256": sha256 if peer.backbone else "none",
                    "data": data,
                    "paths": {"weights": options.weights, "textures": options.textures},
                    "device": options.device,
                    **({"value_range": list(options.value_range)} if options.value_range else {}),
                }
                found.append(Trial(peer=peer, category=category, spec=spec, lacks=lacks))
    return found


def _label(spec: dict[str, Any]) -> str:
    """Returns the backbone's name with where its weights are from: a file, or timm's tag."""
    name, weights = str(spec["backbone"]), str(spec["paths"]["weights"])
    if not name:
        return "its own" if spec["weights_sha256"] == "none" else "the model's default"
    if weights != PRETRAINED:
        return f"{name}@{Path(weights).name}" if weights else name
    import timm

    if "." in name or not timm.is_model(name):
        return name
    return f"{name}.{timm.get_pretrained_cfg(name, allow_unregistered=True).tag}"


def protocol(cell: Trial) -> dict[str, Any]:
    """Returns the protocol of a cell's row, but for what is measured."""
    spec, peer = cell.spec, cell.peer
    backbone = {"backbone": _label(spec), "backbone_sha256": spec["weights_sha256"]}
    return {
        "detector": peer.name,
        "source": "none",
        "resolution": spec["size"],
        "image_scores": ["max", "avgpool16_max", "own"],
        "checkpoint_rule": "last",
        **(backbone if peer.backbone else {"backbone": "its own", "backbone_sha256": "none"}),
        "layers": spec["layers"] or [f"stride {stride}" for stride in peer.strides],
        "library": f"anomalib {spec['anomalib']}, {peer.cls}",
        "arguments": spec["arguments"],
        "step_limit": spec["steps"],
        "batch": spec["batch"],
        "train_limit": spec["train_images"] or "all",
        **({"value_range": spec["value_range"]} if "value_range" in spec else {}),
        "read_as": [*READ_AS, *peer.traps],
        "code_version": __version__,
    }
