"""Retry of what was given up, health that refuses to publish, and figures of the plan."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import gen_support as support
import numpy as np
import pytest
from gen_support import run

from sia_gen.care.repair import quarantined, retry
from sia_gen.care.status import read as read_status
from sia_gen.core.errors import IncompleteError, UserError
from sia_gen.core.pixels.images import encode_png
from sia_gen.core.store.shards import read_record
from sia_gen.generate import estimate
from sia_gen.generate.contents.images import prepare
from sia_gen.generate.estimate import describe_plan
from sia_gen.generate.levels import Weight
from sia_gen.generate.options import ExecutionOptions
from sia_gen.runs.shard_health import Health, HealthMeter, Levels, UnhealthyShardError

LOCAL = ExecutionOptions(executor="local")


def test_retry_makes_what_was_given_up_and_nothing_else(
    tmp_path: Path, mini: Path, finished: Path
) -> None:
    out = tmp_path / "run"
    fault = f"testing:noise?fault=raise&at={support.seed_of('grass', 9)}"
    with pytest.raises(IncompleteError):
        run(support.options(out, mini, model=fault), LOCAL)
    (out / "shards/mini/brick/brick-00000.json").unlink()  # missing, but never given up
    assert quarantined(out) == ["grass-00001"]
    with pytest.raises(IncompleteError, match="grass-00001"):
        retry(out, LOCAL)
    figures = retry(out, LOCAL, model="testing:noise")
    assert figures["retried"] == ["grass-00001"]
    assert (figures["shards_made_now"], figures["shards_missing"]) == (1, 1)
    assert quarantined(out) == []
    assert read_status(out)["state"] == "incomplete"
    run(support.options(out, mini), LOCAL)
    assert support.stable_files(out) == support.stable_files(finished)


def test_retry_on_the_command_line(tmp_path: Path, finished: Path, mini: Path) -> None:
    del mini
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    code, printed, error = support.call("retry", out, "--executor", "local", "--json")
    assert code == 0, error
    assert json.loads(printed)["retried"] == []


def test_brightness_far_from_the_normal_images_fails_the_shard(tmp_path: Path, mini: Path) -> None:
    """The fake's mean is 128; the normal images of `mini` are nearly black."""
    out = tmp_path / "run"
    with pytest.raises(IncompleteError, match=r"mean brightness is 12[78].*normal images 10"):
        run(support.options(out, mini, categories="brick", model="testing:noise?judged=1"), LOCAL)
    assert not list(out.rglob("*.tar"))


def test_brightness_near_the_normal_images_is_recorded(tmp_path: Path) -> None:
    data = tmp_path / "data"
    folder = data / "brick" / "train" / "good"
    folder.mkdir(parents=True)
    for i, level in enumerate((110, 130, 150)):
        (folder / f"{i}.png").write_bytes(encode_png(np.full((20, 20, 3), level, np.uint8)))
    out = tmp_path / "run"
    run(support.options(out, data, model="testing:noise?judged=1"), LOCAL)
    record = read_record(out / "shards/data/brick/brick-00000.tar")
    assert record is not None
    assert record["health"]["normal_level"] == 130.0
    assert abs(record["health"]["mean_level"] - 128) < 2
    assert record["health"]["non_finite"] == 0
    stored = json.loads((out / "run.json").read_text())["normals"]["data/brick"]
    assert stored["mean"] == 130.0


def test_the_meter_counts_by_name() -> None:
    meter = HealthMeter()
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    clipped = np.where(noise > 128, 255, 0).astype(np.uint8)
    flat = np.full((8, 8, 3), 255, np.uint8)
    for image, name in ((noise, "a"), (noise, "a"), (clipped, "b"), (flat, "c")):
        meter.add(image, name)
    health = meter.result()
    assert (health.images, health.constant, health.duplicates, health.saturated) == (4, 1, 1, 2)
    assert health.mean_level == pytest.approx(
        np.mean([noise.mean(), noise.mean(), clipped.mean(), 255.0]), abs=1e-3
    )


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"constant": 2}, "2 of 100 images are constant, more than 1%"),
        ({"duplicates": 2}, "duplicates"),
        ({"saturated": 51}, "saturated, more than 50%"),
        ({"mean_level": 180.0}, "180, that of the normal images 100"),
    ],
)
def test_each_limit_fails_by_name(change: dict[str, float], word: str) -> None:
    usual = {
        **{"images": 100, "non_finite": 0, "constant": 1, "duplicates": 1, "saturated": 50},
        **{"mean_level": 120.0, "normal_level": 100.0},
    }
    normal = Levels(mean=100.0, spread=5.0)
    Health(**usual).require(normal)  # type: ignore[arg-type]
    with pytest.raises(UnhealthyShardError, match=word):
        Health(**{**usual, **change}).require(normal)  # type: ignore[arg-type]


def test_the_plan_measures_the_size_on_normal_images(tmp_path: Path, mini: Path) -> None:
    """Grainy images cost more than their smooth normals; WebP less than PNG, JPEG the least."""
    sizes = {}
    for encode in ("png", "webp", "realnet"):
        large = "testing:noise?size=64"
        options = support.options(tmp_path / "run", mini, encode=encode, model=large)
        figures = describe_plan(prepare(options))
        assert "normal images" in figures["bytes_measured_on"]
        assert figures["seconds_estimated"] is None and figures["memory_per_worker"] is None
        sizes[encode] = figures["bytes_per_image"]
        assert figures["bytes_to_do_estimated"] == pytest.approx(60 * sizes[encode], abs=30)
    assert sizes["realnet"] < sizes["webp"] < sizes["png"]


def test_the_plan_of_a_run_half_done_knows_sizes_time_and_memory_from_its_records(
    tmp_path: Path, mini: Path, finished: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    (out / "shards/mini/gravel/gravel-00002.json").unlink()
    progress = json.loads((out / "progress.json").read_text())
    (out / "progress.json").write_text(json.dumps({**progress, "seconds_starting": 7.5}))
    figures = describe_plan(prepare(support.options(out, mini)), workers=2)
    done = [p for p in out.rglob("*.tar") if p.name != "gravel-00002.tar"]
    real = sum(path.stat().st_size for path in done) / 56
    assert figures["bytes_per_image"] == pytest.approx(real, rel=0.01)
    assert figures["rate_measured_on"] == "8 finished shards"
    making = 4 / figures["images_per_second"]
    assert figures["seconds_estimated"] == pytest.approx(7.5 + making, abs=0.1)
    assert figures["memory_per_worker"]["host"] > 10 * 2**20


def test_a_warm_up_measures_rate_size_and_memory(tmp_path: Path, mini: Path) -> None:
    options = support.options(tmp_path / "run", mini, model="testing:noise?delay=0.02")
    figures = describe_plan(prepare(options), warm_up=True, workers=3)
    assert "warm-up of 4 images" in figures["rate_measured_on"]
    assert 0 < figures["images_per_second"] <= 3 * 4 / 0.02
    assert figures["seconds_estimated"] >= 60 / figures["images_per_second"] - 0.1
    assert figures["memory_per_worker"]["host"] > 10 * 2**20
    assert not list(tmp_path.iterdir())


def test_the_plan_counts_the_start_and_workers_that_share_cores(
    tmp_path: Path, mini: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = estimate.Estimate(
        weight=Weight(bytes=100.0, measured_on="x"), rate=1.0, rate_measured_on="x", memory=None,
        seconds_starting=5.0, most_at_once=2,
    )  # fmt: skip
    monkeypatch.setattr(estimate, "from_warm_up", lambda *_: found)
    figures = describe_plan(
        prepare(support.options(tmp_path / "run", mini)), warm_up=True, workers=8
    )
    assert (figures["workers"], figures["workers_at_once"]) == (8, 2)
    assert figures["seconds_estimated"] == 5.0 + 60 / 2.0


def test_an_encoding_that_changed_is_another_run(
    tmp_path: Path, mini: Path, finished: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    with pytest.raises(UserError, match="format: png-1 -> webp-1"):
        run(support.options(out, mini, encode="webp"), LOCAL)
