"""Stands in for `sia-gen` and `detector` in tests of `harness reproduce`: seconds become instants.

`python -m fake_commands train|score|run ...` writes what the real commands would; a file named
`<word>.break` in $FAKE_COMMANDS makes the command that holds the word in its arguments fail, and
`<word>.hang` makes it wait.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path


def main(arguments: list[str]) -> int:
    room = Path(os.environ["FAKE_COMMANDS"])
    with (room / "calls").open("a", encoding="utf-8") as file:
        file.write(" ".join(arguments) + "\n")
    text = " ".join(arguments)
    for rule in sorted(room.glob("*.hang")):
        if rule.stem in text:
            time.sleep(60)
    for rule in sorted(room.glob("*.break")):
        if rule.stem in text:
            print(f"error: {rule.stem} is broken on purpose", file=sys.stderr)
            return 2
    given = dict(zip(arguments[1::2], arguments[2::2], strict=False))
    if arguments[0] == "score":
        from harness_support import scores_of

        from detector import scorefile

        run, category = Path(given["--run"]), given["--category"]
        seed = sum(map(ord, run.parent.name))
        folder = run / "small" / category / "scores"
        scorefile.write(folder, scores_of(f"small/{category}", seed=seed))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
