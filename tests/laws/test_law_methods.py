"""Laws of every synthesis method in names(): a new file is tested by existing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from shard_files import write_record, write_tar

from sia_gen import methods
from sia_gen.core.context import Context
from sia_gen.core.errors import UserError
from sia_gen.core.pixels.images import Array8, Mask, encode_png
from sia_gen.core.pixels.pairs import Pair
from sia_gen.core.plugins import load, names
from sia_gen.core.provenance import sha256_bytes
from sia_gen.core.seeds import generator
from sia_gen.core.store.shards import MASK, Synthetic
from sia_gen.core.store.tars import TarBuilder

SIZE, NORMALS = 64, 5
NAMES = names(methods)


def texture(seed: int, size: int = SIZE) -> Array8:
    """Returns a smooth colourful image, another one for each seed."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    waves = [
        128 + 60 * np.sin(rng.uniform(4, 30) * y + rng.uniform(4, 30) * x + rng.uniform(0, 6))
        for _ in range(3)
    ]
    noise = rng.normal(0, 8, (size, size, 3))
    return np.clip(np.stack(waves, axis=-1) + noise, 0, 255).astype(np.uint8)


def disc(size: int = SIZE) -> Mask:
    y, x = np.mgrid[:size, :size] / size - 0.5
    return y**2 + x**2 < 0.12


@pytest.fixture(scope="session")
def stores(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder of textures and a finished shard, for the methods that need one."""
    root = tmp_path_factory.mktemp("stores")
    (root / "textures" / "class").mkdir(parents=True)
    for i in range(4):
        (root / "textures" / "class" / f"{i}.png").write_bytes(encode_png(texture(50 + i, 80)))
    tar = root / "x.tar"
    samples = [
        Synthetic(key=f"k-{i}", image=texture(80 + i), metadata={"index": i}) for i in range(4)
    ]
    write_record(tar, {"category": "d/c", "spec_hash": "x", **write_tar(tar, samples)})
    write_grown(root / "y.tar")
    return root / "textures", tar


def write_grown(tar: Path) -> None:
    """Writes a shard of pairs grown in the normal images: four each, of different masks."""
    builder = TarBuilder()
    for i in range(4 * NORMALS):
        normal, mask = texture(i % NORMALS), np.zeros((SIZE, SIZE), np.bool_)
        mask[20 + i : 30 + i, 16:48] = True
        image = normal.copy()
        image[mask] = 255 - image[mask]
        pixels = sha256_bytes(image.tobytes())
        extras = {MASK: encode_png(mask.astype(np.uint8) * 255)}
        metadata = {"index": i, "normal_sha256": sha256_bytes(normal.tobytes())}
        builder.add_encoded(f"p-{i}", encode_png(image), ".png", metadata, pixels, extras)
    made = builder.finish()
    tar.write_bytes(made.content)
    write_record(tar, {"category": "d/c", "spec_hash": "y", **made.facts})


def context(stores: tuple[Path, Path], **changes: Any) -> Context:
    values: dict[str, Any] = {
        "resolution": SIZE,
        "category": "d/c",
        "kind": "object",
        "normals": NORMALS,
        "image": texture,
        "foreground": lambda _: disc(),
        "shards": (stores[1], stores[1].with_name("y.tar")),
    }
    return Context(**{**values, **changes})


def options(module: ModuleType, stores: tuple[Path, Path]) -> Any:
    fields = module.Options.__dataclass_fields__
    return module.Options(**({"textures": str(stores[0])} if "textures" in fields else {}))


def built(name: str, stores: tuple[Path, Path], **changes: Any) -> Any:
    module = load(methods, name)
    return module.build(options(module, stores), context(stores, **changes))


def same(a: Pair, b: Pair) -> bool:
    return np.array_equal(a.image, b.image) and np.array_equal(a.mask, b.mask)


def test_all_four_of_the_paper_are_there() -> None:
    assert {"sdas", "dtd", "nsa", "cutpaste", "noise"} <= set(NAMES)
    with pytest.raises(UserError, match="Did you mean cutpaste"):
        load(methods, "cutpast")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "region", [lambda: np.ones((SIZE, SIZE), np.bool_), disc], ids=["whole", "disc"]
)
def test_a_pair_is_its_normal_image_outside_its_mask_and_the_mask_lies_in_the_region(
    name: str, region: Callable[[], Mask], stores: tuple[Path, Path]
) -> None:
    method = built(name, stores, kind="texture" if region is not disc else "object")
    assert method.name == name
    part, shown = region(), 0
    for i in range(40):
        normal = texture(i % NORMALS)
        kept = normal.copy()
        pair = method.pair(normal, part, generator(name, i))
        np.testing.assert_array_equal(normal, kept)  # nobody else's image is written to
        np.testing.assert_array_equal(pair.normal, normal)
        assert pair.image.shape == (SIZE, SIZE, 3) and pair.image.dtype == np.uint8
        assert pair.mask.shape == (SIZE, SIZE) and pair.mask.dtype == np.bool_
        np.testing.assert_array_equal(pair.image[~pair.mask], normal[~pair.mask])
        assert not (pair.mask & ~part).any()
        shown += bool(pair.mask.any())
        if pair.mask.any():
            change = np.abs(pair.image.astype(int) - normal)[pair.mask]
            assert change.max() > 1  # a label without any change is a false one
    assert shown >= 20


@pytest.mark.parametrize("name", NAMES)
def test_the_same_generator_gives_the_same_pair_in_any_order_and_process(
    name: str, stores: tuple[Path, Path]
) -> None:
    one, other = built(name, stores), built(name, stores)
    part = disc()
    forward = [one.pair(texture(i % NORMALS), part, generator("law", i)) for i in range(12)]
    backward = [
        other.pair(texture(i % NORMALS), part, generator("law", i)) for i in reversed(range(12))
    ]
    assert all(same(a, b) for a, b in zip(forward, reversed(backward), strict=True))
    masks = {pair.mask.tobytes() for pair in forward}
    assert len(masks) > 6  # another generator, another pair


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_region_gives_a_normal_example(name: str, stores: tuple[Path, Path]) -> None:
    method, nothing = built(name, stores), np.zeros((SIZE, SIZE), np.bool_)
    for i in range(5):
        pair = method.pair(texture(0), nothing, generator(i))
        assert not pair.mask.any() and np.array_equal(pair.image, texture(0))


@pytest.mark.parametrize("name", NAMES)
def test_one_normal_image_is_enough(name: str, stores: tuple[Path, Path]) -> None:
    method = built(name, stores, normals=1)
    assert method.pair(texture(0), disc(), generator(1)).mask.shape == (SIZE, SIZE)


@pytest.mark.parametrize("name", NAMES)
def test_options_are_frozen_and_their_names_are_checked(
    name: str, stores: tuple[Path, Path]
) -> None:
    module = load(methods, name)
    chosen = options(module, stores)
    with pytest.raises(AttributeError):
        chosen.anything = 1
    with pytest.raises(TypeError):
        module.Options(1)
    if "opacity" in module.Options.__dataclass_fields__:
        for bad in ((0.5, 1.2), (0.9, 0.1), (0.5,)):
            with pytest.raises(UserError, match="opacity"):
                module.Options(opacity=bad)
    assert isinstance(module.VERSION, int)


def test_a_category_without_images_is_refused(stores: tuple[Path, Path]) -> None:
    with pytest.raises(UserError, match="d/c has no normal image"):
        context(stores, normals=0)


def test_methods_import_the_core_alone() -> None:
    code = (
        "import sys; from sia_gen import methods; from sia_gen.core.plugins import load, names;"
        "[load(methods, n) for n in names(methods)];"
        "print(sorted({'torch', 'ray', 'click', 'accelerate', 'diffusers', 'skimage', 'cv2',"
        " 'imgaug'} & set(sys.modules)),"
        " sorted(m for m in sys.modules if m.startswith(('sia_gen.', 'detector'))"
        " and not m.startswith(('sia_gen.core', 'sia_gen.methods'))))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[] []"
