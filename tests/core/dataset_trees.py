"""Trees of tiny files that reproduce the published layouts, from the manifests' own counts.

Contents do not matter to most layouts, so that nearly all files are links to one of a few.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from sia_gen.core.data.manifest import load_manifest
from sia_gen.core.pixels.images import encode_png

RNG = np.random.default_rng(0)


class Tree:
    """Writes files below a root; equal contents are links to one file."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        self.image = self._seed(".image.png", encode_png(np.full((4, 4, 3), 99, np.uint8)))
        mask = np.zeros((4, 4), np.uint8)
        self.empty = self._seed(".empty.png", encode_png(mask))
        mask[1:3, 1:3] = 255
        self.mask = self._seed(".mask.png", encode_png(mask))

    def _seed(self, name: str, content: bytes) -> Path:
        path = self.root.parent / f".seeds-{self.root.name}" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return path

    def put(self, name: str, source: Path | None = None) -> Path:
        """Links a file into the tree."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(source or self.image, path)
        return path

    def write(self, name: str, content: bytes) -> Path:
        """Writes a file into the tree."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path


def facts(dataset: str) -> dict[str, dict[str, Any]]:
    manifest = load_manifest(dataset)
    assert manifest is not None
    return manifest.categories


def mvtec(root: Path, dataset: str = "mvtec-ad") -> Path:
    tree = Tree(root)
    for category, known in facts(dataset).items():
        for i in range(known["train_good"]):
            tree.put(f"{category}/train/good/{i:03}.png")
        for i in range(known["test_good"]):
            tree.put(f"{category}/test/good/{i:03}.png")
        for defect, count in known["defects"].items():
            for i in range(count):
                tree.put(f"{category}/test/{defect}/{i:03}.png")
                tree.put(f"{category}/ground_truth/{defect}/{i:03}_mask.png", tree.mask)
        tree.write(f"{category}/readme.txt", b"about")
        tree.write(f"{category}/license.txt", b"licence")
    return root


def btad(root: Path) -> Path:
    tree = Tree(root)
    for category, known in facts("btad").items():
        extension = {"01": "bmp", "02": "png", "03": "bmp"}[category]
        mask_extension = {"01": "png", "02": "png", "03": "bmp"}[category]
        for part, name, count in (
            ("train", "ok", known["train_good"]),
            ("test", "ok", known["test_good"]),
            ("test", "ko", known["test_anomalous"]),
        ):
            for i in range(count):
                tree.put(f"{category}/{part}/{name}/{i:04}.{extension}")
        for i in range(known["test_anomalous"]):
            tree.put(f"{category}/ground_truth/ko/{i:04}.{mask_extension}", tree.mask)
    return root


def visa_raw(root: Path) -> Path:
    tree = Tree(root)
    lines = ["object,split,label,image,mask"]
    for category, known in facts("visa").items():
        normal = known["train_good"] + known["test_good"]
        for i in range(normal):
            image = tree.put(f"{category}/Data/Images/Normal/{i:04}.JPG")
            split = "train" if i < known["train_good"] else "test"
            lines.append(f"{category},{split},normal,{image.relative_to(root)},")
        for i in range(known["test_anomalous"]):
            image = tree.put(f"{category}/Data/Images/Anomaly/{i:03}.JPG")
            mask = tree.put(f"{category}/Data/Masks/Anomaly/{i:03}.png", tree.mask)
            names = f"{image.relative_to(root)},{mask.relative_to(root)}"
            lines.append(f"{category},test,anomaly,{names}")
        tree.write(f"{category}/image_anno.csv", b"image,label,mask\n")
    tree.write("split_csv/1cls.csv", ("\n".join(lines) + "\n").encode())
    return root


def visa_folders(root: Path, normal: str, anomalous: str) -> Path:
    tree = Tree(root)
    for category, known in facts("visa").items():
        for part, name, count in (
            ("train", normal, known["train_good"]),
            ("test", normal, known["test_good"]),
            ("test", anomalous, known["test_anomalous"]),
        ):
            for i in range(count):
                tree.put(f"{category}/{part}/{name}/{i:04}.JPG")
        for i in range(known["test_anomalous"]):
            tree.put(f"{category}/ground_truth/{anomalous}/{i:04}.png", tree.mask)
    return root


def ksdd2(root: Path) -> Path:
    tree = Tree(root)
    known = facts("kolektorsdd2")["kolektorsdd2"]
    for part, start, good, bad in (
        ("train", 10000, known["train_good"], known["train_anomalous"]),
        ("test", 20000, known["test_good"], known["test_anomalous"]),
    ):
        for i in range(good + bad):
            tree.put(f"{part}/{start + i}.png")
            # Defective images lie scattered between the others, as in the published files.
            defective = i % ((good + bad) // bad) == 0 and i // ((good + bad) // bad) < bad
            mask = tree.mask if defective else tree.empty
            tree.put(f"{part}/{start + i}_GT.png", mask)
    tree.put("train/10301 (copy).png")
    tree.put("train/10301_GT (copy).png", tree.mask)
    return root
