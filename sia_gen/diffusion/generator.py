"""A trained model that makes images: all that a generation job knows of torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from sia_gen.compute import device as devices
from sia_gen.core.errors import NonFiniteImagesError, UserError, near_names
from sia_gen.core.pixels.images import Array8, Mask
from sia_gen.diffusion.in_place import composed, sample_in_place
from sia_gen.diffusion.lean import LeanUNet
from sia_gen.diffusion.model_folder import ModelFacts, describe
from sia_gen.diffusion.sampling import (
    DenoiserFunction,
    GradientFunction,
    image_generators,
    sample,
    to_tensor,
    to_uint8,
)
from sia_gen.diffusion.scheduler import SDASScheduler
from sia_gen.diffusion.unet import even_phases, fold, unfold

if TYPE_CHECKING:
    from sia_gen.diffusion.classifier import Guidance

Seeds = Sequence[int] | Sequence[torch.Generator]
Floats = npt.NDArray[np.float32]


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
    """Makes images of a model's categories, each from its own seed and strength.

    A seed is a number, or a generator on the CPU that is already seeded. The network, on its
    device in float32, becomes the generator's own.
    """

    def __init__(
        self,
        facts: ModelFacts,
        *,
        unet: Any,
        scheduler: SDASScheduler,
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
        self.scheduler = SDASScheduler.from_config(scheduler.config, algorithm=sampler)
        self.scheduler.set_timesteps(steps)
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

    def images(self, category: str, seeds: Seeds, strengths: Sequence[float]) -> Array8:
        """Returns uint8 images (B, H, W, 3), one for each seed and strength."""
        x_0 = sample(
            self._denoiser(category),
            self.scheduler,
            (self.facts.channels, self.resolution, self.resolution),
            image_generators(seeds),
            strengths,
            self.device,
            self._gradient(category),
        )
        return to_uint8(_finite(x_0), truncate=self.truncate)

    def in_place(
        self,
        category: str,
        seeds: Seeds,
        strengths: Sequence[float],
        normals_BHWC: Array8,
        masks_BHW: Mask,
        depth: float,
    ) -> Array8:
        """Returns uint8 images (B, H, W, 3): anomalies grown inside normal ones, under masks.

        Outside the mask an image is its normal one, bit for bit (see in_place.py).
        """
        masks = np.asarray(masks_BHW, dtype=np.float32)
        self._require_images(normals_BHWC, masks)
        mask = torch.from_numpy(masks)[:, None].to(self.device)
        x_0 = sample_in_place(
            self._denoiser(category),
            self.scheduler,
            to_tensor(normals_BHWC, self.facts.channels).to(self.device),
            mask,
            image_generators(seeds),
            strengths,
            depth,
            self._gradient(category),
        )
        return composed(_finite(x_0), normals_BHWC, mask)

    def _denoiser(self, category: str) -> DenoiserFunction:
        if category not in self.classes:
            raise UserError(
                f"the model {self.facts.folder.name} does not know category {category!r}."
                f"{near_names(category, list(self.classes))}"
            )
        label = torch.tensor([self.classes.index(category)], device=self.device)
        patch = self.facts.patch

        def denoise(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            folded = fold(x_t, patch)
            out = self.network(folded, t[:1], label)
            if self.facts.even_phases and patch > 1:
                product = float(self.scheduler.full.alphas_cumprod[int(t[0])])
                kind = self.scheduler.config.prediction_type
                out = even_phases(out, folded, product, self.facts.channels, kind)
            return unfold(out, patch).float()

        return denoise

    def _gradient(self, category: str) -> GradientFunction | None:
        guidance = self.guidance
        if guidance is None:
            return None
        return lambda x_t, t: guidance.gradient(x_t, t, category)

    def _require_images(self, normals_BHWC: Array8, masks_BHW: Floats) -> None:
        """Raises UserError where normal images or masks are not what the model was trained on."""
        side, name = self.resolution, self.facts.folder.name
        for what, array, dimensions in (("images", normals_BHWC, 4), ("masks", masks_BHW, 3)):
            if array.ndim != dimensions or array.shape[1:3] != (side, side):
                found = " x ".join(map(str, array.shape[1:3]))
                raise UserError(
                    f"in place: {what} of {found} pixels: the model {name} makes images of {side} x"
                    f" {side}"
                )
        gray = (normals_BHWC == normals_BHWC[..., :1]).all()
        if self.facts.channels == 1 and not gray:
            raise UserError(
                f"in place: the model {name} knows gray images only, these are in colour: train one"
                " on this data"
            )


def _finite(x_0: torch.Tensor) -> torch.Tensor:
    finite = torch.isfinite(x_0).flatten(1).all(dim=1)
    if not bool(finite.all()):
        raise NonFiniteImagesError(int((~finite).sum()), len(x_0))
    return x_0


def load_generator(
    model: Path,
    *,
    device: str = "auto",
    precision: str = "auto",
    steps: int = 0,
    sampler: str = "auto",
    truncate: bool = False,
    guidance: Path | None = None,
    guidance_scale: float = 1.0,
    compiled: bool = False,
) -> Generator:
    """Returns a generator for a model folder, on a device in a precision; UserError otherwise.

    `steps` 0 are the model's own, or 20; `sampler` auto is its own, or iddpm. `guidance` is a
    classifier folder, whose gradient steers every image to its category; `compiled` costs minutes
    before the first image (see benchmarks/results/sampling.md).
    """
    chosen = devices.choose_device(device)
    facts = describe(model)
    steps, sampler = facts.steps(steps), facts.sampler_of(sampler)
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
        unet=load_unet(facts.folder).to(chosen).eval(),
        scheduler=SDASScheduler.from_pretrained(str(facts.folder), subfolder="scheduler"),
        device=chosen,
        precision=devices.choose_precision(precision, chosen),
        steps=steps,
        sampler=sampler,
        truncate=truncate,
        guidance=steered,
        compiled=compiled,
    )
