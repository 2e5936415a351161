"""One self-contained HTML page: no script, no request; light and dark, wide and narrow."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from finesmith.report import plots

STYLE = """
:root { color-scheme: light dark; --back: #fff; --ink: #1c1e21; --dim: #5b6470; --line: #d8dde3; --soft: #f4f6f8;
  --blocking: #b3261e; --warning: #8a5a00; --note: #3d6a96; --yes: #1b6e3c; }
@media (prefers-color-scheme: dark) { :root { --back: #16181b; --ink: #e6e8ea; --dim: #9aa4af; --line: #343a41;
  --soft: #1f2327; --blocking: #ff8a80; --warning: #f0b95c; --note: #8fbbe8; --yes: #7fd6a0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 2rem 1.2rem 4rem; background: var(--back); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0; overflow-wrap: anywhere; } h2 { font-size: 1.15rem; margin: 2.4rem 0 .6rem; }
.dim, figcaption { color: var(--dim); } .origins { font: .8rem/1.6 ui-monospace, monospace; overflow-wrap: anywhere; }
section { border-top: 1px solid var(--line); padding: .9rem 0; } section h3 { font-size: 1rem; margin: 0 0 .2rem; }
.tag { font-size: .75rem; font-weight: 600; border: 1px solid currentColor; border-radius: .3rem; padding: 0 .4rem;
  margin-right: .4rem; }
.blocking { color: var(--blocking); } .warning { color: var(--warning); } .note { color: var(--note); }
p { margin: .3rem 0; } table { border-collapse: collapse; width: 100%; font-size: .85rem; }
th, td { text-align: left; vertical-align: top; padding: .25rem .6rem .25rem 0; border-bottom: 1px solid var(--line);
  overflow-wrap: anywhere; } th { color: var(--dim); font-weight: 600; overflow-wrap: normal; }
li { overflow-wrap: anywhere; } .wide { overflow-x: auto; }
figure { margin: .8rem 0; max-width: 44rem; } svg { width: 100%; height: auto; }
.verdict { font-size: 1.2rem; line-height: 1.45; margin: 1rem 0; } .claims { list-style: none; padding: 0; }
.claims li { padding: .5rem 0; border-top: 1px solid var(--line); }
.yes { color: var(--yes); } .no { color: var(--blocking); } .open { color: var(--warning); }
.unknown { color: var(--dim); }
pre { overflow-x: auto; background: var(--soft); padding: .8rem; border-radius: .4rem; font-size: .8rem; }
details { margin: .4rem 0; } summary { cursor: pointer; color: var(--dim); }
"""


def document(title: str, body: str) -> str:
    """The whole page."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(title)}</title><style>{STYLE}</style></head><body>{body}</body></html>\n"
    )


def figure(plot: Mapping[str, Any]) -> str:
    """A plot with its title below."""
    return f"<figure>{plots.svg(plot)}<figcaption>{text(plot['title'])}</figcaption></figure>"


def scalars(detail: Mapping[str, Any]) -> str:
    """Single numbers and words, in one line."""
    plain = {name: value for name, value in detail.items() if isinstance(value, int | float | str) and str(value)}
    told = ", ".join(f"{name.replace('_', ' ')} {number(value)}" for name, value in plain.items())
    return f"<p class='dim'>{text(told)}</p>" if told else ""


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows under the names of their keys."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    head = "".join(f"<th>{text(str(column).replace('_', ' '))}</th>" for column in columns)
    body = "".join(
        f"<tr>{''.join(f'<td>{text(number(row.get(column)))}</td>' for column in columns)}</tr>" for row in rows
    )
    return f"<div class='wide'><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def number(value: Any) -> str:
    """Four digits that count, thousands apart; lists with commas."""
    if isinstance(value, float):
        return f"{value:,.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        return ", ".join(number(item) for item in value)
    return "" if value is None else str(value)


def listed(kind: str, lines: Sequence[str]) -> str:
    """A list of sentences; nothing where there are none."""
    items = "".join(f"<li>{text(line)}</li>" for line in lines)
    return f"<ul class='{kind}'>{items}</ul>" if lines else ""


def folded(title: str, inside: str) -> str:
    """What opens at a click."""
    return f"<details><summary>{text(title)}</summary>{inside}</details>" if inside else ""


def text(value: Any) -> str:
    """Escaped."""
    return html.escape(str(value))
