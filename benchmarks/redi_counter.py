"""The multiply-adds of a network's convolutions."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class Counter:
    """Multiply-adds of convolutions while networks run: true ones, and as `thop` counts them."""

    def __init__(self, *networks: nn.Module) -> None:
        self.true = self.thop = 0
        kinds = (nn.Conv2d, nn.ConvTranspose2d)
        self._hooks = [
            m.register_forward_hook(self._count)
            for network in networks
            for m in network.modules()
            if isinstance(m, kinds)
        ]

    def _count(self, module: Any, inputs: Any, output: Tensor) -> None:
        area = module.kernel_size[0] * module.kernel_size[1]
        own = output.numel() * module.in_channels // module.groups * area
        self.thop += own
        if isinstance(module, nn.ConvTranspose2d):
            own = inputs[0].numel() * module.out_channels // module.groups * area
        self.true += own

    def close(self) -> None:
        """Stops counting."""
        for hook in self._hooks:
            hook.remove()
