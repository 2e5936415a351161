"""Every number of a measurement as tables, however its values are nested."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from finesmith.errors import counted
from finesmith.report import names
from finesmith.report._html import table
from finesmith.report.plot_words import number


def every_number(values: Mapping[str, Any]) -> str:
    """Single values in one table; what repeats (rows of the same keys) in a table of its own."""
    single: list[dict[str, Any]] = []
    parts = []
    for name, value in values.items():
        if rows := _alike(value):
            parts.append(table([_flat(row) for row in rows], names.key(name)))
        else:
            single += [{"number": path, "value": each} for path, each in _leaves(names.key(name), value)]
    return (table(single) if single else "") + "".join(parts)


def _alike(value: Any) -> list[Mapping[str, Any]]:
    """Rows of one table: a list of mappings, or mappings by name; nothing for anything else."""
    if isinstance(value, Mapping) and len(value) > 1 and not is_interval(value):
        if all(isinstance(item, Mapping) for item in value.values()):
            return [{"": names.key(name), **_itself(item)} for name, item in value.items()]
        return []
    if isinstance(value, Sequence) and not isinstance(value, str) and value:
        return list(value) if all(isinstance(item, Mapping) for item in value) else []
    return []


def _itself(item: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"value": item} if is_interval(item) else item


def is_interval(value: Any) -> bool:
    """Whether it is a value with the ends of its interval."""
    return isinstance(value, Mapping) and {"value", "low", "high"} <= value.keys()


def shown(value: Any) -> str:
    """A value on one line: an interval as `0.12 (0.05 to 0.19), n = 144`, other mappings as `key value, ...`."""
    if is_interval(value):
        ends = " to ".join("open" if value[end] is None else number(value[end]) for end in ("low", "high"))
        groups = f" in {counted(value['groups'], 'group')}" if value.get("groups") else ""
        return f"{number(value['value'])} ({ends})" + (f", n = {value['n']:,}{groups}" if value.get("n") else "")
    if isinstance(value, Mapping):
        return ", ".join(f"{names.key(key)} {shown(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return "; ".join(shown(item) for item in value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else number(value)


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    return {names.key(key): item if isinstance(item, str) else shown(item) for key, item in row.items()}


def _leaves(path: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and not is_interval(value):
        for name, item in value.items():
            yield from _leaves(f"{path}: {names.key(name)}", item)
    elif isinstance(value, str):
        yield path, value
    else:
        yield path, shown(value)
