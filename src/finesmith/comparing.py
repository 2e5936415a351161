"""Asks more of a finished run, within a budget: plan, measure in order of importance, say what was not measured.

What came out of each measurement is kept in the run (`measured/NAME.json`), so a comparison that was stopped goes on.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from finesmith import recipe as recipes
from finesmith import registry, run
from finesmith.errors import DataError, FinesmithError
from finesmith.evidence import claims, decision, plain
from finesmith.evidence import compare as evidences
from finesmith.measurements._plan import line, plan
from finesmith.measurements.base import Effort, Measured, Study
from finesmith.report import verdict_page
from finesmith.runfolder import RunFolder
from finesmith.types import Claim, Evidence, Example, Prediction, Splits
from finesmith.watch import Watcher

PROBED_ROWS = 16
"""Validation rows that the tuned model answers to find out how long an answer takes."""


@dataclass(frozen=True)
class Comparison:
    """The evidence with every opponent, what each measurement found, and the claims that follow."""

    path: Path
    evidence: Evidence
    measured: Mapping[str, Mapping[str, Any]]
    not_measured: Mapping[str, str]
    claims: tuple[Claim, ...]
    decision: str
    seconds: Mapping[str, float]


def compare(
    path: str | Path,
    *,
    effort: Effort = "quick",
    minutes: float | None = None,
    minimum_gain: float = 0.0,
    only: Sequence[str] = (),
    again: bool = False,
    options: Mapping[str, Any] | None = None,
    watcher: Watcher | None = None,
) -> Comparison:
    """Measures what `tune` left open, and judges the claims.

    Args:
        path: a finished run.
        effort: which measurements are made: quick (about 3 trainings' cost), standard, full.
        minutes: the budget; the least important measurements are dropped first.
        minimum_gain: the smallest gain on the primary metric that is of use, in its units.
        only: names of measurements, instead of an effort's.
        again: also makes those whose result is in the run already.
        options: what measurements may use besides: `glossary`, `prompts`, `retention_margin`, `unlabelled`.

    Raises:
        RunError: no finished run is there.
        DataError: the data is no longer what the run was made with.
    """
    watcher = watcher or Watcher()
    study = open_study(path, effort=effort, options=options or {}, watcher=watcher)
    study.minimum_gain = minimum_gain
    known = {} if again else _kept(study.folder, tuple(study.options))
    items = plan(study, minutes=minutes, only=only, done=tuple(known))
    for item in items:
        watcher.note(line(item))
    left = math.inf if minutes is None else 60.0 * minutes
    found, missing = dict(known), {item.name: item.why_not for item in items if item.why_not}
    study.found.update({name: values["numbers"] for name, values in known.items()})
    for item in items:
        if item.why_not or item.name in known:
            continue
        if item.seconds > left:
            missing[item.name] = f"the budget of {minutes:g} minutes was used up by what is more important"
            continue
        began = time.monotonic()
        result = _made(item.name, study, watcher)
        if isinstance(result, str):
            missing[item.name] = result
            watcher.note(f"{item.title}: not measured: {result}")
            continue
        took = time.monotonic() - began
        left -= took
        found[item.name] = _keep(study, item.name, result, took)
        study.found[item.name] = found[item.name]["numbers"]
        study.predictions = {**study.predictions, **result.systems}
        watcher.note(f"{item.title}: {result.says}")
    return _write(study, found, missing)


def open_study(path: str | Path, *, effort: Effort, options: Mapping[str, Any], watcher: Watcher) -> Study:
    """A finished run with its rows, answers and models, and a probe of what a training and an answer take here."""
    from finesmith import predictor

    folder = RunFolder(path)
    folder.require("evidence.json")
    recipe = recipes.load(folder.require("recipe.yaml"))
    prepared = run.prepare(recipe)
    begun = folder.read_json("splits.json")
    if prepared.splits.hash != begun["hash"]:
        raise DataError(
            f"The data at {recipe.data.path} has changed since the run was made.",
            hint="Restore it; the locked test rows are what everything is compared on.",
        )
    evidence = plain.from_json(folder.read_json("evidence.json"))
    task = predictor.answering(path).task
    study = Study(
        folder=folder,
        recipe=prepared.recipe.replace(out=str(path)),
        splits=_without(prepared.splits, begun.get("left_out", {})),
        task=task,
        metrics={name: registry.resolve("metrics", name) for name in task.metrics},
        evidence=evidence,
        predictions={name: list(_answers(folder, name)) for name in evidence.systems},
        train_seconds=float(evidence.costs["seconds"]),
        answer_seconds=0.0,
        effort=effort,
        options=options,
    )
    return _probe(study, watcher)


def _made(name: str, study: Study, watcher: Watcher) -> Measured | str:
    """The result, or why there is none: one measurement that fails does not take the others with it."""
    try:
        return registry.resolve("measurements", name)(study, watcher)
    except FinesmithError as error:
        return str(error)
    finally:
        study.forget()


def _probe(study: Study, watcher: Watcher) -> Study:
    """Times the tuned model on a few validation rows."""
    from finesmith.tasks.base import predict

    rows = study.splits.validation[:PROBED_ROWS]
    tuned = study.tuned()
    with watcher.progress("timing a few answers", len(rows)) as progress:
        began = time.monotonic()
        predict(tuned.task, tuned.loaded, rows, progress=progress)
    study.answer_seconds = (time.monotonic() - began) / max(1, len(rows))
    return study


def _keep(study: Study, name: str, result: Measured, seconds: float) -> dict[str, Any]:
    """Writes a result into the run; answers of further systems stand with those of the run."""
    for system, answers in result.systems.items():
        study.folder.write_lines(f"predictions/{system}.jsonl", run.prediction_rows(answers, study.splits.test))
    values = plain.values_of(
        {
            "title": registry.resolve("measurements", name).title,
            "says": result.says,
            "numbers": result.numbers,
            "plots": list(result.plots),
            "systems": list(result.systems),
            "missing": result.missing,
            "seconds": seconds,
        }
    )
    study.folder.write_json(f"measured/{name}.json", values)
    return values


def _kept(folder: RunFolder, given: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What was measured before, but for what would now be measured with something that the user gives (`uses`)."""
    place = folder.file("measured")
    names = sorted(path.stem for path in place.glob("*.json")) if place.is_dir() else []
    uses = {name: getattr(registry.resolve("measurements", name), "uses", ()) for name in names}
    names = [name for name in names if not set(uses[name]) & set(given)]
    return {name: folder.read_json(f"measured/{name}.json") for name in names}


def _write(study: Study, found: Mapping[str, Mapping[str, Any]], missing: Mapping[str, str]) -> Comparison:
    """The evidence again with every opponent there is now, the claims, and both in the run."""
    folder = study.folder
    systems = dict.fromkeys([*study.evidence.systems, *(name for each in found.values() for name in each["systems"])])
    evidence = evidences.compare(
        task=study.evidence.task,
        primary=study.task.primary,
        metrics=study.metrics,
        targets=study.targets,
        predictions={name: list(_answers(folder, name)) for name in systems},
        opponents=[name for name in systems if name != evidences.TUNED],
        not_measured={name: why for name, why in study.evidence.not_measured.items() if name not in systems},
        costs=study.evidence.costs,
        details=study.evidence.details,
        ways={"frozen": "train it with --method head" if study.recipe.method != "head" else ""},
        minimum_gain=study.minimum_gain,
        seed=study.recipe.seed,
    )
    numbers = {name: values["numbers"] for name, values in found.items()}
    judged = claims.judge(evidence, study.primary, numbers, missing, minimum_gain=study.minimum_gain)
    comparison = Comparison(
        path=folder.path,
        evidence=evidence,
        measured=dict(found),
        not_measured={**missing, **{k: v for values in found.values() for k, v in values["missing"].items()}},
        claims=judged,
        decision=decision.decide(evidence, study.primary, numbers, minimum_gain=study.minimum_gain),
        seconds={name: values["seconds"] for name, values in found.items()},
    )
    plainly = as_json(comparison)
    folder.write_json("comparison.json", plainly)
    steps = list(folder.read_lines("steps.jsonl"))
    about = {"manifest": folder.read_json("manifest.json"), "recipe": study.recipe.to_yaml(), "steps": steps}
    folder.write_text("report.html", verdict_page.render(str(folder.path), plainly, about))
    folder.write_json("evidence.json", plain.as_json(evidence))
    return comparison


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Everything as plain values."""
    return plain.values_of(
        {
            "decision": comparison.decision,
            "claims": list(comparison.claims),
            "evidence": plain.as_json(comparison.evidence),
            "measured": comparison.measured,
            "not_measured": comparison.not_measured,
            "seconds": comparison.seconds,
        }
    )


def _answers(folder: RunFolder, system: str) -> Iterable[Prediction]:
    for row in folder.read_lines(f"predictions/{system}.jsonl"):
        output = tuple(row["output"]) if isinstance(row["output"], list) else row["output"]
        yield Prediction(row["id"], output, row["scores"])


def _without(splits: Splits, left_out: Mapping[str, Sequence[str]]) -> Splits:
    """The rows as they were used: without those that were too long."""

    def kept(part: str) -> Sequence[Example]:
        rows, gone = getattr(splits, part), set(left_out.get(part, ()))
        return [row for row in rows if row.id not in gone] if gone else rows

    return replace(splits, train=kept("train"), validation=kept("validation"), test=kept("test"))
