"""A classifier on disk: what it says of itself, read without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sia_gen.core.errors import UserError, near_names
from sia_gen.core.provenance import sha256_file
from sia_gen.core.store.files import read_json

SCHEMA = 1
NETWORK = "classifier"
FACTS = "classifier.json"
WEIGHTS = Path(NETWORK) / "diffusion_pytorch_model.safetensors"


@dataclass(frozen=True, kw_only=True)
class ClassifierFacts:
    """What a classifier folder says of itself; `classes` are category names by label."""

    folder: Path
    classes: tuple[str, ...]
    resolution: int
    channels: int
    checkpoint_sha256: str

    def require_fit(
        self, *, resolution: int, classes: Sequence[str], channels: int | None = None
    ) -> None:
        """Raises UserError where the classifier was trained for other images than a model's."""
        for name, found, expected in (
            ("resolution", self.resolution, resolution),
            ("channels", self.channels, self.channels if channels is None else channels),
        ):
            if found != expected:
                raise UserError(
                    f"guidance {self.folder}: its {name} is {found}, the diffusion model's"
                    f" {expected}: give the classifier that was trained beside the model"
                )
        unknown = [name for name in classes if name not in self.classes]
        if unknown:
            raise UserError(
                f"guidance {self.folder} does not know {', '.join(unknown)}."
                f"{near_names(unknown[0], list(self.classes))}"
            )


def describe(folder: Path) -> ClassifierFacts:
    """Returns a classifier's facts; UserError where there is none or its weights were changed."""
    if not (folder / FACTS).is_file():
        raise UserError(
            f"guidance {folder} holds no {FACTS}: give a folder that `sia-gen import` wrote from"
            " an ADM classifier"
        )
    facts = read_json(folder / FACTS)
    if not isinstance(facts, dict) or facts.get("schema") != SCHEMA:
        raise UserError(f"{folder / FACTS}: expected schema {SCHEMA}")
    try:
        described = ClassifierFacts(
            folder=folder,
            classes=tuple(facts["classes"]),
            resolution=int(facts["resolution"]),
            channels=int(facts["channels"]),
            checkpoint_sha256=str(facts["checkpoint_sha256"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder / FACTS} lacks or misstates {error}") from error
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise UserError(f"guidance {folder} has no weights: {weights} does not exist")
    found = sha256_file(weights)
    if found != described.checkpoint_sha256:
        raise UserError(
            f"{weights} is not the file its record names: sha256 {found[:12]}..., expected"
            f" {described.checkpoint_sha256[:12]}...; restore the file, or import it again"
        )
    return described
