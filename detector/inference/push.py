"""A trained detector as a repository of the Hugging Face Hub, with its card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from detector import checkpoint
from detector import run_folder as runfolder
from detector.inference.info import describe
from detector.threshold import decide
from sia_gen.core.store import hub
from sia_gen.core.store.files import write_bytes
from sia_gen.core.text import markdown, printable

CARD = "README.md"
FALSE_ALARMS = 0.05  # of the threshold that the card tells


def push(folder: Path, repository: str, *, public: bool = False) -> str:
    """Uploads a checkpoint (not what it was trained from) as a model, and returns the address.

    It gets a card unless it has one. UserError where it is no finished training.
    """
    facts = checkpoint.read_facts(folder)
    if not (folder / CARD).is_file():
        write_bytes(folder / CARD, card(facts, repository).encode())
    files = (runfolder.DOCUMENT, runfolder.WEIGHTS, CARD)
    return hub.push(folder, repository, "model", files, public=public)


def card(facts: dict[str, Any], repository: str) -> str:
    """Returns the model card: what it was trained on, its threshold, how it is used."""
    decision = decide(facts, None, FALSE_ALARMS)
    about = printable(describe(facts), lines=True).replace("```", "")
    return f"""---
library_name: sia-gen
license: other
pipeline_tag: image-segmentation
tags:
- anomaly-detection
---

# An anomaly detector for {markdown(facts["category"])}

Trained on normal images and synthetic anomalies. An image is anomalous above
{decision.threshold:.4g} ({decision.image_score}; from {decision.origin}).

    detector predict photos/ --model hf://{repository} --out runs/answers

    from detector import Detector
    Detector.load("hf://{repository}").predict("photo.jpg")

```
{about}
```

The licence is that of the backbone and of the normal images.
"""
