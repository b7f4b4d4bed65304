"""Small files that claim very much: refused in one line, before memory or time is spent on them."""

from __future__ import annotations

import resource
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.quality.weights import load_tensors
from sia_gen.core.errors import UserError
from sia_gen.core.pixels.images import decode, read_image, read_size
from sia_gen.core.recipes import read_yaml
from sia_gen.core.store.archives import check_zip, read_npy, read_npz
from sia_gen.core.store.files import read_json
from sia_gen.core.store.shards import ShardReader
from sia_gen.diffusion.safe_pickle import find_state_dict, read_torch_file


@pytest.fixture(autouse=True)
def _bounded() -> object:
    """Fails where a test raises the process's peak by a quarter of a GiB."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 256 * 1024


def _chunk(kind: bytes, content: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + check


@pytest.mark.parametrize("side", [9_000, 12_000, 60_000])
def test_a_picture_that_declares_too_many_pixels(tmp_path: Path, side: int) -> None:
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", zlib.compress(b"0" * 99))
    path = tmp_path / "a.png"
    path.write_bytes(png)
    for reader in (read_image, read_size):
        with pytest.raises(UserError, match="limit of 64000000"):
            reader(path)
    with pytest.raises(UserError, match="limit of 64000000"):
        decode(png, "x")


def test_a_picture_is_no_program(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run\n")
    with pytest.raises(UserError, match="is named like an image but is none"):
        read_image(path)


def test_arrays_that_claim_more_than_their_file(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    for shape in ("(1000000000000,)", "(-4,)", "(99999999999999999999999,)"):
        head = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
        path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode())
        for mapped in (True, False):
            with pytest.raises(UserError, match=r"a\.npy cannot be read"):
                read_npy(path, mapped=mapped)
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match="claims"):
        read_npy(path)


def test_an_archive_that_unpacks_to_very_much(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("maps.npy", "w", force_zip64=True) as file,
    ):
        for _ in range(300):
            file.write(bytes(2**20))
    for reader in (check_zip, read_npz):
        with pytest.raises(UserError, match="claims to unpack to 314572800"):
            reader(path)


def test_an_archive_of_very_many_entries(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 65535, 65535, 2**32 - 1, 2**32 - 1, 0)
    record = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, 10**7, 10**7, 46, 4)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, 4, 1)
    path.write_bytes(b"PK\3\4" + record + locator + end)
    with pytest.raises(UserError, match="more than 200000 entries"):
        check_zip(path)


@pytest.mark.parametrize("text", ["[" * 200_000, '{"a":' * 200_000, "[" + "1," * 10_000_001 + "1]"])
def test_json_that_is_nested_deep_or_long(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"a\.json is not readable JSON: it .*refused"):
        read_json(path)


@pytest.mark.parametrize(
    "text",
    [
        "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40)),
        "a0: &a0 {x: 1}\na1: &a1 {<<: [*a0, *a0]}\na2: {<<: [*a1, *a1]}\n",
        "a: &a [*a]\n",
        "a: " + "[" * 50_000,
        "a: 2001-99-99\n",
        "? [x]\n: 1\n",
        "a: " + "9" * 5000,
        "x" * 200_001,
    ],
)  # fmt: skip
def test_yaml_that_unfolds_without_end(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"a\.yaml is not readable YAML"):
        read_yaml(path)


def test_a_sparse_member_claims_what_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    member = tarfile.TarInfo("a.png")
    member.type, member.size = tarfile.GNUTYPE_SPARSE, 0
    block = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    block[386:410] = b"00000000000\x0000000000000\x00"  # one piece of no bytes
    block[483:495] = b"77777777777\0"  # of a file of 8 GiB
    block[148:156] = b" " * 8
    block[148:156] = f"{sum(block):06o}\0 ".encode()
    path.write_bytes(bytes(block) + bytes(1024))
    with pytest.raises(UserError, match="no plain file"):
        ShardReader([path])


def test_chained_headers_of_a_tar_end(tmp_path: Path) -> None:
    head = tarfile.TarInfo("x")
    head.type = tarfile.XHDTYPE
    path = tmp_path / "a.tar"
    path.write_bytes(head.tobuf(tarfile.USTAR_FORMAT) * 5000 + bytes(1024))
    with pytest.raises(UserError, match="not a readable uncompressed tar"):
        ShardReader([path])


def test_tensors_that_repeat_one_value_are_no_weights(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save({"w": torch.zeros(1).expand(10**12)}, path)
    with pytest.raises(UserError, match="claims"):
        find_state_dict(read_torch_file(path)[0], path)
    with pytest.raises(UserError, match="claims"):
        load_tensors(path)
