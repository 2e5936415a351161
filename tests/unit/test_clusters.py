"""Rows that belong together: what they are, and intervals that draw them as wholes."""

from dataclasses import replace

import numpy as np
import pytest
from bench import coverage

from finesmith import registry
from finesmith.evidence import claims, clusters, decision, levels, plain, stats
from finesmith.evidence.compare import NO_TEST, between, compare, estimate, without
from finesmith.measurements import _paired, _style
from finesmith.report import words
from finesmith.types import Estimate, Example, Origin, Prediction

METRICS = {name: registry.resolve("metrics", name) for name in ("accuracy", "macro_f1")}
ACCURACY = METRICS["accuracy"]
TARGETS = {f"row {at}": "yes" if at % 3 else "no" for at in range(120)}
EIGHTS = {name: at // 8 for at, name in enumerate(TARGETS)}
ALONE = {name: at for at, name in enumerate(TARGETS)}
FLIP = {"yes": "no", "no": "yes"}


def answers(wrong):
    return [
        Prediction(name, FLIP[target] if at in wrong else target) for at, (name, target) in enumerate(TARGETS.items())
    ]


def compared(together=None, primary="accuracy", details=None):
    predictions = {"tuned": answers(range(8)), "base": answers(range(40))}
    return compare(
        task="classification",
        primary=primary,
        metrics=METRICS,
        targets=TARGETS,
        predictions=predictions,
        opponents=["base"],
        details=details,
        clusters=together,
        seed=0,
    )


def row(name, text, group=None):
    return Example(name, text, "yes", Origin("rows.csv", 1), group)


def test_rows_of_one_group_or_one_input_belong_together():
    rows = [row("a", "one", "x"), row("b", "two", "x"), row("c", "Three!"), row("d", "three"), row("e", "four")]
    found = clusters.of(rows)
    assert found["a"] == found["b"] and found["c"] == found["d"] and len(set(found.values())) == 3
    assert clusters.codes(["a", "b", "e"], found) == [found["a"], found["b"], found["e"]]
    assert clusters.codes(["a", "c", "e"], found) is None, "no two of these share one"
    assert clusters.of(rows[1:3]) == {} and clusters.codes(["b"], {}) is None


@pytest.mark.parametrize("primary", list(METRICS))
def test_where_every_row_stands_alone_nothing_changes(primary):
    assert compared(ALONE, primary) == compared(None, primary)


@pytest.mark.parametrize("primary", list(METRICS))
def test_clusters_are_drawn_as_wholes(primary):
    rows, wholes = compared(None, primary), compared(EIGHTS, primary)
    assert wholes.gain.value == pytest.approx(rows.gain.value)
    assert (wholes.gain.n, wholes.gain.groups) == (120, 15)
    for name in METRICS:
        alone, drawn = (found.systems["base"][name] for found in (rows, wholes))
        assert drawn.high - drawn.low > 1.5 * (alone.high - alone.low), "errors come in eights"
    assert "n = 120 in 15 groups" in wholes.verdict and "groups" not in rows.verdict


def test_no_test_for_independent_rows_is_made_of_others():
    assert "mcnemar" in compared().details and NO_TEST not in compared().not_measured
    assert "mcnemar" not in compared(EIGHTS).details and "independent" in compared(EIGHTS).not_measured[NO_TEST]
    assert NO_TEST not in compared(EIGHTS, "macro_f1").not_measured


def test_every_way_to_an_interval_takes_clusters():
    ours, theirs = answers(range(8)), answers(range(40))
    gain = between(ACCURACY, TARGETS, ours, theirs, clusters=EIGHTS, seed=0)
    assert gain == compared(EIGHTS).gain
    assert between(ACCURACY, TARGETS, ours, theirs, clusters=EIGHTS, confidence=0.9, seed=0).low > gain.low
    assert estimate(ACCURACY, TARGETS, ours, clusters=EIGHTS, seed=0).groups == 15
    rest = without(["row 0"], ACCURACY, TARGETS, {"tuned": ours}, clusters=EIGHTS, seed=0)
    assert rest["without_leaks"]["systems"]["tuned"].groups == 15


def test_where_every_test_row_was_trained_on_the_evidence_says_so():
    found = without(list(TARGETS), ACCURACY, TARGETS, {"tuned": answers(range(8))}, seed=0)["without_leaks"]
    assert (found["leaked"], found["rows"], found["systems"]) == (120, 0, {})
    assert found["ids"] == list(TARGETS) and found["all_rows"]["tuned"].n == 120
    assert without(["elsewhere"], ACCURACY, TARGETS, {"tuned": answers(range(8))}, seed=0) == {}
    said = words.without_leaks(replace(compared(), details={"without_leaks": found}))
    assert said.startswith("120 of 120 test rows are equal or nearly equal") and "None is left" in said
    told = compared(details={"without_leaks": found})
    assert told.verdict.startswith("Nothing is shown: training has seen every test row")
    assert decision.decide(told, ACCURACY, {}) == told.verdict
    judged = claims.judge(told, ACCURACY, {}, {})[0]
    assert (judged.outcome, judged.grade) == ("inconclusive", "C") and judged.sentence.endswith("seen every test row.")
    assert claims.judge(compared(), ACCURACY, {}, {})[0].outcome == "supported"


def test_a_number_says_its_groups_in_files_too():
    found = compared(EIGHTS)
    assert plain.from_json(plain.as_json(found)) == found
    written = plain.values_of({"gain": found.gain})["gain"]
    assert written["groups"] == 15 and plain.estimate(written) == found.gain
    assert "groups" not in plain.values_of(compared().gain)
    assert (-found.gain).groups == 15 and (-found.gain).low == -found.gain.high


def test_rates_draw_clusters():
    random = np.random.default_rng(0)
    names = np.repeat(np.arange(20), 6)
    ours, theirs = ((random.random(20) < 0.6)[names].astype(float) for _ in range(2))
    sides = {"tuned": dict(enumerate(zip(ours, np.ones(120), strict=True))),
             "base": dict(enumerate(zip(theirs, np.ones(120), strict=True)))}  # fmt: skip
    alone, drawn = (_paired.against(sides, seed=0, clusters=each)["difference"] for each in (None, names.tolist()))
    assert drawn == levels.newcombe(ours, theirs, names) and drawn.groups == 20
    assert drawn.high - drawn.low > 2 * (alone.high - alone.low)
    halves = {side: {at: (0.5 * each, 1.0) for at, (each, _) in table.items()} for side, table in sides.items()}
    alone, drawn = (_paired.against(halves, seed=0, clusters=each)["difference"] for each in (None, names.tolist()))
    assert (drawn.n, drawn.groups) == (120, 20) and drawn.high - drawn.low > 2 * (alone.high - alone.low)
    wins = [np.ones((6, 6))]
    assert _style.interval(wins, seed=0, clusters=[0, 0, 0, 1, 1, 2]).groups == 3


def test_rows_that_are_independent_within_clusters_are_worth_all_of_them():
    random = np.random.default_rng(1)
    right = (random.random((2, 4000)) < 0.7).astype(float)
    drawn, alone = levels.newcombe(*right, np.arange(4000) // 8), stats.newcombe(*right)
    assert (drawn.high - drawn.low) / (alone.high - alone.low) == pytest.approx(1, abs=0.05)
    same = levels.newcombe(np.ones(40), np.ones(40), np.arange(40) // 8)
    assert same.high == -same.low > 2 * stats.newcombe(np.ones(40), np.ones(40)).high, "five clusters, not forty rows"
    one = levels.newcombe(right[0, :9], right[1, :9], [0] * 9)
    assert one.low < 0 < one.high and isinstance(one, Estimate), "one cluster tells nothing"


def test_two_systems_as_good_are_seldom_clearly_apart():
    held = {}
    for by_rows in (True, False):
        hit, random = coverage.shares(40, 8, 0.5, by_rows=by_rows), np.random.default_rng(0)
        held[by_rows] = np.mean([hit(random, run) for run in range(400)])
    assert held[False] >= 0.92 and held[True] <= 0.85, held


def test_seeds_over_clusters_cover_the_truth():
    hit, random = coverage.clustered_seeds(3, 30, 5), np.random.default_rng(0)
    assert np.mean([hit(random, run) for run in range(150)]) >= 0.9
