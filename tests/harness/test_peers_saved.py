"""anomalib's own saved predictions, as `harness submit` reads them; anomalib is not needed."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torchvision.tv_tensors import Image, Mask

from harness.measure import submit
from harness.measure.saved_batches import load
from sia_gen.core.data.dataset import open_dataset
from sia_gen.core.errors import UserError

PLACE = "anomalib.data.dataclasses.torch.image"


@pytest.fixture
def batch_class(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A class that pickles under the name of anomalib's batches, as long as the test needs it."""
    cls = type("ImageBatch", (), {"__module__": PLACE})
    parts = PLACE.split(".")
    for i in range(1, len(parts) + 1):
        name = ".".join(parts[:i])
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setattr(sys.modules[PLACE], "ImageBatch", cls, raising=False)
    return cls


def batches(cls: Any, category: Any) -> list[Any]:
    made = []
    generator = torch.Generator().manual_seed(0)
    for start in range(0, len(category.test), 4):
        part = category.test[start : start + 4]
        batch = cls()
        batch.image = Image(torch.rand(len(part), 3, 32, 32, generator=generator))
        batch.gt_label, batch.pred_label, batch._explanation = None, None, None
        batch.image_path = [str(example.path) for example in part]
        batch.anomaly_map = Mask(torch.rand(len(part), 32, 32, generator=generator))
        batch.pred_score = torch.rand(len(part), generator=generator)
        made.append(batch)
    return made


@pytest.mark.parametrize("nested", [False, True])
def test_saved_predictions_are_taken_in(
    small_dataset: Path, tmp_path: Path, batch_class: Any, nested: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    category = open_dataset(small_dataset).one("bolt")
    made = batches(batch_class, category)
    torch.save([made] if nested else made, tmp_path / "predictions.pt")
    monkeypatch.undo()
    folder = submit.run(
        tmp_path / "predictions.pt", category, tmp_path / "run", submit.Options(method="padim")
    )
    scores = submit.scorefile.read(folder)
    assert len(scores.items) == len(category.test)
    paths = [name for batch in made for name in batch.image_path]
    scored = {item["path"]: item["score_own"] for item in scores.items}
    stated = torch.cat([batch.pred_score for batch in made]).tolist()
    assert scored == pytest.approx(dict(zip(paths, stated, strict=True)))
    assert scores.maps_NHW[0].max() == pytest.approx(float(made[0].anomaly_map[0].max()))


class Harmful:
    def __reduce__(self) -> Any:
        return (print, ("code of the file ran",))


def test_other_classes_stay_refused(
    small_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], batch_class: Any
) -> None:
    batch = batch_class()
    batch.image_path, batch.anomaly_map = ["a/b.png"], Harmful()
    torch.save([batch], tmp_path / "bad.pt")
    with pytest.raises(Exception, match=r"(?i)unsupported|weights"):
        load(tmp_path / "bad.pt")
    category = open_dataset(small_dataset).one("bolt")
    with pytest.raises(UserError, match="no plain file"):
        submit.run(tmp_path / "bad.pt", category, tmp_path / "run", submit.Options(method="x"))
    assert "ran" not in capsys.readouterr().out
