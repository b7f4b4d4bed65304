"""The prompt bank: all normal training images, and which of them is most like an image."""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from sia_gen.core.errors import UserError


class PromptBank(nn.Module):
    """Normal images with their descriptions; it is part of the checkpoint.

    No two of its images are equal, and no image is ever its own prompt: of the candidates one that
    equals the image asked for, pixel by pixel, is passed over.
    """

    images: Tensor
    features: Tensor

    def __init__(self, count: int, channels: int, resolution: int, rank: int = 1) -> None:
        super().__init__()
        self.rank = rank
        shape = (count, 3, resolution, resolution)
        self.register_buffer("images", torch.zeros(shape, dtype=torch.uint8))
        self.register_buffer("features", torch.zeros(count, channels))

    @property
    def shape(self) -> list[int]:
        """The bank's [images, channels of a description, side of an image]."""
        return [*self.features.shape, int(self.images.shape[-1])]

    def fill(self, images_N3RR: Tensor, features_NC: Tensor, limit: int = 0) -> None:
        """Takes in images (uint8) and their descriptions, the first of equal ones only.

        A limit keeps that many, evenly spaced.
        """
        seen: dict[bytes, int] = {}
        for i, image in enumerate(images_N3RR.cpu().numpy()):
            seen.setdefault(image.tobytes(), i)
        kept = list(seen.values())
        if limit and len(kept) > limit:
            kept = [kept[i * len(kept) // limit] for i in range(limit)]
        if len(kept) < self.rank + 1:
            raise UserError(
                f"the training images hold only {len(kept)} different ones: a prompt of rank"
                f" {self.rank} needs at least {self.rank + 1}; give more images, or prompt=none"
            )
        index = torch.tensor(kept, device=images_N3RR.device)
        self.images = images_N3RR[index].clone()
        self.features = functional.normalize(features_NC[index].float(), dim=1)

    def choose(self, images_B3RR: Tensor, features_BC: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the places in the bank of the prompts, and their cosine similarity, each (B,)."""
        with torch.autocast(images_B3RR.device.type, enabled=False):
            asked = functional.normalize(features_BC.float(), dim=1)
            best = (asked @ self.features.T).topk(self.rank + 1, dim=1)
        pixels = to_pixels(images_B3RR)
        same = torch.stack(
            [
                (self.images[best.indices[:, k]] == pixels).flatten(1).all(dim=1)
                for k in range(self.rank)
            ]
        )
        # One place later wherever the image itself stands at or before the rank asked for.
        place = self.rank - 1 + same.any(dim=0).long()[:, None]
        return best.indices.gather(1, place)[:, 0], best.values.gather(1, place)[:, 0]

    def prompts(self, places_B: Tensor) -> Tensor:
        """Returns prompt images in [-1, 1], (B, 3, R, R)."""
        return self.images[places_B].float().div(127.5).sub(1)


def to_pixels(images_B3RR: Tensor) -> Tensor:
    """Returns images in [0, 1] as uint8."""
    return images_B3RR.float().mul(255).round().clamp(0, 255).to(torch.uint8)
