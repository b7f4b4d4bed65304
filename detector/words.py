"""Words that options and command lines need before anything else is loaded."""

from __future__ import annotations

from pathlib import Path

from sia_gen.core.errors import UserError

# An image's score: its map's maximum, that of its 16 x 16 window means, the mean of its highest
# hundredth.
IMAGE_SCORES = ("max", "avgpool16_max", "top1_mean")
FITS = ("stretch", "pad")
RUN = Path("runs/detector")  # where `train` writes and `score` reads, unless told otherwise


def parse_tiles(text: str) -> tuple[int, int]:
    """Returns (side, overlap) in pixels of `SIDE[:OVERLAP]`, (0, 0) of an empty text.

    Without an overlap it is a quarter of the side. UserError for anything else.
    """
    if not text:
        return 0, 0
    side, colon, overlap = text.partition(":")
    try:
        found = int(side), int(overlap) if colon else int(side) // 4
    except ValueError as error:
        raise UserError(f"tiles {text!r}: expected SIDE or SIDE:OVERLAP, e.g. 256:64") from error
    if found[0] < 16 or not 0 <= found[1] <= found[0] // 2:
        raise UserError(
            f"tiles {text!r}: a side of at least 16 is needed, and an overlap from 0 to half of it"
        )
    return found
