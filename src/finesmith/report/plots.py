"""Plots as inline SVG (matplotlib) that read in light and dark: every colour is one of the page's (`_style.py`).

Each plot is drawn twice, for wide screens and for phones; the page shows one of the two.
"""

from __future__ import annotations

import hashlib
import html
import re
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import StringIO
from typing import Any

from finesmith.report import _corners, plot_words

INK = "#010203"
"""Stands for the colour of the text while drawing; replaced by `currentColor`."""
COLOURS = tuple(f"#02020{place}" for place in range(6))
"""Stand for the page's `--series-N`."""
FILL, MARK = COLOURS[:2]
WIDTHS = {"broad": 6.4, "slim": 3.5}
"""Inches, at 72 points each."""
LETTERS = {"broad": 34, "slim": 44}
"""Letters in a line of a label: beside the plot, or above each bar."""


def svg(plot: Mapping[str, Any], form: str = "broad", description: str = "") -> str:
    """One figure as an `<svg>` element with a title and a description, whose ids no other element has.

    `kind` is bars, histogram or line (values: `checks/base.py`), intervals, curves or path (values:
    `measurements/base.py`; `told` are the numbers beside intervals), reliability (`values`: name -> [confidence, share
    right, rows] and perhaps the share's low and high), or matrix (`labels`, `values` [row][column]; rows are what is
    true, columns what was answered). `form` is broad or slim.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with (
        _unmeasured(),
        matplotlib.rc_context(
            {
                "svg.fonttype": "none",
                "svg.hashsalt": "finesmith",
                "font.size": 9,
                "axes.unicode_minus": False,
                "text.parse_math": False,  # a label may have dollar signs
                **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
            }
        ),
    ):
        figure = Figure(figsize=(WIDTHS[form], _height(plot, form)), layout="constrained")
        axes = figure.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        across = textwrap.fill(str(plot["x"]), 70 if form == "broad" else 38)
        axes.set_xlabel(across)
        KINDS[plot["kind"]](axes, plot, form)
        out = StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _inline(out.getvalue(), plot["title"], description, form)


@contextmanager
def _unmeasured() -> Iterator[None]:
    """Letters that matplotlib's font lacks are only measured wrongly: the reader's own fonts draw them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        yield


def _height(plot: Mapping[str, Any], form: str) -> float:
    if plot["kind"] == "matrix":
        return 1.0 + max(2.0, 0.3 * len(plot["labels"]))
    if plot["kind"] not in ("bars", "intervals"):
        legend = len(plot["values"]) if plot["kind"] in ("curves", "reliability") else 0
        return 2.9 + (0.17 * legend if form == "slim" and legend > 1 else 0.0)
    lines = sum(len(_wrapped(label, form)) for label in plot["labels"])
    each = len(plot["labels"])
    return max(1.4, 0.75 + 0.16 * lines + (0.06 if form == "broad" else 0.2) * each)


def _wrapped(label: Any, form: str) -> list[str]:
    return textwrap.wrap(str(label), LETTERS[form]) or [""]


def _labelled(axes: Any, labels: Sequence[Any], form: str) -> list[float]:
    """Where each label's bar stands, from the top down: beside its label, or below it where there is little room."""
    places, at = [], 0.0
    axes.tick_params(axis="y", length=0)
    for label in labels:
        lines = _wrapped(label, form)
        if form == "slim":
            frame = axes.get_yaxis_transform()
            axes.text(0, at, "\n".join(lines), transform=frame, va="top", fontsize=8.5, linespacing=1.1, color=INK)
            places.append(at + len(lines) + 0.2)
            at += len(lines) + 1.0
        else:
            places.append(at + len(lines) / 2)
            at += len(lines) + 0.35
    axes.set_yticks(places, ["\n".join(_wrapped(label, form)) for label in labels] if form == "broad" else [])
    axes.set_ylim(at, -0.2)
    axes.spines["left"].set_visible(form == "broad")
    return places


def _against(axes: Any, places: Sequence[float], mark: float, form: str) -> None:
    """A dashed line at what the bars are compared with; on phones beside each bar only, so that it crosses no label."""
    if form == "broad":
        axes.axvline(mark, color=INK, linewidth=0.8, linestyle="--")
    else:
        ends = [at - 0.5 for at in places], [at + 0.5 for at in places]
        axes.vlines([mark] * len(places), *ends, INK, linewidth=0.8, linestyle="--")


def _beside(axes: Any, places: Sequence[float], told: Sequence[str]) -> None:
    """Numbers in a column at the right."""
    for place, said in zip(places, told, strict=True):
        axes.text(1.02, place, said, transform=axes.get_yaxis_transform(), va="center", fontsize=8, color=INK)


def _bars(axes: Any, plot: Mapping[str, Any], form: str) -> None:
    places = _labelled(axes, plot["labels"], form)
    axes.barh(places, plot["values"], color=FILL, height=0.75)
    if min(plot["values"], default=0) < 0:
        _against(axes, places, 0.0, form)
    _beside(axes, places, [plot_words.number(value) for value in plot["values"]])


def _histogram(axes: Any, plot: Mapping[str, Any], form: str) -> None:
    axes.stairs(plot["counts"], plot["edges"], fill=True, color=FILL)
    axes.set_ylabel("rows")
    if plot.get("mark"):
        axes.axvline(plot["mark"], color=MARK, linestyle="--")


def _line(axes: Any, plot: Mapping[str, Any], form: str) -> None:
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


def _intervals(axes: Any, plot: Mapping[str, Any], form: str) -> None:
    """Values [value, low, high], one below the other, against 0 or `mark`."""
    places = _labelled(axes, plot["labels"], form)
    _against(axes, places, plot.get("mark", 0.0), form)
    for place, (value, low, high) in zip(places, plot["values"], strict=True):
        low, high = (value if bound is None else bound for bound in (low, high))
        axes.plot([low, high], [place, place], color=FILL, linewidth=2.5)
        axes.plot([value], [place], marker="o", color=FILL)
    _beside(axes, places, plot.get("told") or [f"{value:+.3g}" if value else "0" for value, *_ in plot["values"]])


def _curves(axes: Any, plot: Mapping[str, Any], form: str) -> None:
    """Lines by name, each a list of [x, y] or [x, y, low, high]; `points` are named places; `scale` of x; `dashed`
    names what is foretold."""
    for place, (name, values) in enumerate(plot["values"].items()):
        colour, style = COLOURS[place % len(COLOURS)], "--" if name in plot.get("dashed", ()) else "-"
        marker = "." if len(values) <= 40 else ""
        axes.plot(*zip(*[row[:2] for row in values], strict=True), style, color=colour, marker=marker, label=name)
        if values and len(values[0]) == 4:
            axes.fill_between(*zip(*[(row[0], row[2], row[3]) for row in values], strict=True), color=colour, alpha=0.2)
    for name, (across, up) in plot.get("points", {}).items():
        axes.plot([across], [up], marker="o", color=MARK)
        axes.annotate(f" {name}", (across, up), color=INK, va="bottom")
    if plot.get("scale", "linear") == "log":
        _log(axes, [row[0] for values in plot["values"].values() for row in values])
    axes.set_ylabel(plot.get("y", ""))
    _legend(axes, plot["values"], form)


def _log(axes: Any, across: Sequence[float]) -> None:
    """Powers of two of the smallest, written out."""
    ticks, last = [min(across)], max(across)
    while 2 * ticks[-1] <= 1.01 * last:
        ticks.append(2 * ticks[-1])
    axes.set_xscale("log")
    axes.minorticks_off()
    axes.set_xticks(ticks, [f"{round(tick):,}" for tick in ticks], minor=False)


def _legend(axes: Any, names: Mapping[str, Any], form: str) -> None:
    if len(names) > 1:
        place = {"loc": "outside lower left", "ncols": 3 if form == "broad" else 1}
        axes.figure.legend(frameon=False, labelcolor=INK, fontsize=8.5, **place)


def _path(axes: Any, plot: Mapping[str, Any], form: str) -> None:
    """Points in their order, and names at some of them; names of the same point stand together."""
    across, up = zip(*plot["values"], strict=True)
    axes.plot(across, up, color=FILL, marker=".")
    axes.set_ylabel(plot["y"])
    axes.margins(x=0.16 if form == "broad" else 0.38, y=0.22)  # room for names
    together: dict[tuple[float, ...], list[str]] = {}
    for name, place in plot["marks"].items():
        together.setdefault(tuple(place), []).append(name)
    taken = _corners.along(plot["values"])
    size = [(max(each) - min(each)) or 1.0 for each in (across, up)]
    for place, names in sorted(together.items()):
        axes.plot(*place, marker="o", color=MARK)
        right, above = _corners.freest([place[0] / size[0], place[1] / size[1]], taken, size)
        said = ",\n".join(names) if form == "slim" else ", ".join(names)
        side = {"ha": "left" if right > 0 else "right", "va": "bottom" if above > 0 else "top"}
        axes.annotate(said, place, xytext=(5 * right, 5 * above), textcoords="offset points", color=INK, **side)


def _reliability(axes: Any, plot: Mapping[str, Any], form: str) -> None:
    """How often answers are right against how sure they are; on the diagonal both agree."""
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle="--", label="as sure as it is right")
    for colour, (name, values) in zip(COLOURS, plot["values"].items(), strict=False):
        axes.plot(*zip(*[row[:2] for row in values], strict=True), color=colour, marker="o", markersize=4, label=name)
        banded = [(row[0], *row[3:]) for row in values if len(row) == 5]
        if banded:
            axes.vlines(*zip(*banded, strict=True), color=colour, linewidth=4, alpha=0.3)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.set_ylabel(plot["y"])
    _legend(axes, {**plot["values"], "": ()}, form)


def _matrix(axes: Any, plot: Mapping[str, Any], form: str) -> None:
    """Counts in squares: right ones in one colour, wrong ones in another, the more the stronger."""
    labels, counts = plot["labels"], plot["values"]
    most = max((value for row in counts for value in row), default=1) or 1
    for down, row in enumerate(counts):
        for across, value in enumerate(row):
            if value:
                colour = FILL if across == down else MARK
                square = {"color": colour, "alpha": 0.1 + 0.35 * value / most, "linewidth": 0}
                axes.fill_between([across - 0.5, across + 0.5], down - 0.5, down + 0.5, **square)
                axes.text(across, down, str(value), ha="center", va="center", fontsize=7, color=INK)
    short = [_cut(str(label)) for label in labels]
    if form == "broad":
        short = [f"{place} {label}" if short.count(label) > 1 else label for place, label in enumerate(short, 1)]
    axes.set_xticks(range(len(labels)), short if form == "broad" else range(1, len(labels) + 1))
    if form == "broad":
        axes.tick_params(axis="x", labelrotation=60)
        for tick in axes.get_xticklabels():
            tick.set(ha="right", rotation_mode="anchor")
    else:
        short = [f"{place} {label}" for place, label in enumerate(short, 1)]
    axes.set_yticks(range(len(labels)), short)
    axes.set(xlim=(-0.5, len(labels) - 0.5), ylim=(len(labels) - 0.5, -0.5), ylabel=plot["y"])
    axes.tick_params(labelsize=7.5 if form == "broad" else 7)


def _cut(label: str, most: int = 20) -> str:
    """A label in one line, of which as much is left as there is room for."""
    line = " ".join(label.split())
    return line if len(line) <= most else f"{line[: most - 3]}..."


KINDS = {
    "bars": _bars,
    "histogram": _histogram,
    "line": _line,
    "intervals": _intervals,
    "curves": _curves,
    "path": _path,
    "reliability": _reliability,
    "matrix": _matrix,
}


def _inline(drawn: str, title: str, description: str, form: str) -> str:
    """The `<svg>` element alone, scaled by its box, in the page's colours, named for readers of the page."""
    number = hashlib.sha256(f"{title}{form}{drawn}".encode()).hexdigest()[:8]
    drawn = drawn[drawn.index("<svg") :].replace(INK, "currentColor")
    for place, colour in enumerate(COLOURS):
        drawn = drawn.replace(colour, f"var(--series-{place})")
    start, end = drawn.split(">", 1)
    box = re.search(r'viewBox="[^"]*"', start)
    end = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", end, flags=re.DOTALL)
    end = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font: \1 system-ui, sans-serif", end)
    end = _own_ids(end, f"p{number}-").replace("xlink:href", "href")
    told = f"<desc id='p{number}-d'>{html.escape(description)}</desc>" if description else ""
    names = f"p{number}-t p{number}-d" if description else f"p{number}-t"
    head = f'<svg class="{form}" role="img" aria-labelledby="{names}" {box[0] if box else ""}>'
    return f"{head}<title id='p{number}-t'>{html.escape(title)}</title>{told}{end}"


def _own_ids(drawn: str, prefix: str) -> str:
    """Ids that are referred to get a prefix, the others go."""
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', drawn))
    drawn = re.sub(r' id="([^"]*)"', lambda found: f' id="{prefix}{found[1]}"' if found[1] in used else "", drawn)
    return re.sub(r'(url\(#|href="#)', rf"\g<1>{prefix}", drawn)
