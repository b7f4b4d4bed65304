"""Child processes to be killed or to share a batch: forked off a server that has imported torch.

A fresh Python takes five to ten seconds of processor time for its imports; here one server takes
them once. What must be a fresh Python (imports counted, a launcher tried) is not for this.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload(
    [
        "sia_gen.diffusion.train",
        "detector.training.train",
        "detector.cli.main",
        "harness.torchmetrics",
    ]
)


class Child:
    """One process that calls a function, with one thread of torch and what it wrote to stderr."""

    def __init__(
        self,
        stderr: Path,
        function: Callable[..., None],
        *arguments: Any,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.stderr = stderr
        call = (str(stderr), dict(env or {}), function, arguments)
        self._process = _server.Process(target=_run, args=call, daemon=True)
        self._process.start()

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.is_alive()

    def send(self, number: int) -> None:
        """Sends a signal."""
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def wait(self, seconds: float = 220.0) -> int:
        """Returns the exit code, below 0 that of a signal."""
        self._process.join(seconds)
        assert self._process.exitcode is not None, self.said()
        return self._process.exitcode

    def said(self) -> str:
        """Returns what it wrote to stderr."""
        return self.stderr.read_text(encoding="utf-8", errors="replace")


def _run(
    stderr: str, env: dict[str, str], function: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    with Path(stderr).open("wb") as file:
        os.dup2(file.fileno(), 2)
    os.environ.update(env)
    import torch

    torch.set_num_threads(1)
    function(*arguments)


def detector(*arguments: str) -> None:
    """Runs `detector` with these arguments."""
    from detector.cli.main import main

    sys.argv = ["detector", *arguments]
    main()


def sia_gen(*arguments: str) -> None:
    """Runs `sia-gen` with these arguments."""
    from sia_gen.cli.main import main

    sys.argv = ["sia-gen", *arguments]
    main()


def ranks(tmp_path: Path, function: Callable[..., None], *arguments: Any) -> list[Child]:
    """Returns two processes of one training on this machine, as torchrun would start them."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    made = []
    for rank in ("0", "1"):
        own = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        own |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
        made.append(Child(tmp_path / f"stderr-{rank}", function, *arguments, env=own))
    return made
