"""Reading tensors out of torch files without ever running what a pickle asks for.

torch's own restricted loader is tried first. A file with pickled extras (an options object beside
the state dict, say) is then read by an unpickler that knows tensors and plain containers only:
objects of any other class become inert placeholders, and a pickle that calls anything is refused.
"""

from __future__ import annotations

import collections
import io
import math
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from sia_gen.core.errors import UserError
from sia_gen.core.store.archives import check_tensors, check_zip
from sia_gen.core.store.foreign import reason, require_weights

_DTYPES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class _CallRefused(pickle.UnpicklingError):
    """The pickle wants to call something that is no tensor and no plain container."""


class _PlaceholderMeta(type):
    def __call__(cls, *_args: object, **_kwargs: object) -> Any:
        raise _CallRefused(f"it calls {cls.__name__}")


def _placeholder(name: str) -> type:
    """Returns an inert class: instances take items and state and do nothing with them."""

    def ignore(_self: object, *_args: object, **_kwargs: object) -> None:
        return None

    body = {n: ignore for n in ("__setitem__", "__setstate__", "append", "extend", "update")}
    return _PlaceholderMeta(name, (), {**body, "__new__": lambda cls, *_: object.__new__(cls)})


def _rebuild_tensor(
    storage: torch.Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> torch.Tensor:
    if math.prod(size) > storage.numel():
        raise pickle.UnpicklingError(f"a tensor claims {size}, {storage.numel()} values are there")
    return torch.as_strided(storage, size, stride, offset).clone()


def _rebuild_parameter(data: torch.Tensor, *_: Any) -> torch.Tensor:
    return data


# The pure-Python unpickler dispatches NEWOBJ and REDUCE apart, which is what tells data from calls.
class _TensorUnpickler(pickle._Unpickler):
    def __init__(self, archive: zipfile.ZipFile, prefix: str) -> None:
        super().__init__(io.BytesIO(archive.read(f"{prefix}/data.pkl")), encoding="utf-8")
        self.archive, self.prefix = archive, prefix
        self.ignored: set[str] = set()

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if module == "torch._utils" and name in {"_rebuild_tensor_v2", "_rebuild_tensor"}:
            return _rebuild_tensor
        if module == "torch._utils" and name == "_rebuild_parameter":
            return _rebuild_parameter
        if module in {"torch", "torch.storage"} and name in _DTYPES:
            return _DTYPES[name]
        self.ignored.add(f"{module}.{name}")
        return _placeholder(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> torch.Tensor:
        kind, dtype, key, _, count = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype):
            raise pickle.UnpicklingError(f"unknown storage {pid!r}")
        content = bytearray(self.archive.read(f"{self.prefix}/data/{key}"))
        return torch.frombuffer(content, dtype=dtype, count=count) if count else torch.empty(0)


def read_torch_file(path: Path) -> tuple[Any, list[str]]:
    """Returns a torch file's content and the classes whose objects were left unread.

    UserError for what is no torch file, is truncated, or asks for code to be run.
    """
    if not path.is_file():
        raise UserError(f"checkpoint {path} is not a file")
    require_weights(path, "checkpoint")
    check_zip(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True), []
    # What damaged bytes lead to inside its unpickler is passed on as it comes.
    except Exception as error:
        first = error
    try:
        with zipfile.ZipFile(path) as archive:
            pickles = [n for n in archive.namelist() if n.endswith("/data.pkl")]
            if len(pickles) != 1:
                raise UserError(f"checkpoint {path} is a zip file but no torch file")
            reader = _TensorUnpickler(archive, pickles[0].removesuffix("/data.pkl"))
            content = reader.load()
            return content, sorted(reader.ignored)
    except _CallRefused as error:
        raise UserError(
            f"checkpoint {path} is refused: {error}, and no code of a checkpoint is ever run."
            " Save its state_dict alone, from where you trust it"
        ) from error
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"checkpoint {path} cannot be read: truncated, or no torch file ({reason(first)})"
        ) from error


def find_state_dict(content: Any, path: Path) -> dict[str, torch.Tensor]:
    """Returns a file's state dict: plain or under `state_dict`, names without `module.`."""
    found = content
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        found = content["state_dict"]
    tensors = isinstance(found, dict) and all(isinstance(v, torch.Tensor) for v in found.values())
    if not found or not tensors:
        raise UserError(f"checkpoint {path} holds no state dict: found {type(content).__name__}")
    check_tensors(found, str(path))
    return {str(name).removeprefix("module."): tensor for name, tensor in found.items()}
