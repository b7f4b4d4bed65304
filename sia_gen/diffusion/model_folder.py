"""A model on disk: an ordinary diffusers folder and one page of facts beside it.

unet/         config.json, diffusion_pytorch_model.safetensors (diffusers' UNet2DModel)
scheduler/    scheduler_config.json (SDASScheduler; readable as a DDPMScheduler for s = 0)
sia_gen.json  what the network expects, where it comes from, and its measured health
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sia_gen.core.errors import UserError, near_names
from sia_gen.core.provenance import sha256_file
from sia_gen.core.shared_options import AUTO, SAMPLERS
from sia_gen.core.store.files import read_json

SCHEMA = 1
FACTS = "sia_gen.json"
WEIGHTS = Path("unet") / "diffusion_pytorch_model.safetensors"
SHIPPED = Path(__file__).resolve().parents[1] / "models"


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What a model folder says of itself; `classes` are category names by label."""

    folder: Path
    dataset: str
    classes: tuple[str, ...]
    resolution: int
    channels: int
    patch: int
    checkpoint_sha256: str
    sampling_steps: int = 0  # the only number of steps the model was finished for; 0: any
    sampler: str = "iddpm"  # what it was judged by, and samples with unless another is asked for
    even_phases: bool = False  # sampling takes out the screen pattern of the fold (unet.py)
    health: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    # By category, where the files it was trained on had more than 8 bits.
    value_ranges: dict[str, Any] = field(default_factory=dict)

    def steps(self, asked: int) -> int:
        """Returns the sampling steps for a wish (0: the model's own, or 20); UserError otherwise.

        A model that was finished for a number of steps has a variance for that number alone.
        """
        if asked and self.sampling_steps not in {0, asked}:
            raise UserError(
                f"the model {self.folder.name} was finished for {self.sampling_steps} sampling"
                f" steps, not {asked}: its variance would be wrong; leave --steps at"
                f" {self.sampling_steps}"
            )
        return asked or self.sampling_steps or 20

    def sampler_of(self, asked: str) -> str:
        """Returns the sampler for a wish (auto: the model's own); UserError for an unknown one."""
        if asked not in {AUTO, *SAMPLERS}:
            raise UserError(f"sampler {asked!r}: expected one of {', '.join((AUTO, *SAMPLERS))}")
        return self.sampler if asked == AUTO else asked


def _known_sampler(name: str) -> str:
    if name not in SAMPLERS:
        raise ValueError(f"sampler {name!r}: expected one of {', '.join(SAMPLERS)}")
    return name


def shipped_models() -> list[str]:
    """Returns the names of the models that come with the package."""
    if not SHIPPED.is_dir():
        return []
    return sorted(p.name for p in SHIPPED.iterdir() if (p / FACTS).is_file())


def find_model(name_or_path: str | Path) -> Path:
    """Returns the folder of a shipped model by name, or of any model by path."""
    path = Path(name_or_path)
    if (path / FACTS).is_file():
        return path
    if str(name_or_path) in shipped_models():
        return SHIPPED / str(name_or_path)
    if path.is_dir():
        raise UserError(f"model {path} holds no {FACTS}: give a folder written by `sia-gen train`")
    known = shipped_models()
    message = (
        f"model {str(name_or_path)!r} is neither a folder nor a shipped model."
        f"{near_names(str(name_or_path), known)}"
    )
    raise UserError(message)


def describe(model: Path) -> ModelFacts:
    """Returns a model's facts; UserError where the folder is torn or its weights were changed."""
    facts = read_json(model / FACTS)
    if not isinstance(facts, dict) or facts.get("schema") != SCHEMA:
        raise UserError(f"{model / FACTS}: expected schema {SCHEMA}")
    weights = model / WEIGHTS
    if not weights.is_file():
        raise UserError(f"model {model} has no weights: {weights} does not exist")
    try:
        described = ModelFacts(
            folder=model,
            dataset=str(facts["dataset"]),
            classes=tuple(facts["classes"]),
            resolution=int(facts["resolution"]),
            channels=int(facts["channels"]),
            patch=int(facts["patch"]),
            checkpoint_sha256=str(facts["checkpoint_sha256"]),
            sampling_steps=int(facts.get("sampling_steps", 0)),
            sampler=_known_sampler(str(facts.get("sampler", "iddpm"))),
            even_phases=bool(facts.get("even_phases", False)),
            health=dict(facts.get("health", {})),
            training=dict(facts.get("training", {})),
            value_ranges=dict(facts.get("value_ranges", {})),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{model / FACTS} lacks or misstates {error}") from error
    found = sha256_file(weights)
    if found != described.checkpoint_sha256:
        message = (
            f"{weights} is not the file its record names: sha256 {found[:12]}..., expected"
            f" {described.checkpoint_sha256[:12]}...; restore the file, or train again"
        )
        raise UserError(message)
    return described
