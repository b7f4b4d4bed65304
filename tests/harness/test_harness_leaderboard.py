"""The leaderboard's laws: order does not matter, nothing unlike is mixed, gaps are not averaged."""

from __future__ import annotations

import csv
import io
import json
import random
from pathlib import Path
from typing import Any

import pytest
from harness_support import record_of

from harness.board import exports, tables
from harness.board.build import build, filtered
from harness.board.published import PublishedNumbers
from harness.board.words import Section, best
from sia_gen.core.errors import UserError

HERE = Path("results")


def board(*found: Any, **options: Any) -> list[Section]:
    return build([(HERE, record) for record in found], **options)


def mean(section: Section, row: int, key: str = "image_auroc_max") -> float | None:
    return section.rows[row].groups["mean"][key].mean


def three_methods() -> list[Any]:
    found = []
    for method, base in (("realnet", 0.9), ("plain", 0.6), ("other", 0.75)):
        for seed in (0, 1, 2):
            for c, category in enumerate(("duck", "car")):
                value = base + 0.01 * seed - 0.1 * c
                found.append(record_of(category, value, method=method, source="none", seed=seed))
    return found


def test_means_deviations_and_ranks() -> None:
    (section,) = board(*three_methods())
    assert [row.method for row in section.rows] == ["realnet", "other", "plain"]
    assert [row.rank for row in section.rows] == [1, 2, 3]
    cell = section.rows[0].groups["mean"]["image_auroc_max"]
    assert cell.mean == pytest.approx((0.91 + 0.81) / 2)
    assert cell.std == pytest.approx(0.01)  # of the three per-seed means
    assert cell.seeds == 3
    duck = section.rows[0].categories["duck"]["image_auroc_max"]
    assert (duck.mean, duck.std) == (pytest.approx(0.91), pytest.approx(0.01))
    assert best(section, section.columns[0]) == cell.mean


def test_the_order_of_records_does_not_matter() -> None:
    found = [
        *three_methods(),
        record_of("duck", 0.5, created="2026-03-03T03:03:03Z", method="realnet", source="none"),
        record_of("duck", metrics={"kid@net": 0.1, "fid@net": 5.0}, kind="quality",
                  networks={"net": "ab"}, image_size=64),
    ]  # fmt: skip
    expected = exports.as_document(board(*found))
    for seed in range(6):
        random.Random(seed).shuffle(found)
        assert exports.as_document(board(*found)) == expected
        assert exports.as_csv(board(*found)) == exports.as_csv(board(*found[::-1]))


def test_other_protocols_are_other_rows() -> None:
    found = [record_of(value=0.8), record_of(value=0.6, seed=1, checkpoint_rule="best-on-test")]
    (section,) = board(*found)
    assert len(section.rows) == 2
    assert {mean(section, 0), mean(section, 1)} == {0.8, 0.6}
    assert len({row.protocol_id for row in section.rows}) == 2
    said = " ".join(tables.remarks(section))
    assert "rows of realnet + sdas differ in checkpoint_rule" in said


def test_a_terminal_shows_what_fits_and_wide_shows_all() -> None:
    names = [f"realnet with parts number {i} and a long name" for i in range(6)]
    values = dict.fromkeys(
        ("image_auroc_max", "image_ap_max", "image_f1max_max", "pixel_auroc", "pixel_ap",
         "pixel_f1max", "pro_0.3", "pro_0.05"), 0.9,
    )  # fmt: skip
    found = [record_of(c, metrics=values, method=n) for n in names for c in ("brick", "duck")]
    narrow, wide = tables.as_text(board(*found)), tables.as_text(board(*found), wide=True)
    assert max(map(len, narrow.splitlines())) <= tables.WIDTH < max(map(len, wide.splitlines()))
    for heading in ("I-AUROC", "P-AP", "PRO@.3", *names):
        assert heading in narrow
    assert "left out, see --wide: I-F1" in narrow and "left out" not in wide
    assert narrow.count("brick") > wide.count("brick") == 1  # the categories' table is folded


def test_a_table_of_an_untrained_network_fits_too() -> None:
    names = ("fid", "kid", "density", "coverage", "clustered_lpips", "memorisation",
             "fid_to_normal", "kid_to_normal", "fid_reference", "kid_reference")  # fmt: skip
    values = {f"{name}@{tables.UNREAL}": 0.5 for name in names}
    found = record_of(kind="quality", metrics=values, networks={tables.UNREAL: "ab"}, image_size=64)
    narrow = tables.as_text(board(found))
    assert max(map(len, narrow.splitlines())) <= tables.WIDTH
    assert f"FID@{tables.UNREAL}" in narrow and "left out, see --wide: density" in narrow


def test_another_resolution_is_told_between_methods() -> None:
    other = record_of(value=0.6, method="plain", source="none")
    other["protocol"]["resolution"] = 256
    (section,) = board(record_of(), other)
    assert any("rows differ in resolution" in text for text in tables.remarks(section))


def test_other_metric_versions_are_other_columns() -> None:
    found = [record_of(value=0.8), record_of(value=0.4, seed=1, version=2)]
    (section,) = board(*found)
    assert [c.key for c in section.columns] == ["image_auroc_max", "image_auroc_max (v2)"]
    assert mean(section, 0) == 0.8
    assert mean(section, 0, "image_auroc_max (v2)") == 0.4


def test_other_networks_are_other_tables() -> None:
    common: dict[str, Any] = {"kind": "quality", "method": "sdas", "image_size": 64}
    sections = board(
        record_of(metrics={"fid@inception": 30.0}, networks={"inception": "a" * 64}, **common),
        record_of(metrics={"fid@tiny-random": 0.1}, networks={"tiny-random": "b" * 64}, **common),
    )
    assert [list(s.networks) for s in sections] == [["inception"], ["tiny-random"]]
    assert "FID@tiny-random" in tables.as_text(sections)
    assert all(row.rank is None for section in sections for row in section.rows)


def test_the_newest_of_the_same_seed_and_protocol_counts() -> None:
    found = [
        record_of(value=0.5, created="2026-01-01T00:00:00Z"),
        record_of(value=0.7, created="2026-02-01T00:00:00Z"),
        record_of(value=0.6, created="2026-01-15T00:00:00Z"),
    ]
    (section,) = board(*found)
    assert mean(section, 0) == 0.7
    assert section.rows[0].groups["mean"]["image_auroc_max"].std is None
    assert section.rows[0].superseded == 2
    assert any("2 older records" in text for text in tables.remarks(section))


def test_of_one_second_a_measured_record_takes_a_failed_ones_place() -> None:
    for note in map(str, range(8)):  # the order of the hashes must not decide
        found = [record_of(value=None, notes=[note]), record_of(value=0.9)]
        assert mean(board(*found)[0], 0) == 0.9


def test_rows_with_gaps_have_no_mean_and_no_rank() -> None:
    found = [record_of("duck", 0.99, method="partial"), record_of("duck", 0.5),
             record_of("car", 0.5)]  # fmt: skip
    (section,) = board(*found)
    assert [(row.method, row.rank) for row in section.rows] == [("realnet", 1), ("partial", None)]
    cell = section.rows[1].groups["mean"]["image_auroc_max"]
    assert (cell.mean, cell.reason) == (None, "1 of 2 categories")
    assert any("partial + sdas is not ranked" in text for text in tables.remarks(section))


def test_undefined_values_are_not_averaged_as_0() -> None:
    (section,) = board(record_of("duck", None), record_of("car", 0.9))
    cell = section.rows[0].groups["mean"]["image_auroc_max"]
    assert (cell.mean, cell.reason) == (None, "undefined in duck: one class only")
    assert section.rows[0].rank is None
    assert section.rows[0].categories["duck"]["image_auroc_max"].reason.startswith("one class")


def test_seeds_that_lack_a_category_do_not_shift_the_mean() -> None:
    found = [record_of("duck", 0.8), record_of("car", 0.6), record_of("duck", 0.1, seed=1)]
    (section,) = board(*found)
    cell = section.rows[0].groups["mean"]["image_auroc_max"]
    assert (cell.mean, cell.seeds, cell.std) == (pytest.approx(0.7), 1, None)


def test_ties_share_a_rank() -> None:
    found = [record_of(value=v, method=m) for m, v in (("a", 0.5), ("b", 0.9), ("c", 0.9))]
    (section,) = board(*found)
    assert [(row.method, row.rank) for row in section.rows] == [("b", 1), ("c", 1), ("a", 3)]


def test_texture_and_object_means_where_both_are_known() -> None:
    found = [
        record_of("cloth", 0.9, category_kind="texture"),
        record_of("felt", 0.7, category_kind="texture"),
        record_of("bolt", 0.4, category_kind="object"),
    ]
    (section,) = board(*found)
    groups = section.rows[0].groups
    assert groups["mean_texture"]["image_auroc_max"].mean == pytest.approx(0.8)
    assert groups["mean_object"]["image_auroc_max"].mean == pytest.approx(0.4)
    assert groups["mean"]["image_auroc_max"].mean == pytest.approx(2.0 / 3)
    (plain,) = board(*found[:2])
    assert plain.groups == ["mean"]


def test_datasets_are_apart() -> None:
    sections = board(record_of(dataset="toys"), record_of(dataset="parts", value=0.1))
    assert [s.dataset for s in sections] == ["parts", "toys"]
    assert [mean(s, 0) for s in sections] == [0.1, 0.8]


def test_published_numbers_stand_beside_measured_ones() -> None:
    measured = {"image_auroc_avgpool16_max": 0.9, "image_auroc_max": 0.9, "pro_0.3": 0.8}
    (section,) = board(
        record_of("carpet", dataset="MVTec-AD", metrics=measured),
        record_of("carpet", dataset="MVTec-AD", metrics=measured, method="mine", source="none"),
    )
    published = section.rows[1].categories["carpet"]
    assert published["image_auroc_avgpool16_max"].published.value == pytest.approx(0.9984)
    assert published["image_auroc_avgpool16_max"].published.place == "realnet, Table 1"
    assert published["image_auroc_max"].published is None  # the authors' code averages windows
    assert published["pro_0.3"].published.value == pytest.approx(0.9641)
    assert published["pro_0.3"].mean == 0.8  # never mixed
    assert section.rows[0].categories["carpet"]["pro_0.3"].published is None
    heads, lines = tables.main_table(section)
    assert heads.count("published") == 2
    assert lines[1][heads.index("published")] == "99.65"  # the mean over all 15 categories
    heads, lines = tables.category_table(section, section.columns[-1])
    assert lines == [["carpet", "80.00", "80.00", "96.41"]]


def test_published_quality_needs_the_same_network() -> None:
    numbers = PublishedNumbers()
    assert numbers.find("mvtec-ad", "mean", "sdas", "sdas", "fid@inception").value == 60.39
    assert numbers.find("mvtec-ad", "mean", "sdas", "sdas", "clustered_lpips@alex").value == 0.18
    assert numbers.find("mvtec-ad", "mean", "sdas", "sdas", "fid@tiny-random") is None
    assert numbers.find("textures", "mean", "realnet", "sdas", "pro_0.3") is None


def test_published_files_of_another_shape_are_refused(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="expected the columns paper"):
        PublishedNumbers(tmp_path / "p.csv")


def test_rank_by_another_metric() -> None:
    found = [
        record_of(method="a", metrics={"image_auroc_max": 0.9, "pro_0.3": 0.1}),
        record_of(method="b", metrics={"image_auroc_max": 0.8, "pro_0.3": 0.2}),
    ]
    assert [r.method for r in board(*found)[0].rows] == ["a", "b"]
    assert [r.method for r in board(*found, rank_by="pro_0.3")[0].rows] == ["b", "a"]
    with pytest.raises(UserError, match=r"Did you mean pro_0\.3"):
        board(*found, rank_by="pro_03")


def test_csv_is_long_and_complete() -> None:
    sections = board(*three_methods())
    rows = list(csv.DictReader(io.StringIO(exports.as_csv(sections))))
    assert tuple(rows[0]) == exports.CSV_COLUMNS
    assert len(rows) == 3 * (1 + 2)
    top = next(r for r in rows if r["method"] == "realnet" and r["category"] == "mean")
    assert (top["rank"], top["best"], top["seeds"]) == ("1", "1", "3")
    assert float(top["mean"]) == pytest.approx(0.86)


def test_json_round_trips_and_text_names_every_row() -> None:
    sections = board(*three_methods())
    document = json.loads(exports.render(sections, "json"))
    assert [row["rank"] for row in document["sections"][0]["rows"]] == [1, 2, 3]
    assert document["sections"][0]["rows"][0]["protocol"] == {"resolution": 64}
    text = exports.render(sections, "table")
    for name in ("realnet", "other", "plain", "86.00 ± 1.00"):
        assert name in text


def test_names_cannot_break_markdown_or_the_terminal() -> None:
    sections = board(record_of("<script>|x\n`y`", method="a|b", source="\x1b[31m"))
    markdown = exports.render(sections, "md")
    assert "<script>" not in markdown
    widths = {line.count("|") - line.count("\\|") for line in markdown.splitlines()
              if line.startswith("|")}  # fmt: skip
    assert len(widths) <= 2  # the tables of means and of categories, each of one width
    assert "\x1b" not in exports.render(sections, "table")


def test_filters_keep_what_matches_and_refuse_what_matches_nothing() -> None:
    found = [
        (Path("r"), record_of("duck")),
        (Path("r"), record_of("bear", method="patchcore", source="none")),
        (Path("r"), record_of("cat", kind="quality", metrics={"fid@alex": 1.0})),
    ]
    assert len(filtered(found, {"kind": "detection", "method": None})) == 2
    assert [r["category"] for _, r in filtered(found, {"method": "patch*, none"})] == ["bear"]
    kept = filtered(found, {"category": "d*,c*"})
    assert [r["category"] for _, r in kept] == ["duck", "cat"]
    with pytest.raises(UserError, match=r"--method 'patchcor' matches no record. Did you mean"):
        filtered(found, {"method": "patchcor"})


def test_a_difference_needs_the_papers_categories() -> None:
    names = sorted(PublishedNumbers().categories("mvtec-ad"))
    assert len(names) == 15
    measured = {"image_auroc_avgpool16_max": 0.9}
    whole = board(*(record_of(c, dataset="mvtec-ad", metrics=measured) for c in names),
                  rank_by="image_auroc_avgpool16_max")[0]  # fmt: skip
    mean = whole.rows[0].groups["mean"]["image_auroc_avgpool16_max"]
    assert mean.difference == pytest.approx(0.9 - 0.9965)
    part = board(record_of("carpet", dataset="mvtec-ad", metrics=measured),
                 rank_by="image_auroc_avgpool16_max")[0]  # fmt: skip
    assert part.rows[0].groups["mean"]["image_auroc_avgpool16_max"].published is not None
    assert part.rows[0].groups["mean"]["image_auroc_avgpool16_max"].difference is None
    cell = part.rows[0].categories["carpet"]["image_auroc_avgpool16_max"]
    assert cell.difference == pytest.approx(0.9 - 0.9984)


def test_latex_escapes_names_and_has_every_row() -> None:
    sections = board(record_of(method="a_b & 100%"), record_of(method="plain", value=0.25))
    text = exports.render(sections, "latex")
    assert r"a\_b \& 100\% + sdas" in text
    assert "25.00" in text
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == len(sections)
