"""Where images come from: a trained model by name, folder or address.

Tests and benchmarks of the machinery bring a model of their own: `testing:...` is one of the module
that the environment variable SIA_GEN_TESTING names (benchmarks/fake_model.py).
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sia_gen.core.data.category import Category, as_recorded
from sia_gen.core.errors import UserError
from sia_gen.core.pixels.images import Array8, Mask
from sia_gen.core.shared_options import AUTO
from sia_gen.core.store.mirror import local_folder
from sia_gen.core.store.objects import is_url
from sia_gen.core.store.objects import locate as locate_address

if TYPE_CHECKING:
    from sia_gen.diffusion.guidance_folder import ClassifierFacts

FAKE = "testing:"
TESTING = "SIA_GEN_TESTING"  # an importable module with `parse` and `load`


class KnownModel(Protocol):
    """What is known of a model without loading it."""

    @property
    def resolution(self) -> int:
        """The side of the images, in pixels."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the categories the model knows."""

    @property
    def checkpoint_sha256(self) -> str:
        """The hash of the model's weights."""

    @property
    def health(self) -> dict[str, Any]:
        """The model's health check: {"passed": bool, ...}, or empty where it was never measured."""


class Generator(KnownModel, Protocol):
    """A loaded model."""

    @property
    def device(self) -> object:
        """Where it computes; str() names it."""

    @property
    def precision(self) -> str:
        """In which precision it computes."""

    @property
    def guidance_sha256(self) -> str:
        """The hash of the guiding classifier's weights; empty without guidance."""

    def images(self, category: str, seeds: Sequence[int], strengths: Sequence[float]) -> Array8:
        """Returns uint8 images (B, H, W, 3), one for each seed and strength."""

    def in_place(
        self,
        category: str,
        seeds: Sequence[int],
        strengths: Sequence[float],
        normals_BHWC: Array8,
        masks_BHW: Mask,
        depth: float,
    ) -> Array8:
        """Returns uint8 images (B, H, W, 3): anomalies grown inside normal images, under masks."""


def _fake(model: str) -> Any:
    """Returns the module that makes a `testing:` model; UserError where none is named."""
    name = os.environ.get(TESTING)
    if not name:
        raise UserError(f"model {model!r} is for tests: {TESTING} names no module that has it")
    return importlib.import_module(name)


def locate(model: str) -> str:
    """Returns a model's absolute folder, valid in any process; UserError where there is none."""
    if model.startswith(FAKE):
        return model
    if is_url(model):
        return str(locate_address(model))
    from sia_gen.diffusion.model_folder import find_model

    return str(Path(find_model(model)).resolve())


def describe(model: str) -> KnownModel:
    """Returns a located model's facts, without torch."""
    if model.startswith(FAKE):
        facts: KnownModel = _fake(model).parse(model)
        return facts
    from sia_gen.diffusion.model_folder import describe as describe_folder

    return describe_folder(local_folder(locate_address(model)))


def sampler_of(facts: KnownModel, asked: str) -> str:
    """Returns the sampler for a wish; auto is the model's own, or iddpm."""
    return str(getattr(facts, "sampler", "iddpm")) if asked == AUTO else asked


def as_trained(categories: tuple[Category, ...], facts: KnownModel) -> tuple[Category, ...]:
    """Returns categories whose files of more than 8 bits are read as when the model was trained."""
    ranges = getattr(facts, "value_ranges", {})
    return as_recorded(categories, {c.key: ranges[c.name] for c in categories if c.name in ranges})


def describe_guidance(guidance: str, model: str, facts: KnownModel) -> ClassifierFacts | None:
    """Returns a guiding classifier's facts, without torch; UserError where it fits no model."""
    if not guidance:
        return None
    if model.startswith(FAKE):
        raise UserError(f"--guidance {guidance}: the fake model {model} cannot be guided")
    from sia_gen.diffusion.guidance_folder import describe as describe_classifier

    found = describe_classifier(Path(guidance))
    found.require_fit(resolution=facts.resolution, classes=facts.classes)
    return found


def load(
    model: str,
    *,
    device: str,
    precision: str,
    steps: int,
    sampler: str,
    threads: int | None = None,
    truncate: bool = False,
    guidance: str = "",
    guidance_scale: float = 1.0,
    compiled: bool = False,
) -> Generator:
    """Returns a located model, loaded; `threads` sets the CPU threads of this whole process.

    bf16 convolutions round differently with another number of threads (measured): a run fixes it.
    `truncate` cuts pixel values off instead of rounding them, as RealNet's authors do.
    """
    if model.startswith(FAKE):
        generator: Generator = _fake(model).load(model)
        return generator
    import torch

    from sia_gen.diffusion.generator import load_generator

    if threads is not None:
        torch.set_num_threads(threads)
    return load_generator(
        local_folder(locate_address(model)),
        device=device,
        precision=precision,
        steps=steps,
        sampler=sampler,
        truncate=truncate,
        guidance=Path(guidance) if guidance else None,
        guidance_scale=guidance_scale,
        compiled=compiled,
    )


def resembles_normals(model: str) -> bool:
    """Returns whether a located model's images can be compared with the normal images."""
    if model.startswith(FAKE):
        return bool(_fake(model).parse(model).judged)
    return True


def require_health(model: str, facts: KnownModel, *, force: bool) -> None:
    """Raises UserError for a model whose health check failed or is missing, unless forced."""
    passed = facts.health.get("passed")
    if passed is True or force:
        return
    found = "failed its health check" if passed is False else "was never checked"
    message = (
        f"model {model} {found}: its samples at strength 0 may not look like normal images. Look at"
        " `sia-gen preview`, train longer, or pass --force (the records will say so)"
    )
    raise UserError(message)


def require_classes(model: str, facts: KnownModel, categories: Sequence[str]) -> None:
    """Raises UserError where the model has no class for a category."""
    missing = [name for name in categories if name not in facts.classes]
    if missing:
        message = (
            f"model {model} has no class for {', '.join(missing)}; it knows"
            f" {', '.join(facts.classes)}. Choose --categories, or train a model on this data"
        )
        raise UserError(message)
