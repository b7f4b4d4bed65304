"""A few hundred damaged files of every format: one UserError each at most, nothing written outside.

`benchmarks/fuzz.py` makes the inputs, and many more of them.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from fuzz import Fuzzer
from fuzz_formats import FORMATS
from hypothesis import given, settings
from hypothesis import strategies as st

from sia_gen.core.errors import UserError


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory: pytest.TempPathFactory) -> Fuzzer:
    """The good files of each format, in a folder of their own."""
    return Fuzzer(tmp_path_factory.mktemp("fuzz"))


@settings(max_examples=10, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32))
@pytest.mark.parametrize("name", FORMATS)
def test_a_damaged_file_is_read_or_refused(fuzzer: Fuzzer, name: str, seed: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert fuzzer.try_one(name, seed) in {"read", "refused"}


@pytest.mark.parametrize("name", FORMATS)
def test_the_good_file_is_read(tmp_path: Path, name: str) -> None:
    """Otherwise the law above would hold for readers that refuse everything."""
    path = FORMATS[name].make(tmp_path)
    # Of several readers of weights one wants maps in it; a run that is held is not repaired.
    refused = {
        "safetensors": "a folder, an",
        "map-npz": "one array",
        "pt": "expected image_path",
        "lock.json": "in use",
    }
    refused |= {"pt-legacy": refused["pt"], "driver": refused["lock.json"]}
    if name in refused:
        with pytest.raises(UserError, match=refused[name]):
            FORMATS[name].read(path)
    else:
        FORMATS[name].read(path)
