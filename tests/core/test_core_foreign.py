"""Files in the place of weights: said what they are, and no advice to read them unsafely."""

from __future__ import annotations

import io
import pickle
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch

from detector.nets.backbone import read_state
from harness.quality.weights import load_tensors
from sia_gen.core.errors import UserError
from sia_gen.core.store.foreign import reason, what_it_is
from sia_gen.diffusion.safe_pickle import read_torch_file


def _zip(name: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(name, b"x")
    return content.getvalue()


def _tar() -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("weights.pt"))
    return content.getvalue()


def _later_zip() -> bytes:
    """A zip whose directory asks for a version that zipfile does not know."""
    content = bytearray(_zip("archive/data.pkl"))
    place = content.rindex(b"PK\1\2")
    content[place + 6] = 106
    return bytes(content)


FILES = {
    "zip file (as torch writes) that is cut off": _later_zip(),
    "web page": b"<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title>",
    "web page (": b"\n\n  <html lang='en'>",
    "XML answer": b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
    "Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 99\n",
    "zip archive with weights/model.pt": _zip("weights/model.pt"),
    "cut off": _zip("a/data.pkl")[:40],
    "tar archive": _tar(),
    "gzip archive": b"\x1f\x8b\x08\x00" + bytes(40),
    "7z archive": b"7z\xbc\xaf\x27\x1c" + bytes(40),
    "JSON text": b'{"message": "Not Found"}',
    "empty": b"",
    "begins 'Not Found'": b"Not Found",
    "PNG picture": b"\x89PNG\r\n\x1a\n" + bytes(20),
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_what_is_no_weights_file_is_named_by_every_reader(
    tmp_path: Path, kind: str, suffix: str
) -> None:
    path = tmp_path / f"file{suffix}"
    path.write_bytes(FILES[kind])
    for read in (read_state, load_tensors, read_torch_file):
        with pytest.raises(UserError) as caught:
            read(path)
        text = str(caught.value)
        assert kind in text and str(path) in text and "weights_only" not in text
        assert "\n" not in text


def test_torch_files_of_every_age_are_none_of_these(tmp_path: Path) -> None:
    state = {"a": torch.zeros(2)}
    torch.save(state, tmp_path / "new.pt")
    torch.save(state, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    for name in ("new.pt", "old.pt"):
        assert what_it_is(tmp_path / name) is None
        assert read_state(tmp_path / name)["a"].shape == (2,)


def test_no_advice_to_switch_safety_off_is_passed_on(tmp_path: Path) -> None:
    path = tmp_path / "code.pt"
    torch.save({"model": Path("x")}, path)
    for read in (read_state, load_tensors):
        with pytest.raises(UserError) as caught:
            read(path)
        text = str(caught.value)
        assert "no code of a file is ever run" in text
        assert "weights_only" not in text and "safe_globals" not in text
    assert reason(pickle.UnpicklingError("")) == "UnpicklingError"
