"""A finished run, opened to ask more of it: rows, answers, models, and what a training and an answer take here."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from finesmith import recipe as recipes
from finesmith import registry, run
from finesmith.data import split
from finesmith.evidence import plain
from finesmith.measurements.base import Effort, Study, answers
from finesmith.models import place
from finesmith.runfolder import RunFolder
from finesmith.tasks import _calls
from finesmith.types import Example, Splits
from finesmith.watch import Watcher

PROBED_ROWS, PROBED_SECONDS = 16, 0.5
"""Validation rows that the tuned model answers to find out how long an answer takes: so many, then four times as many
until that takes so long."""


def open_study(
    path: str | Path, *, effort: Effort, options: Mapping[str, Any], trust_remote_code: bool = False, watcher: Watcher
) -> Study:
    """A finished run with its rows, answers and models, and a probe of what a training and an answer take here."""
    from finesmith import predictor

    folder = RunFolder(path)
    folder.require("evidence.json")
    recipe = recipes.of_run(folder, trust_remote_code=trust_remote_code)
    place.check_base(recipe.model, folder.path)
    prepared = run.prepare(recipe)
    run.require_unchanged(prepared, folder)
    evidence = plain.from_json(folder.read_json("evidence.json"))
    preparing = folder.read_json("manifest.json")["seconds"].get("preparing", 0.0)
    task = predictor.answering(path, documents=True).task
    study = Study(
        folder=folder,
        recipe=prepared.recipe.replace(out=str(path)),
        splits=_without(prepared.splits, folder.read_json("splits.json").get("left_out", {})),
        task=task,
        metrics={name: registry.resolve("metrics", name) for name in task.metrics},
        evidence=evidence,
        predictions={name: list(answers(folder, name)) for name in evidence.systems},
        train_seconds=float(evidence.costs["seconds"]) + preparing,
        preparing_seconds=preparing,
        answer_seconds=0.0,
        effort=effort,
        options=options,
        watcher=watcher,
    )
    study.splits = _calls.written(task, study.tuned().loaded.tokenizer, study.splits)
    return _probe(study, watcher)


def _probe(study: Study, watcher: Watcher) -> Study:
    """Times the tuned model on some validation rows, after a first look that sets everything up."""
    from finesmith.tasks.base import predict

    tuned, held_out = study.tuned(), study.splits.validation
    predict(tuned.task, tuned.loaded, held_out[:2])
    count, took = 0, 0.0
    while took < PROBED_SECONDS and count < len(held_out):
        count = min(max(PROBED_ROWS, 4 * count), len(held_out))
        rows = split.spread(held_out, count)
        with watcher.progress("timing some answers", len(rows)) as progress:
            began = time.monotonic()
            predict(tuned.task, tuned.loaded, rows, progress=progress)
            took = time.monotonic() - began
    study.answer_seconds = took / max(1, count)
    return study


def _without(splits: Splits, left_out: Mapping[str, Sequence[str]]) -> Splits:
    """The rows as they were used: without those that were too long."""

    def kept(part: str) -> Sequence[Example]:
        rows, gone = getattr(splits, part), set(left_out.get(part, ()))
        return [row for row in rows if row.id not in gone] if gone else rows

    return replace(splits, train=kept("train"), validation=kept("validation"), test=kept("test"))
