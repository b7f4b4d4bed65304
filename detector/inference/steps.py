"""What a detector does with one image, step by step, as one picture with captions."""

from __future__ import annotations

import numpy as np
import torch

from detector import overlay
from detector.model import Detector
from sia_gen.core.errors import UserError
from sia_gen.core.pixels.images import Array8

GAP = 4


@torch.no_grad()
def panel(model: Detector, image_RR3: Array8, device: torch.device, threshold: float) -> Array8:
    """Returns the steps side by side, uint8; UserError where the model shows none.

    Maps have colours of which the middle is the decision's threshold, as in the overlays; where a
    score is a sum of maps, each has its share of it.
    """
    image = torch.from_numpy(image_RR3).to(device).permute(2, 0, 1)[None].float().div(255)
    model.eval()
    found = model.steps(image)
    if not found:
        raise UserError(f"this model ({type(model).__name__}) shows no steps: leave out --steps")
    parts = []
    for name, value in found.items():
        pixels = value[0].float().cpu().numpy()
        if pixels.ndim == 2:
            summands = sum(other.ndim == 3 for other in found.values()) - 1
            share = 1 if name == "score" else max(summands, 1)
            scaled = pixels * share / max(2 * threshold, 1e-6)
            shown = overlay.colourise(scaled.astype(np.float32))
        else:
            shown = np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)
        parts.append(overlay.captioned(shown, name))
    gap = np.full((parts[0].shape[0], GAP, 3), 255, dtype=np.uint8)
    spaced = [piece for part in parts for piece in (part, gap)]
    return np.concatenate(spaced[:-1], axis=1)
