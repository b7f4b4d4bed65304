"""The page: complete in itself, nothing unescaped, and honest about gaps."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness_support import record_of
from PIL import Image

from harness import records
from harness.board import page as report
from harness.board.build import build
from harness.measure import detection
from sia_gen.core.errors import UserError

EVIL = '<script>alert("x")</script>'
VOID = {"meta", "link", "img", "br", "rect"}


class Page(HTMLParser):
    """Collects tags and attributes, and checks that elements are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag, self.getpos()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in {"script", "style"}:
            self.texts.append(data.strip())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def page_of(*found: Any, folder: Path = Path(), **options: Any) -> tuple[str, Page]:
    sections = build([(folder, record) for record in found])
    text = report.render(sections, options.get("sheets", ()), options.get("title", "Board"))
    return text, Page(text)


def quality(**options: Any) -> Any:
    metrics = {"fid@tiny-random": 0.5, "kid@tiny-random": 0.01, "clustered_lpips@tiny-random": 0.2}
    return record_of(
        kind="quality", method="sdas", metrics=metrics, networks={"tiny-random": "a" * 64},
        image_size=64, **options,
    )  # fmt: skip


def test_the_page_asks_nothing_of_any_network() -> None:
    text, page = page_of(record_of(), quality())
    for _, attrs in page.tags:
        for name in ("src", "href", "action", "poster", "data", "srcset"):
            value = attrs.get(name)
            assert value is None or value.startswith(("data:", "#")), value
    assert "http" not in text.replace("http-equiv", "")
    assert "url(" not in text
    assert "@import" not in text


def test_the_policy_binds_style_and_script() -> None:
    text, page = page_of(record_of())
    policy = next(m["content"] for m in page.all("meta") if "http-equiv" in m)
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:; ")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    for tag, attrs in page.tags:
        assert not [name for name in attrs if name == "style" or name.startswith("on")], tag


def test_no_name_enters_unescaped() -> None:
    hostile = [
        record_of(EVIL, 0.9, method=EVIL, source='"><img src=x onerror=1>', dataset=EVIL,
                  notes=[EVIL], backbone=EVIL),
        record_of("<b>", None, method=EVIL, source="x", dataset=EVIL),
    ]  # fmt: skip
    text, page = page_of(*hostile, title=EVIL)
    assert EVIL not in text
    assert len(page.all("script")) == 1
    assert page.all("b") == []
    assert not any("onerror" in attrs for _, attrs in page.tags)
    assert EVIL in page.texts  # shown as the text it is


def test_a_category_named_script_goes_through_every_stage(
    score_folder: Callable[..., Path], tmp_path: Path
) -> None:
    folder = score_folder(category="toys/<script>")
    detection.run([folder], tmp_path / "results")
    sections = build(records.find([tmp_path / "results"]))
    report.write(tmp_path / "page.html", sections, (), "Board")
    page = Page((tmp_path / "page.html").read_text())
    assert len(page.all("script")) == 1
    assert "<script>" in page.texts
    pictures = page.all("img")
    assert len(pictures) == 6
    assert all((p["src"] or "").startswith("data:image/jpeg;base64,") for p in pictures)
    assert all((p["alt"] or "").startswith("<script>") for p in pictures)


def test_values_gaps_and_protocols_are_shown() -> None:
    text, page = page_of(
        record_of("duck", 0.8123), record_of("car", None), quality(),
        record_of("duck", 0.5, seed=1, checkpoint_rule="best-on-test"),
    )  # fmt: skip
    assert "81.23" in page.texts
    assert 'title="undefined in car: one class only"' in text
    assert "best-on-test" in page.texts
    assert any("no measure of quality" in t for t in page.texts)
    assert any("tiny-random" in t for t in page.texts)


def test_tables_can_be_sorted_by_value_not_by_text() -> None:
    _, page = page_of(record_of(), quality())
    heads = [a for a in page.all("th") if "aria-sort" in a]
    assert {a["aria-sort"] for a in heads} == {"none", "ascending", "descending"}
    assert any(a.get("data-value") == "0.8" for a in page.all("td"))
    assert any(a.get("name") == "viewport" for a in page.all("meta"))


def test_missing_pictures_are_said_not_hidden(tmp_path: Path) -> None:
    example = {"file": "examples/0123456789abcdef.jpg", "path": "x", "defect": "dent",
               "score": 1.0, "outcome": "found"}  # fmt: skip
    _, page = page_of(record_of(examples=[example]), folder=tmp_path)
    assert "picture missing" in page.texts


def test_contact_sheets_are_embedded_large_ones_as_jpeg(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), "red").save(tmp_path / "small.png")
    noise = np.random.default_rng(0).integers(0, 256, (700, 800, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "large.png")
    sheets = (tmp_path / "small.png", tmp_path / "large.png")
    _, page = page_of(record_of(), sheets=sheets)
    kinds = [(a["src"] or "").split(";")[0] for a in page.all("img")]
    assert kinds == ["data:image/png", "data:image/jpeg"]
    assert "small.png" in page.texts
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(UserError, match=r"text\.png is named like an image"):
        page_of(record_of(), sheets=(tmp_path / "text.png",))


def test_a_folder_is_no_page(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a folder"):
        report.write(tmp_path, build([(tmp_path, record_of())]), (), "Board")
