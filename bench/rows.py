"""The rows of the cases: real sets from a folder (--data), else the examples that ship with Finesmith.

A row is {"text", "label"} (tickets), {"prompt", "completion"} (mixed) or {"text"} (long).
"""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, str]
EXAMPLES = Path(__file__).parents[1] / "examples"
SETS = {
    "tickets": ("banking77",),
    "mixed": ("self_instruct_human", "gsm8k", "mts_dialog"),
    "long": ("corpus_contracts",),
}
WORDS = 2400
"""A long row is cut after so many words, before it is cut to tokens."""


def load(kind: str, data: Path | None) -> tuple[list[Row], str]:
    """All rows of a kind, shuffled by a fixed seed, the sets of `mixed` in equal parts; and where they come from.

    Raises:
        SystemExit: `data` lacks a set.
    """
    if data is None:
        rows, source = _shipped(kind), "the examples that ship with Finesmith"
    else:
        parts = [_set(data / name / "train.jsonl", kind) for name in SETS[kind]]
        most = max(300, min(len(part) for part in parts)) if len(parts) > 1 else len(parts[0])
        rows = [row for part in parts for row in random.Random(0).sample(part, min(most, len(part)))]
        source = ", ".join(SETS[kind])
    random.Random(1).shuffle(rows)
    return rows, source


def _set(path: Path, kind: str) -> list[Row]:
    if not path.exists():
        raise SystemExit(f"--data has no {path.parent.name}/{path.name}; the '{kind}' cases need it.")
    with path.open(encoding="utf-8") as lines:
        return list(_plain([json.loads(line) for line in lines], kind))


def _plain(found: Sequence[dict[str, Any]], kind: str) -> Iterator[Row]:
    for row in found:
        if kind == "long":
            yield from ({"text": piece} for piece in _pieces(row["text"]))
        elif kind == "tickets":
            yield {"text": row["text"], "label": row["label"]}
        elif row["prompt"].strip() and row["completion"].strip():
            yield {"prompt": row["prompt"], "completion": row["completion"]}


def _pieces(text: str) -> Iterator[str]:
    words = text.split(" ")
    for start in range(0, len(words) - WORDS + 1, WORDS):
        yield " ".join(words[start : start + WORDS])


def _shipped(kind: str) -> list[Row]:
    clauses = [json.loads(line) for line in (EXAMPLES / "contract-clauses" / "clauses.jsonl").open(encoding="utf-8")]
    notes = [json.loads(line)["text"] for line in (EXAMPLES / "clinic-notes" / "notes.jsonl").open(encoding="utf-8")]
    if kind == "tickets":
        with (EXAMPLES / "support-tickets" / "tickets.csv").open(encoding="utf-8", newline="") as file:
            return [{"text": row["text"], "label": row["queue"]} for row in csv.DictReader(file)]
    if kind == "long":
        words = " ".join([*notes, *(f"{row['prompt']}\n{row['completion']}" for row in clauses)])
        return list(_plain([{"text": f"{words}\n{words}"}], kind))
    halves = [note.partition("Assessment:") for note in notes]
    dictated = [{"prompt": first, "completion": word + rest} for first, word, rest in halves if rest]
    return [*dictated, *({key: row[key] for key in ("prompt", "completion")} for row in clauses)]
