"""Evidence on a terminal or in a pipe: the verdict first, then the numbers it rests on.

As tables where they fit, as a list on a narrow terminal; no number is ever cut.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from finesmith.evidence.verdict import number, signed
from finesmith.evidence.verdict import rows as rows_of
from finesmith.report import words
from finesmith.types import Estimate, Evidence

NAME_WIDTH = 16
"""A system's name is not squeezed into fewer columns; there the list begins."""
UNBOUNDED = 10_000
INTERVAL = "95\N{NO-BREAK SPACE}%\N{NO-BREAK SPACE}interval"

Row = tuple[str, list[str]]
"""A system and its cells."""


def render(evidence: Evidence) -> RenderableType:
    """What `rich.console.Console().print` shows: verdict, scores and gains, other metrics, costs, what is missing."""
    others = [name for name in words.metric_names(evidence) if name != evidence.metric]
    tables: list[RenderableType] = [_primary(evidence)]
    if others:
        tables.append(_Fitting(_others(evidence, others, " "), _others(evidence, others, "\n")))
    verdict = Text(evidence.verdict, style="bold")
    parts: list[RenderableType] = [verdict, _Fitting(_stacked(tables), _listed(evidence))]
    notes: list[RenderableType] = []
    if evidence.costs:
        notes.append(Text("Training cost: " + ", ".join(words.costs(evidence.costs)) + "."))
    if leaks := words.without_leaks(evidence):
        notes.append(Text(leaks, style="yellow", overflow="fold"))
    notes += [
        Text(f"Not measured: {what}: {why}", style="yellow", overflow="fold")
        for what, why in evidence.not_measured.items()
    ]
    return _stacked([*parts, Group(*notes)] if notes else parts)


def plain(evidence: Evidence, *, width: int = 80) -> str:
    """The same as text without colours, for files and logs; `width` in characters."""
    out = StringIO()
    Console(file=out, width=width, color_system=None, force_terminal=False, legacy_windows=False).print(
        render(evidence)
    )
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


@dataclass(frozen=True)
class _Fitting:
    """`first` where there is room for it, else `otherwise`: chosen when the width of the console is known."""

    first: RenderableType
    otherwise: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        needed = Measurement.get(console, options.update(max_width=UNBOUNDED), self.first).minimum
        yield self.first if needed <= options.max_width else self.otherwise

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement.get(console, options, self.otherwise)


def _primary(evidence: Evidence) -> Table:
    """Every system on the primary metric, with what tuned gains over it."""
    metric = words.metric_named(evidence.metric)
    rows: list[Row] = []
    for system, scores in evidence.systems.items():
        if evidence.metric in scores:
            estimate = scores[evidence.metric]
            cells = [number(metric, estimate.value), words.interval(metric, estimate), rows_of(estimate)]
            gain = evidence.gains.get(system)
            cells += [signed(metric, gain.value), words.signed_interval(metric, gain)] if gain else ["", ""]
            rows.append((system, cells))
    return _table([words.heading(metric), INTERVAL, "n", "tuned gains", INTERVAL], rows)


def _others(evidence: Evidence, names: Sequence[str], between: str) -> Table:
    """The other metrics, each value beside its interval (`between` is a space) or above it (a line's end)."""
    rows = [
        (system, [_cell(evidence, name, scores.get(name), between) for name in names])
        for system, scores in evidence.systems.items()
        if any(name in scores for name in names)
    ]
    return _table([words.heading(words.metric_named(name)) for name in names], rows)


def _cell(evidence: Evidence, name: str, estimate: Estimate | None, between: str) -> str:
    """Value and interval; the rows too where they are not as many as the primary metric of the tuned model has."""
    if estimate is None:
        return "-"
    metric = words.metric_named(name)
    usual = evidence.systems.get("tuned", {}).get(evidence.metric)
    rows = f"\nn = {rows_of(estimate)}" if usual is None or estimate.n != usual.n else ""
    interval = words.interval(metric, estimate)
    return f"{number(metric, estimate.value)}{between}{f'({interval})' if between == ' ' else interval}{rows}"


def _listed(evidence: Evidence) -> Group:
    """The same numbers, one a line below the name of their system."""
    lines: list[RenderableType] = [Text("In brackets: 95 % intervals.")]
    for system, scores in evidence.systems.items():
        lines += [Text(words.system_title(system), style="bold")]
        for name in (name for name in words.metric_names(evidence) if name in scores):
            metric, estimate = words.metric_named(name), scores[name]
            shown = f"{number(metric, estimate.value)} ({words.interval(metric, estimate)}), n = {rows_of(estimate)}"
            lines += [_indented(f"{words.heading(metric)}: {shown}")]
        if (gain := evidence.gains.get(system)) is not None:
            metric = words.metric_named(evidence.metric)
            shown = f"{signed(metric, gain.value)} ({words.signed_interval(metric, gain)})"
            lines += [_indented(f"tuned gains, {metric.title}: {shown}")]
    return Group(*lines)


def _indented(line: str) -> Padding:
    return Padding(Text(line), (0, 0, 0, 2))


def _stacked(blocks: Sequence[RenderableType]) -> Group:
    """One below the other, with an empty line between."""
    return Group(*[piece for block in blocks for piece in (block, Text())][:-1])


def _table(headings: Sequence[str], rows: Sequence[Row]) -> Table:
    """Only the systems' names may wrap; a heading is broken to the width of the cells below it."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("system", justify="left", min_width=NAME_WIDTH)
    for place, heading in enumerate(headings):
        lines = [line for _, cells in rows for line in cells[place].splitlines()]
        widest = max(map(len, [*lines, *heading.split(" ")]))
        title = "\n".join(textwrap.wrap(heading, widest)).replace("\N{NO-BREAK SPACE}", " ")
        table.add_column(Text(title), justify="right", no_wrap=True, min_width=widest)
    for system, cells in rows:
        shown = (words.system_title(system), *cells)
        table.add_row(*map(Text, shown), style="bold" if system == "tuned" else "")
    return table
