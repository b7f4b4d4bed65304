"""The dataset card of a run: README.md, a contact sheet, pictures, Croissant.

Written at the end of every run over the shards that are finished, with fixed indices, so that it is
the same whoever made them.
"""

from __future__ import annotations

import glob
import io
import json
from dataclasses import dataclass, field

from sia_gen.core.pixels.images import Array8, decode, encode_png, resize_image
from sia_gen.core.pixels.sheet import sheet
from sia_gen.core.store.files import write_bytes, write_json
from sia_gen.core.store.objects import Location, ObjectPath
from sia_gen.core.text import markdown
from sia_gen.runs import croissant
from sia_gen.runs.index import BINS, Finished

COLUMNS = 8
TILE = 96  # pixels, at most
MAX_CATEGORIES = 48  # on the contact sheet
SHEET = "![The first images of each category](card/contact-sheet.png)\n"
SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"))


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a kind of content says of a run: its short name, README.md, a sentence for search
    engines, and pictures below card/ by their names."""

    name: str
    text: str
    description: str
    pictures: dict[str, bytes] = field(default_factory=dict)


def _read(path: Location, offset: int, size: int) -> bytes:
    if isinstance(path, ObjectPath):
        return path.read_range(offset, size)
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(size)


def _tiles(images: list[Array8]) -> list[Array8]:
    """Returns images of one size: as they are where they are small and alike, else squares."""
    if len({image.shape for image in images}) == 1 and max(images[0].shape[:2]) <= TILE:
        return images
    return [resize_image(image, TILE) for image in images]


def contact_sheet(run: Location, finished: Finished) -> bytes | None:
    """Returns the first images of each category as a labelled PNG; None before the first shard."""
    blocks = []
    for key, (file, offsets) in sorted(finished.first.items())[:MAX_CATEGORIES]:
        path = run / file
        images = [
            decode(_read(path, offset, size), str(path)) for offset, size in offsets[:COLUMNS]
        ]
        blocks.append((key, [(f"0 to {len(images) - 1}", _tiles(images))]))
    return encode_png(sheet(blocks, 1), 6) if blocks else None


def histogram(finished: Finished, low: float, high: float) -> str:
    """Returns the strengths of the finished images as an SVG picture."""
    width, height, left, bottom = 420, 170, 50, 26
    counts = [finished.strengths[i] for i in range(BINS)]
    highest = max(*counts, 1)
    step, room = (width - left - 10) / BINS, height - bottom - 20
    bars = io.StringIO()
    for i, count in enumerate(counts):
        tall = room * count / highest
        x, y = left + i * step, height - bottom - tall
        bars.write(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{step - 1:.1f}" height="{tall:.1f}"'
            ' fill="#4a6fa5"/>'
        )
    axis = height - bottom
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
        f' font-family="sans-serif" font-size="11"><rect width="{width}" height="{height}"'
        f' fill="white"/>{bars.getvalue()}<line x1="{left}" x2="{width - 10}" y1="{axis}"'
        f' y2="{axis}" stroke="#333"/><text x="{left}" y="{height - 8}">{low:g}</text>'
        f'<text x="{width - 10}" y="{height - 8}" text-anchor="end">{high:g}</text>'
        f'<text x="{(left + width) // 2}" y="{height - 8}" text-anchor="middle">strength</text>'
        f'<text x="{left - 6}" y="26" text-anchor="end">{highest}</text>'
        f'<text x="{left - 6}" y="{axis}" text-anchor="end">0</text></svg>\n'
    )


def _size_category(images: int) -> str:
    return next((word for limit, word in SIZES if images < limit), "n>1M")


def configurations(finished: Finished) -> dict[str, str]:
    """Returns the names of load_dataset's configurations, one a category, with their tars' glob.

    They are named by the category alone where the run has one dataset.
    """
    several = len({key.rpartition("/")[0] for key in finished.images}) > 1
    found = {"default": "shards/**/*.tar"}
    for key in sorted(finished.images):
        alone = key.rpartition("/")[2]
        name = key.replace("/", "--") if several or alone in found else alone
        found[name] = f"shards/{glob.escape(key)}/*.tar"
    return found


def head(title: str, finished: Finished) -> str:
    """Returns the YAML head that the Hugging Face Hub and `datasets` read."""
    configs = "\n".join(
        f"- config_name: {json.dumps(name, ensure_ascii=False)}\n  data_files:\n  - split: train\n"
        f"    path: {json.dumps(path, ensure_ascii=False)}"
        for name, path in configurations(finished).items()
    )
    return f"""---
pretty_name: {json.dumps(title)}
license: other
task_categories:
- image-classification
tags:
- anomaly-detection
- synthetic
- webdataset
size_categories:
- {_size_category(finished.images.total())}
configs:
{configs}
---

# {markdown(title)}
"""


def tail(finished: Finished) -> str:
    """Returns how the shards are laid out and read."""
    first = finished.shards[0]["file"] if finished.shards else "shards/..."
    name = [*configurations(finished)][-1]
    return f"""
- Shards are WebDataset tars: an image beside `<key>.json` with its metadata and the hash of its
  pixels. Indices: `index.json`, `wids.json`, `sizes.json`, `croissant.json`.

      from datasets import load_dataset  # in place of "." the folder, or the repository
      load_dataset(".", split="train")  # all; one category: load_dataset(".", {json.dumps(name)})

      import webdataset
      webdataset.WebDataset({json.dumps(first, ensure_ascii=False)})
"""


def table(finished: Finished) -> str:
    """Returns the categories and their numbers of images as a Markdown table."""
    counts = sorted(finished.images.items())
    rows = "\n".join(f"| {markdown(key)} | {count} |" for key, count in counts)
    return f"| category | images |\n|---|---|\n{rows}\n"


def write(run: Location, card: Card, finished: Finished, started: str) -> None:
    """Writes README.md, the pictures below card/, and croissant.json."""
    for name, content in card.pictures.items():
        write_bytes(run / "card" / name, content)
    picture = contact_sheet(run, finished)
    if picture is not None:
        write_bytes(run / "card" / "contact-sheet.png", picture)
    write_bytes(run / "README.md", card.text.encode())
    metadata = croissant.describe(
        name=card.name,
        description=card.description,
        shards=finished.shards,
        published=started[:10],
        license_url="https://spdx.org/licenses/LicenseRef-same-as-the-normal-images",
    )
    write_json(run / "croissant.json", metadata)
