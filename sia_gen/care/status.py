"""The state of a run, read from its files alone."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from sia_gen.core.errors import UserError
from sia_gen.core.progress import duration
from sia_gen.core.store.files import read_json
from sia_gen.core.store.objects import Location, locate
from sia_gen.generate import contents
from sia_gen.runs import folder, lock
from sia_gen.runs.progress import NAME as PROGRESS
from sia_gen.runs.spec import remaining


def _figures(run: Location) -> list[dict[str, Any]]:
    """Returns the last figures of each living driver."""
    found = []
    holder = lock.read(run)
    if holder is not None and holder["live"]:
        found.append(run / PROGRESS)
    found += [
        run / lock.DRIVERS / f"{driver['token']}.{PROGRESS}"
        for driver in lock.joined(run)
        if driver["live"]
    ]
    return [read_json(path) for path in found if path.is_file()]


def _together(figures: list[dict[str, Any]], missing_images: int) -> dict[str, Any]:
    """Returns the figures of all drivers in one: rates add up, and time left follows."""
    rate = sum(figure.get("images_per_second") or 0.0 for figure in figures)
    in_work = sum(figure.get("images_in_work") or 0 for figure in figures)
    left = max(0, missing_images - in_work)
    return {
        "images_in_work": in_work,
        "images_per_second": round(rate, 4) if figures else None,
        "seconds_left": round(left / rate, 1) if rate else None,
        "retries": sum(figure.get("retries") or 0 for figure in figures),
    }


def read(run: Location) -> dict[str, Any]:
    """Returns a run's state as a JSON object.

    `state` is running, complete, failed (shards are in quarantine), or incomplete.
    """
    planned = contents.planned(run)
    missing = remaining(planned, run)
    names = {spec.label for spec in missing}
    failed = sorted(path.stem for path in (run / "failed").glob("*.json") if path.stem in names)
    holder = lock.read(run)
    drivers = lock.joined(run)
    live = any(driver["live"] for driver in [*drivers, *([holder] if holder else [])])
    if live:
        state = "running"
    elif not missing:
        state = "complete"
    else:
        state = "failed" if failed else "incomplete"
    missing_images = sum(spec.count for spec in missing)
    # Of a set of datasets the categories are named in full, dataset/category.
    several = len({spec.key.rpartition("/")[0] for spec in planned}) > 1
    per_category: Counter[str] = Counter()
    gone = {spec.file for spec in missing}
    for spec in planned:
        name = spec.key if several else spec.category
        per_category[name] += 0 if spec.file in gone else spec.count
    images = sum(spec.count for spec in planned)
    return {
        "run": str(run),
        "state": state,
        "images": images,
        "images_done": images - missing_images,
        **_together(_figures(run), missing_images),
        "shards": len(planned),
        "shards_done": len(planned) - len(missing),
        "failed": failed,
        "categories": dict(per_category),
        "held_by": _who(holder) if holder else None,
        "joined_by": [_who(driver) for driver in drivers],
    }


def _who(holder: dict[str, Any]) -> dict[str, Any]:
    return {name: holder.get(name) for name in ("pid", "host", "live")}


def describe(state: dict[str, Any]) -> str:
    """Returns a state as text for people."""
    share = 100 * state["images_done"] / max(1, state["images"])
    lines = [
        f"{state['run']}: {state['state']}",
        f"  images {state['images_done']}/{state['images']} ({share:.0f}%),"
        f" shards {state['shards_done']}/{state['shards']}",
    ]
    if state["images_per_second"]:
        left = state["seconds_left"]
        lines.append(
            f"  {state['images_per_second']:.3g} images/s"
            + (f", {duration(left)} left" if left is not None else "")
        )
    elif state["state"] == "running":
        lines.append("  no rate yet: the workers are starting, or at their first batch")
    lines += [f"  {name}: {images} images" for name, images in state["categories"].items()]
    for holder in [*([state["held_by"]] if state["held_by"] else []), *state["joined_by"]]:
        word = "held by" if holder["live"] else "left by a dead run,"
        lines.append(f"  {word} pid {holder['pid']} on {holder['host']}")
    lines += [f"  failed: {name} (see failed/{name}.json)" for name in state["failed"]]
    return "\n".join(lines)


def require_run(run: str) -> Location:
    """Returns the run folder of an argument; UserError where there is none."""
    place = locate(run)
    path = place.resolve() if isinstance(place, Path) else place
    try:
        folder.read(path)
    except OSError as error:
        raise UserError(f"run folder {run} cannot be read: {error.strerror or error}") from error
    return path
