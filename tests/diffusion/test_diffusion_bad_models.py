"""Models that cannot be what they say: each fault has its own sentence, and exit code 2."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from sia_gen.cli.main import group
from sia_gen.core.errors import UserError
from sia_gen.core.pixels.images import encode_png
from sia_gen.core.provenance import sha256_file
from sia_gen.diffusion.generator import load_generator
from sia_gen.diffusion.importing import import_adm
from sia_gen.diffusion.model_folder import FACTS, WEIGHTS

Change = Callable[[Path], None]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shared = Path(os.environ.get("SHARED_DIR", Path(__file__).resolve().parents[3] / "shared"))
    golden = Path(os.environ.get("GOLDEN_DIR", shared / "golden"))
    if not golden.is_dir():
        pytest.skip(f"golden arrays are absent: {golden} (set GOLDEN_DIR)")
    return import_adm(
        golden / "adm_unet_tiny.pt",
        tmp_path_factory.mktemp("bad") / "m",
        dataset="three",
        classes=("a", "b", "c"),
        resolution=32,
        head_channels=16,
    )


def seal(folder: Path, **facts: object) -> None:
    """Makes the record agree with the weights again, so that the next check is reached."""
    known = json.loads((folder / FACTS).read_text())
    known |= {"checkpoint_sha256": sha256_file(folder / WEIGHTS), **facts}
    (folder / FACTS).write_text(json.dumps(known))


def more_classes(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    weights["class_embedding.weight"] = weights["class_embedding.weight"].repeat(5, 1)
    save_file(weights, folder / WEIGHTS)
    seal(folder)


def fewer_names(folder: Path) -> None:
    seal(folder, classes=["a", "b"])


def not_a_number(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    weights["conv_in.bias"][0] = torch.nan
    save_file(weights, folder / WEIGHTS)
    seal(folder)


def truncated(folder: Path) -> None:
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: len(content) // 2])


def truncated_and_sealed(folder: Path) -> None:
    truncated(folder)
    seal(folder)


def one_missing(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    del weights["conv_out.weight"]
    save_file(weights, folder / WEIGHTS)
    seal(folder)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (more_classes, "the network cannot be loaded"),
        (fewer_names, "its network has 3 classes, its record names 2"),
        (not_a_number, "conv_in.bias holds NaN"),
        (truncated, "not the file its record names"),
        (truncated_and_sealed, "the network cannot be loaded"),
        (one_missing, "conv_out.weight"),
    ],
)
def test_a_broken_model_is_refused(
    model: Path, tmp_path: Path, change: Change, reason: str
) -> None:
    folder = tmp_path / "m"
    shutil.copytree(model, folder)
    change(folder)
    with pytest.raises(UserError, match=reason):
        load_generator(folder, device="cpu", precision="fp32")


def test_strength_must_be_a_number(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected finite numbers of at least 0"):
        load_generator(model, device="cpu", precision="fp32", steps=1).images("a", [1], [np.nan])
    part = tmp_path / "three" / "a" / "train" / "good"
    part.mkdir(parents=True)
    (part / "0.png").write_bytes(encode_png(np.zeros((32, 32), np.uint8)))
    common = ["--data", str(tmp_path / "three"), "--model", str(model), "--out"]
    with pytest.raises(UserError, match="expected two finite numbers"):
        CliRunner().invoke(
            group,
            ["run", *common, str(tmp_path / "run"), "--s-range", "nan", "0.2"],
            catch_exceptions=False,
        )
    with pytest.raises(UserError, match="expected a finite number"):
        CliRunner().invoke(
            group,
            ["preview", *common, str(tmp_path / "x.png"), "--strengths", "0,nan"],
            catch_exceptions=False,
        )


def test_probe_names_a_batch_size(model: Path) -> None:
    arguments = ["probe", "--model", str(model), "--largest", "2", "--steps", "1", "--json"]
    result = CliRunner().invoke(group, [*arguments, "--device", "cpu"], catch_exceptions=False)
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert [p["batch"] for p in found["probes"]] == [1, 2]
    assert found["best"] in {1, 2}
