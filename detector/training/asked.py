"""What `detector train` is asked for; no torch here."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detector.words import RUN
from sia_gen.core import shared_options
from sia_gen.core.options import Checked, option


@dataclass(frozen=True, kw_only=True)
class Asked(Checked):
    """What `detector train` was asked for. None means: as the recipe, or the shards' run, says."""

    data: str | None = shared_options.data(None, "what the shards were made from, else textures")
    categories: str | None = shared_options.categories(None, "those of the shards' run, else all")
    value_range: tuple[float, float] | None = shared_options.value_range()
    shards: str | None = option(
        None, "Run of `sia-gen run`: a folder, or an address (copied first)."
    )
    out: Path = option(RUN, "Run folder.")
    recipe: str | None = option(None, "A recipe's name or file.", shown="realnet-demo")
    device: str = shared_options.device()
    multi_class: bool = option(False, "One model for all categories together.")
    given: dict[str, Any] = field(default_factory=dict)  # options over the recipe's
