"""The verdict as one self-contained HTML page: what to do and why on the first screen, every number below.

Pure: plain values in (`comparison.json`, manifest, recipe, steps), text out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from finesmith.evidence import plain
from finesmith.evidence.verdict import number as value_of
from finesmith.evidence.verdict import signed
from finesmith.report import words
from finesmith.report._html import document, figure, folded, listed, number, scalars, table, text
from finesmith.types import Evidence

TONES = {"supported": "yes", "not supported": "no", "inconclusive": "open", "not measured": "unknown"}


def render(title: str, comparison: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    """The whole page.

    Args:
        title: the run.
        comparison: what `comparing.as_json` gives.
        about: `manifest`, `recipe` (YAML) and `steps` (one mapping a step) of the run.
    """
    evidence = plain.from_json(comparison["evidence"])
    body = [
        f"<h1>{text(title)}</h1><p class='verdict'>{text(comparison['decision'])}</p>",
        _claims(comparison["claims"]),
        _gains(evidence),
        f"<h2>Every system on the same {_rows(evidence):,} test rows</h2>{_systems(evidence)}",
        *(_measured(each) for each in comparison["measured"].values()),
        _training(about["steps"]),
        _errors(evidence),
        f"<h2>Not measured</h2>{listed('dim', _missing(comparison))}" if _missing(comparison) else "",
        _made(about, comparison["seconds"]),
    ]
    return document(f"Verdict on {title}", "".join(body))


def _claims(claims: Sequence[Mapping[str, Any]]) -> str:
    grades = (
        "A: three seeds or more, the interval excludes 0, no leaked rows. B: one seed. C: a point estimate. "
        "Intervals are 95 %; claims are Holm-corrected."
    )
    lines = "".join(map(_claim, claims))
    return f"<ul class='claims'>{lines}</ul><p class='dim'>{grades}</p>" if claims else ""


def _claim(claim: Mapping[str, Any]) -> str:
    outcome = claim["outcome"] + (f" · {claim['grade']}" if claim["grade"] else "")
    tag = f"<span class='tag {TONES[claim['outcome']]}'>{text(outcome)}</span>"
    return f"<li>{tag}<strong>{text(_sentence(claim['name']))}</strong><p>{text(claim['sentence'])}</p></li>"


def _sentence(name: str) -> str:
    return name[:1].upper() + name[1:]


def _gains(evidence: Evidence) -> str:
    """Tuned minus each opponent, as intervals."""
    if not evidence.gains:
        return ""
    order = sorted(evidence.gains.items(), key=lambda item: item[1].value)
    metric = words.metric_named(evidence.metric)
    values = [[gain.value, gain.low, gain.high] for _, gain in order]
    plot = {
        "kind": "intervals",
        "title": f"What the tuned model gains in {metric.title} over each opponent, with 95 % intervals",
        "x": f"gain in {metric.title}",
        "labels": [words.system_title(name) for name, _ in order],
        "values": values,
    }
    return figure(plot)


def _systems(evidence: Evidence) -> str:
    names = words.metric_names(evidence)
    order = sorted(evidence.systems, key=lambda name: name != "tuned")
    rows = []
    for system in order:
        row: dict[str, Any] = {"system": words.system_title(system)}
        for name in names:
            metric, found = words.metric_named(name), evidence.systems[system].get(name)
            row[words.heading(metric)] = (
                f"{value_of(metric, found.value)} ({words.interval(metric, found)})" if found else ""
            )
        gain = evidence.gains.get(system)
        metric = words.metric_named(evidence.metric)
        row["tuned gains"] = f"{signed(metric, gain.value)} ({words.signed_interval(metric, gain)})" if gain else ""
        rows.append(row)
    return table(rows)


def _rows(evidence: Evidence) -> int:
    return max(
        (scores[evidence.metric].n for scores in evidence.systems.values() if evidence.metric in scores), default=0
    )


def _measured(values: Mapping[str, Any]) -> str:
    plots = "".join(figure(plot) for plot in values["plots"])
    missing = listed("dim", [f"Not measured: {name}: {why}" for name, why in values["missing"].items()])
    return (
        f"<h2>{text(_sentence(values['title']))}</h2><p>{text(values['says'])}</p>{plots}"
        f"{folded('every number', _numbers(values['numbers']))}{missing}"
    )


def _numbers(values: Mapping[str, Any]) -> str:
    """Plain values however they are nested: single ones in a line, lists of mappings as tables, the rest as rows."""
    parts = [scalars(values)]
    for name, value in values.items():
        title = f"<p class='dim'>{text(name.replace('_', ' '))}</p>"
        if isinstance(value, list) and value and isinstance(value[0], Mapping):
            parts.append(title + table(value))
        elif isinstance(value, list):
            parts.append(f"{title}<p>{text(number(value))}</p>")
        elif isinstance(value, Mapping) and value:
            nested = all(isinstance(item, Mapping) for item in value.values())
            rows = [{"": key, **item} for key, item in value.items()] if nested else [dict(value)]
            parts.append(title + table(rows))
    return "".join(parts)


def _training(steps: Sequence[Mapping[str, Any]]) -> str:
    if not steps:
        return ""
    every = max(1, len(steps) // 200)
    curve = [[row["step"], row["loss"]] for row in steps[::every]]
    plot = {
        "kind": "curves",
        "title": "The loss of every step, in nats",
        "x": "step",
        "y": "training loss",
        "values": {"training": curve},
    }
    return f"<h2>The training</h2>{figure(plot)}"


def _errors(evidence: Evidence) -> str:
    classes, pairs = evidence.details.get("per_class"), evidence.details.get("confusions")
    samples = evidence.details.get("samples")
    parts = [
        folded("scores of each class", _table_of(classes)),
        folded("what was taken for what", _table_of(pairs)),
        folded("the first answers", _table_of(samples)),
    ]
    return f"<h2>Where it is right and wrong</h2>{''.join(parts)}" if any(parts) else ""


def _table_of(values: Any) -> str:
    if isinstance(values, Mapping):
        values = [{"": key, **(item if isinstance(item, Mapping) else {"value": item})} for key, item in values.items()]
    return table(values) if values and isinstance(values[0], Mapping) else ""


def _missing(comparison: Mapping[str, Any]) -> list[str]:
    both = {**comparison["evidence"]["not_measured"], **comparison["not_measured"]}
    return [f"{name.replace('_', ' ')}: {why}" for name, why in both.items()]


def _made(about: Mapping[str, Any], seconds: Mapping[str, float]) -> str:
    manifest = about["manifest"]
    took = ", ".join(f"{name.replace('_', ' ')} {words.duration(spent)}" for name, spent in seconds.items())
    plainly = {key: value for key, value in manifest.items() if isinstance(value, str | int | float)}
    data = manifest.get("data", {})
    lines = [
        *(f"{key.replace('_', ' ')}: {value}" for key, value in plainly.items()),
        f"split: {data.get('split', '')}",
        *(f"{name}: SHA-256 {digest}" for name, digest in data.get("sources", {}).items()),
        ", ".join(f"{name} {version}" for name, version in manifest.get("packages", {}).items()),
        f"measured in: {took}" if took else "",
    ]
    again = "finesmith tune recipe.yaml && finesmith compare RUN"
    recipe = folded("recipe", f"<pre>{text(about['recipe'])}</pre>")
    return (
        f"<h2>How it was made</h2>{listed('dim', [line for line in lines if line])}"
        f"<p>Again: <code>{again}</code>, with this recipe:</p>{recipe}"
    )
