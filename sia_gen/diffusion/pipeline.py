"""SDAS as a diffusers pipeline: whole images of a category, or anomalies grown in normal images.

    pipe = SDASPipeline.from_pretrained("textures-64")      # a shipped model, or a model folder
    pipe(class_labels="brick", strength=0.15, generator=torch.Generator().manual_seed(0)).images
    pipe(class_labels="brick", image=image, mask_image=mask, depth=0.5, strength=0.3).images

It stands on the function that `sia-gen run` stands on: with `generator=image_generators(seeds)`
the images are those of a run with these seeds.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from diffusers import DiffusionPipeline
from diffusers.pipelines.pipeline_utils import ImagePipelineOutput
from PIL import Image

from sia_gen.compute import device as devices
from sia_gen.core.errors import UserError, near_names
from sia_gen.core.pixels.images import Array8, Mask
from sia_gen.core.provenance import sha256_file
from sia_gen.core.store.files import read_json, write_json
from sia_gen.diffusion.generator import Generator, load_unet
from sia_gen.diffusion.model_folder import FACTS, WEIGHTS, ModelFacts, describe, find_model
from sia_gen.diffusion.scheduler import SDASScheduler

OUTPUTS = ("pil", "np", "pt")


class SDASPipeline(DiffusionPipeline):
    """A model folder's network and scheduler, with what its page of facts says of them.

    `from_pretrained` takes a folder that `sia-gen train`, `sia-gen import` or `save_pretrained`
    wrote, or the name of a shipped model; `to(device)` moves it; it computes in `precision`.
    """

    def __init__(
        self, unet: Any, scheduler: SDASScheduler, facts: ModelFacts, precision: str = "auto"
    ) -> None:
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)
        self.facts, self.precision = facts, precision
        self._made: dict[tuple[Any, ...], Generator] = {}

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | Path, *, precision: str = "auto"
    ) -> Self:
        """Returns the pipeline of a model folder, on the CPU; UserError where it is damaged.

        `precision` is auto, fp32, bf16 or fp16: that of sampling, the weights stay float32.
        """
        facts = describe(find_model(pretrained_model_name_or_path))
        scheduler = SDASScheduler.from_pretrained(str(facts.folder), subfolder="scheduler")
        return cls(load_unet(facts.folder), scheduler, facts, precision)

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> None:
        """Writes a model folder that `from_pretrained` and every command of `sia-gen` take.

        Weights that were changed are another model: its health counts as not measured.
        """
        super().save_pretrained(save_directory, **options)
        folder = Path(save_directory)
        weights = folder / WEIGHTS
        if not weights.is_file():
            raise UserError(
                f"{weights} was not written: save with safe_serialization and no shards"
            )
        page = read_json(self.facts.folder / FACTS)
        page["checkpoint_sha256"] = sha256_file(weights)
        before = load_unet(self.facts.folder).state_dict()
        after = self.unet.state_dict()
        if any(not torch.equal(before[name], after[name].float().cpu()) for name in before):
            page.pop("health", None)
        write_json(folder / FACTS, page)

    @torch.no_grad()
    def __call__(
        self,
        class_labels: str | int | Sequence[str | int],
        strength: float | Sequence[float] = 0.0,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        num_inference_steps: int | None = None,
        output_type: str = "pil",
        *,
        image: Any = None,
        mask_image: Any = None,
        depth: float = 0.5,
        sampler: str = "auto",
        return_dict: bool = True,
    ) -> ImagePipelineOutput | tuple[Any]:
        """Returns images, one a class label (a name, or the model's number of it).

        With `image` and `mask_image` (PIL images, uint8 or bool arrays, one each a label) an
        anomaly is grown inside each image, over the last `depth` of the chain. `generator` is one
        for all images or one each; `strength` likewise. `output_type`: pil, np (float32 in [0, 1],
        (B, H, W, 3)) or pt (the same as (B, 3, H, W)).
        """
        if output_type not in OUTPUTS:
            raise UserError(f"output_type {output_type!r}: expected one of {', '.join(OUTPUTS)}")
        labels = self._labels(class_labels)
        strengths = _each(strength, len(labels), "strengths")
        draws = _each(generator or torch.Generator(), len(labels), "generators")
        if generator is None:
            draws[0].seed()
        maker = self._generator(num_inference_steps, sampler)
        given = None
        if image is not None or mask_image is not None:
            given = _images(image, len(labels)), _masks(mask_image, len(labels))
        made = _in_order(maker, labels, strengths, draws, given, depth)
        images = _output(made, output_type)
        return ImagePipelineOutput(images=images) if return_dict else (images,)

    def _labels(self, given: str | int | Sequence[str | int]) -> list[str]:
        asked = [given] if isinstance(given, str | int) else list(given)
        known = self.facts.classes
        for label in asked:
            fits = label in known if isinstance(label, str) else 0 <= int(label) < len(known)
            if not fits:
                near = near_names(str(label), list(known))
                raise UserError(f"class_labels: the model does not know {label!r}.{near}")
        return [label if isinstance(label, str) else known[int(label)] for label in asked]

    def _generator(self, steps: int | None, sampler: str) -> Generator:
        """Returns the generator of these settings; its network is a copy in its own precision."""
        sampler = self.facts.sampler_of(sampler)
        device = devices.choose_device(str(self.device))
        steps = self.facts.steps(steps or 0)
        versions = tuple(p._version for p in self.unet.parameters())
        key = (steps, sampler, str(device), id(self.unet), versions)
        if key not in self._made:
            self._made = {
                key: Generator(
                    self.facts,
                    unet=copy.deepcopy(self.unet).float().to(device).eval(),
                    scheduler=self.scheduler,
                    device=device,
                    precision=devices.choose_precision(self.precision, device),
                    steps=steps,
                    sampler=sampler,
                )
            }
        return self._made[key]


def _in_order(
    maker: Generator,
    labels: list[str],
    strengths: list[float],
    draws: list[torch.Generator],
    given: tuple[Array8, Mask] | None,
    depth: float,
) -> Array8:
    """Returns the images in the labels' order: a batch has one class."""
    made = np.zeros((len(labels), maker.resolution, maker.resolution, 3), dtype=np.uint8)
    for name in dict.fromkeys(labels):
        at = [i for i, label in enumerate(labels) if label == name]
        chosen = [draws[i] for i in at], [strengths[i] for i in at]
        if given is None:
            made[at] = maker.images(name, *chosen)
        else:
            made[at] = maker.in_place(name, *chosen, given[0][at], given[1][at], depth)
    return made


def _each(value: Any, count: int, what: str) -> list[Any]:
    values = list(value) if isinstance(value, Sequence) else [value] * count
    if len(values) != count:
        raise UserError(f"{len(values)} {what} for {count} class labels: give one, or one each")
    return values


def _listed(given: Any, count: int, what: str) -> list[Any]:
    if given is None:
        raise UserError("in place: image and mask_image belong together, one of them is missing")
    single = isinstance(given, Image.Image) or np.ndim(given) in {2, 3 if what == "image" else 2}
    found = [given] if single else list(given)
    if len(found) != count:
        raise UserError(f"{len(found)} {what}s for {count} class labels: give one each")
    return found


def _images(given: Any, count: int) -> Array8:
    found = []
    for image in _listed(given, count, "image"):
        array = np.asarray(image.convert("RGB") if isinstance(image, Image.Image) else image)
        array = np.repeat(array[..., None], 3, axis=2) if array.ndim == 2 else array
        if array.dtype != np.uint8 or array.shape[2:] != (3,):
            raise UserError(
                f"image: {array.dtype} of shape {array.shape}: expected uint8 (H, W, 3) or (H, W)"
            )
        found.append(array)
    _require_one_shape(found, "images")
    return np.stack(found)


def _masks(given: Any, count: int) -> Mask:
    found = []
    for mask in _listed(given, count, "mask_image"):
        array = np.asarray(mask.convert("L") if isinstance(mask, Image.Image) else mask)
        array = array if array.dtype == np.bool_ else array > 127
        if array.ndim != 2:
            raise UserError(f"mask_image: an array of shape {array.shape}: expected (H, W)")
        found.append(array)
    _require_one_shape(found, "mask images")
    return np.stack(found)


def _require_one_shape(arrays: list[Any], what: str) -> None:
    shapes = sorted({array.shape for array in arrays})
    if len(shapes) != 1:
        raise UserError(f"{what} of several sizes ({shapes[0]}, {shapes[1]}): expected one size")


def _output(made: Array8, kind: str) -> Any:
    if kind == "pil":
        return [Image.fromarray(image) for image in made]
    values = made.astype(np.float32) / 255.0
    return values if kind == "np" else torch.from_numpy(values).permute(0, 3, 1, 2)
