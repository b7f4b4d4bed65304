"""Detection metrics of score folders: one record a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from detector import scorefile
from harness import metrics, records
from harness.measure import examples
from harness.measure.detection_metrics import expected, measure
from harness.records import Record
from sia_gen.core.data.dataset import read_manifest
from sia_gen.core.errors import UserError
from sia_gen.core.provenance import sha256_bytes, sha256_file, versions
from sia_gen.core.store.walk import walk

ITEM_KEYS = ("path", "defect", "anomalous", "has_mask", "score_max", "score_avgpool16_max")


def find_score_folders(paths: Iterable[Path]) -> list[Path]:
    """Returns the score folders that paths name or hold at any depth, sorted, each once."""
    found: set[Path] = set()
    for path in paths:
        if not path.is_dir():
            raise UserError(f"scores {path}: no such folder; `detector score` writes score folders")
        here = {f.parent for f in walk(path, lambda f: f.name == "scores.json")}
        if not here:
            raise UserError(
                f"{path} holds no score folder (scores.json, maps.npy, masks.npy): run `detector"
                " score`, or `harness baseline`, first"
            )
        found |= {folder.resolve() for folder in here}
    return sorted(found)


def checked(folder: Path) -> scorefile.Scores:
    """Returns a score folder with every item sound; UserError names what is wrong with it."""
    try:
        scores = scorefile.read(folder)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{folder}/scores.json lacks a part or has a wrong one: {error!r}"
        ) from error
    if not scores.items:
        raise UserError(f"{folder} holds scores of no image")
    dataset, slash, category = scores.category.partition("/")
    if not (dataset and slash and category):
        raise UserError(f"{folder}: category {scores.category!r} is not dataset/name")
    for number, item in enumerate(scores.items):
        missing = [key for key in ITEM_KEYS if not isinstance(item, dict) or key not in item]
        if missing:
            raise UserError(f"{folder}: item {number} lacks {', '.join(missing)}")
        for key in (key for key in item if key.startswith("score_")):
            score = item[key]
            number_like = isinstance(score, int | float) and not isinstance(score, bool)
            if not number_like or not np.isfinite(score):
                raise UserError(
                    f"{folder}: {key} of {item['path']} is {score!r}: NaN is not ranked"
                )
        if not item["anomalous"] and np.any(scores.masks_NHW[number]):
            raise UserError(f"{folder}: {item['path']} counts as normal but its mask is not empty")
    return scores


def _hash(folder: Path) -> str:
    parts = [sha256_file(folder / name) for name in ("scores.json", "maps.npy", "masks.npy")]
    return sha256_bytes("".join(parts).encode())


def category_kind(dataset: str, category: str) -> str:
    """Returns texture, object or unknown, as the dataset's manifest says."""
    return str(read_manifest(dataset).get(category, {}).get("kind", "unknown"))


def evaluate(folder: Path, results: Path, data: Path | None, each: int) -> tuple[Record, Any]:
    """Returns a score folder's record and a function that publishes its example pictures.

    Nothing is written here: a later folder may still be refused.
    """
    scores = checked(folder)
    dataset, _, category = scores.category.partition("/")
    measured = measure(scores)
    roots = [root for root in (data, data / category if data else None, folder) if root]
    values = np.array([item["score_max"] for item in scores.items], dtype=np.float64)
    pictures, picture_notes = examples.render(scores, values, roots, each)
    protocol, facts = dict(scores.protocol), dict(scores.run)
    method = str(protocol.pop("detector", None) or protocol.pop("method", None) or "unnamed")
    source = str(protocol.pop("source", None) or "none")
    seed = facts.pop("seed", None)
    if "resolution" not in protocol:
        protocol["resolution"] = int(scores.maps_NHW[0].shape[-1])
    record: Record = {
        "schema": records.SCHEMA,
        "kind": "detection",
        "dataset": dataset,
        "category": category,
        "category_kind": category_kind(dataset, category),
        "method": method,
        "source": source,
        "seed": seed if isinstance(seed, int) and not isinstance(seed, bool) else None,
        "protocol": protocol,
        "run": facts,
        "metrics": measured.metrics,
        "counts": measured.counts,
        "notes": measured.notes + picture_notes,
        "artifacts": {
            "scores": str(folder),
            "scores_sha256": _hash(folder),
            "curves": measured.curves,
        },
        "code": versions("numpy", "scipy"),
        "created": records.now(),
    }

    def publish() -> None:
        shown = [
            {"file": records.write_example(results, jpeg), **facts} for facts, jpeg in pictures
        ]
        record["artifacts"]["examples"] = shown

    return record, publish


def _current(record: Record) -> bool:
    """Returns whether a record holds every metric, at the version that its file has now."""
    entries, known = record["metrics"], metrics.columns("image", "pixel")
    complete = entries.keys() >= expected() and "curves" in record["artifacts"]
    return complete and all(
        name in known and entry["version"] == known[name].metric.version
        for name, entry in entries.items()
    )


def run(
    paths: Iterable[Path],
    results: Path,
    *,
    data: Path | None = None,
    each: int = 2,
    tell: Callable[[str], None] = lambda _: None,
) -> list[Record]:
    """Measures all score folders below paths and returns their records, finished ones read back.

    All folders are checked and measured before the first record is written: bad input writes
    nothing. A folder whose files and metric versions are unchanged is not measured again.
    """
    if results.exists() and not results.is_dir():
        raise UserError(f"--out {results} is a file: give a folder for result records")
    known = {
        (r["artifacts"].get("scores_sha256"), r["artifacts"].get("scores")): r
        for _, r in records.find([results], empty=True)
        if r["kind"] == "detection" and _current(r)
    }
    done: list[Record] = []
    fresh: list[tuple[Record, Any]] = []
    for folder in find_score_folders(paths):
        for name in ("maps.npy", "masks.npy"):
            if not (folder / name).is_file():
                raise UserError(f"{folder}/{name} does not exist: the score folder is incomplete")
        old = known.get((_hash(folder), str(folder)))
        if old is not None:
            tell(f"{old['dataset']}/{old['category']} {old['method']}: measured before")
            done.append(old)
            continue
        record, publish = evaluate(folder, results, data, each)
        tell(f"{record['dataset']}/{record['category']} {record['method']}: measured")
        fresh.append((record, publish))
    for record, publish in fresh:
        publish()
        records.write(results, record)
    return done + [record for record, _ in fresh]
