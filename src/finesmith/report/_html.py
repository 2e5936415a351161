"""One self-contained HTML page: no script, no request; light and dark, wide and narrow."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from typing import Any

from finesmith.report import plot_words, plots
from finesmith.report._style import STYLE


def document(title: str, body: str) -> str:
    """The whole page."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(title)}</title><style>{STYLE}</style></head><body><main>{body}</main></body></html>\n"
    )


def figure(plot: Mapping[str, Any], note: str = "") -> str:
    """A plot below its title, once for wide and once for narrow screens; perhaps how to read it, and its numbers."""
    told = plot_words.description(plot)
    drawn = "".join(plots.svg(plot, form, told) for form in plots.WIDTHS)
    reading = f"<p class='dim small'>{text(note)}</p>" if note else ""
    numbers = folded("the numbers of this plot", table(plot_words.rows(plot)))
    return f"<figure><figcaption>{text(plot['title'])}</figcaption>{drawn}{reading}{numbers}</figure>"


def scalars(detail: Mapping[str, Any]) -> str:
    """Single numbers and words, in one line."""
    plain = {name: value for name, value in detail.items() if isinstance(value, int | float | str) and str(value)}
    told = ", ".join(f"{name.replace('_', ' ')} {plot_words.number(value)}" for name, value in plain.items())
    return f"<p class='dim'>{text(told)}</p>" if told else ""


def table(rows: Sequence[Mapping[str, Any]], caption: str = "", kind: str = "") -> str:
    """Rows under the names of their keys; the first column names the row. It scrolls where it is wider than the page;
    of kind "facts" it wraps instead."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    head = "".join(f"<th scope='col'>{text(str(column).replace('_', ' '))}</th>" for column in columns)
    body = "".join(
        f"<tr>{''.join(_cell(row.get(column), at) for at, column in enumerate(columns))}</tr>" for row in rows
    )
    named = f"<caption>{text(caption)}</caption>" if caption else ""
    told = text(caption or ", ".join(str(column) for column in columns if column))
    around = "" if kind else f" role='region' tabindex='0' aria-label='{told}'"
    head = f"<table class='{kind}'>{named}<thead><tr>{head}</tr></thead>"
    return f"<div class='wide'{around}>{head}<tbody>{body}</tbody></table></div>"


def _cell(value: Any, at: int) -> str:
    shown = text(plot_words.number(value))
    return f"<th scope='row'>{shown}</th>" if at == 0 and isinstance(value, str) and value else f"<td>{shown}</td>"


def listed(kind: str, lines: Sequence[str]) -> str:
    """A list of sentences; nothing where there are none."""
    items = "".join(f"<li>{text(line)}</li>" for line in lines)
    return f"<ul class='{kind}'>{items}</ul>" if lines else ""


def folded(title: str, inside: str, kind: str = "") -> str:
    """What opens at a click; of kind "paper" it is also printed where it is closed."""
    return f"<details class='{kind}'><summary>{text(title)}</summary>{inside}</details>" if inside else ""


def identifier(heading: str) -> str:
    """A heading as the target of a link."""
    return re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-")


def text(value: Any) -> str:
    """Escaped."""
    return html.escape(str(value))
