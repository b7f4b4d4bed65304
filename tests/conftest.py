"""What every test shares: where reference data lies, and two threads for torch."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import fake_hub
import fake_model
import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# 15 by default: on a busy machine workers would wait for minutes.
os.environ.setdefault("RAY_worker_niceness", "0")

ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("SHARED_DIR", ROOT.parent / "shared"))
GOLDEN = Path(os.environ.get("GOLDEN_DIR", SHARED / "golden"))
fake_model.announce()


@pytest.fixture
def golden() -> Path:
    """The folder of arrays computed by the RealNet authors' code (GOLDEN_DIR)."""
    if not GOLDEN.is_dir():
        pytest.skip(f"golden arrays are absent: {GOLDEN} (set GOLDEN_DIR)")
    return GOLDEN


@pytest.fixture
def shared() -> Path:
    """The folder of reference photographs and weights (SHARED_DIR)."""
    if not SHARED.is_dir():
        pytest.skip(f"reference data is absent: {SHARED} (set SHARED_DIR)")
    return SHARED


@pytest.fixture(autouse=True)
def fresh_process() -> Iterator[None]:
    """Lets every test choose precision and threads: accelerate and torch keep them for a process.

    Sums differ in their last bits between one thread and two, so bit-equal tests would depend on
    what ran before them.
    """
    torch = sys.modules.get("torch")
    threads = torch.get_num_threads() if torch else None
    yield
    if torch and threads and torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    if "accelerate" in sys.modules:
        from accelerate.state import AcceleratorState

        AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[fake_hub.Hub]:
    """A Hugging Face Hub of our own, which huggingface_hub speaks to meanwhile."""
    from huggingface_hub import constants

    with fake_hub.serving() as found:
        monkeypatch.setattr(constants, "ENDPOINT", found.url)
        template = f"{found.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
        monkeypatch.setenv("HF_TOKEN", "hf_nobody")
        yield found


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[str]:
    """One Ray cluster of two CPUs for the whole session: its address."""
    os.environ.update(
        RAY_DEDUP_LOGS_SKIP_REGEX=".*",
        RAY_USAGE_STATS_ENABLED="0",
        RAY_memory_monitor_refresh_ms="0",
    )
    import ray

    context = ray.init(
        address="local",
        num_cpus=2,
        num_gpus=0,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=80 * 2**20,
    )
    yield str(context.address_info["gcs_address"])
    ray.shutdown()
