"""Faults of processes, disks and people: kill anywhere, run again, and it is as if nothing was."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import time
from pathlib import Path

import gen_support as support
import pytest

from sia_gen.core.store.shards import read_record

SLOW = "testing:noise?delay=0.04"


def tars(out: Path) -> int:
    return len(list(out.rglob("*-?????.tar"))) if out.is_dir() else 0


def records(out: Path) -> int:
    return len(list(out.glob("shards/*/*/*.json"))) if out.is_dir() else 0


def moved_on(out: Path, before: int, process: subprocess.Popen[str]) -> bool:
    return records(out) > before or process.poll() is not None


def no_leftovers(out: Path) -> bool:
    names = {name for name in support.all_files(out) if not name.startswith("shards/")}
    hidden = [name for name in support.all_files(out) if ".tmp-" in name]
    # The contact sheet comes with the first shard.
    return (
        support.RUN_FILES - names <= {"card/contact-sheet.png"}
        and names <= support.RUN_FILES
        and not hidden
    )


def test_a_driver_killed_at_random_moments_ends_as_if_it_never_was(
    tmp_path: Path, mini: Path, finished: Path
) -> None:
    """Ten moments: half at once after the start, half inside the work."""
    out = tmp_path / "run"
    moments = random.Random(7)
    for attempt in range(10):
        before = records(out)
        process = support.start(*support.run_arguments(out, mini, model=SLOW))
        if attempt % 2:
            support.wait_for(functools.partial(moved_on, out, before, process))
        time.sleep(moments.uniform(0.0, 0.3))
        support.kill(process)
        for path in out.rglob("*.tar") if out.is_dir() else ():
            record = read_record(path)
            assert record is None or record["bytes"] == path.stat().st_size
    code, _, error = support.call(*support.run_arguments(out, mini))
    assert code == 0, error
    assert support.stable_files(out) == support.stable_files(finished)
    assert no_leftovers(out)


@pytest.mark.ray
def test_the_workers_of_a_killed_driver_do_no_harm_to_its_successor(
    ray_cluster: str, tmp_path: Path, mini: Path, finished: Path
) -> None:
    """Ray's workers outlive a killed driver for seconds; the successor starts at once."""
    out = tmp_path / "run"
    arguments = support.run_arguments(
        out, mini, model="testing:noise?delay=0.15", executor="ray", address=ray_cluster
    )
    process = support.start(*arguments)
    support.wait_for(lambda: records(out) >= 2)
    support.kill(process)
    code, _, error = support.call(*support.run_arguments(out, mini, model=SLOW))
    assert code == 0, error
    time.sleep(1.0)  # the ghosts' last chance
    assert support.stable_files(out) == support.stable_files(finished)
    assert no_leftovers(out)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_run_cleanly(
    number: signal.Signals, code: int, tmp_path: Path, mini: Path, finished: Path
) -> None:
    out = tmp_path / "run"
    process = support.start(*support.run_arguments(out, mini, model=SLOW))
    support.wait_for(lambda: records(out) >= 2)
    process.send_signal(number)
    found, _, error = support.finish(process)
    assert found == code
    assert "of 9 shards are done; run the same command again" in error
    assert "Traceback" not in error
    assert no_leftovers(out) and tars(out) == records(out) < 9
    assert support.call(*support.run_arguments(out, mini))[0] == 0
    assert support.stable_files(out) == support.stable_files(finished)


def test_a_second_signal_ends_it_at_once(tmp_path: Path, mini: Path) -> None:
    out = tmp_path / "run"
    hung = f"testing:noise?fault=hang&at={support.seed_of('brick', 8)}"
    process = support.start(*support.run_arguments(out, mini, model=hung))
    support.wait_for(lambda: records(out) >= 1)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert support.finish(process)[0] == 130
    assert time.monotonic() - start < 2.0


def ray_server(driver: int) -> Path:
    """The /proc folder of the control server that a driver started."""
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):
            if f"PPid:\t{driver}\n" in status.read_text():
                command = (status.parent / "cmdline").read_bytes()
                if b"gcs_server" in command:
                    return status.parent
    raise AssertionError("no control server runs")


def listening(process: Path) -> set[str]:
    """The addresses, as the kernel writes them, at which a process listens."""
    links = (str(link.readlink()) for link in (process / "fd").iterdir())
    inodes = {link[8:-1] for link in links if link.startswith("socket:[")}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in (process / "net" / table).read_text().splitlines()[1:]:
            columns = line.split()
            if columns[3] == "0A" and columns[9] in inodes:
                found.add(columns[1].partition(":")[0])
    return found


@pytest.mark.ray
def test_a_ray_driver_listens_on_loopback_ends_cleanly_and_prints_json_alone(
    tmp_path: Path, mini: Path
) -> None:
    out = tmp_path / "run"
    arguments = support.run_arguments(out, mini, model=SLOW, executor="ray", workers=1)
    process = support.start(*arguments, "--json")
    support.wait_for(lambda: records(out) >= 1)
    if Path("/proc/net/tcp").exists():
        server = ray_server(process.pid)
        loopback = {"0100007F", "0000000000000000FFFF00000100007F", f"{1:032X}"}
        assert listening(server) and listening(server) <= loopback
        assert b"RAY_AUTH_MODE=token" in (server / "environ").read_bytes()
    process.send_signal(signal.SIGTERM)
    code, printed, error = support.finish(process)
    assert code == 143
    assert json.loads(printed)["exit_code"] == 143
    assert "shards are done; run the same command again" in error
    assert "Traceback" not in error and "*** " not in error
    assert no_leftovers(out)


def test_a_second_run_on_the_same_folder_is_refused_with_the_pid(
    tmp_path: Path, mini: Path, finished: Path
) -> None:
    out = tmp_path / "run"
    gate = tmp_path / "gate"  # the first run waits for it, however slow the others start
    first = support.start(*support.run_arguments(out, mini, model=f"testing:noise?gate={gate}"))
    support.wait_for(lambda: (out / "run.json").is_file())
    code, _, error = support.call(*support.run_arguments(out, mini))
    assert code == 5
    assert f"pid {first.pid} on host" in error
    code, state, _ = support.call("status", out)
    assert code == 3
    assert "running" in state and f"pid {first.pid}" in state
    gate.touch()
    assert support.finish(first)[0] == 0
    assert support.stable_files(out) == support.stable_files(finished)


def test_a_disk_that_fills_leaves_no_partial_shard(
    tmp_path: Path, mini: Path, finished: Path
) -> None:
    out = tmp_path / "run"

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))

    code, _, error = support.call(*support.run_arguments(out, mini), preexec_fn=limit)
    assert code == 2
    assert "File too large" in error and "free" in error and "Traceback" not in error
    assert tars(out) == 0
    assert no_leftovers(out)
    assert support.call(*support.run_arguments(out, mini))[0] == 0
    assert support.stable_files(out) == support.stable_files(finished)


def test_an_output_that_vanishes_ends_the_run_and_is_not_made_anew(
    tmp_path: Path, mini: Path
) -> None:
    out = tmp_path / "run"
    process = support.start(*support.run_arguments(out, mini, model="testing:noise?delay=0.3"))
    support.wait_for(lambda: records(out) >= 1)
    shutil.rmtree(out)
    code, _, error = support.finish(process)
    assert code == 2
    assert "vanished" in error and "Traceback" not in error
    assert not out.exists()


@pytest.mark.parametrize(
    "surroundings",
    [
        {"TZ": "Asia/Kathmandu", "LC_ALL": "C", "LANG": "C", "PYTHONHASHSEED": "1"},
        {"TZ": "America/St_Johns", "PYTHONUTF8": "0", "PYTHONHASHSEED": "77"},
    ],
)
def test_clock_locale_and_umask_change_nothing(
    surroundings: dict[str, str], tmp_path: Path, mini: Path, finished: Path
) -> None:
    out = tmp_path / "run"
    arguments = support.run_arguments(out, mini)
    code, _, error = support.call(*arguments, env=surroundings, preexec_fn=lambda: os.umask(0o077))
    assert code == 0, error
    assert support.stable_files(out) == support.stable_files(finished)


@pytest.mark.parametrize("command", ["plan", "verify"])
def test_a_reader_that_goes_away_is_no_error(
    command: str, tmp_path: Path, mini: Path, finished: Path
) -> None:
    arguments: list[object] = ["verify", finished, "--json"]
    if command == "plan":
        arguments = [
            *["plan", "--out", tmp_path / "out", "--data", mini, "--model", "testing:noise"],
            *["--per-category", 20, "--json"],
        ]
    reading, writing = os.pipe()
    os.close(reading)
    process = support.start(*arguments, stdout=writing)
    os.close(writing)
    code, _, error = support.finish(process)
    assert code == 0
    assert "Traceback" not in error and "BrokenPipe" not in error and "ignored" not in error


def test_console_script_is_installed(mini: Path, tmp_path: Path) -> None:
    script = shutil.which("sia-gen", path=str(Path(support.command()[0]).parent))
    assert script is not None
    result = subprocess.run(
        [
            *[script, "plan", "--out", str(tmp_path / "x"), "--data", str(mini)],
            *["--per-category", "3", "--model", "testing:noise"],
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0
    assert "9 to make of 9" in result.stdout
