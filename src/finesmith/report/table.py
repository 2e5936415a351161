"""Evidence on a terminal or in a pipe: the verdict first, then the numbers it rests on. Fits 80 columns."""

from __future__ import annotations

from io import StringIO

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from finesmith.evidence.verdict import number, signed
from finesmith.report import words
from finesmith.types import Estimate, Evidence


def render(evidence: Evidence) -> RenderableType:
    """What `rich.console.Console().print` shows: verdict, scores and gains, other metrics, costs, what is missing."""
    others = [name for name in words.metric_names(evidence) if name != evidence.metric]
    parts: list[RenderableType] = [Text(evidence.verdict, style="bold"), _primary(evidence)]
    if others:
        parts.append(_others(evidence, others))
    notes: list[RenderableType] = []
    if evidence.costs:
        notes.append(Text("Cost: " + ", ".join(words.costs(evidence.costs)) + "."))
    if leaks := words.without_leaks(evidence):
        notes.append(Text(leaks, style="yellow", overflow="fold"))
    notes += [
        Text(f"Not measured: {what}: {why}", style="yellow", overflow="fold")
        for what, why in evidence.not_measured.items()
    ]
    blocks = [*parts, Group(*notes)] if notes else parts
    return Group(*[piece for block in blocks for piece in (block, Text())][:-1])


def plain(evidence: Evidence, *, width: int = 80) -> str:
    """The same as text without colours, for files and logs; `width` in characters."""
    out = StringIO()
    Console(file=out, width=width, color_system=None, force_terminal=False, legacy_windows=False).print(
        render(evidence)
    )
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def _primary(evidence: Evidence) -> Table:
    """Every system on the primary metric, with what tuned gains over it."""
    metric = words.metric_named(evidence.metric)
    table = _table()
    for title in (words.heading(metric), "95 % interval", "n", "tuned gains", "95 % interval"):
        table.add_column(Text(title), justify="right", no_wrap=title in ("95 % interval", "n"), vertical="top")
    for system, scores in evidence.systems.items():
        if evidence.metric in scores:
            estimate = scores[evidence.metric]
            cells = [number(metric, estimate.value), words.interval(metric, estimate), str(estimate.n)]
            gain = evidence.gains.get(system)
            cells += [signed(metric, gain.value), words.signed_interval(metric, gain)] if gain else ["", ""]
            _row(table, system, cells)
    return table


def _others(evidence: Evidence, names: list[str]) -> Table:
    """The other metrics, each value above its interval."""
    table = _table()
    for name in names:
        table.add_column(Text(words.heading(words.metric_named(name))), justify="right")
    for system, scores in evidence.systems.items():
        if any(name in scores for name in names):
            _row(table, system, [_cell(evidence, name, scores.get(name)) for name in names])
    return table


def _cell(evidence: Evidence, name: str, estimate: Estimate | None) -> str:
    """Value and interval; the rows too where they are not as many as the primary metric of the tuned model has."""
    if estimate is None:
        return "-"
    metric = words.metric_named(name)
    usual = evidence.systems.get("tuned", {}).get(evidence.metric)
    rows = f"\nn = {estimate.n}" if usual is None or estimate.n != usual.n else ""
    return f"{number(metric, estimate.value)}\n{words.interval(metric, estimate)}{rows}"


def _table() -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("system", justify="left")
    return table


def _row(table: Table, system: str, cells: list[str]) -> None:
    style = "bold" if system == "tuned" else ""
    table.add_row(*(Text(cell) for cell in (words.system_title(system), *cells)), style=style)
