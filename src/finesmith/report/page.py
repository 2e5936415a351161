"""What the checks found as one self-contained HTML page with plots: no script, no request, light and dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from finesmith.report import findings as plainly
from finesmith.report import words
from finesmith.report._html import document, figure, listed, scalars, table, text
from finesmith.types import Examined, Finding

ROWS = 500
"""Origins that a page lists of one finding; --json has all."""


def render(examined: Examined) -> str:
    """The whole page."""
    rows = f"{plainly.sizes(examined)} rows{plainly.looked(examined)}"
    sections = "".join(_section(finding) for finding in examined.findings) or "<p>Nothing was found.</p>"
    return document(
        f"Check of {examined.source}",
        f"<h1>{text(examined.source)}</h1><p>{rows}; {text(examined.task)}: {plainly.summary(examined)}.</p>"
        f"{listed('dim', examined.notes)}<h2>What was found</h2>{sections}{_ending(examined)}",
    )


def _section(finding: Finding) -> str:
    drawn = figure(finding.detail["plot"]) if "plot" in finding.detail else ""
    tables = scalars(finding.detail) + "".join(_detail(name, value) for name, value in finding.detail.items())
    tag = f'<span class="tag {finding.severity}">{finding.severity}</span>'
    return (
        f"<section><h3>{tag}{text(plainly.title(finding))}</h3>"
        f"<p>{text(finding.what)}</p><p class='dim'>{text(finding.why)}</p><p>{text(finding.advice)}</p>"
        f"{drawn}{tables}{_origins(finding.rows)}</section>"
    )


def _origins(rows: Sequence[str]) -> str:
    if not rows:
        return ""
    more = f" and {len(rows) - ROWS:,} more (all with --json)" if len(rows) > ROWS else ""
    shown = ", ".join(map(text, rows[:ROWS]))
    return f"<details><summary>{len(rows):,} rows</summary><p class='origins'>{shown}{more}</p></details>"


def _detail(name: str, value: Any) -> str:
    """Tables for lists of mappings and for mappings; lists of lists with a gap between them."""
    if name == "plot":
        return ""
    title = text(name.replace("_", " "))
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        if "rows" in value[0] and isinstance(value[0]["rows"], list) and value[0]["rows"] and "size" in value[0]:
            value = [row for group in value for row in [*group["rows"], {}]]
        return f"<details><summary>{title}</summary>{table(value)}</details>"
    if isinstance(value, list) and value and isinstance(value[0], list) and isinstance(value[0][0], Mapping):
        return f"<details><summary>{title}</summary>{table([row for group in value for row in [*group, {}]])}</details>"
    if isinstance(value, Mapping) and value:
        rows = [{"": key, **_cells(item)} for key, item in value.items()]
        return f"<details><summary>{title}</summary>{table(rows)}</details>"
    return ""


def _cells(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {"value": value}


def _ending(examined: Examined) -> str:
    skipped = [f"Not checked: {name.replace('_', ' ')} ({why})" for name, why in examined.skipped.items()]
    took = ", ".join(
        f"{name.replace('_', ' ')} {words.duration(seconds)}"
        for name, seconds in examined.seconds.items()
        if seconds >= 0.05
    )
    lines = [*skipped, f"Time: {took or 'under 0.1 s'}"]
    return f"<h2>How it was checked</h2>{listed('dim', lines)}"
