"""Two checks that must come out as expected, or the pipeline is broken.

Labels that mean nothing are not learnt (shuffled, under TF-IDF), and twenty rows are learnt by heart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from finesmith import registry
from finesmith.baselines.base import as_text
from finesmith.errors import counted
from finesmith.evidence import equivalence, verdict
from finesmith.measurements.base import Effort, Measured, Study
from finesmith.tasks.base import predict
from finesmith.tasks.classification import Classification
from finesmith.types import Example, Prediction, Splits
from finesmith.watch import Watcher

ROWS = 20
ATTEMPTS = ((60, 1.0), (120, 3.0), (300, 3.0))
"""Steps and multiples of the run's learning rate; the first that learns the rows ends it."""
ALPHA = 0.001
"""How often chance alone may raise an alarm over shuffled labels: in one of 1,000 sound runs. At 2.5 % every fortieth
sound run would be called broken, and with the same seed every time it is asked."""
LOST = 0.5
"""A generator has learnt its rows when its loss on them has fallen to this share; a classifier must know every one."""


@dataclass(frozen=True)
class Controls:
    """Shuffled labels under TF-IDF fall to chance; the model learns 20 examples."""

    title: str = "negative controls"
    priority: int = 1
    effort: Effort = "quick"
    needs: tuple[str, ...] = ()

    def skips(self, study: Study) -> str:
        """It applies to every run with two rows to learn."""
        return "" if len(study.splits.train) > 1 else "there is one training row"

    def cost(self, study: Study) -> float:
        """The steps of a first attempt, which mostly is enough, and one fit of TF-IDF."""
        linear = 1.0 + 2e-3 * len(study.splits.train) if isinstance(study.task, Classification) else 0.0
        steps = ATTEMPTS[0][0] * min(1.0, ROWS / study.recipe.train.batch_size)
        return linear + study.preparing_seconds + steps * study.step_seconds + 2 * ROWS * study.answer_seconds

    def __call__(self, study: Study, watcher: Watcher) -> Measured:
        """Both controls; a classifier's labels are shuffled, for a generator only the second is made."""
        numbers: dict[str, Any] = {"overfit": _overfit(study, watcher)}
        missing = {}
        if isinstance(study.task, Classification):
            numbers["shuffled"] = _shuffled(study)
        else:
            missing["controls: shuffled labels"] = "there are no labels to shuffle"
        numbers["passed"] = all(numbers[name]["passed"] for name in numbers)
        return Measured(says=_says(study, numbers), numbers=numbers, missing=missing)


def _shuffled(study: Study) -> dict[str, Any]:
    """TF-IDF on labels dealt out anew, against the same answers given to other rows: it must not be better
    by more than chance explains."""
    train, test = list(study.splits.train), study.splits.test
    random = np.random.default_rng(study.recipe.seed)
    order = random.permutation(len(train))
    dealt = [replace(row, target=train[place].target) for row, place in zip(train, order, strict=True)]
    inputs = [(row.id, as_text(row.input)) for row in test]
    answers = list(registry.resolve("baselines", "tfidf")(dealt, inputs, seed=study.recipe.seed))
    others = random.permutation(len(answers))
    chance = [replace(answers[other], id=answer.id) for answer, other in zip(answers, others, strict=True)]
    gain = study.gain(answers, over=chance)
    return {
        "score": study.score(test, answers),
        "chance": study.score(test, chance),
        "above_chance": gain,
        "p": (p := equivalence.above(gain)),
        "passed": p >= ALPHA,
    }


def _overfit(study: Study, watcher: Watcher) -> dict[str, Any]:
    """The run's own recipe on a few rows, which validate and test too; if need be for longer and faster."""
    rows = _few(study)
    first = [] if isinstance(study.task, Classification) else _of_base(study, rows)
    study.forget()
    rate = float(study.recipe.train.learning_rate)
    found: dict[str, Any] = {}
    for steps, faster in ATTEMPTS:
        found = _learnt(study, watcher, rows, first, steps, faster * rate)
        if found["passed"]:
            break
    return found


def _of_base(study: Study, rows: Sequence[Example]) -> list[Prediction]:
    base = study.base()
    return predict(base.task, base.loaded, rows)


def _learnt(
    study: Study, watcher: Watcher, rows: Sequence[Example], first: Sequence[Prediction], steps: int, rate: float
) -> dict[str, Any]:
    """One attempt, without the head's head start: what the steps alone have learnt."""
    small = replace(study, splits=Splits(rows, rows, rows, study.splits.hash), _models={})
    settings: dict[str, Any] = {"epochs": "auto", "max_steps": steps, "learning_rate": rate, "keep": "last"}
    settings |= {"patience": None, "evaluations": 1, "batch_size": min(study.recipe.train.batch_size, len(rows))}
    head: dict[str, Any] = {} if first else {"classification": {"head_first": False}}
    with small.retrained(watcher, train=settings, **head) as arm:
        answers = arm.predict(rows)
    found: dict[str, Any] = {"rows": len(rows), "steps": steps, "learning_rate": rate}
    found["score"] = study.score(rows, answers)
    if not first:
        right = sum(answer.output == row.target for answer, row in zip(answers, rows, strict=True))
        return {**found, "learnt": right, "passed": right == len(rows)}
    losses = [_loss(first), _loss(answers)]
    return {**found, "loss_before": losses[0], "loss": losses[1], "passed": losses[1] <= LOST * losses[0]}


def _few(study: Study) -> list[Example]:
    """Twenty training rows with different inputs, label by label in turn."""
    by_label: dict[str, list[Example]] = {}
    seen: set[str] = set()
    for row in study.splits.train:
        text = as_text(row.input)
        label = str(row.target) if isinstance(study.task, Classification) else ""
        if text not in seen and len(by_label.setdefault(label, [])) < ROWS:
            seen.add(text)
            by_label[label].append(row)
    turns = [row for place in range(ROWS) for rows in by_label.values() for row in rows[place : place + 1]]
    return turns[:ROWS]


def _loss(answers: Sequence[Prediction]) -> float:
    """Nats a token of the references."""
    tokens = sum(answer.scores.get("tokens", 0.0) for answer in answers)
    return sum(answer.scores.get("nats", 0.0) for answer in answers) / max(1.0, tokens)


def _says(study: Study, numbers: dict[str, Any]) -> str:
    overfit, shuffled = numbers["overfit"], numbers.get("shuffled")
    rows = counted(overfit["rows"], "row")
    if "learnt" in overfit:
        learnt = f"{overfit['learnt']} of {rows} learnt by heart"
    else:
        learnt = f"the loss on {rows} fell from {overfit['loss_before']:.2f} to {overfit['loss']:.2f}"
    parts = [f"{learnt}: {'as it must' if overfit['passed'] else 'SOMETHING IS WRONG, the model does not learn'}"]
    if shuffled:
        score, chance = (verdict.number(study.primary, shuffled[name]) for name in ("score", "chance"))
        alarm = (
            f"SOMETHING MAY BE WRONG, chance alone gives this in fewer than one of {1 / ALPHA:,.0f} sound runs; test "
        )
        outcome = "as it must" if shuffled["passed"] else f"{alarm}rows may leak into the features"
        parts.append(f"shuffled labels give {score}, the same answers on other rows {chance}: {outcome}")
    return "; ".join(parts)


PLUGIN = Controls()
