"""Readers of images and masks under their former name, for scripts that import it."""

from sia_gen.core.pixels.images import read_image, read_size
from sia_gen.core.pixels.masks import read_mask

__all__ = ["read_image", "read_mask", "read_size"]
