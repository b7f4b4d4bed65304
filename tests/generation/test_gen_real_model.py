"""A real network through the whole job: the same bytes from this process and from Ray's workers."""

from __future__ import annotations

from pathlib import Path

import gen_support as support
import pytest
from gen_support import run

from sia_gen.care.verify import verify
from sia_gen.core.errors import UserError
from sia_gen.core.store.shards import ShardReader, find_shards, read_record
from sia_gen.generate.contents.images import prepare
from sia_gen.generate.options import ExecutionOptions


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of 16 x 16 pixels after one training step: a real model, and a bad one."""
    from sia_gen.diffusion.options import TrainOptions
    from sia_gen.diffusion.train import train

    out = tmp_path_factory.mktemp("model") / "run"
    train(
        TrainOptions(
            data="textures",
            categories="all",
            out=str(out),
            preset="tiny-16",
            resolution=16,
            steps=1,
            batch_size=4,
            device="cpu",
            health_images=4,
        )
    )
    return out / "model"


def test_a_model_that_failed_its_health_check_is_refused(model: Path, tmp_path: Path) -> None:
    options = support.options(tmp_path / "run", Path("textures"), model=str(model))
    with pytest.raises(UserError, match="failed its health check"):
        prepare(options)


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_local_and_ray_give_the_same_bytes(model: Path, tmp_path: Path) -> None:
    changes = {"model": str(model), "force": True, "per_category": 10, "shard_size": 6, "steps": 5}
    local, ray = tmp_path / "local", tmp_path / "ray"
    for out, executor in ((local, "local"), (ray, "ray")):
        options = support.options(out, Path("textures"), **changes)
        run(options, ExecutionOptions(executor=executor, workers=1, device="cpu"))
        assert verify(out).problems == ()
    assert support.stable_files(local) == support.stable_files(ray)
    record = read_record(find_shards(ray, "textures/grass")[0])
    assert record is not None
    assert record["made"]["device"] == "cpu"
    assert record["model"]["health_passed"] is False
    reader = ShardReader(find_shards(ray))
    assert len(reader) == 30 and reader.image(0).shape == (16, 16, 3)
