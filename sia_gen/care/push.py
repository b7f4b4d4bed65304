"""A finished run or a model as a repository of the Hugging Face Hub, with its card."""

from __future__ import annotations

from pathlib import Path

from sia_gen.care import status
from sia_gen.core.errors import IncompleteError, UserError
from sia_gen.core.store import hub
from sia_gen.core.store.files import write_bytes
from sia_gen.core.text import markdown
from sia_gen.diffusion.model_folder import FACTS, ModelFacts, describe
from sia_gen.runs import folder as runs

CARD = "README.md"
# What a run needs to be read, checked and made again; no locks, claims and failures.
RUN_FILES = (
    runs.NAME, runs.FORMER, CARD, "card/*", "shards/**/*.tar", "shards/**/*.json",
    "index.json", "wids.json", "sizes.json", "croissant.json",
)  # fmt: skip
MODEL_FILES = (CARD, FACTS, "unet/*", "scheduler/*", "model_index.json")


def push(folder: Path, repository: str, *, public: bool = False) -> str:
    """Uploads a run folder as a dataset or a model folder as a model, and returns the address.

    A model gets a card unless it has one. IncompleteError for a run that lacks shards.
    """
    if (folder / FACTS).is_file():
        card = folder / CARD
        if not card.is_file():
            write_bytes(card, model_card(describe(folder), repository).encode())
        return hub.push(folder, repository, "model", MODEL_FILES, public=public)
    if not runs.document_path(folder).is_file():
        raise UserError(f"{folder} is neither a run (run.json) nor a model ({FACTS})")
    state = status.read(folder)
    if state["state"] != "complete":
        raise IncompleteError(
            f"{folder} is {state['state']}, {state['shards_done']} of {state['shards']} shards are"
            " done: the command that began it finishes it"
        )
    return hub.push(folder, repository, "dataset", RUN_FILES, public=public)


def model_card(facts: ModelFacts, repository: str) -> str:
    """Returns the model card: what the model knows, how good it is, how it is used."""
    names = ", ".join(markdown(name) for name in facts.classes[:40])
    verdict = {True: "passed", False: "failed", None: "was never measured"}[
        facts.health.get("passed")
    ]
    return f"""---
library_name: diffusers
license: other
pipeline_tag: unconditional-image-generation
tags:
- anomaly-detection
- synthetic
---

# A diffusion model of normal images: {markdown(facts.dataset)}

{len(facts.classes)} categories ({names}), {facts.resolution} x {facts.resolution} pixels,
{facts.channels} channel{"s" * (facts.channels > 1)}, trained by `sia-gen` on normal images only.
Its health check {verdict}. With strength-controllable noise (SDAS, RealNet, CVPR 2024) it makes
anomalies of a chosen strength:

    sia-gen run --model hf://{repository} --data DATA --s-range 0.1 0.2 --out runs/sia

SHA-256 of the weights: `{facts.checkpoint_sha256}`. The licence is that of the normal images.
"""
