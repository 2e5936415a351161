"""Train, validation and test: locked, stratified, with duplicates and groups kept together."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from finesmith.data.duplicates import exact_key, same_label
from finesmith.data.read import Dataset
from finesmith.data.settings import DataSettings
from finesmith.data.store import Examples
from finesmith.data.units import Row, Unit, gather, row_of
from finesmith.errors import DataError, RecipeError, counted
from finesmith.types import Example, Splits

MIN_UNITS = 10
"""Fewer groups of rows that may be parted cannot be split into three meaningful parts."""

SHOWN = 5
ENOUGH = 1.25
"""A validation part of so many times its share gets no more rows for the sake of small classes; the test still does."""
FAR = 0.05
"""A part whose share is so far off is named."""
PARTS = ("train", "validation", "test")


def split(
    dataset: Dataset, *, validation: float = 0.1, test: float = 0.2, seed: int = 0, stratify: bool = True
) -> Splits:
    """Part a data set; parts that came with it are kept, missing ones are cut from its training rows.

    `validation` and `test` are shares (0..1) of the rows that are cut. Equal inputs (see `duplicates`) and rows of one
    group never straddle parts that are cut here. The outcome depends on the rows and the seed, not on the rows' order.

    Raises:
        DataError: too few rows, one class only, or a label to be tested that is never trained.
        RecipeError: the shares leave nothing for training.
    """
    pool = dataset.parts.get("all") or dataset.parts["train"]
    shares = {name: share for name, share in (("test", test), ("validation", validation)) if name not in dataset.parts}
    _check_shares(shares)
    rows = [row_of(example) for example in pool]
    _check_classes(rows)
    cut, notes = _cut(rows, shares, seed=seed, stratify=stratify)
    parts = {name: dataset.parts[name] if name in dataset.parts and name != "train" else pool.take(cut[name])
             for name in PARTS}  # fmt: skip
    given = {name: part for name, part in dataset.parts.items() if name != "all"}
    if len(given) > 1:
        notes += _given_notes(parts, given)
    return Splits(parts["train"], parts["validation"], parts["test"], _hash(parts), tuple(notes))


def _check_shares(shares: Mapping[str, float]) -> None:
    for name, share in shares.items():
        if not 0 < share < 1:
            raise RecipeError(f"data.{name} must be between 0 and 1, not {share}.")
    if sum(shares.values()) >= 1:
        raise RecipeError(f"data.{' + data.'.join(shares)} is {sum(shares.values()):g}: nothing is left for training.")


def _check_classes(rows: Sequence[Row]) -> None:
    kinds = {row.labels for row in rows}
    if len(kinds) == 1 and rows[0].labels is not None:
        only = " + ".join(rows[0].labels) or "no label"
        raise DataError(
            f"There is one class only: all {len(rows):,} training rows have the label '{only}'.",
            hint="Add rows of the other classes, or say which column is the label: data.columns.label=COLUMN.",
        )


def _cut(
    rows: Sequence[Row], shares: Mapping[str, float], *, seed: int, stratify: bool
) -> tuple[dict[str, list[int]], list[str]]:
    """Row numbers for each part, in file order, and what there is to say about it."""
    if not shares:
        return {"train": list(range(len(rows)))}, ["Train, validation and test came with the data."]
    units = gather(rows, seed=seed, stratify=stratify)
    if len(units) < MIN_UNITS:
        together = (
            f" ({len(rows):,} rows; equal rows and rows of one group count once)" if len(units) < len(rows) else ""
        )
        raise DataError(f"Too few rows to split: {len(units)}{together}, and at least {MIN_UNITS} are needed.")
    placed = _place(units, shares)
    _bring_home(placed, rows)
    empty = [name for name, part in placed.items() if not part]
    if empty:
        _refuse_ids(rows)
        raise DataError(
            f"The {empty[0]} part would be empty: {len(rows):,} rows form only "
            f"{counted(len(units), 'unit')} that may be parted.",
            hint="Add rows, or use a coarser share.",
        )
    cut = {name: sorted(index for unit in part for index in unit.rows) for name, part in placed.items()}
    return cut, list(_notes(rows, units, cut, shares, seed=seed, stratified=stratify and rows[0].label is not None))


def _refuse_ids(rows: Sequence[Row]) -> None:
    """Where most rows have a label that no other has, it is no class."""
    counts = Counter(label for row in rows for label in row.labels or ())
    alone = sum(any(counts[label] == 1 for label in row.labels or ()) for row in rows)
    if 2 * alone > len(rows):
        raise DataError(
            f"{alone:,} of {len(rows):,} rows have a label that no other row has: it is an id or a text, not a class.",
            hint="Say which column is the label: data.columns.label=COLUMN; or use a generation task.",
        )


def _place(units: Sequence[Unit], shares: Mapping[str, float]) -> dict[str, list[Unit]]:
    """Units to parts, stratum by stratum; what rounding leaves over in one stratum is carried to the next."""
    strata: dict[str, list[Unit]] = {}
    for unit in sorted(units, key=lambda unit: unit.order):
        strata.setdefault(unit.stratum, []).append(unit)
    placed: dict[str, list[Unit]] = {"train": [], **{name: [] for name in shares}}
    carry = dict.fromkeys(shares, 0.0)
    total = {name: share * sum(len(unit.rows) for unit in units) for name, share in shares.items()}
    for stratum in sorted(strata):
        left = strata[stratum]
        size, least = sum(len(unit.rows) for unit in left), int(len(left) >= 1 + len(shares))
        for position, (name, share) in enumerate(shares.items()):
            wanted = size * share + carry[name]
            reserve = len(shares) - position if least else 1  # units for training and for the parts still to come
            full = name != "test" and sum(len(unit.rows) for unit in placed[name]) > ENOUGH * total[name] + 1
            taken = [] if full else _take(left, wanted, least=least, most=len(left) - reserve)
            carry[name] = max(-1.0, min(1.0, wanted - sum(len(unit.rows) for unit in taken)))
            placed[name] += taken
            gone = {unit.order for unit in taken}
            left = [unit for unit in left if unit.order not in gone]
        placed["train"] += left
    return placed


def _take(units: Sequence[Unit], wanted: float, *, least: int, most: int) -> list[Unit]:
    """The first units that bring the number of rows nearest to `wanted`; `least` (0 or 1) to `most` of them."""
    taken: list[Unit] = []
    size = 0
    for unit in units:
        if len(taken) < most and size + len(unit.rows) / 2 <= wanted:
            taken.append(unit)
            size += len(unit.rows)
    return taken or ([min(units, key=lambda unit: len(unit.rows))] if least else [])


def _bring_home(placed: dict[str, list[Unit]], rows: Sequence[Row]) -> None:
    """Move units to training until every label is trained (a label that stands only in a unit of mixed labels)."""
    known = {label for unit in placed["train"] for index in unit.rows for label in rows[index].labels or ()}
    for name in placed:
        for unit in list(placed[name]):
            labels = {label for index in unit.rows for label in rows[index].labels or ()}
            if labels - known:
                placed[name].remove(unit)
                placed["train"].append(unit)
                known |= labels


def _notes(
    rows: Sequence[Row],
    units: Sequence[Unit],
    cut: Mapping[str, Sequence[int]],
    shares: Mapping[str, float],
    *,
    seed: int,
    stratified: bool,
) -> Iterator[str]:
    sizes = ", ".join(f"{len(cut[name]):,} {name}" for name in PARTS if name in cut)
    how = "stratified by label, " if stratified else ""
    yield f"Split {len(rows):,} rows into {sizes} ({how}seed {seed})."
    for name, share in shares.items():
        if abs(len(cut[name]) / len(rows) - share) > FAR:
            got = len(cut[name]) / len(rows)
            yield f"The {name} part has {got:.0%} of the rows, not {share:.0%}, for small classes or large groups."
    if len(units) < len(rows):
        form = counted(len(units), "unit")
        yield f"Equal inputs and rows of one group were kept in one part: {len(rows):,} rows form {form}."
    counts = Counter(label for row in rows for label in row.labels or ())
    single = sorted(label for label, count in counts.items() if count == 1)
    if single:
        names = ", ".join(f"'{label}'" for label in single[:10]) + (", ..." if len(single) > 10 else "")
        yield f"Classes with one row, which is trained on and cannot be tested: {names}."


def _given_notes(parts: Mapping[str, Examples], given: Mapping[str, Examples]) -> list[str]:
    """What is wrong between parts of which some came with the data.

    Raises:
        DataError: a label of validation or test never stands in training.
    """
    rows = {name: [row_of(example) for example in part] for name, part in parts.items()}
    _check_unseen(rows, parts)
    keys = {name: [exact_key(example.input) for example in parts[name]] for name in PARTS if name in given}
    notes = [f"Given with the data: {', '.join(f'{len(part):,} {name}' for name, part in given.items())} rows."]
    for first, second in combinations(PARTS, 2):
        if first in given and second in given:
            found = {"the same input": _among(keys[first], keys[second])}
            found["the same group"] = _among(parts[first].groups(), parts[second].groups())
            notes += _shared(found, parts[second].ids(), first, second)
    return notes


def _check_unseen(rows: Mapping[str, Sequence[Row]], parts: Mapping[str, Examples]) -> None:
    trained = {label for row in rows["train"] for label in row.labels or ()}
    near = {same_label(label): label for label in trained}
    problems = []
    for name in ("validation", "test"):
        where: dict[str, list[int]] = {}
        for index, row in enumerate(rows[name]):
            for label in sorted(set(row.labels or ()) - trained):
                where.setdefault(label, []).append(index)
        for label, at in sorted(where.items()):
            alike = near.get(same_label(label))
            meant = f"; training has '{alike}'" if alike else ""
            problems.append(f"'{label}': {len(at)} in {name}, first at {parts[name][at[0]].origin}{meant}")
    if problems:
        raise DataError(
            "Labels of validation or test never stand in the training rows, so they cannot be learnt.",
            problems=problems,
            hint="Correct the labels, move rows with them into training, or give one file and let it be split.",
        )


def _among(first: Sequence[Any], second: Sequence[Any]) -> list[int]:
    """Positions in `second` of what `first` has too; None is nothing."""
    known = set(first) - {None}
    return [index for index, value in enumerate(second) if value in known]


def _shared(found: Mapping[str, Sequence[int]], ids: Sequence[str], first_name: str, second_name: str) -> Iterator[str]:
    """Sentences about the rows of the second part that the first one has too: what they share, and their places."""
    for what, places in found.items():
        leaked = [ids[index] for index in places]
        if leaked:
            verb = "has" if len(leaked) == 1 else "have"
            shown = ", ".join(leaked[:SHOWN]) + (", ..." if len(leaked) > SHOWN else "")
            yield (
                f"{len(leaked):,} of {counted(len(ids), f'{second_name} row')} {verb} {what} as a {first_name} row "
                f"(left as they are): {shown}."
            )


def shares(settings: DataSettings, parts: Mapping[str, Any]) -> dict[str, float | None]:
    """The shares of validation and test rows; None for a part that the data comes with.

    Raises:
        RecipeError: a share for a part that is there, or none for one that is not.
    """
    found: dict[str, float | None] = {}
    for part in ("validation", "test"):
        asked = getattr(settings, part)
        if part in parts and part in settings.model_fields_set and isinstance(asked, float):
            raise RecipeError(f"data.{part} has no effect: the data comes with its own {part} part.")
        if part not in parts and asked is None:
            raise RecipeError(f"data.{part} is null, but the data has no {part} part. Give a share, such as 0.1.")
        found[part] = asked if isinstance(asked, float) and part not in parts else None
    return found


def spread(rows: Sequence[Example], most: int) -> list[Example]:
    """At most so many rows, evenly over the whole part: a test file may be sorted by label."""
    step = max(1.0, len(rows) / max(1, most))
    return [rows[int(place * step)] for place in range(min(most, len(rows)))]


def _hash(parts: Mapping[str, Examples]) -> str:
    ids = {name: sorted(part.ids()) for name, part in parts.items()}
    return hashlib.sha256(json.dumps(ids, sort_keys=True).encode()).hexdigest()
