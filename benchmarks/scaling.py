"""What the supervisor costs: 64 GPUs in simulated time, Ray's own actors, plans of 100,000 shards.

    python benchmarks/scaling.py             # simulated, Ray with logical GPUs, planning: 2 minutes
    python benchmarks/scaling.py --real 180  # and Ray with 1 worker beside a bare loop, 180 s each

The job is the headline's: 36 categories of 10 shards. In simulated time a shard takes 60 s and the
driver's own work is real: a slow driver would show as idle workers.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path

import click
import fake_model
from simulated_ray import Scenario, SimulatedRay

from sia_gen.generate.content import WorkerConfig
from sia_gen.generate.contents.images import KIND
from sia_gen.generate.executors.attempts import Ledger
from sia_gen.generate.executors.ray import RayExecutor, Supervisor
from sia_gen.generate.options import ExecutionOptions
from sia_gen.generate.recipe import ImageShard, Recipe, specs
from sia_gen.generate.worker import ShardWorker
from sia_gen.runs.events import Event

CATEGORIES = tuple(f"category{i:02}" for i in range(36))


class NoStop:
    """A stop flag that is never set."""

    def is_set(self) -> bool:
        """Returns False."""
        return False

    def install(self) -> None:
        """Does nothing."""


def recipe(**changes: object) -> Recipe:
    """Returns the headline job, or a variation of it."""
    values: dict[str, object] = {
        **{"dataset": "benchmark", "categories": CATEGORIES, "per_category": 10_000},
        **{"s_low": 0.1, "s_high": 0.2, "seed": 0, "shard_size": 1000, "batch_size": 16},
        **{"threads": 1, "steps": 20, "sampler": "iddpm", "precision": "auto"},
        **{"checkpoint_sha256": "0" * 64, "resolution": 256},
    }
    return Recipe(**{**values, **changes})  # type: ignore[arg-type]


def config(run: Path, model: str) -> WorkerConfig:
    """Returns a worker's configuration."""
    return WorkerConfig(
        kind=KIND, run=str(run), given={"model": model, "guidance": ""}, device="cpu"
    )


def simulate(run: Path, planned: list[ImageShard], scenario: Scenario) -> str:
    """Returns a line on a run with simulated workers."""
    ray = SimulatedRay(scenario)
    worker = config(run, "testing:noise")
    ledger = Ledger(planned, worker, lost_attempts=3)
    events: list[Event] = []
    supervisor = Supervisor(
        ray, worker, ExecutionOptions(), ledger, events.append, ours=False, clock=ray.clock
    )
    summary = supervisor.run(NoStop())
    retries = sum(event.kind == "retry" for event in events)
    return (
        f"{scenario.gpus:>5} GPUs {len(planned):>7} shards {summary.done:>7} done"
        f" {len(summary.failures):>4} failed {retries:>5} retries"
        f"  driver {1e3 * ray.driver_seconds / len(planned):6.2f} ms a shard"
        f"  idle {100 * ray.idle_share():5.2f} % until no shard waits"
        f"  (whole run {ray.clock() / 3600:.2f} h)"
    )


def on_ray(run: Path, gpus: int, shards: int) -> str:
    """Returns a line on Ray's own actors, one logical GPU each, over a generator of no cost."""
    import ray

    from sia_gen.generate.executors.cluster import OBJECT_STORE

    fake = fake_model.parse("testing:noise?size=8&names=" + ",".join(CATEGORIES))
    model = "testing:noise?size=8&names=" + ",".join(CATEGORIES)
    per_category = shards // len(CATEGORIES) * 4
    small = recipe(
        per_category=per_category,
        shard_size=4,
        batch_size=4,
        resolution=8,
        checkpoint_sha256=fake.checkpoint_sha256,
    )
    ray.init(
        address="local",
        num_cpus=gpus,
        num_gpus=gpus,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=OBJECT_STORE,
    )
    try:
        executor = RayExecutor(config(run, model), ExecutionOptions(workers=gpus))
        ready: list[float] = []
        done: list[float] = []

        def on_event(event: Event) -> None:
            if event.kind == "worker":
                ready.append(time.perf_counter())
            elif event.kind == "done":
                done.append(time.perf_counter())

        planned = specs(small)
        before = time.process_time()
        began = time.perf_counter()
        executor.run(planned, on_event, NoStop())
        seconds = time.perf_counter() - ready[0]
        cpu = time.process_time() - before
    finally:
        ray.shutdown()
    return (
        f"{len(ready):>5} GPUs (logical) {len(planned):>7} shards {len(done):>5} done"
        f"  start {ready[0] - began:.1f} s  then {1e3 * seconds / len(planned):.2f} ms a shard of"
        f" wall time, {1e3 * cpu / len(planned):.2f} ms of the driver's CPU"
    )


def plan_of(shards: int) -> str:
    """Returns a line on a plan of so many shards: time and memory."""
    wide = recipe(per_category=shards * 1000 // len(CATEGORIES))
    tracemalloc.start()
    planned = specs(wide)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    began = time.perf_counter()
    specs(wide)
    seconds = time.perf_counter() - began
    return (
        f"{len(planned)} shards: {size / 2**20:.0f} MiB, {size / len(planned):.0f} bytes a shard,"
        f" {seconds:.2f} s"
    )


BARE = """
import sys, time
sys.path.insert(0, {benchmarks!r})
from pathlib import Path
import scaling
scaling.bare({run!r}, {model!r}, {images}, {shard})
"""


def real_recipe(images: int, shard: int) -> tuple[Recipe, str]:
    """Returns a job of the shipped model on one category, and the model's folder."""
    from sia_gen.generate import model as models

    model = models.locate("textures-64")
    facts = models.describe(model)
    made = recipe(
        dataset="textures",
        categories=("brick",),
        per_category=images,
        shard_size=shard,
        checkpoint_sha256=facts.checkpoint_sha256,
        resolution=facts.resolution,
    )
    return made, model


def bare(run: str, _model: str, images: int, shard: int) -> None:
    """Prints wall and processor seconds of a bare loop over the shards here, after loading."""
    made, model = real_recipe(images, shard)
    worker = ShardWorker(config(Path(run), model))
    worker.load(specs(made)[0])
    began, cpu = time.perf_counter(), time.process_time()
    for spec in specs(made):
        answer = worker.run(spec, 1)
        if answer["status"] != "done":
            raise SystemExit(answer["error"])
    print(time.perf_counter() - began, time.process_time() - cpu)


def actors_seconds() -> float:
    """Returns the processor seconds of our Ray workers so far: grandchildren of this process."""
    total = 0.0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, fields = stat.read_text().split("(", 1)[1].rsplit(")", 1)
            parent = fields.split()[1]
            above = Path(f"/proc/{parent}/stat").read_text().rsplit(")", 1)[1].split()[1]
        except (OSError, IndexError):
            continue
        if name.startswith("ray::") and int(above) == os.getpid():
            total += sum(map(int, fields.split()[11:13])) / os.sysconf("SC_CLK_TCK")
    return total


def one_worker(run: Path, images: int, shard: int) -> tuple[float, float]:
    """Returns wall and processor seconds of Ray with one worker, driver included, when ready."""
    made, model = real_recipe(images, shard)
    executor = RayExecutor(config(run, model), ExecutionOptions(workers=1, num_cpus=1))
    moments: dict[str, tuple[float, float]] = {}

    def on_event(event: Event) -> None:
        if event.kind in {"worker", "done"}:
            moments[event.kind] = (time.perf_counter(), time.process_time() + actors_seconds())

    summary = executor.run(specs(made), on_event, NoStop())
    if summary.images != images:
        raise SystemExit(f"Ray made {summary.images} of {images} images: {summary.fatal}")
    (began, cpu), (ended, later) = moments["worker"], moments["done"]
    return ended - began, later - cpu


def beside_a_bare_loop(folder: Path, seconds: float) -> list[str]:
    """Returns lines on Ray with one worker beside a bare loop: halves of each, in turns."""
    here = str(Path(__file__).resolve().parent)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

    def loop(name: str, images: int, shard: int) -> tuple[float, float]:
        code = BARE.format(
            benchmarks=here, run=str(folder / name), model="", images=images, shard=shard
        )
        command = [sys.executable, "-c", code]
        output = subprocess.run(
            command, env=environment, check=True, capture_output=True, text=True
        )
        wall, cpu = output.stdout.strip().splitlines()[-1].split()
        return float(wall), float(cpu)

    # As many images as take so many seconds, in shards of about ten seconds.
    trial = loop("trial", 64, 32)[0]
    shard = max(16, round(64 / trial * 10 / 16) * 16)
    images = max(2, round(seconds / 2 / (trial / 64) / shard)) * shard
    loops, rays = [0.0, 0.0], [0.0, 0.0]
    for turn in range(2):
        for total, found in (
            (loops, loop(f"bare{turn}", images, shard)),
            (rays, one_worker(folder / f"ray{turn}", images, shard)),
        ):
            total[0], total[1] = total[0] + found[0], total[1] + found[1]
    return [
        f"textures-64, 1 thread, 2 x {images} images in shards of {shard}",
        f"{'':<28}{'wall s':>9}{'ratio':>8}{'CPU s':>9}{'ratio':>8}",
        f"{'bare loop in one process':<28}{loops[0]:>9.1f}{1:>8.3f}{loops[1]:>9.1f}{1:>8.3f}",
        f"{'Ray, 1 worker, once ready':<28}{rays[0]:>9.1f}{rays[0] / loops[0]:>8.3f}"
        f"{rays[1]:>9.1f}{rays[1] / loops[1]:>8.3f}",
    ]


def simulated(root: Path, seconds: float) -> None:
    """Prints what the supervisor does with workers that only pretend, and what plans weigh."""
    print(f"simulated workers, {seconds:g} s a shard +- 10 %, 20 s to load; the driver is real")
    headline, tenfold = specs(recipe()), specs(recipe(per_category=100_000))
    usual = Scenario(shard_seconds=seconds)
    print(simulate(root / "a", headline, usual))
    rough = Scenario(shard_seconds=seconds, lost=0.02, raising=0.01)
    print(simulate(root / "b", headline, rough))
    print(simulate(root / "c", tenfold, usual))
    print(simulate(root / "d", tenfold, Scenario(gpus=512, shard_seconds=seconds)))
    print("plan")
    print(plan_of(100_000))


@click.command()
@click.option("--real", default=0.0, help="Seconds of the job with the real model; 0: none.")
@click.option("--gpus", default=6, show_default=True, help="Ray's logical GPUs; 0: none.")
@click.option("--seconds", default=60.0, show_default=True, help="Of a simulated shard; 0: none.")
def main(real: float, gpus: int, seconds: float) -> None:
    """Measure the supervisor."""
    fake_model.announce()
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".*")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        if seconds:
            simulated(root, seconds)
        if gpus:
            print("Ray's actors, a generator that costs nothing")
            print(on_ray(root / "e", gpus, 360))
        if real:
            print("Ray beside a bare loop")
            for line in beside_a_bare_loop(root, real):
                print(line)


if __name__ == "__main__":
    main()
