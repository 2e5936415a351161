"""A plug-in is a file: the file's name is the plug-in's name, and the module ends with `PLUGIN = ...`.

`available(kind)` lists a folder without importing it, `resolve(kind, name)` imports one file. A dotted name
(`my_package.my_method`) of a task or a method reaches a file outside Finesmith, so no entry points are needed; where it
stands in a run that may have come from anybody, `require_trust` comes before.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finesmith.errors import RecipeError, RunError, nearest

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
DOTTED = ("tasks", "methods")
"""Kinds whose plug-ins may stand outside Finesmith: a recipe names them, nothing else that is read does."""


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
    if kind in DOTTED and _dotted(name):
        return _imported(kind, name)
    if name not in available(kind):
        raise RecipeError(f"Unknown {kind.removesuffix('s')} '{name}'. {nearest(name, available(kind))}")
    return importlib.import_module(f"{PACKAGES[kind]}.{name}").PLUGIN


def outside(values: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Kind and dotted name of the plug-ins outside Finesmith that a recipe, or a model folder's card, names."""
    named = [(kind, values.get(kind[:-1])) for kind in DOTTED]
    return tuple((kind, name) for kind, name in named if isinstance(name, str) and _dotted(name))


def require_trust(values: Mapping[str, Any], path: str | Path, trusted: bool) -> None:
    """Whether the plug-ins outside Finesmith that a run names may be imported, which runs their code: a folder may have
    come from anybody. What this process has imported already has run.

    Raises:
        RunError: one is named, and that was not asked for.
    """
    new = [f"{kind[:-1]} '{name}'" for kind, name in outside(values) if name not in sys.modules]
    if new and not trusted:
        raise RunError(
            f"'{path}' names the {' and the '.join(new)}: Python code outside Finesmith, which would be run.",
            hint="If you trust it, add --trust-remote-code (Python: trust_remote_code=True, or finesmith.recipe.load).",
        )


def _dotted(name: str) -> bool:
    return "." in name.strip(".")


def _imported(kind: str, name: str) -> Any:
    try:
        return importlib.import_module(name).PLUGIN
    except ModuleNotFoundError as error:
        raise RecipeError(f"Cannot import the {kind.removesuffix('s')} '{name}': {error}.") from error
    except AttributeError as error:
        raise RecipeError(f"The module '{name}' has no PLUGIN, so it is not a {kind.removesuffix('s')}.") from error
