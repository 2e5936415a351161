"""The governor: order, budget, and what it makes of measurements that take longer or shorter than planned."""

import math
import re
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from finesmith import comparing, registry
from finesmith.cli import _evidence
from finesmith.errors import ModelError
from finesmith.measurements import _kept, _plan, _prompted
from finesmith.measurements.base import Measured, hears, rests_on
from finesmith.runfolder import RunFolder
from finesmith.watch import Watcher


@dataclass(frozen=True)
class Fake:
    """A measurement that takes `takes` seconds of the test's clock."""

    title: str
    priority: int
    seconds: float
    takes: float = 0.0
    effort: str = "quick"
    needs: tuple[str, ...] = ()
    why: str = ""
    fails: bool = False
    clock: object = None
    uses: tuple[str, ...] = ()
    hears: tuple[str, ...] = ()

    def skips(self, study):
        return self.why

    def cost(self, study):
        return self.seconds

    def __call__(self, study, watcher):
        self.clock.now += self.takes
        if self.fails:
            raise RuntimeError("out of memory\nand much more")
        return Measured(f"{self.title} is measured")


class Clock:
    now = 100.0

    def monotonic(self):
        return self.now


class Heard(Watcher):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


@pytest.fixture
def fakes(monkeypatch):
    def use(**plugins):
        monkeypatch.setattr(registry, "available", lambda kind: sorted(plugins))
        monkeypatch.setattr(registry, "resolve", lambda kind, name: plugins[name])

    return use


def study(train_seconds=20.0, effort="quick", folder=None, **more):
    return SimpleNamespace(
        **{"options": {}, "asked": {}, "found": {}, "predictions": {}, **more},
        splits=SimpleNamespace(test=[SimpleNamespace(id="1")]),
        train_seconds=train_seconds,
        effort=effort,
        folder=folder,
        forget=lambda: None,
    )


@pytest.mark.parametrize(
    ("train", "effort", "minutes", "named", "seconds"),
    [
        (100.0, "quick", None, False, 300.0),  # three trainings
        (5.0, "quick", None, False, 60.0),  # a minute at least
        (100.0, "quick", None, True, math.inf),  # the measurements are named
        (100.0, "quick", 2, False, 120.0),
        (100.0, "standard", None, False, math.inf),
        (100.0, "full", None, False, math.inf),
        (100.0, "full", 0.5, True, 30.0),
    ],
)
def test_the_budget(train, effort, minutes, named, seconds):
    assert _plan.budget(study(train, effort), minutes=minutes, named=named).seconds == seconds


def test_the_least_important_is_left_out_and_the_reason_reads_well(fakes):
    fakes(
        last=Fake("other seeds", 2, 200.0),
        first=Fake("controls", 1, 40.0),
        second=Fake("calibration", 2, 15.0),
        never=Fake("the prompt", 1, 5.0, why="the base is an encoder, which cannot be prompted"),
        more=Fake("learning curve", 2, 5.0, effort="standard"),
        before=Fake("retention", 1, 9.0),
    )
    items = _plan.plan(study(), _plan.budget(study(25.0)), done=("before",))
    assert [item.name for item in items if not item.why_not] == ["before", "first", "second"]
    assert [item.name for item in items if item.waits] == ["last"]
    assert _plan.lines(items) == [
        "to be measured: about 55 s together",
        "retention: measured before",
        "controls: will be measured, about 40 s",
        "calibration: will be measured, about 15 s",
        "the prompt: not measured: the base is an encoder, which cannot be prompted",
        "learning curve: not measured: it is part of --effort standard",
        "other seeds: not measured: it needs about 3 min, more than is left of the time that quick has (75 s: three "
        "trainings of this run; --minutes or --effort standard gives more)",
    ]
    few = _plan.plan(study(), _plan.budget(study(2.0)))
    assert "(60 s: a minute, the least; --minutes" in next(item.why_not for item in few if item.name == "last")
    assert _plan.plan(study(), _plan.budget(study(), minutes=0.5))[-1].why_not.endswith("of the 0.5 minutes given")


def test_what_a_claim_rests_on_comes_before_what_is_cheaper(fakes):
    names = ("controls", "frontier", "prompting", "retention", "calibration")
    fakes(
        **{name: Fake(name, 2 if name == "calibration" else 1, 50.0 if name == "prompting" else 5.0) for name in names}
    )
    order = [item.name for item in _plan.plan(study())]
    assert order == ["prompting", "retention", "controls", "frontier", "calibration"]


def test_nothing_comes_before_what_it_needs(fakes):
    fakes(a=Fake("a", 1, 1.0, needs=("b",)), b=Fake("b", 4, 9.0))
    assert [item.name for item in _plan.plan(study())] == ["b", "a"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(3, "a few seconds"), (41, "about 40 s"), (200, "about 3 min"), (3599, "about 1.0 h"), (9000, "about 2.5 h")],
)
def test_how_long_in_words(seconds, words):
    assert _plan.about(seconds) == words


def test_estimates_follow_what_was_seen():
    pace = _plan.Pace()
    assert pace.expects(40.0) == 40.0
    pace.saw(2.0, 4.0)
    assert 40.0 < pace.expects(40.0) < 48.0  # two seconds are little to go by
    pace.saw(100.0, 50.0)
    assert 20.0 < pace.expects(40.0) < 26.0
    pace.saw(1.0, 1e6)
    assert pace.expects(40.0) == 120.0  # no further than three times


def made(fakes, monkeypatch, budget, **plugins):
    clock, heard = Clock(), Heard()
    monkeypatch.setattr(comparing, "time", clock)
    fakes(**{name: Fake(name, *values, clock=clock) for name, values in plugins.items()})
    with RunFolder.temporary() as folder:
        opened = study(folder=folder)
        items = _plan.plan(opened, budget)
        found, missing, pace = comparing._measure(opened, items, budget, clock.now, heard)
        kept = {name: folder.read_json(f"measured/{name}.json") for name in found}
    return kept, missing, pace, heard.notes


def test_what_did_not_fit_is_made_where_the_others_took_less(fakes, monkeypatch):
    budget = _plan.Budget(100.0, "the budget")
    found, missing, pace, _ = made(fakes, monkeypatch, budget, a=(1, 80.0, 20.0), b=(2, 70.0, 30.0), c=(2, 500.0, 9.0))
    assert list(found) == ["a", "b"] and list(missing) == ["c"]
    assert (found["a"]["planned"], found["a"]["seconds"]) == (80.0, 20.0)
    assert (pace.planned, pace.took) == (150.0, 50.0)
    assert _plan.took(60.0, pace, 20.0) == "took 1 min 0 s, planned 2 min 30 s; that is 3.0 trainings of this run"


def test_what_took_longer_is_paid_for_by_the_least_important(fakes, monkeypatch):
    budget = _plan.Budget(100.0, "the budget")
    found, missing, _, _ = made(fakes, monkeypatch, budget, a=(1, 30.0, 60.0), b=(2, 25.0, 25.0), c=(3, 20.0, 20.0))
    assert list(found) == ["a", "c"]  # 25 s are now thought to be 41
    assert missing["b"] == "it needs about 40 s, more than is left of the budget"


def test_one_that_fails_does_not_take_the_others_with_it(fakes, monkeypatch):
    monkeypatch.setattr(Fake, "fails", False)
    plugins = {"a": (1, 1.0, 1.0, "quick", (), "", True), "b": (2, 1.0, 1.0)}
    found, missing, _, notes = made(fakes, monkeypatch, _plan.Budget(), **plugins)
    assert list(found) == ["b"] and missing == {"a": "it failed: RuntimeError: out of memory"}
    assert "a: not measured: it failed: RuntimeError: out of memory" in notes


def test_whatever_goes_wrong_in_one_stays_there(fakes, monkeypatch):
    def wrong(self, study, watcher):
        raise self.fails if isinstance(self.fails, BaseException) else AssertionError

    monkeypatch.setattr(Fake, "__call__", wrong)
    for error, told in ((re.error("nothing to repeat"), "nothing to repeat"), (KeyError("x"), "'x'")):
        _, missing, _, _ = made(fakes, monkeypatch, _plan.Budget(), a=(1, 1.0, 1.0, "quick", (), "", error))
        assert missing["a"] == f"it failed: {type(error).__name__}: {told}"
    with pytest.raises(KeyboardInterrupt):
        made(fakes, monkeypatch, _plan.Budget(), a=(1, 1.0, 1.0, "quick", (), "", KeyboardInterrupt()))


def test_what_was_measured_before_something_that_it_needs_is_measured_again(fakes, monkeypatch):
    fakes(prompting=Fake("prompting", 1, 1.0), adherence=Fake("adherence", 1, 1.0, needs=("prompting",)))
    with RunFolder.temporary() as folder:
        folder.write_json("measured/adherence.json", {"numbers": {}, "knew": []})
        assert list(_kept.read(study(folder=folder))) == ["adherence"]
        items = _plan.plan(study(), done=("adherence",))
        assert _plan.overtaken(items) == {"adherence"}, "prompting will be there"
        assert _plan.overtaken(_plan.plan(study(), only=("adherence",), done=("adherence",))) == set()
        folder.write_json("measured/prompting.json", {"numbers": {}, "knew": []})
        assert list(_kept.read(study(folder=folder))) == ["prompting"]
        folder.write_json("measured/adherence.json", {"numbers": {}, "knew": ["prompting"]})
        assert list(_kept.read(study(folder=folder))) == ["adherence", "prompting"]
        assert _plan.overtaken(_plan.plan(study(), done=("adherence", "prompting"))) == set()


def test_what_was_made_before_something_it_needs_came_late_is_made_again(fakes, monkeypatch):
    plugins = {"prompting": (1, 200.0, 80.0), "adherence": (1, 5.0, 5.0, "quick", ("prompting",)), "c": (2, 90.0, 10.0)}
    budget = _plan.Budget(180.0, "the budget")
    kept, missing, _, notes = made(fakes, monkeypatch, budget, **plugins)
    assert not missing and kept["adherence"]["knew"] == ["c", "prompting"]
    assert [note for note in notes if "adherence is measured" in note] == ["adherence: adherence is measured"] * 2
    plugins = {
        "prompting": (1, 1100.0, 650.0),
        "adherence": (1, 300.0, 300.0, "quick", ("prompting",)),
        "c": (2, 300.0),
    }
    kept, missing, _, _ = made(fakes, monkeypatch, _plan.Budget(1000.0, "the budget"), **plugins)
    assert sorted(kept) == ["c", "prompting"] and "more than is left" in missing["adherence"], (
        "never beside a late prompt"
    )


def replanned(folder, only, *, again=True, budget=None):
    """The study after the plan, what it had before, and the plan."""
    opened = study(folder=folder)
    known = comparing._known(opened, only=only)
    anew = (only or list(known)) if again else ()
    return (
        opened,
        known,
        comparing._planned(opened, lambda done: _plan.plan(opened, budget, only=only, done=done), known, anew),
    )


def test_again_forgets_only_what_will_be_made(fakes):
    fakes(
        prompting=Fake("prompting", 1, 1.0), curve=Fake("curve", 2, 9.0, effort="standard"),
        seeds=Fake("seeds", 2, 9.0, effort="standard", needs=("prompting",)), slow=Fake("slow", 3, 500.0),
    )  # fmt: skip
    with RunFolder.temporary() as folder:
        for name in ("prompting", "curve", "seeds", "slow"):
            folder.write_json(f"measured/{name}.json", {"numbers": {}, "knew": ["prompting"], "systems": []})
        opened, known, items = replanned(folder, (), budget=_plan.Budget(60.0, "the budget"))
        assert sorted(opened.found) == ["curve"] and sorted(known) == ["curve", "prompting", "seeds", "slow"]
        assert [item.name for item in items if item.done] == ["curve"]
        assert [item.name for item in items if not (item.done or item.why_not)] == ["prompting"]
        assert [item.name for item in items if item.waits] == ["slow"], "made where the others leave enough"


def test_again_asks_anew_what_is_named_and_leaves_the_rest(fakes):
    fakes(
        prompting=Fake("prompting", 1, 1.0, clock=Clock()), controls=Fake("controls", 1, 1.0),
        adherence=Fake("adherence", 1, 1.0, needs=("prompting",)),
    )  # fmt: skip
    with RunFolder.temporary() as folder:
        answered = [{"id": "1", "output": "yes", "scores": {}}]
        folder.write_lines("predictions/prompt.jsonl", answered)
        for name, systems in (("prompting", ["prompt"]), ("controls", []), ("adherence", [])):
            values = {"numbers": {}, "knew": ["prompting"], "systems": systems, "says": "well"}
            folder.write_json(f"measured/{name}.json", values)
        for only, left in (((), []), (("controls",), ["adherence", "prompting"])):
            opened, known, _ = replanned(folder, only)
            assert sorted(opened.found) == left and sorted(known) == ["adherence", "controls", "prompting"]
        opened, known, _ = replanned(folder, (), again=False)
        assert len(known) == len(opened.found) == 3
        assert [answer.output for answer in opened.predictions["prompt"]] == ["yes"], "its answers are known too"
        assert sorted(replanned(folder, ("prompting",))[0].found) == ["adherence", "controls"]
        found, missing, _ = comparing._measure(
            opened, [_plan.Item("prompting", "prompting", 1.0)], _plan.Budget(), 0.0, Watcher(), only=("prompting",)
        )
        assert list(found) == ["prompting"] and "made before prompting, which it needs" in missing["adherence"]
        told = _kept.earlier(study(folder=folder), only=("prompting",))
        assert list(told) == ["adherence"] and told["adherence"]["before"] == ["prompting"]
        assert told["adherence"]["says"] == "well; made before prompting was measured anew"
        assert sorted(_kept.read(study(folder=folder))) == ["controls", "prompting"], "it is made again where it may be"
        assert list(_kept.earlier(study(folder=folder))) == ["adherence"], "and kept where it is not"


def kept(folder, *, only=(), **asked):
    options = {name: value for name, value in asked.items() if name != "minimum_gain"}
    told = {name: {"entries": len(value)} if isinstance(value, list) else value for name, value in asked.items()}
    return _kept.read(study(folder=folder, options=options, asked=told), only=only)


def test_what_was_made_with_another_value_is_not_kept(fakes):
    fakes(calibration=Fake("calibration", 1, 1.0, uses=("risk",)), other=Fake("other", 1, 1.0))
    with RunFolder.temporary() as folder:
        folder.write_json("measured/other.json", {"numbers": {}, "knew": []})
        folder.write_json("measured/calibration.json", {"numbers": {}, "knew": [], "given": {}})
        assert set(kept(folder)) == {"calibration", "other"} and set(kept(folder, risk=0.01)) == {"other"}
        folder.write_json("measured/calibration.json", {"numbers": {}, "knew": [], "given": {"risk": 0.01}})
        assert set(kept(folder, risk=0.01, target=3)) == {"calibration", "other"}
        assert set(kept(folder, risk=0.02)) == set(kept(folder)) == {"other"}, "left out is another value too"
        assert set(kept(folder, only=["other"])) == {"calibration", "other"}, "nothing is asked of it"
        assert set(kept(folder, only=["other"], risk=0.02)) == {"other"}


def test_what_a_file_held_counts_not_its_name(fakes):
    fakes(adherence=Fake("adherence", 1, 1.0, uses=("glossary",)))
    with RunFolder.temporary() as folder:
        one, other = [{"preferred": "late"}], [{"preferred": "tardy"}]
        opened = study(folder=folder, options={"glossary": one}, asked={"glossary": {"entries": 1}})
        values = {"numbers": {}, "knew": [], "given": _kept.given("adherence", opened)}
        folder.write_json("measured/adherence.json", values)
        assert list(kept(folder, glossary=one)) == ["adherence"] and list(kept(folder, glossary=other)) == []


def test_what_a_file_of_unlabelled_rows_holds_counts_too(tmp_path):
    rows, given = tmp_path / "new.csv", []
    for text in ("one", "two"):
        rows.write_text(f"text\n{text}\n")
        opened = study(options={"unlabelled": str(rows)}, asked={"unlabelled": str(rows)})
        given.append(_kept.given("label_next", opened))
    assert given[0]["unlabelled"] == given[1]["unlabelled"] and given[0] != given[1]


def test_what_can_be_told_anew_is_not_measured_again(fakes):
    class Retold(Fake):
        def retold(self, study, values):
            return Measured(f"useful: {study.asked['minimum_gain']}", {**values["numbers"], "told": True})

    fakes(seeds=Retold("seeds", 1, 1.0, uses=("minimum_gain",)))
    with RunFolder.temporary() as folder:
        folder.write_json("measured/seeds.json", {"numbers": {"sd": 1.0}, "knew": [], "seconds": 9.0, "systems": []})
        found = kept(folder, minimum_gain=0.05)["seeds"]
        assert found["says"] == "useful: 0.05" and found["numbers"] == {"sd": 1.0, "told": True}
        assert found["seconds"] == 9.0 and folder.read_json("measured/seeds.json") == found


@dataclass(frozen=True)
class Listens(Fake):
    """One that can say from its numbers what another one brought."""

    def retold(self, study, values):
        heard = sorted(set(self.hears) & study.found.keys())
        return Measured(f"{self.title} beside {' and '.join(heard)}", {**values["numbers"], "heard": heard})


def listening(clock=None):
    """What the curve, the seeds and the model from scratch are to one another."""
    return {
        "prompting": Fake("prompting", 1, 1.0, clock=clock),
        "seeds": Fake("seeds", 2, 100.0, needs=("prompting",), clock=clock),
        "curve": Listens("curve", 2, 90.0, needs=("prompting",), hears=("prompting", "seeds"), clock=clock),
        "scratch": Listens("scratch", 3, 300.0, needs=("curve",), hears=("curve",), clock=clock),
    }


def test_what_can_hear_of_a_later_result_is_not_trained_again(fakes):
    clock, heard = Clock(), Heard()
    fakes(**listening(clock))
    with RunFolder.temporary() as folder:
        for name in ("curve", "scratch"):  # of `--only curve`, `--only scratch`
            values = {"title": name, "numbers": {"points": 4}, "knew": [], "systems": [], "seconds": 90.0}
            folder.write_json(f"measured/{name}.json", values)
        opened = study(folder=folder)
        known = _kept.read(opened)
        assert known["scratch"]["numbers"] == {"points": 4, "heard": ["curve"]} and known["scratch"]["knew"] == [
            "curve"
        ]
        items = _plan.plan(opened, done=tuple(known))
        assert _plan.overtaken(items) == set() and [item.name for item in items if not item.done] == [
            "prompting",
            "seeds",
        ]
        made, missing, _ = comparing._measure(opened, items, _plan.Budget(), clock.now, heard)
        assert sorted(made) == ["curve", "prompting", "seeds"] and not missing
        assert made["curve"]["numbers"] == {"points": 4, "heard": ["prompting", "seeds"]} == opened.found["curve"]
        assert made["curve"]["seconds"] == 90.0 and folder.read_json("measured/curve.json") == made["curve"]
        assert heard.notes[-2:] == ["seeds: seeds is measured", "curve: curve beside prompting and seeds"]
        assert sorted(_kept.read(study(folder=folder))) == ["curve", "prompting", "scratch", "seeds"]
        assert _kept.earlier(study(folder=folder)) == {}, "nothing is left that was made too early"


def test_what_must_train_for_a_later_result_is_made_again(fakes):
    fakes(**listening())
    with RunFolder.temporary() as folder:
        folder.write_json("measured/seeds.json", {"numbers": {}, "knew": [], "systems": []})
        opened = study(folder=folder)
        assert _plan.overtaken(_plan.plan(opened, done=tuple(_kept.read(opened)))) == {"seeds"}


def test_the_curve_of_one_comparison_hears_of_the_seeds_that_come_after_it(fakes):
    clock, heard = Clock(), Heard()
    fakes(**listening(clock))
    with RunFolder.temporary() as folder:
        opened = study(folder=folder)
        items = _plan.plan(opened)
        assert [item.name for item in items] == ["prompting", "curve", "seeds", "scratch"]
        made, _, _ = comparing._measure(opened, items, _plan.Budget(), clock.now, heard)
        assert made["curve"]["numbers"]["heard"] == ["prompting", "seeds"]
        assert made["curve"]["knew"] == ["prompting", "seeds"]


def test_measurements_hear_only_of_those_that_are_there_and_can_tell_what_they_heard():
    plugins = {name: registry.resolve("measurements", name) for name in registry.available("measurements")}
    told = {name: hears(plugin) for name, plugin in plugins.items() if hears(plugin)}
    assert told == {"learning_curve": {"prompting", "seeds"}, "scratch": {"learning_curve"}}
    assert all(hasattr(plugins[name], "retold") and heard <= plugins.keys() for name, heard in told.items())
    resting = {name: found for name, plugin in plugins.items() if (found := rests_on(plugin))}
    assert resting == {name: {"prompting"} for name in ("adherence", "consistency", "seeds")}


def test_the_options_that_measurements_read_are_told_to_count():
    uses = {
        option
        for name in registry.available("measurements")
        for option in getattr(registry.resolve("measurements", name), "uses", ())
    }
    assert uses == {*_evidence.GIVEN, "minimum_gain"}


def test_whether_a_measurement_applies_whatever_the_effort(monkeypatch):
    documents = SimpleNamespace(recipe=SimpleNamespace(task="text"), task=None)
    assert not _plan.applies("prompting", documents)
    for answer in ("", "the base is an encoder, which cannot be prompted", ModelError("There is no base.")):

        def why_not(recipe, task, answer=answer):
            if isinstance(answer, str):
                return answer
            raise answer

        monkeypatch.setattr(_prompted, "why_not", why_not)
        assert _plan.applies("prompting", documents) == (answer == "")
