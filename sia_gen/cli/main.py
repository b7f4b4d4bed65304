"""sia-gen: the table of its commands. Each lives in its own module and is imported when used."""

from __future__ import annotations

from sia_gen.core.commands import LazyGroup, run_group

COMMANDS = {
    "train": "Train a diffusion model on the normal images of a dataset.",
    "import": "Turn a public ADM checkpoint into a model folder.",
    "check": "Look through a dataset: what it is, its counts, every problem.",
    "preview": "Draw a contact sheet: normal images beside rising strengths.",
    "probe": "Measure images/s by batch size, before a long run.",
    "plan": "Show what a run would make, and write nothing.",
    "run": "Generate synthetic anomalies as shards; run again to resume.",
    "synthesize": "Write training pairs (image, mask, provenance) of one method as shards.",
    "status": "Show how far a run is, from its files alone.",
    "verify": "Check every byte of a run against its records.",
    "repair": "Make again exactly what verify condemns.",
    "retry": "Make the shards that were given up once more.",
    "pack": "Turn an existing folder of images into the same shards.",
    "push": "Upload a finished run or a model to the Hugging Face Hub.",
}

EXAMPLE = """\b
Example, on the embedded dataset with the shipped model:
  sia-gen run --per-category 60 --out runs/first
  sia-gen verify runs/first
  sia-gen preview --out sheet.png
"""


group = LazyGroup(
    "sia-gen",
    "sia_gen.cli",
    COMMANDS,
    {"plan": "run", **dict.fromkeys(("status", "verify", "repair", "retry"), "care")},
    about="Synthesise realistic anomalies from normal images only.",
    example=EXAMPLE,
)


def main() -> None:
    """Runs the command line."""
    run_group(group)
