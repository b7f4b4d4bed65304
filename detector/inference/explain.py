"""Pictures of what feature selection did: losses per layer, and channels good and bad (Fig. S7)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as functional
from PIL import Image, ImageDraw

from detector import checkpoint, overlay
from detector.data.crops import normal_images
from detector.models.realnet import RealNet
from detector.options import TrainOptions, model_options
from sia_gen import methods
from sia_gen.compute import device as devices
from sia_gen.core.context import Context
from sia_gen.core.data.dataset import Category
from sia_gen.core.errors import UserError
from sia_gen.core.pixels.images import Array8, encode_png
from sia_gen.core.pixels.pairs import Pair
from sia_gen.core.plugins import load
from sia_gen.core.seeds import generator
from sia_gen.core.store.files import write_bytes

LOSSES, CHANNELS = "afs-losses.png", "afs-channels.png"
TRIES = 50  # pairs drawn until one has a mask worth looking at
TILE, CAPTION, GAP = 96, 14, 4
KEPT, DROPPED = (38, 98, 190), (200, 200, 200)


def explain(
    model: Path, category: Category, out: Path, *, source: str, columns: int, device_name: str
) -> dict[str, Any]:
    """Writes both pictures and returns their paths with the losses' summary per layer.

    The pair shown is made by a method that needs no files, of the first training image.
    """
    facts = checkpoint.read_facts(model)
    losses = facts.get("afs_losses") or []
    trained = checkpoint.load(model, devices.choose_device(device_name))
    if not isinstance(trained.model, RealNet) or not losses:
        raise UserError(
            f"{model} holds no AFS losses (model {trained.options.model}, reduction"
            f" {facts['options']['options'].get('reduction', 'none')}): only AFS can be explained"
        )
    network = trained.model
    pair = pair_of(category, trained.options, source)
    write_bytes(out / LOSSES, encode_png(_losses(network, losses), level=6))
    sheet = _channels(network, losses, pair, columns)
    write_bytes(out / CHANNELS, encode_png(sheet, level=6))
    layers = []
    for layer, values, reduction in zip(
        network.options.layers, losses, network.reductions, strict=True
    ):
        kept = set(reduction.index.tolist())  # type: ignore[operator]
        inside = [v for i, v in enumerate(values) if i in kept]
        outside = [v for i, v in enumerate(values) if i not in kept]
        layers.append(
            {
                "layer": layer,
                "channels": len(values),
                "kept": len(kept),
                "mean_loss_kept": float(np.mean(inside)),
                "mean_loss_dropped": float(np.mean(outside)) if outside else None,
            }
        )
    return {"pictures": [str(out / LOSSES), str(out / CHANNELS)], "layers": layers}


def pair_of(category: Category, options: TrainOptions, source: str) -> Pair:
    """Returns an anomalous version of the first normal image as the network sees it: a crop, for
    tiles."""
    rule = category.foreground if options.foreground else "whole"
    normals = normal_images([(category.train, rule)], options, category.read_image)
    context = Context(
        resolution=options.resolution, category=category.key, kind=category.kind,
        normals=len(normals), image=normals.image, foreground=normals.foreground,
    )  # fmt: skip
    module = load(methods, source)
    method = module.build(model_options(module.Options, {}), context)
    found: Pair | None = None
    for k in range(TRIES):
        rng = generator("explain", category.key, k)
        pair: Pair = method.pair(context.image(0), context.foreground(0), rng)
        if found is None or pair.mask.sum() > found.mask.sum():
            found = pair
        if pair.mask.mean() > 0.02:
            break
    if found is None or not found.mask.any():
        raise UserError(f"source {source} made no anomaly on {category.train[0]}: give another")
    return found


def _losses(network: RealNet, losses: list[list[float]]) -> Array8:
    """Returns one strip a layer: channels from the smallest loss to the largest, kept ones blue."""
    width, height = 640, 110
    image = Image.new("RGB", (width, height * len(losses)), "white")
    draw = ImageDraw.Draw(image)
    for row, (layer, values) in enumerate(zip(network.options.layers, losses, strict=True)):
        top = row * height
        index = network.reductions[row].index
        kept = set(index.tolist())  # type: ignore[operator]
        order = np.argsort(values, kind="stable")
        low, high = min(values), max(v for v in values if np.isfinite(v))
        draw.text((4, top + 2), f"layer {layer}: {len(kept)} of {len(values)} channels kept,"
                  f" AFS loss {low:.3g} to {high:.3g}", fill="black")  # fmt: skip
        for place, channel in enumerate(order):
            share = min((values[channel] - low) / max(high - low, 1e-12), 1.0)
            left = 4 + place * (width - 8) / len(values)
            right = max(left + (width - 8) / len(values) - 0.3, left)
            bottom = top + height - 4
            tall = 2 + 84 * share
            colour = KEPT if int(channel) in kept else DROPPED
            draw.rectangle((left, bottom - tall, right, bottom), fill=colour)
    return np.asarray(image)


@torch.no_grad()
def _channels(network: RealNet, losses: list[list[float]], pair: Pair, columns: int) -> Array8:
    """Returns a row a layer: the best channels' residuals for the pair, then the worst ones'."""
    device = network.backbone.mean.device
    both = torch.from_numpy(np.stack([pair.image, pair.normal])).to(device)
    layers = network.layers(both.permute(0, 3, 1, 2).float().div(255))
    mask = np.repeat((pair.mask * np.uint8(255))[..., None], 3, axis=2)
    rows = [[_tile(pair.normal, "normal"), _tile(pair.image, "anomalous"), _tile(mask, "mask")]]
    for layer, values, x in zip(network.options.layers, losses, layers, strict=True):
        residual = (x[0].float() - x[1].float()).square()
        order = np.argsort(values, kind="stable").tolist()
        best, worst = order[:columns], order[max(columns, len(order) - columns) :]
        rows.append(
            [_tile(_heat(residual[c]), f"L{layer}:{c} {values[c]:.3g}") for c in best + worst]
        )
    width = max(len(row) for row in rows)
    blank = np.full_like(rows[0][0], 255)
    lines = [np.concatenate(row + [blank] * (width - len(row)), axis=1) for row in rows]
    return np.concatenate(lines, axis=0)


def _heat(residual_HW: torch.Tensor) -> Array8:
    low, high = residual_HW.amin(), residual_HW.amax()
    scaled = (residual_HW - low) / (high - low + 1e-12)
    larger = functional.interpolate(scaled[None, None], size=(TILE, TILE), mode="nearest")[0, 0]
    values: npt.NDArray[np.float32] = larger.cpu().numpy()
    return overlay.colourise(values)


def _tile(image_HW3: Array8, caption: str) -> Array8:
    tile = Image.new("RGB", (TILE + GAP, TILE + CAPTION + GAP), "white")
    tile.paste(Image.fromarray(image_HW3).resize((TILE, TILE)), (0, CAPTION))
    ImageDraw.Draw(tile).text((1, 1), caption, fill="black")
    return np.asarray(tile)
