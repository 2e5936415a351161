"""Files to examples, each with its file and line. Every row becomes an example or is named with the reason why not."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from finesmith.data import hub, parts
from finesmith.data.convert import convert, group, own_id, shortened
from finesmith.data.rows import Bad, Fault, Rejected, Row
from finesmith.data.shapes import Plan, detect
from finesmith.data.sources import ORDER, Source, locate, looks_like_hub_id
from finesmith.data.store import IN_MEMORY, Examples, Writer
from finesmith.errors import DataError, RecipeError, counted
from finesmith.types import Example, Origin

SAMPLE = 200
"""Readable rows from which the shape is detected."""

Record = tuple[Source, int, Row | Bad]


@dataclass(frozen=True)
class Dataset:
    """What was read. `parts` has the key `all`, or `train` and perhaps `validation` and `test`.

    `notes` says in sentences what was detected, `sources` maps each file to the SHA-256 (hex) of its bytes,
    `columns` our words to the columns that were read as them.
    """

    parts: Mapping[str, Examples]
    shape: str
    notes: tuple[str, ...]
    rejected: tuple[Rejected, ...]
    sources: Mapping[str, str]
    columns: Mapping[str, str] = field(default_factory=dict)


def read(
    source: str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    format: str | None = None,
    files: Mapping[str, str] | None = None,
    max_bad_rows: int = 0,
    shape: str | None = None,
    in_memory: int = IN_MEMORY,
) -> Dataset:
    """Read a file, a folder or a hub data set (`owner/name`, `owner/name:config`).

    `columns` maps our words to columns of the file, `format` is a format's name (None or auto: by the file's ending),
    `files` are parts with files of their own (`{"validation": path}`),
    `in_memory` is how many bytes a part may take before it goes to a temporary file.

    Raises:
        DataError: nothing to read, more than `max_bad_rows` unusable rows (all are listed), a file of which nobody can
            tell how many rows it lost, or no usable row.
        RecipeError: a format for a data set on the hub; a file for a part that the data has.
    """
    format = None if format == "auto" else format
    sources, notes = _sources(str(source), format, files or {})
    records = _records(sources)
    sample = _sample(records)
    good = [row for _, _, row in sample if isinstance(row, dict)]
    plan = detect(good, name=sources[0].name, columns=columns, shape=shape) if good else None
    intake = _Intake(plan, keep=max_bad_rows, in_memory=in_memory)
    for each, line, row in chain(sample, records):
        intake.add(each, line, row)
    _check(intake, sources, max_bad_rows)
    assert plan is not None  # else there was no good row
    return Dataset(
        {part: writer.close() for part, writer in intake.writers.items()},
        plan.shape,
        (_counted(intake, sources), plan.note(), *notes, *intake.notes(max_bad_rows)),
        tuple(intake.rejected),
        {each.name: each.digest() for each in sources},
        plan.columns,
    )


def _sources(source: str, format: str | None, files: Mapping[str, str]) -> tuple[list[Source], tuple[str, ...]]:
    on_hub = looks_like_hub_id(source)
    if on_hub and format:
        raise RecipeError(f"data.format={format} has no effect: '{source}' is a data set on the hub and no file.")
    found, notes = hub.sources(source) if on_hub else locate(source, format=format)
    return parts.beside(found, files, format=format), notes


def _records(sources: Sequence[Source]) -> Iterator[Record]:
    for source in sources:
        for line, row in source.rows():
            yield source, line, row


def _sample(records: Iterator[Record]) -> list[Record]:
    """The first records, up to `SAMPLE` readable ones."""
    sample: list[Record] = []
    good = 0
    while good < SAMPLE and (record := next(records, None)):
        sample.append(record)
        good += isinstance(record[2], dict)
    return sample


class _Intake:
    """Turns records into examples, one writer a part, and keeps account of those that cannot be used."""

    def __init__(self, plan: Plan | None, *, keep: int, in_memory: int) -> None:
        self._plan = plan
        self._keep = keep
        self._in_memory = in_memory
        self._seen: dict[str, dict[str, Origin]] = {}
        self._own_ids = plan is not None and "id" in plan.columns
        self._renamed = self._shortened = 0
        self._last: Origin | None = None
        self._times = 0
        self.writers: dict[str, Writer] = {}
        self.rejected: list[Rejected] = []
        self.unread: list[Rejected] = []
        self.num_rows = 0

    def add(self, source: Source, line: int, row: Row | Bad) -> None:
        """Take one record."""
        self.num_rows += 1
        origin = Origin(source.name, line)
        if isinstance(row, Bad) or self._plan is None:
            self._reject(origin, row)
            return
        try:
            example = self._example(source, origin, row, self._plan)
        except Fault as fault:
            self._reject(origin, Bad(str(fault), json.dumps(row, ensure_ascii=False, default=str)))
            return
        if source.part not in self.writers:
            self.writers[source.part] = Writer(in_memory=self._in_memory)
        self.writers[source.part].add(example)

    def notes(self, max_bad_rows: int) -> Iterable[str]:
        """What happened to ids and to unusable rows, in sentences."""
        if self._renamed:
            yield f"Ids that stand in more than one part: {self._renamed:,}; the later ones are written as file/id."
        if self._shortened:
            yield f"Not learnt as they end: {counted(self._shortened, 'row')}, cut behind the last turn that is learnt."
        if self.rejected:
            accepted = f" (accepted: {max_bad_rows:,})" if max_bad_rows < sys.maxsize else ""
            yield f"Left out: {counted(len(self.rejected), 'unusable row')}{accepted}."

    def _example(self, source: Source, origin: Origin, row: Row, plan: Plan) -> Example:
        given, wanted = convert(row, plan)
        belongs = group(row, plan)
        self._shortened += shortened(row, plan)
        return Example(self._identity(source, origin, own_id(row, plan)), given, wanted, origin, belongs)

    def _identity(self, source: Source, origin: Origin, own: str | None) -> str:
        """The row's own id, else `stem:line`; an id of another part gets the file's stem before it."""
        here = self._seen.setdefault(source.part, {})
        if own is None:
            own = self._made(source, origin, here)
            if not self._own_ids and not any(self._seen.values()):
                return own
        if own in here:
            raise Fault(
                f"the id '{own}' stands already at {here[own]} (if the rows of one id belong together, "
                "write data.columns.group=COLUMN)"
            )
        here[own] = origin
        elsewhere = any(own in seen for part, seen in self._seen.items() if part != source.part)
        self._renamed += elsewhere
        return f"{source.stem}/{own}" if elsewhere else own

    def _made(self, source: Source, origin: Origin, here: Mapping[str, Origin]) -> str:
        """`stem:line`, and `#2`, `#3` behind it for a further row of the line or where that is another row's own id.

        Lines only grow, so the last one is all that must be remembered.
        """
        self._times = self._times + 1 if origin == self._last else 1
        self._last = origin
        made = f"{source.stem}:{origin.line}"
        while (own := f"{made}#{self._times}" if self._times > 1 else made) in here:
            self._times += 1
        return own

    def _reject(self, origin: Origin, row: Row | Bad) -> None:
        bad = row if isinstance(row, Bad) else Bad("unreadable")
        text = bad.text if len(self.rejected) < self._keep else ""  # beyond that only the reason will be shown
        self.rejected.append(Rejected(origin, bad.reason, text))
        self.unread += self.rejected[-1:] if bad.rest else []


def _check(intake: _Intake, sources: Sequence[Source], max_bad_rows: int) -> None:
    """Raise if there are too many unusable rows, or if a part has no usable one."""
    bad, problems = len(intake.rejected), [str(each) for each in intake.rejected]
    names = ", ".join(source.name for source in sources[:3]) + (", ..." if len(sources) > 3 else "")
    if intake.unread:
        raise DataError(
            f"{intake.unread[0].origin.file} cannot be read to its end; how many rows are lost cannot be told.",
            problems=problems,
            hint="Mend the file, or save it as JSON Lines (one object a line), of which every good line can be read.",
        )
    if bad == intake.num_rows:
        raise DataError(f"{names}: no usable row; all {bad:,} are unusable.", problems=problems)
    if bad > max_bad_rows:
        accepted = f", more than the {max_bad_rows:,} accepted" if max_bad_rows else ""
        raise DataError(
            f"{names}: {bad:,} of {counted(intake.num_rows, 'row')} cannot be used{accepted}.",
            problems=problems,
            hint=f"Mend them, or accept them with --max-bad-rows {bad} (setting data.max_bad_rows): "
            "each is then written to rejected.jsonl with its reason.",
        )
    empty = [part for part in ORDER if part in {each.part for each in sources} and part not in intake.writers]
    if empty:
        raise DataError(f"{names}: no usable row in the part {empty[0]}.", problems=problems)


def _counted(intake: _Intake, sources: Sequence[Source]) -> str:
    return f"Read {counted(intake.num_rows, 'row')} from {counted(len(sources), 'file')}."
