"""S3 in tests: moto keeps its buckets in the process, so that each module has to forget them."""

from __future__ import annotations

import urllib.request
from typing import Any


def forget_buckets(server: Any) -> None:
    """Empties a moto server that has started; other servers of this process share its buckets."""
    host, port = server.get_host_and_port()
    request = urllib.request.Request(f"http://{host}:{port}/moto-api/reset", method="POST")
    urllib.request.urlopen(request, timeout=30).close()
