"""Deep images are read as when shards were made from them: at the given range, or the recorded."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from shard_files import write_record, write_tar

from detector.data.task import Task
from detector.options import TrainOptions
from detector.training.tasks import Asked, choose, find_tasks
from harness.peers import plan as peers
from harness.peers.options import Options as PeerOptions
from harness.quality import run as quality
from harness.quality.sets import Options as QualityOptions
from sia_gen.core.data.category import as_recorded
from sia_gen.core.data.dataset import open_dataset
from sia_gen.core.errors import UserError
from sia_gen.core.store.made_from import made_from
from sia_gen.core.store.shards import ShardReader, find_shards
from sia_gen.core.store.tars import Synthetic
from sia_gen.generate import method_preview
from sia_gen.generate.contents import pairs
from sia_gen.generate.options import ExecutionOptions, MethodPreviewOptions, SynthesisOptions
from sia_gen.generate.run import run

GIVEN, ASKED = (0.0, 8190.0), (0.0, 16380.0)
LOCAL = ExecutionOptions(executor="local")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A dataset of one category, 12 bits in files of 16: measured, its range is 0 to 4095."""
    rng = np.random.default_rng(0)
    for folder, count in (("train/good", 6), ("test/good", 3), ("test/dent", 3)):
        place = tmp_path / "deep" / "plate" / folder
        place.mkdir(parents=True)
        for number in range(count):
            values = rng.integers(500, 4000, (16, 16)).astype(np.uint16)
            Image.fromarray(values).save(place / f"{number}.png")
    return tmp_path / "deep"


@pytest.fixture
def shards(data: Path, tmp_path: Path) -> Path:
    """A run of synthetic images whose model read the normal images at the range GIVEN."""
    out = tmp_path / "sia"
    images = np.random.default_rng(1).integers(0, 256, (6, 16, 16, 3)).astype(np.uint8)
    tar = out / "shards" / "deep" / "plate" / "plate-00000.tar"
    facts = write_tar(tar, [Synthetic(key=f"{i}", image=image, metadata={"index": i})
                            for i, image in enumerate(images)])  # fmt: skip
    spec = {"method": "sdas-1", "seed": 0}
    write_record(tar, {"category": "deep/plate", "spec": spec, "spec_hash": "x", **facts})
    document = {"schema": 1, "kind": "sia-gen run", "data": str(data),
                "recipe": {"categories": ["plate"]},
                "value_ranges": {"deep/plate": list(GIVEN)}}  # fmt: skip
    (out / "run.json").write_text(json.dumps(document))
    return out


def test_given_beats_recorded_beats_measured(data: Path, tmp_path: Path) -> None:
    (plate,) = open_dataset(data).categories
    known: dict[str, Any] = {"deep/plate": list(GIVEN), "deep/other": [0, 1]}
    assert plate.value_range == (0, 4095)
    assert as_recorded([plate], known)[0].value_range == GIVEN
    assert as_recorded([replace(plate, given_range=ASKED)], known)[0].value_range == ASKED
    flat = tmp_path / "flat" / "plate" / "train" / "good"
    flat.mkdir(parents=True)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(flat / "0.png")
    eight = replace(open_dataset(flat.parents[2]).categories[0], dataset="deep")
    assert as_recorded([eight], known)[0].value_range is None
    for wrong in (5, ["a", "b"], [1, 2, 3], [2, 1], {}):
        with pytest.raises(UserError, match="expected"):
            as_recorded([plate], {"deep/plate": wrong})  # type: ignore[dict-item]


@pytest.mark.parametrize(("asked", "wanted"), [(None, GIVEN), (ASKED, ASKED)])
def test_all_that_read_the_normal_images_beside_shards_read_them_alike(
    data: Path, shards: Path, tmp_path: Path, asked: Any, wanted: Any
) -> None:
    # Quality: measured beside the same images at the same range.
    options = QualityOptions(value_range=asked)
    (record,) = quality.run(
        shards, str(data), "all", [("tiny-random", None)], tmp_path / "results", options
    )
    assert record["run"]["value_range"] == list(wanted)
    assert record["protocol"].get("value_range") == (None if asked is None else list(asked))
    # Training of a detector.
    training = Asked(out=tmp_path / "d", shards=str(shards), value_range=asked)
    (task,) = find_tasks(training, choose(training), TrainOptions(source="sdas", steps=2))
    assert isinstance(task, Task) and task.value_ranges == {"deep/plate": list(wanted)}
    # Pairs, and whoever reads those.
    made = SynthesisOptions(
        method="sdas", out=str(tmp_path / "pairs"), data=str(data), shards=str(shards),
        per_category=2, resolution=16, value_range=asked,
    )  # fmt: skip
    run(pairs.prepare(made), LOCAL)
    found = made_from(tmp_path / "pairs")
    assert found is not None and found.value_ranges == {"deep/plate": list(wanted)}
    (tar,) = find_shards(tmp_path / "pairs")
    assert len(ShardReader([tar])) == 2


@pytest.mark.parametrize("place", ["x" * 5000, "a\0b", "nowhere"])
def test_shards_that_no_path_can_be_are_told(data: Path, tmp_path: Path, place: str) -> None:
    options = SynthesisOptions(
        method="sdas", out=str(tmp_path / "pairs"), data=str(data), shards=place, resolution=16
    )
    with pytest.raises(UserError, match="do not exist"):
        pairs.prepare(options)


def test_a_sheet_of_methods_reads_at_the_range(
    data: Path, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    real = method_preview.context_of
    monkeypatch.setattr(
        method_preview, "context_of", lambda c, *rest: seen.append(c.value_range) or real(c, *rest)
    )

    def sheet(**how: Any) -> MethodPreviewOptions:
        return MethodPreviewOptions(
            out=str(tmp_path / "a.png"), data=str(data), methods="noise", resolution=16, **how
        )

    for options in (sheet(), sheet(shards=str(shards)), sheet(value_range=ASKED)):
        method_preview.make_method_preview(options)
    assert seen == [(0, 4095), GIVEN, ASKED]


def test_peers_are_told_a_given_range(data: Path, tmp_path: Path) -> None:
    def cell(value_range: Any) -> peers.Trial:
        options = PeerOptions(models="padim", out=tmp_path, value_range=value_range)
        return peers.cells(options, str(data), open_dataset(data, value_range).categories)[0]

    plain, given = cell(None), cell(ASKED)
    assert given.spec["value_range"] == peers.protocol(given)["value_range"] == list(ASKED)
    assert "value_range" not in plain.spec and plain.spec_hash != given.spec_hash
