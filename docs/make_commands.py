"""Writes docs/commands.md, the reference of every command, from the commands themselves.

python docs/make_commands.py    (a test finds the page stale)
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path

import click

PAGE = Path(__file__).parent / "commands.md"
TOOLS = {
    "sia-gen": "sia_gen.cli.main",
    "detector": "detector.cli.main",
    "harness": "harness.cli.main",
}
HEAD = """# Commands

Every command and option, written by `python docs/make_commands.py` from the code. Former names of
options, in the last column, are still read on the command line and in recipes. All commands exit
with 0 done, 1 internal error, 2 usage, input or resources, 3 finished but incomplete, 4
verification failed, 5 locked, 6 training diverged, 130 and 143 stopped by a signal; with `--json`
an error is also `{"error": ..., "exit_code": ...}` on stdout.

Every command takes `--log-format json` too: what it tells on stderr is then a JSON object a line
(`time` in UTC, `level`, `message`, and the numbers of the message), logs and warnings of other
libraries included, and there are no progress bars.
"""


def walk(command: click.Command, words: str) -> Iterator[tuple[str, click.Command]]:
    """Yields a command and all below it, each with the words that call it."""
    yield words, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from walk(found, f"{words} {name}")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _row(option: click.Option, context: click.Context) -> str:
    former = set(getattr(option, "former", ()))
    shown = [name for name in option.opts if name not in former]
    names = " / ".join(f"`{name}`" for name in [*shown, *option.secondary_opts])
    metavar = "" if option.is_flag else option.make_metavar(context)
    extra = option.get_help_extra(context)
    default = str(extra.get("default") or ("required" if option.required else ""))
    if extra.get("range"):
        default = "; ".join(part for part in (default, extra["range"]) if part)
    kind = f" `{metavar}`" if metavar else ""
    old = ", ".join(f"`{name}`" for name in sorted(former))
    cells = (f"{names}{_cell(kind) and ' ' + _cell(kind)}", _cell(option.help or ""),
             _cell(default), old)  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _section(words: str, command: click.Command, level: int) -> Iterator[str]:
    context = click.Context(command, info_name=words)
    yield f"{'#' * level} {words}\n"
    yield inspect.cleandoc(command.help or "") + "\n"
    usage = [p.make_metavar(context) for p in command.params if isinstance(p, click.Argument)]
    if usage:
        yield f"Arguments: {', '.join(f'`{text}`' for text in usage)}\n"
    options = [p for p in command.params if isinstance(p, click.Option) and not p.hidden]
    options = [p for p in options if p.name != "log_format"]  # told once, above
    if options and not isinstance(command, click.Group):
        yield "| option | meaning | default | former names |\n|---|---|---|---|"
        yield "\n".join(_row(option, context) for option in options) + "\n"
    if command.epilog:
        text = command.epilog.replace("\b\n", "").strip("\n")
        yield f"```\n{text}\n```\n"


def render() -> str:
    """Returns the page."""
    parts = [HEAD]
    for tool, module in TOOLS.items():
        group = importlib.import_module(module).group
        for words, command in walk(group, tool):
            parts += _section(words, command, 2 + (words.count(" ") > 0))
    return "\n".join(parts)


def names() -> list[str]:
    """Returns every command, argument and option as one line, former names too: to compare."""
    found = []
    for tool, module in TOOLS.items():
        for words, command in walk(importlib.import_module(module).group, tool):
            found.append(words)
            for one in command.params:
                spelt = [one.name.upper()] if isinstance(one, click.Argument) else one.opts
                found += [f"{words} {name}" for name in [*spelt, *one.secondary_opts]]
    return sorted(set(found))


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
