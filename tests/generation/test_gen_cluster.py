"""A cluster whose nodes come and go: the run carries on with what is there."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import gen_support as support
import pytest

pytestmark = pytest.mark.ray


class Lines(list[str]):
    """The lines that a process writes to stderr, as they come."""

    def __init__(self, stream: object) -> None:
        super().__init__()
        self._stream = stream
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._stream:  # type: ignore[attr-defined]
            self.append(line.rstrip())

    def count(self, text: object) -> int:
        return sum(str(text) in line for line in list(self))


@pytest.mark.usefixtures("ray_cluster")
def test_nodes_are_lost_and_won_and_the_bytes_are_the_same(
    tmp_path: Path, mini: Path, finished: Path
) -> None:
    """One worker at first; a node joins and is used, dies with a shard in work, another joins."""
    from ray.cluster_utils import Cluster

    small = {"object_store_memory": 80 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, **small})
    out, gate = tmp_path / "run", tmp_path / "gate"
    process = None
    try:
        process = support.start(
            *support.run_arguments(
                out,
                mini,
                model=f"testing:noise?gate={gate}",
                executor="ray",
                address=cluster.address,
            ),
            "--json",
        )
        lines = Lines(process.stderr)
        support.wait_for(lambda: lines.count("1 ready") == 1, 120)
        node = cluster.add_node(num_cpus=1, **small)
        support.wait_for(lambda: lines.count("2 ready") == 1, 120)
        cluster.remove_node(node, allow_graceful=False)
        support.wait_for(lambda: lines.count("attempt 1 lost") == 1, 120)
        cluster.add_node(num_cpus=1, **small)
        support.wait_for(lambda: lines.count("2 ready") == 2, 120)
        gate.touch()
        assert process.wait(timeout=120) == 0, lines
        assert process.stdout is not None
        assert json.loads(process.stdout.read())["images_made_now"] == 60  # and nothing of Ray's
    finally:
        if process is not None and process.poll() is None:
            process.kill()
        cluster.shutdown()
    assert support.stable_files(out) == support.stable_files(finished)
