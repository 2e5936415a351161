"""What a check is: it looks at the rows before training and reports what would spoil the result.

To add one: a file that ends with `PLUGIN = ...`, a frozen dataclass with `__call__`; and in
`tests/contracts/planted.py` data in which it must find something and data in which it must not.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from finesmith.data import near
from finesmith.data.duplicates import content, exact_content, exact_key, turn_keys
from finesmith.data.private import excerpt, masked
from finesmith.data.rows import Rejected
from finesmith.types import Conversation, Example, Finding, Message

if TYPE_CHECKING:
    from finesmith.recipe import Recipe

Progress = Callable[[int], None]
SHOWN = 20
"""Samples that a finding carries."""


@dataclass(frozen=True)
class Mend:
    """What `check --fix` does about a finding: rows to leave out, a change of every text (`in_labels`: of labels too),
    labels to rename.
    """

    drop: Sequence[str] = ()
    text: Callable[[str], str] | None = None
    in_labels: bool = False
    labels: Mapping[str, str] | None = None


class Check(Protocol):
    """`tasks` are those it has something to say about. `cost`: `tune` runs the fast ones; slow ones learn something
    or need the tokenizer; `model` ones run the model and only when it is named. A check may also have
    `skips(data) -> str` (why it does not apply here) and `mend(finding, data) -> Mend`."""

    @property
    def title(self) -> str:
        """What it is about, for tables."""
        ...

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks it applies to."""
        ...

    @property
    def cost(self) -> Literal["fast", "slow", "model"]:
        """What it takes."""
        ...

    def __call__(self, data: Checked, progress: Progress) -> Iterable[Finding]:
        """What it found; nothing where all is well."""
        ...


@dataclass(frozen=True)
class Counts:
    """The sizes of data that is too large to look at every row: rows of each part, and of each part's labels."""

    rows: Counter[str] = field(default_factory=Counter)
    labels: Mapping[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    def add(self, row: Example, part: str) -> None:
        """One more row; of targets that are no labels the labels stay empty."""
        self.rows[part] += 1
        if isinstance(row.target, str | tuple):
            self.labels[part].update(labels_of(row))


@dataclass(frozen=True)
class Checked:
    """What a check looks at: every usable row, the part it would be in, and what was asked.

    `given` names for each row the part of the data it came in (`all`, `train`, ...), `parts` the one that `tune` puts
    it in. `split_error` is why the rows cannot be parted (then all are `train`). `columns` maps our words to columns of
    the file. `glossary` and `names` are what the user asked to be looked for besides. `whole` counts all the data,
    where `rows` are a sample of it.
    """

    rows: Sequence[Example]
    given: np.ndarray
    parts: np.ndarray
    recipe: Recipe
    task: str
    rejected: tuple[Rejected, ...] = ()
    split_error: str = ""
    glossary: tuple[Mapping[str, Any], ...] = ()
    names: bool = False
    columns: Mapping[str, str] = field(default_factory=dict)
    whole: Counts | None = None
    _found: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def counts(self) -> Counts:
        """How many rows there are, looked at or not."""
        if self.whole is not None:
            return self.whole
        return counted(zip(self.rows, map(str, self.parts), strict=True))

    @cached_property
    def contents(self) -> list[str]:
        """The words of each row's input, normalised; of a document those of the text."""
        return [content(row.input) for row in self.rows]

    @cached_property
    def texts(self) -> list[str]:
        """The whole text of each row, input and target, as it stands; a tool with the first row that has it."""
        known: set[str] = set()
        return ["\n".join([*pieces(row), *_new_tools(row, known)]) for row in self.rows]

    @cached_property
    def unique(self) -> np.ndarray:
        """For each row the number of its exact content (see `duplicates`), by their first row: [N]."""
        number: dict[bytes, int] = {}
        return np.array([number.setdefault(exact_key(row.input), len(number)) for row in self.rows], np.int64)

    @cached_property
    def turns(self) -> list[tuple[bytes, ...]]:
        """For each row its trained answers behind what stands before them, its target last (see `duplicates`)."""
        return [turn_keys(row, exact=True) for row in self.rows]

    @cached_property
    def first_rows(self) -> np.ndarray:
        """The first row of each distinct content: [U]."""
        return np.unique(self.unique, return_index=True)[1]

    def near(self, progress: Progress = lambda done: None) -> near.Pairs:
        """Pairs of distinct contents (their numbers) with a similarity of 0.7 or more; found once.

        Contents of the same words are compared sign by sign: `2 + 3` and `2 - 3` are not near.
        """
        if "near" not in self._found:
            distinct = [self.contents[row] for row in self.first_rows]
            pairs = near.near_pairs(distinct, seed=0, progress=progress)
            number: dict[str, int] = {}
            words = np.array([number.setdefault(text, len(number)) for text in distinct], np.int64)[pairs.places]
            same = np.flatnonzero(words[:, 0] == words[:, 1])
            rows = self.first_rows[pairs.places[same]]
            exact = {place: exact_content(self.rows[place].input) for place in set(rows.ravel().tolist())}
            order = {place: at for at, place in enumerate(exact)}
            found = near.similarity(list(exact.values()), np.vectorize(order.get, otypes=[np.int64])(rows))
            pairs.similarity[same] = found
            keep = pairs.similarity >= near.THRESHOLD - near.SLACK
            self._found["near"] = near.Pairs(pairs.places[keep], pairs.similarity[keep])
        return self._found["near"]

    def origins(self, places: Iterable[int]) -> tuple[str, ...]:
        """`file:line` of rows."""
        return tuple(str(self.rows[place].origin) for place in places)

    def sample(self, place: int, length: int = 120) -> dict[str, Any]:
        """A row for people: its origin, its label, and the beginning of its input with private data masked."""
        row = self.rows[place]
        target = excerpt(row.target.text, length) if isinstance(row.target, Message) else row.target
        target = masked(target) if isinstance(target, str) else target
        shown = {"row": str(row.origin), "part": str(self.parts[place]), "text": excerpt(input_text(row), length)}
        return shown if target is None else {**shown, "target": list(target) if isinstance(target, tuple) else target}


def counted(rows: Iterable[tuple[Example, str]]) -> Counts:
    """How many rows and labels each part has."""
    counts = Counts()
    for row, part in rows:
        counts.add(row, part)
    return counts


def input_text(row: Example) -> str:
    """The text of the input; of a conversation its last message (the first ones are often a fixed instruction)."""
    return (
        row.input.messages[-1].content if isinstance(row.input, Conversation) and row.input.messages else str(row.input)
    )


def pieces(row: Example) -> list[str]:
    """Every text of a row: the input or all messages, and a written target; with their tool calls and reasoning."""
    given = row.input.messages if isinstance(row.input, Conversation) else ()
    said = (*given, row.target) if isinstance(row.target, Message) else given
    found = [text for message in said for text in (message.content, *_leaves(message.extra))]
    return found if isinstance(row.input, Conversation) else [row.input, *found]


def _new_tools(row: Example, known: set[str]) -> list[str]:
    """The texts of the tools that no row before had, so that a long list of tools is looked at once."""
    tools = row.input.tools if isinstance(row.input, Conversation) else ()
    new = {json.dumps(tool): tool for tool in tools}
    found = [text for name, tool in new.items() if name not in known for text in _leaves(tool)]
    known.update(new)
    return found


def _leaves(value: Any) -> Iterator[str]:
    """Every text and number in nested values, without the ids of tool calls."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from () if key in ("id", "tool_call_id") and isinstance(item, str) else _leaves(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, str | int | float) and not isinstance(value, bool):
        yield str(value)


def label_of(row: Example) -> str | tuple[str, ...]:
    """The label or labels of a classified row."""
    return row.target if isinstance(row.target, tuple) else str(row.target)


def labels_of(row: Example) -> tuple[str, ...]:
    """The labels of a classified row, one or several."""
    return row.target if isinstance(row.target, tuple) else (str(row.target),)


def share(part: int, whole: int) -> str:
    """`384 of 3,080 (12.5 %)`."""
    return f"{part:,} of {whole:,} ({percent(part / max(whole, 1))})"


def percent(value: float) -> str:
    """`12.5 %`, `0.8 %`, `71 %`; at least two digits that count."""
    if value <= 0 or value >= 0.995:
        return f"{100 * value:.0f} %"
    digits = max(0, 1 - math.floor(math.log10(100 * value)))
    return f"{100 * value:.{min(digits, 2)}f} %"


def plural(count: int, one: str, many: str = "") -> str:
    """`1 row`, `1,234 rows`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def bars(title: str, counts: Mapping[str, float] | Counter[str], x: str, most: int = 40) -> dict[str, Any]:
    """A plot as plain values: the longest bars first."""
    ordered = sorted(counts.items(), key=lambda item: -item[1])[:most]
    return {
        "kind": "bars",
        "title": title,
        "x": x,
        "labels": [k for k, _ in ordered],
        "values": [v for _, v in ordered],
    }


def histogram(title: str, values: Sequence[float] | np.ndarray, x: str, mark: float | None = None) -> dict[str, Any]:
    """A plot of how often values occur; `mark` is a limit to draw."""
    array = np.asarray(values, float)
    top = float(np.quantile(array, 0.995)) if len(array) else 1.0
    counts, edges = np.histogram(np.minimum(array, top), bins=min(40, max(5, int(top) or 5)))
    return {
        "kind": "histogram",
        "title": title,
        "x": x,
        "edges": edges.tolist(),
        "counts": counts.tolist(),
        "mark": mark,
    }
