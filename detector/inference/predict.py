"""Prediction on images without labels: a picture each, a table, and what could not be read."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detector import checkpoint
from detector.inference import outputs, overlay, steps
from detector.inference.maps import anomaly_maps
from detector.inference.outputs import DOCUMENT, TABLE
from detector.inference.score import trained_range
from detector.scorefile import image_scores
from sia_gen.compute import device as devices
from sia_gen.core.errors import IncompleteError, UserError
from sia_gen.core.pixels.images import (
    EXTENSIONS,
    encode_png,
    is_image_name,
    read_image,
    resize_image,
)
from sia_gen.core.provenance import sha256_file
from sia_gen.core.store.files import write_json
from sia_gen.core.store.walk import walk
from sia_gen.core.text import shown


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """How to decide: which image score, and how many false alarms among normal images to accept."""

    image_score: str = "max"
    false_alarms: float = 0.05
    device: str = "auto"
    steps: bool = False


def threshold_of(reference: list[float], false_alarms: float) -> float:
    """Returns the score that at most this share of the reference images exceeds.

    It is the ceil((n + 1)(1 - share))-th smallest score (split conformal), or the largest where n
    is too small for that: see `promised`.
    """
    ordered = sorted(reference)
    rank = int(np.ceil((len(ordered) + 1) * (1 - false_alarms)))
    return ordered[min(rank, len(ordered)) - 1]


def promised(images: int, held_out: bool, false_alarms: float) -> float | None:
    """Returns the false-alarm rate on new normal images that the threshold keeps on average.

    The largest of n held-out scores is exceeded by a new one with probability 1 / (n + 1), so few
    images cannot promise a low rate. Scores of images that were trained on promise nothing: None.
    """
    return max(false_alarms, 1 / (images + 1)) if held_out else None


def _threshold_from(images: int, held_out: bool, false_alarms: float) -> str:
    rate = promised(images, held_out, false_alarms)
    if rate is None:
        return (
            f"{images} training (seen) images at false alarm rate {false_alarms:g}: no promise for"
            " new ones, train with --holdout for that"
        )
    text = f"{images} held-out normal images at false alarm rate {false_alarms:g}"
    if rate > false_alarms:
        least = int(np.ceil(1 / false_alarms)) - 1
        text += f": too few, they promise {rate:.3g} only ({least} are needed)"
    return text


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


def predict(source: Path, model: Path, out: Path, options: PredictOptions) -> dict[str, Any]:
    """Writes overlays, a CSV and a JSON for images without labels, and returns the summary.

    Images that cannot be read are named with their reason; the others are done. IncompleteError
    says so at the end.
    """
    if not 0 < options.false_alarms < 1:
        raise UserError(f"false alarm rate {options.false_alarms} is not between 0 and 1")
    paths = find_images(source)
    facts = checkpoint.read_facts(model)
    if out.exists() and not out.is_dir():
        raise UserError(f"output {out} is a file: give a folder")
    device = devices.choose_device(options.device)
    trained = checkpoint.load(model if model.is_dir() else model.parent, device, fast=True)
    column = f"score_{options.image_score}"
    reference = facts["reference"]
    threshold = threshold_of(reference[column], options.false_alarms)
    value_range = trained_range(facts)
    base = source if source.is_dir() else source.parent
    rows: list[dict[str, Any]] = []
    unread: list[dict[str, str]] = []
    identity = {"checkpoint": facts["sha256"], "threshold": threshold, "column": column}
    with outputs.Table(out, identity | {"steps": options.steps}) as table:
        for path in paths:
            # The whole name, with its extension: a.png and a.jpg are two images.
            name = str(path.relative_to(base))
            try:
                sha256 = sha256_file(path)
                row = table.kept(name, sha256)
                original = None if row else read_image(path, value_range=value_range)
            except (UserError, OSError) as error:
                unread.append({"path": shown(name), "error": shown(str(error))})
                print(f"skipped: {shown(str(error))}", file=sys.stderr)
                continue
            if original is not None:
                image = resize_image(original, trained.options.resolution)
                map_HW = anomaly_maps(trained.model, image[None], device)[0]
                score = image_scores(map_HW)[column]
                picture = overlay.panel(image, map_HW, threshold)
                outputs.write_picture(out / "overlays", name, encode_png(picture, level=6))
                if options.steps:
                    picture = steps.panel(trained.model, image, device, threshold)
                    outputs.write_picture(out / "steps", name, encode_png(picture, level=6))
                decision = "anomalous" if score > threshold else "normal"
                row = {"path": name, "score": score, "threshold": threshold, "decision": decision}
            assert row is not None
            table.add(row, sha256)
            rows.append({**row, "path": shown(row["path"])})
    held_out = reference["images"] == "held-out"
    summary = {
        "model": str(facts["category"]),
        "checkpoint_sha256": str(facts["sha256"]),
        "image_score": options.image_score,
        "threshold": threshold,
        "threshold_from": _threshold_from(len(reference[column]), held_out, options.false_alarms),
        "false_alarms_promised": promised(len(reference[column]), held_out, options.false_alarms),
        "images": len(rows),
        "anomalous": sum(row["decision"] == "anomalous" for row in rows),
        "predictions": rows,
        "unreadable": unread,
    }
    write_json(out / DOCUMENT, summary)
    if unread:
        raise IncompleteError(
            f"{len(unread)} of {len(paths)} images could not be read, e.g."
            f" {unread[0]['error']}; the others are in {out / TABLE}"
        )
    return summary
