"""What the checks found, on one screen; and as plain values with every row for scripts."""

from __future__ import annotations

from dataclasses import asdict
from io import StringIO
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from finesmith import registry
from finesmith.report import words
from finesmith.types import Examined, Finding

STYLES = {"blocking": "bold red", "warning": "yellow", "note": "dim"}
SCREEN = 40
"""Lines of a summary where the height of the screen is not known."""
FEWEST = 4
"""Findings that are shown on any screen."""


def render(examined: Examined, *, height: int = 0, width: int = 80) -> RenderableType:
    """What `rich.console.Console().print` shows: as many findings as fit on a screen of so many lines (0: unknown)."""
    ordered = sorted(examined.findings, key=lambda finding: (_rank(finding), -finding.count))
    for most in range(len(ordered), FEWEST, -1):
        drawn = _render(examined, ordered[:most])
        if len(_lines(drawn, width)) < (height or SCREEN):
            return drawn
    return _render(examined, ordered[:FEWEST])


def _render(examined: Examined, shown: list[Finding]) -> RenderableType:
    parts: list[RenderableType] = [Text(_heading(examined), style="bold"), Text()]
    if shown:
        parts.append(_table(shown, examined.source))
    parts += [Text(line) for line in _closing(examined, len(examined.findings) - len(shown))]
    return Group(*parts)


def _lines(drawn: RenderableType, width: int) -> list[str]:
    out = StringIO()
    Console(file=out, width=width, color_system=None, force_terminal=False, legacy_windows=False).print(drawn)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def text(examined: Examined, *, width: int = 80) -> str:
    """The same without colours, for files and pipes."""
    return "\n".join(_lines(render(examined, width=width), width)) + "\n"


def plain(examined: Examined) -> dict[str, Any]:
    """Everything as dict, list, str, int, float, bool and None, ready for JSON."""
    return {**_plain(asdict(examined)), "blocking": len(examined.blocking)}


def title(finding: Finding) -> str:
    """What the check of a finding is called."""
    known = registry.available("checks")
    return registry.resolve("checks", finding.check).title if finding.check in known else finding.check


def sizes(examined: Examined) -> str:
    """How many rows each part has."""
    return ", ".join(f"{count:,} {part}" for part, count in examined.rows.items() if count)


def looked(examined: Examined) -> str:
    """How many rows were looked at, where not all were."""
    some = 0 < examined.looked < sum(examined.rows.values())
    return f"; {examined.looked:,} of them looked at" if some else ""


def summary(examined: Examined) -> str:
    """How many findings of each severity there are."""
    counts = {
        severity: sum(finding.severity == severity for finding in examined.findings)
        for severity in ("blocking", "warning", "note")
    }
    ends = {"blocking": "", "warning": "s", "note": "s"}
    told = [f"{count} {name}{ends[name] if count != 1 else ''}" for name, count in counts.items() if count]
    return ", ".join(told) or "nothing found"


def _rank(finding: Finding) -> int:
    return list(STYLES).index(finding.severity)


def _heading(examined: Examined) -> str:
    total = sum(examined.rows.values())
    rows = f"{total:,} rows ({sizes(examined)}{looked(examined)})"
    return f"{examined.source}: {rows}, {examined.task}. {summary(examined)}."


def _table(findings: list[Finding], source: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        first = ", ".join(_short(row, source) for row in finding.rows[:2])
        where = f"  {first}{', ...' if len(finding.rows) > 2 else ''}" if first else ""
        line = Text(finding.what)
        line.append(where, style="dim")
        table.add_row(Text(finding.severity, style=STYLES[finding.severity]), line)
    return table


def _short(row: str, source: str) -> str:
    """An origin without the folder that the heading names."""
    return row.removeprefix(f"{source}/") if row.startswith(f"{source}/") else row.rpartition("/")[2]


def _closing(examined: Examined, hidden: int) -> list[str]:
    lines = ["", *examined.notes]
    if hidden:
        lines.append(f"{hidden} more, notes mostly: all with --json or --html FILE.")
    if examined.skipped:
        reasons = (f"{name.replace('_', ' ')} ({why})" for name, why in examined.skipped.items())
        lines.append(f"Not checked: {'; '.join(reasons)}")
    seconds = sum(examined.seconds.values())
    stops = " Blocking findings stop tune." if examined.blocking else ""
    lines.append(f"Checked in {words.duration(seconds)}. Why and what to do: --html FILE or --json.{stops}")
    return lines


def _plain(value: Any) -> Any:
    """Tuples and other sequences become lists, numbers of numpy Python's, infinity null."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "item") and not isinstance(value, str):
        value = value.item()
    return None if isinstance(value, float) and value in (float("inf"), float("-inf")) else value
