"""The same training with other seeds: how much of the gain is luck, and does averaging the weights help?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from finesmith.evidence import levels, verdict
from finesmith.measurements.base import Effort, Measured, Study
from finesmith.tasks.base import predict
from finesmith.types import Estimate, Prediction
from finesmith.watch import Watcher

MORE = 2
"""Seeds besides the run's own."""


@dataclass(frozen=True)
class Seeds:
    """Two more seeds: spread, an interval over seeds and rows, and the uniform soup of the three."""

    title: str = "other seeds"
    priority: int = 2
    effort: Effort = "standard"
    needs: tuple[str, ...] = ("prompting",)

    def skips(self, study: Study) -> str:
        """It applies to every run."""
        return ""

    def cost(self, study: Study) -> float:
        """Two trainings, and three more times the test rows (two seeds and the soup)."""
        return MORE * study.train_seconds + (MORE + 1) * study.answer_seconds * len(study.splits.test)

    def __call__(self, study: Study, watcher: Watcher) -> Measured:
        """Trains, answers and averages. The mean over seeds is the honest number; the best seed is only luck."""
        answers, soup = [list(study.predictions["tuned"])], _Soup()
        seeds = [study.recipe.seed + place for place in range(MORE + 1)]
        for seed in seeds[1:]:
            with study.retrained(watcher, seed=seed) as arm:
                answers.append(arm.predict(study.splits.test))
                soup.add(arm.model.loaded.model)
        tuned = study.tuned()
        model = soup.add(tuned.loaded.model)
        soup.pour(model)
        mixed = predict(tuned.task, replace(tuned.loaded, model=model.eval()), study.splits.test)
        score = _two_level(study, answers)
        others = {name: theirs for name, theirs in study.predictions.items() if name != "tuned"}
        gains = {name: _two_level(study, answers, theirs) for name, theirs in others.items()}
        numbers = {
            "seeds": seeds,
            "values": score.values if score else [],
            "sd": score.sd if score else None,
            "score": score.estimate if score else None,
            "gains": {name: {**_plain(found.estimate), "sd": found.sd} for name, found in gains.items() if found},
            "soup": {"score": study.score(study.splits.test, mixed), "gain": study.gain(mixed, over=answers[0])},
            "seeds_needed": _needed(study, score.sd) if score else None,
        }
        return Measured(says=_says(study, numbers), numbers=numbers)


class _Soup:
    """The mean of several models' weights. Adapters are merged first: the mean of A and of B is not that of B A."""

    def __init__(self) -> None:
        self.sums: dict[str, Any] = {}
        self.count = 0

    def add(self, model: Any) -> Any:
        """Adds a model, which is merged in place; returns it without its adapter."""
        if hasattr(model, "merge_and_unload"):
            model = model.float().merge_and_unload()
        for name, weight in model.named_parameters():
            value = weight.detach().double().cpu()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.count += 1
        return model

    def pour(self, model: Any) -> None:
        """Writes the mean into a model of the same form."""
        import torch

        with torch.no_grad():
            for name, weight in model.named_parameters():
                weight.copy_(self.sums[name] / self.count)


def _two_level(
    study: Study, answers: Sequence[Sequence[Prediction]], theirs: Sequence[Prediction] | None = None
) -> levels.Seeds | None:
    """Over the rows that every seed (and the other system) answered; None where there are none."""
    metric, targets = study.primary, study.targets
    tables = [
        {answer.id: answer for answer in each if metric.measurable(answer)}
        for each in [*answers, *([] if theirs is None else [theirs])]
    ]
    ids = [name for name in targets if all(name in table for table in tables)]
    if not ids:
        return None
    wanted = [targets[name] for name in ids]
    found = _columns(metric, wanted, [[table[name] for name in ids] for table in tables])
    other = None if theirs is None else found.pop()
    return levels.two_level(metric, found, other, seed=study.recipe.seed)


def _columns(metric: Any, targets: Sequence[Any], systems: Sequence[Sequence[Prediction]]) -> list[Any]:
    """Statistics of each system, all with the same columns: labels that one of them never names are counted too."""
    rows = metric.statistics([*targets] * len(systems), [answer for system in systems for answer in system])
    return [rows[place * len(targets) : (place + 1) * len(targets)] for place in range(len(systems))]


def _needed(study: Study, sd: float) -> int:
    """Seeds that would show a difference of the smallest useful gain between two ways of training (80 % power)."""
    gain = study.minimum_gain or 0.01
    return max(2, int(np.ceil(2 * (1.96 + 0.84) ** 2 * sd**2 / gain**2)))


def _plain(estimate: Estimate) -> dict[str, float]:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high, "n": estimate.n}


def _says(study: Study, numbers: dict[str, Any]) -> str:
    metric, score, soup = study.primary, numbers["score"], numbers["soup"]
    if score is None:
        return "no row could be measured"
    values = ", ".join(verdict.number(metric, value) for value in numbers["values"])
    interval = f"{verdict.number(metric, score.low)} to {verdict.number(metric, score.high)}"
    return (
        f"{metric.title} {values}: mean {verdict.number(metric, score.value)}, 95 % interval over seeds and rows "
        f"{interval}; "
        f"the average of their weights has {verdict.number(metric, soup['score'])} "
        f"({verdict.signed(metric, soup['gain'].value)} to the run's own)"
    )


PLUGIN = Seeds()
