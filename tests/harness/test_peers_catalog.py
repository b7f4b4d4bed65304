"""What is known of peers before they run, and the published systems beside them."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from harness_support import record_of

from harness import records
from harness.board import exports
from harness.board import page as report
from harness.board.build import build
from harness.board.published import PublishedNumbers
from harness.board.published_rows import add
from harness.cli.main import group
from harness.peers import catalog, listing
from sia_gen.core.errors import UserError

# Systems of other people that the two papers' tables name.
NAMED = (
    "patchcore", "simplenet", "fastflow", "draem+sspcab", "dsr", "uniad", "rd++", "destseg",
    "diffad", "cflow", "padim", "spade", "dagan", "skip-ganomaly", "vt-adl", "p-svdd", "draem",
    "omnial", "u-std", "mkdad", "daad+", "riad", "mad", "cutpaste", "mf", "cs-flow", "stpm", "rd",
    "rn", "anoclip", "diffusionad", "semi-orthogonal", "sgsf",
)  # fmt: skip


def test_names_are_found_in_any_spelling() -> None:
    spelt = "PatchCore, Reverse_Distillation,rd,STPM,EfficientAd,draem+sspcab"
    found = [peer.name for peer in catalog.select(spelt)]
    assert found == ["patchcore", "reverse-distillation", "stfpm", "efficientad", "draem+sspcab"]
    assert len(catalog.select("all")) >= 30
    with pytest.raises(UserError, match="successor is supersimplenet"):
        catalog.select("simplenet")


@pytest.mark.parametrize(
    ("name", "means", "said"),
    [
        ("patchcore", {}, "--weights FILE"),
        ("patchcore", {"weights": "x", "backbone": "mobilenetv2_100"}, ""),
        ("fastflow", {"weights": "x", "backbone": "mobilenetv2_100"}, ""),
        ("fastflow", {"weights": "pretrained", "backbone": "mobilenetv2_100"}, "resnet18"),
        ("reverse-distillation", {"weights": "x", "backbone": "mobilenetv2_100"}, "resnet18"),
        ("reverse-distillation", {"weights": "x", "backbone": "wide_resnet50_2.tv_in1k"}, ""),
        ("dinomaly", {"weights": "x", "backbone": "mobilenetv2_100"}, "dinov2"),
        ("draem", {}, "--textures"),
        ("draem", {"textures": "dtd"}, ""),
        ("dsr", {"weights": "x", "backbone": "resnet18"}, "VQ weights"),
        ("efficientad", {}, "ImageNette"),
        ("ganomaly", {}, "image scores only"),
    ],
)
def test_what_a_peer_lacks_is_known_before_it_starts(
    name: str, means: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "installed", lambda: False)
    (peer,) = catalog.select(name)
    given = {"weights": "", "backbone": "", "textures": ""} | means
    lacks = catalog.missing(peer, **given)
    assert said in lacks
    assert bool(said) == bool(lacks)


def test_every_system_that_the_papers_name_stands_in_the_leaderboard(tmp_path: Path) -> None:
    results = tmp_path / "results"
    values = {"image_auroc_max": 0.97, "image_auroc_avgpool16_max": 0.9, "pixel_auroc": 0.9,
              "pixel_ap": 0.5, "pro_0.3": 0.8}  # fmt: skip
    made = record_of("carpet", method="stfpm", source="none", dataset="mvtec-ad", metrics=values)
    records.write(results, made)
    sections = add(build([(results, made)]), PublishedNumbers(), None)
    rows = {row.method: row for section in sections for row in section.rows}
    assert set(NAMED) - {"stpm", "omnial"} <= rows.keys()
    assert "omnial/multi-class" in rows  # of one model for all categories only
    assert "stpm" not in {r.method for s in sections for r in s.rows if s.dataset == "mvtec-ad"}
    assert {"btad", "ksdd2", "mpdd", "mvtec-ad", "visa"} <= {s.dataset for s in sections}
    board = next(s for s in sections if s.dataset == "mvtec-ad")
    measured = next(row for row in board.rows if row.method == "stfpm")
    assert measured.rank == 1
    quoted = next(row for row in board.rows if row.method == "destseg")
    cell = quoted.groups["mean"]["image_auroc_max"]
    assert quoted.published_only
    assert quoted.rank is None
    assert cell.mean is None
    assert cell.published is not None
    assert cell.published.value == pytest.approx(0.986)
    assert cell.published.place == "realnet, Table 2"
    for form in exports.FORMATS:
        assert "destseg" in exports.render(sections, form)
    page = report.render(sections, [], "Board")
    assert "destseg" in page
    assert "as published only, not run here" in page
    shown = CliRunner().invoke(group, ["leaderboard", str(results), "--published"])
    assert "destseg" in shown.stdout
    assert "destseg" not in CliRunner().invoke(group, ["leaderboard", str(results)]).stdout


def test_the_list_says_where_each_systems_numbers_come_from() -> None:
    found = {item["system"]: item["numbers"] for item in listing.systems()}
    assert set(NAMED) <= found.keys()
    assert found["stpm"] == "peers run --model stfpm"
    assert found["uniad"] == "as published only"  # anomalib's UniNet is another method
    assert found["realnet+sdas"] == "made here"
    assert {item["model"] for item in listing.models()} >= {"patchcore", "dsr", "dinomaly"}
