"""What holds for every command of all three command lines."""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

ROOT = Path(__file__).parents[2]
TOOLS = {
    "sia-gen": "sia_gen.cli.main",
    "detector": "detector.cli.main",
    "harness": "harness.cli.main",
}
HEAVY = (
    "torch",
    "ray",
    "diffusers",
    "accelerate",
    "timm",
    "scipy",
    "numpy",
    "jinja2",
    "jsonschema",
)
# The same thing has the same option; the second is what it was called once, and still works.
SAME = {
    "--category": "--categories", "--batch": "--batch-size", "--lr": "--learning-rate",
    "--size": "--resolution", "--image-size": "--resolution",
}  # fmt: skip

HELP = """
import importlib, sys, time
import click
group = importlib.import_module({module!r}).group
def walk(command, path):
    context = click.Context(command, info_name=path)
    print(command.get_help(context))
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            walk(command.get_command(context, name), path + " " + name)
walk(group, {tool!r})
heavy = sorted(set({heavy!r}) & set(sys.modules))
assert not heavy, heavy
print("seconds", time.process_time())
"""


def reference() -> Any:
    """Returns the script that writes docs/commands.md, as a module."""
    path = ROOT / "docs" / "make_commands.py"
    spec = importlib.util.spec_from_file_location("make_commands", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def commands(tool: str) -> Iterator[tuple[str, click.Command]]:
    """Yields every command of a tool with its words."""
    yield from reference().walk(importlib.import_module(TOOLS[tool]).group, tool)


ALL = [pytest.param(words, command, id=words) for t in TOOLS for words, command in commands(t)]


@pytest.mark.parametrize("tool", TOOLS)
def test_all_helps_together_take_half_a_second_of_processor_time(tool: str) -> None:
    """And load nothing heavy: a user who asks how to call a program waits for no network."""
    code = HELP.format(module=TOOLS[tool], tool=tool, heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1]) < 0.5


@pytest.mark.parametrize(("words", "command"), ALL)
def test_every_command_says_what_it_does_and_shows_an_example(
    words: str, command: click.Command
) -> None:
    context = click.Context(command)
    assert command.help and command.help.splitlines()[0].rstrip().endswith((".", ","))
    if not isinstance(command, click.Group):
        assert command.epilog and "Example" in command.epilog and f"{words} " in command.epilog
        unexplained = [
            p.name
            for p in command.params
            if isinstance(p, click.Option) and not (p.help or p.hidden)
        ]
        assert not unexplained
    del context


@pytest.mark.parametrize("tool", TOOLS)
def test_the_table_of_commands_says_what_the_commands_say(tool: str) -> None:
    module = importlib.import_module(TOOLS[tool])
    context = click.Context(module.group)
    for name, text in module.COMMANDS.items():
        command = module.group.get_command(context, name)
        assert command is not None and command.name == name
        assert text.endswith(".")


@pytest.mark.parametrize(("words", "command"), ALL)
def test_the_same_thing_has_the_same_option(words: str, command: click.Command) -> None:
    for parameter in command.params:
        if not isinstance(parameter, click.Option):
            continue
        shown = set(parameter.opts) - set(getattr(parameter, "former", ()))
        assert not shown & set(SAME), f"{words}: {shown} is called {SAME}"
        for former in set(parameter.opts) & set(SAME):
            assert SAME[former] in shown


@pytest.mark.parametrize("tool", TOOLS)
def test_a_misspelt_command_gets_near_names_and_json(
    tool: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = importlib.import_module(TOOLS[tool])
    name = next(iter(module.COMMANDS))
    monkeypatch.setattr(sys, "argv", [tool, name + "x", "--json"])
    with pytest.raises(SystemExit) as stopped:
        module.main()
    shown = capsys.readouterr()
    assert stopped.value.code == 2
    assert f"Did you mean {name}" in shown.err and shown.err.count("\n") == 1
    assert json.loads(shown.out) == {
        "error": shown.err.removeprefix("error: ")[:-1],
        "exit_code": 2,
    }


def test_the_reference_of_the_commands_is_up_to_date() -> None:
    page = ROOT / "docs" / "commands.md"
    assert page.read_text(encoding="utf-8") == reference().render(), (
        "docs/commands.md is stale: run `python docs/make_commands.py`"
    )


def test_no_command_or_option_of_before_is_gone() -> None:
    """The list is of the last version before options were said once; its removals stand here."""
    before = (Path(__file__).parent / "commands_before.txt").read_text(encoding="utf-8").split("\n")
    assert not set(filter(None, before)) - set(reference().names())


def test_nothing_tells_to_install_a_name_that_no_index_has() -> None:
    wrong = re.compile(r"install[^\n]{0,20}sia-gen")
    places = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    for package in ("sia_gen", "detector", "harness", "manifests"):
        places += (ROOT / package).rglob("*.py")
        places += (ROOT / package).rglob("*.yaml")
    assert not [str(path) for path in places if wrong.search(path.read_text(encoding="utf-8"))]
