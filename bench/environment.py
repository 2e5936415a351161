"""Virtual environments for the peers, made once, outside the repository.

torch comes first and alone, in the very build that Finesmith itself runs with here (2.13.0+cpu is not 2.13.0+cu130):
both sides must have the same kernels, and another build takes other memory. An environment with another is refused.
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
INDEX = "https://download.pytorch.org/whl"
"""Where the builds are that PyPI lacks, each below the local part of its version."""
FREE = {"litgpt"}
"""Environments whose packages do not fit constraints.txt; only torch is that of constraints.txt there."""


def default_folder() -> Path:
    """Where the environments live unless told otherwise: the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "finesmith-bench"


def python(folder: Path, name: str = "peers", *, install: bool = True) -> Path:
    """The interpreter of an environment; makes the environment where it is missing.

    Raises:
        SystemExit: it is missing and may not be installed; or its torch is another build than Finesmith's.
    """
    place = folder / name
    interpreter, done = place / "bin" / "python", place / "installed"
    if not done.exists():
        if not install:
            raise SystemExit(f"There is no environment '{place}' for the peers, and --no-install was given.")
        place.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(place)], check=True)
        torch = f"torch=={version('torch')}"
        _torch(interpreter, torch)
        _pip(interpreter, [torch, *SETS[name]], constrained=name not in FREE)
        done.write_text(_freeze(interpreter), encoding="utf-8")
    _same_build(place, interpreter)
    return interpreter


def _torch(interpreter: Path, torch: str) -> None:
    """From where pip looks anyway; a build with a local part that is not there, from PyTorch's own index."""
    try:
        _pip(interpreter, [torch])
    except subprocess.CalledProcessError:
        local = torch.partition("+")[2]
        if not local:
            raise
        _pip(interpreter, ["--extra-index-url", f"{INDEX}/{local}", torch])


def _same_build(place: Path, interpreter: Path) -> None:
    own, theirs = own_build(), output(interpreter, "import torch; print(torch.__version__)")
    if own != theirs:
        raise SystemExit(
            f"error: '{place}' has torch {theirs}, Finesmith runs with {own}: other kernels, and another peak memory. "
            f"Delete that folder, and it is made again; if that does not help, name an index that has {own} "
            "(PIP_EXTRA_INDEX_URL)."
        )


def own_build() -> str:
    """The torch of this process, with the local part, which the installer's number may lack: `2.13.0+cpu`."""
    import torch

    return str(torch.__version__)


def _pip(interpreter: Path, words: list[str], *, constrained: bool = True) -> None:
    constraints = ["--constraint", str(REPOSITORY / "constraints.txt")] if constrained else []
    install = [str(interpreter), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *constraints]
    print(f"installing into {interpreter.parents[1]}: {' '.join(words)}", file=sys.stderr, flush=True)
    subprocess.run([*install, *words], check=True)


def output(interpreter: Path, code: str) -> str:
    """What a line of Python prints in an environment."""
    return subprocess.run([str(interpreter), "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def _freeze(interpreter: Path) -> str:
    words = [str(interpreter), "-m", "pip", "freeze", "--disable-pip-version-check"]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout
