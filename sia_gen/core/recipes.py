"""Recipes: named sets of options in manifests/recipes; the command line overrides each one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from sia_gen.core.data.manifest import MANIFESTS
from sia_gen.core.errors import UserError, near_names

MAX_BYTES = 1_000_000


class _Loader(yaml.SafeLoader):
    """A safe loader that refuses a key given twice."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node)
        if key in seen:
            line = key_node.start_mark.line + 1
            raise UserError(f"line {line}: the key {key!r} is given twice")
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read_yaml(path: Path) -> dict[str, Any]:
    """Returns a YAML file as a dict; tags that build objects, doubled keys, lists: refused."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{path} is larger than {MAX_BYTES} bytes: this is no recipe")
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist") from error
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        detail = " ".join(str(error).split())
        raise UserError(f"{path} is not readable YAML: {detail}") from error
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
        raise UserError(f"recipe {path} has no section {section!r}: found {', '.join(content)}")
    return dict(content[section])
