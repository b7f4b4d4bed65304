"""The pages in a real browser: they show, they sort, they filter, and they ask no network."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from harness_support import scores_of
from PIL import Image

from detector import scorefile
from harness import records
from harness.board import page as report
from harness.board.build import build
from harness.measure import detection

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
NAME = "<script>document.title='broken'</script>"
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")


@pytest.fixture
def browse(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs headless Chromium with an empty profile on a page."""

    def run(page: Path, *options: str) -> subprocess.CompletedProcess[str]:
        assert CHROMIUM is not None
        return subprocess.run(
            [
                CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
                "--disable-background-networking", "--disable-component-update", "--disable-sync",
                "--hide-scrollbars", "--virtual-time-budget=4000",
                f"--user-data-dir={tmp_path / 'profile'}", *options, f"file://{page}",
            ],
            capture_output=True, text=True, timeout=120, env={**os.environ, "HOME": str(tmp_path)},
        )  # fmt: skip

    return run


@pytest.fixture
def page(tmp_path: Path) -> Path:
    for i, (method, gain) in enumerate([("weak", 0.1), ("strong", 3.0), (NAME, 0.5)]):
        for category in ("duck", NAME.replace("/", "\\")):
            scores = scores_of(f"toys/{category}", seed=i, gain=gain, detector=method)
            scorefile.write(tmp_path / "runs" / str(i) / str(len(category)) / "scores", scores)
    detection.run([tmp_path / "runs"], tmp_path / "results")
    file = tmp_path / "board.html"
    report.write(file, build(records.find([tmp_path / "results"])), [], f"Board of {NAME}")
    return file


def test_the_page_is_drawn_at_desktop_and_phone_width(
    page: Path, browse: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    for width in (1280, 500):
        picture = tmp_path / f"{width}.png"
        done = browse(page, f"--window-size={width},1600", f"--screenshot={picture}")
        assert picture.is_file(), done.stderr[-500:]
        pixels = np.asarray(Image.open(picture).convert("RGB"))
        assert pixels.shape[:2] == (1600, width)
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 500  # maps, curves, text


def test_scripts_run_names_do_not_and_nothing_is_refused(
    page: Path, browse: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = browse(page, "--dump-dom", "--enable-logging=stderr", "--v=0")
    dom = done.stdout
    assert '<input id="filter"' in dom or 'id="filter"' in dom  # the page's own script ran
    assert "<title>Board of &lt;script&gt;" in dom
    assert "broken</title>" not in dom
    assert not re.search(r"Refused to|Uncaught|net::ERR", done.stderr), done.stderr[-800:]


def test_a_click_sorts_by_value_and_the_filter_hides(
    page: Path, browse: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    # A second page drives the first one's own script by events; its policy allows the driver.
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text())
    driver = """<script>
      const table = document.querySelector("table.main");
      const rows = () => [...table.tBodies[0].rows];
      const names = () => rows().map((r) => r.cells[1].firstChild.data).join("|");
      const head = [...table.tHead.rows[0].cells].find((c) => c.textContent.includes("PRO"));
      head.querySelector("button").click();
      const sorted = names();
      const field = document.querySelector("#filter");
      field.value = "strong"; field.dispatchEvent(new Event("input"));
      const left = rows().filter((r) => !r.classList.contains("hidden")).length;
      const said = head.getAttribute("aria-sort");
      document.title = "SORTED " + sorted + " LEFT " + left + " ARIA " + said;
    </script></body>"""
    driven = tmp_path / "driven.html"
    driven.write_text(text.replace("</body>", driver))
    dom = browse(driven, "--dump-dom").stdout
    title = re.search(r"<title>(.*?)</title>", dom, re.S)
    assert title is not None
    assert title[1].startswith("SORTED strong|"), title[1]
    assert "LEFT 1 ARIA descending" in title[1]
