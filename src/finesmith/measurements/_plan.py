"""What a comparison will measure, in order of importance and within the budget, and what not and why."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from finesmith import registry
from finesmith.errors import ModelError
from finesmith.evidence import claims
from finesmith.measurements.base import EFFORTS, Measurement, Study, rests_on
from finesmith.report import words

TRAININGS = 3
"""What `quick` may cost where no budget is given, in trainings of the run."""
FLOOR = 60.0
"""Seconds that `quick` has at least: after a training of a few seconds the cheap measurements still fit."""
AS_PLANNED = 15.0
"""Seconds that count as having taken what was planned: one small surprise is not a law."""
FURTHEST = 3.0
"""No estimate is corrected by more than this factor."""


@dataclass(frozen=True)
class Budget:
    """Seconds for everything together, and what to call them."""

    seconds: float = math.inf
    name: str = ""

    def left_out(self, seconds: float) -> str:
        """Why a measurement that takes so long is not made."""
        return f"it needs {about(seconds)}, more than is left of {self.name}"


@dataclass(frozen=True)
class Item:
    """A measurement in the plan: what it will take in seconds, or why it is not made.

    `waits`: only the budget is against it; it is made after all where the others leave enough. `done`: it was made
    before.
    """

    name: str
    title: str
    seconds: float
    why_not: str = ""
    waits: bool = False
    done: bool = False


@dataclass
class Pace:
    """How long measurements take beside what was planned, seen from those that were made."""

    planned: float = 0.0
    took: float = 0.0

    def saw(self, planned: float, took: float) -> None:
        """One was made."""
        self.planned, self.took = self.planned + planned, self.took + took

    def expects(self, planned: float) -> float:
        """The estimate of another, in seconds, corrected by those that were made."""
        factor = (self.took + AS_PLANNED) / (self.planned + AS_PLANNED)
        return planned * min(FURTHEST, max(1 / FURTHEST, factor))


def budget(study: Study, *, minutes: float | None = None, named: bool = False) -> Budget:
    """What is given; else what three trainings take for `quick` (a minute at least), and no end for the others.

    `named`: the user says which measurements are made, so they are.
    """
    if minutes is not None:
        return Budget(60.0 * minutes, f"the {minutes:g} minutes given")
    if study.effort != "quick" or named:
        return Budget()
    seconds, count = TRAININGS * study.train_seconds, "three trainings of this run"
    if seconds < FLOOR:
        seconds, count = FLOOR, "a minute, the least"
    more = "--minutes or --effort standard gives more"
    return Budget(seconds, f"the time that quick has ({about(seconds, exactly=True)}: {count}; {more})")


def plan(
    study: Study, given: Budget | None = None, *, spent: float = 0.0, only: Sequence[str] = (), done: Sequence[str] = ()
) -> list[Item]:
    """What will be made, in order, and what will not and why. Costs no more than the measurements' own estimates.

    Args:
        spent: seconds of the budget that are gone already.
        only: the measurements that are asked for; all of the effort otherwise.
        done: those whose results are there.
    """
    given = given or Budget()
    names = only or registry.available("measurements")
    plugins = {name: registry.resolve("measurements", name) for name in names}
    items = [_item(name, plugin, study, bool(only), done) for name, plugin in plugins.items()]
    order = sorted(items, key=lambda item: (plugins[item.name].priority, _rank(item.name), item.seconds, item.name))
    left, chosen = given.seconds - spent, []
    for item in order:
        if not (item.why_not or item.done) and item.seconds > left:
            item = replace(item, why_not=given.left_out(item.seconds), waits=True)
        left -= 0.0 if item.why_not else item.seconds
        chosen.append(item)
    return _after_needs(chosen, plugins)


def applies(name: str, study: Study) -> bool:
    """Whether a measurement can be made of this run at all; of a base that is gone nothing can."""
    try:
        return not registry.resolve("measurements", name).skips(study)
    except ModelError:
        return False


def overtaken(items: Sequence[Item]) -> set[str]:
    """Those that are there already but were made without a measurement they need, which will be made now."""
    now = {item.name for item in items if not (item.why_not or item.done)}
    return {item.name for item in items if item.done and now & rests_on(registry.resolve("measurements", item.name))}


def resting_on(name: str, study: Study) -> list[Item]:
    """Those that were made before this one although they rest on it, as they would be made now."""
    plugins = {late: registry.resolve("measurements", late) for late in study.found}
    return [
        Item(late, plugin.title, plugin.cost(study)) for late, plugin in plugins.items() if name in rests_on(plugin)
    ]


def _rank(name: str) -> int:
    """Of equal priority, what a claim rests on comes first, in the order of the claims; then the cheapest."""
    resting = list(claims.NEEDS.values())
    return resting.index(name) if name in resting else len(resting)


def _item(name: str, plugin: Measurement, study: Study, asked: bool, done: Sequence[str]) -> Item:
    if name in done:
        return Item(name, plugin.title, 0.0, done=True)
    why = plugin.skips(study)
    if not why and not asked and EFFORTS.index(plugin.effort) > EFFORTS.index(study.effort):
        why = f"it is part of --effort {plugin.effort}"
    return Item(name, plugin.title, 0.0 if why else plugin.cost(study), why)


def _after_needs(items: Sequence[Item], plugins: Mapping[str, Measurement]) -> list[Item]:
    """The same order, but nothing before what it needs."""
    placed: list[Item] = []
    waiting = list(items)
    while waiting:
        names = {item.name for item in waiting}
        ready = next((item for item in waiting if not names & set(plugins[item.name].needs)), waiting[0])
        waiting.remove(ready)
        placed.append(ready)
    return placed


def lines(items: Sequence[Item]) -> list[str]:
    """The plan in words: what will be measured and how long it takes together, then what not."""
    made = [item for item in items if not (item.why_not or item.done)]
    said = [f"to be measured: {about(sum(item.seconds for item in made))} together"] if len(made) > 1 else []
    said += [] if made else ["nothing is left to be measured"]
    said += [f"{item.title}: measured before" for item in items if item.done]
    said += [f"{item.title}: will be measured, {about(item.seconds)}" for item in made]
    return said + [f"{item.title}: not measured: {item.why_not}" for item in items if item.why_not]


def took(seconds: float, pace: Pace, training: float) -> str:
    """`took 1 min 20 s, planned 1 min 5 s; that is 2.1 trainings of this run`, the planned part of what was made."""
    times = f"; that is {seconds / training:.1f} trainings of this run" if training > 0 else ""
    return f"took {words.duration(seconds)}, planned {words.duration(pace.planned)}{times}"


def about(seconds: float, *, exactly: bool = False) -> str:
    """`a few seconds`, `about 40 s`, `about 3 min`, `about 2.5 h`: no more digits than an estimate has."""
    word = "" if exactly else "about "
    if seconds < 8:
        return "a few seconds"
    if seconds < 90:
        return f"{word}{5 * round(seconds / 5)} s"
    if seconds < 3570:
        return f"{word}{seconds / 60:.0f} min"
    return f"{word}{seconds / 3600:.1f} h"
