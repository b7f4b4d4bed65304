"""Weights files of feature networks: found, checked by hash, read without running code."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from sia_gen.core.errors import UserError
from sia_gen.core.provenance import sha256_file
from sia_gen.core.store.archives import check_tensors, check_zip
from sia_gen.core.store.foreign import reason, require_weights


def locate(name: str, given: str | None, file: str, url: str) -> Path:
    """Returns where a network's weights file is: as given, or in torch's cache; or UserError."""
    cached = Path(torch.hub.get_dir()) / "checkpoints" / file
    path = Path(given) if given else cached
    if path.is_file():
        return path
    raise UserError(
        f"features {name}: the weights {file} are not at {path}: fetch {url}{file} once and give"
        f" --feature-weights FILE, or put it at {cached}"
    )


def verified(path: Path, file: str) -> str:
    """Returns a file's SHA-256 once it is found to begin as the file's own name says."""
    digest, expected = sha256_file(path), file.rsplit("-", 1)[1].split(".")[0]
    if not digest.startswith(expected):
        raise UserError(
            f"{path} is not {file}: its SHA-256 begins {digest[:8]}, expected {expected}; fetch it"
            " again"
        )
    return digest


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Returns a file's tensors by name; a file that would run code is refused."""
    require_weights(path, "weights")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        # weights_only: a file of tensors is read, a file of code is refused.
        check_zip(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(f"{path} is no readable file of tensors: {reason(error)}") from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise UserError(f"{path} holds no dictionary of tensors")
    check_tensors(state, str(path))
    return state


def assign(
    module: nn.Module, state: dict[str, Tensor], where: str, ignore: tuple[str, ...] = ()
) -> None:
    """Loads tensors that fit a module exactly, but for keys that begin with one of `ignore`."""
    state = {k: v for k, v in state.items() if not k.startswith(ignore)} if ignore else state
    own = module.state_dict()
    # Counters that only training needs; older files lack them.
    needed = {key for key in own if not key.endswith("num_batches_tracked")}
    for problem, keys in (
        ("lacks", sorted(needed - state.keys())),
        ("has unknown", sorted(state.keys() - own.keys())),
        ("has other shapes for", sorted(k for k in own.keys() & state.keys()
                                        if own[k].shape != state[k].shape)),
    ):  # fmt: skip
        if keys:
            raise UserError(
                f"{where} does not fit the network: it {problem} {', '.join(keys[:5])}"
                f" ({len(keys)} in all)"
            )
    module.load_state_dict({**own, **state})
