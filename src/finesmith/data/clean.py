"""A cleaned copy beside the original, and a log of every row that was touched. The input itself is never changed."""

from __future__ import annotations

import csv
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finesmith.data import hub
from finesmith.data.label_lists import parted
from finesmith.data.rows import Bad, Row
from finesmith.data.sources import Source, locate, looks_like_hub_id
from finesmith.errors import DataError

LITERAL = re.compile(r'"(?:[^"\\]|\\.)*"(\s*:)?', re.DOTALL)
"""A text in JSON; with a colon behind it, it is a key."""
TABLES = {".csv": ",", ".tsv": "\t"}
"""Endings that are kept; every other file is written as JSONL."""


@dataclass
class Changes:
    """What to do: origins to leave out and the check that says so; changes of text; labels to rename."""

    drop: dict[str, str] = field(default_factory=dict)
    text: list[tuple[str, Callable[[str], str]]] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Cleaned:
    """What was written: the copy (a file or a folder), the log, and how many rows were left out and changed."""

    copy: Path
    log: Path
    dropped: int
    changed: int


def clean(source: str, changes: Changes, *, format: str | None = None, columns: Mapping[str, str]) -> Cleaned:
    """Writes `NAME.cleaned.ENDING` beside the data (a folder for a folder) and `NAME.cleaned.log.jsonl`.

    Args:
        source: what `data.read` reads.
        changes: what to do.
        format: as for `data.read`; None or auto goes by the file's ending.
        columns: our words to columns of the file, as the shape was detected: which column is the label.

    Raises:
        DataError: the copy exists already, or cannot be written.
    """
    sources, _ = (
        hub.sources(source)
        if looks_like_hub_id(source)
        else locate(source, format=None if format == "auto" else format)
    )
    copy, files = _places(Path(source), sources)
    log = copy.parent / f"{_stem(copy)}.log.jsonl"
    for place in (copy, log):
        if place.exists():
            raise DataError(
                f"'{place}' exists already: nothing is overwritten.", hint="Move it away, then check again."
            )
    lines: list[dict[str, str]] = []
    try:
        for each, file in zip(sources, files, strict=True):
            file.parent.mkdir(parents=True, exist_ok=True)
            _write(file, list(_kept(each, changes, columns.get("label", ""), lines)))
        _replace(log, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    except OSError as error:
        raise DataError(f"Cannot write the cleaned copy {copy}: {error}.") from error
    dropped = {line["row"] for line in lines if line["action"] == "left out"}
    return Cleaned(copy, log, len(dropped), len({line["row"] for line in lines} - dropped))


def _places(path: Path, sources: Sequence[Source]) -> tuple[Path, list[Path]]:
    """Where the copy goes, and the file of each source in it."""
    if path.is_dir():
        beside = path if path.name not in ("", "..") else path.resolve()  # `.` has no parent of its own
        copy = beside.parent / f"{path.resolve().name}.cleaned"
        return copy, [copy / _ending(Path(each.name).relative_to(path)) for each in sources]
    if path.is_file():
        name = _ending(Path(path.name))
        copy = path.parent / f"{name.stem}.cleaned{name.suffix}"
        return copy, [copy]
    copy = Path(f"{path.name.replace(':', '-')}.cleaned")
    return copy, [copy / f"{each.part}.jsonl" for each in sources]


def _ending(path: Path) -> Path:
    """The name under which a file is copied: CSV and TSV stay, everything else becomes JSONL; nothing is compressed."""
    name = path.name.removesuffix(".gz").removesuffix(".zst")
    return path.parent / (name if Path(name).suffix.lower() in TABLES else f"{Path(name).stem}.jsonl")


def _stem(copy: Path) -> str:
    return copy.name if copy.suffix == ".cleaned" else copy.stem


def _kept(source: Source, changes: Changes, label: str, log: list[dict[str, str]]) -> Iterator[Row]:
    """The rows that stay, cleaned; what was done to each goes to the log."""
    for line, row in source.rows():
        origin = f"{source.name}:{line}"
        if isinstance(row, Bad) or origin in changes.drop:
            log.append({"row": origin, "action": "left out", "check": changes.drop.get(origin, "unusable")})
            continue
        for check, change in changes.text:
            cleaned = _texts(row, change)
            if cleaned != row:
                log.append({"row": origin, "action": "changed", "check": check})
                row = cleaned
        if changes.labels and label in row and (renamed := _renamed(row[label], changes.labels)) != row[label]:
            log.append({"row": origin, "action": "changed", "check": "label_names"})
            row = {**row, label: renamed}
        yield row


def _texts(value: Any, change: Callable[[str], str]) -> Any:
    """A value with every text in it changed, the keys of objects left alone."""
    if isinstance(value, str):
        return _inside(value, change) if _is_json(value) else change(value)
    if isinstance(value, list):
        return [_texts(item, change) for item in value]
    return {key: _texts(item, change) for key, item in value.items()} if isinstance(value, dict) else value


def _is_json(text: str) -> bool:
    """Whether a text holds a list or an object: the arguments of a tool call, or messages in a cell of a table."""
    if not text.lstrip().startswith(("{", "[")):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _inside(text: str, change: Callable[[str], str]) -> str:
    """JSON with the texts in it changed; everything else stands as it stood."""

    def changed(literal: re.Match[str]) -> str:
        before = "" if literal.group(1) else json.loads(literal.group())
        after = _texts(before, change)
        return literal.group() if after == before else json.dumps(after, ensure_ascii=False)

    return LITERAL.sub(changed, text)


def _renamed(value: Any, labels: Mapping[str, str]) -> Any:
    if isinstance(value, list):
        return list(dict.fromkeys(labels.get(item, item) for item in value))
    if not isinstance(value, str) or value in labels:
        return labels.get(value, value)
    listed = parted(value)
    renamed = _renamed(listed, labels) if isinstance(listed, list) else listed
    return value if renamed == listed else json.dumps(renamed, ensure_ascii=False)


def _write(file: Path, rows: Sequence[Row]) -> None:
    if file.suffix.lower() not in TABLES:
        _replace(file, "".join(_line(row) for row in rows))
        return
    columns = list(dict.fromkeys(key for row in rows for key in row))
    part = file.with_name(f"{file.name}.part")
    with part.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, columns, delimiter=TABLES[file.suffix.lower()], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    os.replace(part, file)


def _line(row: Row) -> str:
    return json.dumps(_finite(row), ensure_ascii=False, default=str, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    """A value with null for what is no number, as JSON has no word for it (Parquet and pandas do)."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return {key: _finite(item) for key, item in value.items()} if isinstance(value, dict) else value


def _replace(file: Path, text: str) -> None:
    """Writes a file whole or not at all."""
    part = file.with_name(f"{file.name}.part")
    part.write_text(text, encoding="utf-8", errors="surrogatepass")
    os.replace(part, file)
