"""Prediction on images without labels: a table as it goes, pictures, maps, masks and boxes.

Files are read ahead and written behind; the same command again does what is missing.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from detector import checkpoint
from detector.engine import Engine
from detector.inference import outputs
from detector.inference.files import Files
from detector.inference.ledger import Ledger
from detector.inference.options import PredictOptions
from detector.inference.outputs import DOCUMENT, TABLE
from detector.inference.pipeline import Read, read_ahead, workers
from detector.prediction import Prediction
from detector.threshold import decide, promised, threshold_of
from sia_gen.core.errors import IncompleteError, UserError
from sia_gen.core.log import say
from sia_gen.core.pixels.images import EXTENSIONS, is_image_name
from sia_gen.core.progress import Progress
from sia_gen.core.store.files import write_json
from sia_gen.core.store.walk import walk
from sia_gen.core.text import shown

__all__ = ["TABLE", "PredictOptions", "find_images", "predict", "promised", "threshold_of"]

BOXES = "boxes.json"
BEHIND = 1  # batches whose files are written while the next ones are computed


def find_images(source: Path) -> list[Path]:
    """Returns the images of a folder at any depth, sorted, or the one image that is named."""
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise UserError(f"{source} does not exist: give an image or a folder of images")
    found = walk(source, is_image_name, left_out=outputs.is_output)
    if not found:
        others = walk(source, lambda path: not path.name.startswith("."), outputs.is_output)
        there = f" ({len(others)} other files, such as {shown(others[0].name)})" if others else ""
        kinds = ", ".join(sorted(EXTENSIONS))
        raise UserError(
            f"{source} holds no image{there}: images are {kinds}, at any depth, outside of hidden"
            " folders"
        )
    return found


class Run:
    """One folder of predictions in the making."""

    def __init__(self, source: Path, model: Path, out: Path, options: PredictOptions) -> None:
        facts = checkpoint.read_facts(model)
        self.facts, self.options, self.out, self.source = facts, options, out, source
        self.decision = decide(facts, options.image_score, options.false_alarms, options.least_area)
        if out.exists() and not out.is_dir():
            raise UserError(f"output {out} is a file: give a folder")
        self.engine = Engine.load(model, options.device, options.precision)
        self.base = source if source.is_dir() else source.parent
        asked = {"checkpoint_sha256": facts["sha256"], **options.identity()}
        self.files = Files(out, self.engine, self.decision, options)
        self.ledger = Ledger(out, asked)
        self.unread: dict[Path, str] = {}

    def name(self, path: Path) -> str:
        """Returns what an image is called: its path below the source."""
        return str(path.relative_to(self.base))

    def _known(self, path: Path, sha256: str) -> dict[str, Any] | None:
        return self.ledger.kept(shown(self.name(path)), sha256)

    def look(self, paths: list[Path]) -> None:
        """Predicts the images of these paths; those that are known by their content are taken."""
        began = time.monotonic()
        progress, done = Progress("predict", len(paths)), 0
        with ThreadPoolExecutor(max_workers=workers(), thread_name_prefix="write") as pool:
            behind: deque[list[Future[dict[str, Any]]]] = deque()
            try:
                for batch in read_ahead(
                    paths, self.engine, keep=self.files.shows_images, known=self._known
                ):
                    behind.append(self._submit(batch, pool))
                    if len(behind) > BEHIND:
                        self._finish(behind.popleft())
                    done += len(batch)
                    progress.update(done)
            finally:  # what is computed is not lost, whatever ends the run
                while behind:
                    self._finish(behind.popleft())
        progress.close()
        seconds = max(time.monotonic() - began, 1e-9)
        rate = len(paths) / seconds
        say(
            f"{len(paths)} images in {seconds:.1f} s, {rate:.1f} a second",
            images=len(paths), seconds=round(seconds, 3), per_second=round(rate, 3),
        )  # fmt: skip

    def _submit(self, batch: list[Read], pool: ThreadPoolExecutor) -> list[Future[dict[str, Any]]]:
        fresh = [read for read in batch if read.prepared is not None]
        prepared = [read.prepared for read in fresh if read.prepared is not None]
        answers = iter(self.engine.answers(prepared, [read.size for read in fresh]))
        written: list[Future[dict[str, Any]]] = []
        for read in batch:
            self.unread.pop(read.path, None)
            if read.error is not None:
                self.unread[read.path] = shown(str(read.error))
                say(f"skipped: {shown(str(read.error))}")
            elif read.row is not None:
                written.append(pool.submit(dict, read.row))
            else:
                prediction = Prediction(next(answers), self.decision)
                written.append(pool.submit(self._written, read, prediction))
        return written

    def _written(self, read: Read, prediction: Prediction) -> dict[str, Any]:
        name = self.name(read.path)
        self.files.write(name, read, prediction)
        return {"path": shown(name), "sha256": read.sha256, **prediction.as_dict()}

    def _finish(self, written: list[Future[dict[str, Any]]]) -> None:
        self.ledger.append([future.result() for future in written])

    def summary(self) -> dict[str, Any]:
        """Writes the summary, and the boxes where they are wanted, and returns the summary."""
        rows = self.ledger.rows
        summary = {
            "model": str(self.facts["category"]),
            "checkpoint_sha256": str(self.facts["sha256"]),
            "image_score": self.decision.image_score,
            "threshold": self.decision.threshold,
            "threshold_from": self.decision.origin,
            "false_alarms_promised": self.decision.promise,
            "map_scale": self.files.map_scale,
            "images": len(rows),
            "anomalous": sum(row["decision"] == "anomalous" for row in rows),
            "predictions": rows,
            "unreadable": [
                {"path": shown(self.name(k)), "error": v} for k, v in self.unread.items()
            ],
        }
        if self.options.boxes:
            write_json(self.out / BOXES, self.ledger.coco())
        write_json(self.out / DOCUMENT, summary)
        return summary


State = tuple[int, int]


def _states(source: Path) -> dict[Path, State]:
    """Returns the size and time of every image of a folder."""
    found: dict[Path, State] = {}
    for path in walk(source, is_image_name, left_out=outputs.is_output):
        with suppress(FileNotFoundError):  # taken away meanwhile
            facts = path.stat()
            found[path] = (facts.st_size, facts.st_mtime_ns)
    return found


def watch(
    source: Path,
    model: Path,
    out: Path,
    options: PredictOptions,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Predicts the images of a folder and those that come later, until `stop` says so.

    A file is taken when it has not changed between two looks, and again when its content changes.
    """
    if not source.is_dir():
        raise UserError(f"{source} is no folder: --watch looks into a folder")
    run = Run(source, model, out, options)
    before: dict[Path, State] = {}
    taken: dict[Path, State] = {}
    while not stop():
        now = _states(source)
        waiting = [p for p, s in now.items() if before.get(p) == s and taken.get(p) != s]
        if waiting:
            run.look(waiting)
            taken |= {p: now[p] for p in waiting}
            run.summary()
        before = now
        time.sleep(options.watch)
    return run.summary()


def predict(source: Path, model: Path, out: Path, options: PredictOptions) -> dict[str, Any]:
    """Writes a table and pictures of images without labels, and returns the summary.

    Images that cannot be read are named with their reason; the others are done. IncompleteError
    says so at the end.
    """
    paths = find_images(source)
    run = Run(source, model, out, options)
    run.look(paths)
    summary = run.summary()
    if run.unread:
        first = next(iter(run.unread.values()))
        raise IncompleteError(
            f"{len(run.unread)} of {len(paths)} images could not be read, e.g. {first}; the others"
            f" are in {out / TABLE}"
        )
    return summary
