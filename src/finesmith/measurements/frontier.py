"""Knowledge against the new task: 13 scales between base and tuned model, without training, and three to choose from.

The points are chosen on validation rows and a third of the passages (of an encoder half); what is reported of them
comes from the test rows and the other passages. See docs/explanation/retention.md; `finesmith set-scale` delivers one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from finesmith.data import split
from finesmith.evidence import verdict
from finesmith.measurements import _general, _line, _speaker
from finesmith.measurements._general import Yardstick
from finesmith.measurements.base import Effort, Measured, Study
from finesmith.tasks.base import predict
from finesmith.types import Estimate, Example, Prediction
from finesmith.watch import Watcher

SCALES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.15, 1.3)
CLASSIFIED, WRITTEN = 300, 60
"""Most validation rows that are answered at each scale; an answer that is written takes longer."""
REPORTED = {"sequence-classification": 1 << 30, "causal-lm": 300}
"""Most test rows that are answered at a scale that is reported, evenly spread."""
BACK = 0.05
"""KL that falls by more than this share of its largest value on the way up is worth a warning."""


@dataclass(frozen=True)
class Point:
    """The model at one scale: the primary metric on validation rows, what it lost, how far it is from the base."""

    scale: float
    target: float
    loss: Estimate
    drift: float


@dataclass(frozen=True)
class Frontier:
    """How much of the tuning to keep: `max` for the task, `knee`, `keep` for the knowledge."""

    title: str = "knowledge against the task"
    priority: int = 1
    effort: Effort = "quick"
    needs: tuple[str, ...] = ()
    uses: tuple[str, ...] = ("retention_margin",)

    def skips(self, study: Study) -> str:
        """Where scale 0 is not the base, or half of the scale not half of the way."""
        return _line.refusal(study.folder, study.recipe)

    def cost(self, study: Study) -> float:
        """Validation rows and passages at every scale, test rows at most four times; the head at scale 0 once."""
        test = min(len(study.splits.test), REPORTED[study.task.kind])
        rows = min(len(study.splits.validation), _most(study))
        reading = _general.READING[study.task.kind]
        sweep, reports = len(SCALES) * (rows + reading / 3), 4 * (test + reading)
        return 5.0 + _line.cost(study) + (sweep + reports) * study.answer_seconds

    def __call__(self, study: Study, watcher: Watcher) -> Measured:
        """Sweeps, chooses, and answers the test rows at what was chosen."""
        _speaker.prepare(study)
        line = _line.of(study)
        loaded = line.predictor.loaded
        choosing = _general.yardstick(study, loaded, features=False, part="choosing")
        points = []
        with watcher.progress(self.title, len(SCALES), unit="strength") as progress:
            for scale in SCALES:
                line.between.at(scale)
                points.append(_point(study, line, choosing))
                progress(1)
        margin = choosing.margin(study.options)
        chosen = choose(points, margin, higher=study.primary.higher_is_better)
        yard = _general.yardstick(study, loaded, features=False, part="reporting", like=choosing)
        wanted = sorted({0.0, 1.0, *chosen.values()})  # the base first: the others are compared with it
        with watcher.progress("the points to choose from", len(wanted), unit="point") as progress:
            reported = {}
            for scale in wanted:
                reported[scale] = _reported(study, line, yard, scale)
                progress(1)
        whole = reported[1.0]["test"] - reported[0.0]["test"]
        for point in reported.values():
            point["share_of_gain"] = (point["test"] - reported[0.0]["test"]) / whole if whole else None
        numbers: dict[str, Any] = {
            "points": [_plain(point, yard) for point in points],
            "operating_points": {name: reported[scale] for name, scale in chosen.items()},
            "ends": {f"{scale:g}": reported[scale] for scale in (0.0, 1.0)},
            "margin": margin,
            "logits_at_ends": dict(line.ends),
            "warnings": warnings(points),
        }
        return Measured(
            _says(study, numbers["operating_points"], yard), numbers, plots=(_plot(study, points, chosen, yard),)
        )


def choose(points: Sequence[Point], margin: float, *, higher: bool) -> dict[str, float]:
    """The scales that are offered. Of equal ones the smallest: it is nearest to the base.

    `max` has the best target; `keep` the best target among those whose loss stays within the margin, its interval's
    upper end included (scale 0 always does); `knee` lies, between 0 and `max`, furthest above the chord in the plane of
    loss and target.
    """
    sign = 1.0 if higher else -1.0
    ordered = sorted(points, key=lambda point: point.scale)
    best = max(ordered, key=lambda point: sign * point.target)
    kept = [point for point in ordered if point.scale == 0 or point.loss.high <= margin]
    return {
        "max": best.scale,
        "knee": _knee([point for point in ordered if point.scale <= best.scale], sign),
        "keep": max(kept, key=lambda point: sign * point.target).scale,
    }


def _knee(path: Sequence[Point], sign: float) -> float:
    """Of the points up to the best one; the best one itself where nothing was lost, or no point is above the chord."""
    first, last = path[0], path[-1]
    gain, loss = sign * (last.target - first.target), last.loss.value - first.loss.value
    if gain <= 0 or loss <= 0:
        return last.scale
    above = [
        sign * (point.target - first.target) / gain - (point.loss.value - first.loss.value) / loss for point in path
    ]
    return path[int(np.argmax(above))].scale if max(above) > 1e-9 else last.scale


def warnings(points: Sequence[Point]) -> list[str]:
    """What is not as it should be: the distance from the base that falls on the way up."""
    most = max(point.drift for point in points)
    back = [f"{after.scale:g}" for before, after in pairwise(points) if after.drift < before.drift - BACK * most]
    return [f"the distance from the base falls at scale {', '.join(back)}: read the points with care"] if back else []


def _point(study: Study, line: _line.Line, yard: Yardstick) -> Point:
    rows = split.spread(study.splits.validation, _most(study))
    answers = _answers(study, line, rows)
    line.between.at(line.between.scale, added=True)  # for reading, which is in float32
    seen = yard.look()
    return Point(line.between.scale, study.score(rows, answers), yard.loss(seen), yard.drift(seen))


def _reported(study: Study, line: _line.Line, yard: Yardstick, scale: float) -> dict[str, Any]:
    """A point on rows and passages that did not choose it."""
    line.between.at(scale)
    rows = split.spread(study.splits.test, REPORTED[study.task.kind])
    answers = _known(study, scale, rows) or _answers(study, line, rows)
    line.between.at(scale, added=True)  # for reading, which is in float32
    seen = yard.look()
    return {
        "scale": scale,
        "test": study.score(rows, answers),
        "rows": len(rows),
        "tuned_gains": study.gain(answers),
        _name(yard): yard.loss(seen),
        "drift": yard.drift(seen),
    }


def _answers(study: Study, line: _line.Line, rows: Sequence[Example]) -> list[Prediction]:
    """Answers with what the primary metric asks for: what the targets cost is another pass, and few metrics do."""
    task, loaded = line.predictor.task, line.predictor.loaded
    if set(study.primary.needs) != {"output"}:
        return predict(task, loaded, rows)
    answers = task.answer(loaded, [row.input for row in rows])
    return [replace(answer, id=row.id) for row, answer in zip(rows, answers, strict=True)]


def _known(study: Study, scale: float, rows: Sequence[Example]) -> list[Prediction]:
    """What the run has answered already: as it was tuned, and where answers are written as its base."""
    name = {1.0: "tuned", 0.0: "base"}.get(scale, "")
    if name not in study.predictions or (name == "base" and study.task.kind == "sequence-classification"):
        return []
    by_id = {answer.id: answer for answer in study.predictions[name]}
    return [by_id[row.id] for row in rows] if all(row.id in by_id for row in rows) else []


def _plain(point: Point, yard: Yardstick) -> dict[str, Any]:
    return {"scale": point.scale, "validation": point.target, _name(yard): point.loss, "drift": point.drift}


def _name(yard: Yardstick) -> str:
    return "loss_probe_accuracy" if yard.language is None else "change_bits_per_byte"


def _most(study: Study) -> int:
    return CLASSIFIED if study.task.kind == "sequence-classification" else WRITTEN


def _says(study: Study, points: Mapping[str, Mapping[str, Any]], yard: Yardstick) -> str:
    lost = "loses {:.1%} of the probe's accuracy" if yard.language is None else "costs {:+.1%} bits per byte"
    told = [
        f"{name} at scale {point['scale']:g} has {verdict.number(study.primary, point['test'])} on the test rows and "
        f"{lost.format(point[_name(yard)].value)}"
        for name, point in points.items()
    ]
    return "; ".join(told)


def _plot(study: Study, points: Sequence[Point], chosen: Mapping[str, float], yard: Yardstick) -> dict[str, Any]:
    """The way from the base to the tuned model as plain values, `x` in percent."""
    places = {point.scale: [100 * point.loss.value, point.target] for point in points}
    x = "accuracy of the probe lost, points" if yard.language is None else "change of bits per byte of general text, %"
    return {
        "kind": "path",
        "title": "Knowledge against the task",
        "x": x,
        "y": f"{study.primary.title}, validation rows",
        "values": list(places.values()),
        "marks": {f"{name} ({scale:g})": places[scale] for name, scale in {**chosen, "tuned": 1.0}.items()},
    }


PLUGIN = Frontier()
