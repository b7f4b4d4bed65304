"""ReDi's parts against what defines them: scikit-image, scipy, direct formulas, drawn cases."""

from __future__ import annotations

import hashlib
import time
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage import data
from skimage.feature import hog
from torch.utils._python_dispatch import TorchDispatchMode

from detector.models import rd, redi
from detector.nets import backbone as backbones
from detector.nets.backbone import BackboneOptions
from detector.nets.redi import distance, edges, msgms, recover
from detector.nets.redi.hog import Hog
from detector.nets.redi.prompts import PromptBank
from detector.nets.redi.recovery_block import RecoveryBlock
from detector.nets.redi.reference import Scaling, shallow
from detector.nets.redi.self_map import SelfMap
from sia_gen.core.errors import UserError

torch.set_num_threads(1)


def millions(module: torch.nn.Module) -> float:
    return sum(p.numel() for p in module.parameters()) / 1e6


def test_parameter_counts_are_those_of_the_papers_table_12() -> None:
    with torch.device("meta"):
        recover_net = recover.PromptedUNet(64)
        block = RecoveryBlock([256, 512, 1024], [4, 8, 16])
        assert millions(recover.UNet(3, 64)) == pytest.approx(28.81, abs=0.01)  # RIAD
    assert millions(recover_net) == pytest.approx(22.59, abs=0.01)
    assert millions(block) == pytest.approx(83.81, abs=0.01)
    total = millions(recover_net) + millions(block)
    assert abs(round(total, 2) - 106.40) < 0.0101


def test_a_decoder_of_smooth_start_draws_no_checkerboard() -> None:
    torch.manual_seed(0)
    decoder = recover.Decoder(4, smooth=True).eval()
    flat = [torch.rand(1, 4 * factor, 1, 1).expand(-1, -1, side, side)
            for factor, side in zip(recover.WIDTHS, (128, 64, 32, 16, 8), strict=True)]  # fmt: skip
    with torch.no_grad():
        drawn = decoder(flat)[..., 56:72, 56:72]  # away from the border, whose zeros show
    assert float((drawn.amax((2, 3)) - drawn.amin((2, 3))).max()) < 1e-5


@pytest.mark.parametrize(("bins", "cell"), [(9, 8), (18, 4), (4, 8)])
@pytest.mark.parametrize("kind", ["gray", "colour", "odd"])
def test_hog_equals_scikit_image(bins: int, cell: int, kind: str) -> None:
    image = data.astronaut()[:200, 60:250].astype(np.float64) / 256
    if kind == "odd":
        image = image[:101, :99]
    if kind != "colour":
        # Of 256ths, whose differences are exact: thousands of pixels at exactly 45 degrees.
        image = np.rint(image.mean(axis=-1, keepdims=True) * 256) / 256
    axis = -1 if kind == "colour" else None
    _, wanted = hog(
        image if kind == "colour" else image[..., 0],
        orientations=bins,
        pixels_per_cell=(cell, cell),
        cells_per_block=(1, 1),
        visualize=True,
        channel_axis=axis,
    )
    found = Hog(bins, cell)(torch.from_numpy(image).permute(2, 0, 1)[None])
    assert found.shape == (1, 1, *wanted.shape)
    assert np.abs(found[0, 0].numpy() - wanted).max() < 1e-4
    assert wanted.max() > 0.1


def test_hog_is_much_faster_than_scikit_image() -> None:
    image = data.camera()[:128, :128] / 255
    fast, tensor = Hog(9, 8), torch.from_numpy(image).float()[None, None]
    fast(tensor)

    def seconds(work: Any) -> float:
        began = time.process_time()
        work()
        return time.process_time() - began

    slow = min(seconds(lambda: hog(image, visualize=True)) for _ in range(2))
    quick = min(seconds(lambda: [fast(tensor) for _ in range(5)]) / 5 for _ in range(3))
    assert slow > 8 * quick  # 20 and more on a quiet machine: benchmarks/redi.py


def test_canny_follows_opencv() -> None:
    # What cv2.Canny of OpenCV 5.0 gives for this photograph, which scikit-image ships.
    found = edges.canny(data.brick(), 50, 100)
    assert found.sum() == 21602
    digest = hashlib.sha256(np.packbits(found).tobytes()).hexdigest()
    assert digest[:16] == "29c2dc11d4cf824b"
    step = np.zeros((20, 20), dtype=np.uint8)
    step[:, 10:] = 100
    assert edges.canny(step, 50, 100).sum(axis=1).tolist() == [1] * 20  # one pixel wide
    assert not edges.canny(step, 400, 500).any()
    weak = np.zeros((30, 20), dtype=np.uint8)
    weak[:, 10:] = 20  # |gx| = 80: weak, kept only where it hangs on a strong edge
    assert not edges.canny(weak, 50, 100).any()
    weak[:8, 10:] = 90
    assert edges.canny(weak, 50, 100)[:, 8:12].any(axis=1).all()


def test_sobel_and_roberts_are_their_filters() -> None:
    gray = np.random.default_rng(0).random((17, 23))
    tensor = torch.from_numpy(gray)[None, None]
    wanted = np.hypot(
        ndimage.sobel(gray, axis=0, mode="nearest"), ndimage.sobel(gray, axis=1, mode="nearest")
    )
    assert np.allclose(edges.sobel(tensor)[0, 0].numpy(), wanted)
    diagonal = np.hypot(gray[1:, 1:] - gray[:-1, :-1], gray[:-1, 1:] - gray[1:, :-1])
    assert np.allclose(edges.roberts(tensor)[0, 0, :-1, :-1].numpy(), diagonal)


@pytest.mark.parametrize("kind", ["hog", "canny", "sobel", "roberts"])
def test_maps_are_scaled_by_normal_images_and_clipped(kind: str) -> None:
    images = torch.from_numpy(data.brick()[:64, :64].copy()).float()[None, None] / 255
    images = images.repeat(2, 3, 1, 1)
    images[1] *= 0.5
    made = SelfMap(kind)
    made.fix_gain([images])
    maps = made(images)
    assert maps.shape == (2, 1, 64, 64) and maps.min() >= -1 and maps.max() <= 1
    assert (maps[0] > 0.99).float().mean() > 0.001
    flat = made(torch.full((1, 3, 64, 64), 0.3))
    assert torch.equal(flat, torch.full_like(flat, -1))
    assert float(SelfMap(kind).fix_gain([torch.zeros(1, 3, 32, 32)])) == 1.0


def test_median_and_smoothing_equal_scipy() -> None:
    x = np.random.default_rng(1).random((2, 1, 21, 34)).astype(np.float32)
    medians = msgms.median3(torch.from_numpy(x)).numpy()
    smoothed = distance.smooth(torch.from_numpy(x), 4.0).numpy()
    for i in range(2):
        assert np.array_equal(medians[i, 0], ndimage.median_filter(x[i, 0], 3, mode="nearest"))
        assert np.allclose(smoothed[i, 0], ndimage.gaussian_filter(x[i, 0], 4.0), atol=1e-6)
    assert torch.equal(distance.smooth(torch.from_numpy(x), 0), torch.from_numpy(x))


def test_msgms_is_zero_for_equals_and_its_slope_finite_on_flat_images() -> None:
    image = torch.rand(2, 3, 32, 32)
    assert float(msgms.msgms_loss(image, image.clone())) == pytest.approx(0, abs=1e-6)
    assert float(msgms.msgms_loss(image, 1 - image)) < 1e-3  # gradients' sizes alone count
    assert float(msgms.msgms_loss(image, torch.zeros_like(image))) > 0.1
    flat = torch.full((2, 3, 32, 32), 0.5, requires_grad=True)
    for target in (torch.zeros(2, 3, 32, 32), image):
        flat.grad = None
        msgms.msgms_loss(target, flat).backward()
        assert flat.grad is not None and flat.grad.isfinite().all()


def test_msgms_of_directions_sees_lines_of_one_pixel_but_not_their_sign() -> None:
    lined = torch.full((1, 3, 32, 32), 0.5)
    flat = lined.clone()
    lined[..., 4::8] = 0.7
    assert float(msgms.gradient_sizes(lined[:, :1])[0].max()) < 1e-5  # the median took them
    seen, whole = (float(msgms.msgms_loss(flat, lined, kind)) for kind in msgms.KINDS)
    assert whole > 1.5 * seen
    assert float(msgms.msgms_loss(lined, 1 - lined, "directions")) == pytest.approx(0, abs=1e-6)


def test_msgms_of_directions_tells_across_from_down() -> None:
    ramp = torch.linspace(0, 0.9, 32).expand(1, 3, 32, 32)
    turned = ramp.mT
    assert float(msgms.msgms_loss(ramp, turned)) == pytest.approx(0, abs=1e-6)
    assert float(msgms.msgms_loss(ramp, turned, "directions")) > 0.3


class Largest(TorchDispatchMode):
    """Notes the number of elements of the largest tensor that is made."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if isinstance(found, torch.Tensor):
            self.numel = max(self.numel, found.numel())
        return found


@pytest.mark.parametrize(("channels", "side"), [(16, 24), (64, 16), (96, 6)])
@pytest.mark.parametrize("how", ["channel", "spatial", "l2", "none"])
@pytest.mark.parametrize("noise", [0.2, 1e-3])
def test_self_correlation_equals_the_direct_form_in_less_memory(
    channels: int, side: int, how: str, noise: float
) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, channels, side, side).relu()
    y = x + noise * torch.randn_like(x)
    a, b = distance.normalised(x, how), distance.normalised(y, how)
    watch = Largest()
    with watch:
        found = distance.gram_distance(a, b).sqrt()
    a, b = a.double(), b.double()
    direct = (a.mT @ a - b.mT @ b).square().sum((1, 2)).sqrt()
    assert torch.allclose(found.double(), direct, rtol=1e-5, atol=0)
    places = side * side
    assert watch.numel <= 2 * max(channels * places, min(channels, places) ** 2)
    assert channels >= places or watch.numel < 2 * places**2


def test_losses_of_equal_and_of_flat_features_have_finite_slopes() -> None:
    x = [torch.rand(2, 8, 6, 6), torch.rand(2, 40, 3, 3)]
    for features in (x, [torch.zeros_like(f) for f in x]):
        y = [f.clone().requires_grad_() for f in features]
        loss = distance.cosine_loss(features, y, "global")
        loss = loss + distance.cosine_loss(features, y, "regional")
        for how in distance.NORMALISATIONS:
            loss = loss + distance.correlation_loss(features, y, how)
        loss.backward()
        assert loss.isfinite()
        assert all(f.grad is not None and f.grad.isfinite().all() for f in y)


def test_cosine_forms_and_layer_maps_by_hand() -> None:
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).view(1, 2, 1, 2)  # places (1, 0) and (0, 1)
    y = torch.tensor([[2.0, 0.0], [0.0, -1.0]]).view(1, 2, 1, 2)
    assert float(distance.cosine_loss([x], [y], "regional")) == pytest.approx(1.0)
    wanted = 1 - (2 - 1) / (2**0.5 * 5**0.5)
    assert float(distance.cosine_loss([x], [y], "global")) == pytest.approx(wanted)
    maps = distance.layer_maps([x, x], [y, x], 2)
    assert maps.shape == (1, 2, 2, 2)
    assert torch.allclose(maps[0, 0, 0], torch.tensor([0.0, 2.0]), atol=1e-6)
    assert torch.allclose(maps[0, 1], torch.zeros(2, 2), atol=1e-6)


def test_a_prompt_is_the_most_similar_image_but_never_the_image_itself() -> None:
    images = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8)
    images[3] = images[0]  # a copy of the same photograph
    angles = torch.tensor([0.0, 0.1, 0.3, 0.0, 1.0])
    features = torch.stack([angles.cos(), angles.sin()], dim=1)
    bank = PromptBank(0, 0, 1)
    bank.fill(images, features * 7)
    assert bank.shape == [4, 2, 8]  # equal images are kept once
    asked = images.float() / 255
    places, likeness = bank.choose(asked, features)
    assert places.tolist() == [1, 0, 1, 1, 2]
    assert likeness[0] == pytest.approx(float(np.cos(0.1)), abs=1e-5)
    other = (asked + 0.5) % 1  # not in the bank: its nearest may be taken
    assert bank.choose(other, features)[0].tolist() == [0, 1, 2, 0, 3]
    assert torch.allclose(bank.prompts(places[:1]), asked[1:2] * 2 - 1, atol=1e-6)
    second = PromptBank(0, 0, 1, rank=2)
    second.fill(images, features)
    assert second.choose(asked[:1], features[:1])[0].tolist() == [2]
    assert second.choose(other[:1], features[:1])[0].tolist() == [1]
    small = PromptBank(0, 0, 1)
    small.fill(images, features, limit=2)
    assert small.shape == [2, 2, 8]
    with pytest.raises(UserError, match="only 1 different"):
        PromptBank(0, 0, 1).fill(images[:1].repeat(3, 1, 1, 1), features[:3])


@pytest.mark.parametrize("strides", [[4, 8, 16], [8, 8, 16], [2, 4, 4]])
def test_recovery_block_returns_the_shapes_it_was_given(strides: list[int]) -> None:
    channels = [8, 12, 16]
    given = [torch.randn(2, c, 64 // s, 64 // s) for c, s in zip(channels, strides, strict=True)]
    for linear in (False, True):
        block = RecoveryBlock(channels, strides, 2, (2, 1, 3), linear=linear).eval()
        found = block(given)
        assert [f.shape for f in found] == [g.shape for g in given]
        assert all(bool((f < 0).any()) == linear for f in found)
    with pytest.raises(UserError, match="each must be the one before or twice that"):
        RecoveryBlock(channels, [4, 16, 32])
    with pytest.raises(UserError, match="decoder_blocks"):
        RecoveryBlock(channels, strides, 1, (1, 1))


def test_shallow_pass_gives_the_same_features_and_scaling_levels_them() -> None:
    options = BackboneOptions(name="resnet18", weights="random", layers=(1, 2, 3))
    backbone = backbones.build(options)
    images = torch.rand(4, 3, 32, 32)
    whole = backbone(images)
    for a, b in zip(whole, shallow(backbone, images, 2), strict=False):
        assert torch.equal(a, b)
    scaling = Scaling(backbone.channels, "centre")
    scaling.measure([whole], linear=False)
    level = scaling(whole)[0]
    assert torch.allclose(level.mean((0, 2, 3)), torch.zeros(64), atol=1e-4)
    spread = level.std((0, 2, 3), correction=0)
    assert torch.allclose(spread[spread > 0.1], torch.ones_like(spread[spread > 0.1]), atol=0.02)
    with pytest.raises(UserError, match="linear_features=true"):
        scaling.measure([[f - 1 for f in whole]], linear=False)


def test_options_refuse_what_no_redi_has_and_rd_is_redi_without_recovery() -> None:
    for bad, match in (
        ({"map": "hogg"}, "map 'hogg': expected one of hog, canny"),
        ({"prompt": "best"}, "prompt 'best': expected one of"),
        ({"layers": (1, 2)}, "one weight for each layer"),
        ({"retrieval_layer": 3}, "must be deeper than layers"),
        ({"recover_share": 1.0}, "recover_share"),
        ({"lambda_s": -1.0}, "lambda_s"),
    ):
        with pytest.raises(UserError, match=match):
            redi.Options(**bad)  # type: ignore[arg-type]
    small = {"backbone": "resnet18", "weights": "random", "layers": (1,), "layer_weights": (1.0,)}
    plain = rd.build(rd.Options(**small, decoder_blocks=(1,)), 0)  # type: ignore[arg-type]
    assert plain.recovery is None and rd.Options().lambda_s == 0
    assert plain.backbone.channels == [64]  # the retrieval's layer is not computed
    with pytest.raises(UserError, match="give a multiple of 8"):
        plain.check_resolution(36)
