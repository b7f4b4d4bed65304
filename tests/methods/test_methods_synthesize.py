"""`sia-gen synthesize` and the sheets: pairs with their masks, the same whoever makes them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from shard_files import write_record, write_tar

from sia_gen.cli.main import group
from sia_gen.core.data.dataset import open_dataset
from sia_gen.core.errors import IncompleteError, UserError
from sia_gen.core.pixels.images import encode_png, read_image, resize_image
from sia_gen.core.store.shards import MASK, ShardReader, Synthetic, read_record

SIZE = 32
RNG = np.random.default_rng(0)


def noise(size: int = 40) -> np.ndarray:
    return RNG.integers(0, 256, (size, size, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two categories with four normal images each, and textures and a shard beside them."""
    root = tmp_path_factory.mktemp("synthesis") / "parts"
    for category in ("bolt", "nut"):
        for i in range(4):
            path = root / category / "train" / "good" / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode_png(noise()))
    (root.parent / "textures").mkdir()
    for i in range(3):
        (root.parent / "textures" / f"{i}.png").write_bytes(encode_png(noise()))
    for category in ("bolt", "nut"):
        tar = root.parent / "sia" / "shards" / "parts" / category / "x.tar"
        samples = [Synthetic(key=f"k{i}", image=noise(SIZE), metadata={"i": i}) for i in range(3)]
        write_record(tar, {"category": f"parts/{category}", **write_tar(tar, samples)})
    return root


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(group, ["synthesize", *map(str, arguments)])


def make(parts: Path, out: Path, method: str = "cutpaste", *more: Any, pairs: int = 7) -> Result:
    return run(
        *("--method", method, "--data", parts, "--out", out, "--per-category", pairs),
        *("--shard-size", 3, "--resolution", SIZE, *more),
    )


def tars(out: Path) -> dict[str, bytes]:
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in sorted(out.rglob("*.tar"))}


def read_pairs(tar: Path) -> Iterator[tuple[str, np.ndarray, np.ndarray, dict[str, Any]]]:
    """Key, image, mask (0 or 255) and metadata of each pair of a tar."""
    reader = ShardReader([tar])
    for i, member in enumerate(reader.members):
        yield member.key, reader.image(i), reader.extra(i, MASK)[..., 0], reader.metadata(i)


def needs(parts: Path, method: str) -> tuple[Any, ...]:
    return {
        "dtd": ("--textures", parts.parent / "textures"),
        "sdas": ("--shards", parts.parent / "sia"),
    }.get(method, ())


@pytest.mark.parametrize("method", ["sdas", "dtd", "nsa", "cutpaste", "noise"])
def test_pairs_have_masks_and_say_where_they_come_from(
    method: str, parts: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = make(parts, out, method, *needs(parts, method), "--json", "--with-normal")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["pairs"] == 14
    found = [(tar, pair) for tar in sorted(out.rglob("*.tar")) for pair in read_pairs(tar)]
    assert len(found) == 14 and len({pair[0] for _, pair in found}) == 14
    for tar, (_, image, mask, metadata) in found:
        normal = parts / metadata["category"] / metadata["normal"]
        expected = resize_image(read_image(normal), SIZE)
        assert set(np.unique(mask)) <= {0, 255} and mask.any()
        np.testing.assert_array_equal(image[mask == 0], expected[mask == 0])
        assert metadata["method"] == f"{method}-1"
        assert metadata["mask_share"] == pytest.approx((mask > 0).mean(), abs=1e-5)
        record = read_record(tar)
        assert record is not None and record["category"] == f"parts/{metadata['category']}"
        assert {k: v for k, v in record["samples"][0].items() if k == "method"} == {
            "method": metadata["method"]
        }
    # The reader of synthetic images finds the images of pairs, and nothing else.
    assert len(ShardReader(sorted(out.rglob("*.tar")))) == 14


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_the_bytes_do_not_depend_on_workers_or_restarts(parts: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert make(parts, one).exit_code == 0
    assert make(parts, two, "cutpaste", "--workers", 2).exit_code == 0
    assert tars(one) == tars(two) and len(tars(one)) == 6
    again = make(parts, one, "cutpaste", "--json")
    assert json.loads(again.stdout)["shards_made_now"] == 0
    lost = sorted(two.rglob("*.tar"))[2]
    lost.unlink()
    sorted(two.rglob("*-00001.json"))[-1].unlink()  # a record lost: its shard counts as not made
    resumed = make(parts, two, "cutpaste", "--json")
    assert json.loads(resumed.stdout)["shards_made_now"] == 2
    assert tars(one) == tars(two)
    other = tmp_path / "other"
    assert make(parts, other, "cutpaste", "--seed", 1).exit_code == 0
    assert all(tars(other)[name] != content for name, content in tars(one).items())


def test_a_longer_run_begins_like_a_shorter_one(parts: Path, tmp_path: Path) -> None:
    make(parts, tmp_path / "short", pairs=3)
    make(parts, tmp_path / "long", pairs=6)
    short, long = tars(tmp_path / "short"), tars(tmp_path / "long")
    assert all(long[name] == content for name, content in short.items())


def test_a_killed_run_is_resumed_to_the_same_bytes(parts: Path, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole", tmp_path / "killed"
    assert make(parts, whole, pairs=120).exit_code == 0
    command = [
        *(sys.executable, "-m", "sia_gen.cli", "synthesize", "--method", "cutpaste"),
        *("--data", str(parts), "--out", str(out), "--per-category", "120"),
        *("--shard-size", "3", "--resolution", str(SIZE)),
    ]
    for number, code in ((signal.SIGKILL, -9), (signal.SIGTERM, 143)):
        process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env={**os.environ, "TZ": "Asia/Tokyo"}
        )
        made = len(list(out.rglob("*.tar"))) if out.exists() else 0
        deadline = time.monotonic() + 60
        while not out.exists() or len(list(out.rglob("*.tar"))) < made + 2:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.01)
        process.send_signal(number)
        message = process.communicate(timeout=60)[1]
        assert process.returncode == code
        if number == signal.SIGTERM:
            assert "run the same command again" in message and "Traceback" not in message
    assert make(parts, out, pairs=120).exit_code == 0
    assert tars(out) == tars(whole)
    assert not list(out.rglob(".tmp-*"))


def test_damage_to_pairs_is_verified_and_repaired(parts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    make(parts, out)
    whole = tars(out)
    runner = CliRunner()
    assert runner.invoke(group, ["verify", str(out)]).exit_code == 0
    files = sorted(out.rglob("*.tar"))
    content = bytearray(files[0].read_bytes())
    content[len(content) // 2] ^= 1  # of the same size: only its checksum tells
    files[0].write_bytes(content)
    files[1].unlink()
    files[2].with_suffix(".json").write_text("{", encoding="utf-8")
    (files[3].parent / "note.txt").write_text("mine", encoding="utf-8")
    (out / "shards" / ".tmp-left").write_bytes(b"x")
    found = runner.invoke(group, ["verify", str(out), "--json"])
    assert found.exit_code == 4
    told = json.loads(found.stdout)
    kinds = {p["file"].split("/")[-1]: p["kind"] for p in told["problems"]}
    names = [file.name for file in files[:3]]
    assert [kinds[name] for name in names] == ["sha256", "missing", "record"]
    assert kinds["note.txt"] == "foreign" and kinds[".tmp-left"] == "stray"
    asked = runner.invoke(group, ["status", str(out), "--json"])
    state = json.loads(asked.stdout)
    assert asked.exit_code == 3
    assert (state["state"], state["images"], state["shards_done"]) == ("incomplete", 14, 4)
    mended = runner.invoke(group, ["repair", str(out), "--json"])
    assert mended.exit_code == 0, mended.exception
    assert json.loads(mended.stdout)["shards_made_now"] == 3
    assert tars(out) == whole
    assert (files[3].parent / "note.txt").is_file()


def test_pairs_whose_normal_images_changed_are_not_dropped(parts: Path, tmp_path: Path) -> None:
    out, moved = tmp_path / "out", tmp_path / "parts"
    shutil.copytree(parts, moved)
    make(moved, out)
    first = min(out.rglob("*.tar"))
    first.write_bytes(b"torn")
    (moved / "bolt" / "train" / "good" / "0.png").write_bytes(encode_png(noise()))
    refused = CliRunner().invoke(group, ["repair", str(out)])
    assert "normal_images" in str(refused.exception)
    assert first.read_bytes() == b"torn"
    elsewhere = CliRunner().invoke(group, ["repair", str(out), "--data", str(parts)])
    assert elsewhere.exit_code == 0, elsewhere.exception
    assert CliRunner().invoke(group, ["verify", str(out)]).exit_code == 0


def test_another_run_in_the_folder_is_refused(parts: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    make(parts, out)
    for more, named in (
        (("--set", "jitter=0.2"), r"options\.jitter: 0\.1 -> 0\.2"),
        (("--seed", 3), r"seed: 0 -> 3"),
        (("--foreground", "otsu dark gray"), r"foreground: auto -> otsu dark gray"),
    ):
        with pytest.raises(UserError, match=named):
            raise_of(make(parts, out, "cutpaste", *more))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("x")
    with pytest.raises(UserError, match=r"other content \(letter\.txt\)"):
        raise_of(make(parts, tmp_path / "full"))
    with pytest.raises(UserError, match="lie inside each other"):
        raise_of(make(parts, parts / "out"))


def raise_of(result: Result) -> None:
    assert result.exit_code != 0 and result.exception is not None
    if isinstance(result.exception, SystemExit):  # click's own words for an option
        raise UserError(result.output)
    raise result.exception


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--method", "cutpast"), "Did you mean cutpaste"),
        (("--method", "dtd"), "dtd needs a folder of textures"),
        (("--method", "dtd", "--textures", "/nowhere"), "textures /nowhere is no folder"),
        (("--method", "sdas"), "sdas needs shards of parts/bolt"),
        (("--method", "nsa", "--set", "clonne=mixed"), "'clonne' is unknown. Did you mean clone"),
        (("--method", "nsa", "--set", "patches=many"), "patches: expected a number, found 'many'"),
        (("--method", "nsa", "--set", "patches"), "expected name=value"),
        (("--method", "nsa", "--per-category", 0), "'--per-category': 0 is not"),
        (("--method", "nsa", "--resolution", 5), "'--resolution': 5 is not"),
        (("--method", "nsa", "--seed", -1), "'--seed': -1 is not"),
        (("--method", "nsa", "--workers", 0), "'--workers': 0 is not"),
        (("--method", "nsa", "--categories", "bolz"), "Did you mean bolt"),
        (("--method", "nsa", "--foreground", "otsu"), "foreground rule 'otsu' is not whole"),
    ],
)
def test_mistakes_are_named(
    arguments: tuple[Any, ...], message: str, parts: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        raise_of(run("--data", parts, "--out", tmp_path / "out", *arguments))
    assert not list(tmp_path.rglob("*.tar"))


def test_a_region_that_holds_nothing_is_told(parts: Path, tmp_path: Path) -> None:
    masks = tmp_path / "masks" / "bolt"
    masks.mkdir(parents=True)
    for i in range(4):
        (masks / f"{i}.png").write_bytes(encode_png(np.zeros((40, 40), np.uint8)))
    with pytest.raises(IncompleteError, match=r"gave no anomaly inside the foreground .*preview"):
        raise_of(
            make(
                parts, tmp_path / "out", "nsa", "--foreground", masks.parent, "--categories", "bolt"
            )
        )


def test_masks_of_a_folder_are_the_foreground(parts: Path, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    drawn = np.zeros((40, 40), np.uint8)
    drawn[:, 20:] = 255
    for i in range(4):
        (masks / f"{i}_mask.bmp").write_bytes(encode_png(drawn))
    out = tmp_path / "out"
    result = make(parts, out, "cutpaste", "--foreground", masks)
    assert result.exit_code == 0, result.exception
    for tar in out.rglob("*.tar"):
        assert all(not mask[:, : SIZE // 2].any() for _, _, mask, _ in read_pairs(tar))
    (masks / "3_mask.bmp").unlink()
    with pytest.raises(UserError, match=r"has no mask for .*3\.png: expected 3\.png"):
        raise_of(make(parts, tmp_path / "lacking", "cutpaste", "--foreground", masks, pairs=40))


def test_a_categorys_own_foreground_folder_is_found(tmp_path: Path) -> None:
    category = tmp_path / "own" / "bolt"
    for folder in ("train/good", "foreground"):
        (category / folder).mkdir(parents=True)
    (category / "train" / "good" / "0.png").write_bytes(encode_png(noise()))
    (category / "foreground" / "0.png").write_bytes(encode_png(np.zeros((40, 40), np.uint8)))
    rule = open_dataset(category.parent).one("bolt").foreground
    assert rule == f"masks {(category / 'foreground').resolve()}"


def test_sheets_show_methods_and_foregrounds(parts: Path, tmp_path: Path) -> None:
    out = tmp_path / "sheet.png"
    common = ["preview", "--data", str(parts), "--out", str(out), "--resolution", "32"]
    common += ["--columns", "3", "--categories", "bolt"]
    stores = ["--textures", str(parts.parent / "textures"), "--shards", str(parts.parent / "sia")]
    sizes = {}
    for name, more in (
        ("methods", ["--methods", "all", *stores]),
        ("one", ["--methods", "nsa"]),
        ("foregrounds", ["--foregrounds"]),
        ("rule", ["--foreground", "whole"]),
        ("both", ["--foregrounds", "--methods", "nsa"]),
    ):
        result = CliRunner().invoke(group, [*common, *more])
        assert result.exit_code == 0, result.exception
        with Image.open(out) as sheet:
            sizes[name] = sheet.height
    rows = {name: (size - sizes["foregrounds"]) / 34 for name, size in sizes.items()}
    # Four methods with their masks, one of them, the foreground instead of it, both.
    assert rows == {"methods": 7, "one": 1, "foregrounds": 0, "rule": 0, "both": 2}
    wrong = CliRunner().invoke(group, [*common, "--methods", "nssa"])
    with pytest.raises(UserError, match="Did you mean nsa"):
        raise_of(wrong)


def test_help_of_the_new_commands_is_quick_and_loads_no_torch() -> None:
    for command in ("synthesize", "check", "preview"):
        code = (
            "import sys; from click.testing import CliRunner; from sia_gen.cli.main import group;"
            f"r = CliRunner().invoke(group, ['{command}', '--help']);"
            "print(r.exit_code, 'torch' in sys.modules, 'numpy' in sys.modules)"
        )
        made = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert made.stdout.strip() == "0 False False"
