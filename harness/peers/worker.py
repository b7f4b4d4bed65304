"""One cell in a process of its own: `python -m harness.peers.worker CELL`.

Reads CELL/spec.json, trains the peer on normal images, scores the test images, publishes
CELL/scores and, last of all, CELL/result.json. A process that dies before leaves no result.
"""

from __future__ import annotations

import json
import logging
import math
import os
import random
import sys
import time
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from sia_gen.core.errors import run_command

PASS = 8  # test images scored at a time


def seed_everything(seed: int) -> None:
    """Seeds every generator that a model of another project may draw from."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  (others' code draws from it)
    torch.manual_seed(seed)


def train(module: Any, spec: dict[str, Any], normals: Any, folder: Path, device: str) -> int:
    """Trains a peer by Lightning with its own hooks and optimisers; returns the optimiser steps.

    Models that fit a memory see every image as often as they need, the others train for the steps
    asked for.
    """
    from anomalib.models.components import MemoryBankMixin
    from lightning.pytorch import Trainer

    from harness.peers.batches import Normal

    memory = isinstance(module, MemoryBankMixin)
    batch = min(int(spec["batch"]), len(normals))
    data = Normal(normals, batch=batch, seed=int(spec["seed"]), shuffle=not memory)
    steps = int(spec["steps"])
    own = dict(module.trainer_arguments)
    length = {"max_epochs": int(own.pop("max_epochs", 1))}
    own.pop("max_steps", None)
    if not memory:
        length["max_epochs"] = math.ceil(steps / len(data.train_dataloader()))
        # Hand-made optimisation takes several steps a batch: there, batches are counted.
        if module.automatic_optimization:
            length["max_steps"] = steps
    seen = _count_batches(module, None if memory else steps)
    fixed = {
        "accelerator": "gpu" if device == "cuda" else "cpu",
        "devices": 1,
        "limit_val_batches": 0,
        "num_sanity_val_steps": 0,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "default_root_dir": str(folder),
    }
    trainer = Trainer(**{**own, **length, **fixed})
    trainer.fit(module, datamodule=data)
    if memory and not bool(module._is_fitted):
        module.fit()
    return 0 if memory else len(seen)


def _count_batches(module: Any, limit: int | None) -> list[int]:
    """Returns a list that grows by one a training batch; training stops once it has `limit`."""
    original, seen = module.on_train_batch_end, []

    def hook(outputs: Any, batch: Any, batch_idx: int) -> None:
        original(outputs, batch, batch_idx)
        seen.append(batch_idx)
        if len(seen) % 20 == 0:
            print(f"{len(seen)} batches", flush=True)
        if limit is not None and len(seen) >= limit:
            module.trainer.should_stop = True

    module.on_train_batch_end = hook
    return seen


def score(module: Any, category: Any, size: int, device: str) -> tuple[Any, Any, float, str]:
    """Returns maps (N, H, W), the model's own image scores (N,) or None, seconds, and a remark."""
    import numpy as np
    import torch

    from harness.peers.batches import as_tensor
    from harness.peers.weights import NeedsError
    from sia_gen.core.errors import UserError

    module.eval().to(device)
    prepare = module.pre_processor.transform if module.pre_processor else None
    maps, owns, seconds, remark = [], [], 0.0, ""
    for start in range(0, len(category.test), PASS):
        part = category.test[start : start + PASS]
        images = as_tensor(np.stack([category.read_image(e.path, size) for e in part])).to(device)
        began = time.perf_counter()
        with torch.no_grad():
            found = module.model(prepare(images) if prepare else images)
        drawn = getattr(found, "anomaly_map", None)
        if drawn is None:
            raise NeedsError("a map of each image: this model gives image scores only")
        drawn = drawn.reshape(len(part), 1, *drawn.shape[-2:]).float()
        if drawn.shape[-2:] != (size, size):
            remark = f"maps of {drawn.shape[-1]} x {drawn.shape[-2]} enlarged bilinearly"
            drawn = torch.nn.functional.interpolate(
                drawn, (size, size), mode="bilinear", align_corners=False
            )
        maps.append(drawn[:, 0].cpu().numpy().astype(np.float32))
        if getattr(found, "pred_score", None) is not None:
            owns.append(found.pred_score.reshape(-1).float().cpu().numpy())
        seconds += time.perf_counter() - began
        print(f"scored {start + len(part)} of {len(category.test)}", flush=True)
    if any(not np.isfinite(values).all() for values in owns):
        raise UserError("the model's own image scores hold NaN or infinite values")
    own = np.concatenate(owns) if sum(map(len, owns)) == len(category.test) else None
    return np.concatenate(maps), own, seconds, remark


def peak_mib(device: str) -> int:
    """Returns the process's largest resident memory in MiB, or the GPU's where one is used."""
    if device == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated() / 2**20)
    from sia_gen.core import memory

    return int(memory.peak()["host"] / 2**20)


def scores_of(spec: dict[str, Any], folder: Path) -> Any:
    """Returns the cell's scores, trained and measured as its description says."""
    import numpy as np
    import torch

    from detector import scorefile
    from harness.peers import batches, catalog
    from harness.peers.build import build
    from harness.peers.catalog import PRETRAINED
    from harness.peers.weights import no_network
    from sia_gen.core.data.dataset import open_dataset

    (peer,) = [p for p in catalog.peers() if p.name == spec["model"]]
    category = open_dataset(spec["data"], spec.get("value_range")).one(spec["category"])
    device = str(spec["device"])
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    size, seed = int(spec["size"]), int(spec["seed"])
    seed_everything(seed)
    paths = list(category.train)
    if spec["train_images"] and spec["train_images"] < len(paths):
        kept = np.random.default_rng(seed).permutation(len(paths))[: spec["train_images"]]
        paths = [paths[i] for i in sorted(kept)]
    with ExitStack() as stack:
        if spec["paths"]["weights"] != PRETRAINED:
            stack.enter_context(no_network())
        module, given = build(peer, spec, stack)
        normals = batches.Normals(paths, size, category.value_range)
        print(f"training on {len(paths)} normal images", flush=True)
        began, used = time.perf_counter(), time.process_time()
        steps = train(module, spec, normals, folder, device)
        trained, used = time.perf_counter() - began, time.process_time() - used
        print(f"trained in {trained:.1f} s", flush=True)
        maps, own, seconds, remark = score(module, category, size, device)
    empty = np.zeros((size, size), dtype=np.bool_)
    drawn = [e.read_mask(size) for e in category.test]
    items = []
    for i, example in enumerate(category.test):
        items.append({
            "path": str(example.path), "defect": example.defect, "anomalous": example.anomalous,
            "has_mask": example.mask is not None, **scorefile.image_scores(maps[i]),
            **({"score_own": float(own[i])} if own is not None else {}),
        })  # fmt: skip
    facts = {
        "seed": seed,
        "train_images": len(paths),
        "train_seconds": round(trained, 1),
        "train_cpu_seconds": round(used, 1),
        "images_per_second": round(len(items) / max(seconds, 1e-9), 2),
        "peak_memory_mib": peak_mib(device),
        "scoring_device": device,
        "threads": torch.get_num_threads(),
        "steps": steps,
        "arguments": given,
        **({"maps": remark} if remark else {}),
        **({"value_range": list(category.value_range)} if category.value_range else {}),
    }
    return scorefile.Scores(
        category=category.key,
        maps_NHW=maps,
        masks_NHW=np.stack([empty if m is None else m for m in drawn]).astype(np.uint8),
        items=items,
        protocol=dict(spec["protocol"]),
        run=facts,
    )


def run(folder: Path) -> None:
    """Runs the cell of a folder and writes its result."""
    from detector import scorefile
    from sia_gen.core.store.files import read_json, write_json

    warnings.simplefilter("ignore")  # others' deprecations are not for the reader of this log
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    spec = read_json(folder / "spec.json")
    from harness.peers.weights import NeedsError

    try:
        scores = scores_of(spec, folder)
    except NeedsError as error:
        write_json(folder / "result.json", {"state": "not run", "reason": f"needs {error}"})
        return
    scorefile.write(folder / "scores", scores)
    write_json(folder / "result.json", {"state": "done", **scores.run})
    print(json.dumps(scores.run))


def main() -> None:
    """Runs the worker's command line."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    run_command(lambda: run(Path(sys.argv[1])))


if __name__ == "__main__":
    main()
