"""Submitted score maps: every accepted form gives the same scores, every misfit is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detector import scorefile
from harness.measure import detection, submit
from harness.measure.submit import Options
from sia_gen.core.data.dataset import open_dataset
from sia_gen.core.errors import UserError

NAMED = Options(method="other")


@pytest.fixture
def category(small_dataset: Path) -> Any:
    return open_dataset(small_dataset).one("bolt")


def maps_of(category: Any, seed: int = 0) -> dict[str, Any]:
    """A map for each test image by <defect>/<stem>, brighter where the mask is."""
    rng = np.random.default_rng(seed)
    found = {}
    for example in category.test:
        drawn = example.read_mask(32)
        mask = np.zeros((32, 32)) if drawn is None else drawn
        noise = rng.integers(0, 200, (32, 32)) / 256
        found[f"{example.defect}/{example.path.stem}"] = (noise + mask).astype(np.float32)
    return found


def save(folder: Path, maps: dict[str, Any], form: str) -> Path:
    """Writes maps in one of the accepted forms; values are multiples of 1/256, exact in all."""
    folder.mkdir(parents=True)
    if form in {"npz file", "pt file"}:
        names, values = [f"/elsewhere/test/{k}.png" for k in maps], np.stack(list(maps.values()))
        if form == "npz file":
            np.savez(folder / "maps.npz", image_path=names, anomaly_map=values[:, None])
            return folder / "maps.npz"
        import torch

        half = len(names) // 2
        batches = [
            {"image_path": names[part], "anomaly_map": torch.from_numpy(values[part][:, None]),
             "pred_score": torch.from_numpy(values[part].max(axis=(1, 2)))}
            for part in (slice(None, half), slice(half, None))
        ]  # fmt: skip
        torch.save(batches, folder / "maps.pt")
        return folder / "maps.pt"
    for name, value in maps.items():
        (folder / name).parent.mkdir(exist_ok=True)
        if form == "npy":
            np.save(folder / f"{name}.npy", value)
        elif form == "npz":
            np.savez_compressed(folder / f"{name}.npz", value)
        elif form == "png":
            Image.fromarray((value * 256).astype(np.uint16)).save(folder / f"{name}.png")
        else:
            Image.fromarray(value).save(folder / f"{name}.tif")
    return folder


@pytest.mark.parametrize("form", ["npy", "npz", "png", "tif", "npz file", "pt file"])
def test_every_form_gives_the_same_scores(category: Any, tmp_path: Path, form: str) -> None:
    maps = maps_of(category)
    path = save(tmp_path / "maps", maps, form)
    folder = submit.run(path, category, tmp_path / "run", NAMED)
    scores = scorefile.read(folder)
    assert folder == tmp_path / "run" / "small" / "bolt" / "scores"
    scale = 256 if form == "png" else 1
    for item, found, example in zip(scores.items, scores.maps_NHW, category.test, strict=True):
        key = f"{example.defect}/{example.path.stem}"
        assert np.array_equal(found, maps[key] * scale)
        assert item["path"] == str(example.path)
    (record,) = detection.run([folder], tmp_path / "results")
    assert (record["method"], record["source"], record["seed"]) == ("other", "none", None)
    assert record["protocol"]["submitted"] is True
    assert record["protocol"]["checkpoint_rule"] == "not stated"
    assert record["counts"]["anomalous_without_mask"] == 1
    assert record["metrics"]["pixel_auroc"]["value"] > 0.9
    assert ("image_auroc_own" in record["metrics"]) == (form == "pt file")


def test_masks_follow_the_maps_size_also_where_it_is_not_square(
    category: Any, tmp_path: Path
) -> None:
    maps = {k: np.repeat(v[::2], 2, axis=1) for k, v in maps_of(category).items()}
    path = save(tmp_path / "maps", maps, "npy")
    scores = scorefile.read(submit.run(path, category, tmp_path / "run", NAMED))
    assert scores.masks_NHW.shape == scores.maps_NHW.shape == (10, 16, 64)
    assert set(np.unique(scores.masks_NHW)) == {0, 1}
    assert scores.protocol["resolution"] == "64 x 16"


def change(maps: dict[str, Any], what: str) -> dict[str, Any]:
    key = next(k for k in maps if k.startswith("spot"))
    if what == "nan":
        maps[key][3, 3] = np.nan
    elif what == "infinite":
        maps[key][3, 3] = np.inf
    elif what == "missing":
        del maps[key]
    elif what == "foreign":
        maps["spot/999"] = maps[key]
    elif what == "split":
        return {k.replace("spot", "dent"): v for k, v in maps.items()}
    elif what == "size":
        maps[key] = maps[key][:16]
    elif what == "three":
        maps[key] = np.zeros((3, 32, 32), dtype=np.float32)
    elif what == "text":
        maps[key] = np.full((32, 32), "x")
    elif what == "huge":
        maps[key] = np.full((32, 32), 1e300)
    elif what == "saturated":
        maps[key] = 1.0 - 1e-12 * np.arange(1024.0).reshape(32, 32)
    return maps


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("nan", "NaN or infinite scores cannot be ranked"),
        ("infinite", "NaN or infinite scores cannot be ranked"),
        ("missing", "1 of 10 test images of small/bolt have no map"),
        ("foreign", "1 of 11 maps belong to no test image of small/bolt, first 'spot/999'"),
        ("split", "5 of 10 maps belong to no test image"),
        ("size", "maps differ in size"),
        ("three", r"expected a map \(H, W\)"),
        ("text", "expected numbers"),
        ("huge", "beyond float32's range"),
        ("saturated", "of 1024 different scores float32 keeps 1 apart"),
    ],
)
def test_misfits_are_refused_and_nothing_is_written(
    category: Any, tmp_path: Path, what: str, message: str
) -> None:
    path = save(tmp_path / "maps", change(maps_of(category), what), "npy")
    with pytest.raises(UserError, match=message):
        submit.run(path, category, tmp_path / "run", NAMED)
    assert not (tmp_path / "run").exists()


def test_doubled_names_colours_code_and_strays_are_refused(category: Any, tmp_path: Path) -> None:
    maps = maps_of(category)
    np.savez(tmp_path / "d.npz", image_path=[*maps, next(iter(maps))],
             anomaly_map=np.stack([*maps.values(), next(iter(maps.values()))]))  # fmt: skip
    with pytest.raises(UserError, match="two maps for"):
        submit.run(tmp_path / "d.npz", category, tmp_path / "run", NAMED)
    np.savez(tmp_path / "n.npz", image_path=list(maps), anomaly_map=np.zeros((3, 32, 32)))
    with pytest.raises(UserError, match="10 names, 3 maps"):
        submit.run(tmp_path / "n.npz", category, tmp_path / "run", NAMED)
    np.savez(tmp_path / "k.npz", heat=np.zeros((3, 32, 32)))
    with pytest.raises(UserError, match="expected image_path or paths"):
        submit.run(tmp_path / "k.npz", category, tmp_path / "run", NAMED)
    folder = save(tmp_path / "maps", maps, "npy")
    (folder / "good" / "0.npy").unlink()
    Image.new("RGB", (32, 32)).save(folder / "good" / "0.png")
    with pytest.raises(UserError, match="a picture in colours"):
        submit.run(folder, category, tmp_path / "run", NAMED)
    import torch

    torch.save({"image_path": Path("x")}, tmp_path / "code.pt")
    with pytest.raises(UserError, match="no plain file of lists and tensors"):
        submit.run(tmp_path / "code.pt", category, tmp_path / "run", NAMED)
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(UserError, match="cannot be read"):
        submit.run(tmp_path / "text.npz", category, tmp_path / "run", NAMED)
    with pytest.raises(UserError, match="do not exist"):
        submit.run(tmp_path / "none", category, tmp_path / "run", NAMED)


def test_the_command_ranks_what_it_takes_in(small_dataset: Path, tmp_path: Path) -> None:
    category = open_dataset(small_dataset).one("bolt")
    path = save(tmp_path / "maps", maps_of(category), "npy")
    arguments = ["submit", str(path), "--data", str(small_dataset), "--category", "bolt",
                 "--method", "mine", "--seed", "3", "--protocol", "backbone=none",
                 "--out", str(tmp_path / "run"), "--results", str(tmp_path / "r")]  # fmt: skip
    run = subprocess.run(
        [sys.executable, "-m", "harness.cli", *arguments, "--json"], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    (record,) = json.loads(run.stdout)
    assert (record["method"], record["seed"]) == ("mine", 3)
    assert record["protocol"]["backbone"] == "none"
