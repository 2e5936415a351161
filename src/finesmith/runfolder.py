"""A run on disk: its layout, and the only code that reads or writes it.

recipe.yaml      what was asked, complete                splits.json   row ids of each part, and their hash
manifest.json    versions, hashes, device, durations     steps.jsonl   one line a step or evaluation
rejected.jsonl   rows that could not be used             predictions/  one file a system, test rows
model/           the result in the standard layout       checkpoint/   state to go on from; removed at the end
evidence.json    written last: its presence means the run is finished
README.md        the model card

Every file is written under a temporary name and then renamed; one process at a time holds `lock` (locking.py).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

from finesmith import replacing
from finesmith.errors import RunError, nearest
from finesmith.locking import Lock

CARD = "finesmith.json"
"""In a model folder: what Finesmith needs to load it again."""
ABSTAIN = "abstain.json"
"""In a model folder: when the model gives no answer (measured by `finesmith compare`)."""


class RunFolder:
    """A run's folder. Open it with `create`, `reopen`, `changing` (they take the lock) or `RunFolder(path)` to read."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock_file = Lock(self.path / "lock")
        self._made: list[Path] = []

    @classmethod
    def create(cls, path: str | Path) -> Self:
        """A new run folder, locked.

        Raises:
            RunError: the folder holds another run or other files, or cannot be made.
        """
        folder = cls(path)
        if folder.path.is_file():
            raise RunError(f"'{path}' is a file; a run needs a folder.", hint="Choose another folder with --out.")
        if folder.path.exists() and any(place.name != "lock" for place in folder.path.iterdir()):
            raise RunError(f"'{path}' {folder._describe()}", hint=folder._way_out())
        folder._made = [place for place in (folder.path, *folder.path.parents) if not place.exists()]
        with replacing.writing(folder.path):
            folder.path.mkdir(parents=True, exist_ok=True)
        folder._lock(otherwise=", or choose another folder with --out")
        return folder

    @classmethod
    def reopen(cls, path: str | Path) -> Self:
        """An unfinished run, locked, to go on with.

        Raises:
            RunError: there is no run, or it is finished, or another process has it.
        """
        folder = cls(path)
        folder.require("recipe.yaml")
        if folder.finished:
            raise RunError(f"The run '{path}' is finished.", hint=f"See it with: finesmith show {path}")
        folder._lock()
        return folder

    @classmethod
    @contextmanager
    def temporary(cls) -> Iterator[Self]:
        """A run folder that goes away, for a training that is only measured."""
        with TemporaryDirectory(prefix="finesmith-") as place:
            folder = cls.create(f"{place}/run")
            try:
                yield folder
            finally:
                folder.release()

    @classmethod
    @contextmanager
    def changing(cls, path: str | Path) -> Iterator[Self]:
        """A finished run, locked for as long as it lasts, to add to it or to change what it delivers.

        Raises:
            RunError: there is no run, or it is not finished, or another process has it.
        """
        folder = cls(path)
        folder.require("evidence.json")
        folder._lock()
        try:
            yield folder
        finally:
            folder.release()

    @property
    def finished(self) -> bool:
        """Whether the evidence has been written."""
        return (self.path / "evidence.json").exists()

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of the lock: that the file system has none."""
        return (self._lock_file.note,) if self._lock_file.note else ()

    def file(self, name: str) -> Path:
        """The path of a file in the run."""
        return self.path / name

    def exist(self) -> Self:
        """The folder itself, which must be there.

        Raises:
            RunError: it is not; names the nearest one.
        """
        if self.path.is_dir():
            return self
        around = self.path.parent
        others = [str(place) for place in around.iterdir() if place.is_dir()] if around.is_dir() else []
        meant = nearest(str(self.path), others)
        raise RunError(f"There is no run folder '{self.path}'. {meant}".strip(), hint="`finesmith tune` makes one.")

    def require(self, name: str) -> Path:
        """The path of a file that must be there.

        Raises:
            RunError: it is not.
        """
        if not self.exist().file(name).exists():
            if self.finished:
                raise RunError(f"The finished run '{self.path}' is not whole: it has no {name}.")
            if holder := self._lock_file.holder():
                raise RunError(f"'{self.path}' is running: {self._progress()}{holder}.")
            begun = self.file("recipe.yaml").exists()
            state = "has not finished" if begun else "is not a run"
            hint = f"Go on with it: finesmith resume {self.path}" if begun else self._whose()
            raise RunError(f"'{self.path}' {state}: it has no {name}.", hint=hint)
        return self.file(name)

    def write_text(self, name: str, text: str) -> None:
        """Writes a text file in one piece."""
        self.write_with(name, lambda path: path.write_text(text, encoding="utf-8", newline=""))

    def write_json(self, name: str, value: Any) -> None:
        """Writes plain values as JSON."""
        self.write_text(name, json.dumps(value, indent=2, ensure_ascii=False) + "\n")

    def write_lines(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Writes rows as JSONL."""
        self.write_text(name, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))

    def write_with(self, name: str, write: Callable[[Path], Any]) -> None:
        """Lets `write` make a file or folder under a temporary name and renames it when it is complete.

        Raises:
            RunError: the disk is full or the place cannot be written; what was there stays, and nothing half-written.
        """
        replacing.put(self.file(name), write)

    def copy(self, name: str, to: str) -> None:
        """Copies a folder of the run."""
        self.write_with(to, lambda path: shutil.copytree(self.file(name), path))

    def append(self, name: str, row: Mapping[str, Any]) -> None:
        """Adds one line to a JSONL log."""
        with replacing.writing(self.file(name)), self.file(name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def read_json(self, name: str) -> Any:
        """Plain values from a JSON file of the run.

        Raises:
            RunError: it is not there, or damaged.
        """
        return self._parsed(name, self.require(name).read_bytes())

    def read_text(self, name: str) -> str:
        """A text file of the run.

        Raises:
            RunError: it is not there, or not UTF-8.
        """
        try:
            return self.require(name).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise RunError(
                f"{self.file(name)} is not UTF-8 text: byte {error.start + 1:,} is {error.object[error.start]:#04x}.",
                hint="Save it as UTF-8, then do this again.",
            ) from error

    def read_lines(self, name: str) -> Iterator[dict[str, Any]]:
        """Rows of a JSONL file of the run.

        Raises:
            RunError: it is not there, or damaged.
        """
        with self.require(name).open("rb") as file:
            for number, line in enumerate(file, start=1):
                yield self._parsed(f"{name}:{number}", line)

    def cut_steps(self, last: int) -> list[dict[str, Any]]:
        """Removes log lines after a step, so that a resumed run does not log it twice; returns those that are left."""
        rows = [row for line in self._logged() if (row := json.loads(line))["step"] <= last]
        if self.file("steps.jsonl").exists():
            self.write_lines("steps.jsonl", rows)
        return rows

    @property
    def last_step(self) -> int:
        """The last step in the log; 0 before the first."""
        return int(json.loads(lines[-1])["step"]) if (lines := self._logged()) else 0

    def _logged(self) -> list[str]:
        """The whole lines of the log of steps: a full disk, or a step just being written, tears the last."""
        log = self.file("steps.jsonl")
        return log.read_text(encoding="utf-8").rpartition("\n")[0].splitlines() if log.exists() else []

    def remove(self, name: str) -> None:
        """Removes a file or folder of the run, if it is there."""
        replacing.remove(self.file(name))

    def release(self) -> None:
        """Gives the lock back; folders that were made for the run and hold nothing are removed again."""
        if self._lock_file.taken:
            self._lock_file.give_back()
            for place in self._made:
                if place.is_dir() and not any(place.iterdir()):
                    place.rmdir()

    def _lock(self, otherwise: str = "") -> None:
        with replacing.writing(self._lock_file.path):
            taken = self._lock_file.take()
        if not taken:
            holder = self._lock_file.holder() or "another process"
            raise RunError(f"The run '{self.path}' is being written by {holder}.", hint=f"Wait for it{otherwise}.")

    def _parsed(self, name: str, text: bytes) -> Any:
        try:
            return json.loads(text)
        except ValueError as error:
            why = str(error) if text.strip() else "it is empty"
            hint = "Was it copied only in part? Take a whole copy, or train again."
            raise RunError(f"{self.file(name)} is damaged: {why}.", hint=hint) from error

    def _progress(self) -> str:
        """How far its training is."""
        last = json.loads(lines[-1]) if (lines := self._logged()) else {}
        return f"step {last['step']} of {last.get('of', '?')}, " if last else ""

    def _describe(self) -> str:
        if self.finished:
            return "holds a finished run."
        begun = self.file("recipe.yaml").exists()
        return "holds an unfinished run." if begun else "is a folder with other files in it."

    def _whose(self) -> str:
        """What to give instead of a folder that is no run; it may be the model folder of one."""
        if not self.file(CARD).exists():
            return "Give a folder that `finesmith tune` has written."
        if RunFolder(self.path.parent).finished:
            return f"It is the model folder of the run '{self.path.parent}': give that one."
        return "It is a model folder without its run: `finesmith predict` and finesmith.predictor.load answer with it."

    def _way_out(self) -> str:
        if self.finished or not self.file("recipe.yaml").exists():
            return "Choose another folder with --out."
        return f"Go on with it: finesmith resume {self.path}; or choose another folder with --out."


def write_file(path: str | Path, text: str) -> None:
    """Writes a file outside any run in one piece.

    Raises:
        RunError: the place cannot be written.
    """
    RunFolder(Path(path).parent).write_text(Path(path).name, text)
