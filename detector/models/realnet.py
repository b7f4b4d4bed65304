"""RealNet: reconstruct a frozen backbone's selected features, and judge what could not be restored.

Image -> backbone -> feature selection (AFS) -> reconstruction U-Nets -> squared residuals ->
residual selection (RRS) -> discriminator -> anomaly map. Zhang et al., CVPR 2024.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from detector.model import Detector, Inputs, Stage, TrainingSet
from detector.nets import afs, rrs
from detector.nets import backbone as backbones
from detector.nets.backbone import Backbone, BackboneOptions
from detector.nets.discriminator import Discriminator
from detector.nets.folding import folded
from detector.nets.reconstruction import KINDS, PlainNetwork, ReconstructionUNet
from sia_gen.core.errors import UserError
from sia_gen.core.seeds import derive_seed

if TYPE_CHECKING:
    from detector.options import TrainOptions

PAIRS = True
SHOWN = 6  # residual maps of each kind in a picture

# Which layers share a reconstruction network (appendix C.4): A each its own, B all one, C pairs.
ARCHITECTURES = ("A", "B", "C")


@dataclass(frozen=True, kw_only=True)
class Options:
    """The parts of a RealNet; the defaults are the paper's.

    `channels` are the kept dimensions m_k of each layer, or shares of the layer's own below 1 (one
    share serves all layers). `reconstruction` is the paper's unet, or plain. `standardise` divides
    kept features by their standard deviation over normal images, so that Eq. 5 weighs the channels
    alike: some backbones (MobileNetV2) have linear features of very unlike scales.
    """

    backbone: str = "wide_resnet50_2"
    weights: str = "pretrained"
    layers: tuple[int, ...] = (1, 2, 3, 4)
    channels: tuple[float, ...] = (256, 512, 512, 256)
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    reduction: str = "afs"
    afs_batches: int = 64
    standardise: bool = False
    architecture: str = "A"
    reconstruction: str = "unet"
    unet_blocks: int = 2
    unet_attention: bool = True
    rrs: str = "max&avg"
    rrs_ratio: float = 1 / 3

    def __post_init__(self) -> None:
        """Refuses values that no RealNet has, naming the option."""
        for option, value, known in (
            ("reduction", self.reduction, afs.MODES),
            ("rrs", self.rrs, rrs.MODES),
            ("architecture", self.architecture, ARCHITECTURES),
            ("reconstruction", self.reconstruction, KINDS),
        ):
            if value not in known:
                raise UserError(f"{option} {value!r} is not one of {', '.join(known)}")
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
        if not 0 < self.rrs_ratio <= 1:
            raise UserError(f"rrs_ratio {self.rrs_ratio} is not in (0, 1]")
        if self.afs_batches < 1 or self.unet_blocks < 1:
            raise UserError("afs_batches and unet_blocks must be at least 1")

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


class RealNet(Detector):
    """The network; its backbone and its channel selection are constants of a run."""

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
        self.blocks = _blocks(len(options.layers), options.architecture)
        self.reductions = nn.ModuleList(
            afs.Reduction(have, keep, options.reduction)
            for have, keep in zip(backbone.channels, self.kept, strict=True)
        )
        widths = [sum(self.kept[i] for i in block) for block in self.blocks]
        self.reconstructions = nn.ModuleList(
            PlainNetwork(width)
            if options.reconstruction == "plain"
            else ReconstructionUNet(width, options.unet_blocks, options.unet_attention)
            for width in widths
        )
        self.rrs = rrs.ResidualSelection(sum(widths), options.rrs_ratio, options.rrs)
        self.discriminator = Discriminator(self.rrs.outputs)

    def check_resolution(self, resolution: int) -> None:
        """Raises UserError where a block's feature map cannot be halved and doubled back."""
        for block, net in zip(self.blocks, self.reconstructions, strict=True):
            stride = self.backbone.strides[block[0]]
            least = stride * int(net.downsampling)  # type: ignore[arg-type]
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
                features[i] = _resampled(features[i], features[block[0]])
        return features

    def features(self, images_B3HW: Tensor) -> list[Tensor]:
        """Returns the selected features per block, the phi_k(.) of Eq. 5; constants of a run."""
        layers = self.layers(images_B3HW)
        kept = [reduce(x) for reduce, x in zip(self.reductions, layers, strict=True)]
        return [torch.cat([kept[i] for i in block], dim=1) for block in self.blocks]

    def judge(self, features: list[Tensor], size: tuple[int, int]) -> tuple[list[Tensor], Tensor]:
        """Returns the reconstructed features per block, and logits (B, 2, *size)."""
        restored = [net(x) for net, x in zip(self.reconstructions, features, strict=True)]
        residuals = [
            (x.float() - y.float()).square() for x, y in zip(features, restored, strict=True)
        ]
        return restored, self.discriminator(self.rrs(rrs.align(residuals)), size)

    def inference_form(self) -> Detector:
        """Turns the network into its faster form for maps alone, in place, and returns it."""
        super().inference_form()
        generator = torch.Generator().manual_seed(0)
        residuals = torch.rand(1, self.rrs.outputs, 16, 16, generator=generator)
        residuals = residuals.to(self.backbone.mean.device)
        self.discriminator = folded(self.discriminator, (residuals, (64, 64)))  # type: ignore[assignment]
        return self.to(memory_format=torch.channels_last)

    def forward(self, images_B3HW: Tensor) -> Tensor:
        """Returns anomaly maps (B, H, W) in [0, 1], higher is anomalous, for RGB in [0, 1]."""
        size = (images_B3HW.shape[-2], images_B3HW.shape[-1])
        _, logits = self.judge(self.features(images_B3HW), size)
        return logits.float().softmax(dim=1)[:, 1]

    def steps(self, images_B3HW: Tensor) -> dict[str, Tensor]:
        """Returns the residual maps that RRS chooses: the six largest of each half, and the score.

        A map is named by its layer (as in `layers`), the channel of the
        backbone where a channel was kept as it is, and what it was chosen by; its scale is its own.
        """
        size = (images_B3HW.shape[-2], images_B3HW.shape[-1])
        features = self.features(images_B3HW)
        restored = [net(x) for net, x in zip(self.reconstructions, features, strict=True)]
        residuals = rrs.align(
            [(x.float() - y.float()).square() for x, y in zip(features, restored, strict=True)]
        )
        chosen = self.rrs.choose(residuals)[0]
        half = self.rrs.outputs // 2 if self.rrs.mode == "max&avg" else self.rrs.outputs
        names = self._channel_names()
        found: dict[str, Tensor] = {"input": images_B3HW}
        for by, part in zip(self.rrs.by, chosen.split(half), strict=True):
            for index in part[:SHOWN].tolist():
                one = residuals[:, index : index + 1]
                scaled = functional.interpolate(
                    one / one.amax().clamp_min(1e-12),
                    size=size,
                    mode="bilinear",
                    align_corners=True,
                )
                # Three equal channels: a picture of its own, no summand of the score.
                found[f"{by} {names[index]}"] = scaled.expand(-1, 3, -1, -1)
        logits = self.discriminator(self.rrs(residuals), size)
        return found | {"score": logits.float().softmax(dim=1)[:, 1]}

    def _channel_names(self) -> list[str]:
        names = []
        for block in self.blocks:
            for layer in block:
                reduction = self.reductions[layer]
                kept = (
                    [str(i) for i in reduction.index.tolist()]  # type: ignore[operator]
                    if self.options.reduction != "rlpr"
                    else [f"p{i}" for i in range(self.kept[layer])]
                )
                names += [f"L{self.options.layers[layer]}:{channel}" for channel in kept]
        return names

    def stages(self, options: TrainOptions, images: int) -> list[Stage]:
        """Returns the one stage of Eq. 6: reconstruction and discriminator together, by Adam."""
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
        """Returns the selected features of normal images, float32 per block."""
        return [f.float() for f in self.features(images_B3HW)]

    def losses(self, stage: str, inputs: Inputs) -> dict[str, Tensor]:  # noqa: ARG002
        """Returns Eq. 6: reconstruction error summed over blocks, cross-entropy against the masks.

        The constants are the selected features of all B normal images. The normal half (A = I)
        needs no further pass through the backbone.
        """
        count, masks_AHW, normal = len(inputs.masks_AHW), inputs.masks_AHW, inputs.constants
        size = (masks_AHW.shape[-2], masks_AHW.shape[-1])
        changed = self.features(inputs.anomalous_A3HW)
        seen = [torch.cat([a.to(n.dtype), n[count:]]) for a, n in zip(changed, normal, strict=True)]
        restored, logits = self.judge(seen, size)
        reconstruction = sum(
            (
                functional.mse_loss(y.float(), n.float())
                for y, n in zip(restored, normal, strict=True)
            ),
            start=torch.zeros((), device=logits.device),
        )
        target = torch.zeros((len(logits), *size), dtype=torch.long, device=logits.device)
        target[:count] = masks_AHW.long()
        segmentation = functional.cross_entropy(logits.float(), target)
        return {"reconstruction": reconstruction, "segmentation": segmentation}

    @torch.no_grad()
    def prepare(self, training: TrainingSet, seed: int) -> dict[str, Any]:
        """Fixes the statistics of a random backbone, the kept channels and their scales.

        The fact `afs_losses` is [layer][channel] (Eq. 4, summed over batches); [] for RDR and RLPR.
        """
        if self.options.weights == "random":
            backbones.calibrate(self.backbone, training.normal)
        losses = _select(self, training, seed)
        if self.options.standardise:
            _standardise(self, training.normal)
        return {"afs_losses": losses}


def _blocks(layers: int, architecture: str) -> list[tuple[int, ...]]:
    size = {"A": 1, "B": layers, "C": 2}[architecture]
    return [tuple(range(i, min(i + size, layers))) for i in range(0, layers, size)]


def _resampled(x_BCHW: Tensor, like_BCHW: Tensor) -> Tensor:
    size = (like_BCHW.shape[-2], like_BCHW.shape[-1])
    return functional.interpolate(x_BCHW, size=size, mode="bilinear", align_corners=True)


def build(options: Options, seed: int) -> RealNet:
    """Returns an untrained RealNet with its backbone's weights; a function of the seed."""
    backbone = backbones.build(options.backbone_options(seed))
    return _assembled(backbone, options, seed)


def restore(options: Options, seed: int, facts: dict[str, Any]) -> RealNet:
    """Returns the structure for a checkpoint's tensors, backbone included; reads no weights."""
    backbone = backbones.empty(options.backbone_options(seed), str(facts["backbone"]))
    return _assembled(backbone, options, seed)


def _assembled(backbone: Backbone, options: Options, seed: int) -> RealNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "realnet"))
        return RealNet(backbone, options)


def describe(options: Options) -> dict[str, Any]:
    """Returns what a row of results must name: the parts that the paper's ablations change."""
    return {
        "layers": list(options.layers),
        "channels": list(options.channels),
        "reduction": options.reduction,
        "rrs": options.rrs,
        "rrs_ratio": round(options.rrs_ratio, 6),
        "architecture": options.architecture,
        "reconstruction": options.reconstruction,
    }


def _select(model: RealNet, training: TrainingSet, seed: int) -> list[list[float]]:
    reductions = [layer for layer in model.reductions if isinstance(layer, afs.Reduction)]
    if model.options.reduction != "afs":
        generator = torch.Generator().manual_seed(derive_seed(seed, "reduction"))
        for layer in reductions:
            size = (layer.channels, layer.keep, generator)
            if layer.mode == "rdr":
                layer.index.copy_(afs.random_subset(*size))
            else:
                layer.projection.copy_(afs.random_projection(*size))
        return []
    totals: list[Tensor] = [torch.zeros((), dtype=torch.float64) for _ in reductions]
    for anomalous, plain, mask in training.pairs:
        changed, unchanged = model.layers(anomalous), model.layers(plain)
        for i, (a, n) in enumerate(zip(changed, unchanged, strict=True)):
            totals[i] = totals[i] + afs.channel_losses(a, n, mask).cpu()
    for layer, total in zip(reductions, totals, strict=True):
        layer.index.copy_(afs.smallest(total, layer.keep))
    return [total.tolist() for total in totals]


def _standardise(model: RealNet, normal: Iterable[Tensor]) -> None:
    sums = [torch.zeros(3, keep, dtype=torch.float64) for keep in model.kept]
    for images in normal:
        for total, layer, x in zip(sums, model.reductions, model.layers(images), strict=True):
            kept = layer(x).double().cpu()
            count = torch.full((kept.shape[1],), kept.numel() / kept.shape[1])
            total += torch.stack([count, kept.sum((0, 2, 3)), kept.square().sum((0, 2, 3))])
    for (count, total, squares), layer in zip(sums, model.reductions, strict=True):
        variance = squares / count - (total / count).square()
        layer.scale.copy_(1 / variance.clamp_min(1e-6).sqrt())  # type: ignore[operator]
