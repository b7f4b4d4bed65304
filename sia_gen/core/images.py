"""Readers of images and masks under the name that scripts of before version 0.2 import."""

from sia_gen.core.pixels.images import read_image, read_size
from sia_gen.core.pixels.masks import read_mask

__all__ = ["read_image", "read_mask", "read_size"]
