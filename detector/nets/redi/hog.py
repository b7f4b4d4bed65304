"""The HOG image (histograms of oriented gradients, drawn as one small star a cell), exact and fast.

It equals scikit-image's `hog(..., visualize=True)`, whose picture depends on the number of bins and
the cell alone (it is drawn before blocks are normalised). There, lines are drawn one by one; here,
a cell's star is its histogram times fixed glyphs, one matrix product for all cells.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from sia_gen.core.errors import UserError


def glyphs(bins: int, cell: int) -> Tensor:
    """Returns the line of each orientation inside a cell, 0 or 1, float32 (bins, cell x cell).

    A line runs along the edge, across the gradient, at the middle of its bin.
    """
    from skimage.draw import line

    radius = cell // 2 - 1
    centre = cell // 2
    found = torch.zeros(bins, cell, cell)
    for i in range(bins):
        angle = math.pi * (i + 0.5) / bins
        row, column = radius * math.cos(angle), radius * math.sin(angle)
        ends = (centre - row, centre + column, centre + row, centre - column)
        rows, columns = line(*(int(end) for end in ends))
        found[i, rows, columns] = 1
    return found.flatten(1)


def central_differences(x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the differences of the neighbours along rows and columns; 0 on the border."""
    along_rows = functional.pad(x_BCHW[:, :, 2:] - x_BCHW[:, :, :-2], (0, 0, 1, 1))
    along_columns = functional.pad(x_BCHW[..., 2:] - x_BCHW[..., :-2], (1, 1))
    return along_rows, along_columns


def _steepest(rows_BCHW: Tensor, columns_BCHW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns gradients and magnitude of the channel where it is largest, each (B, 1, H, W)."""
    magnitudes = torch.hypot(rows_BCHW, columns_BCHW)
    rows, columns, magnitude = rows_BCHW[:, :1], columns_BCHW[:, :1], magnitudes[:, :1]
    for k in range(1, rows_BCHW.shape[1]):
        other = magnitudes[:, k : k + 1]
        larger = other > magnitude
        rows = torch.where(larger, rows_BCHW[:, k : k + 1], rows)
        columns = torch.where(larger, columns_BCHW[:, k : k + 1], columns)
        magnitude = torch.where(larger, other, magnitude)
    return rows, columns, magnitude


class Hog(nn.Module):
    """HOG images of gray or colour images; of colours the steepest channel counts at each pixel."""

    glyphs: Tensor

    def __init__(self, bins: int = 9, cell: int = 8) -> None:
        super().__init__()
        if bins < 1 or cell < 4:
            raise UserError(f"HOG of {bins} bins and cells of {cell}: give >= 1 and >= 4")
        self.bins, self.cell = bins, cell
        self.register_buffer("glyphs", glyphs(bins, cell), persistent=False)

    def histograms(self, x_BCHW: Tensor) -> Tensor:
        """Returns each cell's gradient magnitude by orientation, (B, H // cell, W // cell, bins).

        Magnitudes are summed over the cell and divided by its area; a pixel votes for one bin.
        """
        rows, columns = central_differences(x_BCHW)
        if x_BCHW.shape[1] == 1:
            magnitude = (rows.square() + columns.square()).sqrt()
        else:
            rows, columns, magnitude = _steepest(rows, columns)
        cell, (height, width) = self.cell, x_BCHW.shape[-2:]
        down, across = height // cell, width // cell
        rows, columns, magnitude = (
            x[:, 0, : down * cell, : across * cell] for x in (rows, columns, magnitude)
        )
        # In double precision: where bins meet on the axes, pixels lie on their very border.
        # Other runtimes have no arc tangent in double: there the axes are put right by hand.
        kind = torch.float32 if torch.compiler.is_exporting() else torch.float64
        degrees = torch.rad2deg(torch.atan2(rows.to(kind), columns.to(kind)))
        if torch.compiler.is_exporting():
            degrees = torch.where((columns == 0) & (rows != 0), 90.0, degrees)
        degrees = torch.where(degrees < 0, degrees + 180, degrees)
        degrees = torch.where(degrees >= 180, 0.0, degrees)
        if self.bins % 4 == 0:  # they meet on the diagonals too, which atan2 may miss by a bit
            falling = (rows < 0) != (columns < 0)
            diagonal = (rows.abs() == columns.abs()) & (rows != 0)
            degrees = torch.where(diagonal, 45.0 + 90.0 * falling, degrees)
        ys = torch.arange(down, device=rows.device).repeat_interleave(cell)
        xs = torch.arange(across, device=rows.device).repeat_interleave(cell)
        first = (ys[:, None] * across + xs) * self.bins
        chosen = (degrees * (self.bins / 180)).long() + first
        votes = magnitude.new_zeros(chosen.shape[0], down * across * self.bins)
        votes = votes.scatter_add(1, chosen.flatten(1), magnitude.flatten(1)) / cell**2
        return votes.view(-1, down, across, self.bins)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Returns HOG images (B, 1, H, W), >= 0 and linear in the input's scale.

        Pixels right of and below the last whole cell are 0.
        """
        height, width = x_BCHW.shape[-2:]
        votes = self.histograms(x_BCHW)
        _, down, across, _ = votes.shape
        stars = votes @ self.glyphs.to(votes.dtype)
        drawn = stars.view(-1, down, across, self.cell, self.cell).transpose(2, 3)
        drawn = drawn.reshape(-1, 1, down * self.cell, across * self.cell)
        return functional.pad(drawn, (0, width - drawn.shape[-1], 0, height - drawn.shape[-2]))
