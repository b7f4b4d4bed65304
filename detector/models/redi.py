"""ReDi: recover the normal image from hints of it, then tell the two apart in feature space.

Stage `recover`: self-generated map + prompt image -> recovered image. Stage `discriminate`: frozen
features of the recovered image -> Feature Recovery Block -> features that equal the image's own
where it is normal. Xing et al., "A Recover-then-Discriminate Framework for Robust Anomaly
Detection". Learns from normal images alone; without recovery and self-correlation it is RD.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from detector.model import Detector, Inputs, Stage, TrainingSet
from detector.nets import backbone as backbones
from detector.nets.backbone import Backbone
from detector.nets.redi import distance, recovery, reference, self_map
from detector.nets.redi.choices import Options
from detector.nets.redi.msgms import msgms_loss
from detector.nets.redi.prompts import PromptBank, to_pixels
from detector.nets.redi.recover import STRIDE, AutoEncoder
from detector.nets.redi.recovery_block import RecoveryBlock
from detector.options import TrainOptions
from sia_gen.core.errors import UserError
from sia_gen.core.seeds import derive_seed

PAIRS = False


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a ReDi sees in images: the steps from input to score, for pictures and for the maps.

    recovered_B3RR in [0, 1] (the image itself without recovery); layers_BnRR the distance in each
    layer; maps_BRR their weighted sum, smoothed.
    """

    recovered_B3RR: Tensor
    layers_BnRR: Tensor
    maps_BRR: Tensor


class ReDi(Detector):
    """The recover network, the frozen backbone, and the block that recovers features."""

    def __init__(
        self, backbone: Backbone, options: Options, seed: int, bank: list[int] | None
    ) -> None:
        super().__init__()
        self.backbone, self.options = backbone, options
        self.count = len(options.layers)
        channels, strides = backbone.channels[: self.count], backbone.strides[: self.count]
        self.scaling = reference.Scaling(channels, options.scaling)
        self.recovery: recovery.Recovery | None = None
        self.describer: AutoEncoder | None = None
        self._described = False
        if options.recover != "none":
            prompts = None
            if options.prompted:
                count, width, side = bank or (0, 0, 1)
                prompts = PromptBank(count, width, side, rank=options.prompt_rank)
                if options.prompt == "self_supervised":
                    self.describer = AutoEncoder(max(options.recover_width // 2, 1))
            maps = self_map.SelfMap(
                options.map,
                bins=options.map_bins,
                cell=options.map_cell,
                colour=options.map_colour,
                scale=options.map_scale,
                quantile=options.map_quantile,
                thresholds=(options.canny[0], options.canny[1]),
            )
            self.recovery = recovery.Recovery(
                options.recover,
                maps,
                prompts,
                options.recover_width,
                seed,
                smooth=options.smooth_start,
            )
        self.block: nn.Module
        if options.block == "frb":
            self.block = RecoveryBlock(
                channels,
                strides,
                options.aggregation_blocks,
                options.decoder_blocks,
                linear=options.linear_features,
            )
        else:
            self.block = reference.Learnable(backbone, self.count)

    def check_resolution(self, resolution: int) -> None:
        """Raises UserError where a scale cannot be halved and doubled back."""
        wanted = 1
        if self.options.recover != "none":
            wanted = STRIDE
        if self.options.block == "frb":
            wanted = max(wanted, 2 * self.backbone.strides[self.count - 1])
        if resolution % wanted:
            raise UserError(
                f"resolution {resolution} does not suit layers {list(self.options.layers)}: give a"
                f" multiple of {wanted}"
            )
        if self.recovery is not None and self.options.map == "hog":
            cell = self.options.map_cell
            if resolution < cell:
                raise UserError(f"resolution {resolution} is smaller than a HOG cell of {cell}")

    @torch.no_grad()
    def prepare(self, training: TrainingSet, seed: int) -> dict[str, Any]:
        """Fixes the constants of a run: feature scales, the map's gain, the prompt bank."""
        del seed
        if self.options.weights == "random":
            backbones.calibrate(self.backbone, training.normal)
        images, descriptions = [], []
        prompted = self.options.prompted

        def passes() -> Any:
            for part in training.normal:
                features = self.backbone(part)
                if prompted:
                    images.append(to_pixels(part))
                    if self.options.uses_retrieval_layer:
                        descriptions.append(features[-1].mean((2, 3)))
                    else:  # comes with the self-supervised network, once it is trained
                        descriptions.append(torch.zeros(len(part), 1, device=part.device))
                yield features[: self.count]

        self.scaling.measure(passes(), self.options.linear_features)
        facts: dict[str, Any] = {}
        if self.recovery is not None:
            facts["map_gain"] = self.recovery.map.fix_gain(training.normal)
            if self.recovery.bank is not None:
                self.recovery.bank.fill(
                    torch.cat(images), torch.cat(descriptions), self.options.bank_limit
                )
                if self.describer is not None:
                    self._describe_bank()
                facts["bank"] = self.recovery.bank.shape
        return facts

    def stages(self, options: TrainOptions, images: int) -> list[Stage]:
        """Returns `describe` (self-supervised prompts only), `recover` and `discriminate`."""
        own, total = self.options, options.total_steps(images)
        plans: list[tuple[str, nn.Module, int, float, tuple[float, ...]]] = []
        left = total
        if self.describer is not None:
            steps = max(1, round(total * own.describe_share))
            plans.append(("describe", self.describer, steps, own.recover_lr, ()))
            left -= steps
        if self.recovery is not None:
            steps = max(1, round(left * own.recover_share))
            net = self.recovery.net
            plans.append(("recover", net, steps, own.recover_lr, own.recover_drops))
            left -= steps
        plans.append(("discriminate", self.block, left, options.learning_rate, own.drops))
        if left < 1:
            raise UserError(f"{total} steps are too few for {len(plans)} stages: give more")
        return [
            Stage(
                name=name,
                steps=steps,
                trained=(module,),
                optimizer=self._optimizer,
                rate=_rate(options, lr, drops, own.warmup, steps),
            )
            for name, module, steps, lr, drops in plans
        ]

    def _optimizer(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        own = self.options
        kind = torch.optim.AdamW if own.optimizer == "adamw" else torch.optim.Adam
        return kind(parameters, betas=(own.beta1, 0.999), weight_decay=own.weight_decay, fused=True)

    def constants(self, stage: str, images_B3HW: Tensor, indices_B: Tensor) -> list[Tensor]:
        """Returns what a stage needs of normal images; nothing augments them, so it is constant."""
        del indices_B
        if stage == "describe":
            return [to_pixels(images_B3HW)]
        if self.describer is not None and not self._described:
            self._describe_bank()
        # In full precision, as in inference: prompts shall not depend on the training's precision.
        with torch.autocast(images_B3HW.device.type, enabled=False):
            features, description = self.reference(images_B3HW)
        if stage == "recover":
            assert self.recovery is not None
            return self.recovery.known(images_B3HW, description)
        if self.recovery is None:
            return features if self.options.block == "frb" else [*features, images_B3HW]
        recovered = self.recovery(images_B3HW, description)
        if self.options.block == "encoder":
            return [*features, recovered]
        found = self.scaling(reference.shallow(self.backbone, recovered, self.count))
        return [*features, *(f.float() for f in found)]

    def losses(self, stage: str, inputs: Inputs) -> dict[str, Tensor]:
        """Returns the two parts of a stage's loss (Eqs. 4 and 9)."""
        if stage == "discriminate":
            return self._discriminate(inputs.constants)
        if stage == "describe":
            assert self.describer is not None
            true = inputs.constants[0].float().div(127.5).sub(1)
            recovered = self.describer(true)
        else:
            assert self.recovery is not None
            recovered, true = self.recovery.train_step(inputs.constants, inputs.indices_B)
        found = {"squared": functional.mse_loss(recovered.float(), true)}
        if stage == "recover":
            with torch.autocast(true.device.type, enabled=False):
                pair = (true.add(1).div(2), recovered.float().add(1).div(2))
                gradients = msgms_loss(*pair, self.options.gms)
            found["gradients"] = self.options.lambda_m * gradients
        return found

    def _discriminate(self, constants: list[Tensor]) -> dict[str, Tensor]:
        features = constants[: self.count]
        rest = constants[self.count :] or features
        recovered = self._recovered(rest if self.options.block == "frb" else rest[0])
        found = {"cosine": distance.cosine_loss(features, recovered, self.options.cosine)}
        if self.options.lambda_s > 0:
            correlation = distance.correlation_loss(features, recovered, self.options.correlation)
            found["self_correlation"] = self.options.lambda_s * correlation
        return found

    def _recovered(self, given: Any) -> list[Tensor]:
        found: list[Tensor] = self.block(given)
        return found if self.options.block == "frb" else self.scaling(found)

    def reference(self, images_B3HW: Tensor) -> tuple[list[Tensor], Tensor | None]:
        """Returns the reference features F_X and the description by which a prompt is sought."""
        features = self.backbone(images_B3HW)
        kept = self.scaling(features[: self.count])
        if self.options.uses_retrieval_layer:
            return kept, features[-1].mean((2, 3))
        if self.describer is not None:
            return kept, self.describer.describe(images_B3HW * 2 - 1)
        return kept, None

    @torch.no_grad()
    def _describe_bank(self) -> None:
        assert self.recovery is not None and self.recovery.bank is not None
        assert self.describer is not None
        bank, described = self.recovery.bank, []
        self.describer.eval()
        with torch.autocast(bank.images.device.type, enabled=False):
            for part in bank.images.split(16):
                described.append(self.describer.describe(part.float().div(127.5).sub(1)))
        bank.features = functional.normalize(torch.cat(described), dim=1)
        self._described = True

    def parts(self, images_B3HW: Tensor) -> Parts:
        """Returns the steps from images in [0, 1] to score maps: one pass over X, one over Y."""
        size = images_B3HW.shape[-1]
        features, description = self.reference(images_B3HW)
        shown, given = images_B3HW, features
        if self.recovery is not None:
            shown = self.recovery(images_B3HW, description)
            if self.options.block == "frb":
                given = self.scaling(reference.shallow(self.backbone, shown, self.count))
        recovered = self._recovered(given if self.options.block == "frb" else shown)
        layers = distance.layer_maps(features, recovered, size)
        weights = layers.new_tensor(self.options.layer_weights).view(1, -1, 1, 1)
        total = distance.smooth((layers * weights).sum(1, keepdim=True), self.options.sigma)
        return Parts(recovered_B3RR=shown, layers_BnRR=layers, maps_BRR=total[:, 0])

    def check_export(self) -> None:
        """Raises UserError for Canny maps: their hysteresis is no tensor operation."""
        if self.recovery is not None and self.options.map == "canny":
            raise UserError(
                "a detector with map canny cannot be exported: give predict, or train with hog,"
                " sobel or roberts"
            )

    def steps(self, images_B3HW: Tensor) -> dict[str, Tensor]:
        """Returns the input, its map, its prompt, the recovered image, layer maps and the score."""
        found = {"input": images_B3HW}
        parts = self.parts(images_B3HW)
        if self.recovery is not None:
            found["map"] = self.recovery.map(images_B3HW).add(1).div(2).expand(-1, 3, -1, -1)
            if self.recovery.bank is not None:
                _, description = self.reference(images_B3HW)
                assert description is not None
                places, _ = self.recovery.bank.choose(images_B3HW, description)
                found["prompt"] = self.recovery.bank.prompts(places).add(1).div(2)
            found["recovered"] = parts.recovered_B3RR
        for i, layer in enumerate(self.options.layers):
            found[f"layer {layer}"] = parts.layers_BnRR[:, i]
        return {**found, "score": parts.maps_BRR}

    def forward(self, images_B3HW: Tensor) -> Tensor:
        """Returns score maps (B, R, R) >= 0 (Eq. 10, smoothed), for RGB images in [0, 1]."""
        return self.parts(images_B3HW).maps_BRR


def _rate(
    options: TrainOptions, lr: float, drops: tuple[float, ...], warmup: int, steps: int
) -> Callable[[int], float]:
    def rate(done: int) -> float:
        ramp = min(1.0, (done + 1) / (warmup + 1))
        factor = options.rate(done, steps) / options.learning_rate
        if options.schedule == "constant":
            factor = 0.5 ** sum(done >= share * steps for share in drops)
        return lr * ramp * factor

    return rate


def build(options: Options, seed: int) -> ReDi:
    """Returns an untrained ReDi with its backbone's weights; a function of the seed."""
    backbone = backbones.build(options.backbone_options(seed))
    return _assembled(backbone, options, seed, None)


def restore(options: Options, seed: int, facts: dict[str, Any]) -> ReDi:
    """Returns the structure for a checkpoint's tensors, prompt bank included; reads no weights."""
    backbone = backbones.empty(options.backbone_options(seed), str(facts["backbone"]))
    return _assembled(backbone, options, seed, facts.get("bank"))


def _assembled(backbone: Backbone, options: Options, seed: int, bank: list[int] | None) -> ReDi:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "redi"))
        return ReDi(backbone, options, derive_seed(seed, "holes"), bank)


def describe(options: Options) -> dict[str, Any]:
    """Returns what a row of results must name of the options."""
    told = ["layers", "recover", "block", "cosine", "lambda_s", "scaling", "sigma"]
    if options.recover != "none":
        told += ["recover_width", "map", "recover_share", "lambda_m", "gms"]
    if options.recover == "hip":
        told += ["prompt"]
    if options.map == "hog" and options.recover != "none":
        told += ["map_bins", "map_cell"]
    values = {name: getattr(options, name) for name in told}
    return {n: list(v) if isinstance(v, tuple) else v for n, v in values.items()}
