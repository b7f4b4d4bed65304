"""RealNet: reconstruct a frozen backbone's selected features, and judge what could not be restored.

Image -> backbone -> feature selection (AFS) -> reconstruction U-Nets -> squared residuals ->
residual selection (RRS) -> discriminator -> anomaly map. Zhang et al., CVPR 2024.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from detector.model import Detector, Inputs, Stage, TrainingSet
from detector.models._realnet_options import BANK, Options, describe
from detector.nets import afs, maps, preparation, rrs
from detector.nets import backbone as backbones
from detector.nets import discriminator as discriminators
from detector.nets.backbone import Backbone
from detector.nets.bank import Bank
from detector.nets.folding import folded
from detector.nets.reconstruction import PlainNetwork, ReconstructionUNet
from detector.nets.whole import WholeImage
from sia_gen.core.errors import UserError
from sia_gen.core.seeds import derive_seed

if TYPE_CHECKING:
    from detector.options import TrainOptions

__all__ = ["PAIRS", "Options", "RealNet", "build", "describe", "restore"]

PAIRS = True
SHOWN = 6  # residual maps of each kind in a picture

# Half-way between normal and anomalous: mean of the evidence in deviations over normal images.
HALF_WAY = 2.0


class RealNet(Detector):
    """The network; its backbone and its channel selection are constants of a run."""

    levels: Tensor

    def __init__(self, backbone: Backbone, options: Options) -> None:
        super().__init__()
        self.backbone = backbone
        self.options = options
        self.kept = [
            int(c) if c >= 1 else max(2, round(have * c))
            for c, have in zip(options.channels, backbone.channels, strict=True)
        ]
        for layer, have, keep in zip(options.layers, backbone.channels, self.kept, strict=True):
            if keep > have:
                raise UserError(
                    f"channels {self.kept}: layer {layer} of {options.backbone} has"
                    f" only {have} channels (all: {backbone.channels})"
                )
        self.blocks = maps.blocks(len(options.layers), options.architecture)
        self.reductions = nn.ModuleList(
            afs.Reduction(have, keep, options.reduction)
            for have, keep in zip(backbone.channels, self.kept, strict=True)
        )
        widths = [sum(self.kept[i] for i in block) for block in self.blocks]
        self.reconstructions = nn.ModuleList(
            PlainNetwork(width)
            if options.reconstruction == "plain"
            else ReconstructionUNet(width, options.unet_blocks, options.unet_attention)
            for width in ([] if options.reconstruction == BANK else widths)
        )
        self.rrs = rrs.ResidualSelection(sum(widths), options.rrs_ratio, options.rrs)
        judge = discriminators.KINDS[options.discriminator]
        groups = self.kept if options.bank_by_layer else [sum(widths)]
        self.bank = Bank(options.bank, groups) if options.bank else None
        self.judged = self.rrs.outputs + len(groups) * int(options.sees_bank)
        self.discriminator = judge(self.judged)
        self.whole: WholeImage | None = None  # once its size is known
        self.weights = [1.0, *[options.bank_weight / len(groups)] * len(groups)]
        self.weights += [options.whole_weight] if options.whole else []
        if options.bank_weight:
            # Mean and deviation of each kind of evidence over normal images.
            self.register_buffer("levels", torch.tensor([[0.0, 1.0]] * len(self.weights)))

    def check_resolution(self, resolution: int) -> None:
        """Raises UserError where a block's feature map cannot be halved and doubled back."""
        nets = self.reconstructions or [None] * len(self.blocks)
        for block, net in zip(self.blocks, nets, strict=True):
            stride = self.backbone.strides[block[0]]
            least = stride * (1 if net is None else int(net.downsampling))  # type: ignore[arg-type]
            if resolution % least:
                raise UserError(
                    f"resolution {resolution} does not suit a feature layer of stride {stride}:"
                    f" give a multiple of {least}, or leave out the deepest layer"
                    f" (layers {list(self.options.layers)})"
                )

    def layers(self, images_B3HW: Tensor) -> list[Tensor]:
        """Returns all features per layer, each at the resolution of its block's finest layer."""
        features = self.backbone(images_B3HW)
        for block in self.blocks:
            for i in block[1:]:
                features[i] = maps.resampled(features[i], features[block[0]])
        return features

    def features(self, images_B3HW: Tensor) -> list[Tensor]:
        """Returns the selected features per block, the phi_k(.) of Eq. 5; constants of a run."""
        layers = self.layers(images_B3HW)
        kept = [reduce(x) for reduce, x in zip(self.reductions, layers, strict=True)]
        return [torch.cat([kept[i] for i in block], dim=1) for block in self.blocks]

    def joined(self, features: list[Tensor]) -> Tensor:
        """Returns all blocks' features as the memory knows them, (B, C, H, W)."""
        return preparation.joined(features, self.options.bank_neighbourhood)

    def witnesses(
        self, features: list[Tensor], own_B: Tensor | None = None
    ) -> tuple[list[Tensor], Tensor, Tensor | None]:
        """Returns restored features per block, residuals (B, C, H, W), distances to the memory.

        The memory's nearest members are one block of all. Distances (B, G, H, W) are None without
        one; images `own_B` of the training set do not meet their own members.
        """
        if self.bank is None:
            restored = [net(x) for net, x in zip(self.reconstructions, features, strict=True)]
            return restored, maps.residuals(features, restored), None
        whole = self.joined(features)
        nearest, distance = self.bank(whole, own_B)
        if not self.reconstructions:
            return [nearest], (whole - nearest).square(), distance
        restored = [net(x) for net, x in zip(self.reconstructions, features, strict=True)]
        return restored, maps.residuals(features, restored), distance

    def decide(
        self, residual_BCHW: Tensor, distance_BGHW: Tensor | None, size: tuple[int, int]
    ) -> Tensor:
        """Returns the discriminator's logits (B, 2, *size): normal, anomalous."""
        chosen = self.rrs(residual_BCHW)
        if self.options.sees_bank and distance_BGHW is not None:
            chosen = torch.cat([chosen, distance_BGHW.square().to(chosen.dtype)], dim=1)
        logits: Tensor = self.discriminator(chosen, size)
        return logits

    def judge(self, features: list[Tensor], size: tuple[int, int]) -> tuple[list[Tensor], Tensor]:
        """Returns the reconstructed features per block, and logits (B, 2, *size)."""
        restored, residual, distance = self.witnesses(features)
        return restored, self.decide(residual, distance, size)

    def evidence(self, images_B3HW: Tensor, own_B: Tensor | None = None) -> Tensor:
        """Returns the logit of an anomaly, the distance to each memory, and the residual of the
        whole image where there is one, (E, B, H, W)."""
        size = (images_B3HW.shape[-2], images_B3HW.shape[-1])
        features = self.features(images_B3HW)
        _, residual, distance = self.witnesses(features, own_B)
        logits = self.decide(residual, distance, size).float()
        if distance is None:
            raise ValueError("a RealNet without a memory has no distances to it")
        wholes = [] if self.whole is None else [self.whole(features[-1])]
        larger = [maps.enlarged(one, size)[:, 0] for one in (*distance.split(1, 1), *wholes)]
        return torch.stack([logits[:, 1] - logits[:, 0], *larger])

    def inference_form(self) -> Detector:
        """Turns the network into its faster form for maps alone, in place, and returns it."""
        super().inference_form()
        residuals = torch.rand(1, self.judged, 16, 16, generator=torch.Generator().manual_seed(0))
        residuals = residuals.to(self.backbone.mean.device)
        self.discriminator = folded(self.discriminator, (residuals, (64, 64)))
        return self.to(memory_format=torch.channels_last)

    def forward(self, images_B3HW: Tensor) -> Tensor:
        """Returns anomaly maps (B, H, W) in [0, 1], higher is anomalous, for RGB in [0, 1]."""
        if self.options.bank_weight:
            return self._summed(self.evidence(images_B3HW))
        size = (images_B3HW.shape[-2], images_B3HW.shape[-1])
        _, logits = self.judge(self.features(images_B3HW), size)
        return logits.float().softmax(dim=1)[:, 1]

    def _summed(self, evidence_EBHW: Tensor) -> Tensor:
        """Returns all evidence as one score in (0, 1), which never saturates."""
        mean, deviation = self.levels[:, :, None, None, None].unbind(1)
        weights = self.levels.new_tensor(self.weights) / sum(self.weights)
        total = torch.tensordot(weights, (evidence_EBHW - mean) / deviation, 1) - HALF_WAY
        return 0.5 + 0.5 * total / (1 + total.abs())

    @torch.no_grad()
    def calibrate(self, normal: Iterable[tuple[Tensor, Tensor | None]]) -> None:
        """Measures mean and deviation of each kind of evidence over normal images."""
        if not self.options.bank_weight:
            return
        sums = torch.zeros(len(self.weights), 2, dtype=torch.float64)
        count = 0
        for images, own in normal:
            found = self.evidence(images, own).flatten(1).double().cpu()
            sums += torch.stack([found.sum(1), found.square().sum(1)], dim=1)
            count += found.shape[1]
        mean, square = (sums / count).unbind(1)
        deviation = (square - mean.square()).clamp_min(1e-12).sqrt()
        self.levels.copy_(torch.stack([mean, deviation], dim=1))

    def steps(self, images_B3HW: Tensor) -> dict[str, Tensor]:
        """Returns the residual maps that RRS chooses: the six largest of each half, and the score.

        A map is named by its layer (as in `layers`), the channel of the
        backbone where a channel was kept as it is, and what it was chosen by; its scale is its own.
        """
        size = (images_B3HW.shape[-2], images_B3HW.shape[-1])
        _, residuals, distance = self.witnesses(self.features(images_B3HW))
        chosen = self.rrs.choose(residuals)[0]
        half = self.rrs.outputs // 2 if self.rrs.mode == "max&avg" else self.rrs.outputs
        names = self._channel_names()
        found: dict[str, Tensor] = {"input": images_B3HW}
        for by, part in zip(self.rrs.by, chosen.split(half), strict=True):
            for index in part[:SHOWN].tolist():
                found[f"{by} {names[index]}"] = maps.shown(residuals[:, index : index + 1], size)
        if distance is not None:
            found["distance to memory"] = maps.shown(distance.mean(1, keepdim=True), size)
        if self.whole is not None:
            found["whole image"] = maps.shown(self.whole(self.features(images_B3HW)[-1]), size)
        return found | {"score": self(images_B3HW)}

    def _channel_names(self) -> list[str]:
        names = []
        for block in self.blocks:
            for layer in block:
                reduction = self.reductions[layer]
                kept = [f"p{i}" for i in range(self.kept[layer])]
                if self.options.reduction != "rlpr":
                    kept = [str(i) for i in reduction.index.tolist()]  # type: ignore[operator]
                names += [f"L{self.options.layers[layer]}:{channel}" for channel in kept]
        return names

    def stages(self, options: TrainOptions, images: int) -> list[Stage]:
        """Returns the one stage of Eq. 6: reconstruction and discriminator together, by Adam."""
        if self.options.whole and not options.holdout:
            raise UserError("whole is measured against held-out normal images: give --holdout 0.1")
        total = options.total_steps(images)
        return [
            Stage(
                name="joint",
                steps=total,
                trained=(self.reconstructions, self.rrs, self.discriminator),
                optimizer=lambda trained: torch.optim.Adam(
                    trained, lr=options.learning_rate, fused=True
                ),
                rate=lambda done: options.rate(done, total),
            )
        ]

    def constants(self, stage: str, images_B3HW: Tensor, indices_B: Tensor) -> list[Tensor]:  # noqa: ARG002
        """Returns what normal images need computed once, float32.

        That is their selected features per block, and the distances to others' members of a memory;
        where the memory restores, the residuals and these distances.
        """
        features = self.features(images_B3HW)
        if self.bank is None:
            return [f.float() for f in features]
        whole = self.joined(features)
        nearest, distance = self.bank(whole, indices_B)
        if not self.reconstructions:
            return [(whole - nearest).square(), distance]
        return [*(f.float() for f in features), distance]

    def losses(self, stage: str, inputs: Inputs) -> dict[str, Tensor]:  # noqa: ARG002
        """Returns Eq. 6: reconstruction error summed over blocks, cross-entropy against the masks.

        The normal half (A = I) needs no further pass through the backbone. A memory learns nothing,
        so that there the cross-entropy is all.
        """
        count, masks_AHW, constants = len(inputs.masks_AHW), inputs.masks_AHW, inputs.constants
        size = (masks_AHW.shape[-2], masks_AHW.shape[-1])
        changed = self.features(inputs.anomalous_A3HW)
        distance = None
        if self.bank is not None:
            *constants, near = constants
            whole = self.joined(changed)
            nearest, far = self.bank(whole, inputs.indices_B[:count])
            distance = torch.cat([far, near[count:]])
        parts: dict[str, Tensor] = {}
        if self.reconstructions:
            seen = [
                torch.cat([a.to(n.dtype), n[count:]])
                for a, n in zip(changed, constants, strict=True)
            ]
            restored = [net(x) for net, x in zip(self.reconstructions, seen, strict=True)]
            residual = maps.residuals(seen, restored)
            parts["reconstruction"] = torch.stack([
                functional.mse_loss(y.float(), n.float())
                for y, n in zip(restored, constants, strict=True)
            ]).sum()  # fmt: skip
        else:
            residual = torch.cat([(whole - nearest).square(), constants[0][count:]])
        logits = self.decide(residual, distance, size)
        target = torch.zeros((len(logits), *size), dtype=torch.long, device=logits.device)
        target[:count] = masks_AHW.long()
        parts["segmentation"] = functional.cross_entropy(logits.float(), target)
        return parts

    @torch.no_grad()
    def prepare(self, training: TrainingSet, seed: int) -> dict[str, Any]:
        """Fixes the statistics of a random backbone, the kept channels and their scales.

        The fact `afs_losses` is [layer][channel] (Eq. 4, summed over batches); [] for RDR and RLPR.
        """
        if self.options.weights == "random":
            backbones.calibrate(self.backbone, training.normal)
        reductions = [r for r in self.reductions if isinstance(r, afs.Reduction)]
        losses = preparation.select(
            reductions, self.layers, training.pairs, self.options.reduction, seed
        )
        side, around = self.options.whole, self.options.bank_neighbourhood
        draw = preparation.Draw(training.images, seed, side, around) if self.options.bank else None
        if self.options.standardise or draw is not None:
            preparation.survey(
                reductions,
                self.layers,
                training.normal,
                standardise=self.options.standardise,
                draw=draw,
            )
        found: dict[str, Any] = {"afs_losses": losses}
        if self.bank is not None and draw is not None:
            scales = torch.cat([reduction.scale for reduction in reductions])
            found["bank"] = draw.fill(self.bank, scales)
            if side:
                self.whole = draw.whole(reductions[-1].scale)
                self.whole.to(scales.device)
                found["whole"] = len(self.whole.components)
        return found


def build(options: Options, seed: int) -> RealNet:
    """Returns an untrained RealNet with its backbone's weights; a function of the seed."""
    backbone = backbones.build(options.backbone_options(seed))
    return _assembled(backbone, options, seed)


def restore(options: Options, seed: int, facts: dict[str, Any]) -> RealNet:
    """Returns the structure for a checkpoint's tensors, backbone included; reads no weights."""
    backbone = backbones.empty(options.backbone_options(seed), str(facts["backbone"]))
    model = _assembled(backbone, options, seed)
    if options.whole:
        model.whole = WholeImage(model.kept[-1], options.whole, int(facts["whole"]))
    return model


def _assembled(backbone: Backbone, options: Options, seed: int) -> RealNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "realnet"))
        return RealNet(backbone, options)
