"""A cleaned copy beside the original, and a log of every row that was touched. The input itself is never changed."""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from finesmith.data import hub, tables
from finesmith.data.label_lists import parted
from finesmith.data.names import NAMES
from finesmith.data.rows import Bad, Row
from finesmith.data.sources import Source, locate, looks_like_hub_id
from finesmith.errors import DataError

LITERAL = re.compile(r'"(?:[^"\\]|\\.)*"(\s*:)?', re.DOTALL)
"""A text in JSON; with a colon behind it, it is a key."""
TABLES = {".csv": ",", ".tsv": "\t"}
"""Endings that are kept; every other file is written as JSONL."""


@dataclass
class Changes:
    """What to do: origins to leave out and the check that says so; changes of text by their checks, and those of them
    that also go for labels; labels to rename.
    """

    drop: dict[str, str] = field(default_factory=dict)
    text: dict[str, Callable[[str], str]] = field(default_factory=dict)
    in_labels: set[str] = field(default_factory=set)
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
        columns: our words to columns of the file, as the shape was detected: ids and groups stay as they are, and in
            labels only that is changed which is meant for them.

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
            _write(file, list(_kept(each, changes, columns, lines)))
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
        return copy, [copy / name for name in _distinct([Path(each.name).relative_to(path) for each in sources])]
    if path.is_file():
        name = _ending(_plain(PurePath(path.name)))
        copy = path.parent / f"{name.stem}.cleaned{name.suffix}"
        return copy, [copy]
    copy = Path(f"{path.name.replace(':', '-')}.cleaned")
    many = Counter(each.part for each in sources)  # a hub's splits `dev` and `validation` are one part
    return copy, [copy / f"{each.part if many[each.part] == 1 else each.stem}.jsonl" for each in sources]


def _distinct(paths: Sequence[PurePath]) -> list[PurePath]:
    """The names of the copies of a folder's files, no two alike: beside `train.jsonl`, `train.json` becomes
    `train.json.jsonl`.
    """
    plain = [_plain(path) for path in paths]
    copies = [_ending(path) for path in plain]
    many = Counter(map(_key, copies))
    stay = [many[_key(copy)] == 1 or copy == path for copy, path in zip(copies, plain, strict=True)]
    taken = {_key(copy) for copy, stays in zip(copies, stay, strict=True) if stays}
    for place, path in enumerate(plain):
        if not stay[place]:
            name, ending = path.name, path.suffix
            while _key(copy := path.with_name(f"{name}.jsonl")) in taken:
                name += ending
            taken.add(_key(copy))
            copies[place] = copy
    return copies


def _key(path: PurePath) -> str:
    """The same for two names that some file systems take for one."""
    return path.as_posix().lower()


def _ending(plain: PurePath) -> PurePath:
    """The name under which a file is copied: CSV and TSV stay, everything else becomes JSONL; nothing is compressed."""
    return plain if plain.suffix.lower() in TABLES else plain.with_suffix(".jsonl")


def _plain(path: PurePath) -> PurePath:
    return path.with_name(path.name.removesuffix(".gz").removesuffix(".zst"))


def _stem(copy: Path) -> str:
    return copy.name if copy.suffix == ".cleaned" else copy.stem


def _kept(source: Source, changes: Changes, columns: Mapping[str, str], log: list[dict[str, str]]) -> Iterator[Row]:
    """The rows that stay, cleaned; what was done to each goes to the log."""
    for line, row in source.rows():
        origin = f"{source.name}:{line}"
        if isinstance(row, Bad) or origin in changes.drop:
            log.append({"row": origin, "action": "left out", "check": changes.drop.get(origin, "unusable")})
            continue
        for check, cleaned in _cleaned(row, changes, columns):
            log.append({"row": origin, "action": "changed", "check": check})
            row = cleaned
        yield row


def _cleaned(row: Row, changes: Changes, columns: Mapping[str, str]) -> Iterator[tuple[str, Row]]:
    """The checks that change a row, each with the row as it is then. Labels are renamed first: the names to be changed
    are those that stand in the data.
    """
    label, fixed = columns.get("label", ""), _fixed(columns)
    if changes.labels and label in row and (renamed := _renamed(row[label], changes.labels)) != row[label]:
        row = {**row, label: renamed}
        yield "label_names", row
    for check, change in changes.text.items():
        left = fixed if check in changes.in_labels else {*fixed, label}
        cleaned = {key: value if key in left else _texts(value, change) for key, value in row.items()}
        if cleaned != row:
            row = cleaned
            yield check, row


def _fixed(columns: Mapping[str, str]) -> set[str]:
    """The columns with ids and groups: changed, they would say of other rows that they belong together. A row may have
    one although the first rows had not (see `convert.optional`).
    """
    found = {columns[word] for word in ("id", "group") if word in columns}
    free = {name for word in ("id", "group") if word not in columns for name in NAMES[word].strong}
    return found | (free - {*columns.values()})


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
        cells = ([row.get(column) for column in columns] for row in rows)
        tables.write(stream, columns, cells, separator=TABLES[file.suffix.lower()])
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
    part.write_text(text, encoding="utf-8", errors="surrogatepass", newline="")
    os.replace(part, file)
