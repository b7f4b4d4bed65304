"""The pages that a stranger reads: whole, and with links that lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "benchmarks").rglob("*.md")]
)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_a_page_holds_no_marks_of_a_merge_and_no_dead_link(page: Path) -> None:
    text = page.read_text()
    assert not re.findall(r"^(?:<{7} |={7}$|>{7} )", text, flags=re.MULTILINE)
    links = re.findall(r"\]\(([^)#\s]+)\)", text)
    dead = [li for li in links if "://" not in li and not (page.parent / li).exists()]
    assert not dead
