"""The coreset is that of the definition, however many members are chosen between two passes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from sia_gen.core.coreset import greedy_coreset


def plain_coreset(x_NC: npt.NDArray[Any], count: int, first: int) -> list[int]:
    """The definition: one member at a time, each the farthest from those before."""
    chosen = [first]
    nearest = np.square(x_NC - x_NC[first]).sum(1)
    while len(chosen) < count:
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, np.square(x_NC - x_NC[chosen[-1]]).sum(1))
    return chosen


@pytest.mark.parametrize("candidates", [1, 7, 64, 5000])
def test_several_members_a_pass_are_those_of_the_definition(candidates: int) -> None:
    x = np.random.default_rng(1).standard_normal((800, 6))
    x[100:150] = x[0]  # copies are chosen last
    middle = int(np.square(x - x.mean(0)).sum(1).argmin())
    assert greedy_coreset(x, 90, None, candidates).tolist() == plain_coreset(x, 90, middle)
    assert greedy_coreset(x, 90, 3, candidates).tolist() == plain_coreset(x, 90, 3)
    assert sorted(greedy_coreset(x[:5], 90, None, candidates)) == [0, 1, 2, 3, 4]
    assert len(set(greedy_coreset(x, 800, None, candidates))) == 800
