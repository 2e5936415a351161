"""Which rows to label next: those the model is unsure of, spread out, and a fifth at random; and whether that pays.

Rows at random stay in because they alone are an unbiased sample. Whether the choice beats chance is measured on the
rows that have labels: a linear probe starts with a tenth of them and grows either way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from finesmith.baselines.base import as_text
from finesmith.data import inputs
from finesmith.errors import DataError, counted
from finesmith.evidence import clusters, levels
from finesmith.measurements import _probe
from finesmith.measurements.base import Effort, Measured, Study
from finesmith.metrics.base import label_set
from finesmith.predictor import answering
from finesmith.tasks.classification import Classification
from finesmith.types import Estimate, Example
from finesmith.watch import Watcher

COUNT, AT_RANDOM, WIDER = 100, 0.2, 5
POOL, GROWN = 20_000, 2_000
"""Most unlabelled rows that are looked at, and most labelled ones that the simulation grows from."""
ROUNDS, TIMES, START = 4, 5, 0.1


@dataclass(frozen=True)
class LabelNext:
    """100 rows of `--unlabelled FILE`, also written to measured/label_next.jsonl; active learning against random."""

    title: str = "what to label next"
    priority: int = 3
    effort: Effort = "standard"
    needs: tuple[str, ...] = ()
    uses: tuple[str, ...] = ("unlabelled",)

    def skips(self, study: Study) -> str:
        """It is about labels."""
        if not isinstance(study.task, Classification):
            return "it goes by the probabilities of labels, and this model writes texts"
        return ""

    def cost(self, study: Study) -> float:
        """The unlabelled rows are answered, and the probe is fitted some forty times."""
        classes = len(study.task.labels) if isinstance(study.task, Classification) else 1
        each = 1e-5 * min(GROWN, len(study.splits.train)) * (1 if _several(study) else classes)  # ridge: all at once
        fits = 2 * TIMES * ROUNDS * (0.05 + each)
        asked = 1_000 if study.options.get("unlabelled") else 0  # how many there are is not known before they are read
        return fits + study.answer_seconds * (asked + 0.2 * min(GROWN, len(study.splits.train)))

    def __call__(self, study: Study, watcher: Watcher) -> Measured:
        """The simulation always; the pick where there are rows to pick from."""
        advantage = _advantage(study)
        path, missing = study.options.get("unlabelled"), {}
        picked: list[dict[str, Any]] = []
        if path:
            picked = _pick(study, str(path), watcher)
            study.folder.write_lines("measured/label_next.jsonl", picked)
        else:
            missing["label_next: rows to pick from"] = "give them with --unlabelled FILE"
        return Measured(_says(picked, advantage), {"picked": picked, "advantage": advantage}, missing=missing)


def _pick(study: Study, path: str, watcher: Watcher) -> list[dict[str, Any]]:
    """The rows, the most uncertain first, those at random last."""
    asked = inputs.read(path, columns=answering(study.folder.path).columns)
    taken = {
        as_text(row.input) for part in (study.splits.train, study.splits.validation, study.splits.test) for row in part
    }
    fresh: dict[str, int] = {}
    for place, item in enumerate(asked.inputs):
        if as_text(item) not in taken:
            fresh.setdefault(as_text(item), place)
    pool = np.array(sorted(fresh.values()), dtype=int)
    if not len(pool):
        raise DataError(f"No row of {path} is new: every text is in the run's data already.")
    random = np.random.default_rng(study.recipe.seed)
    if len(pool) > POOL:
        pool = np.sort(random.permutation(pool)[:POOL])
    rows = [asked.inputs[place] for place in pool]
    with watcher.progress("answering the unlabelled rows", len(rows)) as progress:
        answers = study.tuned().task.answer(study.tuned().loaded, rows, progress=progress)
    study.forget()
    unsure = _probe.margins_of_several if _several(study) else _probe.margins
    margins = unsure(np.array([list(answer.scores.values()) for answer in answers]))
    chosen, drawn = choose(_probe.features(study, rows), margins, min(COUNT, len(rows)), seed=study.recipe.seed)
    order = [(int(at), "unsure") for at in chosen[np.argsort(margins[chosen])]] + [(int(at), "random") for at in drawn]
    return [
        {
            "id": asked.ids[pool[at]],
            "text": as_text(rows[at]),
            "answer": answers[at].output,
            "margin": float(margins[at]),
            "why": why,
        }
        for at, why in order
    ]


def choose(features: np.ndarray, margins: np.ndarray, count: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions of `count` rows: unsure and spread out (four fifths), and at random among the others (a fifth)."""
    unsure = count - round(AT_RANDOM * count)
    most = min(WIDER * unsure, max(unsure, len(margins) // 2))
    candidates = np.argsort(margins, kind="stable")[:most]
    chosen = _probe.diverse(features, candidates, unsure, seed=seed)
    others = np.setdiff1d(np.arange(len(margins)), chosen)
    return chosen, np.random.default_rng(seed).permutation(others)[: count - len(chosen)]


def _advantage(study: Study) -> dict[str, Any]:
    """What the probe gets right on the validation rows (accuracy; of several labels micro-F1), chosen rows minus random
    ones, mean over rounds, for each draw."""
    train, held = list(study.splits.train), list(study.splits.validation)
    order = np.random.default_rng(study.recipe.seed).permutation(len(train))[:GROWN]
    train = [train[place] for place in order]
    rows = _probe.features(study, [row.input for row in [*train, *held]])
    learner = _Several(rows, [*train, *held]) if _several(study) else _Single(rows, [*train, *held])
    counts = np.array([
        [_grown(learner, len(train), by_margin=by, seed=study.recipe.seed + time) for by in (True, False)]
        for time in range(TIMES)
    ])  # fmt: skip
    together = clusters.codes([row.id for row in held], clusters.of(held))
    found = _over_draws_and_rows(counts, together, seed=study.recipe.seed)
    by_round = _scores(counts.sum(axis=3)).mean(axis=0)  # [2, rounds]
    return {
        "value": found.value,
        "low": found.low,
        "high": found.high,
        "n": found.n,
        **({} if found.groups is None else {"groups": found.groups}),
        "draws": TIMES,
        "several_labels": _several(study),
        "labels": _sizes(len(train)),
        "chosen": by_round[0].tolist(),
        "random": by_round[1].tolist(),
    }


def _over_draws_and_rows(counts: np.ndarray, together: Sequence[int] | None, *, seed: int) -> Estimate:
    """Chosen minus random with an interval over draws and validation rows, which all draws share: five draws on the
    same rows agree on what is chance in these. `counts` [times, 2, rounds, N, 2] are numerators and denominators."""
    tables = np.moveaxis(counts, 3, 0).reshape(counts.shape[3], -1)
    rows = tables if together is None else levels.sums(tables, together)
    shape = (*counts.shape[:3], 2)

    def scores(weights: np.ndarray) -> np.ndarray:
        values = _scores((weights @ rows).reshape(-1, *shape)).mean(axis=-1)  # [D, times, 2]
        return values[..., 0] - values[..., 1]

    found = levels.over_seeds(scores, len(rows), (-1.0, 1.0), seed=seed).estimate
    return replace(found, n=len(tables), groups=None if together is None else len(rows))


def _scores(sums: np.ndarray) -> np.ndarray:
    """[...] of numerators and denominators [..., 2]; 0 where there was nothing to find."""
    return np.divide(sums[..., 0], sums[..., 1], out=np.zeros(sums.shape[:-1]), where=sums[..., 1] > 0)


def _sizes(n: int) -> list[int]:
    """How many labels after each round: from a tenth to half."""
    return [round(n * (START + (0.5 - START) * step / ROUNDS)) for step in range(1, ROUNDS + 1)]


class _Single:
    """A probe for one label a row: what it is unsure of, and what it gets right, after it learnt some rows."""

    def __init__(self, rows: np.ndarray, examples: Sequence[Example]) -> None:
        self.rows, self.labels = rows, np.array([str(example.target) for example in examples])

    def margins(self, have: np.ndarray, left: np.ndarray) -> np.ndarray:
        return _probe.margins(self._fitted(have).chances(self.rows[left]))

    def counts(self, have: np.ndarray, held: slice) -> np.ndarray:
        right = self._fitted(have).answers(self.rows[held]) == self.labels[held]
        return np.stack([right, np.ones(len(right))], axis=1)

    def _fitted(self, have: np.ndarray) -> _probe.Probe:
        return _probe.fit(self.rows[have], self.labels[have].tolist())


class _Several:
    """The same for several labels a row; what is counted is micro-F1's."""

    def __init__(self, rows: np.ndarray, examples: Sequence[Example]) -> None:
        names = sorted({label for example in examples for label in label_set(example.target)})
        self.rows = rows
        self.held = np.array([[name in label_set(example.target) for name in names] for example in examples])

    def margins(self, have: np.ndarray, left: np.ndarray) -> np.ndarray:
        scores = _probe.fit_several(self.rows[have], self.held[have]).scores(self.rows[left])
        return np.abs(scores).min(axis=1)

    def counts(self, have: np.ndarray, held: slice) -> np.ndarray:
        said = _probe.fit_several(self.rows[have], self.held[have]).scores(self.rows[held]) > 0
        truth = self.held[held]
        return np.stack([2.0 * (said & truth).sum(axis=1), said.sum(axis=1) + truth.sum(axis=1)], axis=1)


def _several(study: Study) -> bool:
    return isinstance(study.task, Classification) and study.task.multi_label


def _grown(learner: _Single | _Several, n: int, *, by_margin: bool, seed: int) -> list[np.ndarray]:
    """Of each held-out row (behind the first n) the numerator and denominator of its score [N, 2], after each round."""
    order = np.random.default_rng(seed).permutation(n)
    have = order[: max(2, round(n * START))]
    found = []
    for size in _sizes(n):
        left = np.setdiff1d(order, have, assume_unique=True)
        left = left[np.argsort(np.argsort(order)[left])]  # in the draw's order: the first are a random sample
        more = max(0, size - len(have))
        if by_margin and more:
            unsure = learner.margins(have, left)
            chosen, drawn = choose(learner.rows[left], unsure, min(more, len(left)), seed=seed)
            have = np.concatenate([have, left[chosen], left[drawn]])
        else:
            have = np.concatenate([have, left[:more]])
        found.append(learner.counts(have, slice(n, None)))
    return found


def _says(picked: Sequence[Any], advantage: dict[str, Any]) -> str:
    start = f"{counted(len(picked), 'row')} picked; " if picked else ""
    sure = "clear" if advantage["low"] > 0 else "a loss" if advantage["high"] < 0 else "not clear"
    value, low, high = (f"{100 * advantage[key]:+.1f}" for key in ("value", "low", "high"))
    return (
        f"{start}with a linear probe, choosing instead of drawing at random changes "
        f"{'micro-F1' if advantage['several_labels'] else 'accuracy'} by {value} points "
        f"({low} to {high} over {advantage['draws']} draws and {counted(advantage['n'], 'validation row')}): {sure}"
    )


PLUGIN = LabelNext()
