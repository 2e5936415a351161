"""Every check over one data set: reads the rows, parts them as `tune` would, and asks each check what it finds."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from finesmith import registry
from finesmith.checks._sample import sample
from finesmith.checks.base import Check, Checked, counted
from finesmith.data import read, shapes, split
from finesmith.data.read import Dataset
from finesmith.data.settings import DataSettings
from finesmith.errors import DataError, FinesmithError
from finesmith.recipe import Recipe
from finesmith.types import Examined, Example, Finding, Splits
from finesmith.watch import Watcher

ORDER = {"blocking": 0, "warning": 1, "note": 2}
MOST_ROWS = 250_000
"""Of a part with more rows than this a sample is looked at, so that a corpus larger than memory can be checked."""


def examine(
    recipe: Recipe,
    *,
    glossary: Sequence[Mapping[str, Any]] = (),
    names: bool = False,
    whole: bool = False,
    watcher: Watcher | None = None,
) -> tuple[Examined, Checked]:
    """Runs every check on what the recipe names; the distance to the base only where the recipe names a model.

    Args:
        recipe: as `tune` takes it; unusable rows are reported here and do not stop.
        glossary: entries with `preferred` and `forbidden` terms.
        names: also look for names and places (extra `private`).
        whole: look at every row, however many there are, as a cleaned copy needs it.
        watcher: receives the progress.

    Raises:
        DataError: nothing can be read at all.
        RecipeError: a task that does not fit the shape of the data.
    """
    watcher = watcher or Watcher()
    most = sys.maxsize if whole else MOST_ROWS
    data, dataset, notes = _look(recipe, tuple(glossary), names, most)
    chosen = {name: registry.resolve("checks", name) for name in registry.available("checks")}
    findings, skipped, seconds = run(data, chosen, watcher, model="model" in recipe.model_fields_set)
    counts = {part: data.counts.rows[part] for part in ("train", "validation", "test")}
    notes = (*dataset.notes, *notes)
    return Examined(recipe.data.path, data.task, counts, findings, skipped, seconds, notes, len(data.rows)), data


def before_training(
    recipe: Recipe, splits: Splits, task: str, watcher: Watcher
) -> tuple[tuple[Finding, ...], list[str], str]:
    """What the fast checks find in rows that are read and parted, the ids of leaked test rows, and which rows were
    looked at (empty: all)."""
    from finesmith.checks import leakage

    parts = {name: getattr(splits, name) for name in ("train", "validation", "test")}
    looked = sample(parts, MOST_ROWS)
    came = [name for name in ("validation", "test") if not isinstance(getattr(recipe.data, name), float)]
    given = dict.fromkeys(parts, "train" if came else "all") | {name: name for name in came}
    rows = [(row, given[name], name) for name, rows in looked.parts.items() for row in rows]
    whole = counted((row, name) for name, rows in parts.items() for row in rows) if looked.note else None
    data = _checked(recipe, task, rows, whole=whole)
    chosen = {name: registry.resolve("checks", name) for name in registry.available("checks")}
    fast = {name: check for name, check in chosen.items() if check.cost == "fast"}
    findings, _, _ = run(data, fast, watcher)
    return findings, list(dict.fromkeys([*looked.leaked, *leakage.leaked_ids(data)])), looked.note


def run(
    data: Checked, checks: Mapping[str, Check], watcher: Watcher, *, model: bool = False
) -> tuple[tuple[Finding, ...], dict[str, str], dict[str, float]]:
    """Findings, the gravest first; why checks were left out; how long each took."""
    findings: list[Finding] = []
    skipped: dict[str, str] = {}
    seconds: dict[str, float] = {}
    if not data.rows:
        checks = {name: check for name, check in checks.items() if name == "unusable"}
    fast = [name for name in checks if checks[name].cost == "fast"]
    with watcher.progress("checking the data", len(data.rows)) as progress:
        for name in fast:
            _one(data, name, checks[name], lambda done: None, findings, skipped, seconds)
            progress(len(data.rows) // len(fast))
    for name in checks:
        if checks[name].cost == "model" and not model:
            skipped[name] = "no model was named (--model)"
        elif name not in fast:
            with watcher.progress(f"checking: {checks[name].title}", len(data.rows)) as progress:
                _one(data, name, checks[name], progress, findings, skipped, seconds)
    return tuple(sorted(findings, key=lambda finding: ORDER[finding.severity])), skipped, seconds


def _one(
    data: Checked,
    name: str,
    check: Check,
    progress: Any,
    findings: list[Finding],
    skipped: dict[str, str],
    seconds: Any,
) -> None:
    why = "" if data.task in check.tasks else f"it is for {' and '.join(check.tasks)}"
    why = why or (check.skips(data) if hasattr(check, "skips") else "")
    if why:
        skipped[name] = why
        return
    began = time.perf_counter()
    findings += check(data, progress)
    seconds[name] = time.perf_counter() - began


def refuse(findings: Sequence[Finding], path: str) -> None:
    """Stops on blocking findings.

    Raises:
        DataError: with each of them and its first rows.
    """
    problems = [
        f"{finding.what} {_where(finding)}{finding.advice}" for finding in findings if finding.severity == "blocking"
    ]
    if problems:
        raise DataError(
            f"The data at {path} would spoil the result:",
            problems=problems,
            hint=f"See all with: finesmith check {path}. To train anyway: data.checks=warn.",
        )


def _where(finding: Finding, most: int = 5) -> str:
    shown = ", ".join(finding.rows[:most]) + (
        f" and {len(finding.rows) - most:,} more" if len(finding.rows) > most else ""
    )
    return f"({shown}) " if shown else ""


def _look(
    recipe: Recipe, glossary: tuple[Mapping[str, Any], ...], names: bool, most: int = sys.maxsize
) -> tuple[Checked, Dataset, tuple[str, ...]]:
    settings = recipe.data
    dataset = read.read(
        settings.path,
        columns=settings.columns or None,
        max_bad_rows=sys.maxsize,
        format=settings.format,
        files=settings.files,
        shape=shapes.task_shape(recipe.task),
    )
    task = shapes.settled_task(recipe.task, dataset.shape)
    task = shapes.shape_task(dataset.shape) if "." in task else task
    parts, fault, notes = _parts(recipe, dataset)
    looked = sample(dataset.parts, most)
    rows = list(_parted(looked.parts, parts))
    whole = counted((row, part) for row, _, part in _parted(dataset.parts, parts)) if looked.note else None
    notes = (*notes, looked.note) if looked.note else notes
    more: dict[str, Any] = {"rejected": dataset.rejected, "split_error": fault, "glossary": glossary, "names": names}
    more |= {"columns": dataset.columns, "whole": whole}
    return _checked(recipe, task, rows, **more), dataset, notes


def _parted(rows: Mapping[str, Sequence[Example]], parts: Mapping[str, str]) -> Iterator[tuple[Example, str, str]]:
    """Each row with the part it came in and the one that `tune` would put it in."""
    for given, examples in rows.items():
        for row in examples:
            yield row, given, parts.get(row.id, given if given != "all" else "train")


def _parts(recipe: Recipe, dataset: Dataset) -> tuple[dict[str, str], str, tuple[str, ...]]:
    """The part that `tune` would put each id in; or why it cannot."""
    try:
        shares = split.shares(recipe.data, dataset.parts)
        cut = {part: share or DataSettings.model_fields[part].default for part, share in shares.items()}
        splits = split.split(dataset, validation=cut["validation"], test=cut["test"], seed=recipe.seed)
    except FinesmithError as error:
        return {}, str(error), ()
    return (
        {row: part for part in ("train", "validation", "test") for row in getattr(splits, part).ids()},
        "",
        splits.notes,
    )


def _checked(recipe: Recipe, task: str, rows: Sequence[tuple[Example, str, str]], **more: Any) -> Checked:
    return Checked(
        [row for row, _, _ in rows],
        np.array([given for _, given, _ in rows], object),
        np.array([part for _, _, part in rows], object),
        recipe,
        task,
        **more,
    )
