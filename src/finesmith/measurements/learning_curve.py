"""Are there labels enough? The same training on an eighth, a quarter and half of the rows, and what that foretells.

Small parts get as many steps as the whole run, up to 300, so that they are not undertrained. The whole run is the last
point. The cheap opponents' curves come for nothing and show whether the labels or the model make it flat.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from finesmith import registry
from finesmith.baselines.base import as_text
from finesmith.evidence import curve, decision, verdict
from finesmith.measurements import _probe
from finesmith.measurements.base import Effort, Measured, Study
from finesmith.metrics.base import Metric
from finesmith.tasks.classification import Classification
from finesmith.types import Example, Prediction
from finesmith.watch import Watcher

SHARES, FREE = (1 / 8, 1 / 4, 1 / 2), (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
FLOOR = 300
"""Least steps of a part, if the whole run has as many."""
LEAST = 64
"""Training rows below which an eighth is too little to learn from."""
FEW = 64
"""Labels of a class below which a start is few-shot."""


@dataclass(frozen=True)
class LearningCurve:
    """Nested, stratified parts of the training rows; `--target X` asks how many labels reach a score."""

    title: str = "learning curve"
    priority: int = 2
    effort: Effort = "standard"
    needs: tuple[str, ...] = ("prompting",)
    hears: tuple[str, ...] = ("prompting", "seeds")
    uses: tuple[str, ...] = ("target", "minimum_gain")

    def skips(self, study: Study) -> str:
        """Rows enough, a metric whose best value is known, and two parts at least."""
        if len(study.splits.train) < LEAST:
            return f"{len(study.splits.train)} training rows are too few for parts of them; {LEAST} are needed"
        if study.primary.best is None:
            return f"the best possible {study.primary.title} is not known"
        if len(parts := _parts(study.splits.train)) < 2:
            rows, fewer = len(study.splits.train), " and ".join(f"{part:,}" for part in parts) or "none"
            return f"every part needs a row of each label: of {rows:,} training rows that leaves parts of {fewer}"
        return ""

    def cost(self, study: Study) -> float:
        """The parts' trainings, which may stop later than the run did, and their answers to the test rows; a probe's
        reading of all rows; the cheap opponents."""
        train, test, whole = len(study.splits.train), len(study.splits.test), study.planned_steps
        least = whole if study.recipe.train.max_steps is not None else min(FLOOR, whole)
        steps = [max(whole * part / train, least) for part in _parts(study.splits.train)]
        answers = len(steps) * test + (train + test if _can_probe(study) else 0)
        trainings = len(steps) * study.preparing_seconds + sum(steps) * study.step_seconds
        return trainings + answers * study.answer_seconds + 5e-3 * train

    def __call__(self, study: Study, watcher: Watcher) -> Measured:
        """Trains on each part, fits the curve, looks at most four times ahead."""
        train = list(study.splits.train)
        order = nested(train, seed=study.recipe.seed)
        points = [_trained(study, watcher, [train[place] for place in order[:part]]) for part in _parts(train)]
        whole = study.score(study.splits.test, study.predictions["tuned"])
        points.append({"rows": len(train), "score": whole, "steps": study.evidence.costs.get("steps")})
        return _told(study, points, _free(study, train, order))

    def retold(self, study: Study, values: Mapping[str, Any]) -> Measured:
        """The same points with another target or smallest useful gain, a rival or a spread of seeds that came later."""
        return _told(study, values["numbers"]["points"], values["numbers"]["free"])


def _told(study: Study, points: Sequence[Mapping[str, Any]], free: Mapping[str, Any]) -> Measured:
    numbers: dict[str, Any] = {"points": points, "free": free, "metric": study.primary.title}
    if len(points) >= 3:
        numbers |= foretell(study, points)
    return Measured(says=_says(study, numbers), numbers=numbers, plots=_plots(study, numbers))


def nested(rows: Sequence[Example], *, seed: int) -> list[int]:
    """All positions in an order whose every beginning is stratified: each label's rows are spread evenly over it.

    The first row of every label comes before all second ones, so that no part lacks a label.
    """
    random = np.random.default_rng(seed)
    keys = [str(row.target) if isinstance(row.target, str | tuple) else "" for row in rows]
    places: dict[str, list[int]] = {}
    for place in random.permutation(len(rows)).tolist():
        places.setdefault(keys[place], []).append(place)
    first = _covering(rows, places)
    slots = []
    for key in sorted(places):
        mine, shift = places[key], float(random.random())
        slots += [((at + shift) / len(mine), place) for at, place in enumerate(mine)]
    rest = [place for _, place in sorted(slots) if place not in set(first)]
    return [*first, *rest]


def _covering(rows: Sequence[Example], places: Mapping[str, Sequence[int]]) -> list[int]:
    """One row of every label (of several labels in a row: of every one that is not yet there)."""
    known: set[str] = set()
    first = []
    for place in (mine[0] for mine in places.values()):
        target = rows[place].target
        labels = {target} if isinstance(target, str) else set(target) if isinstance(target, tuple) else set()
        if labels - known:
            known |= labels
            first.append(place)
    return first


def _parts(rows: Sequence[Example]) -> list[int]:
    """How many rows each part has: none twice (many labels make small parts equal), none as large as the whole."""
    return sorted({count for share in SHARES if (count := _count(rows, share)) < len(rows)})


def _count(rows: Sequence[Example], share: float) -> int:
    labels = {label for row in rows for label in (row.target if isinstance(row.target, tuple) else [row.target])
              if isinstance(label, str)}  # fmt: skip
    return max(len(labels), round(len(rows) * share))


def _trained(study: Study, watcher: Watcher, rows: Sequence[Example]) -> dict[str, Any]:
    """A point: the run's recipe on some of its rows, with the floor on steps."""
    train, whole = study.recipe.train, study.planned_steps
    settings: dict[str, Any] = {}
    if train.max_steps is None and whole * len(rows) < min(FLOOR, whole) * len(study.splits.train):
        settings = {"epochs": "auto", "max_steps": min(FLOOR, whole)}
    with study.retrained(watcher, rows=rows, train=settings) as arm:
        answers = arm.predict(study.splits.test)
        return {"rows": len(rows), "score": study.score(study.splits.test, answers), "steps": arm.costs["steps"]}


def _free(study: Study, train: Sequence[Example], order: Sequence[int]) -> dict[str, list[dict[str, float]]]:
    """The curves of the cheap opponents and of a linear probe, on the same parts."""
    test = study.splits.test
    inputs = [(row.id, as_text(row.input)) for row in test]
    parts = sorted({max(2, _count(train, share)) for share in FREE})
    names = [
        name
        for name in registry.available("baselines")
        if study.recipe.task in registry.resolve("baselines", name).tasks and name != "majority"
    ]
    found: dict[str, list[dict[str, float]]] = {}
    for name in names:
        baseline = registry.resolve("baselines", name)
        answers = [baseline([train[at] for at in order[:part]], inputs, seed=study.recipe.seed) for part in parts]
        if all(study.primary.measurable(answer) for answer in answers[0]):
            found[name] = [
                {"rows": n, "score": study.score(test, each)} for n, each in zip(parts, answers, strict=True)
            ]
    if _can_probe(study):
        rows = _probe.features(study, [row.input for row in [*train, *test]])
        found["probe"] = [_probed(study, rows, train, order[:part]) for part in parts]
    return found


def _can_probe(study: Study) -> bool:
    return isinstance(study.task, Classification) and not study.task.multi_label


def _probed(study: Study, rows: np.ndarray, train: Sequence[Example], part: Sequence[int]) -> dict[str, float]:
    probe = _probe.fit(rows[list(part)], [str(train[at].target) for at in part])
    answers = zip(study.splits.test, probe.answers(rows[len(train) :]).tolist(), strict=True)
    score = study.score(study.splits.test, [Prediction(row.id, answer) for row, answer in answers])
    return {"rows": len(part), "score": score}


def foretell(study: Study, points: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What two and four times the labels would give, and how many more reach a score; all as ranges.

    `more_labels` reach the `target` that the user gave, `labels_to_beat` what beats the strongest cheaper way.
    """
    metric, n = study.primary, float(points[-1]["rows"])
    best, scale = metric.best, _scale(metric)
    assert best is not None
    sign = 1.0 if metric.higher_is_better else -1.0
    errors = [sign * (best - point["score"]) / scale for point in points]
    classes = len(study.task.labels) if isinstance(study.task, Classification) else None
    fitted = curve.fit(
        [point["rows"] for point in points],
        errors,
        bounded=math.isfinite(metric.limits[1] - metric.limits[0]),
        few_shot=classes is None or n / classes < FEW,
        noise=_noise(study) / scale,
        seed=study.recipe.seed,
    )

    def at(times: float) -> dict[str, float]:
        found = fitted.at(times)
        values = [best - sign * scale * error for error in (found.value, found.low, found.high)]
        return {"rows": found.n, "value": values[0], "low": min(values[1:]), "high": max(values[1:])}

    twice = at(2.0)
    last = float(points[-1]["score"])
    gain = sorted(sign * (twice[key] - last) for key in ("low", "high"))
    useful = study.minimum_gain or 0.01 * (scale if fitted.bounded else abs(last))

    value = sign * (twice["value"] - at(1.0)["value"])
    numbers: dict[str, Any] = {
        "x1": at(1.0),
        "x2": twice,
        "x4": at(4.0),
        "forms": list(fitted.forms),
        "left_out_miss": None if fitted.miss is None else fitted.miss * scale,
        "gain_2x": {"value": value, "low": gain[0], "high": gain[1]},
        "least_half_width": fitted.least_half(2.0) * scale,
        "useful_gain": useful,
        "flat": gain[1] < useful,
        "gain_per_100": value / (n / 100),
    }

    def labels(score: float) -> dict[str, float | None]:
        error = sign * (best - score) / scale
        low, high = fitted.to_reach(error)
        ends = {"low": low, "value": fitted.likely(error), "high": high}
        return {name: None if rows is None else max(0.0, rows - n) for name, rows in ends.items()}

    rival, wanted = _rival(study), study.options.get("target")
    if wanted is not None:
        numbers |= {"target": float(wanted), "more_labels": labels(float(wanted))}
    if rival is not None:
        numbers["labels_to_beat"] = labels(rival)
    return numbers


def _noise(study: Study) -> float:
    """Standard deviation of a point: of other test rows, and of other seeds where `seeds` has measured that."""
    tuned = study.evidence.systems["tuned"].get(study.evidence.metric)
    rows = (tuned.high - tuned.low) / (2 * 1.96) if tuned else 0.0
    seeds = study.found.get("seeds", {}).get("sd") or 0.0
    return math.hypot(rows if math.isfinite(rows) else 0.0, seeds)


def _rival(study: Study) -> float | None:
    """The score that beats the cheaper way which the decision is about by the smallest useful gain; None where the
    tuned model does."""
    sign = 1.0 if study.primary.higher_is_better else -1.0
    ours = study.evidence.systems["tuned"].get(study.evidence.metric)
    rival = decision.strongest(study.evidence, study.found, minimum_gain=study.minimum_gain)
    if ours is None or rival is None or rival.gain.value >= max(study.minimum_gain, 1e-9):
        return None
    return ours.value + sign * (max(study.minimum_gain, 0.0) - rival.gain.value)


def _scale(metric: Metric) -> float:
    size = metric.limits[1] - metric.limits[0]
    return size if math.isfinite(size) else 1.0


def _says(study: Study, numbers: Mapping[str, Any]) -> str:
    metric = study.primary
    shown = ", ".join(f"{verdict.number(metric, point['score'])} with {point['rows']:,}" for point in numbers["points"])
    shown = f"{metric.title} {shown} labelled rows"
    if "x2" not in numbers:
        return f"{shown}: too few points for a curve"
    ends = [f"{verdict.number(metric, numbers[key]['low'])} to {verdict.number(metric, numbers[key]['high'])}"
            for key in ("x2", "x4")]  # fmt: skip
    miss = numbers["left_out_miss"]
    checked = "" if miss is None else f" (the last point, left out, was missed by {verdict.number(metric, miss)})"
    return f"{shown}; with twice the labels {ends[0]}, with four times {ends[1]}{checked}"


def _plots(study: Study, numbers: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What was measured, what is foretold with its range, and the cheap opponents on the same parts."""
    metric = study.primary
    lines: dict[str, list[list[float]]] = {"tuned model": [[at["rows"], at["score"]] for at in numbers["points"]]}
    if "x2" in numbers:
        ahead = [[at["rows"], at["value"], at["low"], at["high"]] for at in (numbers["x2"], numbers["x4"])]
        rows, score = lines["tuned model"][-1]
        lines["forecast"] = [[rows, score, score, score], *ahead]
    for name, points in numbers["free"].items():
        title = "linear probe of the base" if name == "probe" else registry.resolve("baselines", name).title
        lines[title] = [[point["rows"], point["score"]] for point in points]
    title = f"How {metric.title} changes with the number of labelled rows"
    return [
        {
            "kind": "curves",
            "title": title,
            "x": "labelled rows trained on (each step doubles them)",
            "y": metric.title,
            "scale": "log",
            "dashed": ["forecast"],
            "values": lines,
        }
    ]


PLUGIN = LearningCurve()
