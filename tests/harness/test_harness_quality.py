"""Quality of synthetic images: which sets are compared, what is named, what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shard_files import write_record

from harness import records
from harness.metrics import clustered_lpips, fid, kid
from harness.quality import run as quality
from harness.quality.features import open_network
from harness.quality.run import Options
from sia_gen.core.data.dataset import open_dataset
from sia_gen.core.errors import UserError
from sia_gen.core.pixels.images import read_image
from sia_gen.core.store.shards import ShardReader, find_shards, read_record

TINY: list[tuple[str, str | None]] = [("tiny-random", None)]


@pytest.fixture
def measured(small_dataset: Path, make_shards: Callable[..., Path], tmp_path: Path) -> Any:
    run = make_shards()
    found = quality.run(run, str(small_dataset), "all", TINY, tmp_path / "results", Options())
    return run, small_dataset, found


def test_the_numbers_are_those_of_the_sets(measured: Any) -> None:
    run, data, (record, _) = measured
    category = open_dataset(data).one("bolt")
    network = open_network("tiny-random")
    synthetic = list(ShardReader(find_shards(run, "small/bolt")))
    real = [read_image(e.path, 32) for e in category.test if e.anomalous]
    good = [read_image(e.path, 32) for e in category.test if not e.anomalous]
    train = [read_image(path, 32) for path in category.train]
    x, y, z, w = (network.pooled(images) for images in (synthetic, real, good, train))
    metrics = record["metrics"]
    assert metrics["fid@tiny-random"]["value"] == pytest.approx(fid.compute(x, y), rel=1e-6)
    assert metrics["kid@tiny-random"]["value"] == pytest.approx(kid.compute(x, y), rel=1e-5)
    to_normal = fid.compute(x, z)
    assert metrics["fid_to_normal@tiny-random"]["value"] == pytest.approx(to_normal, rel=1e-6)
    reference = fid.compute(w, z)
    assert metrics["fid_reference@tiny-random"]["value"] == pytest.approx(reference, rel=1e-5)
    diversity = clustered_lpips.compute(network.embedded(synthetic), network.embedded(real))
    assert metrics["clustered_lpips@tiny-random"]["value"] == pytest.approx(diversity, rel=1e-5)


def test_the_record_carries_numbers_protocol_and_warnings(measured: Any) -> None:
    _, _, (record, other) = measured
    assert (record["category"], other["category"]) == ("bolt", "cloth")
    assert (record["method"], record["source"], record["seed"]) == ("sdas", "sdas", 0)
    assert record["metrics"]["fid@tiny-random"]["n"] == [14, 5]
    assert record["metrics"]["fid_reference@tiny-random"]["n"] == [12, 5]
    assert record["counts"]["synthetic"] == 14
    assert record["protocol"]["networks"] == {
        "tiny-random": open_network("tiny-random").weights_sha256
    }
    assert record["protocol"]["image_size"] == 32
    assert record["protocol"]["method"] == "sdas-1"
    assert all(name.endswith("@tiny-random") for name in record["metrics"])
    said = " ".join(record["notes"])
    assert "FID of 14 against 5 images" in said
    assert "12 training images, the synthetic set 14: their FIDs are not of equal N" in said
    assert "random network: its figures are no measure of quality" in said
    used = record["counts"]["clusters_used@tiny-random"]
    skipped = record["counts"]["clusters_skipped_single@tiny-random"]
    assert used + skipped + record["counts"]["clusters_skipped_empty@tiny-random"] == 5


def test_equal_numbers_where_there_are_enough(
    small_dataset: Path, make_shards: Callable[..., Path], tmp_path: Path
) -> None:
    (record,) = quality.run(
        make_shards(), str(small_dataset), "bolt", TINY, tmp_path / "r", Options(limit=8)
    )
    assert record["metrics"]["fid_to_normal@tiny-random"]["n"] == [8, 5]
    assert record["metrics"]["fid_reference@tiny-random"]["n"] == [8, 5]
    assert not any("equal N" in note for note in record["notes"])


def test_running_again_measures_nothing(measured: Any, tmp_path: Path) -> None:
    run, data, found = measured
    said: list[str] = []
    again = quality.run(run, str(data), "all", TINY, tmp_path / "results", Options(), said.append)
    assert again == found
    assert all(text.endswith("measured before") for text in said)
    other = quality.run(run, str(data), "bolt", TINY, tmp_path / "results", Options(limit=5))
    assert other[0]["counts"]["synthetic"] == 5
    assert len(records.find([tmp_path / "results"])) == 3


def test_categories_without_anomalies_are_undefined_not_0(
    small_dataset: Path, make_shards: Callable[..., Path], tmp_path: Path
) -> None:
    shutil.rmtree(small_dataset / "bolt" / "test" / "spot")
    (record,) = quality.run(
        make_shards(), str(small_dataset), "bolt", TINY, tmp_path / "r", Options()
    )
    for name in ("fid@tiny-random", "kid@tiny-random", "clustered_lpips@tiny-random"):
        assert record["metrics"][name]["value"] is None
        assert record["metrics"][name]["reason"]
    assert record["metrics"]["fid_to_normal@tiny-random"]["value"] > 0


def test_sources_are_read_stated_or_asked_for(
    small_dataset: Path, make_shards: Callable[..., Path], tmp_path: Path
) -> None:
    run = make_shards(method="")
    arguments: Any = (run, str(small_dataset), "bolt", TINY, tmp_path / "r")
    with pytest.raises(UserError, match="give --source NAME"):
        quality.run(*arguments, Options())
    (record,) = quality.run(*arguments, Options(source="cutpaste"))
    assert record["source"] == "cutpaste"


def test_shards_of_two_recipes_are_not_mixed(
    small_dataset: Path, make_shards: Callable[..., Path], tmp_path: Path
) -> None:
    run = make_shards()
    tar = run / "shards" / "small" / "bolt" / "bolt-00000.tar"
    second = tar.with_name("bolt-00001.tar")
    shutil.copy(tar, second)
    record = read_record(tar) or {}
    record["spec"]["s_high"] = 0.9
    write_record(second, {k: v for k, v in record.items() if k not in {"schema", "file"}})
    with pytest.raises(UserError, match="made differently: s_high"):
        quality.run(run, str(small_dataset), "bolt", TINY, tmp_path / "r", Options())


def test_bad_input_writes_nothing(
    small_dataset: Path, make_shards: Callable[..., Path], tmp_path: Path
) -> None:
    run, out = make_shards(), tmp_path / "results"
    data = str(small_dataset)
    cases: list[tuple[Any, str]] = [
        ((tmp_path / "none", data, "all", TINY, out, Options()), "do not exist"),
        ((run, data, "bold", TINY, out, Options()), "Did you mean bolt"),
        ((run, data, "all", [("tiny", None)], out, Options()), "features 'tiny' are unknown"),
        ((run, data, "all", TINY, out, Options(image_size=2)), "at least 8"),
        ((run, str(tmp_path / "no"), "all", TINY, out, Options()), "does not exist"),
    ]
    for arguments, match in cases:
        with pytest.raises(UserError, match=match):
            quality.run(*arguments)
        assert not out.exists()
    tar = run / "shards" / "small" / "cloth" / "cloth-00000.tar"
    with pytest.raises(UserError, match="holds small/cloth, not small/bolt"):
        quality.run(tar, data, "bolt", TINY, out, Options())
    shutil.rmtree(tar.parent)
    with pytest.raises(UserError, match="no finished shard of category small/cloth"):
        quality.run(run, data, "all", TINY, out, Options())
    assert not out.exists()


def test_the_run_folder_is_found_above_its_shards(
    small_dataset: Path, make_shards: Callable[..., Path], tmp_path: Path
) -> None:
    run = make_shards()
    (run / "run.json").write_text(json.dumps({"recipe": {}}))
    tar = run / "shards" / "small" / "bolt" / "bolt-00000.tar"
    (record,) = quality.run(tar, str(small_dataset), "bolt", TINY, tmp_path / "r", Options())
    assert len(record["run"]["run_sha256"]) == 64
    assert np.isfinite(record["metrics"]["fid@tiny-random"]["value"])


def test_a_stream_gives_the_figures_of_random_access(
    small_dataset: Path, make_shards: Callable[..., Path], tmp_path: Path
) -> None:
    run = make_shards()
    arguments: Any = (str(small_dataset), "bolt", TINY)
    (stored,) = quality.run(run, *arguments, tmp_path / "a", Options())
    (streamed,) = quality.run(run, *arguments, tmp_path / "b", Options(stream=True))
    for key in ("metrics", "counts", "protocol", "source"):
        assert streamed[key] == stored[key]
    assert streamed["artifacts"]["nearest"] == stored["artifacts"]["nearest"]
    assert streamed["run"]["shards_sha256"] == stored["run"]["shards_sha256"]
    tars = str(run / "shards" / "small" / "bolt" / "bolt-{00000..00000}.tar")
    with pytest.raises(UserError, match="give --source NAME"):
        quality.run(tars, *arguments, tmp_path / "c", Options(stream=True))
    (foreign,) = quality.run(
        tars, *arguments, tmp_path / "c", Options(stream=True, source="other", limit=5)
    )
    assert foreign["counts"]["synthetic"] == 5 and foreign["source"] == "other"
