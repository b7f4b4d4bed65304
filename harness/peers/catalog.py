"""What is known of every peer before it starts: its class, what it needs, and how it is read here.

Names that an installed anomalib offers beyond these are tried as they come: whatever they want to
download ends in a row that says so.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.peers import installed
from sia_gen.core.errors import UserError, near_names

PRETRAINED = "pretrained"  # weights that timm downloads


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A peer: its class in anomalib, its backbone's argument ("" for none), strides of its feature
    layers, what it downloads, and what a reader of its row must know."""

    name: str
    cls: str
    title: str
    backbone: str = ""  # the constructor's argument that takes a timm name
    layers: str = ""  # the constructor's argument that takes feature layers
    strides: tuple[int, ...] = ()
    only: tuple[str, ...] = ()  # the only backbones its code knows
    as_if: str = ""  # the backbone it is told where its list of names lacks the given one
    needs: str = ""  # a download of its own that no local file replaces
    textures: str = ""  # the constructor's argument that takes a folder of textures
    batch: int = 0  # the only batch size its code takes; 0: any
    arguments: dict[str, Any] = field(default_factory=dict)
    traps: tuple[str, ...] = ()

    def known(self, backbone: str) -> bool:
        """Returns whether the peer's own code takes a backbone of this name, without a tag."""
        names = self.only or ((self.as_if, "wide_resnet50_2") if self.as_if else ())
        return not names or backbone in names


_RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d",
            "resnext101_32x8d", "wide_resnet50_2", "wide_resnet101_2")  # fmt: skip
_NO_MAP = "a map of each image: this model gives image scores only"
_TORCHVISION = "torchvision's own download of its backbone: the model takes no timm weights"


def _cnn(
    name: str, cls: str, title: str, *strides: int, layers: str = "layers", **others: Any
) -> Peer:
    """Returns a peer on feature layers of given strides of any timm backbone."""
    return Peer(name=name, cls=cls, title=title, backbone="backbone", layers=layers,
                strides=strides, **others)  # fmt: skip


def _vit(name: str) -> str:
    return f"a download of {name}"


_KNOWN = (
    _cnn("patchcore", "Patchcore", "memory of patch features", 8, 16,
         traps=("whole image, no 224-pixel centre crop of the paper",
                "coreset by this project's greedy choice: the same rule, several members a pass")),
    _cnn("padim", "Padim", "a Gaussian at every place", 4, 8, 16,
         traps=("features kept at random: n_features of the row",)),
    _cnn("stfpm", "Stfpm", "student and teacher pyramid", 4, 8, 16,
         traps=("no switch for weights: the teacher's are put in",)),
    _cnn("cflow", "Cflow", "conditional flow on patch features", 8, 16, 32),
    Peer(name="fastflow", cls="Fastflow", title="two-dimensional flow on features",
         backbone="backbone", as_if="resnet18",
         traps=("another backbone than its two ResNets stands in their place, strides 4, 8, 16",)),
    _cnn("reverse-distillation", "ReverseDistillation", "reverse distillation", 4, 8, 16,
         only=_RESNETS,
         traps=("bottleneck of half width (64 a group; the authors' has 128): not published RD",)),
    _cnn("supersimplenet", "Supersimplenet", "SimpleNet's successor", 8, 16,
         traps=("not SimpleNet, whose numbers the papers quote",)),
    _cnn("mh-patchcore", "MHPatchcore", "PatchCore, Mahalanobis", 8, 16),
    _cnn("dfm", "Dfm", "PCA of deep features", 16, layers="layer"),
    _cnn("fre", "Fre", "reconstruction error of features", 16, layers="layer"),
    Peer(name="dfkde", cls="Dfkde", title="kernel density of deep features", needs=_NO_MAP),
    Peer(name="ganomaly", cls="Ganomaly", title="GANomaly", needs=_NO_MAP),
    Peer(name="draem", cls="Draem", title="reconstruction and discriminator", textures="dtd_dir",
         traps=("anomalies by anomalib's own Perlin generator, not the authors' imgaug",)),
    Peer(name="draem+sspcab", cls="Draem", title="DRAEM with SSPCAB", textures="dtd_dir",
         arguments={"enable_sspcab": True},
         traps=("anomalies by anomalib's own Perlin generator, not the authors' imgaug",)),
    Peer(name="glass", cls="Glass", title="local and global synthesis",
         needs="ResNet features of fixed widths and DTD, which it downloads"),
    Peer(name="cfa", cls="Cfa", title="coupled hypersphere", needs=_TORCHVISION),
    Peer(name="uninet", cls="UniNet", title="contrastive student and teacher", needs=_TORCHVISION,
         traps=("not UniAD, whose numbers the papers quote",)),
    Peer(name="csflow", cls="Csflow", title="cross-scale flow",
         needs="torchvision's EfficientNet-B5, which it downloads"),
    Peer(name="dsr", cls="Dsr", title="dual subspace re-projection",
         needs="its VQ weights, which it downloads"),
    Peer(name="efficientad", cls="EfficientAd", title="EfficientAD", batch=1,
         needs="its teacher's weights and ImageNette, which it downloads"),
    Peer(name="uflow", cls="Uflow", title="U-shaped flow", backbone="backbone",
         only=("resnet18", "wide_resnet50_2")),
    Peer(name="patchflow", cls="Patchflow", title="flow on patches", backbone="backbone",
         only=("tf_efficientnet_b5",)),
    Peer(name="dinomaly", cls="Dinomaly", title="reconstruction of DINOv2 features",
         backbone="encoder_name",
         only=("vit_small_patch14_reg4_dinov2", "vit_base_patch14_reg4_dinov2",
               "vit_large_patch14_reg4_dinov2")),
    Peer(name="anomalydino", cls="AnomalyDINO", title="memory of DINOv2 features",
         backbone="encoder_name",
         only=("vit_small_patch14_dinov2", "vit_base_patch14_dinov2", "vit_large_patch14_dinov2")),
    Peer(name="inpformer", cls="InpFormer", title="intrinsic normal prototypes",
         backbone="encoder_name", only=("vit_base_patch14_reg4_dinov2",)),
    Peer(name="rad", cls="Rad", title="retrieval", backbone="backbone",
         only=("vit_base_patch16_dinov3",)),
    Peer(name="foundad", cls="FoundAD", title="manifold projector", needs=_vit("DINOv2 or DINOv3")),
    Peer(name="generalad", cls="GeneralAD", title="attention to distorted features",
         needs=_vit("a DINOv2 ViT")),
    Peer(name="l2bt", cls="L2BT", title="teacher and two students", needs=_vit("a DINO ViT")),
    Peer(name="superadd", cls="SuperADD", title="SuperADD", needs=_vit("a DINOv3 ViT")),
    Peer(name="anomalyvfm", cls="AnomalyVFM", title="zero shot",
         needs=_vit("its weights from the Hugging Face hub")),
    Peer(name="winclip", cls="WinClip", title="CLIP", needs=_vit("CLIP"),
         traps=("not AnomalyCLIP, whose numbers the papers quote",)),
    Peer(name="vlmad", cls="VlmAd", title="a language model that sees",
         needs="a language model's service; it gives no scores"),
    Peer(name="cfm", cls="CFM", title="images and depth", needs="depth images"),
)  # fmt: skip

# Systems that the papers' tables name: the peer that is the same method, if there is one here.
_SAME = {
    "patchcore": "patchcore", "padim": "padim", "stpm": "stfpm", "cflow": "cflow",
    "fastflow": "fastflow", "draem": "draem", "draem+sspcab": "draem+sspcab", "dsr": "dsr",
    "cs-flow": "csflow",
}  # fmt: skip


def plain(name: str) -> str:
    """Returns a name without what spellings differ in: case, spaces, dashes, underscores."""
    return re.sub(r"[-_ ]", "", name.casefold())


def classes() -> list[str]:
    """Returns the image models that the installed anomalib names, without importing it."""
    spec = importlib.util.find_spec("anomalib") if installed() else None
    if spec is None or spec.origin is None:
        return []
    path = Path(spec.origin).parent / "models" / "image" / "__init__.py"
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError) as error:
        raise UserError(f"the installed anomalib cannot be read at {path}: {error}") from error
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return sorted({str(name) for name in ast.literal_eval(node.value)})
    raise UserError(f"{path} names no models: this anomalib is of another kind than 2.6 to 2.7")


def peers() -> list[Peer]:
    """Returns all peers: those known, then what the installed version offers beyond them."""
    known = {peer.cls for peer in _KNOWN}
    further = [
        Peer(name=cls.casefold(), cls=cls, title="unknown here: tried as it comes")
        for cls in classes()
        if cls not in known
    ]
    return [*_KNOWN, *further]


def select(names: str) -> list[Peer]:
    """Returns the peers of a list of names; UserError for an unknown one, with near names."""
    known = {plain(peer.name): peer for peer in peers()}
    known |= {plain(peer.cls): peer for peer in reversed(peers())}
    aliases = {"stpm": "stfpm", "rd": "reversedistillation"}
    chosen: list[Peer] = []
    for part in (p.strip() for p in names.split(",")):
        if part == "all":
            found = peers()
        else:
            key = plain(part)
            if key == "simplenet":
                raise UserError(
                    "model simplenet is not offered by anomalib; its successor is supersimplenet"
                )
            peer = known.get(aliases.get(key, key))
            if peer is None:
                near = near_names(part, [p.name for p in peers()])
                raise UserError(f"model {part!r} is unknown.{near}")
            found = [peer]
        chosen += [peer for peer in found if peer not in chosen]
    return chosen


def of_published(method: str) -> str:
    """Returns the peer that is the same method as a published one, or an empty text."""
    return _SAME.get(method.casefold(), "")


def missing(peer: Peer, *, backbone: str, weights: str, textures: str) -> str:
    """Returns what a peer lacks to run with these means, or an empty text."""
    if installed() and peer.cls not in classes():
        return f"a version of anomalib that has {peer.cls}"
    if peer.needs:
        return peer.needs
    if peer.textures and not textures:
        return "--textures DIR with texture images such as DTD's (it would download them)"
    if not peer.backbone:
        return ""
    if not weights:
        return "--weights FILE of its backbone, or --weights pretrained to let timm download it"
    name = backbone.partition(".")[0]
    stands_in = bool(peer.as_if) and weights != PRETRAINED
    if not peer.known(name) and not stands_in:
        given = f"this is {name}" if name else "none was named"
        names = ", ".join(peer.only or (peer.as_if, "wide_resnet50_2"))
        return f"a backbone it is built for ({names}); {given}"
    return ""
