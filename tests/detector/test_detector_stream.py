"""Training from a stream: two processes from one bucket, each sample seen by one of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from moto_server import forget_buckets
from shard_files import write_record, write_tar

from detector import checkpoint
from detector.options import TrainOptions
from detector.training.tasks import Asked, plan
from detector.training.train import accelerator_for, train
from sia_gen.core.errors import UserError
from sia_gen.core.pixels.images import Array8
from sia_gen.core.store.shards import Synthetic

SHARDS, EACH = 4, 4
# As docs/launching.md says: of `--cpu --num_processes 2` accelerate makes one process.
LAUNCH = ["--multi_gpu", "--num_machines", "1", "--num_processes", "2", "--main_process_port", "0"]
LAUNCH += ["--mixed_precision", "no", "--dynamo_backend", "no", "-m"]
# A console script's main, with a note of what its process draws.
SCRIPT = """
import json, os, sys
from pathlib import Path
from sia_gen.streams import pipeline
original = pipeline.stream
def noted(urls, **how):
    for sample in original(urls, **how):
        if how.get("split"):
            with open(Path(sys.argv[0]).parent / ("rank-" + os.environ["RANK"]), "a") as file:
                print(sample.key, file=file)
        yield sample
pipeline.stream = noted
import torch
torch.set_num_threads(1)
from detector.cli.main import main
main()
"""


@pytest.fixture(scope="module")
def synthetic(generated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 16 images in 4 shards, as `generated` has them in one."""
    from sia_gen.core.store.shards import ShardReader

    reader = ShardReader(generated.rglob("*.tar"))
    run = tmp_path_factory.mktemp("streamed") / "run"
    for number in range(SHARDS):
        tar = run / "shards" / "line" / "stripes" / f"stripes-{number:05}.tar"
        tar.parent.mkdir(parents=True, exist_ok=True)
        images: list[Array8] = [reader.image((number + i) % len(reader)) for i in range(EACH)]
        samples = [
            Synthetic(key=f"s-{number * EACH + i:03}", image=image, metadata={"index": i})
            for i, image in enumerate(images)
        ]
        facts = write_tar(tar, samples)
        write_record(tar, {"category": "line/stripes", "spec_hash": "test", **facts})
    return run


@pytest.fixture(scope="module")
def bucket(synthetic: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """The run in a bucket of moto's S3 server, and the environment that leads there."""
    pytest.importorskip("s3fs")
    moto = pytest.importorskip("moto.server")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    forget_buckets(server)
    own = {
        "AWS_ENDPOINT_URL": "http://{}:{}".format(*server.get_host_and_port()),
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    import s3fs

    store = s3fs.S3FileSystem(
        key="test", secret="test", endpoint_url=own["AWS_ENDPOINT_URL"], skip_instance_cache=True
    )
    store.mkdir("bucket")
    for path in synthetic.rglob("*"):
        if path.is_file():
            store.pipe_file(f"bucket/run/{path.relative_to(synthetic)}", path.read_bytes())
    yield "s3://bucket/run", own
    server.stop()


def asked(shards: object, line: Path, recipe: Path, out: Path, **given: object) -> Asked:
    return Asked(
        out=out, data=str(line), categories="stripes", shards=str(shards), recipe=str(recipe),
        device="cpu", given={"stream": True, **given},
    )  # fmt: skip


def test_two_processes_train_from_a_bucket_and_share_its_samples(
    bucket: tuple[str, dict[str, str]], line: Path, recipe: Path, tmp_path: Path
) -> None:
    """Launched by `accelerate launch` as docs/launching.md says."""
    address, own = bucket
    script = tmp_path / "noted_detector.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "accelerate.commands.launch", *LAUNCH, script.stem, "train"]
    command += ["--data", str(line), "--categories", "stripes", "--shards", address, "--stream"]
    command += [
        "--steps",
        "6",
        "--recipe",
        str(recipe),
        "--device",
        "cpu",
        "--out",
        str(tmp_path / "out"),
    ]
    environment = {**os.environ, **own, "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = f"{tmp_path}:{Path(__file__).parents[2]}"
    environment |= {"SIA_GEN_CACHE": str(tmp_path / "cache"), "HF_HOME": str(tmp_path / "hf")}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=230, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    facts = checkpoint.read_facts(tmp_path / "out" / "line" / "stripes")
    assert facts["step"] == facts["total"]
    first = [(tmp_path / f"rank-{rank}").read_text().split()[: SHARDS * EACH // 2] for rank in "01"]
    assert sorted(first[0] + first[1]) == [f"s-{i:03}" for i in range(SHARDS * EACH)]
    assert not (tmp_path / "cache").exists()  # no local copy


def test_a_streamed_training_records_what_it_drew_from(
    synthetic: Path, line: Path, recipe: Path, tmp_path: Path
) -> None:
    planned = plan(asked(synthetic, line, recipe, tmp_path / "run", steps=3))
    (job,) = planned.jobs
    assert job.document["inputs"]["shards_sha256"] == job.task.streams[0].sha256
    facts = train(planned.options, job.task, tmp_path / "run", accelerator_for("cpu", "fp32"))
    assert facts["step"] == 3
    kept = json.loads((tmp_path / "run" / "line" / "stripes" / "options.json").read_text())
    assert kept["options"]["stream"] is True


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"protocol": "held-out", "holdout": 0.3}, "without --stream"),
        ({"source": "noise"}, "source of synthetic images"),
    ],
)
def test_what_a_stream_cannot_do_is_said(
    synthetic: Path, line: Path, recipe: Path, tmp_path: Path, given: dict[str, object], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        plan(asked(synthetic, line, recipe, tmp_path, **given))


def test_tars_of_unknown_category_serve_one_category(
    synthetic: Path, line: Path, recipe: Path, tmp_path: Path
) -> None:
    tars = f"{synthetic}/shards/line/stripes/stripes-{{00000..00003}}.tar"
    every = Asked(
        out=tmp_path, data=str(line), shards=tars, recipe=str(recipe), given={"stream": True}
    )
    with pytest.raises(UserError, match="which category"):
        plan(every)
    (job,) = plan(asked(tars, line, recipe, tmp_path)).jobs
    assert len(job.task.streams[0].urls) == SHARDS


def test_gradients_of_two_batches_make_the_step_of_their_mean(
    tiny: Callable[..., TrainOptions],
) -> None:
    """By a linear objective under SGD: the step of a batch twice as large, clipped or not."""
    import torch
    from torch import Tensor, nn

    from detector.data.batches import Batch
    from detector.training.objective import learn

    class Linear(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(2))

        def forward(self, *inputs: Tensor) -> Tensor:
            images = inputs[0].mean(dim=(2, 3))[:, :2]
            return (images * self.weight).mean(dim=0)

    class Nothing:
        def of(self, _: object) -> list[Tensor]:
            return []

    rng = np.random.default_rng(0)
    every = rng.integers(0, 256, (8, 4, 4, 3), dtype=np.uint8)
    masks = np.zeros((8, 4, 4), dtype=np.bool_)

    def batch(part: slice) -> Batch:
        images = every[part]
        return Batch(images=images, masks=masks[part], normal=np.arange(len(images)))

    accelerator = accelerator_for("cpu", "fp32")
    for clip in (0.0, 0.01):
        weights = []
        for parts in ([slice(0, 8)], [slice(0, 4), slice(4, 8)]):
            model = Linear()
            optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
            batches = [batch(part) for part in parts]
            size = len(batches[0].normal)
            learn(
                accelerator,
                model,
                optimizer,
                batches,
                Nothing(),
                whole=size,
                clip=clip,  # type: ignore[arg-type]
            )
            weights.append(model.weight.detach())
        torch.testing.assert_close(weights[0], weights[1])
        moved = float((weights[0] - 1).norm())
        assert moved == pytest.approx(0.01, rel=1e-3) if clip else moved > 0.01
    assert tiny(accumulate=4, steps=0, epochs=2).total_steps(33) == 2 * 2


def test_a_trained_name_with_its_tag_goes_to_timm_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """timm knows names, tags and where weights lie; nothing here keeps a table of them."""
    import timm

    from detector.nets.backbone import BackboneOptions, build

    asked: list[tuple[str, bool]] = []
    original = timm.create_model

    def noted(name: str, pretrained: bool, **how: object) -> object:
        asked.append((name, pretrained))
        return original(name, pretrained=False, **how)

    monkeypatch.setattr(timm, "create_model", noted)
    tagged, bare = "resnet18.a1_in1k", {"name": "resnet18", "weights": "pretrained:a1"}
    one = build(BackboneOptions(name=tagged, weights="pretrained", layers=(1,)))
    two = build(BackboneOptions(**bare, layers=(1,)))  # type: ignore[arg-type]
    assert asked == [(tagged, True)] * 2
    assert one.label == two.label == tagged
