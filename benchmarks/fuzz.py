"""Good files of every format that is read, damaged at random, through the readers: each answer is a
value or one UserError; nothing is written outside, and the memory stays bounded.

    python benchmarks/fuzz.py                       # 20,000 inputs over all formats
    python benchmarks/fuzz.py --only image --inputs 2000
"""

from __future__ import annotations

import io
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

import click
from fuzz_damage import damage
from fuzz_formats import FORMATS

from sia_gen.core.errors import UserError

LONGEST = 10.0  # CPU seconds for one input
MOST = 2.0  # GiB of the process's peak


class Fuzzer:
    """Good files of each format, made once below a folder; `try_one` damages and reads one."""

    def __init__(self, root: Path) -> None:
        self.root, self.good = root, {}  # type: ignore[var-annotated]

    def _good(self, name: str) -> Path:
        if name not in self.good:
            folder = self.root / "good" / name
            folder.mkdir(parents=True)
            self.good[name] = FORMATS[name].make(folder).relative_to(folder)
        return Path(self.good[name])

    def try_one(self, name: str, seed: int) -> str:
        """Returns "read" or "refused"; whatever else a reader raises is passed on.

        AssertionError where something was written beside the input's own folder.
        """
        inner = self._good(name)
        work = self.root / "inside" / "work"
        shutil.rmtree(work.parent, ignore_errors=True)
        shutil.copytree(self.root / "good" / name, work)
        path = work / inner
        rng = random.Random(f"{name}-{seed}")
        path.write_bytes(damage(rng, path, path.read_bytes()))
        try:
            FORMATS[name].read(path)
        except UserError as error:
            str(error).encode("utf-8", "backslashreplace")
            answer = "refused"
        else:
            answer = "read"
        beside = {p.name for p in work.parent.iterdir()} | {p.name for p in self.root.iterdir()}
        assert beside <= {"work", "good", "inside"}, f"{name} {seed} wrote {beside}"
        return answer


class TooLongError(Exception):
    """A reader took more than LONGEST seconds for one input."""


def _too_long(_signal: int, _frame: object) -> None:
    raise TooLongError(f"more than {LONGEST} CPU seconds")


def peak() -> float:
    """Returns the largest resident memory of this process so far, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


@click.command()
@click.option("--inputs", default=20_000, show_default=True)
@click.option("--only", default="", help="Beginning of the formats' names.")
@click.option("--first", default=0, show_default=True, help="The first seed.")
def main(inputs: int, only: str, first: int) -> None:
    """Damages, reads and reports; exit code 1 where a reader raised anything but a UserError."""
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGVTALRM, _too_long)
    names = [name for name in FORMATS if name.startswith(only)]
    counts: Counter[tuple[str, str]] = Counter()
    faults: dict[str, str] = {}
    began, slowest = time.process_time(), (0.0, "")
    with tempfile.TemporaryDirectory(prefix="sia-gen-fuzz-") as folder:
        fuzzer = Fuzzer(Path(folder))
        stderr, sys.stderr = sys.stderr, io.StringIO()
        for place in range(inputs):
            name, seed = names[place % len(names)], first + place // len(names)
            started = time.process_time()
            signal.setitimer(signal.ITIMER_VIRTUAL, LONGEST)
            try:
                counts[name, fuzzer.try_one(name, seed)] += 1
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # extensions in Rust panic with no Exception
                counts[name, "fault"] += 1
                frame = traceback.extract_tb(error.__traceback__)[-1]
                key = (
                    f"{name}: {type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"
                )
                if key not in faults:
                    faults[key] = f"seed {seed}: {str(error)[:200]!r}"
                    stderr.write(f"{key}: {faults[key]}\n{traceback.format_exc()}\n")
                    stderr.flush()
            finally:
                signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            if peak() > MOST and not counts["memory", "fault"]:
                counts["memory", "fault"] += 1
                faults[f"{name}: memory"] = f"seed {seed}: the peak rose to {peak():.2f} GiB"
            slowest = max(slowest, (time.process_time() - started, f"{name} {seed}"))
            if (place + 1) % 1000 == 0:
                stderr.write(f"{place + 1} inputs, {len(faults)} kinds of faults\n")
                stderr.flush()
        sys.stderr = stderr
    for name in names:
        row = ", ".join(f"{counts[name, word]} {word}" for word in ("read", "refused", "fault"))
        print(f"{name:16} {row}")
    print(
        f"{inputs} inputs in {time.process_time() - began:.0f} CPU s, at most {slowest[0]:.2f} s"
        f" ({slowest[1]}); peak {peak():.2f} GiB; {len(faults)} kinds of faults"
    )
    for key, text in faults.items():
        print(f"{key}: {text}")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
