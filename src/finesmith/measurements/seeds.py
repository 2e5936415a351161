"""The same training with other seeds: how much of the gain is luck, and does averaging the weights help?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from finesmith import predictor
from finesmith.evidence import clusters, levels, plain, verdict
from finesmith.measurements import _general, _knowledge, _line, _soup, _speaker
from finesmith.measurements.base import Effort, Measured, Study
from finesmith.metrics.bits_per_byte import BitsPerByte
from finesmith.tasks.base import predict
from finesmith.types import Prediction
from finesmith.watch import Watcher

if TYPE_CHECKING:
    from finesmith.models.load import Loaded

MORE = 2
"""Seeds besides the run's own."""


@dataclass(frozen=True)
class Seeds:
    """Two more seeds: spread, an interval over seeds and rows, knowledge lost over seeds, and the soup of the three."""

    title: str = "other seeds"
    priority: int = 2
    effort: Effort = "standard"
    needs: tuple[str, ...] = ("prompting",)
    uses: tuple[str, ...] = ("minimum_gain",)

    def skips(self, study: Study) -> str:
        """It applies to every run."""
        return ""

    def cost(self, study: Study) -> float:
        """Two trainings, three times the test rows (two seeds and the soup), twice the validation rows (the soup, the
        run's own), and a reading of the passages by every model and the base."""
        reading = 0 if _line.refusal(study.folder, study.recipe) else _general.READING[study.task.kind]
        rows = (MORE + 1) * len(study.splits.test) + 2 * len(study.splits.validation) + (MORE + 2) * reading
        return MORE * study.train_seconds + study.answer_seconds * rows

    def __call__(self, study: Study, watcher: Watcher) -> Measured:
        """Trains, answers and averages. The mean over seeds is the honest number; the best seed is only luck."""
        answers, soup, read = [list(study.predictions["tuned"])], _soup.Soup(), _Reader(study)
        seeds = [study.recipe.seed + place for place in range(MORE + 1)]
        for seed in seeds[1:]:
            with study.retrained(watcher, seed=seed) as arm:
                answers.append(arm.predict(study.splits.test))
                read.add(arm.model.loaded)
                soup.add(arm.model.loaded.model)
        read.add(study.tuned().loaded)
        soup.add(study.tuned().loaded.model)
        score = _two_level(study, answers)
        others = {name: theirs for name, theirs in study.predictions.items() if name != "tuned"}
        gains = {name: _two_level(study, answers, theirs) for name, theirs in others.items()}
        numbers = {
            "seeds": seeds,
            "values": score.values if score else [],
            "sd": score.sd if score else None,
            "score": score.estimate if score else None,
            "gains": {
                name: {**plain.values_of(found.estimate), "sd": found.sd} for name, found in gains.items() if found
            },
            "soup": _poured(study, soup, seeds, answers[0]),
            "knowledge": read.over_seeds(),
            "seeds_needed": _needed(study, score.sd) if score else None,
        }
        return Measured(says=_says(study, numbers), numbers=numbers)

    def retold(self, study: Study, values: Mapping[str, Any]) -> Measured:
        """The same trainings, with the seeds that another smallest useful gain would take."""
        sd = values["numbers"]["sd"]
        needed = None if sd is None else _needed(study, sd)
        return Measured(values["says"], {**values["numbers"], "seeds_needed": needed}, plots=values["plots"])


class _Reader:
    """What every seed's model makes of the passages, beside the base. Nothing where the run has no line to its base."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.seeds: list[np.ndarray] = []
        self.reads = not _line.refusal(study.folder, study.recipe)
        if self.reads:
            _speaker.prepare(study)

    def add(self, loaded: Loaded) -> None:
        """One more seed's model."""
        if self.reads:
            self.seeds.append(_knowledge.look(self.study, loaded).passages)

    def over_seeds(self) -> dict[str, Any]:
        """`change_bits_per_byte`, or an encoder's `loss_probe_accuracy`, as of `retention`, over seeds and passages."""
        if not self.reads:
            return {}
        self.study.forget()  # one model in memory
        known = _knowledge.look(self.study, self.study.base().loaded)
        base = known.passages
        below = base if known.language else np.ones(len(base))
        tables = [np.stack([each, below], axis=1) for each in self.seeds]
        start = np.stack([base, below], axis=1)
        # sums of the first column over sums of the second, and what is lower is better: of nats minus the change
        found = levels.two_level(BitsPerByte(), tables, start, seed=self.study.recipe.seed)
        return {known.name: -found.estimate if known.language else found.estimate, "sd": found.sd}


def _poured(study: Study, soup: _soup.Soup, seeds: Sequence[int], own: Sequence[Prediction]) -> dict[str, Any]:
    """The soup as it would be used: written into the run, loaded, asked. It stays there (`RUN/soup`) where it is no
    worse than the run's own model on the validation rows; the test rows only report."""
    where, held = study.recipe.model, study.splits.validation
    before = _written(study, soup, seeds)
    study.forget()  # one model in memory
    mixed = predictor.load(
        study.folder.file(_soup.FOLDER),
        device=where.device,
        dtype=where.dtype,
        trust_remote_code=where.trust_remote_code,
    )
    after = study.score(held, predict(mixed.task, mixed.loaded, held))
    answers = predict(mixed.task, mixed.loaded, study.splits.test)
    kept = after >= before if study.primary.higher_is_better else after <= before
    if not kept:
        study.folder.remove(_soup.FOLDER)
    return {
        "score": study.score(study.splits.test, answers),
        "gain": study.gain(answers, over=own),
        "validation": after,
        "validation_of_tuned": before,
        "kept": kept,
    }


def _written(study: Study, soup: _soup.Soup, seeds: Sequence[int]) -> float:
    """Writes the soup into the run, with the run's own model, whose score on the validation rows it gives."""
    tuned, held = study.tuned(), study.splits.validation
    score = study.score(held, predict(tuned.task, tuned.loaded, held))
    study.folder.write_with(_soup.FOLDER, lambda part: soup.write(part, study.tuned_folder, tuned, seeds))
    return score


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
    together = clusters.codes(ids, study.clusters)
    return levels.two_level(metric, found, other, clusters=together, seed=study.recipe.seed)


def _columns(metric: Any, targets: Sequence[Any], systems: Sequence[Sequence[Prediction]]) -> list[Any]:
    """Statistics of each system, all with the same columns: labels that one of them never names are counted too."""
    rows = metric.statistics([*targets] * len(systems), [answer for system in systems for answer in system])
    return [rows[place * len(targets) : (place + 1) * len(targets)] for place in range(len(systems))]


def _needed(study: Study, sd: float) -> int:
    """Seeds that would show a difference of the smallest useful gain between two ways of training (80 % power)."""
    span = study.primary.limits[1] - study.primary.limits[0]
    gain = study.minimum_gain or 0.01 * (span if math.isfinite(span) else 1.0)
    return max(2, int(np.ceil(2 * (1.96 + 0.84) ** 2 * sd**2 / gain**2)))


def _says(study: Study, numbers: dict[str, Any]) -> str:
    metric, score, soup = study.primary, numbers["score"], numbers["soup"]
    if score is None:
        return "no row could be measured"
    kept = f"and is kept in {study.folder.file(_soup.FOLDER)}"
    values = ", ".join(verdict.number(metric, value) for value in numbers["values"])
    interval = f"{verdict.number(metric, score.low)} to {verdict.number(metric, score.high)}"
    return (
        f"{metric.title} {values}: mean {verdict.number(metric, score.value)}, 95 % interval over seeds and rows "
        f"{interval}; "
        f"the average of their weights has {verdict.number(metric, soup['score'])} "
        f"({verdict.gained(metric, soup['gain'].value)} to the run's own), "
        f"{kept if soup['kept'] else 'and is not kept: it is worse on the validation rows'}"
    )


PLUGIN = Seeds()
