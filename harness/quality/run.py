"""Quality of synthetic anomaly images: how real, how different, and whether they are copies.

FID, KID, density and coverage against real anomalies; clustered LPIPS; memorisation of training
images, with the closest pairs as pictures; KID by strength. Three comparisons a category, so that
a number has something to stand beside:

    fid@NET            synthetic images against the real anomalous test images (Appendix C.6)
    fid_to_normal@NET  synthetic images against the held-out normal test images
    fid_reference@NET  training normals against the held-out normals: what two sets of real images
                       of nearly the same numbers differ by, the floor of the other two
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from harness import metrics, records
from harness.measure.detection import category_kind
from harness.quality import strength
from harness.quality.features import FeatureNetwork, open_network
from harness.quality.metrics import distances, diversity, nearest_pictures, pooled
from harness.quality.origin import origin, tars_of
from harness.quality.sets import Options, gather
from harness.records import Record
from sia_gen.core.data.category import Category, as_recorded
from sia_gen.core.data.dataset import open_dataset
from sia_gen.core.errors import UserError
from sia_gen.core.provenance import hash_options, sha256_file, versions
from sia_gen.core.store.made_from import made_from
from sia_gen.streams.addresses import as_place


def measure(
    shards: str,
    category: Category,
    networks: list[FeatureNetwork],
    options: Options,
    results: Path | None = None,
) -> Record:
    """Returns the quality record of one category; with `results`, pictures are published there."""
    tars = tars_of(shards, category, stream=options.stream)
    sets = gather(tars, category, options)
    made = origin(shards, tars, options.source)
    found: dict[str, Any] = {}
    counts = {
        "synthetic": len(sets.chosen),
        "real_anomalous": len(sets.anomalous),
        "held_out_normal": len(sets.held_out),
        "train_normal": len(sets.thinned),
    }
    artifacts: dict[str, Any] = {"shards": _absolute(shards), "strength": []}
    pictures: list[tuple[dict[str, Any], bytes]] = []
    for network in networks:
        if network.pool is not None:
            features = pooled(network, sets)
            found |= distances(network, features)
            artifacts["strength"] += strength.curve(
                sets.strengths(), features.synthetic, features.anomalous, features.held_out,
                network.name,
            )  # fmt: skip
            pictures += nearest_pictures(network, sets, features)
        if network.embedding is not None:
            values, clusters = diversity(network, sets)
            found |= values
            counts |= clusters
    if results is not None:
        artifacts["nearest"] = [
            {"file": records.write_example(results, jpeg), **facts} for facts, jpeg in pictures
        ]
    protocol = made.shaping | {
        "networks": {network.name: network.weights_sha256 for network in networks},
        "normalisation": {network.name: network.normalisation for network in networks},
        "image_size": sets.size,
    }
    if options.value_range is not None:
        protocol["value_range"] = list(options.value_range)
    return {
        "schema": records.SCHEMA,
        "kind": "quality",
        "dataset": category.dataset,
        "category": category.name,
        "category_kind": category_kind(category.dataset, category.name),
        "method": made.source,
        "source": made.source,
        "seed": made.seed,
        "protocol": protocol,
        "run": made.hashes | ({"value_range": list(sets.value_range)} if sets.value_range else {}),
        "metrics": found,
        "counts": counts,
        "notes": notes(counts, networks),
        "artifacts": artifacts,
        "code": versions("numpy", "scipy", "torch", "timm", "lpips", "torch-fidelity"),
        "created": records.now(),
    }


def _absolute(shards: str) -> str:
    place = as_place(shards)
    return str(place.resolve()) if isinstance(place, Path) else shards


def notes(counts: dict[str, int], networks: list[FeatureNetwork]) -> list[str]:
    """Returns what a reader must know before comparing these numbers with others."""
    said = []
    n, m = counts["synthetic"], counts["real_anomalous"]
    said.append(
        f"FID of {n} against {m} images: compare it only with FIDs of the same numbers; KID does"
        " not depend on them"
    )
    if counts["train_normal"] != n:
        said.append(
            f"the reference has {counts['train_normal']} training images, the synthetic set {n}:"
            " their FIDs are not of equal N"
        )
    for network in networks:
        if network.name == "tiny-random":
            said.append("tiny-random is a random network: its figures are no measure of quality")
        key = f"clusters_used@{network.name}"
        if key in counts:
            single = counts[f"clusters_skipped_single@{network.name}"]
            empty = counts[f"clusters_skipped_empty@{network.name}"]
            said.append(
                f"clustered LPIPS ({network.name}) over {counts[key]} clusters; skipped with fewer"
                f" than two images: {single + empty}"
            )
    return said


def run(
    shards: Path | str,
    data: str,
    categories: str,
    networks: list[tuple[str, str | None]],
    results: Path,
    options: Options,
    tell: Callable[[str], None] = lambda _: None,
) -> list[Record]:
    """Measures categories and returns their records; those already measured are read back.

    Everything is opened and checked before the first measurement, and a record is written as soon
    as its category is measured, so that an interrupted run goes on where it stopped.
    """
    if results.exists() and not results.is_dir():
        raise UserError(f"--out {results} is a file: give a folder for result records")
    if options.image_size is not None and options.image_size < 8:
        raise UserError(f"--resolution {options.image_size}: expected at least 8 pixels")
    chosen = open_dataset(data, options.value_range).select(categories)
    place = as_place(str(shards))
    if place is not None and (made_of := made_from(place)):
        chosen = as_recorded(chosen, made_of.value_ranges)
    inputs = {}
    for category in chosen:
        tars = tars_of(str(shards), category, stream=options.stream)
        if len(chosen) > 1 and not all(tars.records):
            raise UserError(
                f"{shards}: nothing says which category its images are of: name one with"
                " --categories"
            )
        made = origin(str(shards), tars, options.source)
        inputs[category.key] = [made.source, made.hashes["shards_sha256"]]
    opened = [open_network(name, weights) for name, weights in networks]
    known = [r for _, r in records.find([results], empty=True) if r["kind"] == "quality"]
    done = []
    for category in chosen:
        key = _fingerprint(category, inputs[category.key], opened, options)
        old = next((r for r in known if r["run"].get("inputs_sha256") == key), None)
        if old is not None:
            tell(f"{category.key}: measured before")
            done.append(old)
            continue
        record = measure(str(shards), category, opened, options, results)
        record["run"]["inputs_sha256"] = key
        records.write(results, record)
        tell(f"{category.key}: measured {record['counts']['synthetic']} synthetic images")
        done.append(record)
    return done


def _fingerprint(
    category: Category, inputs: list[str], networks: list[FeatureNetwork], options: Options
) -> str:
    used = metrics.of_kind("quality")
    compared = [m for m in used if m.takes == "features"]
    versions_used = [m.version for m in (*compared, *(m for m in used if m.stream is not None))]
    real = [*category.train, *(e.path for e in category.test)]
    known = [list(category.value_range)] if category.value_range else []
    return hash_options([
        *known,
        category.key,
        inputs,
        [[n.name, n.weights_sha256, n.normalisation] for n in networks],
        [options.image_size, options.source, options.limit],
        [str(np.__version__), [m.name for m in compared], versions_used],
        [[str(p.relative_to(category.root)), sha256_file(p)] for p in real],
    ])  # fmt: skip
