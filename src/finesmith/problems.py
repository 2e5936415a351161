"""What is wrong with a setting, in words: where it stands, what was given, what was wanted, the nearest name."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel

from finesmith.errors import nearest

WANTED = {"model_type": "a section of settings", "dict_type": "pairs, such as {text: body}"}
"""What a setting should be, where pydantic's words are not ours."""


def explain_all(items: Iterable[Any], known: type[BaseModel]) -> list[tuple[list[str], str]]:
    """Key and sentence of each setting that is wrong; where it may be of several kinds, what each kind wants."""
    by_path: dict[tuple[str, ...], list[Any]] = {}
    for item in items:
        by_path.setdefault(tuple(str(part) for part in item["loc"] if not _is_branch(part)), []).append(item)
    return [(list(path), _explain(list(path), found, known)) for path, found in by_path.items()]


def _explain(path: list[str], items: list[Any], known: type[BaseModel]) -> str:
    key = ".".join(path)
    if items[0]["type"] == "extra_forbidden":
        return f"unknown setting '{key}'. {_meant(path, known)}"
    if items[0]["type"] == "missing":
        return f"'{key}' is missing."
    if any(item["type"].startswith(("greater", "less")) for item in items):
        items = [item for item in items if item["type"] != "string_type"]  # a number that is too large is no text
    shown = json.dumps(items[0]["input"], default=str)[:60]
    if ":" in key and items[0]["input"] is None:
        return f"'{key}' has no value: YAML wants a space after the colon."
    wanted = " or ".join(WANTED.get(item["type"], item["msg"].removeprefix("Input should be ")) for item in items)
    return f"'{key}' is {shown}: it should be {wanted}."


def _meant(path: list[str], known: type[BaseModel]) -> str:
    """The nearest setting; for a setting that stands in the wrong section, the right one."""
    elsewhere = [
        f"{section}.{path[-1]}"
        for section, field in known.model_fields.items()
        if path[-1] in getattr(field.annotation, "model_fields", ())
    ]
    return f"Did you mean '{elsewhere[0]}'?" if elsewhere else nearest(path[-1], _fields_at(path[:-1], known))


def _is_branch(part: Any) -> bool:
    """Pydantic names the branch of a union in `loc` (`float`, `literal['auto']`, ...); those are not keys."""
    return isinstance(part, str) and (
        part in {"float", "int", "str", "none"} or part.startswith(("literal[", "constrained"))
    )


def _fields_at(path: list[str], known: type[BaseModel]) -> list[str]:
    owner: Any = known
    for part in path:
        owner = owner.model_fields[part].annotation
    return list(owner.model_fields)


def place(path: Sequence[str], source: str, document: Any) -> str:
    """`file:line: ` of a key, or nothing when the value did not come from a file."""
    number = line(path, document)
    return f"{source}:{number}: " if source and number else (f"{source}: " if source else "")


def line(path: Sequence[str], document: Any) -> int:
    """The line of a key in a YAML document, or of the section that lacks it; 0 where neither stands there."""
    found, node = 0, document
    for key in path:
        if not hasattr(node, "lc") or key not in node:
            return found
        found, node = node.lc.key(key)[0] + 1, node[key]
    return found
