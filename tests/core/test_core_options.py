"""Options said once: one field gives the flag, the range, the recipe's key and the refusal."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest

from sia_gen.core.commands import Group, call, click_options, given, print_json
from sia_gen.core.errors import UserError
from sia_gen.core.options import (
    check,
    coerced,
    from_values,
    option,
    parse_settings,
    plain,
    settings,
    taken,
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """One option of each kind."""

    data: str = option(help="A dataset.")
    batch_size: int = option(16, "Images a step.", low=1, former=("batch",))
    rate: float = option(0.5, "A share.", above=0, below=1)
    span: tuple[float, float] = option((0.1, 0.2), "Low and high.", low=0)
    layers: tuple[int, ...] = option((1, 2), "Layers.")
    features: tuple[str, ...] = option((), "Networks.", repeat=True)
    decay: bool = option(False, "Decay.", flag="--decay/--no-decay")
    kind: str = option("slow", "How.", choices=("slow", "fast"))
    out: Path = option(Path("runs/x"), "Where.")
    workers: int | None = option(None, "How many.", low=1, shown="as many as fit")
    hidden: int = option(3, "Recipes only.", low=0, command_line=False)

    def __post_init__(self) -> None:
        check(self)


Run = Callable[..., Any]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `tool CMD ...` and returns what the command was given; `layered` overrides a recipe."""
    seen: dict[str, Any] = {}

    @click.group(cls=Group)
    def tool() -> None:
        """A tool."""

    @tool.command()
    @click_options(Options)
    def whole(**values: Any) -> None:
        seen["options"] = taken(Options, values)

    @tool.command()
    @click_options(Options, layered=True)
    @click.option("--json", "as_json", is_flag=True)
    def layered(as_json: bool, **values: Any) -> None:
        seen["given"] = given(values)
        if as_json:
            print_json([1])
            raise UserError("failed after the result was printed")

    def invoke(*words: str) -> dict[str, Any]:
        seen.clear()
        monkeypatch.setattr(sys, "argv", ["tool", *words])
        call(tool)
        seen["out"] = capsys.readouterr().out
        return seen

    return invoke


def test_a_command_is_given_the_defaults_of_the_fields(run: Run) -> None:
    assert run("whole", "--data", "x")["options"] == Options(data="x")


def test_every_kind_of_value_is_read_from_its_flag(run: Run) -> None:
    words = "--data d --batch-size 4 --rate 0.25 --span 0 0.5 --layers 2,3 --features a"
    words += " --features b --decay --kind fast --out o --workers 2"
    made = run("whole", *words.split())["options"]
    assert made == Options(
        data="d", batch_size=4, rate=0.25, span=(0.0, 0.5), layers=(2, 3), features=("a", "b"),
        decay=True, kind="fast", out=Path("o"), workers=2,
    )  # fmt: skip


def test_over_a_recipe_only_what_was_given_counts(run: Run) -> None:
    assert run("layered")["given"] == {}
    assert run("layered", "--batch-size", "16", "--no-decay")["given"] == {
        "batch_size": 16,
        "decay": False,
    }


def test_a_former_name_is_read_and_not_shown(run: Run) -> None:
    assert run("layered", "--batch", "8")["given"] == {"batch_size": 8}
    shown = run("whole", "--help")["out"]
    assert "--batch-size" in shown and "--batch " not in shown
    with pytest.raises(UserError, match="Invalid value for '--batch-size': 0 is not in the range"):
        run("layered", "--batch", "0")
    made = from_values(Options, {"data": "d", "batch": 2}, "recipe r")
    assert made.batch_size == 2
    with pytest.raises(UserError, match="recipe r: batch_size is given twice"):
        from_values(Options, {"data": "d", "batch": 2, "batch_size": 2}, "recipe r")


def test_the_help_tells_defaults_ranges_and_choices(run: Run) -> None:
    shown = " ".join(run("whole", "--help")["out"].split())
    for text in ("[default: 16; x>=1]", "[slow|fast]", "as many as fit", "0<x<1", "[required]"):
        assert text in shown
    assert "--hidden" not in shown
    layered = " ".join(run("layered", "--help")["out"].split())
    assert "[default: the recipe's, else 16; x>=1]" in layered


REFUSED = [
    ({"batch_size": 0}, "batch_size 0: expected at least 1"),
    ({"batch_size": 1.5}, "batch_size 1.5: expected a whole number"),
    ({"batch_size": "8"}, "batch_size '8': expected a number"),
    ({"rate": 1.0}, "rate 1.0: expected above 0 and below 1"),
    ({"rate": float("nan")}, "rate nan: expected a finite number"),
    ({"span": (-0.1, 0.2)}, "span -0.1: expected at least 0"),
    ({"kind": "fats"}, "kind 'fats': expected one of slow, fast. Did you mean fast"),
    ({"workers": 0}, "workers 0: expected at least 1"),
]


@pytest.mark.parametrize(("change", "said"), REFUSED)
def test_a_python_caller_gets_the_same_refusals(change: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as refused:
        Options(**{"data": "d", **change})
    assert said in str(refused.value)


def test_not_a_number_does_not_pass_a_flag(run: Run) -> None:
    with pytest.raises(UserError, match=r"^--rate nan: expected a finite number"):
        run("whole", "--data", "d", "--rate", "nan")


def test_unknown_and_absent_options_of_a_recipe_are_named() -> None:
    with pytest.raises(UserError, match=r"recipe r: option 'bacth' is unknown\. Did you mean"):
        from_values(Options, {"data": "d", "bacth": 2}, "recipe r")
    with pytest.raises(UserError, match="recipe r: data must be given"):
        from_values(Options, {}, "recipe r")


@pytest.mark.parametrize(
    ("text", "wanted", "value"),
    [
        ("a=0.5,1", tuple[float, ...], (0.5, 1.0)),
        ("a=[1, 2]", tuple[int, ...], (1, 2)),
        ("a=7", tuple[int, ...], (7,)),
        ("a=off", bool, False),
        ("a=off", str, "off"),
        ("a=true", bool, True),
        ("a=1e-4", float, 1e-4),
        ("a=3", str, "3"),
        ("a=sdas:0.5,dtd:0.5", str, "sdas:0.5,dtd:0.5"),
        ("a=9007199254740993", int, 9007199254740993),
    ],
)
def test_settings_are_read_as_the_declared_type(text: str, wanted: Any, value: Any) -> None:
    found = coerced(parse_settings((text,))["a"], wanted, "--set a")
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("value", "wanted", "said"),
    [
        ("many", int, "expected a number, found 'many'"),
        (1.5, int, "expected a whole number, found 1.5"),
        (True, int, "expected int, found True"),
        ("maybe", bool, "expected bool, found 'maybe'"),
        ((1, 2, 3), tuple[float, float], "expected 2 values"),
        (None, float, "expected a number, found None"),
    ],
)
def test_another_type_is_refused(value: Any, wanted: Any, said: str) -> None:
    with pytest.raises(UserError) as refused:
        coerced(value, wanted, "--set a")
    assert said in str(refused.value)


def test_settings_that_are_none_are_refused() -> None:
    for texts in (("a",), ("=1",), ("a=1", "a=2"), ("a=[1",)):
        with pytest.raises(UserError, match="--set"):
            parse_settings(texts)


def test_options_come_back_from_their_json_form() -> None:
    made = Options(data="d", layers=(4, 5), out=Path("o"))
    document = plain({name: getattr(made, name) for name in settings(Options)})
    assert from_values(Options, document, "record") == made


def test_an_error_after_the_result_does_not_spoil_its_json(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError):
        run("layered", "--json")
    assert capsys.readouterr().out == "[\n  1\n]\n"
    with pytest.raises(UserError):
        run("layered", "--json", "--batch", "0")
    assert '"exit_code": 2' in capsys.readouterr().out


def test_a_pair_of_numbers_is_no_number_of_base_sixty() -> None:
    assert parse_settings(("tiles=256:64", "size=12")) == {"tiles": "256:64", "size": 12}
