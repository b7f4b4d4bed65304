"""How much memory this process has needed at most, on the host and on the GPU."""

from __future__ import annotations

import resource
import sys


def peak() -> dict[str, int]:
    """Returns the highest use so far in bytes: {"host": resident, "gpu": allocated by torch}."""
    unit = 1 if sys.platform == "darwin" else 1024
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    torch = sys.modules.get("torch")
    gpu = 0
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        gpu = int(torch.cuda.max_memory_reserved())
    return {"host": host, "gpu": gpu}
