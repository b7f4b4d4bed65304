"""Contact sheets of synthesis methods and of foregrounds, side by side on the same normal images.

A column is one normal image: the image itself, then each method's anomaly on it above its mask.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sia_gen import methods
from sia_gen.core.context import Context, context_of
from sia_gen.core.data.category import Category, as_recorded
from sia_gen.core.data.dataset import open_dataset
from sia_gen.core.options import from_values
from sia_gen.core.pixels.foreground import rule_for
from sia_gen.core.pixels.images import Array8, Mask, encode_png
from sia_gen.core.pixels.masks import outlined
from sia_gen.core.pixels.sheet import sheet
from sia_gen.core.plugins import load, names
from sia_gen.core.seeds import generator
from sia_gen.core.store.files import write_bytes
from sia_gen.core.store.made_from import made_from
from sia_gen.core.store.shards import find_shards, read_record
from sia_gen.generate.options import MethodPreviewOptions

TRIES = 20  # draws until an anomaly lies inside the foreground
OUTLINE = (255, 40, 40)
DIMMED = 0.25


def _without_shards(shards: str) -> set[str]:
    """Returns the methods that a run's shards are nothing for: images, or pairs grown in place."""
    if not shards:
        return {"sdas", "sdas_inplace"}
    record = read_record(find_shards(Path(shards))[0]) or {}
    grown = str(record.get("spec", {}).get("method", "")).startswith("sdas-inplace")
    return {"sdas"} if grown else {"sdas_inplace"}


def parse_methods(text: str, shards: str, textures: str) -> tuple[str, ...]:
    """Returns the methods of `dtd,nsa`; `all` is those that have what they need."""
    if text == "all":
        lacking = {"noise", *_without_shards(shards)}
        lacking |= {"dtd"} if not textures else set()
        return tuple(name for name in names(methods) if name not in lacking)
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _dimmed(image: Array8, region: Mask) -> Array8:
    shown = np.where(region[..., None], image, image * DIMMED)
    return outlined(shown.astype(np.uint8), region, OUTLINE)


def _options_of(name: str, options: MethodPreviewOptions) -> Any:
    given = {"textures": options.textures} if name == "dtd" and options.textures else {}
    return from_values(load(methods, name).Options, given, f"method {name}")


def _rows(
    name: str, category: Category, context: Context, picks: list[int], options: MethodPreviewOptions
) -> list[tuple[str, list[Array8]]]:
    method = load(methods, name).build(_options_of(name, options), context)
    images, masks = [], []
    for column, pick in enumerate(picks):
        for attempt in range(TRIES):
            rng = generator(options.seed, "preview", category.key, name, column, attempt)
            pair = method.pair(context.image(pick), context.foreground(pick), rng)
            if pair.mask.any():
                break
        images.append(pair.image)
        masks.append(np.repeat(pair.mask[..., None].astype(np.uint8) * 255, 3, axis=2))
    return [(name, images), ("mask", masks)]


def make_method_preview(
    options: MethodPreviewOptions, say: Callable[[str], None] = lambda _: None
) -> Path:
    """Writes the contact sheet as PNG and returns its path."""
    out = options.checked_out()
    chosen = parse_methods(options.methods, options.shards, options.textures)
    for name in chosen:
        load(methods, name)
    blocks = []
    categories = open_dataset(options.data, options.value_range).select(options.categories)
    if options.shards and (origin := made_from(Path(options.shards))):
        categories = as_recorded(categories, origin.value_ranges)
    for category in categories:
        if options.foreground:
            rule = rule_for(options.foreground, category.name)
            category = replace(category, foreground=rule)
        tars: tuple[Path, ...] = ()
        if "sdas" in chosen and options.shards:
            tars = tuple(find_shards(Path(options.shards), category.key))
        context = context_of(category, options.resolution, tars)
        picks = np.linspace(0, context.normals - 1, options.columns).round().astype(int).tolist()
        rows = [("normal", [context.image(pick) for pick in picks])]
        if options.foregrounds or not chosen:
            shown = [_dimmed(context.image(pick), context.foreground(pick)) for pick in picks]
            rows.append(("foreground", shown))
        for name in chosen:
            rows += _rows(name, category, context, picks, options)
        blocks.append((f"{category.key}   (foreground {category.foreground})", rows))
        say(f"{category.key}: {len(picks)} columns")
    write_bytes(out, encode_png(sheet(blocks, options.scale), 6))
    return out
