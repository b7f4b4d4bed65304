"""Contact sheet: normal images above synthetic ones of rising strength, from the same seeds.

In a column below `normal` every row has the same seed, so that only the strength differs.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from sia_gen.core.data.dataset import Category, open_dataset
from sia_gen.core.pixels.images import Array8, encode_png
from sia_gen.core.pixels.sheet import sheet
from sia_gen.core.seeds import image_seed
from sia_gen.core.store.files import write_bytes
from sia_gen.generate import model as models
from sia_gen.generate.options import PreviewOptions


def _normal(category: Category, columns: int, size: int) -> list[Array8]:
    """Returns normal images spread evenly over the training set, repeated if there are too few."""
    picks = np.linspace(0, len(category.train) - 1, columns).round().astype(int)
    return [category.read_image(category.train[pick], size) for pick in picks]


def make_preview(options: PreviewOptions, say: Callable[[str], None] = lambda _: None) -> Path:
    """Writes the contact sheet as PNG and returns its path."""
    out = options.checked_out()
    dataset = open_dataset(options.data)
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
        blocks.append((category.key, rows))
        say(f"{category.key}: {len(seeds) * len(options.strengths)} images")
    title = f"{options.model}, {options.sampler}, {options.steps} steps, seed {options.seed}"
    if guidance:
        title += f", guided by {options.guidance} at {options.guidance_scale:g}"
    blocks = [(f"{name}   ({title})", rows) for name, rows in blocks]
    write_bytes(out, encode_png(sheet(blocks, options.scale), 6))
    return out
