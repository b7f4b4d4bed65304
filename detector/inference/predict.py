"""Prediction on images without labels: a table as it goes, pictures, maps, masks and boxes.

Files are read ahead and written behind; the same command again does what is missing.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from detector import checkpoint
from detector.inference.engine import Engine
from detector.inference.ledger import TABLE, Ledger
from detector.inference.files import MAPS, Outputs
from detector.inference.pipeline import Read, read_ahead, workers
from detector.inference.prediction import Prediction
from detector.inference.threshold import decide, promised, threshold_of
from sia_gen.core.errors import IncompleteError, UserError
from sia_gen.core.pixels.images import is_image_name
from sia_gen.core.store.files import read_json, write_json

__all__ = ["TABLE", "PredictOptions", "find_images", "predict", "promised", "threshold_of"]

DOCUMENT = "predictions.json"
ASKED = "options.json"
BOXES = "boxes.json"
BEHIND = 1  # batches whose files are written while the next ones are computed


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """How to decide and what to write.

    `false_alarms`: the share of normal images to accept as alarms. `maps` none, png16 or npy;
    `shown`: the longest side of a picture in pixels. `watch`: seconds between looks into the
    folder, 0 for one look.
    """

    image_score: str = "max"
    false_alarms: float = 0.05
    device: str = "auto"
    precision: str = "fp32"
    steps: bool = False
    overlays: bool = True
    maps: str = "none"
    masks: bool = False
    boxes: bool = False
    least_area: int = 1
    shown: int = 512
    watch: float = 0.0

    def __post_init__(self) -> None:
        """Refuses values that no prediction can have, naming the option."""
        if self.maps not in MAPS:
            raise UserError(f"maps {self.maps!r} is not one of {', '.join(MAPS)}")
        if self.least_area < 1 or self.shown < 16 or self.watch < 0:
            raise UserError(
                "least_area must be at least 1, shown at least 16, watch not below 0"
            )

    def identity(self) -> dict[str, Any]:
        """Returns the options that decide what the files hold."""
        free = {"device", "watch"}
        return {k: v for k, v in dataclasses.asdict(self).items() if k not in free}


def find_images(source: Path) -> list[Path]:
    """Returns the images of a folder at any depth, sorted, or the one image that is named."""
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise UserError(f"{source} does not exist: give an image or a folder of images")
    found = sorted(p for p in source.rglob("*") if p.is_file() and is_image_name(p))
    if not found:
        raise UserError(f"{source} holds no image")
    return found


def _claim(out: Path, asked: dict[str, Any]) -> None:
    """Records what a folder of predictions is of; UserError where it is of something else."""
    if (out / ASKED).is_file():
        recorded = read_json(out / ASKED)
        unlike = [k for k in asked if recorded.get(k) != asked[k]]
        if unlike:
            raise UserError(
                f"{out} holds predictions with another {', '.join(unlike)}: give these options to"
                " go on with them, or another --out"
            )
        return
    write_json(out / ASKED, asked)


class Run:
    """One folder of predictions in the making."""

    def __init__(self, source: Path, model: Path, out: Path, options: PredictOptions) -> None:
        facts = checkpoint.read_facts(model)
        self.facts, self.options, self.out, self.source = facts, options, out, source
        self.decision = decide(
            facts, options.image_score, options.false_alarms, options.least_area
        )
        if out.exists() and not out.is_dir():
            raise UserError(f"output {out} is a file: give a folder")
        self.engine = Engine.load(model, options.device, options.precision)
        self.base = source if source.is_dir() else source.parent
        asked = {"checkpoint_sha256": facts["sha256"], **options.identity()}
        _claim(out, asked)
        self.outputs = Outputs(out, self.engine, self.decision, options)
        self.ledger = Ledger(out)
        self.done = {row["path"] for row in self.ledger.rows}
        self.unread: dict[str, str] = {}
        self.fresh = 0

    def name(self, path: Path) -> str:
        """Returns what an image is called in the table: its path below the source."""
        return str(path.relative_to(self.base))

    def look(self, paths: list[Path]) -> None:
        """Predicts the images of these paths that are not in the table yet."""
        missing = [p for p in paths if self.name(p) not in self.done]
        began = time.monotonic()
        bar = tqdm(total=len(missing), unit="image", file=sys.stderr, disable=None)
        with ThreadPoolExecutor(max_workers=workers(), thread_name_prefix="write") as pool:
            behind: deque[list[Future[dict[str, Any]]]] = deque()
            for batch in read_ahead(missing, self.engine, keep=self.outputs.shows_images):
                behind.append(self._submit(batch, pool))
                if len(behind) > BEHIND:
                    self._finish(behind.popleft())
                bar.update(len(batch))
            while behind:
                self._finish(behind.popleft())
        bar.close()
        if missing and bar.disable:
            seconds = max(time.monotonic() - began, 1e-9)
            print(
                f"{len(missing)} images in {seconds:.1f} s, {len(missing) / seconds:.1f} a second",
                file=sys.stderr,
            )

    def _submit(self, batch: list[Read], pool: ThreadPoolExecutor) -> list[Future[dict[str, Any]]]:
        sound = []
        for read in batch:
            if read.error is None:
                sound.append(read)
                continue
            self.unread[self.name(read.path)] = str(read.error)
            print(f"skipped: {read.error}", file=sys.stderr)
        prepared = [r.prepared for r in sound if r.prepared is not None]
        answers = self.engine.answers(prepared, [r.size for r in sound])
        return [
            pool.submit(
                self.outputs.write, self.name(read.path), read, Prediction(answer, self.decision)
            )
            for read, answer in zip(sound, answers, strict=True)
        ]

    def _finish(self, written: list[Future[dict[str, Any]]]) -> None:
        rows = [future.result() for future in written]
        self.ledger.append(rows)
        self.fresh += len(rows)
        self.done |= {row["path"] for row in rows}
        for row in rows:
            self.unread.pop(row["path"], None)

    def summary(self) -> dict[str, Any]:
        """Writes the summary, and the boxes where they are wanted, and returns the summary."""
        rows = self.ledger.rows
        summary = {
            "model": str(self.facts["category"]),
            "checkpoint_sha256": str(self.facts["sha256"]),
            "image_score": self.options.image_score,
            "threshold": self.decision.threshold,
            "threshold_from": self.decision.origin,
            "false_alarms_promised": self.decision.promise,
            "map_scale": self.outputs.map_scale,
            "images": len(rows),
            "anomalous": sum(row["decision"] == "anomalous" for row in rows),
            "predictions": rows,
            "unreadable": [{"path": k, "error": v} for k, v in self.unread.items()],
        }
        if self.options.boxes:
            write_json(self.out / BOXES, self.ledger.coco())
        write_json(self.out / DOCUMENT, summary)
        return summary


def _settled(source: Path, before: dict[Path, tuple[int, int]]) -> Iterator[Path]:
    """Yields the images whose size and time have not changed since the look before."""
    now: dict[Path, tuple[int, int]] = {}
    for path in sorted(source.rglob("*")):
        try:
            if path.is_file() and is_image_name(path):
                state = path.stat()
                now[path] = (state.st_size, state.st_mtime_ns)
        except FileNotFoundError:
            continue  # taken away meanwhile
    yield from (path for path, state in now.items() if before.get(path) == state)
    before.clear()
    before.update(now)


def watch(
    source: Path,
    model: Path,
    out: Path,
    options: PredictOptions,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Predicts the images of a folder and those that come later, until `stop` says so.

    A file is taken when it has not changed between two looks; one that cannot be read is named
    once, and again when it has changed.
    """
    if not source.is_dir():
        raise UserError(f"{source} is no folder: --watch looks into a folder")
    run = Run(source, model, out, options)
    seen: dict[Path, tuple[int, int]] = {}
    failed: dict[Path, tuple[int, int]] = {}
    while not stop():
        settled = [
            p
            for p in _settled(source, seen)
            if not p.is_relative_to(out) and failed.get(p) != seen.get(p)
        ]
        waiting = [p for p in settled if run.name(p) not in run.done]
        if waiting:
            run.look(waiting)
            failed |= {p: seen[p] for p in waiting if run.name(p) in run.unread and p in seen}
            run.summary()
        else:
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
