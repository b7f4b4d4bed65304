"""Writes reference.npz: what imgaug 0.4 and OpenCV make of small pictures, for the tests here.

    python -m venv V && V/bin/pip install 'numpy<2' imgaug==0.4.0 opencv-python-headless
    V/bin/python tests/methods/make_reference.py

It needs its own environment: imgaug does not work with the numpy that this project uses.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import imgaug.augmenters as iaa
import numpy as np
from skimage import morphology


def picture(seed: int, size: int) -> np.ndarray:
    """Returns a smooth colourful picture with grain."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    waves = [
        128 + 90 * np.sin(rng.uniform(3, 12) * y + rng.uniform(3, 12) * x + rng.uniform(0, 6))
        for _ in range(3)
    ]
    noise = rng.normal(0, 10, (size, size, 3))
    return np.clip(np.stack(waves, axis=-1) + noise, 0, 255).astype(np.uint8)


def main() -> None:
    """Writes the file beside this script."""
    image = picture(1, 32)
    exponents = (0.6, 1.3, 1.9)
    gamma = [iaa.GammaContrast(g)(image=image[..., k].copy()) for k, g in enumerate(exponents)]
    brighter = iaa.Sequential([iaa.Multiply(1.15), iaa.Add(20)])
    saved = {
        "image": image,
        "gamma": np.stack(gamma, axis=-1),
        "brightness_luma": iaa.WithBrightnessChannels(brighter, to_colorspace="YCrCb")(image=image),
        "brightness_value": iaa.WithBrightnessChannels(brighter, to_colorspace="HSV")(image=image),
        "sharpness": iaa.pillike.EnhanceSharpness(1.7)(image=image),
        "hue_saturation": iaa.AddToHueAndSaturation(value_hue=33, value_saturation=-21)(
            image=image
        ),
        "solarize": iaa.Solarize(1.0, threshold=70)(image=image),
        "posterize": iaa.Posterize(3)(image=image),
        "invert": iaa.Invert(1.0)(image=image),
        "autocontrast": iaa.pillike.Autocontrast(8)(image=image),
        "equalize": iaa.pillike.Equalize()(image=image),
        "rotate": iaa.Affine(rotate=25.0)(image=image),
    }
    grays, otsu, triangle, closed = [], [], [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        ground, part = rng.uniform(20, 230, 2)
        gray = rng.normal(ground, rng.uniform(2, 30), (256, 256))
        top, left = rng.integers(0, 120, 2)
        gray[top : top + 90, left : left + 130] = rng.normal(part, rng.uniform(2, 30), (90, 130))
        gray = np.clip(gray, 0, 255).astype(np.uint8)
        threshold, mask = cv2.threshold(gray, 100, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
        otsu.append(threshold)
        triangle.append(cv2.threshold(gray, 100, 255, cv2.THRESH_BINARY | cv2.THRESH_TRIANGLE)[0])
        mask = (mask > 0).astype(int)
        sums = []
        for close, opened in ((6, 6), (8, 3), (3, 3), (15, 6)):
            done = morphology.closing(mask, morphology.square(close))
            sums.append(morphology.opening(done, morphology.square(opened)) > 0)
        closed.append(np.packbits(np.array(sums)))
        grays.append(gray[::32, ::32])  # enough to see that the same picture was drawn
    target, source = picture(2, 48), picture(3, 48)
    mask = np.full((40, 40), 255, np.uint8)
    patch = source[4:44, 4:44]
    saved["clone_normal"] = cv2.seamlessClone(patch, target, mask, (24, 24), cv2.NORMAL_CLONE)
    saved |= {"otsu": np.array(otsu), "triangle": np.array(triangle), "closed": np.array(closed)}
    saved |= {"grays": np.array(grays), "target": target, "source": source}
    np.savez_compressed(Path(__file__).with_name("reference.npz"), **saved)


if __name__ == "__main__":
    main()
