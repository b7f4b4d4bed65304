"""The registry's metrics as torchmetrics': to update in a loop, in a MetricCollection, on ranks.

    MetricCollection({"auroc": ImageMetric("image_auroc"), "f1": ImageMetric("image_f1max")})
    PixelMetric("pro", limit=0.3)                   exact: keeps the scores
    PixelMetric("pro", limit=0.3, exact=False)      a histogram of at most 24 MiB
    FeatureMetric("density"), FeatureMetric("clustered_lpips", feature=network)
    FID(feature=network), KID(feature=network)      torchmetrics' own, computed faster

States are gathered over processes; `compute` is the NumPy of harness/metrics, on the gathered
arrays, so that any number of processes gives one process's value. Results are float64 tensors on
the metric's device. UndefinedMetric is raised where a value does not exist.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from harness import metrics
from harness.metrics import fid
from sia_gen.core.errors import UserError
from sia_gen.core.statistics.histogram import PixelHistogram
from sia_gen.core.statistics.inputs import binary, real
from sia_gen.core.statistics.kid import of_subsets
from sia_gen.core.statistics.pixels import region_weights
from sia_gen.core.statistics.ranking import Ranking


def _joined(held: list[Tensor] | Tensor) -> npt.NDArray[Any]:
    """Returns a state's tensors as one array, (0,) where there are none."""
    parts = [p.detach().cpu() for p in (held if isinstance(held, list) else [held])]
    joined = torch.cat(parts) if parts else torch.zeros(0)
    # NumPy has no bfloat16, and float16 is too coarse to be summed.
    half = joined.dtype in (torch.bfloat16, torch.float16)
    return np.asarray((joined.float() if half else joined).numpy())


class _Registered(Metric):
    """A metric of the registry whose states are lists of tensors, gathered over processes."""

    is_differentiable = False
    full_state_update = False

    def __init__(self, name: str, kind: str, states: tuple[str, ...], **kwargs: Any) -> None:
        self.about = metrics.load(name)
        if self.about.kind != kind:
            raise UserError(f"{name} is of kind {self.about.kind}, not {kind}")
        known = {key: kwargs.pop(key) for key in self._arguments() & kwargs.keys()}
        super().__init__(**kwargs)
        self.arguments = known
        for state in states:
            self.add_state(state, default=[], dist_reduce_fx="cat")

    @property
    def higher_is_better(self) -> bool:
        """The direction that the registry names."""
        return self.about.higher_is_better

    def _arguments(self) -> set[str]:
        return {key for variant in self.about.variants for key in variant.arguments}

    def gathered(self, state: str) -> npt.NDArray[Any]:
        """Returns all that a state has collected, (0,) where that is nothing."""
        return _joined(getattr(self, state))

    def value(self, *given: Any) -> Tensor:
        """Returns the registry's value of what the metric takes."""
        value = self.about.of(*given, **self.arguments)
        return torch.tensor(value, dtype=torch.float64, device=self.device)


class ImageMetric(_Registered):
    """image_auroc, image_ap, image_f1max, ...: update(scores (N,), labels (N,))."""

    def __init__(self, name: str, **kwargs: Any) -> None:
        super().__init__(name, "image", ("scores", "labels"), **kwargs)

    def update(self, scores: Tensor, labels: Tensor) -> None:
        """Adds images."""
        self.scores.append(scores.detach().reshape(-1))
        self.labels.append(labels.detach().reshape(-1))

    def compute(self) -> Tensor:
        """Returns the value over all images."""
        arrays = self.gathered("scores"), self.gathered("labels")
        return self.value(*metrics.TAKES[self.about.takes][1](*arrays))


class PixelMetric(_Registered):
    """pixel_auroc, pixel_ap, pixel_f1max, pro, ...: update(maps (N, H, W), masks (N, H, W))."""

    def __init__(self, name: str, *, exact: bool = True, **kwargs: Any) -> None:
        states = ("hits", "shares", "normal") if exact else ("packed",)
        super().__init__(name, "pixel", states, **kwargs)
        if not self.about.ranks:
            raise UserError(f"{name} needs whole maps: harness.metrics.{name}.compute")
        self.exact = exact

    def update(self, maps: Tensor, masks: Tensor) -> None:
        """Adds images; sizes may differ from call to call."""
        scores = real(maps.detach().cpu().numpy(), "score maps")
        truth = binary(masks.detach().cpu().numpy(), "masks")
        if scores.ndim != 3 or scores.shape != truth.shape:
            raise UserError(f"maps {scores.shape}, masks {truth.shape}: expected (N, H, W) twice")
        if not self.exact:
            histogram = self._histogram()
            histogram.update(scores, truth)
            self.packed = [torch.from_numpy(histogram.packed()).to(self.device)]
            return
        weights = [region_weights(mask)[0] for mask in truth if mask.any()]
        shares = np.concatenate([np.zeros(0), *weights])
        for state, values in (
            ("hits", scores[truth]), ("shares", shares), ("normal", scores[~truth])
        ):  # fmt: skip
            getattr(self, state).append(torch.from_numpy(values).to(self.device))

    def _histogram(self) -> PixelHistogram:
        return PixelHistogram.unpacked(self.gathered("packed"))

    def compute(self) -> Tensor:
        """Returns the value over all pixels."""
        by_region = self.about.takes == "region ranking"
        if not self.exact:
            return self.value(self._histogram().rankings()[int(by_region)])
        hits = self.gathered("hits")
        ranking = Ranking(hits, self.gathered("shares") if by_region else None)
        ranking.add_negatives(self.gathered("normal"))
        return self.value(ranking)


class FeatureMetric(_Registered):
    """density, coverage, memorisation, clustered_lpips, ...: update(images, of=SET).

    `feature` makes features (N, D) of what is given; without it features are given. The sets are
    those that the registry names: synthetic and anomalous, or synthetic, train and held_out.
    """

    def __init__(self, name: str, feature: nn.Module | None = None, **kwargs: Any) -> None:
        self.sets = metrics.load(name).variants[0].inputs
        super().__init__(name, "quality", self.sets, **kwargs)
        self.feature = feature

    def update(self, images: Tensor, of: str) -> None:
        """Adds images, or features, of a set."""
        if of not in self.sets:
            raise UserError(f"of={of!r}: expected one of {', '.join(self.sets)}")
        with torch.no_grad():
            getattr(self, of).append(images if self.feature is None else self.feature(images))

    def compute(self) -> Tensor:
        """Returns the value over all images."""
        return self.value(*(self.gathered(name) for name in self.sets))


class FID(FrechetInceptionDistance):
    """torchmetrics' FID with its states, features and arguments; `compute` is the registry's."""

    def compute(self) -> Tensor:
        """Returns FID, >= 0."""
        sides = [self._moments(side) for side in ("fake", "real")]
        value = fid.from_moments(*sides)
        return torch.tensor(value, dtype=self.orig_dtype, device=self.device)

    def _moments(self, side: str) -> fid.Moments:
        total, squares, count = (
            getattr(self, f"{side}_features_{name}").detach().cpu().double().numpy()
            for name in ("sum", "cov_sum", "num_samples")
        )
        moments = fid.Moments(len(total))
        moments.count = int(count)
        moments.mean = total / max(1, moments.count)
        moments.scatter = np.outer(total, -moments.mean)
        moments.scatter += squares
        return moments


class KID(KernelInceptionDistance):
    """torchmetrics' KID with its states, features, arguments and draws; `compute` shares work."""

    def compute(self) -> tuple[Tensor, Tensor]:
        """Returns mean and standard deviation over the subsets that torchmetrics would draw."""
        x, y = (_joined(held) for held in (self.real_features, self.fake_features))
        for name, held in (("real", x), ("fake", y)):
            if len(held) < self.subset_size:
                raise ValueError(f"{len(held)} {name} images, `subset_size` is {self.subset_size}")
        drawn = [
            [torch.randperm(len(held))[: self.subset_size].numpy() for held in (x, y)]
            for _ in range(self.subsets)
        ]
        kernel = {"gamma": self.gamma, "coef": self.coef, "degree": self.degree}
        values = torch.from_numpy(of_subsets(x, y, *np.stack(drawn, axis=1), **kernel))
        values = values.to(self.device)
        return values.mean(), values.std(unbiased=False)
