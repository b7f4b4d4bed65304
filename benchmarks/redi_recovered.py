"""Whether ReDi recovers sharp images where the part is normal, and whether defects are gone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from detector import checkpoint
from detector.models import redi
from detector.nets.redi import distance
from sia_gen.core.data.category import Category, ExampleImage
from sia_gen.core.pixels.images import read_image
from sia_gen.core.seeds import generator


def detail(gray_B1HW: Tensor) -> Tensor:
    """Returns what a Gaussian of 1 pixel takes away: grain and fine lines."""
    return gray_B1HW - distance.smooth(gray_B1HW, 1.0)


def per_image(values_BCHW: Tensor, weights_B1HW: Tensor | None = None) -> Tensor:
    """Returns each image's mean, weighted by a mask where one is given."""
    values = values_BCHW.mean(1, keepdim=True)
    if weights_B1HW is None:
        return values.flatten(1).mean(1)
    total = weights_B1HW.flatten(1).sum(1).clamp_min(1)
    return (values * weights_B1HW).flatten(1).sum(1) / total


def blemished(images_B3HW: Tensor) -> tuple[Tensor, Tensor]:
    """Returns normal images with an ellipse each, darker or brighter, and where they are."""
    count, side = len(images_B3HW), images_B3HW.shape[-1]
    rng = generator("redi", "blemishes")
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    cover = torch.zeros(count, 1, side, side)
    for i in range(count):
        (y, x), (a, b) = rng.uniform(0.2, 0.8, 2) * side, rng.uniform(0.02, 0.07, 2) * side
        turn = rng.uniform(0, np.pi)
        u = (columns - x) * np.cos(turn) + (rows - y) * np.sin(turn)
        v = (rows - y) * np.cos(turn) - (columns - x) * np.sin(turn)
        cover[i, 0] = ((1.2 - torch.hypot(u / a, v / b)) / 0.4).clamp(0, 1)
    factor = torch.tensor([(0.15, 0.3, 1.8)[i % 3] for i in range(count)]).view(-1, 1, 1, 1)
    painted = images_B3HW * (1 - cover) + (images_B3HW * factor).clamp(0, 1) * cover
    return painted, (cover > 0.3).float()


def recovered_table(folder: Path, category: Category) -> None:
    """How sharp a category's normal test images are recovered, and what becomes of defects."""
    trained = checkpoint.load(folder, torch.device("cpu"))
    model, side = trained.model, trained.options.resolution
    assert isinstance(model, redi.ReDi) and model.recovery is not None
    recovery = model.recovery

    def read(examples: list[ExampleImage]) -> Tensor:
        images = np.stack([read_image(e.path, side) for e in examples])
        return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255

    @torch.no_grad()
    def recover_all(images: Tensor) -> Tensor:
        parts = images.split(16)
        return torch.cat([recovery(p, model.reference(p)[1]) for p in parts]).clamp(0, 1)

    x = read([e for e in category.test if not e.anomalous])
    painted, where = blemished(x)
    y, y_painted = recover_all(x), recover_all(painted)
    a, b = (detail(images.mean(1, keepdim=True)) for images in (x, y))
    energies = per_image(a.square()), per_image(b.square())
    agreement = per_image(a * b) / (energies[0] * energies[1]).sqrt()
    folded = [z.mean(1).unflatten(1, (-1, 4)).unflatten(3, (-1, 4)).mean((1, 3)) for z in (x, y)]
    own, pattern = (float(z.std((1, 2)).mean() * 255) for z in folded)
    change, left = (
        (q - p).mean(1, keepdim=True) * where for p, q in ((x, painted), (y, y_painted))
    )
    print(f"{folder}: {len(x)} normal test images")
    print(f"  PSNR {float(-10 * per_image((x - y).square()).log10().mean()):.2f} dB")
    print(f"  detail: energy {float((energies[1] / energies[0]).median()):.3f} of the image's,"
          f" correlation {float(agreement.mean()):.3f}")  # fmt: skip
    print(f"  4 x 4 pattern {pattern:.2f} of 255, the images' own {own:.2f}")
    kept = float((change * left).sum() / change.square().sum())
    print(f"  painted ellipses: {kept:.3f} of them left (0 replaced, 1 copied)")
    print("  defects: |image - recovered| of 255    inside  outside    ratio")
    for kind in sorted({e.defect for e in category.test if e.anomalous}):
        found = [(e, e.read_mask(side)) for e in category.test if e.defect == kind]
        chosen = [(e, mask) for e, mask in found if mask is not None]
        x = read([e for e, _ in chosen])
        masks = torch.from_numpy(np.stack([mask for _, mask in chosen]))[:, None].float()
        error = (x - recover_all(x)).abs() * 255
        inside = float(per_image(error, masks).mean())
        outside = float(per_image(error, 1 - masks).mean())
        print(f"  {kind:<36} {inside:8.1f} {outside:8.1f} {inside / outside:8.2f}")
