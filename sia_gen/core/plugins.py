"""A plugin is a module: one file in a package, found by its name."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from sia_gen.core.errors import UserError, near_names


def names(package: ModuleType) -> list[str]:
    """Returns the plugin names of a package: its public modules, sorted."""
    return sorted(m.name for m in pkgutil.iter_modules(package.__path__) if m.name[0] != "_")


def load(package: ModuleType, name: str) -> ModuleType:
    """Imports one plugin; an unknown name lists the known ones, an import error is raised."""
    module = name.replace("-", "_")
    if module not in names(package):
        known = names(package)
        message = (
            f"{package.__name__.split('.')[-1]}: {name!r} is unknown.{near_names(name, known)}"
        )
        raise UserError(message)
    return importlib.import_module(f"{package.__name__}.{module}")
