"""Data sets on the Hugging Face hub, through the library `datasets` (extra: hub)."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from finesmith.data.rows import Bad, Row, without_nulls
from finesmith.data.sources import ORDER, PARTS, Source, missing, named_in
from finesmith.errors import DataError, MissingExtraError


def sources(
    source: str, *, load: Callable[[str, str | None], Mapping[str, Any]] | None = None
) -> tuple[list[Source], tuple[str, ...]]:
    """The splits of `owner/name` or `owner/name:config`, and notes on those that are not read.

    `load(name, config)` returns split name to rows; it is the `datasets` library unless a test says otherwise.

    Raises:
        DataError: not found, or no connection; names the nearest local file.
        MissingExtraError: `datasets` is not installed.
    """
    splits = (load or _load)(*_name_and_config(source))
    known = _known(list(splits))
    if not known and len(splits) == 1:
        known = {name: "all" for name in splits}
    if not set(known.values()) & {"train", "all"}:
        raise DataError(f"The data set '{source}' has no split called train, only: {', '.join(splits)}.")
    bare = [name for name, part in known.items() if part in ("validation", "test") and _unlabelled(splits[name])]
    found = [_split(source, name, part, splits[name]) for name, part in known.items() if name not in bare]
    ignored = [name for name in splits if name not in known]
    notes = [f"Splits not read: {', '.join(ignored)}."] if ignored else []
    taken = [f"{name} as {known[name]}" for name in known if name not in PARTS and known[name] != "all"]
    notes += [f"Splits by the words in their names: {', '.join(taken)}."] if taken else []
    notes += [f"Splits not read, as none of their rows has a label: {', '.join(bare)}."] if bare else []
    return sorted(found, key=lambda each: ORDER.index(each.part)), tuple(notes)


def _known(names: Sequence[str]) -> dict[str, str]:
    """The part of each split that is read. A bare word (`train`) counts before names that hold it (`train_sft`); of
    those, the ones for fine-tuning (`sft`) before those for another kind of training (`train_gen`, `train_prefs`).
    """
    found: dict[str, str] = {}
    for part in ORDER:
        meant = [name for name in names if named_in(name) == {part}]
        bare = [name for name in meant if name in PARTS]
        tuning = [name for name in meant if "sft" in re.findall(r"[a-z]+", name.lower())]
        found |= dict.fromkeys(bare or tuning or meant, part)
    return found


def _unlabelled(rows: Any) -> bool:
    """Whether all class numbers are -1 or absent, as in the test rows of a benchmark with a leaderboard."""
    columns = list(_class_names(rows))
    return bool(columns) and all(_absent(row[column]) for row in rows for column in columns)


def _absent(value: Any) -> bool:
    return all(map(_absent, value)) if isinstance(value, list) else value is None or value == -1


def _name_and_config(source: str) -> tuple[str, str | None]:
    name, _, config = source.partition(":")
    return name, config or None


def _load(name: str, config: str | None) -> Mapping[str, Any]:
    try:
        import datasets
    except ImportError:
        raise MissingExtraError("datasets", "hub", "Reading a data set from the hub") from None
    try:
        return datasets.load_dataset(name, config)
    except Exception as error:  # the library lets errors of its many transports through; each means: not readable
        raise unreachable(name, error) from error


def unreachable(name: str, error: Exception) -> DataError:
    """The error for a hub data set that cannot be had, which may have been meant as a local path."""
    local = missing(Path(name)).message
    reason = str(error).strip().partition("\n")[0]
    return DataError(f"{local} The hub data set '{name}' could not be read either: {reason}")


def _split(source: str, name: str, part: str, rows: Any) -> Source:
    return Source(part, f"{source}/{name}", name, lambda: _rows(rows), lambda: _digest(rows))


def _rows(rows: Any) -> Iterator[tuple[int, Row | Bad]]:
    """Yield (record number from 1, row); class numbers become class names, -1 (unlabelled) becomes nothing."""
    for number, row in enumerate(_named_rows(rows), start=1):
        yield number, {key: without_nulls(value) for key, value in row.items()}


def _named_rows(rows: Any) -> Iterator[Row]:
    names = _class_names(rows)
    for row in rows:
        yield {key: _named(value, names.get(key)) for key, value in row.items()}


def _class_names(rows: Any) -> dict[str, list[str]]:
    """The names of the classes of each column that holds class numbers."""
    features = getattr(rows, "features", None) or {}
    classes = {column: _classes(feature) for column, feature in features.items()}
    return {column: names for column, names in classes.items() if names}


def _classes(feature: Any) -> list[str] | None:
    """The names in a ClassLabel, or in a list of them (several labels a row)."""
    if isinstance(feature, list | tuple):
        return _classes(feature[0]) if feature else None
    inner = getattr(feature, "feature", None)
    return _classes(inner) if inner is not None else getattr(feature, "names", None)


def _named(value: Any, names: list[str] | None) -> Any:
    if isinstance(value, list) and names is not None:
        return [_named(each, names) for each in value if not _absent(each)]
    if names is None or not isinstance(value, int):
        return value
    return names[value] if value >= 0 else None


def _digest(rows: Any) -> str:
    digest = hashlib.sha256()
    for row in _named_rows(rows):
        digest.update(json.dumps(row, sort_keys=True, default=str).encode() + b"\n")
    return digest.hexdigest()
