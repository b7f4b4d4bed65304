"""How datasets lie on disk: one reader for each layout, each a folder -> categories.

folders   <category>/train/{good,ok}, test/{good,ok}, test/<defect>, ground_truth/<defect>
          (MVTec-AD, MPDD, BTAD, VisA as prepared by its authors and as RealNet's)
          with ground_truth/<defect>/<stem>/*.png, several masks an image (MVTec LOCO); with
          test_public/{good,bad,ground_truth} (MVTec AD 2); with rgb/ and gt/ below each of these
          folders (MVTec 3D-AD: its depth maps are not read)
visa      <category>/Data/Images/{Normal,Anomaly} with split_csv/1cls.csv (VisA as published)
ksdd2     train/NNNNN.png, test/NNNNN.png, each with NNNNN_GT.png beside it (KolektorSDD2)
flat      a folder of normal images and nothing else
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sia_gen.core.data.category import GOOD, ExampleImage
from sia_gen.core.errors import UserError
from sia_gen.core.pixels.images import is_image_name
from sia_gen.core.pixels.masks import read_mask

NORMAL_NAMES = (GOOD, "ok")
TRUTH = "ground_truth"
VISA_SPLIT = ("split_csv/1cls.csv", "1cls.csv")
# "10301 (copy).png" of KolektorSDD2: copies of other files, one of them a mask.
COPY = re.compile(r"\(copy\)|\bcopy\b|- Copy", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Found:
    """One category's files, before anything is known of it."""

    name: str
    root: Path
    train: tuple[Path, ...]
    test: tuple[ExampleImage, ...] = ()
    train_anomalous: tuple[ExampleImage, ...] = ()


def list_folder(folder: Path) -> list[Path]:
    """Returns what a folder holds, sorted by name; UserError where it cannot be read."""
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise UserError(f"{folder} cannot be read: {error.strerror or error}") from error


def images_in(folder: Path) -> tuple[Path, ...]:
    """Returns a folder's own image files, sorted; none where there is no folder."""
    if not folder.is_dir():
        return ()
    return tuple(p for p in list_folder(folder) if is_image_name(p) and p.is_file())


def folders_in(folder: Path) -> list[Path]:
    """Returns a folder's visible subfolders, sorted."""
    return [p for p in list_folder(folder) if not p.name.startswith((".", "__")) and p.is_dir()]


def train_folder(category: Path) -> Path | None:
    """Returns a category's folder of normal training images, or None."""
    for name in NORMAL_NAMES:
        if (category / "train" / name).is_dir():
            return category / "train" / name
    return None


def masks_by_stem(folder: Path) -> dict[str, Path]:
    """Returns a folder's masks by the stem of the image they belong to: `_mask` is taken off.

    Extensions may differ from the images'. Where both `000_mask.png` and `000.png` exist, the
    first is the mask.
    """
    found: dict[str, Path] = {}
    for path in images_in(folder):
        found.setdefault(path.stem, path)
    for stem in list(found):
        if stem.endswith("_mask"):
            found[stem.removesuffix("_mask")] = found[stem]
    return found


def _pictures(folder: Path) -> tuple[Path, ...]:
    """Returns the images of a folder; of MVTec 3D-AD those in rgb/ below it."""
    own = images_in(folder)
    return own or images_in(folder / "rgb")


def _masks_of(folder: Path, truth: Path) -> Callable[[Path], tuple[Path, ...]]:
    """Returns what finds an image's masks: files by its stem, or all in a folder of that name."""
    named = masks_by_stem(truth) | masks_by_stem(folder / "gt")

    def find(image: Path) -> tuple[Path, ...]:
        if image.stem in named:
            return (named[image.stem],)
        return images_in(truth / image.stem)

    return find


def _test_folder(category: Path) -> Path:
    """Returns where the test images lie: of MVTec AD 2's parts, the only one with labels."""
    public = category / "test_public"
    return public if public.is_dir() and not (category / "test").is_dir() else category / "test"


def read_folders(category: Path) -> Found:
    """Returns a category in MVTec-AD's layout, with `good` or `ok` for normal images."""
    good = train_folder(category)
    if good is None:
        message = (
            f"{category} has no train/good folder: expected MVTec-AD's layout, with the normal"
            f" images in {category / 'train' / GOOD}"
        )
        raise UserError(message)
    train = _pictures(good)
    if not train:
        raise UserError(f"{good} holds no image: put the normal images there")
    examples: list[ExampleImage] = []
    test = _test_folder(category)
    truth = next((p for p in (test / TRUTH, category / TRUTH) if p.is_dir()), category / TRUTH)
    for folder in folders_in(test) if test.is_dir() else []:
        if folder.name == TRUTH:
            continue
        normal = folder.name in NORMAL_NAMES
        masks_of = _masks_of(folder, truth / folder.name)
        for path in _pictures(folder):
            masks = () if normal else masks_of(path)
            examples.append(
                ExampleImage(
                    path=path,
                    defect=GOOD if normal else folder.name,
                    mask=masks[0] if masks else None,
                    more_masks=masks[1:],
                )
            )
    return Found(name=category.name, root=category, train=train, test=tuple(examples))


def is_visa_raw(category: Path) -> bool:
    """Returns whether a folder is a category of VisA as published."""
    return (category / "Data" / "Images" / "Normal").is_dir()


def find_visa_split(root: Path) -> Path:
    """Returns VisA's one-class split file; UserError where it is missing."""
    for place in (root, root.parent):
        for name in VISA_SPLIT:
            if (place / name).is_file():
                return place / name
    message = (
        f"{root} is VisA as published, but {root / VISA_SPLIT[0]} is missing: it says which images"
        " are for training; take it from the dataset's repository (amazon-science/spot-diff)"
    )
    raise UserError(message)


def is_ksdd2(root: Path) -> bool:
    """Returns whether a folder is KolektorSDD2: images with their masks beside them."""
    train = root / "train"
    return train.is_dir() and any(p.stem.endswith("_GT") for p in images_in(train))


def _ksdd2_split(folder: Path) -> tuple[ExampleImage, ...]:
    examples: list[ExampleImage] = []
    files = {p.stem: p for p in images_in(folder) if not COPY.search(p.stem)}
    for stem, path in files.items():
        if stem.endswith("_GT"):
            continue
        mask = files.get(f"{stem}_GT")
        if mask is None:
            raise UserError(
                f"{path} has no mask {stem}_GT.png beside it: KolektorSDD2 has them all"
            )
        # A mask exists for every image; whether it is empty is the label.
        defective = bool(read_mask(mask).any())
        examples.append(
            ExampleImage(
                path=path,
                defect="defective" if defective else GOOD,
                mask=mask if defective else None,
            )
        )
    return tuple(examples)


def read_ksdd2(root: Path) -> Found:
    """Returns KolektorSDD2's one category; its defective training images are set apart."""
    train = _ksdd2_split(root / "train")
    normal = tuple(e.path for e in train if not e.anomalous)
    if not normal:
        raise UserError(f"{root / 'train'} holds no normal image: every mask marks a defect")
    return Found(
        name="kolektorsdd2",
        root=root,
        train=normal,
        test=_ksdd2_split(root / "test"),
        train_anomalous=tuple(e for e in train if e.anomalous),
    )


def read_flat(root: Path) -> Found:
    """Returns a folder of normal images as one category without test images."""
    return Found(name=root.name, root=root, train=images_in(root))
