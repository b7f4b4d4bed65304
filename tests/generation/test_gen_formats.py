"""What others read: WebDataset, Hugging Face datasets, wids, Croissant, the card; and pack."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import gen_support as support
import numpy as np
import pytest
from fake_model import Fake
from gen_support import pack, run
from PIL import Image

from sia_gen.care.repair import repair
from sia_gen.care.verify import verify
from sia_gen.core.errors import UserError
from sia_gen.core.pixels.encoding import encode_jpeg, encode_webp, find_encoding
from sia_gen.core.pixels.images import decode, encode_png
from sia_gen.core.store.shards import ShardReader, find_shards, read_record
from sia_gen.generate.options import ExecutionOptions, PackOptions

LOCAL = ExecutionOptions(executor="local")


@pytest.fixture(scope="module", params=["webp", "realnet"])
def encoded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, mini: Path):  # type: ignore[no-untyped-def]
    out = tmp_path_factory.mktemp(request.param) / "run"
    run(support.options(out, mini, encode=request.param, categories="brick"), LOCAL)
    return request.param, out


def test_other_encodings_hold_the_same_images(encoded: tuple[str, Path]) -> None:
    name, out = encoded
    assert verify(out).problems == ()
    reader = ShardReader(find_shards(out))
    for position in range(len(reader)):
        metadata = reader.metadata(position)
        (expected,) = Fake().images("brick", [metadata["seed"]], [metadata["strength"]])
        if name == "realnet":
            expected = decode(encode_jpeg(expected), "x")
        np.testing.assert_array_equal(reader.image(position), expected)
        assert metadata["encoding"] == find_encoding(name).format
    with tarfile.open(find_shards(out)[0]) as tar:
        assert {Path(n).suffix for n in tar.getnames()} == {".json", find_encoding(name).suffix}


def test_realnet_is_quality_75_with_halved_colour() -> None:
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    ours = Image.open(io.BytesIO(encode_jpeg(image)))
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG")  # what the authors' code calls
    assert ours.quantization == Image.open(buffer).quantization  # type: ignore[attr-defined]
    assert [layer[1:3] for layer in ours.layer] == [(2, 2), (1, 1), (1, 1)]  # type: ignore[attr-defined]
    np.testing.assert_array_equal(decode(encode_webp(image), "x"), image)


def test_realnet_cuts_values_off() -> None:
    torch = pytest.importorskip("torch")
    from sia_gen.diffusion.sampling import to_uint8

    x = torch.tensor([[-1.0, -0.0001, 0.999, 1.0]]).reshape(1, 1, 2, 2)
    assert to_uint8(x, truncate=True)[0, ..., 0].ravel().tolist() == [0, 127, 254, 255]
    assert to_uint8(x)[0, ..., 0].ravel().tolist() == [0, 127, 255, 255]


def test_webdataset_and_hugging_face_read_a_run(finished: Path, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    datasets = pytest.importorskip("datasets")
    tars = [str(path) for path in find_shards(finished)]
    theirs = list(webdataset.WebDataset(tars, shardshuffle=False).decode("rgb8"))
    reader = ShardReader(find_shards(finished))
    assert len(theirs) == len(reader) == 60
    for position in (0, 33, 59):
        np.testing.assert_array_equal(theirs[position]["png"], reader.image(position))
        assert theirs[position]["json"] == reader.metadata(position)
    loaded = datasets.load_dataset(
        "webdataset", data_files=tars, split="train", cache_dir=str(tmp_path)
    )
    assert len(loaded) == 60
    for position in (0, 33, 59):
        row = loaded[position]
        np.testing.assert_array_equal(np.asarray(row["png"]), reader.image(position))
        assert row["json"] == reader.metadata(position)
    by_folder = datasets.load_dataset(str(finished), split="train", cache_dir=str(tmp_path))
    assert len(by_folder) == 60
    one = datasets.load_dataset(str(finished), "brick", split="train", cache_dir=str(tmp_path))
    assert {row["category"] for row in one["json"]} == {"brick"} and len(one) == 20
    streamed = datasets.load_dataset(str(finished), split="train", streaming=True)
    rows = list(streamed)
    assert len(rows) == 60
    np.testing.assert_array_equal(np.asarray(rows[33]["png"]), reader.image(33))
    assert rows[33]["json"] == reader.metadata(33)


def test_croissant_is_valid_and_leads_to_the_images(finished: Path) -> None:
    mlcroissant = pytest.importorskip("mlcroissant")
    dataset = mlcroissant.Dataset(jsonld=str(finished / "croissant.json"))
    assert not dataset.metadata.ctx.issues.errors
    assert not dataset.metadata.ctx.issues.warnings
    hashes = {node.id: node.sha256 for node in dataset.metadata.file_objects}
    assert hashes == support.tar_hashes(finished)


def test_the_card_names_what_is_in_the_folder(finished: Path) -> None:
    import yaml

    card = (finished / "README.md").read_text()
    head = yaml.safe_load(card.split("---")[1])
    assert head["size_categories"] == ["n<1K"]
    pattern = head["configs"][0]["data_files"][0]["path"]
    assert len(list(finished.glob(pattern))) == 9
    assert "| mini/grass | 20 |" in card and "Incomplete" not in card
    drawing = (finished / "card/strengths.svg").read_text()
    assert drawing.count("#4a6fa5") == 20
    sheet = decode((finished / "card/contact-sheet.png").read_bytes(), "sheet")
    first = ShardReader(find_shards(finished, "mini/grass")).image(0)
    views = np.lib.stride_tricks.sliding_window_view(sheet, (16, 16, 3))[..., 0, :, :, :]
    assert (views == first).all(axis=(-1, -2, -3)).sum() == 1


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A folder as people have it: two categories, several formats, a rotation, 16 bits."""
    rng = np.random.default_rng(1)
    root = tmp_path / "released"
    for category in ("bottle", "cable"):
        folder = root / category / "0.15"
        folder.mkdir(parents=True)
        for i in range(5):
            image = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)
            (folder / f"s0.15_{i}.jpg").write_bytes(encode_jpeg(image))
    (root / "cable" / "a.png").write_bytes(encode_png(image))
    Image.fromarray(image).save(root / "cable" / "b.tiff")
    Image.fromarray(image).save(root / "cable" / "c.jpg", exif=_turned())
    Image.fromarray(np.full((4, 4), 40_000, np.uint16)).save(root / "cable" / "d.png")
    (root / "cable" / "notes.txt").write_text("not an image")
    return root


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def test_pack_makes_the_same_shards_of_an_existing_folder(archive: Path, tmp_path: Path) -> None:
    from sia_gen.core.pixels.images import read_image

    out = tmp_path / "packed"
    figures = pack(PackOptions(source=str(archive), out=str(out), shard_size=4))
    assert (figures["images"], figures["shards"]) == (14, 5)
    assert verify(out).problems == ()
    assert len(find_shards(out, "released/bottle")) == 2
    reader = ShardReader(find_shards(out))
    for position in range(len(reader)):
        metadata = reader.metadata(position)
        expected = read_image(archive / metadata["source"])
        np.testing.assert_array_equal(reader.image(position), expected)
    with tarfile.open(find_shards(out, "released/bottle")[0]) as tar:
        member = tar.extractfile("bottle-00000002.jpg")
        assert member is not None
        assert member.read() == (archive / "bottle/0.15/s0.15_2.jpg").read_bytes()
    for name in ("index.json", "wids.json", "sizes.json", "croissant.json", "README.md"):
        assert (out / name).is_file()


def test_pack_resumes_repairs_and_refuses_another_folder(archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "packed"
    options = PackOptions(source=str(archive), out=str(out), shard_size=4)
    pack(options)
    before = support.tar_hashes(out)
    tar = find_shards(out)[1]
    tar.write_bytes(tar.read_bytes()[:-1024])
    assert repair(out, LOCAL)["images_made_now"] == 4 - 3
    assert support.tar_hashes(out) == before
    assert pack(options)["images_made_now"] == 0
    (archive / "bottle/0.15/s0.15_0.jpg").unlink()
    with pytest.raises(UserError, match="other files"):
        pack(options)


def test_packed_shards_are_read_by_hugging_face(archive: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    for path in [*archive.rglob("*.png"), *archive.rglob("*.tiff"), archive / "cable/c.jpg"]:
        path.unlink()
    out = tmp_path / "packed"
    pack(PackOptions(source=str(archive), out=str(out)))
    loaded = datasets.load_dataset(str(out), split="train", cache_dir=str(tmp_path / "cache"))
    assert len(loaded) == 10
    record = read_record(find_shards(out)[0])
    assert record is not None and loaded[0]["json"]["category"] == "bottle"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda _: None, "no folder"),
        (lambda root: root.mkdir(), "holds no image"),
        (
            lambda root: (root.mkdir(), (root / "x.png").write_text("<html>")),
            "named like an image but is none",
        ),
    ],
)
def test_pack_refuses_what_holds_no_images(make, words: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    root = tmp_path / "source"
    make(root)
    with pytest.raises(UserError, match=words):
        pack(PackOptions(source=str(root), out=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()


def test_pack_on_the_command_line(archive: Path, tmp_path: Path) -> None:
    code, printed, error = support.call("pack", archive, "--out", tmp_path / "out", "--json")
    assert code == 0, error
    assert json.loads(printed)["images"] == 14
    code, printed, error = support.call("status", tmp_path / "out")
    assert code == 0 and "complete" in printed, error
    (tmp_path / "out/shards/released/cable/cable-00000.tar").unlink()
    code, _, error = support.call("repair", tmp_path / "out")
    assert code == 0 and "1 shards made again" in error, error
