"""Our words for columns, and the names under which files have them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finesmith.data.rows import Row, absent
from finesmith.errors import DataError, nearest


@dataclass(frozen=True)
class Names:
    """Column names, lower case, that mean one of our words. A weak one counts only where no strong one stands."""

    strong: tuple[str, ...]
    weak: tuple[str, ...] = ()


NAMES: dict[str, Names] = {
    "text": Names(
        ("text", "sentence", "body", "message", "content", "utterance", "review", "ticket"),
        ("email", "description", "question", "input"),
    ),
    "label": Names(
        ("label", "labels", "category", "class", "intent", "queue", "topic", "tag", "tags", "sentiment", "type"),
        ("target",),
    ),
    "document": Names(("text", "document", "content", "body", "note")),
    "prompt": Names(("prompt", "instruction", "question", "input"), ("source",)),
    "completion": Names(("completion", "response", "answer", "output"), ("target", "reference")),
    "messages": Names(("messages", "conversations", "conversation", "dialogue", "dialog")),
    "instruction": Names(("instruction",)),
    "input": Names(("input",)),
    "output": Names(("output",), ("response", "completion", "answer")),
    "system": Names(("system", "system_prompt")),
    "tools": Names(("tools", "functions")),
    "group": Names(("group", "group_id")),
    "id": Names(("id",)),
}

CODE_LENGTH = 30
"""Characters; a longer value is no number of a ticket."""
WORDS = tuple(word for word in NAMES if word != "document")
"""What may stand on the left in `columns`; a document is called `text` there."""


def find(word: str, keys: Sequence[str], *, columns: Mapping[str, str]) -> list[str]:
    """The columns that can be what `word` means: the one written in `columns`, else by their names.

    A column that `columns` gives to another word is taken. The word itself comes before its synonyms.
    """
    said = "text" if word == "document" else word
    if said in columns:
        return [columns[said]]
    free = {key: key.strip().lower() for key in keys if key not in columns.values()}
    exact = [key for key, name in free.items() if name == said]
    strong = [key for key, name in free.items() if name in NAMES[word].strong]
    weak = [key for key, name in free.items() if name in NAMES[word].weak]
    return exact[:1] or strong or weak


def codes(rows: Sequence[Row], keys: Sequence[str]) -> set[str]:
    """Columns that are called as a text may be and hold one short word a row (`ticket`: T-1000), where another column
    that may be the text holds more.
    """
    names = {key: key.strip().lower() for key in keys if isinstance(key, str)}
    known = [key for key, name in names.items() if name in (*NAMES["text"].strong, *NAMES["text"].weak)]
    short = {key for key in known if all(_one_word(row.get(key)) for row in rows)}
    strong = {key for key in short if names[key] != "text" and names[key] in NAMES["text"].strong}
    return strong if len(short) < len(known) else set()


def _one_word(value: Any) -> bool:
    """Nothing, or a short word; not in scripts without capitals, of which many have no blanks either."""
    if not isinstance(value, str) or absent(value):
        return absent(value)
    spoken = any(sign.isalpha() and sign.upper() == sign.lower() for sign in value)
    return not spoken and len(value) <= CODE_LENGTH and len(value.split()) <= 1


def settings(columns: Mapping[str, str]) -> str:
    """How `columns` is written on a command line: `data.columns.text=body data.columns.label=queue`."""
    return " ".join(shlex.quote(f"data.columns.{word}={_as_yaml(column)}") for word, column in columns.items())


def _as_yaml(column: str) -> str:
    """The name itself where YAML reads it as it is, else in quotes."""
    plain = column.isidentifier() and column.lower() not in ("true", "false", "null")
    return column if plain else json.dumps(column, ensure_ascii=False)


def check_words(columns: Mapping[str, str]) -> None:
    """Every word of `columns` must be ours.

    Raises:
        DataError: a word is unknown; names the nearest one.
    """
    for word in columns:
        if word not in WORDS:
            raise DataError(f"Unknown word '{word}' in data.columns. {nearest(word, WORDS)}")


def check_columns(columns: Mapping[str, str], keys: Collection[str], *, name: str) -> None:
    """Every column that `columns` speaks of must be in the file.

    Raises:
        DataError: a column is not there; names the nearest one.
    """
    for word, column in columns.items():
        if column not in keys:
            raise DataError(f"data.columns: {name} has no column '{column}' (for {word}). {nearest(column, keys)}")
