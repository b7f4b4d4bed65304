"""Categories for `realnet-lite`: four for its development, never reported, and DeepPCB's boards.

    python benchmarks/lite_data.py --out dev [--dtd DTD --tiles MAGNETIC_TILE]
    python benchmarks/lite_data.py --out boards --deeppcb DEEPPCB/pairs

Four categories in MVTec-AD's layout, 256 x 256 pixels, all images made or cut out here: `nuts`
(rendered hexagonal nuts, any orientation and light), `grain` and `weave` (crops of DTD photographs,
scikit-image's photographs of surfaces where no DTD is given) and `tiles` (normal *training* images
of the magnetic tiles; no test image is opened). Their defects are drawn by none of the methods that
train a detector: scratches, spots, stains, dents (warps) and smears, many of them faint.

`boards` is a category to report: crops of 256 pixels out of DeepPCB's images of 640. Every second
board is for training, by crops of its template alone; of the others come normal crops (template)
and anomalous ones (defective image), whose masks are where the two differ inside DeepPCB's boxes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter
from scipy import ndimage

from sia_gen.core.pixels.images import Array8, encode_png, read_image
from sia_gen.core.seeds import generator
from sia_gen.core.store.files import write_bytes

SIDE = 256
Gray = npt.NDArray[np.float32]
KINDS = ("scratch", "spot", "stain", "dent", "smear")


def _noise(rng: np.random.Generator, sigma: float, side: int = SIDE) -> Gray:
    """Returns smooth noise of mean 0 and deviation 1."""
    field = ndimage.gaussian_filter(rng.standard_normal((side, side)), sigma, mode="wrap")
    return ((field - field.mean()) / field.std()).astype(np.float32)


def _line(rng: np.random.Generator, width: int) -> Gray:
    """Returns a crooked line's coverage, in [0, 1]."""
    sheet = Image.new("L", (4 * SIDE, 4 * SIDE))
    draw = ImageDraw.Draw(sheet)
    place, angle = rng.uniform(0.2, 0.8, 2) * 4 * SIDE, rng.uniform(0, 2 * np.pi)
    for _ in range(int(rng.integers(3, 12))):
        angle += rng.normal(0, 0.35)
        target = place + rng.uniform(20, 60) * np.array([np.cos(angle), np.sin(angle)])
        draw.line((*place, *target), fill=255, width=4 * width)
        place = target
    return np.asarray(sheet.resize((SIDE, SIDE), Image.Resampling.BOX), np.float32) / 255


def _blob(rng: np.random.Generator, radius: float) -> Gray:
    """Returns an irregular blob's coverage, in [0, 1]."""
    y, x = np.mgrid[:SIDE, :SIDE] - rng.uniform(0.2, 0.8, (2, 1, 1)) * SIDE
    tilt, stretch = rng.uniform(0, np.pi), rng.uniform(1, 2)
    u, v = x * np.cos(tilt) + y * np.sin(tilt), y * np.cos(tilt) - x * np.sin(tilt)
    far = np.sqrt((u / stretch) ** 2 + (v * stretch) ** 2) / radius + 0.25 * _noise(rng, radius / 2)
    return np.clip((1.15 - far) / 0.15, 0, 1).astype(np.float32)


def defect(
    image: Array8, region: npt.NDArray[np.bool_], rng: np.random.Generator
) -> tuple[Array8, npt.NDArray[np.bool_], str]:
    """Returns an image with a drawn defect inside the region, its mask, and its kind."""
    while True:
        kind = str(rng.choice(KINDS))
        plain = image.astype(np.float32)
        sign, strength = float(rng.choice([-1, 1])), rng.uniform(12, 70)
        if kind == "scratch":
            cover = _line(rng, int(rng.integers(1, 4)))
            changed = plain + (sign * strength * cover)[..., None]
        elif kind == "spot":
            cover = _blob(rng, rng.uniform(3, 10))
            tint = rng.uniform(0.6, 1, 3)
            changed = plain + cover[..., None] * sign * strength * tint
        elif kind == "stain":
            cover = ndimage.gaussian_filter(_blob(rng, rng.uniform(14, 36)), 2)
            changed = plain + (cover * sign * strength * 0.6)[..., None]
        elif kind == "dent":
            cover = _blob(rng, rng.uniform(10, 26))
            inside = ndimage.gaussian_filter(cover, 4)
            shift = [inside * _noise(rng, 8) * rng.uniform(3, 8) for _ in range(2)]
            where = np.mgrid[:SIDE, :SIDE] + np.array(shift)
            moved = [ndimage.map_coordinates(plain[..., c], where, order=1) for c in range(3)]
            cover, changed = inside, np.stack(moved, axis=-1)
        else:
            cover = _blob(rng, rng.uniform(10, 30))
            blurred = ndimage.gaussian_filter(plain, (rng.uniform(2, 5), rng.uniform(2, 5), 0))
            changed = plain + cover[..., None] * (blurred - plain)
        inside = region & (cover > 0.05)
        result = np.where(inside[..., None], np.clip(np.rint(changed), 0, 255), image)
        result = result.astype(np.uint8)
        different = np.abs(result.astype(int) - image).max(axis=2) >= 4
        mask = ndimage.binary_closing(different, iterations=2) & inside
        if 12 <= mask.sum() <= 8000:
            return result, mask, kind


def nut(rng: np.random.Generator) -> tuple[Array8, npt.NDArray[np.bool_]]:
    """Returns a rendered hexagonal nut on a gray ground, and where it lies."""
    sheet, hole = Image.new("L", (SIDE, SIDE)), Image.new("L", (SIDE, SIDE))
    centre = SIDE / 2 + rng.uniform(-12, 12, 2)
    turn, outer = rng.uniform(0, 2 * np.pi), rng.uniform(70, 78)
    inner = outer * 0.48
    corners = [
        (centre[0] + outer * np.cos(turn + k * np.pi / 3),
         centre[1] + outer * np.sin(turn + k * np.pi / 3))
        for k in range(6)
    ]  # fmt: skip
    ImageDraw.Draw(sheet).polygon(corners, fill=255)
    box = (centre[0] - inner, centre[1] - inner, centre[0] + inner, centre[1] + inner)
    ImageDraw.Draw(hole).ellipse(box, fill=255)
    soft = [np.asarray(s.filter(ImageFilter.GaussianBlur(1)), np.float32) / 255
            for s in (sheet, hole)]  # fmt: skip
    y, x = np.mgrid[:SIDE, :SIDE] - centre[::-1, None, None]
    radius, light = np.hypot(x, y), rng.uniform(0, 2 * np.pi)
    brushed = ndimage.gaussian_filter(rng.standard_normal((SIDE, SIDE)), (0.4, 5))
    brushed = ndimage.rotate(np.tile(brushed, (2, 2)), np.degrees(turn), reshape=False, order=1)
    brushed = brushed[SIDE // 2 : -SIDE // 2, SIDE // 2 : -SIDE // 2]
    shade = 150 + 25 * (x * np.cos(light) + y * np.sin(light)) / outer + 30 * brushed
    bevel = np.clip((radius - outer * 0.82) / (outer * 0.1), 0, 1)
    slope = np.cos(np.arctan2(y, x) - light)
    shade += bevel * (40 * slope - 15)
    thread = 60 + 35 * np.sin(radius * 1.4 + np.arctan2(y, x)) * (radius > inner * 0.86)
    ground = 215 + 4 * _noise(rng, 30) + rng.normal(0, 1.5, (SIDE, SIDE))
    through = ground - 25
    body = (1 - soft[1]) * shade + soft[1] * np.where(radius > inner * 0.86, thread, through)
    gray = soft[0] * body + (1 - soft[0]) * ground + rng.normal(0, 2, (SIDE, SIDE))
    tinted = gray[..., None] * np.array([1.0, 0.98, 0.94])
    on_it = (soft[0] > 0.9) & (radius > inner)
    return np.clip(np.rint(tinted), 0, 255).astype(np.uint8), on_it


def crops(paths: list[Path], flips: bool) -> Callable[[np.random.Generator], Array8]:
    """Returns what cuts random squares out of photographs, resized to 256 pixels."""
    photos = [Image.fromarray(read_image(path)) for path in paths]

    def cut(rng: np.random.Generator) -> Array8:
        photo = photos[int(rng.integers(len(photos)))]
        side = int(min(photo.size) * rng.uniform(0.5, 0.7))
        left, top = (int(rng.integers(0, n - side + 1)) for n in photo.size)
        part = photo.crop((left, top, left + side, top + side)).resize((SIDE, SIDE))
        turned = np.rot90(np.asarray(part), int(rng.integers(4)) if flips else 0)
        return np.ascontiguousarray(turned)

    return cut


def write(
    root: Path, make: Callable[[np.random.Generator], tuple[Array8, npt.NDArray[np.bool_]]],
    train: int, normal: int, defects: int,
) -> None:  # fmt: skip
    """Writes one category, each image a function of its number."""
    for part, count in (("train/good", train), ("test/good", normal)):
        for i in range(count):
            image, _ = make(generator(root.name, part, i))
            write_bytes(root / part / f"{i:03}.png", encode_png(image, level=1))
    for i in range(defects):
        rng = generator(root.name, "defect", i)
        image, mask, kind = defect(*make(rng), rng)
        write_bytes(root / "test" / kind / f"{i:03}.png", encode_png(image, level=1))
        drawn = (mask * np.uint8(255))[..., None].repeat(3, axis=2)
        path = root / "ground_truth" / kind / f"{i:03}_mask.png"
        write_bytes(path, encode_png(drawn, level=1))


def boards(root: Path, pairs: Path, train: int, normal: int, defects: int) -> None:
    """Writes the category of circuit boards."""
    names = sorted(path.stem for path in pairs.glob("*.txt"))
    sides = {"train": names[::2], "test": names[1::2]}

    def crop(rng: np.random.Generator) -> tuple[slice, slice]:
        top, left = rng.integers(0, 640 - SIDE + 1, 2)
        return slice(top, top + SIDE), slice(left, left + SIDE)

    for part, side, count in (("train/good", "train", train), ("test/good", "test", normal)):
        for i in range(count):
            name = sides[side][i % len(sides[side])]
            template = read_image(pairs / f"{name}_temp.jpg")
            image = template[crop(generator("boards", part, i))]
            write_bytes(root / part / f"{i:03}.png", encode_png(image, level=1))
    made, tries = 0, 0
    while made < defects:
        name, rng = sides["test"][tries % len(sides["test"])], generator("boards", "defect", tries)
        tries += 1
        template, image = (read_image(pairs / f"{name}_{k}.jpg") for k in ("temp", "test"))
        if np.ptp(image.astype(int), axis=2).max() > 60:
            continue  # somebody drew boxes and names on it
        boxed = np.zeros(image.shape[:2], dtype=np.bool_)
        for line in (pairs / f"{name}.txt").read_text().splitlines():
            left, top, right, bottom = map(int, line.split()[:4])
            boxed[top:bottom, left:right] = True
        differs = np.abs(image.astype(int) - template).max(axis=2) > 60
        # The two are a pixel apart here and there: lines along edges are no defects.
        differs = ndimage.binary_dilation(ndimage.binary_opening(differs, np.ones((4, 4))))
        where = crop(rng)
        mask = (differs & boxed)[where]
        if mask.sum() < 20:
            continue
        cut = np.ascontiguousarray(image[where])
        drawn = (mask * np.uint8(255))[..., None].repeat(3, axis=2)
        write_bytes(root / "test" / "defect" / f"{made:03}.png", encode_png(cut, level=1))
        path = root / "ground_truth" / "defect" / f"{made:03}_mask.png"
        write_bytes(path, encode_png(drawn, level=1))
        made += 1


@click.command()
@click.option("--out", required=True, type=click.Path(path_type=Path))
@click.option("--dtd", type=click.Path(path_type=Path), help="DTD's images, for grain and weave.")
@click.option("--tiles", type=click.Path(path_type=Path), help="Category folder of the tiles.")
@click.option("--deeppcb", type=click.Path(path_type=Path), help="Only boards, of its pairs.")
@click.option("--train", default=200, show_default=True, help="Normal training images.")
@click.option("--normal", default=50, show_default=True, help="Normal test images.")
@click.option("--defects", default=80, show_default=True, help="Images with a drawn defect.")
def main(
    out: Path,
    dtd: Path | None,
    tiles: Path | None,
    deeppcb: Path | None,
    train: int,
    normal: int,
    defects: int,
) -> None:
    """Writes the development categories below OUT, or the boards alone."""
    counts = (train, normal, defects)
    if deeppcb is not None:
        boards(out / "boards", deeppcb, *counts)
        return
    everywhere = np.ones((SIDE, SIDE), dtype=np.bool_)
    write(out / "nuts", nut, *counts)
    if dtd is not None:
        for name, folder, pick, flips in (
            ("grain", "bumpy", slice(0, 4), True), ("weave", "braided", slice(2, 5), False)
        ):  # fmt: skip
            cut = crops(sorted((dtd / folder).iterdir())[pick], flips)
            write(out / name, lambda rng, cut=cut: (cut(rng), everywhere), *counts)
    if tiles is not None:
        paths = sorted((tiles / "train" / "good").iterdir())
        order = generator("tiles").permutation(len(paths))
        images = iter([read_image(paths[i], SIDE) for i in order[: train + normal + defects]])
        write(out / "tiles", lambda _: (next(images), everywhere), *counts)


if __name__ == "__main__":
    main()
