"""Virtual environments for the peers, made once, outside the repository.

torch comes first and alone, at the version that Finesmith itself runs with here: both sides must have the same kernels.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
SETS: dict[str, tuple[str, ...]] = {
    "peers": ("trl", "peft", "transformers", "accelerate", "datasets"),
    "litgpt": ("litgpt",),
}
"""Packages of each environment. LitGPT wants another huggingface_hub, so it has one of its own."""
FREE = {"litgpt"}
"""Environments whose packages do not fit constraints.txt; only torch is that of constraints.txt there."""


def default_folder() -> Path:
    """Where the environments live unless told otherwise: the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "finesmith-bench"


def python(folder: Path, name: str = "peers", *, install: bool = True) -> Path:
    """The interpreter of an environment; makes the environment where it is missing.

    Raises:
        SystemExit: it is missing and may not be installed.
    """
    place = folder / name
    interpreter, done = place / "bin" / "python", place / "installed"
    if done.exists():
        return interpreter
    if not install:
        raise SystemExit(f"There is no environment '{place}' for the peers, and --no-install was given.")
    place.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(place)], check=True)
    torch = f"torch=={version('torch').partition('+')[0]}"
    _pip(interpreter, [torch])
    _pip(interpreter, [torch, *SETS[name]], constrained=name not in FREE)
    done.write_text(_freeze(interpreter), encoding="utf-8")
    return interpreter


def _pip(interpreter: Path, packages: list[str], *, constrained: bool = True) -> None:
    constraints = ["--constraint", str(REPOSITORY / "constraints.txt")] if constrained else []
    words = [str(interpreter), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *constraints]
    print(f"installing into {interpreter.parents[1]}: {' '.join(packages)}", file=sys.stderr, flush=True)
    subprocess.run([*words, *packages], check=True)


def output(interpreter: Path, code: str) -> str:
    """What a line of Python prints in an environment."""
    return subprocess.run([str(interpreter), "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def _freeze(interpreter: Path) -> str:
    words = [str(interpreter), "-m", "pip", "freeze", "--disable-pip-version-check"]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout
