"""What can be chosen of a ReDi: its options, refused where no ReDi has them."""

from __future__ import annotations

from dataclasses import dataclass

from detector.nets.backbone import BackboneOptions
from detector.nets.redi import distance, msgms, recovery, reference, self_map
from sia_gen.core.errors import UserError
from sia_gen.core.options import Checked, option

PROMPTS = ("pretrained", "self_supervised", "none")
BLOCKS = ("frb", "encoder")
OPTIMIZERS = ("adamw", "adam")


@dataclass(frozen=True, kw_only=True)
class Options(Checked):
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
    scaling: str = option("none", choices=reference.SCALINGS)
    linear_features: bool = False
    recover: str = option("hip", choices=recovery.WAYS)
    recover_width: int = option(64, low=2)
    smooth_start: bool = False
    map: str = option("hog", choices=self_map.KINDS)
    map_bins: int = 9
    map_cell: int = 8
    map_colour: str = option("gray", choices=self_map.COLOURS)
    map_scale: str = option("fixed", choices=self_map.SCALES)
    map_quantile: float = option(0.995, above=0, below=1)
    canny: tuple[int, ...] = (50, 100)
    prompt: str = option("pretrained", choices=PROMPTS)
    prompt_rank: int = option(1, low=1)
    bank_limit: int = option(0, low=0)
    lambda_m: float = option(1.0, low=0)
    gms: str = option("median", choices=msgms.KINDS)
    block: str = option("frb", choices=BLOCKS)
    aggregation_blocks: int = option(3, low=1)
    decoder_blocks: tuple[int, ...] = (3, 4, 6)
    cosine: str = option("global", choices=distance.COSINES)
    correlation: str = option("channel", choices=distance.NORMALISATIONS)
    lambda_s: float = option(1.0, low=0)
    layer_weights: tuple[float, ...] = (1.0, 1.0, 1.0)
    sigma: float = option(4.0, low=0)
    recover_share: float = option(0.625, above=0, below=1)
    describe_share: float = option(0.1, above=0, below=1)
    recover_lr: float = option(5e-4, above=0, below=1)
    recover_drops: tuple[float, ...] = (0.4, 0.8)
    drops: tuple[float, ...] = (1 / 3, 2 / 3)
    warmup: int = option(0, low=0)
    optimizer: str = option("adamw", choices=OPTIMIZERS)
    weight_decay: float = option(0.01, low=0)
    beta1: float = 0.9

    def __post_init__(self) -> None:
        """Refuses values that no ReDi has, naming the option."""
        super().__post_init__()
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
