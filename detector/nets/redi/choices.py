"""What can be chosen of a ReDi: its options, refused where no ReDi has them."""

from __future__ import annotations

from dataclasses import dataclass

from detector.nets.backbone import BackboneOptions
from detector.nets.redi import distance, msgms, recovery, reference, self_map
from sia_gen.core.errors import UserError

PROMPTS = ("pretrained", "self_supervised", "none")
BLOCKS = ("frb", "encoder")
OPTIMIZERS = ("adamw", "adam")


@dataclass(frozen=True, kw_only=True)
class Options:
    """The parts of a ReDi; the defaults are the paper's.

    The budget (`steps` or `epochs`) is that of both stages: `recover_share` goes to the first. A
    constant rate is halved at the shares of a stage in `drops` and `recover_drops`. `sigma` is the
    score map's smoothing in pixels. `bank_limit` bounds the prompts that are kept, 0 keeps all.
    """

    backbone: str = "wide_resnet50_2"
    weights: str = "pretrained:tv_in1k"
    layers: tuple[int, ...] = (1, 2, 3)
    retrieval_layer: int = 4
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    scaling: str = "none"
    linear_features: bool = False
    recover: str = "hip"
    recover_width: int = 64
    smooth_start: bool = False
    map: str = "hog"
    map_bins: int = 9
    map_cell: int = 8
    map_colour: str = "gray"
    map_scale: str = "fixed"
    map_quantile: float = 0.995
    canny: tuple[int, ...] = (50, 100)
    prompt: str = "pretrained"
    prompt_rank: int = 1
    bank_limit: int = 0
    lambda_m: float = 1.0
    gms: str = "median"
    block: str = "frb"
    aggregation_blocks: int = 3
    decoder_blocks: tuple[int, ...] = (3, 4, 6)
    cosine: str = "global"
    correlation: str = "channel"
    lambda_s: float = 1.0
    layer_weights: tuple[float, ...] = (1.0, 1.0, 1.0)
    sigma: float = 4.0
    recover_share: float = 0.625
    describe_share: float = 0.1
    recover_lr: float = 5e-4
    recover_drops: tuple[float, ...] = (0.4, 0.8)
    drops: tuple[float, ...] = (1 / 3, 2 / 3)
    warmup: int = 0
    optimizer: str = "adamw"
    weight_decay: float = 0.01
    beta1: float = 0.9

    def __post_init__(self) -> None:
        """Refuses values that no ReDi has, naming the option."""
        for option, known in (
            ("recover", recovery.WAYS),
            ("map", self_map.KINDS),
            ("map_colour", self_map.COLOURS),
            ("map_scale", self_map.SCALES),
            ("gms", msgms.KINDS),
            ("prompt", PROMPTS),
            ("block", BLOCKS),
            ("cosine", distance.COSINES),
            ("correlation", distance.NORMALISATIONS),
            ("scaling", reference.SCALINGS),
            ("optimizer", OPTIMIZERS),
        ):
            if getattr(self, option) not in known:
                raise UserError(
                    f"{option} {getattr(self, option)!r} is not one of {', '.join(known)}"
                )
        if len(self.layer_weights) != len(self.layers) or not self.layers:
            raise UserError(
                f"layer_weights {list(self.layer_weights)} and layers {list(self.layers)} differ in"
                " number: give one weight for each layer"
            )
        if self.uses_retrieval_layer and self.retrieval_layer <= max(self.layers):
            raise UserError(
                f"retrieval_layer {self.retrieval_layer} must be deeper than layers"
                f" {list(self.layers)}"
            )
        if len(self.canny) != 2:
            raise UserError(f"canny {list(self.canny)}: give the low and the high threshold")
        for option, least in (("recover_width", 2), ("prompt_rank", 1), ("aggregation_blocks", 1),
                              ("bank_limit", 0), ("warmup", 0), ("lambda_m", 0), ("lambda_s", 0),
                              ("sigma", 0), ("weight_decay", 0)):  # fmt: skip
            if getattr(self, option) < least:
                raise UserError(f"{option} {getattr(self, option)} must be at least {least}")
        for option in ("recover_share", "describe_share", "recover_lr", "map_quantile"):
            if not 0 < getattr(self, option) < 1:
                raise UserError(f"{option} {getattr(self, option)} is not in (0, 1)")

    @property
    def prompted(self) -> bool:
        """Whether the recover network is given a prompt image."""
        return self.recover == "hip" and self.prompt != "none"

    @property
    def uses_retrieval_layer(self) -> bool:
        """Whether the backbone must run to the layer whose mean describes an image."""
        return self.prompted and self.prompt == "pretrained"

    def backbone_options(self, seed: int) -> BackboneOptions:
        """Returns the part of the options that the backbone needs."""
        deepest = (self.retrieval_layer,) if self.uses_retrieval_layer else ()
        return BackboneOptions(
            name=self.backbone,
            weights=self.weights,
            layers=self.layers + deepest,
            seed=seed,
            mean=self.mean,
            std=self.std,
        )
