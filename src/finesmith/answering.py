"""Answers to many rows: block after block, kept on disk as they come, the rows that cannot be answered named."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finesmith.errors import DataError, RowError, RunError, TrainingError, counted
from finesmith.predictor import NO_MEMORY, Predictor, card_of
from finesmith.runfolder import RunFolder
from finesmith.types import Prediction

if TYPE_CHECKING:
    from collections.abc import Callable

    from finesmith.data.inputs import Asked

Line = dict[str, Any]
BLOCK = 1000
"""Rows that are answered together: so many at most are lost where a command ends early."""

SKIP = "Mend them, or answer the others: --skip-bad-rows."


@dataclass(frozen=True)
class Answering:
    """Rows for a model. `errors` says of rows that get no answer why, by position; with `skip` more may join them.

    Make it with `begin`, which looks at all rows.
    """

    model: Predictor
    asked: Asked
    errors: Mapping[int, str]
    abstain: bool = False
    skip: bool = False

    def lines(self, kept: Kept | None, progress: Callable[[int], None]) -> Iterator[Line]:
        """A line for each row, in order; what is `kept` already is not answered again.

        Raises:
            TrainingError: not even one row fits into memory, with its name (not where such rows are skipped).
        """
        known = dict(kept.lines) if kept else {}
        known |= {place: self._failed(place, why) for place, why in self.errors.items()}
        progress(len(known))
        for first in range(0, len(self.asked.ids), BLOCK):
            block = range(first, min(first + BLOCK, len(self.asked.ids)))
            found = self._answered([place for place in block if place not in known], progress)
            if kept and found:
                kept.add(found)
            yield from ((known.get(place) or found[place]) for place in block)

    def _answered(self, places: list[int], progress: Callable[[int], None]) -> dict[int, Line]:
        failed: dict[int, Line] = {}
        while places:
            rows = [self.asked.inputs[place] for place in places]
            try:
                answers = self.model.answer(rows, abstain=self.abstain, progress=progress)
            except RowError as error:
                place = places.pop(error.row)
                failed[place] = self._failed(place, NO_MEMORY)
                if not self.skip:
                    raise TrainingError(
                        f"{self.asked.names[place]}: {NO_MEMORY}.",
                        hint="Shorten it, leave it out (--skip-bad-rows), or answer where there is more memory "
                        "(--device cpu).",
                    ) from error
                continue
            found = zip(places, answers, strict=True)
            return {**failed, **{place: line(self.asked.ids[place], answer) for place, answer in found}}
        return failed

    def _failed(self, place: int, why: str) -> Line:
        return {"id": self.asked.ids[place], "output": None, "error": why}


def line(name: str, answer: Prediction) -> Line:
    """An answer as files have it."""
    more = {"scores": dict(answer.scores)} if answer.scores else {}
    return {"id": name, "output": answer.output, **more, **({"cut": True} if answer.cut else {})}


def begin(model: Predictor, asked: Asked, *, abstain: bool = False, skip: bool = False) -> Answering:
    """Looks at all rows before the first is answered, and says of which only the beginning counts.

    Raises:
        DataError: some cannot be answered, all of them by name; not with `skip`.
        RunError: `abstain`, and no threshold is known.
    """
    model.require_able(abstain=abstain)
    whole = [place for place in range(len(asked.ids)) if place not in asked.errors]
    rows = [asked.inputs[place] for place in whole]
    refused = {whole[place]: why for place, why in model.refused(rows).items()}
    if refused and not skip:
        raise DataError(
            f"{counted(len(refused), 'row')} cannot be answered:",
            problems=[f"{asked.names[place]}: {why}" for place, why in refused.items()],
            hint=SKIP,
        )
    model.warn_of_cuts(rows, [asked.names[place] for place in whole])
    return Answering(model, asked, {**asked.errors, **refused}, abstain, skip)


class Kept:
    """The answers of a command that is not done yet, beside the file that it is to write: whoever asks the same of the
    same model goes on from them.

    Its first line says what was asked; each other one has an answer and the position of its row.
    """

    def __init__(self, out: Path, asked: str) -> None:
        self.path = out.with_name(f"{out.name}.partial")
        self.folder = RunFolder(out.parent)
        self.asked = asked
        self.lines: dict[int, Line] = {}

    def take_up(self, *, force: bool) -> None:
        """Reads what an earlier command has left; `force` begins anew where it asked something else.

        Raises:
            RunError: it asked something else.
        """
        if not self.path.exists():
            return
        head, *rows = self._whole_lines()
        if head.get("asked") == self.asked:
            self.lines = {row["place"]: row["line"] for row in rows if "error" not in row["line"]}
        elif force:
            self.remove()
        else:
            raise RunError(
                f"'{self.path}' holds answers of another model, to other rows or with other options.",
                hint="Remove it, name another file with --out, or add --force to begin anew.",
            )

    def add(self, found: Mapping[int, Line]) -> None:
        """Writes the lines of a block."""
        if not self.path.exists():
            self.folder.append(self.path.name, {"asked": self.asked})
        for place, row in found.items():
            self.folder.append(self.path.name, {"place": place, "line": row})
        self.lines |= found

    def remove(self) -> None:
        """Takes the file away: its answers stand elsewhere, or are not wanted."""
        self.folder.remove(self.path.name)

    def _whole_lines(self) -> list[dict[str, Any]]:
        """The lines up to one that is torn, where a process was killed while it wrote; that one goes away."""
        found: list[dict[str, Any]] = []
        try:
            for row in self.folder.read_lines(self.path.name):
                found.append(row)
        except RunError:
            self.folder.write_lines(self.path.name, found)
        return found or [{"asked": self.asked}]


def keep(out: Path, run: str, asked: Asked, *, force: bool = False, **options: Any) -> Kept:
    """Where the answers of a run's model to these rows are kept, with those that are there; see `Kept.take_up`."""
    folder, card = card_of(run)
    base = Path(card["model"]["name"]).expanduser()
    kept = Kept(out, _fingerprint([folder, base] if base.is_dir() else [folder], asked, options))
    kept.take_up(force=force)
    return kept


def _fingerprint(models: Sequence[Path], asked: Asked, options: Mapping[str, Any]) -> str:
    """What tells one question from another: a model's files by size and time, every row, and how they are asked."""
    files = [
        (str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns)
        for folder in models
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    ]
    digest = hashlib.sha256(json.dumps([files, asked.ids, options]).encode())
    for item in asked.inputs:
        digest.update(repr(item).encode())
    return digest.hexdigest()
