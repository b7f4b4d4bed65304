"""BatchNorm folded into the convolution before it: in eval mode the same function, sooner."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

TOLERANCE = 1e-3  # of the largest output; float32 rounding stays far below
PROBE = 64  # side of the noise image on which a folded network must agree with its original


def _pairs(module: nn.Module) -> list[tuple[str, str]]:
    """Returns the names of neighbouring children that look like a convolution and its norm."""
    found, children = [], list(module.named_children())
    for (name, conv), (after, norm) in itertools.pairwise(children):
        looks = isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        if looks and conv.out_channels == norm.num_features and norm.affine:
            found.append((name, after))
    return found


def _remains(norm: nn.Module) -> nn.Module:
    """Returns what is left of a norm: timm's norms carry an activation behind them."""
    rest = [getattr(norm, name) for name in ("drop", "act") if hasattr(norm, name)]
    left = [m for m in rest if not isinstance(m, nn.Identity)]
    return nn.Sequential(*left) if left else nn.Identity()


def folded(network: nn.Module, inputs: tuple[Any, ...]) -> nn.Module:
    """Returns a copy in eval mode with its norms folded; unfolded where that changes an output.

    Which norm follows which convolution is read from the order of children, so the result is
    compared with the original on `inputs` before it is used.
    """
    network = copy.deepcopy(network).eval()
    changed = copy.deepcopy(network)
    for module in list(changed.modules()):
        for conv, norm in _pairs(module):
            left, right = getattr(module, conv), getattr(module, norm)
            setattr(module, conv, fuse_conv_bn_eval(left, right))
            setattr(module, norm, _remains(right))
    with torch.no_grad():
        before, after = _flat(network(*inputs)), _flat(changed(*inputs))
    scale = max(float(before.abs().max()), 1e-6)
    return changed if float((before - after).abs().max()) <= TOLERANCE * scale else network


def _flat(output: Tensor | list[Tensor]) -> Tensor:
    parts = [output] if isinstance(output, Tensor) else output
    return torch.cat([part.float().flatten() for part in parts])
