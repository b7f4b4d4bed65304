"""The parts of a RealNet as options: what the paper's ablations change, and what goes beyond it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from detector.nets import afs, rrs
from detector.nets.backbone import BackboneOptions
from detector.nets.discriminator import KINDS as DISCRIMINATORS
from detector.nets.reconstruction import KINDS
from sia_gen.core.errors import UserError
from sia_gen.core.options import Checked, option

BANK = "bank"

# Which layers share a reconstruction network (appendix C.4): A each its own, B all one, C pairs.
ARCHITECTURES = ("A", "B", "C")


@dataclass(frozen=True, kw_only=True)
class Options(Checked):
    """The parts of a RealNet; the defaults are the paper's.

    `channels` are the kept dimensions m_k of each layer, or shares of the layer's own below 1 (one
    share serves all layers). `reconstruction` is the paper's unet, or plain. `standardise` divides
    kept features by their standard deviation over normal images, so that Eq. 5 weighs the channels
    alike: some backbones (MobileNetV2) have linear features of very unlike scales.

    Beyond the paper: `discriminator` light is a smaller one for short trainings. `bank` members of
    a memory of normal features, means over a square of `bank_neighbourhood` places (as in
    PatchCore; an odd number), are a second witness: `bank_by_layer` gives each layer such a memory
    of its own. With `reconstruction` bank their nearest member is what is restored, without a
    network; `sees_bank` shows the distances to them to the discriminator; `bank_weight` adds their
    mean to the discriminator's logit, each in its own deviations over held-out normal images.
    `whole` is the side of the grid on which whole images are compared with normal ones, by the
    deepest layer, and `whole_weight` what that adds to the same sum.
    """

    backbone: str = "wide_resnet50_2"
    weights: str = "pretrained"
    layers: tuple[int, ...] = (1, 2, 3, 4)
    channels: tuple[float, ...] = (256, 512, 512, 256)
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    reduction: str = option("afs", choices=afs.MODES)
    afs_batches: int = option(64, low=1)
    standardise: bool = False
    architecture: str = option("A", choices=ARCHITECTURES)
    reconstruction: str = option("unet", choices=(*KINDS, BANK))
    unet_blocks: int = option(2, low=1)
    unet_attention: bool = True
    rrs: str = option("max&avg", choices=rrs.MODES)
    rrs_ratio: float = option(1 / 3, above=0, high=1)
    discriminator: str = option("paper", choices=tuple(DISCRIMINATORS))
    bank: int = option(0, low=0)
    bank_neighbourhood: int = option(1, low=1)
    bank_by_layer: bool = False
    sees_bank: bool = False
    bank_weight: float = option(0.0, low=0)
    whole: int = option(0, low=0)
    whole_weight: float = option(0.0, low=0)

    def __post_init__(self) -> None:
        """Refuses values that no RealNet has, naming the option."""
        super().__post_init__()
        channels = self.channels
        if len(channels) == 1 and 0 < channels[0] < 1:
            channels = channels * len(self.layers)
        if not self.layers or len(self.layers) != len(channels):
            raise UserError(
                f"channels {list(channels)} and layers {list(self.layers)} differ in number:"
                " give one channel dimension for each layer, or one share below 1 for all"
            )
        if any(not (0 < c < 1 or (c >= 2 and c == int(c))) for c in channels):
            raise UserError(
                f"channels {list(channels)}: each must be a whole number of at least 2, or a share"
                " of the layer's channels between 0 and 1"
            )
        whole = tuple(int(c) if c >= 1 else c for c in channels)
        object.__setattr__(self, "channels", whole)
        uses_bank = self.reconstruction == BANK or self.sees_bank or self.bank_weight
        if bool(uses_bank) != bool(self.bank):
            raise UserError(
                f"bank {self.bank}: give its number of members, and what it is for: reconstruction"
                " bank, sees_bank or bank_weight above 0"
            )
        if self.bank_neighbourhood % 2 == 0 or (self.bank_neighbourhood > 1 and not self.bank):
            raise UserError(
                f"bank_neighbourhood {self.bank_neighbourhood}: expected an odd number, above 1"
                " with a bank only"
            )
        if self.bank_by_layer and not self.bank:
            raise UserError("bank_by_layer needs a bank: give its number of members")
        if bool(self.whole) != bool(self.whole_weight):
            raise UserError(
                f"whole {self.whole} and whole_weight {self.whole_weight}: give both above 0, or"
                " none"
            )
        if self.whole and not self.bank_weight:
            raise UserError("whole adds to a sum of witnesses: give bank and bank_weight too")

    def backbone_options(self, seed: int) -> BackboneOptions:
        """Returns the part of the options that the backbone needs."""
        return BackboneOptions(
            name=self.backbone,
            weights=self.weights,
            layers=self.layers,
            seed=seed,
            mean=self.mean,
            std=self.std,
        )


def describe(options: Options) -> dict[str, Any]:
    """Returns what a row of results must name: the parts that the paper's ablations change."""
    around = options.bank_neighbourhood
    return {
        "layers": list(options.layers),
        "channels": list(options.channels),
        "reduction": options.reduction,
        "rrs": options.rrs,
        "rrs_ratio": round(options.rrs_ratio, 6),
        "architecture": options.architecture,
        "reconstruction": options.reconstruction,
        **({"discriminator": options.discriminator} if options.discriminator != "paper" else {}),
        **({"bank": options.bank, "sees_bank": options.sees_bank} if options.bank else {}),
        **({"bank_neighbourhood": around} if around > 1 else {}),
        **({"bank_by_layer": True} if options.bank_by_layer else {}),
        **({"bank_weight": options.bank_weight} if options.bank_weight else {}),
        **({"whole": options.whole, "whole_weight": options.whole_weight} if options.whole else {}),
    }
