"""A shard as a run folder knows it, whoever fills it."""

from __future__ import annotations

from typing import Any, Protocol


class Spec(Protocol):
    """What a run folder knows of a shard, generated or packed."""

    @property
    def key(self) -> str:
        """The category's full name, dataset/category."""

    @property
    def category(self) -> str:
        """The category's name."""

    @property
    def shard(self) -> int:
        """The shard's number in its category."""

    @property
    def first(self) -> int:
        """The index of its first image."""

    @property
    def name(self) -> str:
        """The shard's name, category-00000."""

    @property
    def file(self) -> str:
        """The tar's path inside the run folder, with forward slashes."""

    @property
    def count(self) -> int:
        """The number of images."""

    @property
    def side(self) -> int | None:
        """The side of the images in pixels; None for any."""

    @property
    def spec_hash(self) -> str:
        """The hash that a finished shard's record must carry."""

    def expects(self, position: int) -> dict[str, Any]:
        """Returns what the metadata of an image of this shard must say."""
