"""What a comparison will measure, in order of importance and within the budget, and what not and why."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from finesmith import registry
from finesmith.measurements.base import EFFORTS, Measurement, Study


@dataclass(frozen=True)
class Item:
    """A measurement in the plan: what it will take in seconds, or why it is not made."""

    name: str
    title: str
    seconds: float
    why_not: str = ""


def plan(
    study: Study, *, minutes: float | None = None, only: Sequence[str] = (), done: Sequence[str] = ()
) -> list[Item]:
    """What will be made, in order, and what will not and why. Costs no more than the measurements' own estimates."""
    names = only or registry.available("measurements")
    plugins = {name: registry.resolve("measurements", name) for name in names}
    items = [_item(name, plugin, study, bool(only), done) for name, plugin in plugins.items()]
    order = sorted(items, key=lambda item: (plugins[item.name].priority, item.seconds, item.name))
    left, chosen = math.inf if minutes is None else 60.0 * minutes, []
    for item in order:
        if not item.why_not and item.seconds > left:
            item = replace(
                item, why_not=f"about {minutes_of(item.seconds)} do not fit into the {minutes:g} minutes given"
            )
        left -= 0.0 if item.why_not else item.seconds
        chosen.append(item)
    return _after_needs(chosen, plugins)


def _item(name: str, plugin: Measurement, study: Study, asked: bool, done: Sequence[str]) -> Item:
    if name in done:
        return Item(name, plugin.title, 0.0)
    why = plugin.skips(study)
    if not why and not asked and EFFORTS.index(plugin.effort) > EFFORTS.index(study.effort):
        why = f"part of --effort {plugin.effort}"
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


def line(item: Item) -> str:
    return f"{item.title}: {f'not measured: {item.why_not}' if item.why_not else minutes_of(item.seconds)}"


def minutes_of(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
