"""The same architecture from random weights, on the same rows with the same number of steps: what pretraining is worth.

The steps are those that the run made, however many it was to make: no patience ends or prolongs a training here.
Its learning rate is its own, chosen on the validation rows among three (training from scratch wants a higher one).
TF-IDF is the honest control: on small data it usually beats a transformer from scratch, and it needs no pretraining
either. Where a learning curve was measured, the label multiplier says how many times the rows pretraining is worth.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finesmith.evidence import verdict
from finesmith.measurements import _arms
from finesmith.measurements.base import Effort, Measured, Study, answers
from finesmith.types import Prediction
from finesmith.watch import Watcher

RATES = (1e-4, 3e-4, 1e-3)


@dataclass(frozen=True)
class Scratch:
    """An opponent called `scratch`: the same steps, all weights random at first."""

    title: str = "the same model from scratch"
    priority: int = 3
    effort: Effort = "standard"
    needs: tuple[str, ...] = ("learning_curve",)
    hears: tuple[str, ...] = ("learning_curve",)

    def skips(self, study: Study) -> str:
        """A run that was from scratch itself has nothing to be compared with; random weights are not quantised."""
        if study.recipe.model.quantize != "none":
            return "the weights of a quantised base cannot move"
        return "the run itself began from random weights" if study.recipe.model.from_scratch else ""

    def cost(self, study: Study) -> float:
        """One training of all weights for each learning rate; each may be the best so far, whose model answers the test
        rows."""
        rows = len(study.splits.validation) + len(study.splits.test)
        return len(RATES) * (_arms.seconds(study, "full", study.steps) + rows * study.answer_seconds)

    def __call__(self, study: Study, watcher: Watcher) -> Measured:
        """Trains one model for each learning rate; the best on the validation rows answers the test rows."""
        tried: dict[float, float] = {}
        best: tuple[float, list[Prediction], dict[str, float]] | None = None
        sign = 1.0 if study.primary.higher_is_better else -1.0
        for rate in RATES:
            with study.retrained(watcher, **_settings(study, rate)) as arm:
                tried[rate] = study.score(study.splits.validation, arm.predict(study.splits.validation))
                if best is None or sign * tried[rate] > sign * tried[best[0]]:
                    best = rate, arm.predict(study.splits.test), dict(arm.costs)
        assert best is not None
        rate, ours, costs = best
        gap, score = study.gain(ours), study.score(study.splits.test, ours)
        reached = f"{verdict.number(study.primary, score)} after {costs['steps']:,} steps"
        return Measured(
            says=f"{study.primary.title} {reached}, as many as the tuned model made; "
            f"{verdict.beside(study.primary, 'the tuned model', 'it')}: {verdict.gained(study.primary, gap.value)}",
            numbers={
                "learning_rates": tried,
                "learning_rate": rate,
                "gap": gap,
                "costs": costs,
                **_control(study, ours),
                **_labels(study, score),
            },
            systems={"scratch": ours},
        )

    def retold(self, study: Study, values: Mapping[str, Any]) -> Measured:
        """The same trainings beside a learning curve that came later."""
        score = study.score(study.splits.test, answers(study.folder, "scratch", study.splits.test))
        kept = {name: value for name, value in values["numbers"].items() if not name.startswith("label_multiplier")}
        return Measured(values["says"], {**kept, **_labels(study, score)}, plots=values["plots"])


def _settings(study: Study, rate: float) -> dict[str, Any]:
    """As many steps as the run made, whose best by the validation rows is kept as the recipe says."""
    budget: dict[str, Any] = {"epochs": "auto", "max_steps": study.steps, "patience": None}
    return {
        **_arms.settings(study, "full", learning_rate=rate, warmup=0.1, **budget),
        "model": {"from_scratch": True},
    }


def _control(study: Study, ours: Sequence[Prediction]) -> dict[str, Any]:
    """`control`: from scratch minus the classical opponent that had the same rows, where there is one."""
    name = next((name for name in ("tfidf", "nearest") if name in study.predictions), "")
    if not name:
        return {}
    return {"control": name, "over_control": study.gain(ours, over=study.predictions[name])}


def _labels(study: Study, score: float) -> dict[str, Any]:
    """`label_multiplier`: all rows over those with which the tuned model is as good as this is with all of them.

    Read off the measured learning curve, between its points by the logarithm of the rows. Where the tuned model is as
    good already at the curve's first point, `label_multiplier_at_least`; where it never is, `label_multiplier_at_most`,
    which is 1.
    """
    points = _curve(study.found.get("learning_curve", {}))
    if len(points) < 2:
        return {}
    sign = 1.0 if study.primary.higher_is_better else -1.0
    rows, total = multiplier(points, sign * score, sign), len(study.splits.train)
    reached = max(sign * value for _, value in points) >= sign * score
    end = "" if reached and rows > points[0][0] else "_at_least" if reached else "_at_most"
    return {f"label_multiplier{end}": total / rows}


def multiplier(points: Sequence[tuple[float, float]], score: float, sign: float = 1.0) -> float:
    """Rows at which a learning curve (rows, value) first reaches a score; the last point's where it does not."""
    values = [(rows, sign * value) for rows, value in points]
    if values[0][1] >= score:
        return values[0][0]
    for (fewer, low), (more, high) in itertools.pairwise(values):
        if low < score <= high:
            share = (score - low) / (high - low)
            return math.exp(math.log(fewer) + share * (math.log(more) - math.log(fewer)))
    return values[-1][0]


def _curve(numbers: Mapping[str, Any]) -> list[tuple[float, float]]:
    """The measured points of the tuned model's learning curve: rows and value, by rows."""
    return sorted((float(point["rows"]), float(point["score"])) for point in numbers.get("points", ()))


PLUGIN = Scratch()
