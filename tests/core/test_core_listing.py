"""Datasets given by lists, flat folders, and folders that are none: every fault names its place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from dataset_trees import Tree

from sia_gen.core.data.dataset import open_dataset
from sia_gen.core.errors import UserError


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Images of two parts, without any layout."""
    made = Tree(tmp_path / "photos")
    for name in ("a1", "a2", "a3", "b1", "b2", "bad1", "bad2"):
        made.put(f"img/{name}.png")
    made.put("img/bad1_gt.png", made.mask)
    return made


CSV = """image,label,mask,split,category,defect
img/a1.png,normal,,train,alpha,
img/a2.png,0,,train,alpha,
img/a3.png,good,,test,alpha,
img/bad1.png,1,img/bad1_gt.png,test,alpha,dent
img/b1.png,normal,,train,beta,
img/b2.png,normal,,train,beta,
img/bad2.png,anomaly,,test,beta,
"""


def test_a_csv_is_a_dataset(tree: Tree) -> None:
    path = tree.write("parts.csv", CSV.encode())
    dataset = open_dataset(path)
    assert [c.key for c in dataset.categories] == ["photos/alpha", "photos/beta"]
    alpha = dataset.one("alpha")
    assert [p.name for p in alpha.train] == ["a1.png", "a2.png"]
    assert [(e.path.name, e.defect, e.mask is not None) for e in alpha.test] == [
        ("a3.png", "good", False),
        ("bad1.png", "dent", True),
    ]
    assert all(p.is_relative_to(alpha.root) for p in alpha.train)
    assert dataset.one("beta").test[0].defect == "anomaly"
    assert open_dataset(f"mine={path}").one("beta").key == "mine/beta"
    assert open_dataset(dataset.origin).one("beta").train == dataset.one("beta").train


def test_line_ends_marks_and_quoted_names_are_read(tree: Tree) -> None:
    odd = tree.put('img/a "quoted", name\n-x.png')
    plain = CSV.replace("\n", "\r\n").encode("utf-8-sig")
    quoted = b'"img/a ""quoted"", name\n-x.png",normal,,train,alpha,\r\n'
    dataset = open_dataset(tree.write("parts.csv", plain + quoted))
    assert odd in dataset.one("alpha").train


def realnet(tree: Tree, name: str, rows: list[dict[str, object]]) -> Path:
    lines = "\r\n".join(json.dumps(row) for row in rows)
    return tree.write(name, lines.encode())


def test_the_split_files_of_realnets_authors_are_read(tmp_path: Path) -> None:
    """samples/train_bottle.json and test_bottle.json beside the folder of images, with CRLF."""
    tree = Tree(tmp_path / "MVTec-AD")
    for name in ("train/good/000", "train/good/001", "test/good/000", "test/crack/000"):
        tree.put(f"mvtec/bottle/{name}.png")
    tree.put("mvtec/bottle/ground_truth/crack/000_mask.png", tree.mask)
    common = {"label_name": "good", "clsname": "bottle"}
    train = realnet(
        tree,
        "samples/train_bottle.json",
        [{"filename": f"bottle/train/good/00{i}.png", "label": 0, **common} for i in range(2)],
    )
    anomalous = {
        "filename": "bottle/test/crack/000.png",
        "label": 1,
        "label_name": "defective",
        "maskname": "bottle/ground_truth/crack/000_mask.png",
    }
    normal = {"filename": "bottle/test/good/000.png", "label": 0, **common}
    realnet(tree, "samples/test_bottle.json", [anomalous, normal])
    realnet(tree, "samples/train_uni.json", [normal])
    for place in (train, train.parent):
        dataset = open_dataset(place)
        bottle = dataset.one("bottle")
        assert bottle.key == "mvtec-ad/bottle" and len(bottle.train) == 2
        assert [(e.defect, e.mask is not None) for e in bottle.test] == [
            ("crack", True),
            ("good", False),
        ]
        assert bottle.foreground == "otsu dark gray close=6 open=6"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"filename": "img/a1.png", "label": 0', r"x\.jsonl:2 is not a JSON object"),
        ('["img/a1.png"]', r"x\.jsonl:2 is not a JSON object but list"),
        ('{"label": 0}', r"x\.jsonl:2 names no image: expected one of image"),
        ('{"filename": "../photos/img/a1.png"}', r"x\.jsonl:2: .*'\.\./photos.*climbs out"),
        ('{"filename": "img/../../x.png"}', r"x\.jsonl:2: .*climbs out"),
        ('{"filename": "img/gone.png"}', r"x\.jsonl:2: .*gone\.png does not exist"),
        ('{"filename": "img/a1.png", "label": 7}', r"x\.jsonl:2: label '7' is neither"),
        ('{"filename": "img/a1.png", "split": "val"}', r"x\.jsonl:2: split 'val' is neither"),
        ('{"filename": "img/a1.png", "clsname": "../x"}', r"x\.jsonl:2: category: .*climbs out"),
        ('{"filename": "img/a2.png"}', r"x\.jsonl:2: .*a2\.png is listed before, in .*:1"),
        (
            '{"filename": "img/bad1.png", "label": 1, "maskname": "img/none.png"}',
            r"x\.jsonl:2: .*none\.png does not exist",
        ),
    ],
)
def test_a_bad_line_is_named(tree: Tree, line: str, message: str) -> None:
    path = tree.write("x.jsonl", f'{{"filename": "img/a2.png", "label": 0}}\n{line}\n'.encode())
    with pytest.raises(UserError, match=message):
        open_dataset(path)


def test_bad_tables_are_named(tree: Tree) -> None:
    for content, message in (
        (b"", "lists no image"),
        (b"image,label\n", "lists no image"),
        (b"name,label\nimg/a1.png,0\n", r"x\.csv:2 names no image"),
        (b"image,label\nimg/a1.png\n", r"x\.csv:2 has fewer columns"),
        (b"image,label\nimg/a1.png,0,1\n", r"x\.csv:2 has more columns"),
        (b"image\n\xff\xfe.png\n", "not readable UTF-8"),
        (b"image,label\nimg/bad1.png,1\n", "has no normal training image"),
    ):
        with pytest.raises(UserError, match=message):
            open_dataset(tree.write("x.csv", content))
        (tree.root / "x.csv").unlink()


def test_a_flat_folder_of_normal_images_is_a_category(tree: Tree) -> None:
    dataset = open_dataset(tree.root / "img")
    category = dataset.one("all")
    assert category.key == "img/img" and len(category.train) == 8 and not category.test
    assert dataset.layout == "flat"


def test_folders_that_are_no_dataset_are_told_what_is_expected(tmp_path: Path) -> None:
    for name in ("empty", "nested/deep/er"):
        (tmp_path / name).mkdir(parents=True)
    with pytest.raises(UserError, match=r"holds no category: expected .*/train/good"):
        open_dataset(tmp_path / "empty")
    tree = Tree(tmp_path / "nested")
    tree.put("deep/er/1/2/000.png")
    with pytest.raises(UserError, match="holds no category"):
        open_dataset(tmp_path / "nested")
    loop = tmp_path / "loop"
    loop.mkdir()
    (loop / "self").symlink_to(loop)
    (loop / "broken").symlink_to(loop / "nothing")
    with pytest.raises(UserError, match="holds no category"):
        open_dataset(loop)
    with pytest.raises(UserError, match="File name too long"):
        open_dataset("x" * 300)
    with pytest.raises(UserError, match="data is empty"):
        open_dataset("")
    with pytest.raises(UserError, match="is a file, but no list"):
        open_dataset(tree.put("notes.md"))


def test_links_in_circles_among_images_are_left_out(tmp_path: Path) -> None:
    tree = Tree(tmp_path / "parts")
    tree.put("bolt/train/good/000.png")
    tree.put("bolt/train/good/001.png")
    for name, target in (("002.png", "002.png"), ("003.png", "nothing.png"), ("in", "..")):
        (tree.root / "bolt" / "train" / "good" / name).symlink_to(target)
    assert len(open_dataset(tree.root).one("bolt").train) == 2


def test_ok_and_good_are_both_normal(tmp_path: Path) -> None:
    tree = Tree(tmp_path / "parts")
    for name in ("train/ok/0.png", "test/ok/0.png", "test/scratch/0.JPG", "test/scratch/1.Png"):
        tree.put(f"nut/{name}")
    tree.put("nut/ground_truth/scratch/0_mask.PNG", tree.mask)
    tree.put("nut/ground_truth/scratch/1.bmp", tree.mask)
    nut = open_dataset(tree.root).one("nut")
    assert [(e.defect, e.mask is not None) for e in nut.test] == [
        ("good", False),
        ("scratch", True),
        ("scratch", True),
    ]


ROWS: list[dict[str, object]] = [
    {"image": "img/a1.png", "label": 0, "split": "train"},
    {"image": "img/a2.png", "label": 0, "split": "train"},
    {"image": "img/a3.png", "label": 0, "split": "test"},
    {"image": "img/bad1.png", "label": 1, "mask": "img/bad1_gt.png", "split": "test"},
]


def _meta() -> dict[str, object]:
    words = {"image": "img_path", "mask": "mask_path", "label": "anomaly"}
    found: dict[str, object] = {}
    for split in ("train", "test"):
        own = [
            {"cls_name": "parts", "specie_name": "", "mask_path": ""}
            | {words[k]: v for k, v in row.items() if k in words}
            for row in ROWS
            if row["split"] == split
        ]
        found[split] = {"parts": own}
    return found


def _table(separator: str, header: bool) -> str:
    lines = [separator.join(("image", "label", "mask", "split"))] if header else []
    for row in ROWS:
        cells = [str(row.get(k, "")) for k in ("image", "label", "mask", "split")]
        lines.append(separator.join(cells))
    return "\n".join(lines)


LISTS = {
    "array.json": json.dumps(ROWS, indent=1),
    "meta.json": json.dumps(_meta()),
    "flat.json": json.dumps({s: [r for r in ROWS if r["split"] == s] for s in ("train", "test")}),
    "lines.jsonl": "\n".join(json.dumps(row) for row in ROWS),
    "semicolon.csv": _table(";", True),
    "tabs.tsv": _table("\t", True),
    "bars.csv": _table("|", True),
    "headless.csv": _table(",", False),
    "headless.txt": _table(";", False),
    "utf-16.csv": _table("\t", True),
}


@pytest.mark.parametrize("name", LISTS)
def test_lists_as_people_have_them(tree: Tree, name: str) -> None:
    coding = "utf-16" if name == "utf-16.csv" else "utf-8"
    dataset = open_dataset(tree.write(name, LISTS[name].encode(coding)))
    (one,) = dataset.categories
    assert [p.name for p in one.train] == ["a1.png", "a2.png"]
    assert [(e.path.name, e.anomalous, e.mask is not None) for e in one.test] == [
        ("a3.png", False, False),
        ("bad1.png", True, True),
    ]


def test_a_list_of_blanks_and_probabilities(tree: Tree) -> None:
    """elpv's labels.csv: no header, blanks between, the defect's probability, the cell's type."""
    lines = [("a1", "0.0", "mono"), ("a2", "0.0", "poly"), ("bad1", "1.0", "mono")]
    text = "\n".join(f"img/{n}.png  {p}               {t}" for n, p, t in lines)
    one = open_dataset(tree.write("labels.csv", text.encode())).categories[0]
    assert (len(one.train), len(one.test)) == (2, 1)
    text += "\nimg/bad2.png  0.3333333333333333  mono"
    with pytest.raises(UserError, match=r"labels\.csv:4: label 0\.3333.* decide which it is"):
        open_dataset(tree.write("labels.csv", text.encode()))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"images": [], "annotations": [], "categories": []}, "holds COCO annotations.*works is"),
        ({"version": 1, "shapes": []}, "one JSON object with version, shapes.*works is"),
        ({"train": {"a": 3}}, r"train\.a is no array but int"),
        ([3], r"\[0\] is not a JSON object but int"),
        ([{"label": 0}], r"\[0\] names no image: expected one of image"),
    ],
)
def test_other_documents_are_named_and_a_way_that_works(
    tree: Tree, content: object, said: str
) -> None:
    with pytest.raises(UserError, match=said):
        open_dataset(tree.write("list.json", json.dumps(content).encode()))
