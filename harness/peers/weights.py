"""Local weights under anomalib's feet: wherever it asks timm for a trained network.

Every model that takes a timm backbone gets it from `timm.create_model(NAME, pretrained=True)`, the
one switch that all versions share (some have none of their own). Inside `local` that call builds
the network untrained and loads the file; a call for any other trained network is refused.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import timm
import torch
from torch import Tensor, nn

from harness.quality.weights import load_tensors
from sia_gen.core import pip_weights
from sia_gen.core.errors import UserError


class NeedsError(Exception):
    """What a model wants to fetch and is not given: its row will say so."""


def load(network: nn.Module, state: dict[str, Tensor], name: str, where: str) -> None:
    """Loads the part of a whole network's state that a network holds; refuses any other."""
    state = {key.removeprefix("module."): value for key, value in state.items()}
    own = network.state_dict()
    # features_only flattens some families: `stages.0` becomes `stages_0`.
    renamed = {key if key in own else key.replace(".", "_", 1): v for key, v in state.items()}
    lacking = [k for k in own if k not in renamed and not k.endswith("num_batches_tracked")]
    wrong = [k for k in own if k in renamed and renamed[k].shape != own[k].shape]
    if lacking or wrong:
        what = f"lacks {lacking[0]}" if lacking else f"has another shape for {wrong[0]}"
        raise UserError(f"weights {where} do not fit {name}: the file {what}")
    with torch.device("meta"):
        whole = set(timm.create_model(name.partition(".")[0], pretrained=False).state_dict())
    strange = sorted(k for k in state if k not in whole and k not in own)
    if strange:
        raise UserError(f"weights {where} are not of {name}: it does not know {strange[0]}")
    if any(not torch.isfinite(v.float()).all() for k, v in renamed.items() if k in own):
        raise UserError(f"weights {where} hold NaN or infinite values")
    network.load_state_dict({key: renamed.get(key, value) for key, value in own.items()})


def _named(state: dict[str, Tensor], name: str, path: Path) -> dict[str, Tensor]:
    """Returns tensors under timm's names; those of an installed package have others."""
    if not pip_weights.installed(name) or path != pip_weights.lite_weights(name).resolve():
        return state
    with torch.device("meta"):
        whole = timm.create_model(name, pretrained=False).state_dict()
    return pip_weights.renamed(state, whole, f"weights {path} of {name}")


@contextmanager
def local(backbone: str, path: Path, as_if: str = "") -> Iterator[list[str]]:
    """Yields the list of networks that were given the file's weights while the block runs."""
    state, loaded = _named(load_tensors(path), backbone.partition(".")[0], path), []
    create = timm.create_model
    names = {backbone, backbone.partition(".")[0]} | ({as_if} if as_if else set())

    def create_here(model_name: str, pretrained: bool = False, **others: Any) -> nn.Module:
        if model_name in names:
            model_name = backbone
        elif pretrained:
            raise NeedsError(f"a download of {model_name}'s weights")
        network: nn.Module = create(model_name, pretrained=False, **others)
        if pretrained:
            load(network, state, model_name, str(path))
            loaded.append(model_name)
        return network

    with mock.patch.object(timm, "create_model", create_here):
        yield loaded


@contextmanager
def no_trained_networks() -> Iterator[None]:
    """Refuses every trained network of timm while the block runs, cached or not."""
    create = timm.create_model

    def refuse(model_name: str, pretrained: bool = False, **others: Any) -> nn.Module:
        if pretrained:
            raise NeedsError(f"a download of {model_name}'s weights")
        network: nn.Module = create(model_name, pretrained=False, **others)
        return network

    with mock.patch.object(timm, "create_model", refuse):
        yield


@contextmanager
def no_network() -> Iterator[None]:
    """Refuses every connection to another machine while the block runs.

    A library may swallow the refusal or say something else of it: what it wanted is what is told.
    """
    refused: list[str] = []

    def refuse(_: socket.socket, address: Any) -> None:
        host = address[0] if isinstance(address, tuple) else address
        refused.append(f"a download from {host}: only --weights pretrained lets a model fetch")
        raise NeedsError(refused[-1])

    with mock.patch.object(socket.socket, "connect", refuse):
        try:
            yield
        except NeedsError:
            raise
        except Exception as error:
            if refused:
                raise NeedsError(refused[0]) from error
            raise


def input_statistics(backbone: str) -> tuple[list[float], list[float]]:
    """Returns mean and standard deviation of the input that a backbone's weights expect."""
    config = timm.get_pretrained_cfg(backbone, allow_unregistered=True)
    if config is None:
        raise UserError(f"timm does not know how inputs of {backbone} are normalised")
    return list(config.mean), list(config.std)


def layers_of(backbone: str, strides: tuple[int, ...]) -> list[str]:
    """Returns the names of a backbone's last feature layers of the given strides."""
    with torch.device("meta"):
        info: Any = timm.create_model(backbone, pretrained=False, features_only=True).feature_info
    last = {entry["reduction"]: entry["module"] for entry in info.info}
    lacking = [stride for stride in strides if stride not in last]
    if lacking:
        raise UserError(
            f"backbone {backbone} has no features of stride {lacking[0]} (it has"
            f" {', '.join(map(str, last))}): give --layers"
        )
    return [str(last[stride]) for stride in strides]
