"""Reproduced tables: the printed comparison, and what a table still needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from reproduce_support import RECIPE, asked

from harness.reproduce import table as tables
from harness.reproduce.plan import Options, Plan, plan
from sia_gen.core.data.dataset import open_dataset


def fake_states(made: Plan, value: float = 0.5) -> tables.States:
    metrics = {name: {"value": value} for name in ("image_auroc_max", "pro_0.3")}
    return {
        (c.row, c.category, c.seed): {"state": "done", "metrics": metrics, "seconds": 0.0}
        for c in made.cells
    }


def test_a_comparison_has_a_line_a_category(room: Path, small_dataset: Path) -> None:
    made = asked(room, small_dataset, table="1")
    text = tables.render(made, fake_states(made), "table")
    lines = [line.split() for line in text.splitlines()]
    assert ["bolt", "-", "50.00", "-", "-", "50.00", "-"] in lines
    assert ["mean", "99.65", "50.00", "-", "-", "50.00", "-"] in lines


def test_means_over_seeds_have_a_deviation_and_gaps_have_none(
    room: Path, small_dataset: Path
) -> None:
    made = asked(room, small_dataset, seeds=(0, 1))
    states = fake_states(made)
    for category in ("bolt", "cloth"):
        states["AFS with RRS", category, 1] = {
            "state": "done", "seconds": 0.0,
            "metrics": {
                "image_auroc_max": {"value": 0.7},
                "pro_0.3": {"value": None, "reason": "x"},
            },
        }  # fmt: skip
    by = {(e.place, e.row, e.metric): e for e in tables.entries(made, states)}
    auroc = by["mean", "AFS with RRS", "image_auroc"]
    assert (auroc.measured, auroc.seeds) == (pytest.approx(60.0), 2)
    assert auroc.std == pytest.approx(14.142, abs=1e-3)
    pro = by["mean", "AFS with RRS", "pro"]
    assert (pro.measured, pro.std, pro.seeds) == (pytest.approx(50.0), None, 1)
    assert pro.reason == "undefined: x (bolt, seed 1)"
    del states["AFS with RRS", "cloth", 0]
    gap = {(e.place, e.row, e.metric): e for e in tables.entries(made, states)}
    assert gap["mean", "AFS with RRS", "pro"].measured is None


@pytest.mark.parametrize("form", tables.FORMATS)
def test_names_are_safe_in_every_form(room: Path, small_dataset: Path, form: str) -> None:
    (room / "own.yaml").write_text(RECIPE.replace("AFS with RRS", "A & <b>_|x"))
    made = asked(room, small_dataset)
    text = tables.render(made, fake_states(made), form)
    if form == "latex":
        assert r"A \& \textless{}b\textgreater{}\_|x" in text
    if form == "md":
        assert r"A &amp; &lt;b&gt;\_\|x" in text


def test_differences_stand_only_between_alike(room: Path, small_dataset: Path) -> None:
    from dataclasses import replace

    made = asked(room, small_dataset)
    row = made.rows[0]
    same = replace(
        made, measured_on="mvtec-ad", categories=(("carpet", "texture"), ("grid", "texture"))
    )

    def why(plan: Plan, place: str = "carpet", metric: str = "image_auroc", **of: Any) -> str:
        entry = {"value": 0.5, **of}
        found = dict.fromkeys(("image_auroc_max", "fid@inception", "fid@tiny-random"), entry)
        states = {(row.name, "carpet", 0): {"state": "done", "metrics": found}}
        names = ["carpet"] if place == "carpet" else ["carpet", "grid"]
        return tables.unlike(plan, states, row, place, names, metric)

    assert "measured on small" in why(made)
    assert why(same, n=[89, 28]) == ""
    assert "the dataset has 89 and 28" in why(same, n=[88, 28])
    assert why(same, "mean", n=[89, 28]) == "mean over 2 categories, the paper's over 15"
    row = replace(row, setting="images=1000;runs=3")
    for network, n, said in (
        ("inception", [1000, 89], ""),
        ("inception", [64, 89], "published of 1000 synthetic images, measured of 64"),
        ("tiny-random", [1000, 89], "published over inception, measured over tiny-random"),
    ):
        quality = replace(same, kind="quality", metrics={"fid": f"fid@{network}"})
        assert why(quality, metric="fid", n=n) == said


def test_a_dry_run_says_what_a_table_still_needs(tmp_path: Path) -> None:
    from harness.reproduce.needs import needs

    options = Options(table="realnet/S6", data="textures", out=tmp_path, budget="paper")
    said = needs(plan(options, open_dataset("textures")), options)
    assert said[0] == "data: mvtec-ad, not textures: --data mvtec-ad=DIR"
    assert said[1] == "textures: DTD blend them in: --textures DIR"
    assert any(line.startswith("weights: inception: ") for line in said)
    options = Options(table="redi/5", data="textures", out=tmp_path, budget="paper")
    said = needs(plan(options, open_dataset("textures")), options)
    assert any("recipe redi takes timm's wide_resnet50_2.tv_in1k" in line for line in said)
