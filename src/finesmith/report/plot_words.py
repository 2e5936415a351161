"""What a plot shows, in words and as a table: for readers who cannot see it, and for those who want its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TOLD = 12
"""Values that a description tells; the table has all."""


def rows(plot: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The numbers of a plot (kinds: `plots.svg`), a row for each of its marks."""
    across, up = str(plot["x"]).partition(" (")[0], plot.get("y", "value")
    kind, values = plot["kind"], plot.get("values", [])
    if kind == "bars":
        return [{"": label, across: value} for label, value in zip(plot["labels"], values, strict=True)]
    if kind == "intervals":
        return [
            {"": label, across: value, "from": low, "to": high}
            for label, (value, low, high) in zip(plot["labels"], values, strict=True)
        ]
    if kind == "histogram":
        edges = plot["edges"]
        return [{"from": edges[at], "to": edges[at + 1], "rows": n} for at, n in enumerate(plot["counts"])]
    if kind == "curves":
        names = (across, up, "from", "to")
        return [
            {"line": name, **dict(zip(names, point, strict=False))} for name, line in values.items() for point in line
        ]
    if kind == "reliability":
        banded = (across, up, "rows", "from", "to")
        return [
            {"": name, **dict(zip(banded, point, strict=False))} for name, points in values.items() for point in points
        ]
    if kind == "matrix":
        return [
            {f"{up} \\ {across}": label, **dict(zip(plot["labels"], row, strict=True))}
            for label, row in zip(plot["labels"], values, strict=True)
        ]
    marks = plot.get("marks", {})
    called = [", ".join(name for name, place in marks.items() if list(place) == [x, y]) for x, y in values]
    return [
        {across: x, up: y, **({"called": name} if marks else {})} for (x, y), name in zip(values, called, strict=True)
    ]


def description(plot: Mapping[str, Any]) -> str:
    """A sentence or two: what the axes are, and the first values."""
    table = rows(plot)
    axes = f"Across: {plot['x']}." + (f" Up: {plot['y']}." if plot.get("y") else "")
    if plot["kind"] == "matrix":
        right = sum(row[place] for place, row in enumerate(plot["values"]))
        return f"{axes} {right} of {sum(map(sum, plot['values']))} answers are right."
    told = "; ".join(" ".join(f"{key} {_told(value)}".strip() for key, value in row.items()) for row in table[:TOLD])
    more = f"; and {len(table) - TOLD} more" if len(table) > TOLD else ""
    return f"{axes} {told}{more}."


def _told(value: Any) -> str:
    return "open" if value is None else number(value)


def number(value: Any) -> str:
    """Four digits that count, thousands apart; lists with commas."""
    if isinstance(value, float):
        return f"{value:,.0f}" if 1000 <= abs(value) < 1e15 else f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        return ", ".join(number(item) for item in value)
    return "" if value is None else str(value)
