"""Public ADM checkpoints as folders: OpenAI's, and the RealNet authors' per-dataset ones.

A U-Net becomes a model folder, a guidance classifier a classifier folder (`--guidance`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DModel

from sia_gen.core.errors import UserError
from sia_gen.core.log import warn
from sia_gen.core.provenance import sha256_file, versions
from sia_gen.core.seeds import derive_seed
from sia_gen.core.store.files import new_folder, write_json
from sia_gen.diffusion import adm, adm_classifier, guidance_folder
from sia_gen.diffusion.model_folder import FACTS, SCHEMA, WEIGHTS
from sia_gen.diffusion.safe_pickle import find_state_dict, read_torch_file
from sia_gen.diffusion.scheduler import SDASScheduler

CLASS_EMBEDDING = "class_embedding.weight"


def _read(path: Path) -> dict[str, torch.Tensor]:
    content, ignored = read_torch_file(path)
    if ignored:
        names = ", ".join(ignored[:5])
        warn(f"{path}: objects of {names} are left unread")
    state = find_state_dict(content, path)
    for name, tensor in state.items():
        if not bool(torch.isfinite(tensor).all()):
            raise UserError(f"checkpoint {path}: {name} holds NaN or infinite values")
    return state


def _compare(expected: dict[str, torch.Tensor], found: adm.StateDict, path: Path) -> None:
    """Raises UserError that names every missing, unexpected and misshapen weight."""
    problems = [f"missing {name}" for name in expected if name not in found]
    problems += [f"unexpected {name}" for name in found if name not in expected]
    problems += [
        f"{name} has shape {tuple(found[name].shape)}, expected {tuple(expected[name].shape)}"
        for name in expected
        if name in found and found[name].shape != expected[name].shape
    ]
    if problems:
        raise UserError(f"checkpoint {path} does not fit its network: {'; '.join(problems)}")


def import_adm(
    path: Path,
    out: Path,
    *,
    dataset: str,
    classes: tuple[str, ...],
    resolution: int,
    head_channels: int = 64,
    seed: int = 0,
) -> Path:
    """Writes an ADM checkpoint as a folder and returns it: a model's, or a classifier's.

    A model's health is not measured. Where the number of its classes differs, the class embedding
    alone is made anew from `seed`: the model must then be trained further before its classes mean
    anything. A classifier of other classes would guide to nothing: it is refused.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"output {out} exists: give a new folder")
    if len(set(classes)) != len(classes) or not classes or not all(classes):
        raise UserError(f"classes {', '.join(classes) or '(none)'}: expected distinct names")
    state = _read(path)
    about = {"dataset": dataset, "classes": list(classes), "resolution": resolution}
    if adm_classifier.is_classifier(state):
        return _import_classifier(path, state, out, about, head_channels)
    return _import_unet(path, state, out, about, head_channels, seed)


def _check_heads(shape: adm.ADMShape, head_channels: int) -> None:
    """Raises UserError where a level with attention (the middle has it always) cannot be split."""
    attended = [w for w, a in zip(shape.widths, shape.attention, strict=True) if a]
    attended.append(shape.widths[-1])
    if any(width % head_channels for width in attended):
        raise UserError(
            f"--head-channels {head_channels} does not divide the widths of the levels with"
            f" attention: {', '.join(map(str, dict.fromkeys(attended)))}"
        )


def _origin(path: Path) -> dict[str, Any]:
    return {
        "imported_from": path.name,
        "imported_sha256": sha256_file(path),
        "versions": versions("torch", "diffusers"),
    }


def _import_classifier(
    path: Path, state: adm.StateDict, out: Path, about: dict[str, Any], head_channels: int
) -> Path:
    from sia_gen.diffusion.classifier import ADMClassifier

    resolution, classes = about["resolution"], about["classes"]
    shape = adm_classifier.read_shape(state, resolution)
    if shape.classes != len(classes):
        raise UserError(
            f"classifier {path} knows {shape.classes} classes, {len(classes)} are named: name its"
            " own in the order of its labels, --classes a,b,c"
        )
    _check_heads(shape, head_channels)
    arguments = adm_classifier.configuration(
        shape, resolution=resolution, head_channels=head_channels
    )
    converted = adm_classifier.convert(state, shape, head_channels=head_channels)
    network = ADMClassifier(**arguments)
    _compare(network.state_dict(), converted, path)
    network.load_state_dict({k: v.float() for k, v in converted.items()}, strict=True)
    with new_folder(out) as folder:
        network.save_pretrained(str(folder / guidance_folder.NETWORK))
        facts = {
            "schema": guidance_folder.SCHEMA,
            **about,
            "channels": shape.channels,
            "checkpoint_sha256": sha256_file(folder / guidance_folder.WEIGHTS),
            "training": _origin(path),
        }
        write_json(folder / guidance_folder.FACTS, facts)
    return out


def _import_unet(
    path: Path,
    state: adm.StateDict,
    out: Path,
    about: dict[str, Any],
    head_channels: int,
    seed: int,
) -> Path:
    classes = about["classes"]
    shape = adm.read_shape(state)
    _check_heads(shape, head_channels)
    configuration = adm.unet_configuration(
        shape, resolution=about["resolution"], head_channels=head_channels
    )
    converted = adm.convert(state, head_channels=head_channels)
    renewed = shape.classes != len(classes)
    if renewed:
        width = converted[CLASS_EMBEDDING].shape[1]
        random = torch.Generator().manual_seed(derive_seed(seed, "class-embedding"))
        converted[CLASS_EMBEDDING] = torch.randn((len(classes), width), generator=random)
        warn(
            f"{path} knows {shape.classes} classes, {len(classes)} are wanted: the class"
            " embedding is new; train the model before generating (sia-gen train --init)"
        )
    with torch.device("meta"):
        network = UNet2DModel(**{**configuration, "num_class_embeds": len(classes)})
    _compare(network.state_dict(), converted, path)
    network.load_state_dict({k: v.float() for k, v in converted.items()}, strict=True, assign=True)
    with new_folder(out) as folder:
        network.save_pretrained(str(folder / "unet"))
        SDASScheduler().save_pretrained(str(folder / "scheduler"))
        facts = {
            "schema": SCHEMA,
            **about,
            "channels": shape.channels,
            "patch": 1,
            "checkpoint_sha256": sha256_file(folder / WEIGHTS),
            "training": {
                **_origin(path),
                "class_embedding_renewed": renewed,
            },
        }
        write_json(folder / FACTS, facts)
    return out
