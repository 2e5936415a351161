"""Plots as inline SVG (matplotlib) that read in light and dark: what is not data takes the colour of the text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from io import StringIO
from typing import Any

INK = "#010203"
"""Stands for the colour of the text while drawing; replaced by `currentColor`."""
FILL, MARK = "#4c8bd6", "#d9822b"
COLOURS = (FILL, MARK, "#5aa469", "#a06cd5", "#c2536b", "#7d8590")
WIDTH = 6.4
"""Inches, at 72 points each."""


def svg(plot: Mapping[str, Any]) -> str:
    """One figure as an `<svg>` element. `kind` is bars, histogram or line (values: `checks/base.py`), intervals,
    curves or path (values: `measurements/base.py`)."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": "finesmith",
            "font.size": 9,
            **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
        }
    ):
        rows = len(plot["labels"]) if plot["kind"] in ("bars", "intervals") else 0
        figure = Figure(figsize=(WIDTH, max(1.4, 0.6 + 0.19 * rows) if rows else 2.6), layout="constrained")
        axes = figure.add_subplot()
        KINDS[plot["kind"]](axes, plot)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlabel(plot["x"])
        out = StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _inline(out.getvalue(), plot["title"])


def _bars(axes: Any, plot: Mapping[str, Any]) -> None:
    labels = [str(label) if len(str(label)) <= 34 else f"{str(label)[:31]}..." for label in plot["labels"]]
    places = list(range(len(labels)))
    axes.barh(places, plot["values"], color=FILL, height=0.7)
    axes.set_yticks(places, labels)
    axes.invert_yaxis()
    for place, value in zip(places, plot["values"], strict=True):
        axes.annotate(f" {value:,.4g}", (value, place), va="center", color=INK, fontsize=8)
    axes.margins(x=0.12)


def _histogram(axes: Any, plot: Mapping[str, Any]) -> None:
    axes.stairs(plot["counts"], plot["edges"], fill=True, color=FILL)
    axes.set_ylabel("rows")
    if plot.get("mark"):
        axes.axvline(plot["mark"], color=MARK, linestyle="--")


def _line(axes: Any, plot: Mapping[str, Any]) -> None:
    across, up = zip(*plot["values"], strict=True)
    axes.plot(across, up, color=FILL, marker=".")
    axes.set_xscale("log")
    axes.set_xticks([50, 100, 200, 500, 1000, 2000], ["50", "100", "200", "500", "1,000", "2,000"], minor=False)
    axes.minorticks_off()
    axes.set_ylabel(plot.get("y", ""))
    axes.set_ylim(bottom=0)
    if plot.get("mark"):
        axes.plot(*plot["mark"], marker="o", color=MARK)
        axes.annotate(f"  yours: {plot['mark'][1]:.1f}", plot["mark"], color=INK, va="bottom")


def _intervals(axes: Any, plot: Mapping[str, Any]) -> None:
    """Values [value, low, high], one below the other, against 0 or `mark`."""
    places = list(range(len(plot["labels"])))
    for place, (value, low, high) in zip(places, plot["values"], strict=True):
        low, high = (value if bound is None else bound for bound in (low, high))
        axes.plot([low, high], [place, place], color=FILL, linewidth=2)
        axes.plot([value], [place], marker="o", color=FILL)
    axes.axvline(plot.get("mark", 0.0), color=INK, linewidth=0.8, linestyle="--")
    axes.set_yticks(places, plot["labels"])
    axes.set_ylim(len(places) - 0.5, -0.5)


def _curves(axes: Any, plot: Mapping[str, Any]) -> None:
    """Lines by name, each a list of [x, y] or [x, y, low, high]; `points` are named places; `scale` of x."""
    for place, (name, values) in enumerate(plot["values"].items()):
        colour = COLOURS[place % len(COLOURS)]
        axes.plot([row[0] for row in values], [row[1] for row in values], color=colour, marker=".", label=name)
        if values and len(values[0]) == 4:
            axes.fill_between(*zip(*[(row[0], row[2], row[3]) for row in values], strict=True), color=colour, alpha=0.2)
    for name, (across, up) in plot.get("points", {}).items():
        axes.plot([across], [up], marker="o", color=MARK)
        axes.annotate(f" {name}", (across, up), color=INK, va="bottom")
    axes.set_xscale(plot.get("scale", "linear"))
    axes.set_ylabel(plot.get("y", ""))
    if len(plot["values"]) > 1:
        axes.legend(frameon=False, labelcolor=INK)


def _path(axes: Any, plot: Mapping[str, Any]) -> None:
    """Points in their order, and names at some of them."""
    across, up = zip(*plot["values"], strict=True)
    axes.plot(across, up, color=FILL, marker=".")
    axes.set_ylabel(plot["y"])
    axes.margins(x=0.15, y=0.15)
    for number, (name, place) in enumerate(plot["marks"].items()):
        axes.plot(*place, marker="o", color=MARK)
        below = {"va": "top"} if number % 2 else {"va": "bottom"}
        axes.annotate(f"  {name}", place, color=INK, **below)


KINDS = {
    "bars": _bars,
    "histogram": _histogram,
    "line": _line,
    "intervals": _intervals,
    "curves": _curves,
    "path": _path,
}


def _inline(drawn: str, title: str) -> str:
    """The `<svg>` element alone, scaled by its box, named for readers of the page."""
    drawn = drawn[drawn.index("<svg") :].replace(INK, "currentColor")
    drawn = re.sub(
        r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", drawn, count=1), count=1
    )
    drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn, flags=re.DOTALL)
    return drawn.replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1)
