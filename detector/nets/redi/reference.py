"""The frozen backbone as ReDi uses it: one pass over X serves the reference and the retrieval."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from detector.nets.backbone import Backbone
from sia_gen.core.errors import UserError

SCALINGS = ("none", "scale", "centre")


def shallow(backbone: Backbone, images_B3HW: Tensor, count: int) -> list[Tensor]:
    """Returns the features of the first `count` layers; deeper ones are not computed.

    Backbones that timm does not keep as a list of parts run through to their end.
    """
    from timm.models._features import FeatureListNet

    net: Any = backbone.net
    if count >= len(backbone.channels) or not isinstance(net, FeatureListNet):
        return backbone(images_B3HW)[:count]
    found: list[Tensor] = []
    with torch.no_grad():
        x = (images_B3HW - backbone.mean) / backbone.std
        for name, part in net.items():
            x = part(x)
            if name in net.return_layers:
                found.append(x)
            if len(found) == count:
                break
    return found


class Scaling(nn.Module):
    """Brings channels to alike scales: a cosine is otherwise ruled by the few strongest ones.

    ResNets need none; MobileNetV2's linear features differ by orders of magnitude.
    """

    def __init__(self, channels: list[int], how: str) -> None:
        super().__init__()
        self.how = how
        for i, count in enumerate(channels if how != "none" else []):
            self.register_buffer(f"shift{i}", torch.zeros(1, count, 1, 1))
            self.register_buffer(f"factor{i}", torch.ones(1, count, 1, 1))

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Returns the features less their mean (`centre`), over their standard deviation."""
        if self.how == "none":
            return features
        return [
            (x - self.get_buffer(f"shift{i}")) * self.get_buffer(f"factor{i}")
            for i, x in enumerate(features)
        ]

    @torch.no_grad()
    def measure(self, passes: Iterable[list[Tensor]], linear: bool) -> None:
        """Takes the channels' statistics from normal images' features.

        Raises UserError where features are negative, yet a ReLU shall recover them.
        """
        sums: list[Tensor] = []
        lowest = 0.0
        for features in passes:
            parts = [
                torch.stack(
                    [
                        torch.full((x.shape[1],), x.numel() / x.shape[1], dtype=torch.float64),
                        x.double().sum((0, 2, 3)).cpu(),
                        x.double().square().sum((0, 2, 3)).cpu(),
                    ]
                )
                for x in features
            ]
            sums = [a + b for a, b in zip(sums, parts, strict=True)] if sums else parts
            lowest = min(lowest, *(float(x.min()) for x in features))
        if lowest < 0 and not linear:
            raise UserError(
                "the backbone's features go below 0, where a recovery block that ends in ReLU can"
                " never follow: give linear_features=true"
            )
        for i, (count, total, squares) in enumerate(sums if self.how != "none" else []):
            mean = total / count
            deviation = (squares / count - mean.square()).clamp_min(1e-6).sqrt()
            shape = (1, -1, 1, 1)
            if self.how == "centre":
                self.get_buffer(f"shift{i}").copy_(mean.view(shape))
            self.get_buffer(f"factor{i}").copy_((1 / deviation).view(shape))


class Learnable(nn.Module):
    """Without the Feature Recovery Block: a copy of the backbone that learns (Sec. 4.3.8)."""

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: Backbone, count: int) -> None:
        super().__init__()
        self.net, self.count = copy.deepcopy(backbone.net), count
        self.register_buffer("mean", backbone.mean.clone())
        self.register_buffer("std", backbone.std.clone())

    def forward(self, images_B3HW: Tensor) -> list[Tensor]:
        """Returns features of the first layers, with gradients."""
        return list(self.net((images_B3HW - self.mean) / self.std))[: self.count]
