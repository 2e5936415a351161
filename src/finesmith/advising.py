"""Should this be fine-tuned at all? Nothing large is trained: checks, cheap opponents and prompts on the test rows.

The rule, decided by `decide`: do not fine-tune where something cheap surely reaches the target already, or where even a
model without an error would surely gain less than is of use. What is left is what fine-tuning has to beat.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from finesmith import examine, registry, run
from finesmith.baselines import _features
from finesmith.baselines.base import NO_MEMORY, as_text
from finesmith.evidence import clusters, plain
from finesmith.evidence import compare as evidences
from finesmith.evidence.advice import FROZEN, Decision, decide, signed
from finesmith.metrics.base import Metric, refuse_impossible
from finesmith.models import place
from finesmith.recipe import Recipe
from finesmith.report import words
from finesmith.types import Estimate, Example, Finding, Prediction, Splits
from finesmith.watch import Watcher


@dataclass(frozen=True)
class Advice:
    """What to do, in a word and in a sentence, and every number behind it.

    `systems` are values on the locked test rows, `gains` how much better the best of them is than each other one (its
    paired interval); `seconds` is how long each part took.
    """

    source: str
    decision: Decision
    sentence: str
    metric: str
    rows: Mapping[str, int]
    best: str
    systems: Mapping[str, Estimate]
    gains: Mapping[str, Estimate]
    titles: Mapping[str, str]
    findings: tuple[Finding, ...]
    not_measured: Mapping[str, str]
    seconds: Mapping[str, float]
    prompting: Mapping[str, Any] = field(default_factory=dict)


def advise(
    recipe: Recipe, *, target: float | None = None, minimum_gain: float | None = None, watcher: Watcher | None = None
) -> Advice:
    """Measures what a fine-tuned model would have to beat.

    Args:
        recipe: as `tune` takes it; the model is only prompted, and a linear head is fitted on its frozen features.
        target: the value of the primary metric that would be good enough.
        minimum_gain: the smallest gain that is of use, in the metric's units; None is one point (a hundredth of its
            range), 0 where it has no range.

    Raises:
        DataError: the rows cannot be used.
        RecipeError: a target or a gain that the metric cannot have.
    """
    watcher, clock = watcher or Watcher(), _Clock()
    place.check(recipe.model)
    prepared = run.prepare(recipe)
    recipe, splits = prepared.recipe, prepared.splits
    task = registry.resolve("tasks", recipe.task)(recipe.section(recipe.task)).fit(splits.train)
    metric = registry.resolve("metrics", task.primary)
    refuse_impossible(metric, target, minimum_gain)
    findings, leaked, looked = clock.time(
        "check", lambda: examine.before_training(recipe, splits, recipe.task, watcher)
    )
    if looked:
        watcher.note(looked)
    blind = {row.id for row in splits.test} <= set(leaked)
    splits, missing = _unseen(splits, leaked)
    found: dict[str, Sequence[Prediction]] = {}
    _cheap(recipe, splits, found, missing, clock)
    prompting = _base(recipe, task, splits, metric, found, missing, clock, watcher)
    systems, gains, best = _weigh(metric, splits.test, found, recipe.seed)
    titles = {name: _title(name) for name in systems}
    least = _least(metric, minimum_gain)
    decision, sentence = decide(
        metric, systems, gains, best, titles, target=target, minimum_gain=least, findings=findings, blind=blind
    )
    return Advice(
        source=recipe.data.path,
        decision=decision,
        sentence=sentence,
        metric=metric.title,
        rows={part: len(getattr(splits, part)) for part in ("train", "validation", "test")},
        best=best,
        systems=systems,
        gains=gains,
        titles=titles,
        findings=findings,
        not_measured=missing,
        seconds=clock.seconds,
        prompting=prompting,
    )


def as_json(advice: Advice) -> dict[str, Any]:
    """Everything as plain values."""
    return plain.values_of(advice)


def _base(
    recipe: Recipe,
    task: Any,
    splits: Splits,
    metric: Metric,
    found: dict[str, Sequence[Prediction]],
    missing: dict[str, str],
    clock: _Clock,
    watcher: Watcher,
) -> dict[str, Any]:
    """What the base does without training: a linear head on its frozen features, and prompts."""
    from finesmith.measurements import _ladder, _prompted, prompting

    if recipe.task == "classification":
        with watcher.progress("a linear head on frozen features", len(splits.train)):
            found[FROZEN] = clock.time(FROZEN, lambda: _frozen(recipe, task, splits))
    why = _prompted.why_not(recipe, task)
    if why:
        missing["prompt"] = why
        return {}
    ladder = clock.time(
        "prompting",
        lambda: prompting.search(recipe, task, splits, metric, looks=0, watcher=watcher),
    )
    found |= {f"prompt-{name}": answers for name, answers in ladder.answers.items()}
    return _ladder.summary(ladder)


def _unseen(splits: Splits, leaked: Sequence[str]) -> tuple[Splits, dict[str, str]]:
    """Without the test rows that training has seen too, which copies of training rows answer best; and how many."""
    judged = evidences.judged((row.id for row in splits.test), leaked)
    kept = [row for row in splits.test if row.id in judged]
    gone = len(splits.test) - len(kept)
    why = "they are equal or nearly equal to rows that were trained on"
    missing = {f"{gone:,} of {len(splits.test):,} test rows": why} if gone else {}
    return replace(splits, test=kept), missing


def _frozen(recipe: Recipe, task: Any, splits: Splits) -> Sequence[Prediction]:
    from finesmith import measure
    from finesmith.models import load as models

    loaded = models.load(recipe.model, task.kind, **task.load_arguments(), seed=recipe.seed)
    context = models.context_length(loaded.model.config, loaded.tokenizer)
    asked = recipe.train.max_length
    length = min(context, task.max_length) if asked == "auto" else int(asked)
    return measure.frozen(task.restore({**task.state(), "max_length": length}), loaded, splits, length)


class _Clock:
    """How long each part took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def time(self, name: str, work: Callable[[], Any]) -> Any:
        began = time.monotonic()
        try:
            return work()
        finally:
            self.seconds[name] = time.monotonic() - began


def _baselines(task: str) -> list[str]:
    return [name for name in registry.available("baselines") if task in registry.resolve("baselines", name).tasks]


def _cheap(
    recipe: Recipe,
    splits: Splits,
    found: dict[str, Sequence[Prediction]],
    missing: dict[str, str],
    clock: _Clock,
) -> None:
    """The baselines' answers; why one has none, and what none has learnt from."""
    inputs = [(row.id, as_text(row.input)) for row in splits.test]
    for name in _baselines(recipe.task):
        baseline = registry.resolve("baselines", name)
        try:
            found[name] = clock.time(name, functools.partial(baseline, splits.train, inputs, seed=recipe.seed))
        except MemoryError:
            missing[name] = NO_MEMORY
    if why := _features.left_out([as_text(row.input) for row in splits.train]):
        missing["all training rows"] = why


def _weigh(
    metric: Metric, test: Sequence[Example], found: Mapping[str, Sequence[Prediction]], seed: int
) -> tuple[dict[str, Estimate], dict[str, Estimate], str]:
    """Every system's value, how much better the best is than each other one on common rows, and which it is."""
    targets, together = {row.id: row.target for row in test}, clusters.of(test)
    able = {name: rows for name, rows in found.items() if any(metric.measurable(row) for row in rows)}
    systems = {
        name: evidences.estimate(metric, targets, rows, clusters=together, seed=seed) for name, rows in able.items()
    }
    if not systems:
        return {}, {}, ""

    def better(one: str, other: str) -> Estimate:
        return evidences.between(metric, targets, able[one], able[other], clusters=together, seed=seed)

    most = max(value.n for value in systems.values())
    whole = [name for name in systems if systems[name].n == most]
    best = max(whole, key=lambda name: signed(metric) * systems[name].value)
    for name in systems:  # one that answered fewer rows is better only if it is so on these
        if name not in whole and better(name, best).value > 0:
            best = name
    return systems, {name: better(best, name) for name in systems if name != best}, best


def _title(name: str) -> str:
    title = words.system_title(name)
    return title[0].upper() + title[1:]


def _least(metric: Metric, given: float | None) -> float:
    span = metric.limits[1] - metric.limits[0]
    return given if given is not None else (0.01 * span if span != float("inf") else 0.0)
