"""Detectors at the images' own sizes: trained on crops, scored and predicted by tiles or padded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import harness
from detector import checkpoint, scorefile
from detector.data.crops import NormalCrops
from detector.data.task import single
from detector.inference import explain
from detector.inference.predict import PredictOptions, predict
from detector.inference.score import score
from detector.options import TrainOptions, restored
from detector.run_folder import split_training
from detector.training import advice
from detector.training.train import accelerator_for, train
from sia_gen.core.data.dataset import Category, open_dataset
from sia_gen.core.errors import UserError
from sia_gen.core.pixels.images import Array8, encode_png, read_image
from sia_gen.core.statistics.ranking import rank


def _surface(rng: np.random.Generator, size: tuple[int, int]) -> Array8:
    stripes = 128 + 50 * np.sin(np.arange(size[1]) / 2.0 + rng.uniform(0, 6.28))
    gray = stripes[None, :] + rng.normal(0, 4, size)
    return np.repeat(np.clip(gray, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


@pytest.fixture(scope="module")
def plates(tmp_path_factory: pytest.TempPathFactory) -> Category:
    """Striped plates of several sizes, none square, with small dark defects."""
    root = tmp_path_factory.mktemp("plates") / "line" / "plates"
    rng = np.random.default_rng(5)

    def save(path: Path, image: Array8) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_png(image))

    for i in range(10):
        save(root / "train" / "good" / f"{i}.png", _surface(rng, (48 + 8 * (i % 2), 90)))
    for i in range(4):
        size = (50 + 10 * i, 100 - 10 * i)
        save(root / "test" / "good" / f"{i}.png", _surface(rng, size))
        image, mask = _surface(rng, size), np.zeros(size, dtype=np.uint8)
        mask[20:28, 30:38] = 255
        image[mask > 0] = 30
        save(root / "test" / "spot" / f"{i}.png", image)
        save(root / "ground_truth" / "spot" / f"{i}_mask.png", mask)
    return open_dataset(root.parent).one("plates")


@pytest.fixture(scope="module")
def tiled(
    plates: Category, tiny: Callable[..., TrainOptions], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run with a detector of the plates that looks at tiles; do not change its checkpoint."""
    run = tmp_path_factory.mktemp("tiled") / "run"
    options = tiny(steps=30, holdout=0.3, tiles="32:8", source="noise")
    assert options.resolution == 32
    train(options, single(plates, []), run, accelerator_for("cpu", "fp32"))
    return run


def test_crops_are_parts_of_their_images_and_the_same_in_every_run(plates: Category) -> None:
    crops, again = (NormalCrops([(plates.train, "whole")], 32, seed=3) for _ in range(2))
    assert len(crops) == sum(max(1, round(2 * 90 * h / 32**2)) for h in [48, 56] * 5)
    places = set()
    for index in range(len(crops)):
        assert (crops.image(index) == again.image(index)).all()
        places.add(crops.place(index))
    assert len(places) > len(crops) // 2
    whole = read_image(plates.train[0])
    top, left = crops.place(0)
    assert (crops.image(0) == whole[top : top + 32, left : left + 32]).all()
    small = NormalCrops([(plates.train, "whole")], 64, seed=3)
    assert small.image(0).shape == (64, 64, 3) and small.foreground(0).all()


def test_crops_hold_the_part_that_the_foreground_names(tmp_path: Path) -> None:
    image = np.full((60, 400, 3), 20, dtype=np.uint8)
    image[15:45, 350:380] = 220
    path = tmp_path / "part.png"
    path.write_bytes(encode_png(image))
    crops = NormalCrops([((path,), "otsu bright gray")], 32, seed=0)
    shares = [float((crops.image(i) > 120).mean()) for i in range(len(crops))]
    assert np.mean([share > 0 for share in shares]) > 0.5  # by chance it would be one in six
    for i, share in enumerate(shares):
        inside = crops.image(i)[crops.foreground(i)]
        assert share == 0 or (inside > 120).mean() > 0.6


def test_tiles_score_every_image_at_its_own_size(tiled: Path, plates: Category) -> None:
    assert score(tiled, plates, "cpu")
    found = scorefile.read(tiled / "line" / "plates" / "scores")
    sizes = [read_image(e.path).shape[:2] for e in plates.test]
    assert [m.shape for m in found.maps_NHW] == sizes == [tuple(i["size"]) for i in found.items]
    assert found.protocol["map_size"] == "own" and found.protocol["tiles"] == "32:8"
    measured = harness.measure_scores(tiled / "line" / "plates" / "scores")
    own = harness.measure_maps(list(found.maps_NHW), list(found.masks_NHW))
    assert measured == own and measured["pixel_auroc"] is not None
    ranks = np.concatenate([m.ravel() for m in found.maps_NHW])
    truth = np.concatenate([m.ravel() for m in found.masks_NHW]) > 0
    assert measured["pixel_auroc"] == pytest.approx(rank(ranks, truth).area(), abs=1e-9)
    hits = [float(m[k > 0].mean() - m[k == 0].mean())
            for m, k in zip(found.maps_NHW, found.masks_NHW, strict=True) if np.any(k)]  # fmt: skip
    assert len(hits) == 4 and np.mean(hits) > 0.1
    assert not score(tiled, plates, "cpu")  # done before


def test_prediction_of_tiles_marks_the_defect_where_it_is(
    tiled: Path, plates: Category, tmp_path: Path
) -> None:
    options = PredictOptions(device="cpu", masks=True, boxes=True, maps="png16", least_area=4)
    spots = plates.root / "test" / "spot"
    summary = predict(spots, tiled / "line" / "plates", tmp_path / "out", options)
    scored = scorefile.read(tiled / "line" / "plates" / "scores")
    by_name = {Path(i["path"]).name: i for i in scored.items if i["anomalous"]}
    for row in summary["predictions"]:
        assert row["score"] == pytest.approx(by_name[row["path"]]["score_max"], abs=1e-5)
        image = Image.open(spots / row["path"])
        assert (row["width"], row["height"]) == image.size
        mask = np.asarray(Image.open(tmp_path / "out" / "masks" / f"{row['path']}.png"))
        levels = np.asarray(Image.open(tmp_path / "out" / "maps" / f"{row['path']}.png"))
        assert mask.shape == levels.shape == image.size[::-1] and levels.dtype == np.uint16
        assert (mask > 0).sum() == row["area"]
        assert levels.max() / 65535 * summary["map_scale"] == pytest.approx(row["score"], abs=1e-3)
    coco = json.loads((tmp_path / "out" / "boxes.json").read_text())
    assert [i["file_name"] for i in coco["images"]] == [r["path"] for r in summary["predictions"]]
    assert sum(a["area"] for a in coco["annotations"]) == sum(
        r["area"] for r in summary["predictions"]
    )


def test_the_pair_that_explains_a_tiled_detector_is_a_crop(
    tiled: Path, plates: Category, tmp_path: Path
) -> None:
    options = restored(checkpoint.read_facts(tiled / "line" / "plates")["options"])
    pair = explain.pair_of(plates, options, "cutpaste")
    crop = NormalCrops([(plates.train, "whole")], 32, seed=options.seed).image(0)
    assert pair.mask.any() and (pair.normal == crop).all()
    folder = tiled / "line" / "plates"
    facts = explain.explain(
        folder, plates, tmp_path, source="cutpaste", columns=3, device_name="cpu"
    )
    assert facts["layers"][0]["kept"] == 12 and (tmp_path / explain.CHANNELS).is_file()


def test_a_tiled_training_grows(
    tiled: Path, plates: Category, tiny: Callable[..., TrainOptions], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiled, run)
    before = checkpoint.read_facts(run / "line" / "plates")
    longer = tiny(steps=40, holdout=0.3, tiles="32:8", source="noise")
    facts = train(longer, single(plates, []), run, accelerator_for("cpu", "fp32"))
    assert facts["grown"] == [[30, 30, 40]] and facts["sha256"] != before["sha256"]
    assert len(facts["curve"]) == 4


def test_padded_detectors_keep_shapes_and_score_at_own_size(
    plates: Category, tiny: Callable[..., TrainOptions], tmp_path: Path
) -> None:
    options = tiny(steps=10, fit="pad", source="noise")
    train(options, single(plates, []), tmp_path, accelerator_for("cpu", "fp32"))
    assert score(tmp_path, plates, "cpu")
    found = scorefile.read(tmp_path / "line" / "plates" / "scores")
    assert [m.shape for m in found.maps_NHW] == [read_image(e.path).shape[:2] for e in plates.test]
    assert found.protocol["fit"] == "pad"


def test_options_that_exclude_each_other_are_refused(tiny: Callable[..., TrainOptions]) -> None:
    for changes, words in (
        ({"tiles": "64", "resolution": 32}, "differ"),
        ({"tiles": "32", "fit": "pad"}, "exclude each other"),
        ({"fit": "crop"}, "stretch, pad"),
        ({"tiles": "32", "protocol": "best-on-test"}, "held-out"),
    ):
        given = {"resolution": None, **changes}
        with pytest.raises(UserError, match=words):
            tiny(**{k: v for k, v in given.items() if v is not None})


def test_maps_of_unlike_sizes_are_written_and_read_as_they_were(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    maps = [rng.random(size, dtype=np.float32) for size in ((3, 4), (5, 2), (1, 7))]
    with scorefile.writer(tmp_path / "s", "a/b", [m.shape for m in maps]) as add:
        for i, map_HW in enumerate(maps):
            add({"path": str(i)}, map_HW, map_HW > 0.5)
    found = scorefile.read(tmp_path / "s").maps_NHW
    assert all((a == b).all() for a, b in zip(found, maps, strict=True))
    assert [m.shape for m in found[np.array([True, False, True])]] == [(3, 4), (1, 7)]
    assert found[1:].size == 17 and (found[1:][0] == maps[1]).all()


def test_training_tells_of_few_images_and_of_detail_that_is_lost(
    plates: Category, tiny: Callable[..., TrainOptions]
) -> None:
    told = advice.before(tiny(source="noise", resolution=16), single(plates, []))
    assert len(told) == 2 and "10 normal images are few" in told[0]
    assert "none is held out" in told[0] and "--tiles 16" in told[1]
    assert len(advice.before(tiny(source="noise", tiles="32"), single(plates, []))) == 1


def test_a_tenth_is_held_out_of_twenty_images_or_more(stripes: Category, plates: Category) -> None:
    used, held = split_training(stripes, None)
    assert 1 <= len(held) <= 6 and len(used) + len(held) == 24
    assert split_training(plates, None)[1] == () and len(split_training(stripes, 0.0)[0]) == 24
