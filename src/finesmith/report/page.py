"""What the checks found as one self-contained HTML page with plots: no script, no request, light and dark."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from finesmith.report import findings as plainly
from finesmith.report import plots, words
from finesmith.types import Examined, Finding

ROWS = 500
"""Origins that a page lists of one finding; --json has all."""
STYLE = """
:root { color-scheme: light dark; --back: #fff; --ink: #1c1e21; --dim: #5b6470; --line: #d8dde3; --soft: #f4f6f8;
  --blocking: #b3261e; --warning: #8a5a00; --note: #3d6a96; }
@media (prefers-color-scheme: dark) { :root { --back: #16181b; --ink: #e6e8ea; --dim: #9aa4af; --line: #343a41;
  --soft: #1f2327; --blocking: #ff8a80; --warning: #f0b95c; --note: #8fbbe8; } }
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
  overflow-wrap: anywhere; } th { color: var(--dim); font-weight: 600; } .wide { overflow-x: auto; }
figure { margin: .8rem 0; max-width: 44rem; } svg { width: 100%; height: auto; }
details { margin: .4rem 0; } summary { cursor: pointer; color: var(--dim); }
"""


def render(examined: Examined) -> str:
    """The whole page."""
    rows = ", ".join(f"{count:,} {part}" for part, count in examined.rows.items() if count)
    sections = "".join(_section(finding) for finding in examined.findings) or "<p>Nothing was found.</p>"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Check of {_text(examined.source)}</title><style>{STYLE}</style></head><body>"
        f"<h1>{_text(examined.source)}</h1><p>{rows} rows, {_text(examined.task)}: {plainly.summary(examined)}.</p>"
        f"{_list('dim', examined.notes)}{sections}{_ending(examined)}</body></html>\n"
    )


def _section(finding: Finding) -> str:
    figure = f"<figure>{plots.svg(finding.detail['plot'])}</figure>" if "plot" in finding.detail else ""
    tables = _scalars(finding.detail) + "".join(_detail(name, value) for name, value in finding.detail.items())
    tag = f'<span class="tag {finding.severity}">{finding.severity}</span>'
    return (
        f"<section><h3>{tag}{_text(plainly.title(finding))}</h3>"
        f"<p>{_text(finding.what)}</p><p class='dim'>{_text(finding.why)}</p><p>{_text(finding.advice)}</p>"
        f"{figure}{tables}{_origins(finding.rows)}</section>"
    )


def _origins(rows: Sequence[str]) -> str:
    if not rows:
        return ""
    more = f" and {len(rows) - ROWS:,} more (all with --json)" if len(rows) > ROWS else ""
    shown = ", ".join(map(_text, rows[:ROWS]))
    return f"<details><summary>{len(rows):,} rows</summary><p class='origins'>{shown}{more}</p></details>"


def _scalars(detail: Mapping[str, Any]) -> str:
    """Single numbers and words, in one line."""
    plain = {name: value for name, value in detail.items() if isinstance(value, int | float | str) and str(value)}
    told = ", ".join(f"{name.replace('_', ' ')} {_number(value)}" for name, value in plain.items())
    return f"<p class='dim'>{_text(told)}</p>" if told else ""


def _detail(name: str, value: Any) -> str:
    """Tables for lists of mappings and for mappings; lists of lists with a gap between them."""
    if name == "plot":
        return ""
    title = _text(name.replace("_", " "))
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        if "rows" in value[0] and isinstance(value[0]["rows"], list) and value[0]["rows"] and "size" in value[0]:
            value = [row for group in value for row in [*group["rows"], {}]]
        return f"<details><summary>{title}</summary>{_table(value)}</details>"
    if isinstance(value, list) and value and isinstance(value[0], list) and isinstance(value[0][0], Mapping):
        return (
            f"<details><summary>{title}</summary>{_table([row for group in value for row in [*group, {}]])}</details>"
        )
    if isinstance(value, Mapping) and value:
        rows = [{"": key, **_cells(item)} for key, item in value.items()]
        return f"<details><summary>{title}</summary>{_table(rows)}</details>"
    return ""


def _cells(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {"value": value}


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    head = "".join(f"<th>{_text(str(column).replace('_', ' '))}</th>" for column in columns)
    body = "".join(
        f"<tr>{''.join(f'<td>{_text(_number(row.get(column)))}</td>' for column in columns)}</tr>" for row in rows
    )
    return f"<div class='wide'><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        return ", ".join(_number(item) for item in value)
    return "" if value is None else str(value)


def _ending(examined: Examined) -> str:
    skipped = [f"Not checked: {name.replace('_', ' ')} ({why})" for name, why in examined.skipped.items()]
    took = ", ".join(
        f"{name.replace('_', ' ')} {words.duration(seconds)}"
        for name, seconds in examined.seconds.items()
        if seconds >= 0.05
    )
    lines = [*skipped, f"Time: {took or 'under 0.1 s'}"]
    return f"<h2>How it was checked</h2>{_list('dim', lines)}"


def _list(kind: str, lines: Sequence[str]) -> str:
    return f"<ul class='{kind}'>{''.join(_items(lines))}</ul>" if lines else ""


def _items(lines: Sequence[str]) -> Iterator[str]:
    for line in lines:
        yield f"<li>{_text(line)}</li>"


def _text(value: str) -> str:
    return html.escape(str(value))
