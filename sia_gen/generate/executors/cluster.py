"""The cluster that workers run on: finding or starting it, and what fits on it."""

from __future__ import annotations

import logging
import math
import os
import secrets
import sys
from dataclasses import dataclass
from typing import Any

from sia_gen.core.errors import UserError
from sia_gen.generate.options import ExecutionOptions

OBJECT_STORE = 80 * 2**20  # bytes: specifications and answers are all that travels


def import_ray(options: ExecutionOptions) -> Any:
    """Returns the ray module, kept from writing to stdout, which belongs to --json."""
    if options.address is None and "ray" not in sys.modules:
        _close_doors()
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".*")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray's 15 lets workers starve beside other work of the machine: a start would time out.
    os.environ.setdefault("RAY_worker_niceness", "0")
    import ray

    return ray


def _close_doors() -> None:
    """Has a cluster that is started here listen on loopback alone, and ask for a token.

    Whoever reaches a Ray port may run code. Ray binds all interfaces unless it is told that this
    machine takes no part in clusters (a switch meant for Windows and macOS); it reads both
    variables when it is imported.
    """
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    if "RAY_AUTH_MODE" not in os.environ:
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))


def connect(ray: Any, options: ExecutionOptions) -> bool:
    """Connects to a cluster, or starts one here; returns whether it is ours to shut down."""
    if ray.is_initialized():
        return False
    common: dict[str, Any] = {
        "include_dashboard": False,
        "log_to_driver": False,
        "logging_level": logging.ERROR,
    }
    try:
        if options.address is not None:
            del common["include_dashboard"]
            ray.init(address=options.address, **common)
        else:
            cpus = len(os.sched_getaffinity(0))  # what a container or taskset leaves us
            ray.init(address="local", num_cpus=cpus, object_store_memory=OBJECT_STORE, **common)
    # A Ray that does not come up in time is a bare Exception.
    except Exception as error:
        where = f"reach the cluster at {options.address}" if options.address else "start here"
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise UserError(f"Ray could not {where}: {reason}. Try --executor local") from error
    return True


@dataclass(frozen=True, kw_only=True)
class Share:
    """What one worker asks of a node."""

    cpus: float
    gpus: float

    def fitting(self, nodes: list[dict[str, float]]) -> int:
        """Returns how many workers fit on the nodes, whoever uses them now."""
        total = 0
        for node in nodes:
            fits = [
                node.get(name, 0.0) / ask
                for name, ask in (("CPU", self.cpus), ("GPU", self.gpus))
                if ask > 0
            ]
            total += math.floor(min(fits) + 1e-9)
        return total

    def __str__(self) -> str:
        return f"{self.cpus:g} CPU and {self.gpus:g} GPU"


def alive_nodes(ray: Any) -> list[dict[str, float]]:
    """Returns what each living node has in total, used or not."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def describe_nodes(nodes: list[dict[str, float]]) -> str:
    """Returns what the nodes have, the first four in full."""
    parts = [f"{node.get('CPU', 0):g} CPU and {node.get('GPU', 0):g} GPU" for node in nodes]
    shown = parts[:4] + ([f"{len(parts) - 4} more nodes"] if len(parts) > 4 else [])
    return "; ".join(shown) or "no node"


def choose_share(nodes: list[dict[str, float]], options: ExecutionOptions, threads: int) -> Share:
    """Returns what each worker asks for: a GPU where the cluster has any, a CPU for each thread."""
    gpus = options.num_gpus
    if gpus is None:
        gpus = 1.0 if any(node.get("GPU", 0) >= 1 for node in nodes) else 0.0
    return Share(cpus=options.num_cpus or float(threads), gpus=gpus)


def require_room(
    share: Share, nodes: list[dict[str, float]], workers: int | None, *, fixed: bool
) -> None:
    """Raises UserError, asked against available, where the workers do not fit.

    A cluster that others made may grow, so one worker is enough to begin with; the one that was
    started here (`fixed`) has what it has.
    """
    fitting = share.fitting(nodes)
    wanted = workers or 1
    if fitting >= wanted or (fitting >= 1 and not fixed):
        return
    message = (
        f"asked for {wanted} worker{'s' if wanted > 1 else ''} with {share} each, but"
        f" {fitting or 'none'} fit{'s' if fitting <= 1 else ''}: available are"
        f" {describe_nodes(nodes)}. Lower --workers, --num-cpus or --num-gpus, or give --address"
    )
    raise UserError(message)
