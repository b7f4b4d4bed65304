"""`sia-gen import`, `run` and `preview` with a guiding classifier, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from sia_gen.cli.main import group
from sia_gen.core.errors import UserError
from sia_gen.core.pixels.images import encode_png

NAMES = "a,b,c"


def call(*arguments: object) -> None:
    result = CliRunner().invoke(group, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("guided")
    for name in NAMES.split(","):
        folder = root / "three" / name / "train" / "good"
        folder.mkdir(parents=True)
        (folder / "0.png").write_bytes(encode_png(np.full((32, 32), 9, np.uint8)))
    return root


def test_guidance_is_recorded_and_decides_the_shards(golden: Path, parts: Path) -> None:
    common = ["--dataset", "three", "--classes", NAMES, "--resolution", 32]
    unet = golden / "adm_unet_tiny.pt"
    call("import", unet, *common, "--head-channels", 16, "--out", parts / "m")
    call("import", golden / "adm_classifier_tiny.pt", *common, "--out", parts / "c")
    run = ["run", "--data", parts / "three", "--categories", "b", "--model", parts / "m"]
    run += ["--force", "--per-category", 2, "--steps", 2, "--precision", "fp32"]
    run += ["--executor", "local"]
    guided = ["--guidance", parts / "c", "--guidance-scale", 500]
    call(*run, "--out", parts / "plain")
    call(*run, "--out", parts / "guided", *guided)

    def record(name: str) -> dict[str, object]:
        found: dict[str, object] = json.loads(
            (parts / name / "shards" / "three" / "b" / "b-00000.json").read_text()
        )
        return found

    plain, steered = record("plain"), record("guided")
    facts = json.loads((parts / "c" / "classifier.json").read_text())
    assert steered["spec"]["guidance_sha256"] == facts["checkpoint_sha256"]  # type: ignore[index]
    assert steered["spec"]["guidance_scale"] == 500.0  # type: ignore[index]
    assert plain["spec"]["guidance_sha256"] == ""  # type: ignore[index]
    assert plain["spec_hash"] != steered["spec_hash"]
    assert plain["sha256"] != steered["sha256"]
    with pytest.raises(UserError, match="guidance"):
        call(*run, "--out", parts / "plain", *guided)
    sheet = ["preview", "--data", parts / "three", "--categories", "b", "--model", parts / "m"]
    call(*sheet, "--columns", 1, "--steps", 2, *guided, "--out", parts / "sheet.png")
    assert (parts / "sheet.png").is_file()
    for wrong, reason in ((parts, "holds no classifier.json"), (parts / "m", "holds no")):
        with pytest.raises(UserError, match=reason):
            call(*run, "--out", parts / "x", "--guidance", wrong)
    with pytest.raises(UserError, match="guidance_scale nan"):
        call(*run, "--out", parts / "x", "--guidance", parts / "c", "--guidance-scale", "nan")
    for scale in ("0", "-1"):
        wrong_scale = [*run, "--out", parts / "x", "--guidance", parts / "c"]
        result = CliRunner().invoke(
            group, [str(a) for a in (*wrong_scale, "--guidance-scale", scale)]
        )
        assert result.exit_code == 2
        assert "--guidance-scale" in result.output
    assert not (parts / "x").exists()
