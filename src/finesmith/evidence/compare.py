"""Every system on one test set: estimates, paired gains, the sentence that follows. Pure: no files, no models."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finesmith import registry
from finesmith.evidence import levels, stats, verdict
from finesmith.evidence.clusters import Clusters, codes
from finesmith.metrics.base import Metric, Statistics
from finesmith.types import Estimate, Evidence, Prediction, Target

TUNED, BASE, LOSS = "tuned", "base", "held_out_loss"
NO_TEST = "McNemar's test"
WHY_NO_TEST = "it is for independent rows, and some of these belong together; the intervals draw whole groups of them"


def compare(
    *,
    task: str,
    primary: str,
    metrics: Mapping[str, Metric],
    targets: Mapping[str, Target],
    predictions: Mapping[str, Sequence[Prediction]],
    opponents: Sequence[str],
    not_measured: Mapping[str, str] | None = None,
    costs: Mapping[str, float] | None = None,
    details: Mapping[str, Any] | None = None,
    ways: Mapping[str, str] | None = None,
    minimum_gain: float = 0.0,
    clusters: Clusters | None = None,
    seed: int,
) -> Evidence:
    """Weighs the tuned model against its opponents.

    Args:
        task: name of the task.
        primary: the metric that gains and verdict are about, a key of `metrics`.
        metrics: every metric by name.
        targets: the test rows by id; their order fixes the resamples.
        predictions: of each system, by name, "tuned" among them; ids as in `targets`, possibly only some of them.
        opponents: the systems that "tuned" is compared with; those without predictions have no gain.
        not_measured: what is missing, and why, by system or measurement; what is found missing here is added.
        costs, details: passed on; for shares McNemar's p-values are added as `details["mcnemar"]`, and where the loss
            is known beside the primary metric, what it gained over the base as `details["held_out_loss_gain"]`.
        ways: how to get a cheap opponent, for the verdict's advice.
        minimum_gain: the smallest gain on the primary metric that is of use, in its units.
        clusters: of rows that belong together (`clusters.of`); whole clusters are then drawn, and no McNemar's test is
            made, which is for independent rows.
        seed: of the bootstrap.
    """
    assert primary in metrics and TUNED in predictions
    ordered = {primary: metrics[primary], **metrics}
    measured = {
        system: {name: _measure(metric, targets, answers, clusters) for name, metric in ordered.items()}
        for system, answers in predictions.items()
    }
    systems = {system: _estimates(ordered, rows, seed) for system, rows in measured.items()}
    rows = {system: by_metric[primary] for system, by_metric in measured.items() if primary in systems[system]}
    present = [name for name in opponents if name in rows and TUNED in rows]
    pairs = {name: _paired(rows[TUNED], rows[name]) for name in present}
    gains = {name: _gain(metrics[primary], *pair, seed) for name, pair in pairs.items() if len(pair[0].ids)}
    loss = _loss(ordered, measured, systems, seed) if primary != LOSS else None
    said = verdict.sentence(
        metrics[primary],
        {system: scores[primary] for system, scores in systems.items() if primary in scores},
        gains,
        titles=titles(gains),
        ways=ways,
        loss=loss,
        minimum_gain=minimum_gain,
        base=verdict.HEAD if "zero-shot" in (not_measured or {}) else "the base",
    )
    if none_left(details or {}):
        said = f"Nothing is shown: {verdict.ALL_SEEN}"
    return Evidence(
        task=task,
        metric=primary,
        systems={system: scores for system, scores in systems.items() if scores},
        gains=gains,
        verdict=said,
        not_measured={
            **_missing(measured, opponents, len(targets)),
            **(
                {NO_TEST: WHY_NO_TEST}
                if metrics[primary].kind == "share" and any(ours.together for ours, _ in pairs.values())
                else {}
            ),
            **(not_measured or {}),
        },
        costs=dict(costs or {}),
        details={
            **(details or {}),
            **_tests(metrics[primary], {name: pairs[name] for name in gains}),
            **({f"{LOSS}_gain": loss.gain} if loss else {}),
        },
    )


def judged(ids: Iterable[str], leaked: Iterable[str]) -> set[str]:
    """The test rows that everything is judged on: those that training has not seen; all where it has seen all."""
    every = set(ids)
    return every - set(leaked) or every


def none_left(details: Mapping[str, Any]) -> bool:
    """Whether training has seen every test row, so that nothing is shown."""
    return bool(details.get("without_leaks", {}).get("rows", 1) == 0)


def without(
    leaked: Sequence[str],
    metric: Metric,
    targets: Mapping[str, Target],
    predictions: Mapping[str, Sequence[Prediction]],
    *,
    clusters: Clusters | None = None,
    seed: int,
) -> dict[str, Any]:
    """`without_leaks`: which test rows training has seen too, how many others there are, and every system's score on
    these (`systems`) and on all (`all_rows`); or nothing."""
    kept = targets.keys() - set(leaked)
    gone = [name for name in targets if name not in kept]
    if not gone:
        return {}

    def scores(wanted: Collection[str]) -> dict[str, Estimate]:
        among = {name: target for name, target in targets.items() if name in wanted}
        rows = {
            system: _measure(metric, among, [answer for answer in answers if answer.id in among], clusters)
            for system, answers in predictions.items()
        }
        return {system: _estimate(metric, of, seed) for system, of in rows.items() if of.ids}

    found = {"leaked": len(gone), "rows": len(kept), "systems": scores(kept)}
    return {"without_leaks": {**found, "all_rows": scores(targets.keys()), "ids": gone}}


def estimate(
    metric: Metric,
    targets: Mapping[str, Target],
    answers: Sequence[Prediction],
    *,
    clusters: Clusters | None = None,
    seed: int,
) -> Estimate:
    """A system's value with its interval on the rows that it answered (one at least)."""
    return _estimate(metric, _measure(metric, targets, answers, clusters), seed)


def between(
    metric: Metric,
    targets: Mapping[str, Target],
    ours: Sequence[Prediction],
    theirs: Sequence[Prediction],
    *,
    clusters: Clusters | None = None,
    confidence: float = 0.95,
    seed: int,
) -> Estimate:
    """Our value minus theirs on the rows that both answered (one at least), positive is better for us."""
    measured = [_measure(metric, targets, answers, clusters) for answers in (ours, theirs)]
    return _gain(metric, *_paired(*measured), seed, confidence)


@dataclass(frozen=True)
class _Rows:
    """The rows that a system answered, in the order of the targets, and their statistics [N, S]."""

    ids: Sequence[str]
    statistics: Statistics
    clusters: Clusters

    @property
    def together(self) -> list[int] | None:
        """The cluster of each row, where some share one."""
        return codes(self.ids, self.clusters)


def _measure(
    metric: Metric, targets: Mapping[str, Target], answers: Sequence[Prediction], clusters: Clusters | None
) -> _Rows:
    by_id = {answer.id: answer for answer in answers if metric.measurable(answer)}
    assert len({answer.id for answer in answers}) == len(answers), "a row was answered twice"
    assert by_id.keys() <= targets.keys(), "an answer to a row that is not in the test set"
    ids = [name for name in targets if name in by_id]
    chosen = [by_id[name] for name in ids]
    found = metric.statistics([targets[name] for name in ids], chosen) if ids else None
    return _Rows(ids, found, clusters or {})


def _estimates(metrics: Mapping[str, Metric], rows: Mapping[str, _Rows], seed: int) -> dict[str, Estimate]:
    """The metrics that could be measured, and no others."""
    found = {name: _estimate(metrics[name], of, seed) for name, of in rows.items() if of.ids}
    return {name: estimate for name, estimate in found.items() if math.isfinite(estimate.value)}


def _estimate(metric: Metric, of: _Rows, seed: int) -> Estimate:
    if (together := of.together) is not None:
        return levels.over_clusters(metric, of.statistics, together, seed=seed)
    if metric.kind == "share":
        return stats.wilson(float(of.statistics[:, 0].sum()), len(of.statistics))
    return stats.bootstrap(metric, of.statistics, seed=seed)


def _paired(ours: _Rows, theirs: _Rows) -> tuple[_Rows, _Rows]:
    """The rows that both answered."""
    common = set(ours.ids) & set(theirs.ids)

    def only(rows: _Rows) -> _Rows:
        at = [position for position, name in enumerate(rows.ids) if name in common]
        return _Rows([rows.ids[position] for position in at], rows.statistics[at], rows.clusters)

    return only(ours), only(theirs)


def _gain(metric: Metric, ours: _Rows, theirs: _Rows, seed: int, confidence: float = 0.95) -> Estimate:
    if (together := ours.together) is not None:
        return levels.over_clusters(
            metric, ours.statistics, together, theirs.statistics, seed=seed, confidence=confidence
        )
    if metric.kind == "share":
        gain = stats.newcombe(ours.statistics[:, 0], theirs.statistics[:, 0], confidence)
        return gain if metric.higher_is_better else -gain
    return stats.paired_bootstrap(metric, ours.statistics, theirs.statistics, seed=seed, confidence=confidence)


def _loss(
    metrics: Mapping[str, Metric],
    measured: Mapping[str, Mapping[str, _Rows]],
    systems: Mapping[str, Mapping[str, Estimate]],
    seed: int,
) -> verdict.Loss | None:
    """The held-out loss of tuned and base with its paired gain, where both have one on common rows."""
    if any(LOSS not in systems.get(name, {}) for name in (TUNED, BASE)):
        return None
    ours, theirs = _paired(measured[TUNED][LOSS], measured[BASE][LOSS])
    if not len(ours.ids):
        return None
    gain = _gain(metrics[LOSS], ours, theirs, seed)
    return verdict.Loss(metrics[LOSS], systems[TUNED][LOSS], systems[BASE][LOSS], gain)


def _tests(metric: Metric, pairs: Mapping[str, tuple[_Rows, _Rows]]) -> dict[str, dict[str, float]]:
    """McNemar's p-values, which are for independent rows."""
    if metric.kind != "share":
        return {}
    alone = {name: pair for name, pair in pairs.items() if pair[0].together is None}
    p = {name: stats.mcnemar(ours.statistics[:, 0], theirs.statistics[:, 0]) for name, (ours, theirs) in alone.items()}
    return {"mcnemar": p} if p or not pairs else {}


def titles(systems: Mapping[str, Any]) -> dict[str, str]:
    """What the cheap opponents among the systems are called in a sentence."""
    known = registry.available("baselines")
    baselines = {name: registry.resolve("baselines", name).title for name in systems if name in known}
    return baselines | {name: title for name, title in verdict.TITLES.items() if name in systems}


def _missing(measured: Mapping[str, Mapping[str, _Rows]], opponents: Sequence[str], total: int) -> dict[str, str]:
    """Opponents without predictions, and systems that answered only some of the rows."""
    absent = {name: "it gave no answers on the test rows" for name in opponents if name not in measured}
    partly = {
        f"{system} on {total - len(of.ids)} of {total} test rows": f"it was not run on them ({metric})"
        for system, rows in measured.items()
        for metric, of in rows.items()
        if 0 < len(of.ids) < total
    }
    return absent | partly
