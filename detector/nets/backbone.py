"""The frozen backbone: a timm network in eval mode, from images to features of several strides.

Weights come from one of five places, each named, none ever standing in for another:

    FILE               a state dict (safetensors, or torch read with weights_only)
    pip                an installed package that brings them (sia_gen/core/pip_weights.py)
    pretrained[:TAG]   timm's own download, of its default or the named tag; `racm` finds racm_in1k
    random             a seeded initialisation, its BatchNorm calibrated on normal training images;
                       called NAME@random-seedS so that no result can pass it off as pre-trained
    none               for the networks of dct.py, which have no weights, and for them alone

A name may carry the tag as well (wide_resnet50_2.tv_in1k): with a FILE it says which weights' input
normalisation holds. The label of pretrained weights always names the tag: `wide_resnet50_2` alone
means other weights in timm than in torchvision.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from detector.nets import dct
from sia_gen.core.errors import UserError, near_names
from sia_gen.core.pip_weights import PIP, lite_weights, renamed
from sia_gen.core.store.archives import check_zip
from sia_gen.core.store.foreign import reason, require_weights


@dataclass(frozen=True, kw_only=True)
class BackboneOptions:
    """What is asked for: timm's name, where the weights come from, which feature layers, the seed
    of random weights, and mean and standard deviation where timm's own are not wanted."""

    name: str
    weights: str
    layers: tuple[int, ...]
    seed: int = 0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


class Backbone(nn.Module):
    """A frozen feature network; stays in eval mode whatever is asked of the model around it."""

    mean: Tensor
    std: Tensor

    def __init__(
        self, net: nn.Module, label: str, mean: tuple[float, ...], std: tuple[float, ...]
    ) -> None:
        super().__init__()
        self.net = net
        self.label = label
        info: Any = net.feature_info
        self.channels: list[int] = list(info.channels())
        self.strides: list[int] = list(info.reduction())
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> Backbone:  # noqa: ARG002
        """Keeps eval mode: running statistics of a frozen network are constants."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images_B3HW: Tensor) -> list[Tensor]:
        """Returns the features of RGB images in [0, 1], finest layer first, each (B, C_k, h, w)."""
        return list(self.net((images_B3HW - self.mean) / self.std))

    def state_sha256(self) -> str:
        """Returns the SHA-256 of names, shapes and bytes of the loaded state, sorted by name."""
        digest = hashlib.sha256()
        for name, value in sorted(self.net.state_dict().items()):
            digest.update(f"{name}:{value.dtype}:{tuple(value.shape)}\n".encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        return digest.hexdigest()


def build(options: BackboneOptions) -> Backbone:
    """Returns the frozen backbone that the options ask for; `random` still awaits `calibrate`."""
    import timm

    if options.name in dct.NAMES or options.weights == "none":
        return _without_weights(options)
    plain, _, own_tag = options.name.partition(".")
    if not timm.is_model(plain):
        known = [*timm.list_models(), *dct.NAMES]
        raise UserError(
            f"backbone {options.name!r} is unknown to timm.{_near(options.name, known)}"
        )
    wanted: dict[str, Any] = {"features_only": True, "out_indices": options.layers}
    pretrained = options.weights.partition(":")[0] == "pretrained"
    asked = options.weights.partition(":")[2] if pretrained else ""
    tag = _tag(plain, asked or own_tag, default=pretrained)
    label = full = f"{plain}.{tag}" if tag else plain
    if options.weights == "random":
        label = f"{options.name}@random-seed{options.seed}"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        try:
            net = timm.create_model(full, pretrained=pretrained, **wanted)
        except Exception as error:  # timm raises many kinds, down to those of the network stack
            raise UserError(_why_not(options, pretrained, error)) from error
    if options.weights != "random" and not pretrained:
        path = lite_weights(plain) if options.weights == PIP else Path(options.weights)
        state = read_state(path)
        if options.weights == PIP:
            state = renamed(state, _whole_network(plain), f"weights {path} of {plain}")
        _load_state(net, plain, state, path)
        label = f"{options.name}@{path.name}"
    config: Mapping[str, Any] = net.pretrained_cfg
    mean = options.mean or tuple(config["mean"])
    std = options.std or tuple(config["std"])
    return _backbone(net, label, mean, std)


def empty(options: BackboneOptions, label: str) -> Backbone:
    """Returns the backbone's structure for a checkpoint that holds its weights; reads no others."""
    weights = "none" if options.name in dct.NAMES else "random"
    backbone = build(BackboneOptions(**{**vars(options), "weights": weights}))
    backbone.label = label
    return backbone


def _without_weights(options: BackboneOptions) -> Backbone:
    """Returns a network of dct.py; UserError where weights are asked for, or another has none."""
    if options.name not in dct.NAMES:
        raise UserError(
            f"backbone {options.name} needs weights: give a file, `pretrained` or `random`"
            f" (`none` is for {', '.join(dct.NAMES)})"
        )
    if options.weights != "none":
        raise UserError(
            f"backbone {options.name} has no weights to load: give --weights none, not"
            f" {options.weights!r}"
        )
    mean, std = options.mean or (0.5,) * 3, options.std or (0.25,) * 3
    return _backbone(dct.DCTFeatures(options.name, options.layers), options.name, mean, std)


def _backbone(
    net: nn.Module, label: str, mean: tuple[float, ...], std: tuple[float, ...]
) -> Backbone:
    if len(mean) != 3 or len(std) != 3:
        raise UserError(f"backbone {label}: mean and std need 3 values each")
    return Backbone(net, label, mean, std)


def _tag(name: str, asked: str, *, default: bool) -> str:
    """Returns the whole tag of weights: the one that is named or begun, or timm's default."""
    import timm

    known = sorted(n.partition(".")[2] for n in timm.list_pretrained(f"{name}.*"))
    if not asked:
        return str(timm.get_pretrained_cfg(name, allow_unregistered=True).tag) if default else ""
    found = [t for t in known if t == asked] or [t for t in known if t.startswith(f"{asked}_")]
    if len(found) != 1:
        shown = ", ".join(known) or "none"
        raise UserError(f"weights {asked!r} of {name} are unknown to timm: its tags are {shown}")
    return found[0]


def _near(name: str, known: list[str]) -> str:
    near = near_names(name, known)
    return near if "mean" in near else " `timm.list_models()` lists the known names."


def _why_not(options: BackboneOptions, pretrained: bool, error: Exception) -> str:
    what = " ".join(str(error).split())[:300]
    if pretrained:
        return (
            f"timm could not provide weights {options.weights!r} of {options.name} ({what}): check"
            " the tag and the network, or download them elsewhere and give --weights FILE"
        )
    return f"backbone {options.name} with layers {list(options.layers)} cannot be built: {what}"


def read_state(path: Path) -> dict[str, Tensor]:
    """Returns the tensors of a weights file; runs no code from it."""
    if path.is_dir():
        raise UserError(f"weights {path} is a folder: give the weights file")
    if not path.is_file():
        raise UserError(
            f"weights {path} do not exist: give a safetensors or torch file, `pip` (an installed"
            " package), `pretrained` (timm downloads it) or `random`"
        )
    require_weights(path, "weights")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        check_zip(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # safetensors, pickle and zip each raise their own kinds
        raise UserError(f"weights {path} cannot be read safely: {reason(error)}") from error
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise UserError(f"weights {path} hold no state dict of tensors")
    return {name.removeprefix("module."): value for name, value in content.items()}


def _load_state(net: nn.Module, name: str, state: dict[str, Tensor], path: Path) -> None:
    own = net.state_dict()
    # features_only wraps some families (convnext) as a flat list: `stages.0` becomes `stages_0`.
    fitting = {_own_name(name, own): value for name, value in state.items()}
    missing = [n for n in own if n not in fitting and not n.endswith("num_batches_tracked")]
    if missing:
        raise UserError(
            f"weights {path} lack {len(missing)} of the backbone's tensors, e.g."
            f" {', '.join(missing[:5])}: give the weights of this very architecture"
        )
    wrong = [n for n in own if n in fitting and fitting[n].shape != own[n].shape]
    if wrong:
        first = wrong[0]
        raise UserError(
            f"weights {path}: {first} has shape {tuple(fitting[first].shape)}, the backbone needs"
            f" {tuple(own[first].shape)}; give the weights of this very architecture"
        )
    # Tensors that features_only leaves out (later stages, the head) are known by their names in
    # the whole network; any other tensor means that the file belongs to something else.
    foreign = [n for n in state if _own_name(n, own) not in own]
    strange = sorted(set(foreign) - set(_whole_network(name))) if foreign else []
    if strange:
        raise UserError(
            f"weights {path} hold {len(strange)} tensors that the backbone does not know, e.g."
            f" {', '.join(strange[:5])}"
        )
    for key in own:
        if key in fitting and not torch.isfinite(fitting[key].float()).all():
            raise UserError(f"weights {path}: {key} holds NaN or infinite values")
    # Only the counters num_batches_tracked may be absent: old files lack them, eval ignores them.
    net.load_state_dict({key: fitting.get(key, value) for key, value in own.items()})


def _own_name(name: str, own: Mapping[str, Tensor]) -> str:
    if name in own:
        return name
    head, dot, rest = name.partition(".")
    flattened = f"{head}_{rest}" if dot else name
    return flattened if flattened in own else name


def _whole_network(name: str) -> dict[str, Tensor]:
    """Returns the tensors of the whole classifier, on no device: names and shapes in order."""
    import timm

    with torch.device("meta"):
        return dict(timm.create_model(name, pretrained=False).state_dict())


@torch.no_grad()
def calibrate(backbone: Backbone, batches: Iterable[Tensor]) -> None:
    """Sets a random backbone's BatchNorm statistics to those of normal training images.

    Without this an untrained network in eval mode has arbitrary scales from layer to layer. The
    statistics are plain averages over the batches, which must be the same in every run.
    """
    layers = [m for m in backbone.net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a cumulative average
        layer.training = True
    for images in batches:
        backbone(images)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
        layer.training = False
