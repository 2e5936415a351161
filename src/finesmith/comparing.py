"""Asks more of a finished run, within a budget: plan, measure in order of importance, say what was not measured.

What came out of each measurement is kept in the run (`measured/NAME.json`), so a comparison that was stopped goes on.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from finesmith import judging, registry, run
from finesmith.data import given
from finesmith.errors import FinesmithError
from finesmith.evidence import plain
from finesmith.measurements import _kept, _plan
from finesmith.measurements.base import Effort, Measured, Study, answers
from finesmith.metrics.base import refuse_impossible
from finesmith.reopening import open_study
from finesmith.runfolder import RunFolder
from finesmith.watch import Interrupted, Watcher

__all__ = ["attempt", "compare", "open_study"]


def compare(
    path: str | Path,
    *,
    effort: Effort = "quick",
    minutes: float | None = None,
    minimum_gain: float = 0.0,
    only: Sequence[str] = (),
    again: bool = False,
    options: Mapping[str, Any] | None = None,
    trust_remote_code: bool = False,
    watcher: Watcher | None = None,
) -> judging.Comparison:
    """Measures what `tune` left open, and judges the claims.

    Args:
        path: a finished run.
        effort: which measurements are made: quick, standard, full.
        minutes: the budget; the least important measurements are dropped first. None is three trainings' time for
            quick, a minute at least, and no end for the others and where `only` names the measurements.
        minimum_gain: the smallest gain on the primary metric that is of use, in its units.
        only: names of measurements, instead of an effort's.
        again: also makes those whose result is in the run already: those that `only` names, else the effort's. What
            is not made again stays.
        options: what measurements may use besides: `glossary` and `prompts` (a path, or what such a file holds),
            `unlabelled` (a path), `target`, `risk`, `retention_margin`.
        trust_remote_code: run Python code that comes with the base.

    Raises:
        RunError: no finished run is there, or another process writes it; the base needs code of its own, which was not
            asked for.
        RecipeError: a target or a gain that the run's metric cannot have.
        DataError: the data is no longer what the run was made with.
    """
    watcher = watcher or Watcher()
    began = time.monotonic()
    values, told = given.read(options or {})
    asked = {"effort": effort, "minutes": minutes, "minimum_gain": minimum_gain or None, "only": list(only), **told}
    asked = {name: value for name, value in asked.items() if value is not None and value != []}
    with RunFolder.changing(path) as folder:
        for note in folder.notes:
            watcher.note(note)
        study = open_study(path, effort=effort, options=values, trust_remote_code=trust_remote_code, watcher=watcher)
        refuse_impossible(study.primary, values.get("target"), minimum_gain)
        study.minimum_gain, study.asked = minimum_gain, asked
        kept = _known(study, only=only)
        budget = _plan.budget(study, minutes=minutes, named=bool(only))
        study.budget = budget.seconds

        def plan(done: Sequence[str]) -> list[_plan.Item]:
            return _plan.plan(study, budget, spent=time.monotonic() - began, only=only, done=done)

        items = _planned(study, plan, kept, anew=(only or list(kept)) if again else ())
        for line in _plan.lines(items):
            watcher.note(line)
        made, missing, pace = _measure(study, items, budget, began, watcher, only=only)
        took = time.monotonic() - began
        watcher.note(_plan.took(took, pace, study.train_seconds))
        costs = {
            "seconds": took,
            "planned": pace.planned,
            "training_seconds": study.train_seconds,
            "budget": budget.seconds if math.isfinite(budget.seconds) else None,
        }
        found = {**kept, **_kept.earlier(study, only=only), **made}  # what is not made again is not lost
        missing = {name: why for name, why in missing.items() if name not in found}
        return judging.judge(study, found, missing, costs, asked)


def _known(study: Study, *, only: Sequence[str]) -> _kept.Results:
    """What the run has been asked before and need not be asked again; the study knows its numbers and answers."""
    known = _kept.read(study, only=only)
    systems = {system for values in known.values() for system in values["systems"]} - study.predictions.keys()
    more = {name: answers(study.folder, name, study.splits.test) for name in sorted(systems)}
    study.predictions = {**study.predictions, **more}
    return known


def _planned(
    study: Study, plan: Callable[[Sequence[str]], list[_plan.Item]], kept: _kept.Results, anew: Sequence[str]
) -> list[_plan.Item]:
    """The plan, after which the study no longer knows what is made again: what is asked `anew`, as far as the effort
    goes, and what was made before something that it would use."""
    may = {item.name for item in plan([name for name in kept if name not in anew]) if item.waits or not item.why_not}
    gone = may & set(anew) & kept.keys()
    late = _plan.overtaken(plan([name for name in kept if name not in gone]))
    for name in gone | late:
        study.found.pop(name, None)
    return plan([name for name in kept if name in study.found])


def attempt(path: str | Path, **arguments: Any) -> str:
    """Compares a run (arguments as for `compare`); gives back why that failed, for which nothing else is to be lost."""
    try:
        compare(path, **arguments)
    except FinesmithError as error:
        return str(error)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _measure(
    study: Study,
    items: Sequence[_plan.Item],
    budget: _plan.Budget,
    began: float,
    watcher: Watcher,
    *,
    only: Sequence[str] = (),
) -> tuple[dict[str, dict[str, Any]], dict[str, str], _plan.Pace]:
    """Makes what is planned, and after that what the budget left out if it fits now; what is missing and why.

    What is there already but was made without something that is made now is made again, of `only` what that names.
    `began` is when the budget began to run, on the monotonic clock.
    """
    found: dict[str, dict[str, Any]] = {}
    missing, pace = {item.name: item.why_not for item in items if item.why_not}, _plan.Pace()
    left = [item for item in items if not (item.why_not or item.done)]
    left += [item for item in items if item.waits]
    for item in left:
        expected = pace.expects(item.seconds)
        if expected > budget.seconds - (time.monotonic() - began):
            missing[item.name] = budget.left_out(expected)
            continue
        start = time.monotonic()
        result = _made(item.name, study, watcher)
        took = time.monotonic() - start
        if isinstance(result, str):
            missing[item.name] = result
            watcher.note(f"{item.title}: not measured: {result}")
            continue
        pace.saw(item.seconds, took)
        missing.pop(item.name, None)
        found[item.name] = _keep(study, item, result, took)
        study.found[item.name] = found[item.name]["numbers"]
        study.predictions = {**study.predictions, **result.systems}
        watcher.note(f"{item.title}: {result.says}")
        _kept.outdate(item.name, study)
        found |= _kept.news(item.name, study, watcher)
        for late in _plan.resting_on(item.name, study):
            del study.found[late.name]
            found.pop(late.name, None)
            missing[late.name] = f"it was made before {item.title}, which it needs, and not again"
            left += [late] if not only or late.name in only else []
    return found, missing, pace


def _made(name: str, study: Study, watcher: Watcher) -> Measured | str:
    """The result, or why there is none: one measurement that fails does not take the others with it."""
    try:
        return registry.resolve("measurements", name)(study, watcher)
    except Interrupted:  # Ctrl-C in one of its trainings, which waits for the step at hand
        raise KeyboardInterrupt from None
    except FinesmithError as error:
        return str(error)
    except Exception as error:  # a full device, a singular matrix, a mistake of ours: the others are worth having
        return f"it failed: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    finally:
        study.forget()


def _keep(study: Study, item: _plan.Item, result: Measured, seconds: float) -> dict[str, Any]:
    """Writes a result into the run; answers of further systems stand with those of the run."""
    for system, rows in result.systems.items():
        study.folder.write_lines(f"predictions/{system}.jsonl", run.prediction_rows(rows, study.splits.test))
    values = plain.values_of(
        {
            "title": item.title,
            "says": result.says,
            "numbers": result.numbers,
            "plots": list(result.plots),
            "systems": list(result.systems),
            "missing": result.missing,
            "seconds": seconds,
            "planned": item.seconds,
            "knew": sorted(study.found),
            "given": _kept.given(item.name, study),
        }
    )
    study.folder.write_json(f"measured/{item.name}.json", values)
    return values
