"""How much memory this process has held at most."""

from __future__ import annotations

import sys


def peak_mib() -> int:
    """Returns the process's largest resident memory in MiB; 0 where the system does not say."""
    try:
        import resource
    except ImportError:  # not a Unix
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB on Linux, bytes on macOS
    return int(peak / 2**20 if sys.platform == "darwin" else peak / 2**10)
