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
from finesmith.evidence import calibration
from finesmith.measurements.base import Effort, Measured, Study
from finesmith.predictor import Abstention
from finesmith.tasks.base import predict
from finesmith.tasks.classification import Classification
from finesmith.types import Example, Prediction
from finesmith.watch import Watcher

LEAST = 40
"""Validation rows below which nothing can be set."""
RISK, ALPHAS = 0.05, (0.1, 0.05)
SHARES = (1.0, 0.9, 0.8, 0.7, 0.5)


@dataclass(frozen=True)
class Calibration:
    """Temperature, abstention threshold (kept in the model folder), conformal sets; `--risk` is the share allowed."""

    title: str = "calibration and abstention"
    priority: int = 2
    effort: Effort = "quick"
    needs: tuple[str, ...] = ()

    def skips(self, study: Study) -> str:
        """It is about one label a row, with rows enough."""
        if not isinstance(study.task, Classification):
            return "it is about the probabilities of labels, and this model writes texts"
        if study.task.multi_label:
            return "several labels may hold: there is no one probability to be true"
        if len(study.splits.validation) < LEAST:
            return f"{len(study.splits.validation)} validation rows are too few, {LEAST} are needed"
        return ""

    def cost(self, study: Study) -> float:
        """The tuned model answers the validation rows."""
        return study.answer_seconds * len(study.splits.validation) + 0.5

    def __call__(self, study: Study, watcher: Watcher) -> Measured:
        """Answers the validation rows, sets everything there, and looks at the test rows once."""
        if not 0 < (risk := float(study.options.get("risk", RISK))) < 1:
            raise RecipeError(f"--risk must be between 0 and 1, not {risk:g}: the share of wrong answers to allow.")
        rows = list(study.splits.validation)
        order = np.random.default_rng(study.recipe.seed).permutation(len(rows))
        rows = [rows[place] for place in order]
        with watcher.progress("answering the validation rows", len(rows)) as progress:
            answers = predict(study.tuned().task, study.tuned().loaded, rows, progress=progress)
        labels = list(answers[0].scores)
        chances, truth = _table(rows, answers, labels)
        half = len(rows) // 2
        heat = calibration.temperature(chances[:half], truth[:half])
        held, known = calibration.tempered(chances[half:], heat), truth[half:]
        abstention = _abstention(held, known, heat, risk)
        predictor.keep_abstention(study.folder, abstention)
        test, targets = _table(study.splits.test, study.predictions["tuned"], labels)
        numbers = {
            "temperature": heat,
            "rows": {"temperature": half, "threshold": len(rows) - half, "test": len(targets)},
            "before": _scores(test, targets, study.recipe.seed),
            "after": _scores(calibration.tempered(test, heat), targets, study.recipe.seed),
            "abstain": _kept(abstention, calibration.tempered(test, heat), targets, risk),
            "coverage": _coverage(calibration.tempered(test, heat), targets),
            "sets": [_sets(held, known, calibration.tempered(test, heat), targets, alpha) for alpha in ALPHAS],
        }
        return Measured(says=_says(numbers), numbers=numbers, plots=_plots(numbers))


def _table(
    rows: Sequence[Example], answers: Sequence[Prediction], labels: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities [N, K] and columns of the truth [N] of the rows whose label the model knows."""
    column, by_id = {label: place for place, label in enumerate(labels)}, {answer.id: answer for answer in answers}
    found = [
        (by_id[row.id].scores, column[str(row.target)]) for row in rows if row.id in by_id and row.target in column
    ]
    return np.array([[scores[label] for label in labels] for scores, _ in found]), np.array([at for _, at in found])


def _abstention(held: np.ndarray, known: np.ndarray, heat: float, risk: float) -> Abstention | None:
    """The threshold that was shown to keep the risk, else the likely one, else none."""
    confidence, right = held.max(axis=1), (held.argmax(axis=1) == known).astype(float)
    found = calibration.threshold(confidence, right, risk) or calibration.likely_threshold(confidence, right, risk)
    return Abstention(heat, found.least, risk, found.shown, len(known)) if found else None


def _scores(chances: np.ndarray, truth: np.ndarray, seed: int) -> dict[str, Any]:
    confidence, right = chances.max(axis=1), (chances.argmax(axis=1) == truth).astype(float)
    found = calibration.ece(confidence, right, seed=seed)
    return {
        "ece": found.raw,
        "ece_by_chance": found.chance,
        "ece_corrected": found.estimate,
        "calibrated": found.calibrated,
        "classwise_ece": calibration.classwise_ece(chances, truth),
        "brier": calibration.brier(chances, truth),
        "nll": calibration.nll(chances, truth),
        "aurc": calibration.aurc(confidence, right),
        "bins": found.bins,
    }


def _kept(abstention: Abstention | None, chances: np.ndarray, truth: np.ndarray, risk: float) -> dict[str, Any]:
    """What the threshold does on the test rows."""
    if abstention is None:
        return {"risk": risk, "threshold": None}
    kept = chances.max(axis=1) >= abstention.threshold
    wrong = chances.argmax(axis=1) != truth
    return {
        "risk": risk,
        "threshold": abstention.threshold,
        "shown": abstention.shown,
        "answered": float(kept.mean()),
        "wrong": float(wrong[kept].mean()) if kept.any() else 0.0,
    }


def _coverage(chances: np.ndarray, truth: np.ndarray) -> list[dict[str, float]]:
    """The accuracy of the most confident share of the test rows."""
    coverage, risk = calibration.risk_coverage(chances.max(axis=1), (chances.argmax(axis=1) == truth).astype(float))
    places = [min(len(risk) - 1, int(np.searchsorted(coverage, share - 1e-9))) for share in SHARES]
    return [{"share": share, "accuracy": float(1 - risk[at])} for share, at in zip(SHARES, places, strict=True)]


def _sets(held: np.ndarray, known: np.ndarray, test: np.ndarray, truth: np.ndarray, alpha: float) -> dict[str, float]:
    """Sets of labels that hold the truth in 1 - alpha of the rows: the quantile, and what it does on the test rows."""
    quantile = calibration.conformal(held, known, alpha)
    members = calibration.sets(test, quantile)
    holds, size = members[np.arange(len(truth)), truth], members.sum(axis=1)
    worst = min(float(holds[truth == label].mean()) for label in np.unique(truth))
    return {
        "alpha": alpha,
        "quantile": quantile,
        "holds": float(holds.mean()),
        "size": float(size.mean()),
        "empty": float((size == 0).mean()),
        "worst_class": worst,
    }


def _says(numbers: Mapping[str, Any]) -> str:
    before, after, abstain = numbers["before"], numbers["after"], numbers["abstain"]
    errors = " and ".join(_percent(each["ece_corrected"].value) for each in (before, after))
    start, risk = (
        f"calibration error {errors} without and with temperature {numbers['temperature']:.2f}",
        _percent(abstain["risk"]),
    )
    if abstain["threshold"] is None:
        return f"{start}; no share of the answers is good enough for {risk} wrong ones"
    known = "" if abstain["shown"] else " (likely, not shown: few validation rows)"
    return (
        f"{start}; for at most {risk} wrong it answers {_percent(abstain['answered'])} of the test rows, "
        f"{_percent(abstain['wrong'])} of them wrong{known}"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _plots(numbers: Mapping[str, Any]) -> list[dict[str, Any]]:
    bins = numbers["after"]["bins"]
    return [
        {
            "kind": "bars",
            "title": "Accuracy by confidence, after the temperature",
            "x": "accuracy",
            "labels": [f"sure of {confidence:.2f}" for confidence, *_ in bins],
            "values": [accuracy for _, accuracy, _ in bins],
        },
    ]


PLUGIN = Calibration()
