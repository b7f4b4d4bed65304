"""Kinds of content of the one factory: pairs and strangers are made, checked and mended alike."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import gen_support as support
import numpy as np
import pytest
from fake_model import Fake

from sia_gen.care.repair import quarantined, repair, retry
from sia_gen.care.status import read as read_status
from sia_gen.care.verify import verify
from sia_gen.core.errors import IncompleteError, UserError
from sia_gen.core.pixels.images import encode_png
from sia_gen.core.provenance import sha256_file
from sia_gen.core.store.shards import read_record
from sia_gen.generate import contents, model
from sia_gen.generate import run as factory
from sia_gen.generate.content import Prepared, WorkerConfig
from sia_gen.generate.contents import images, pairs
from sia_gen.generate.options import ExecutionOptions, SynthesisOptions
from sia_gen.generate.worker import ShardWorker

LOCAL = ExecutionOptions(executor="local")


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two categories with three normal images of noise each."""
    root = tmp_path_factory.mktemp("contents") / "parts"
    rng = np.random.default_rng(0)
    for category in ("bolt", "nut"):
        for i in range(3):
            path = root / category / "train" / "good" / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode_png(rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)))
    return root


def prepared(out: object, data: Path, **changes: Any) -> Prepared:
    values: dict[str, Any] = {
        **{"method": "cutpaste", "data": str(data), "per_category": 5, "shard_size": 2},
        **{"resolution": 16, "normal": True, **changes},
    }
    return pairs.prepare(SynthesisOptions(out=str(out), **values))


@pytest.fixture(scope="module")
def made(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs in six shards, made in this process; tests only read them."""
    out = tmp_path_factory.mktemp("pairs") / "run"
    figures = factory.run(prepared(out, parts), LOCAL)
    assert (figures["images"], figures["shards"]) == (10, 6)
    return out


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    out = tmp_path / "run"
    shutil.copytree(made, out)
    return out


def test_pairs_leave_what_images_leave(made: Path) -> None:
    names = {name for name in support.all_files(made) if not name.startswith("shards/")}
    assert names == support.RUN_FILES - {"card/strengths.svg"}
    assert verify(made).problems == ()
    assert json.loads((made / "index.json").read_text())["complete"] is True
    assert "5 |" in (made / "README.md").read_text()


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_pairs_made_on_ray_equal_those_made_here(parts: Path, made: Path, tmp_path: Path) -> None:
    figures = factory.run(prepared(tmp_path / "run", parts), ExecutionOptions(workers=2))
    assert figures["shards_made_now"] == 6
    assert support.tar_hashes(tmp_path / "run") == support.tar_hashes(made)
    assert verify(tmp_path / "run").problems == ()


def test_pairs_are_shared_between_drivers(parts: Path, made: Path, tmp_path: Path) -> None:
    joined = ExecutionOptions(executor="local", join=True)
    factory.run(prepared(tmp_path / "run", parts), joined)
    assert support.tar_hashes(tmp_path / "run") == support.tar_hashes(made)
    assert not {
        n for n in support.all_files(tmp_path / "run") if n.startswith(("claims", "driver"))
    }


def test_what_cannot_be_made_is_quarantined_and_the_rest_is_made(
    parts: Path, tmp_path: Path
) -> None:
    masks = tmp_path / "masks"
    for category, level in (("bolt", 0), ("nut", 255)):  # nothing may lie on a bolt
        (masks / category).mkdir(parents=True)
        for i in range(3):
            mask = np.full((20, 20), level, np.uint8)
            (masks / category / f"{i}.png").write_bytes(encode_png(mask))
    out = tmp_path / "run"
    with pytest.raises(IncompleteError, match=r"3 of 6 shards failed: .*inside the foreground"):
        factory.run(prepared(out, parts, foreground=str(masks)), LOCAL)
    names = [f"bolt-0000{i}" for i in range(3)]
    assert quarantined(out) == names and read_status(out)["failed"] == names
    assert read_status(out)["categories"] == {"bolt": 0, "nut": 5}
    with pytest.raises(IncompleteError, match="3 of 6 shards failed"):
        retry(out, LOCAL)


def _retar(tar: Path, member: str, content: bytes, **metadata: object) -> None:
    """Replaces a member and makes the record agree in size and hash: only the inside can tell."""
    buffer = io.BytesIO()
    with tarfile.open(tar) as old, tarfile.open(fileobj=buffer, mode="w") as new:
        for info in old:
            file = old.extractfile(info)
            assert file is not None
            found = content if info.name == member else file.read()
            if info.name == member.split(".")[0] + ".json":
                found = json.dumps({**json.loads(found), **metadata}, sort_keys=True).encode()
            info.size = len(found)
            new.addfile(info, io.BytesIO(found))
    tar.write_bytes(buffer.getvalue())
    record = json.loads(tar.with_suffix(".json").read_text())
    record["samples"][0] |= metadata
    record |= {"bytes": len(buffer.getvalue()), "sha256": sha256_file(tar)}
    tar.with_suffix(".json").write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("suffix", "words"),
    [
        (".mask.png", "another mask than its record"),
        (".normal.png", "differs from its normal image outside its mask"),
    ],
)
def test_a_forged_mask_or_normal_image_is_found_and_mended(
    suffix: str, words: str, run: Path, made: Path
) -> None:
    tar = run / "shards/parts/bolt/bolt-00000.tar"
    shape = (16, 16) if suffix == ".mask.png" else (16, 16, 3)
    _retar(tar, f"bolt-00000000{suffix}", encode_png(np.zeros(shape, np.uint8)))
    (problem,) = verify(run).problems
    assert problem.kind == "pixels" and words in problem.detail
    assert repair(run, LOCAL)["shards_made_now"] == 1
    assert support.tar_hashes(run) == support.tar_hashes(made)


def test_a_folder_of_the_former_synthesize_is_read_and_mended(run: Path, made: Path) -> None:
    document = json.loads((run / "run.json").read_text())
    former = {name: document[name] for name in ("schema", "kind", "recipe", "options")}
    for name in support.all_files(run):
        if not name.startswith("shards/"):
            (run / name).unlink()
    (run / "synthesis.json").write_text(json.dumps(former))
    assert verify(run).problems == () and read_status(run)["state"] == "complete"
    tar = run / "shards/parts/nut/nut-00002.tar"
    tar.write_bytes(tar.read_bytes()[:-512])
    assert repair(run, LOCAL)["shards_made_now"] == 1
    assert support.tar_hashes(run) == support.tar_hashes(made)
    assert not (run / "run.json").exists() and (run / "index.json").is_file()
    with pytest.raises(UserError, match="seed: 0 -> 1"):
        prepared(run, Path(document["options"]["data"]), seed=1)


def test_a_kind_does_not_go_on_in_the_folder_of_another(run: Path, mini: Path) -> None:
    with pytest.raises(UserError, match="is of `sia-gen pairs`, not of `sia-gen run`"):
        images.prepare(support.options(run, mini))


def test_the_worker_obeys_the_specification(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its configuration says where things lie; all that decides pixels stands in the shard."""
    asked: list[dict[str, Any]] = []

    def load(name: str, **how: Any) -> Fake:
        asked.append(how)
        return model_load(name, **how)

    model_load = model.load
    monkeypatch.setattr(model, "load", load)
    first = support.plan()[0]
    worker = ShardWorker(support.config(tmp_path))
    assert worker.load(first)["status"] == "ready"
    other = replace(first, shard=1, steps=7, sampler="ddim", precision="bf16", threads=2)
    last = replace(other, shard=2, format="realnet-1")
    for spec in (first, replace(first, shard=3), other, last):
        assert worker.run(spec, 1)["status"] == "done"
    told = [(how["steps"], how["sampler"], how["precision"], how["threads"]) for how in asked]
    assert told == [(20, "iddpm", "auto", 1), (7, "ddim", "bf16", 2), (7, "ddim", "bf16", 2)]
    assert [how["truncate"] for how in asked] == [False, False, True]
    record = read_record(tmp_path / other.file)
    assert record is not None and record["samples"][0]["steps"] == 7
    answer = worker.run(replace(first, shard=4, checkpoint_sha256="0" * 64), 1)
    assert answer["kind"] == "user" and "changed since" in answer["error"]


def test_a_node_with_other_normal_images_makes_no_pairs(parts: Path, tmp_path: Path) -> None:
    plan = prepared(tmp_path / "run", parts)
    elsewhere = tmp_path / "parts"
    shutil.copytree(parts, elsewhere)
    config = WorkerConfig(
        kind=pairs.KIND, run=str(tmp_path / "run"), given={**plan.given, "data": str(elsewhere)}
    )
    assert ShardWorker(config).load(plan.planned[0])["status"] == "ready"
    (elsewhere / "bolt/train/good/1.png").write_bytes(encode_png(np.zeros((20, 20, 3), np.uint8)))
    answer = ShardWorker(config).load(plan.planned[0])
    assert answer["kind"] == "user" and "normal_images_sha256" in answer["error"]


GRAYS = '''
"""Gray squares: a kind of content in one file."""

from dataclasses import asdict, dataclass

import numpy as np

from sia_gen.core.store.tars import Synthetic, TarBuilder
from sia_gen.generate.card import Card, head, table, tail
from sia_gen.generate.content import Made, Prepared
from sia_gen.runs import folder
from sia_gen.runs.spec import Shard, cut

KIND = "sia-gen grays"
HEAVY = False


@dataclass(frozen=True, kw_only=True, slots=True)
class GrayShard(Shard):
    level: int


def planned(document):
    recipe = folder.recipe_of(document)
    return [
        GrayShard(dataset="grays", category="flat", level=recipe["level"], **part)
        for part in cut(recipe["images"], 2)
    ]


def prepare(options):
    recipe = {"level": options["level"], "images": 5}
    return Prepared(
        kind=KIND, out=folder.check_output(options["out"]), recipe=recipe,
        facts={"options": options}, given={}, planned=planned({"recipe": recipe}),
    )


def stored(document, out, *, data, model):
    return prepare({**document["options"], "out": out})


class Painter:
    device = "cpu"

    def prepare(self, spec):
        pass

    def make(self, spec, on_images):
        builder = TarBuilder()
        for made, index in enumerate(spec.indices(), start=1):
            image = np.full((4, 4, 3), spec.level + index, np.uint8)
            metadata = {"index": index, "dataset": spec.dataset}
            builder.add(Synthetic(key=spec.sample_key(index), image=image, metadata=metadata))
            on_images(made)
        return Made(tar=builder.finish(), facts={}, made={})


def load(config):
    return Painter()


def card(document, finished):
    text = head("Grays", finished) + table(finished) + tail(finished)
    return Card(name="grays", text=text, description="Gray squares.")
'''


def test_a_new_kind_of_content_is_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Made, resumed, verified, repaired and shown by what knew nothing of it."""
    (tmp_path / "kinds").mkdir()
    (tmp_path / "kinds" / "grays.py").write_text(GRAYS)
    monkeypatch.setattr(contents, "__path__", [*contents.__path__, str(tmp_path / "kinds")])
    content, out = contents.load("grays"), tmp_path / "run"
    plan = content.prepare({"level": 30, "out": str(out)})
    assert factory.run(plan, LOCAL)["shards_made_now"] == 3
    assert "[3/3] flat-00002" in capsys.readouterr().err
    assert factory.run(plan, LOCAL)["shards_made_now"] == 0
    before = support.tar_hashes(out)
    (out / "shards/grays/flat/flat-00001.tar").unlink()
    assert [p.kind for p in verify(out).problems] == ["missing"]
    assert repair(out, LOCAL)["shards_made_now"] == 1
    assert support.tar_hashes(out) == before and verify(out).problems == ()
    assert read_status(out)["categories"] == {"flat": 5}
    with pytest.raises(UserError, match="level: 30 -> 31"):
        factory.run(content.prepare({"level": 31, "out": str(out)}), LOCAL)
