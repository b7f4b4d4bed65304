"""Folders on the Hugging Face Hub: pushed as a repository, and read by their `hf://` address.

huggingface_hub speaks to the server: its login (`hf auth login`, or HF_TOKEN), its HF_ENDPOINT and
its cache are used as they are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from sia_gen.core.errors import UserError
from sia_gen.core.log import on_terminal
from sia_gen.core.store.paths import relative_name
from sia_gen.core.version import __version__

SCHEME = "hf"
TOOL = "sia-gen"
_KINDS = {"datasets": "dataset", "spaces": "space", "models": "model"}


def push(
    folder: Path,
    repository: str,
    kind: Literal["dataset", "model"],
    files: Sequence[str],
    *,
    public: bool = False,
) -> str:
    """Uploads what matches `files` (patterns) as one commit and returns the repository's address.

    The repository is made where there is none, private unless `public`; one that is there stays as
    visible as it is. UserError where the Hub refuses or cannot be reached.
    """
    from huggingface_hub import HfApi

    _bars()
    api = HfApi(library_name=TOOL, library_version=__version__)
    try:
        made = api.create_repo(repository, repo_type=kind, private=not public, exist_ok=True)
        api.upload_folder(
            repo_id=made.repo_id, folder_path=folder, repo_type=kind, allow_patterns=[*files],
            commit_message=f"Upload with {TOOL} {__version__}",
        )  # fmt: skip
    except (OSError, ValueError) as error:  # its HTTP errors are OSErrors, bad names ValueErrors
        raise UserError(f"{folder} was not pushed to {repository}: {_said(error)}") from error
    return str(made)


def snapshot(key: str) -> Path:
    """Returns a local folder with what lies below an address, given without its `hf://`.

    [datasets/]OWNER/NAME[@REVISION][/PATH]; it lies in huggingface_hub's cache, and what is there
    already is not fetched again.
    """
    from huggingface_hub import snapshot_download

    _bars()
    parts = key.strip("/").split("/")
    kind = _KINDS.get(parts[0], "model")
    parts = parts[1:] if parts[0] in _KINDS else parts
    if len(parts) < 2:
        raise UserError(f"{SCHEME}://{key}: expected {SCHEME}://[datasets/]OWNER/NAME[/PATH]")
    name, _, revision = parts[1].partition("@")
    below = str(relative_name("/".join(parts[2:]), f"{SCHEME}://{key}")) if parts[2:] else ""
    try:
        home = snapshot_download(
            f"{parts[0]}/{name}", repo_type=kind, revision=revision or None,
            allow_patterns=[f"{below}/**", below] if below else None,
            library_name=TOOL, library_version=__version__,
        )  # fmt: skip
    except (OSError, ValueError) as error:
        raise UserError(f"{SCHEME}://{key} cannot be read: {_said(error)}") from error
    found = Path(home) / below
    if not found.exists():
        raise UserError(f"{SCHEME}://{key} holds nothing: mend the address")
    return found


def _bars() -> None:
    """Lets its progress bars be seen by people only."""
    from huggingface_hub.utils import disable_progress_bars, enable_progress_bars

    (enable_progress_bars if on_terminal() else disable_progress_bars)()


def _said(error: Exception) -> str:
    """Returns an error's first sentences in one line: those of the Hub go over many."""
    text = " ".join(str(error).split())
    hint = ". Log in (`hf auth login`, or HF_TOKEN)" if re.search(r"\b40[13]\b", text) else ""
    return text[:300] + hint
