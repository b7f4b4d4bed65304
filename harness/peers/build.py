"""One peer as anomalib builds it, with our weights, our normalisation and no crop."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import timm
from torchvision.transforms import v2

from harness.peers import weights
from harness.peers.catalog import PRETRAINED, Peer
from sia_gen.core.coreset import greedy_coreset
from sia_gen.core.errors import UserError

IMAGENET = (0.485, 0.456, 0.406)


def _parameters(cls: Any) -> set[str]:
    return set(inspect.signature(cls.__init__).parameters) - {"self"}


def pre_processor(cls: Any, size: int, backbone: str) -> Any:
    """Returns the class's own pre-processing, without crop, at a size, normalised for the weights.

    A model that does not normalise (it reconstructs the image) keeps not doing so.
    """
    from anomalib.pre_processing import PreProcessor

    # Asked only for its kinds of steps: large enough for any crop, which is then left out.
    own = cls.configure_pre_processor(image_size=(max(size, 448), max(size, 448)))
    steps: list[Any] = [v2.Resize((size, size), antialias=True)]
    transform = getattr(own, "transform", None)
    for step in getattr(transform, "transforms", [transform] if transform is not None else []):
        if isinstance(step, v2.Normalize):
            mean, std = step.mean, step.std
            if backbone and tuple(mean) == IMAGENET:
                mean, std = weights.input_statistics(backbone)
            steps.append(v2.Normalize(mean=list(mean), std=list(std)))
        elif not isinstance(step, v2.Resize | v2.CenterCrop):
            raise UserError(f"{cls.__name__} prepares images by {type(step).__name__}: unknown")
    return PreProcessor(transform=v2.Compose(steps))


def arguments(cls: Any, peer: Peer, spec: dict[str, Any]) -> dict[str, Any]:
    """Returns the constructor's arguments: the backbone's, its layers', and the settings."""
    takes = _parameters(cls)
    unknown = sorted(set(spec["arguments"]) - takes)
    if unknown:
        known = ", ".join(sorted(takes))
        raise UserError(f"--set {peer.name}.{unknown[0]}: {cls.__name__} takes {known}")
    given: dict[str, Any] = dict.fromkeys(
        takes & {"post_processor", "evaluator", "visualizer"}, False
    )
    backbone, size = str(spec["backbone"]), int(spec["size"])
    if peer.backbone and backbone:
        plain = backbone.partition(".")[0]
        # Lists of names in their code know no tags; one that lacks the name is told another.
        known = plain if peer.known(plain) else peer.as_if
        given[peer.backbone] = known if peer.only or peer.as_if else backbone
    if peer.layers and backbone:
        layers = list(spec["layers"]) or weights.layers_of(backbone, peer.strides)
        given[peer.layers] = layers if peer.layers == "layers" else layers[0]
        channels = _channels(backbone, layers)
        if peer.cls == "Padim" and backbone not in {"resnet18", "wide_resnet50_2"}:
            usual = 550 if backbone.startswith("wide_resnet50_2.") else 100
            given["n_features"] = min(usual, sum(channels))
        if peer.cls == "Fre":
            pooled = size // 16 // int(spec["arguments"].get("pooling_kernel_size", 2))
            given["input_dim"] = channels[0] * pooled * pooled
    if peer.textures:
        given[peer.textures] = spec["paths"]["textures"]
    if "pre_processor" in takes:
        given["pre_processor"] = pre_processor(cls, size, backbone)
    return given | spec["arguments"]


def _channels(backbone: str, layers: list[str]) -> list[int]:
    info: Any = timm.create_model(backbone, pretrained=False, features_only=True).feature_info
    by_name = {entry["module"]: entry["num_chs"] for entry in info.info}
    unknown = [layer for layer in layers if layer not in by_name]
    if unknown:
        raise UserError(
            f"--layers {unknown[0]}: {backbone} has the feature layers {', '.join(by_name)}"
        )
    return [int(by_name[layer]) for layer in layers]


@contextmanager
def fast_coreset() -> Iterator[None]:
    """Lets anomalib's greedy coreset choose several members between two passes over the features.

    The projection, the random first member, the distances and the rule are its own, and so is the
    result up to rounding.
    """
    import torch
    from anomalib.models.components.sampling.k_center_greedy import KCenterGreedy

    plain = KCenterGreedy.select_coreset_idxs

    def select(self: Any) -> list[int]:
        features = self.embedding
        if features.ndim == 2:
            self.model.fit(features)
            features = self.model.transform(features)
        features = features.reshape(len(features), -1).cpu()
        first = int(torch.randint(high=self.n_observations, size=(1,)))
        return greedy_coreset(features.numpy(), self.coreset_size, first).tolist()

    KCenterGreedy.select_coreset_idxs = select
    try:
        yield
    finally:
        KCenterGreedy.select_coreset_idxs = plain


def build(peer: Peer, spec: dict[str, Any], stack: ExitStack) -> tuple[Any, dict[str, Any]]:
    """Returns the peer's Lightning module and the arguments it was built with.

    What it must not fetch stays barred until the stack ends.
    """
    import anomalib.models.image as offered

    cls = getattr(offered, peer.cls)
    file = str(spec["paths"]["weights"])
    loaded: list[str] | None = None
    if file != PRETRAINED and peer.backbone and spec["backbone"]:
        loaded = stack.enter_context(weights.local(str(spec["backbone"]), Path(file), peer.as_if))
    elif file != PRETRAINED:
        stack.enter_context(weights.no_trained_networks())
    stack.enter_context(fast_coreset())
    given = arguments(cls, peer, spec)
    module = cls(**given)
    if loaded is not None and not loaded:
        raise UserError(f"{peer.cls} asked for no trained backbone: the weights were not used")
    return module, _plain(given)


def _plain(given: dict[str, Any]) -> dict[str, Any]:
    """Returns the arguments that a record can hold: numbers, texts, lists of them."""
    kinds = (str, int, float, list, tuple, type(None))
    return {k: v for k, v in sorted(given.items()) if isinstance(v, kinds) and v is not False}
