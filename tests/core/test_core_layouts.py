"""The published datasets, from trees that reproduce their layouts, counts and traps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import dataset_trees as trees
import numpy as np
import pytest
from dataset_trees import Tree
from PIL import Image

from sia_gen.core.data.dataset import Dataset, open_dataset
from sia_gen.core.data.inspection import counts_of, inspect
from sia_gen.core.data.manifest import load_manifest, manifest_names
from sia_gen.core.errors import UserError
from sia_gen.core.pixels.foreground import estimate, parse_rule
from sia_gen.core.pixels.images import encode_png, read_image

TOTALS = {
    "mvtec-ad": (15, 3629, 467, 1258),
    "mpdd": (6, 888, 176, 282),
    "btad": (3, 1799, 451, 290),
    "visa": (12, 8659, 962, 1200),
    "kolektorsdd2": (1, 2085, 894, 110),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds all five datasets, named as their publishers name them."""
    folder = tmp_path_factory.mktemp("data")
    trees.mvtec(folder / "mvtec_anomaly_detection")
    trees.mvtec(folder / "MPDD", "mpdd")
    trees.btad(folder / "BTAD" / "BTech_Dataset_transformed")
    trees.visa_raw(folder / "VisA_20220922")
    trees.ksdd2(folder / "KolektorSDD2")
    (folder / "notes").mkdir()
    return folder


@pytest.fixture(scope="module")
def together(root: Path) -> Dataset:
    return open_dataset(root)


def totals(dataset: Dataset, name: str) -> tuple[int, int, int, int]:
    chosen = [c for c in dataset.categories if c.dataset == name]
    counts = [counts_of(c) for c in chosen]
    keys = ("train_good", "test_good", "test_anomalous")
    good, test_good, anomalous = (sum(c[key] for c in counts) for key in keys)
    return len(chosen), good, test_good, anomalous


def test_a_folder_of_datasets_holds_all_published_categories(together: Dataset) -> None:
    assert {name: totals(together, name) for name in TOTALS} == TOTALS
    for category in together.categories:
        manifest = load_manifest(category.dataset)
        assert manifest is not None
        known = manifest.categories[category.name]
        found = counts_of(category)
        assert {n: found[n] for n in found if n in known} == {
            n: known[n] for n in found if n in known
        }
        assert category.kind == known["kind"] and category.foreground == known["foreground"]
        assert category.class_index == known["class_index"]
        assert all(e.mask is not None for e in category.test if e.anomalous)
        assert all(e.mask is None for e in category.test if not e.anomalous)
    assert len(together.one("kolektorsdd2").train_anomalous) == 246


def test_all_of_a_set_are_the_36_of_sia(together: Dataset, root: Path) -> None:
    chosen = together.select("all")
    assert len(chosen) == 36
    assert {c.dataset for c in chosen} == {"mvtec-ad", "mpdd", "btad", "visa"}
    assert len(together.select("*")) == 37
    assert len(together.select("all,kolektorsdd2")) == 37
    assert len(together.select("mvtec-ad/*")) == 15
    assert [c.name for c in together.select("visa/pcb?")] == ["pcb1", "pcb2", "pcb3", "pcb4"]
    assert together.select("VisA/PCB?") == together.select("visa/pcb?")
    assert [c.key for c in together.select("btad/0[12]")] == ["btad/01", "btad/02"]
    with pytest.raises(UserError, match=r"'visa/pcb9'.*Did you mean visa/pcb"):
        together.select("visa/pcb9")
    # One dataset of it alone: then all is all of it.
    assert len(open_dataset(root / "KolektorSDD2").select("all")) == 1


def test_a_set_opens_again_from_its_origin(together: Dataset) -> None:
    again = open_dataset(together.origin)
    assert [c.key for c in again.categories] == [c.key for c in together.categories]
    assert again.select("all") == together.select("all")


def test_datasets_are_given_by_name_wherever_they_lie(root: Path, tmp_path: Path) -> None:
    moved = tmp_path / "some, where" / "x"
    moved.parent.mkdir()
    moved.symlink_to(root / "MPDD")
    assert open_dataset(f"mpdd={root / 'MPDD'}").name == "mpdd"
    assert open_dataset(moved).name == "mpdd"  # by its categories: no folder is named so
    two = open_dataset(f"mpdd={root / 'MPDD'},btad={root / 'BTAD'}")
    assert {c.dataset for c in two.categories} == {"mpdd", "btad"}
    assert open_dataset(f"VisA={root / 'VisA_20220922'}").name == "visa"
    assert open_dataset(f"own={root / 'MPDD'}").one("tubes").key == "own/tubes"
    with pytest.raises(UserError, match="is not btad: it holds bracket_black"):
        open_dataset(f"btad={root / 'MPDD'}")
    with pytest.raises(UserError, match=r"known, but not where it lies here: give mvtec-ad=DIR"):
        open_dataset("mvtec-ad")
    with pytest.raises(UserError, match="twice"):
        open_dataset(f"{root / 'MPDD'},mpdd={root / 'MPDD'}")
    with pytest.raises(UserError, match="holds several datasets"):
        open_dataset(f"visa={root}")


def test_one_category_may_be_given_alone(root: Path) -> None:
    assert open_dataset(root / "MPDD" / "tubes").one("all").key == "mpdd/tubes"
    raw = open_dataset(root / "VisA_20220922" / "pcb3").one("all")
    assert raw.key == "visa/pcb3" and len(raw.train) == 905
    assert (
        open_dataset(root / "BTAD" / "BTech_Dataset_transformed" / "03").one("*").key == "btad/03"
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda r: trees.visa_folders(r / "visa_pytorch" / "1cls", "good", "bad"),
        lambda r: trees.visa_folders(r / "VisA" / "visa", "ok", "ko"),
    ],
)
def test_visa_lies_in_two_more_layouts(make: Callable[[Path], Path], tmp_path: Path) -> None:
    folder = make(tmp_path)
    for place in (folder, folder.parent):
        dataset = open_dataset(place)
        assert dataset.name == "visa" and totals(dataset, "visa") == TOTALS["visa"]
    first = dataset.one("candle").test[0]
    assert first.path.suffix == ".JPG" and first.defect in {"bad", "ko"}


def test_visa_as_published_needs_its_split(tmp_path: Path) -> None:
    trees.Tree(tmp_path / "VisA").put("candle/Data/Images/Normal/0000.JPG")
    with pytest.raises(UserError, match=r"split_csv/1cls\.csv is missing.*spot-diff"):
        open_dataset(tmp_path / "VisA")


def test_btad_masks_have_no_suffix_and_other_extensions(together: Dataset) -> None:
    for name, extensions in (("01", (".bmp", ".png")), ("02", (".png", ".png"))):
        example = next(e for e in together.one(f"btad/{name}").test if e.anomalous)
        assert example.mask is not None
        assert (example.path.suffix, example.mask.suffix) == extensions
        assert example.mask.stem == example.path.stem and example.defect == "ko"


def test_visa_masks_hold_class_ids(tmp_path: Path) -> None:
    """A raw mask's values are 1 to 9: whatever is above 0 belongs to the defect."""
    folder = tmp_path / "x"
    tree = trees.Tree(folder)
    lines = "object,split,label,image,mask\ncandle,train,normal,candle/Data/Images/Normal/0.JPG,\n"
    lines += (
        "candle,test,anomaly,candle/Data/Images/Anomaly/0.JPG,candle/Data/Masks/Anomaly/0.png\n"
    )
    tree.put("candle/Data/Images/Normal/0.JPG")
    tree.put("candle/Data/Images/Anomaly/0.JPG")
    ids = Image.new("L", (4, 4))
    ids.putpixel((1, 2), 7)
    (folder / "candle/Data/Masks/Anomaly").mkdir(parents=True)
    ids.save(folder / "candle/Data/Masks/Anomaly/0.png")
    tree.write("split_csv/1cls.csv", lines.encode())
    example = open_dataset(f"visa={folder}").one("candle").test[0]
    mask = example.read_mask()
    assert mask is not None and mask.sum() == 1 and mask[2, 1]


def test_ksdd2_strays_are_no_images(together: Dataset) -> None:
    """`10301_GT (copy).png` does not end in `_GT.png`: a naive filter loads a mask as an image."""
    category = together.one("kolektorsdd2")
    read = [*category.train, *(e.path for e in (*category.test, *category.train_anomalous))]
    assert len(read) == 2085 + 246 + 1004
    assert not any("copy" in p.name or "_GT" in p.name for p in read)
    problems = inspect(together, (category,)).problems
    assert {Path(p.file).name for p in problems if p.kind == "stray"} == {
        "10301 (copy).png",
        "10301_GT (copy).png",
    }


def test_an_image_of_ksdd2_without_its_mask_is_named(tmp_path: Path) -> None:
    tree = trees.Tree(tmp_path / "KolektorSDD2")
    tree.put("train/10000.png")
    tree.put("train/10000_GT.png", tree.empty)
    tree.put("train/10001.png")
    with pytest.raises(UserError, match=r"10001\.png has no mask 10001_GT\.png"):
        open_dataset(tmp_path / "KolektorSDD2")


def test_manifests_say_all_that_is_asked_of_them() -> None:
    assert set(TOTALS) < set(manifest_names())
    for name in manifest_names():
        manifest = load_manifest(name)
        assert manifest is not None and manifest.name == name
        assert manifest.homepage.startswith("https://") and manifest.licence and manifest.citation
        indices = [c["class_index"] for c in manifest.categories.values()]
        assert indices == list(range(len(indices)))
        for category in manifest.categories.values():
            assert category["kind"] in {"texture", "object"}
            if category["foreground"] != "whole":
                parse_rule(category["foreground"])
            image = read_image(Path(__file__).parents[2] / "docs" / "heat-maps.png", 64)
            assert estimate(image, category["foreground"]).shape == (64, 64)


def test_foreground_rules_are_the_papers(together: Dataset) -> None:
    expected = {
        "mvtec-ad/pill": "otsu bright gray close=6 open=6",
        "mvtec-ad/hazelnut": "triangle bright gray close=6 open=6",
        "mvtec-ad/zipper": "otsu dark gray close=6 open=6",
        "mvtec-ad/cable": "whole",
        "visa/capsules": "whole",
        "visa/pcb2": "triangle bright blue close=8 open=3",
        "visa/fryum": "otsu bright gray close=3 open=3",
        "mpdd/connector": "otsu dark green close=6",
        "mpdd/metal_plate": "otsu dark gray close=6",
        "mpdd/tubes": "otsu bright blue close=6",
        "btad/02": "whole",
        "btad/03": "otsu bright gray close=15 open=6",
    }
    assert {key: together.one(key).foreground for key in expected} == expected


def test_mvtecs_newer_datasets_are_read_as_published(tmp_path: Path) -> None:
    loco = Tree(tmp_path / "loco")
    for i in range(2):
        loco.put(f"screw_bag/train/good/{i:03}.png")
        loco.put(f"screw_bag/validation/good/{i:03}.png")
        loco.put(f"screw_bag/test/good/{i:03}.png")
        loco.put(f"screw_bag/test/logical_anomalies/{i:03}.png")
        for part in range(2):
            name = f"screw_bag/ground_truth/logical_anomalies/{i:03}/{part:03}.png"
            mask = np.zeros((4, 4), np.uint8)
            mask[part, part] = 236 + part
            loco.write(name, encode_png(mask))
    loco.write("screw_bag/defects_config.json", b"[]")
    one = open_dataset(loco.root).one("screw_bag")
    drawn = [e.read_mask() for e in one.test if e.anomalous]
    assert [int(m.sum()) for m in drawn if m is not None] == [2, 2]
    said = inspect(open_dataset(loco.root), (one,)).problems
    assert {p.kind for p in said if p.weight == "note"} >= {"unused"}
    assert not any(p.kind in {"no-mask", "mask-without-image", "stray"} for p in said)

    second = Tree(tmp_path / "ad2")
    for i in range(2):
        second.put(f"can/train/good/{i:03}_regular.png")
        second.put(f"can/test_public/good/{i:03}_regular.png")
        second.put(f"can/test_public/bad/{i:03}_regular.png")
        second.put(f"can/test_public/ground_truth/bad/{i:03}_regular_mask.png", second.mask)
        second.put(f"can/test_private/{i:03}.png")
    can = open_dataset(second.root).one("can")
    assert [(e.defect, e.mask is not None) for e in can.test] == [("bad", True)] * 2 + [
        ("good", False)
    ] * 2

    third = Tree(tmp_path / "3d")
    for i in range(2):
        third.put(f"bagel/train/good/rgb/{i:03}.png")
        third.write(f"bagel/train/good/xyz/{i:03}.tiff", b"depth")
        for kind, mask in (("good", third.empty), ("hole", third.mask)):
            third.put(f"bagel/test/{kind}/rgb/{i:03}.png")
            third.put(f"bagel/test/{kind}/gt/{i:03}.png", mask)
    bagel = open_dataset(third.root).one("bagel")
    assert len(bagel.train) == 2
    assert [(e.defect, e.mask is not None) for e in bagel.test] == [("good", False)] * 2 + [
        ("hole", True)
    ] * 2
    assert all("/gt/" in str(e.mask) for e in bagel.test if e.mask)
