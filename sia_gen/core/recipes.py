"""Recipes: named sets of options in manifests/recipes; the command line overrides each one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sia_gen.core.data.manifest import MANIFESTS
from sia_gen.core.errors import UserError, near_names
from sia_gen.core.store.documents import MAX_YAML_BYTES, parse_yaml, read_limited


def read_yaml(path: Path) -> dict[str, Any]:
    """Returns a YAML file as a dict; tags that build objects, doubled keys, lists: refused."""
    try:
        content = parse_yaml(read_limited(path, MAX_YAML_BYTES).decode("utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist") from error
    except UserError as error:
        raise UserError(f"{path} is not readable YAML: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not readable YAML: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected named options, found {type(content).__name__}")
    return content


def read_recipe(name_or_path: str, section: str) -> dict[str, Any]:
    """Returns one section of a recipe: a shipped one by its name, or a YAML file by its path."""
    folder = MANIFESTS / "recipes"
    path = Path(name_or_path)
    if path.suffix not in {".yaml", ".yml"}:
        path = folder / f"{name_or_path}.yaml"
        if not path.is_file():
            known = sorted(p.stem for p in folder.glob("*.yaml"))
            raise UserError(f"recipe {name_or_path!r} is unknown.{near_names(name_or_path, known)}")
    content = read_yaml(path)
    if section not in content:
        there = ", ".join(map(str, content))
        raise UserError(f"recipe {path} has no section {section!r}: found {there}")
    found = content[section]
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise UserError(f"recipe {path}: section {section!r} holds no named options")
    return dict(found)
