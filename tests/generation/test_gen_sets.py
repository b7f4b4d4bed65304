"""A run over several datasets at once: their categories keep their full names."""

from __future__ import annotations

import shutil
from pathlib import Path

import gen_support as support
import numpy as np
from gen_support import run

from sia_gen.care.repair import repair
from sia_gen.care.status import read as read_status
from sia_gen.care.verify import verify
from sia_gen.core.store.shards import ShardReader, find_shards, read_record
from sia_gen.generate.options import ExecutionOptions

LOCAL = ExecutionOptions(executor="local")


def test_equal_categories_of_two_datasets_stay_apart(mini: Path, tmp_path: Path) -> None:
    root, out = tmp_path / "data", tmp_path / "run"
    for name, categories in (("one", ("brick",)), ("two", ("brick", "grass"))):
        for category in categories:
            shutil.copytree(mini / category, root / name / category)
    run(support.options(out, root, per_category=5), LOCAL)
    assert verify(out).problems == ()
    keys = [str((read_record(tar) or {})["category"]) for tar in find_shards(out)]
    assert keys == ["one/brick", "two/brick", "two/grass"]
    first, second = find_shards(out, "one/brick")[0], find_shards(out, "two/brick")[0]
    assert first.read_bytes() != second.read_bytes()  # the full name decides the seeds
    state = read_status(out)
    assert state["categories"] == {"one/brick": 5, "two/brick": 5, "two/grass": 5}
    # The same images as of a run over the one dataset alone; keys name the dataset where two have
    # a category of that name, so that a key names one sample of a run.
    alone = tmp_path / "alone"
    run(support.options(alone, root / "two", per_category=5), LOCAL)
    one, other = ShardReader(find_shards(alone, "two/brick")), ShardReader([second])
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    assert one.members[0].key == "brick-00000000" and other.members[0].key == "two-brick-00000000"
    second.unlink()
    assert read_status(out)["categories"]["two/brick"] == 0
    repair(out, LOCAL)
    assert verify(out).problems == ()
