"""A plug-in is a file: the file's name is the plug-in's name, and the module ends with `PLUGIN = ...`.

`available(kind)` lists a folder without importing it, `resolve(kind, name)` imports one file. A dotted name
(`my_package.my_method`) reaches a file outside Finesmith, so no entry points are needed.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
from pathlib import Path
from typing import Any

from finesmith.errors import RecipeError, nearest

PACKAGES = {
    "tasks": "finesmith.tasks",
    "methods": "finesmith.methods",
    "formats": "finesmith.data.formats",
    "metrics": "finesmith.metrics",
    "baselines": "finesmith.baselines",
    "checks": "finesmith.checks",
    "measurements": "finesmith.measurements",
    "commands": "finesmith.cli",
}


def folder(kind: str) -> Path:
    """The folder of a kind's package, found without importing the plug-ins in it."""
    return Path(__file__).parent.joinpath(*PACKAGES[kind].split(".")[1:])


def available(kind: str) -> list[str]:
    """Names of the shipped plug-ins of a kind, sorted. Files named `base` or starting with `_` are not plug-ins."""
    names = (module.name for module in pkgutil.iter_modules([str(folder(kind))]) if not module.ispkg)
    return sorted(name for name in names if name != "base" and not name.startswith("_"))


def summary(kind: str, name: str) -> str:
    """The first line of a plug-in's docstring, read from the file and not imported (so `finesmith list` is fast)."""
    tree = ast.parse((folder(kind) / f"{name}.py").read_text(encoding="utf-8"))
    return (ast.get_docstring(tree) or "").partition("\n")[0]


def resolve(kind: str, name: str) -> Any:
    """The plug-in `name` of `kind`.

    Raises:
        RecipeError: no such plug-in; names the nearest one.
    """
    if "." in name.strip("."):
        return _outside(kind, name)
    if name not in available(kind):
        raise RecipeError(f"Unknown {kind.removesuffix('s')} '{name}'. {nearest(name, available(kind))}")
    return importlib.import_module(f"{PACKAGES[kind]}.{name}").PLUGIN


def _outside(kind: str, name: str) -> Any:
    try:
        return importlib.import_module(name).PLUGIN
    except ModuleNotFoundError as error:
        raise RecipeError(f"Cannot import the {kind.removesuffix('s')} '{name}': {error}.") from error
    except AttributeError as error:
        raise RecipeError(f"The module '{name}' has no PLUGIN, so it is not a {kind.removesuffix('s')}.") from error
