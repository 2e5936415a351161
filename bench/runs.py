"""Runs of Finesmith that are made once, each by a process of its own: a finished one is taken, a stopped one goes on.

A run's folder is OUT/NAME-KEY. The key comes from the words of the command and from the content of the files in it, so
that other settings, and another model or other rows in the same place, make another run.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

PROGRAM = (sys.executable, "-m", "finesmith")
STOPPED = 130
"""What the command line ends with after Ctrl-C."""
WITHOUT_EFFECT = {".md"}
"""Endings of files that change nothing in a run: a card may be written into a model folder later."""


def finished(name: str, words: Sequence[str | Path], out: Path) -> Path:
    """The folder of the finished run `finesmith tune WORDS`: as it lies there, gone on with, or made now.

    Args:
        name: what the folder's name begins with.
        words: the source, options and settings, but no --out. A Path stands for what is in it.
        out: the folder of the runs; each has its log beside it.

    Raises:
        SystemExit: the run failed, or was stopped with Ctrl-C (it has saved its state, and the same call goes on).
    """
    folder = out / f"{name}-{key(words)}"
    if (folder / "evidence.json").exists():
        return folder
    begun = (folder / "recipe.yaml").exists()
    command = ["resume", str(folder)] if begun else ["tune", *map(str, words), "--out", str(folder)]
    log = folder.with_name(f"{folder.name}.log")
    out.mkdir(parents=True, exist_ok=True)
    print(f"{command[0]} {folder} (log: {log})", file=sys.stderr, flush=True)
    with (
        log.open("a", encoding="utf-8") as file,
        subprocess.Popen([*PROGRAM, *command], stdout=file, stderr=file) as it,
    ):
        try:
            code = it.wait()
        except KeyboardInterrupt:
            code = it.wait() or STOPPED  # it was stopped too, and has saved its state
    if code == STOPPED:
        raise SystemExit(f"stopped; the same command goes on with {folder}")
    if code:
        last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-2:]
        raise SystemExit(f"error: finesmith {command[0]} ended with {code}: {' '.join(last)} (all of it: {log})")
    return folder


def key(words: Sequence[str | Path]) -> str:
    """Eight hexadecimal digits of what a run is asked."""
    asked = [content(word) if isinstance(word, Path) else word for word in words]
    return hashlib.sha256("\0".join(asked).encode()).hexdigest()[:8]


def content(path: Path) -> str:
    """The SHA-256 of a file, or of all files in a folder with their names; where it lies does not count.

    Raises:
        SystemExit: there is nothing.
    """
    if not path.exists():
        raise SystemExit(f"error: there is no '{path}'.")
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    digest = hashlib.sha256()
    for file in (file for file in files if file.suffix not in WITHOUT_EFFECT):
        with file.open("rb") as stream:
            own = hashlib.file_digest(stream, "sha256").hexdigest()
        digest.update(f"{file.relative_to(path).as_posix()}\0{own}\n".encode())
    return digest.hexdigest()
