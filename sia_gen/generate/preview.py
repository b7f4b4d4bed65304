"""Contact sheet: normal images above synthetic ones of rising strength, from the same seeds.

In a column below `normal` every row has the same seed, so that only the strength differs.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from sia_gen.core.data.dataset import Category, open_dataset
from sia_gen.core.pixels.images import Array8, encode_png
from sia_gen.core.pixels.pairs import blend
from sia_gen.core.pixels.perlin import mask as perlin
from sia_gen.core.pixels.sheet import sheet
from sia_gen.core.seeds import generator as rng_of
from sia_gen.core.seeds import image_seed
from sia_gen.core.store.files import write_bytes
from sia_gen.generate import model as models
from sia_gen.generate.options import PreviewOptions

OPACITY = 0.75  # of blending, the middle of what training draws


def _normal(category: Category, columns: int, size: int) -> list[Array8]:
    """Returns normal images spread evenly over the training set, repeated if there are too few."""
    picks = np.linspace(0, len(category.train) - 1, columns).round().astype(int)
    return [category.read_image(category.train[pick], size) for pick in picks]


def _in_place(
    generator: models.Generator,
    category: Category,
    options: PreviewOptions,
    seeds: list[int],
    rows: list[tuple[str, list[Array8]]],
) -> list[tuple[str, list[Array8]]]:
    """Returns rows of masks, of blending through them, and of in place at each depth.

    Blended are the images of the largest strength, which is that of in place too.
    """
    normals, whole = rows[0][1], rows[-1][1]
    strength = options.strengths[-1]
    masks, blended = [], []
    for seed, normal, synthetic in zip(seeds, normals, whole, strict=True):
        rng = rng_of(seed, "preview mask")
        while not (mask := perlin(len(normal), rng)).any():
            pass
        masks.append(mask)
        blended.append(blend(normal, synthetic, mask, OPACITY))
    shown = [np.repeat(mask[..., None].astype(np.uint8) * 255, 3, axis=2) for mask in masks]
    found = [("mask", shown), (f"blended, s = {strength:g}", blended)]
    for depth in options.depths:
        made = generator.in_place(
            category.name,
            seeds,
            [strength] * len(seeds),
            np.stack(normals),
            np.stack(masks),
            depth,
        )
        found.append((f"in place, d = {depth:g}, s = {strength:g}", list(made)))
    return found


def make_preview(options: PreviewOptions, say: Callable[[str], None] = lambda _: None) -> Path:
    """Writes the contact sheet as PNG and returns its path."""
    out = options.checked_out()
    dataset = open_dataset(options.data, options.value_range)
    categories = dataset.select(options.categories)
    model = models.locate(options.model)
    facts = models.describe(model)
    categories = models.as_trained(categories, facts)
    models.require_classes(options.model, facts, [category.name for category in categories])
    guidance = models.describe_guidance(options.guidance, options.model, facts)
    # Normal images first: a broken file is told before the model is loaded.
    normal = {c.name: _normal(c, options.columns, facts.resolution) for c in categories}
    if facts.health.get("passed") is not True:
        say(f"model {options.model} has not passed a health check: judge the s = 0 row yourself")
    generator = models.load(
        model,
        device=options.device,
        precision=options.precision,
        steps=options.steps,
        sampler=options.sampler,
        guidance=options.guidance,
        guidance_scale=options.guidance_scale,
    )
    blocks = []
    for category in categories:
        seeds = [image_seed(options.seed, category.key, i) for i in range(options.columns)]
        rows = [("normal", normal[category.name])]
        for strength in options.strengths:
            made = generator.images(category.name, seeds, [strength] * len(seeds))
            rows.append((f"s = {strength:g}", list(made)))
        if options.depths:
            rows += _in_place(generator, category, options, seeds, rows)
        blocks.append((category.key, rows))
        say(f"{category.key}: {len(seeds) * len(options.strengths)} images")
    sampler = models.sampler_of(facts, options.sampler)
    title = f"{options.model}, {sampler}, {options.steps} steps, seed {options.seed}"
    if guidance:
        title += f", guided by {options.guidance} at {options.guidance_scale:g}"
    blocks = [(f"{name}   ({title})", rows) for name, rows in blocks]
    write_bytes(out, encode_png(sheet(blocks, options.scale), 6))
    return out
