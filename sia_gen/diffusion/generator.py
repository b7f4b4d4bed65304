"""A trained model that makes images: all that a generation job knows of torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sia_gen.compute import device as devices
from sia_gen.core.errors import NonFiniteImagesError, UserError, near_names
from sia_gen.core.pixels.images import Array8
from sia_gen.diffusion.lean import LeanUNet
from sia_gen.diffusion.model_folder import ModelFacts, describe
from sia_gen.diffusion.sampling import image_generators, sample, to_uint8
from sia_gen.diffusion.scheduler import SDASScheduler
from sia_gen.diffusion.unet import fold, unfold

if TYPE_CHECKING:
    from sia_gen.diffusion.classifier import Guidance

SAMPLERS = ("iddpm", "ddim")


def load_unet(model: Path) -> torch.nn.Module:
    """Returns the folder's UNet2DModel in float32; missing, misshapen or NaN weights are errors."""
    from diffusers import UNet2DModel

    try:
        unet, report = UNet2DModel.from_pretrained(
            str(model), subfolder="unet", output_loading_info=True, low_cpu_mem_usage=False
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"model {model}: the network cannot be loaded: {error}") from error
    problems = [k for kind in ("missing_keys", "unexpected_keys") for k in report.get(kind, [])]
    if problems:
        raise UserError(f"model {model}: weights do not fit the network: {', '.join(problems[:5])}")
    unet = unet.float()
    for name, tensor in unet.state_dict().items():
        if not bool(torch.isfinite(tensor).all()):
            raise UserError(f"model {model}: weight {name} holds NaN or infinite values")
    return unet


class Generator:
    """Makes images of a model's categories, each from its own seed and strength."""

    def __init__(
        self,
        facts: ModelFacts,
        *,
        device: torch.device,
        precision: str,
        steps: int,
        sampler: str,
        truncate: bool = False,
        guidance: Guidance | None = None,
        compiled: bool = False,
    ) -> None:
        self.facts, self.device, self.precision, self.truncate = facts, device, precision, truncate
        self.guidance = guidance
        scheduler = SDASScheduler.from_pretrained(str(facts.folder), subfolder="scheduler")
        self.scheduler = SDASScheduler.from_config(scheduler.config, algorithm=sampler)
        self.scheduler.set_timesteps(steps)
        unet: Any = load_unet(facts.folder).to(device).eval()
        if unet.config.num_class_embeds != len(facts.classes):
            raise UserError(
                f"model {facts.folder}: its network has {unet.config.num_class_embeds} classes,"
                f" its record names {len(facts.classes)}: {', '.join(facts.classes)}"
            )
        self.network: Any = LeanUNet(unet, devices.network_dtype(precision))
        if compiled:
            # On a GPU this mode records CUDA graphs too.
            mode = "reduce-overhead" if device.type == "cuda" else "default"
            self.network = torch.compile(self.network, mode=mode, dynamic=False)

    @property
    def resolution(self) -> int:
        """The side of the images, in pixels."""
        return self.facts.resolution

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the categories the model knows."""
        return self.facts.classes

    @property
    def checkpoint_sha256(self) -> str:
        """The hash of the network's weights."""
        return self.facts.checkpoint_sha256

    @property
    def guidance_sha256(self) -> str:
        """The hash of the guiding classifier's weights; empty without guidance."""
        return self.guidance.checkpoint_sha256 if self.guidance else ""

    @property
    def health(self) -> dict[str, Any]:
        """The model's measured health; empty where it was never measured."""
        return self.facts.health

    def images(self, category: str, seeds: Sequence[int], strengths: Sequence[float]) -> Array8:
        """Returns uint8 images (B, H, W, 3), one for each seed and strength."""
        if category not in self.classes:
            raise UserError(
                f"the model {self.facts.folder.name} does not know category {category!r}."
                f"{near_names(category, list(self.classes))}"
            )
        label = torch.tensor([self.classes.index(category)], device=self.device)
        patch, guidance = self.facts.patch, self.guidance

        def denoise(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            return unfold(self.network(fold(x_t, patch), t[:1], label), patch).float()

        def gradient(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            assert guidance is not None
            return guidance.gradient(x_t, t, category)

        x_0 = sample(
            denoise,
            self.scheduler,
            (self.facts.channels, self.resolution, self.resolution),
            image_generators(seeds),
            strengths,
            self.device,
            gradient if guidance is not None else None,
        )
        finite = torch.isfinite(x_0).flatten(1).all(dim=1)
        if not bool(finite.all()):
            raise NonFiniteImagesError(int((~finite).sum()), len(seeds))
        return to_uint8(x_0, truncate=self.truncate)


def load_generator(
    model: Path,
    *,
    device: str = "auto",
    precision: str = "auto",
    steps: int = 20,
    sampler: str = "iddpm",
    truncate: bool = False,
    guidance: Path | None = None,
    guidance_scale: float = 1.0,
    compiled: bool = False,
) -> Generator:
    """Returns a generator for a model folder, on a device in a precision; UserError otherwise.

    `guidance` is a classifier folder, whose gradient steers every image to its category;
    `compiled` costs minutes before the first image (see benchmarks/RESULTS.md).
    """
    if sampler not in SAMPLERS:
        raise UserError(f"sampler {sampler!r}: expected one of {', '.join(SAMPLERS)}")
    chosen = devices.choose_device(device)
    facts = describe(model)
    if facts.sampling_steps not in {0, steps}:
        raise UserError(
            f"the model {model.name} was finished for {facts.sampling_steps} sampling steps, not"
            f" {steps}: its variance would be wrong; leave --steps at {facts.sampling_steps}"
        )
    steered = None
    if guidance is not None:
        from sia_gen.diffusion.classifier import load_guidance

        steered = load_guidance(
            guidance,
            guidance_scale,
            resolution=facts.resolution,
            channels=facts.channels,
            classes=facts.classes,
            device=chosen,
        )
    return Generator(
        facts,
        device=chosen,
        precision=devices.choose_precision(precision, chosen),
        steps=steps,
        sampler=sampler,
        truncate=truncate,
        guidance=steered,
        compiled=compiled,
    )
