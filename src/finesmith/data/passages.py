"""The shipped passages: short original texts of several kinds, against which a user's rows are compared."""

from __future__ import annotations

import functools
from pathlib import Path

from finesmith.data import read

FOLDER = Path(__file__).parents[1] / "probes"
DOMAINS = {
    "general": ("encyclopaedic", "news", "dialogue"),
    "legal": ("legal",),
    "medical": ("medical",),
    "support": ("support",),
    "code": ("code",),
}


@functools.cache
def by_kind() -> dict[str, tuple[str, ...]]:
    """The passages of each kind: encyclopaedic, news, dialogue, legal, medical, support, code."""
    return {
        path.stem: tuple(str(row.input) for row in read.read(path).parts["all"])
        for path in sorted(FOLDER.glob("*.jsonl"))
    }


def by_domain() -> dict[str, tuple[str, ...]]:
    """The passages of each domain; general is encyclopaedic, news and dialogue together."""
    kinds = by_kind()
    return {name: tuple(text for kind in parts for text in kinds[kind]) for name, parts in DOMAINS.items()}
