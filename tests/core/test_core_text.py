"""Text from outside steers no terminal, no page and no spreadsheet."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sia_gen.core.errors import UserError, run_command
from sia_gen.core.text import CsvWriter, csv_cell, markdown, printable

TEXT = st.text(st.characters() | st.sampled_from("\x1b\x9b\x07\r\n\t\u202e\udc80=+-@'|<`["))


@given(TEXT)
def test_printable_text_holds_nothing_that_steers_a_terminal(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    shown.encode()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;title\x07.png", r"\x1b]0;title\x07.png"),
        ("a\r\nb", r"a\r\nb"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("\udcff", r"\udcff"),
        ("schön", "schön"),
    ],
)
def test_what_is_escaped_is_still_to_be_read(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_an_error_prints_no_escape_sequence(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        raise UserError("x\x1b[2J\udc80.png is no image\nand more")

    with pytest.raises(SystemExit) as stopped:
        run_command(command)
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "error: x\\x1b[2J\\udc80.png is no image\nand more\n"


@pytest.mark.parametrize(
    "text", ["=1+1", "+x", "-x", "@x", "\tx", "\rx", "'=x", "\uff1dx", "=HYPERLINK()"]
)
def test_no_cell_is_a_formula(text: str) -> None:
    file = io.StringIO(newline="")
    CsvWriter(file, ["a", "b"]).row([text, -0.5])
    file.seek(0)
    _, (cell, number) = csv.reader(file)
    assert cell == "'" + text
    assert number == "-0.5"


@given(TEXT)
def test_cells_are_read_back(text: str) -> None:
    cell = csv_cell(text)
    assert cell in {text, "'" + text}
    if not cell.strip().replace(".", "").lstrip("+-").isalnum():
        assert cell[:1] not in tuple("=@\t\r")


@pytest.mark.parametrize("text", ["<script>", "a|b", "![x](y)", "`a`", "*a*", "a\nb"])
def test_markdown_text_is_text(text: str) -> None:
    shown = markdown(text)
    assert "<" not in shown and "\n" not in shown
    assert all(f"\\{sign}" in shown for sign in text if sign in "|[]*`")
