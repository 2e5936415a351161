"""Whether a classifier's probabilities are true, which answers to leave to a person, and sets that hold the truth.

The validation rows are cut into two halves: the first gives the temperature, the second the threshold and the conformal
quantile. The test rows only say how well these hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from finesmith import predictor
from finesmith.errors import RecipeError
from finesmith.evidence import calibration, clusters, ece, stats
from finesmith.evidence.told import Told
from finesmith.measurements.base import Effort, Measured, Study
from finesmith.metrics.base import label_set
from finesmith.predictor import Abstention
from finesmith.tasks.base import predict
from finesmith.tasks.classification import Classification
from finesmith.types import Estimate, Example, Prediction
from finesmith.watch import Watcher

LEAST = 40
"""Validation rows below which nothing can be set."""
RISK, ALPHAS = 0.05, (0.1, 0.05)
SHARES = (1.0, 0.9, 0.8, 0.7, 0.5)
SHOWN = 6
"""Groups of rows in the plot; the numbers have the bins that the errors were computed from."""


@dataclass(frozen=True)
class Calibration:
    """Temperature, abstention threshold (kept in the model folder), conformal sets; `--risk` is the share allowed."""

    title: str = "calibration and abstention"
    priority: int = 2
    effort: Effort = "quick"
    needs: tuple[str, ...] = ()
    uses: tuple[str, ...] = ("risk",)

    def skips(self, study: Study) -> str:
        """It is about labels, with rows enough."""
        if not isinstance(study.task, Classification):
            return "it is about the probabilities of labels, and this model writes texts"
        if (count := len(_alone(study.splits.validation, study.recipe.seed))) < LEAST:
            apart = "" if count == len(study.splits.validation) else " that do not belong together"
            return f"{count} validation rows{apart} are too few, {LEAST} are needed"
        return ""

    def cost(self, study: Study) -> float:
        """The tuned model answers the validation rows."""
        return study.answer_seconds * len(study.splits.validation) + 0.5

    def __call__(self, study: Study, watcher: Watcher) -> Measured:
        """Answers the validation rows, sets everything there, and looks at the test rows once."""
        if not 0 < (risk := float(study.options.get("risk", RISK))) < 1:
            raise RecipeError(f"--risk must be between 0 and 1, not {risk:g}: the share of wrong answers to allow.")
        rows = _alone(study.splits.validation, study.recipe.seed)
        with watcher.progress("answering the validation rows", len(rows)) as progress:
            answers = predict(study.tuned().task, study.tuned().loaded, rows, progress=progress)
        labels = list(answers[0].scores)
        seen = _told(rows, answers, labels)
        half = len(seen.truth) // 2
        heat = seen.part(slice(half)).temperature()
        held = seen.part(slice(half, None)).tempered(heat)
        abstention = _abstention(held, heat, risk)
        predictor.keep_abstention(study.tuned_folder, abstention)
        test = _told(study.splits.test, study.predictions["tuned"], labels)
        after = test.tempered(heat)
        known = _known(study.splits.test, study.predictions["tuned"], labels)
        together = clusters.codes([row.id for row in known], study.clusters)
        numbers = {
            "temperature": heat,
            "several_labels": seen.several,
            "rows": {"temperature": half, "threshold": len(held.truth), "test": len(test.truth)},
            "before": _scores(test, study.recipe.seed, together),
            "after": _scores(after, study.recipe.seed, together),
            "abstain": _kept(abstention, after, risk),
            "coverage": _coverage(after),
            "sets": [_sets(held, after, alpha) for alpha in ALPHAS],
        }
        alone = len(set(together)) / len(together) if together else 1.0
        return Measured(says=_says(numbers), numbers=numbers, plots=_plots(numbers, alone))


def _alone(rows: Sequence[Example], seed: int) -> list[Example]:
    """The rows in an order by chance, one of each cluster: what the threshold is shown on has to be independent."""
    known = clusters.of(rows)
    first: dict[int | str, Example] = {}
    for place in np.random.default_rng(seed).permutation(len(rows)):
        first.setdefault(known.get(rows[place].id, rows[place].id), rows[place])
    return list(first.values())


def _known(rows: Sequence[Example], answers: Sequence[Prediction], labels: Sequence[str]) -> list[Example]:
    """The rows that were answered and whose labels the model knows."""
    answered = {answer.id for answer in answers}
    return [row for row in rows if row.id in answered and label_set(row.target) <= set(labels)]


def _told(rows: Sequence[Example], answers: Sequence[Prediction], labels: Sequence[str]) -> Told:
    """Probabilities and truth of the known rows."""
    column, by_id = {label: place for place, label in enumerate(labels)}, {answer.id: answer for answer in answers}
    known = _known(rows, answers, labels)
    chances = np.array([[by_id[row.id].scores[label] for label in labels] for row in known])
    if not any(isinstance(row.target, tuple) for row in known):
        return Told(chances, np.array([column[str(row.target)] for row in known]))
    return Told(chances, np.array([[label in label_set(row.target) for label in labels] for row in known]))


def _abstention(held: Told, heat: float, risk: float) -> Abstention | None:
    """The threshold that was shown to keep the risk, else what few rows give, else none."""
    sure, right = held.confidence, held.right
    found = calibration.threshold(sure, right, risk) or calibration.likely_threshold(sure, right, risk)
    if found is None:
        return None
    return Abstention(heat, found.least, risk, found.shown, len(right), held.several, found.risk, found.bound)


def _scores(test: Told, seed: int, together: Sequence[int] | None) -> dict[str, Any]:
    found = ece.ece(test.confidence, test.right, seed=seed, clusters=together)
    return {
        "ece": found.raw,
        "ece_by_chance": found.chance,
        "ece_corrected": found.estimate,
        "calibrated": found.calibrated,
        "classwise_ece": ece.classwise_ece(test.chances, test.truth),
        "brier": test.brier(),
        "nll": test.nll(),
        "aurc": calibration.aurc(test.confidence, test.right),
        "bins": found.bins,
    }


def _kept(abstention: Abstention | None, test: Told, risk: float) -> dict[str, Any]:
    """What the threshold does on the test rows."""
    if abstention is None:
        return {"risk": risk, "threshold": None}
    kept = test.confidence >= abstention.threshold
    return {
        "risk": risk,
        "threshold": abstention.threshold,
        "shown": abstention.shown,
        "seen": abstention.seen,
        "bound": abstention.bound,
        "answered": float(kept.mean()),
        "wrong": float(1 - test.right[kept].mean()) if kept.any() else 0.0,
    }


def _coverage(test: Told) -> list[dict[str, float]]:
    """The accuracy of the most confident share of the test rows."""
    coverage, risk = calibration.risk_coverage(test.confidence, test.right)
    places = [min(len(risk) - 1, int(np.searchsorted(coverage, share - 1e-9))) for share in SHARES]
    return [{"share": share, "accuracy": float(1 - risk[at])} for share, at in zip(SHARES, places, strict=True)]


def _sets(held: Told, test: Told, alpha: float) -> dict[str, float | None]:
    """Sets of labels that hold the truth in 1 - alpha of the rows (of several labels that share of them): the quantile,
    and what it does on the test rows."""
    quantile = held.quantile(alpha)
    members = calibration.sets(test.chances, quantile)
    truth, size = test.held, members.sum(axis=1)
    holds = (members & truth).sum(axis=1) / np.maximum(1, truth.sum(axis=1))
    holds[~truth.any(axis=1)] = 1.0
    classes = [float(members[truth[:, label], label].mean()) for label in np.flatnonzero(truth.any(axis=0))]
    return {
        "alpha": alpha,
        "quantile": quantile,
        "holds": float(holds.mean()),
        "size": float(size.mean()),
        "empty": float((size == 0).mean()),
        "worst_class": min(classes, default=None),  # no test row may have a label
    }


def _says(numbers: Mapping[str, Any]) -> str:
    before, after, abstain = numbers["before"], numbers["after"], numbers["abstain"]
    errors = " and ".join(_banded(each["ece_corrected"]) for each in (before, after))
    start, risk = (
        f"calibration error {errors} without and with temperature {numbers['temperature']:.2f}",
        _percent(abstain["risk"]),
    )
    if abstain["threshold"] is None:
        return f"{start}; no share of the answers is good enough for {risk} wrong ones"
    bound = _percent(abstain["bound"])
    known = "" if abstain["shown"] else f" (not shown: by so few validation rows it may be {bound})"
    return (
        f"{start}; for at most {risk} wrong it answers {_percent(abstain['answered'])} of the test rows, "
        f"{_percent(abstain['wrong'])} of them wrong{known}"
    )


def _banded(error: Estimate) -> str:
    return f"{_percent(error.value)} (95 % interval {100 * error.low:.3g} to {_percent(error.high)})"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _plots(numbers: Mapping[str, Any], alone: float) -> list[dict[str, Any]]:
    """Is it as often right as it is sure; and what is gained when it leaves the doubtful rows to a person.

    Args:
        alone: the share of independent rows: where some belong together, as many as there are groups.
    """
    return [
        {
            "kind": "reliability",
            "title": "How often it is right, by how sure it is",
            "x": "mean confidence of the answers in a group (1 is certain)",
            "y": "share that is right",
            "values": {
                name: _grouped(numbers[key]["bins"], alone)
                for name, key in (("as it is", "before"), ("with the temperature", "after"))
            },
        },
        {
            "kind": "curves",
            "title": "What is gained when it answers only the rows it is surest of",
            "x": "share of the test rows that it answers",
            "y": "share that is right",
            "values": {"the surest rows": sorted([each["share"], each["accuracy"]] for each in numbers["coverage"])},
        },
    ]


def _grouped(bins: Sequence[Sequence[float]], alone: float = 1.0) -> list[list[float]]:
    """Neighbouring bins put together until `SHOWN` are left: with few rows each, they show nothing but chance. Behind
    confidence, share and rows stand the ends of the share's 95 % interval (Wilson)."""
    groups = [part for part in np.array_split(np.array(bins, float), min(SHOWN, len(bins))) if len(part)]
    return [_group(part, alone) for part in groups]


def _group(part: np.ndarray, alone: float) -> list[float]:
    sure, right = (float(np.average(part[:, at], weights=part[:, 2])) for at in (0, 1))
    rows = int(part[:, 2].sum())
    band = stats.wilson(right * rows * alone, rows * alone)
    return [sure, right, rows, band.low, band.high]


PLUGIN = Calibration()
