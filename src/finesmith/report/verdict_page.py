"""The verdict as one self-contained HTML page: what to do and why on the first screen, every number below.

Pure: plain values in (`comparison.json`, manifest, recipe, steps), text out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from finesmith.evidence import claims, plain
from finesmith.evidence.verdict import gained, signed
from finesmith.evidence.verdict import number as value_of
from finesmith.evidence.verdict import rows as rows_of
from finesmith.metrics.base import Metric
from finesmith.report import explained, first_screen, made, names, words
from finesmith.report._html import document, figure, folded, identifier, listed, table, text
from finesmith.report.numbers import every_number
from finesmith.types import Evidence

MARKS = {
    "supported": "\N{CHECK MARK}",
    "not supported": "\N{MULTIPLICATION SIGN}",
    "inconclusive": "?",
    "not measured": "-",
}
TONES = {"supported": "yes", "not supported": "no", "inconclusive": "open", "not measured": "unknown"}
RIVALS = {claims.IMPROVED: "base", claims.PROMPT: "prompt"}
"""Claims that several trainings can confirm, and against what."""
FIRST = ("prompting", "retention", "frontier", "seeds", "learning_curve")
"""Measurements that the decision rests on come first."""


def render(title: str, comparison: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    """The whole page.

    Args:
        title: the run.
        comparison: what `judging.as_json` gives.
        about: `manifest`, `recipe` (YAML) and `steps` (one mapping a step) of the run.
    """
    evidence = plain.from_json(comparison["evidence"])
    measured = comparison["measured"]
    order = sorted(measured, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))
    parts = {
        "The statements, one by one": _claims(comparison, about["manifest"], evidence.metric),
        "Every system on the same test rows": _gains(evidence) + _systems(evidence),
        **{_sentence(measured[name]["title"]): _measured(name, measured[name], evidence.metric) for name in order},
        "Where it is right and wrong": _errors(evidence),
        "The training": _training(about["steps"]),
        "What was not measured, and why": _missing(comparison),
        "How it was made": made.section(title, about, comparison),
        "What the words mean": _glossary(evidence),
    }
    parts = {heading: inside for heading, inside in parts.items() if inside}
    body = [_top(title, comparison, evidence, about, list(parts)), *(_part(*part) for part in parts.items())]
    return document(f"Verdict on {title}", "".join(body))


def _part(heading: str, inside: str) -> str:
    return f"<h2 id='{identifier(heading)}'>{text(heading)}</h2>{inside}"


def _top(
    title: str, comparison: Mapping[str, Any], evidence: Evidence, about: Mapping[str, Any], headings: Sequence[str]
) -> str:
    """The first screen: the decision, four answers, and where to find the rest."""
    first = first_screen.read(comparison, evidence, {**about, "run": title})
    manifest = about["manifest"]
    facts = {"model": manifest.get("model"), "task": evidence.task, "method": manifest.get("method"),
             "made": str(manifest.get("created", ""))[:10]}  # fmt: skip
    made_of = "; ".join(f"{name}: {value}" for name, value in facts.items() if value)
    alarms = "".join(f"<p class='alarm no'>{text(line)}</p>" for line in first.alarms)
    cards = "".join(_card(question, lines, first.worth) for question, lines in first.answers.items())
    links = " ".join(f"<a href='#{identifier(heading)}'>{text(heading)}</a>" for heading in headings)
    basis = f"<p class='dim small'>The numbers behind it: {text(first.basis)}.</p>" if first.basis else ""
    return (
        f"<h1>Was fine-tuning worth it?</h1><p class='dim small'>run: {text(title)}; {text(made_of)}</p>{alarms}"
        f"<p class='what'>The advice</p><p class='verdict'>{text(first.decision)}</p>{basis}"
        f"<div class='answers'>{cards}</div><nav aria-label='Parts of this page'>{links}</nav>"
    )


def _card(question: str, lines: Sequence[str], worth: str) -> str:
    tone = first_screen.TONES[worth]
    said = "".join(
        f"<p><strong class='{tone}'>{text(line)}</strong></p>" if line == f"{worth}." else f"<p>{_command(line)}</p>"
        for line in lines
    )
    return f"<div><h2>{text(question)}</h2>{said}</div>"


def _command(line: str) -> str:
    """A sentence; the command at its end as one."""
    return re.sub(r"(finesmith [a-z-]+ .+?)\.$", r"<code>\1</code>", text(line))


def _claims(comparison: Mapping[str, Any], manifest: Mapping[str, Any], metric: str) -> str:
    """Each claim with its outcome, its numbers, and what it rests on."""
    seeds = comparison["measured"].get("seeds", {}).get("numbers", {})
    lines = "".join(_claim(claim, _rests(claim, manifest, seeds, metric)) for claim in comparison["claims"])
    outcomes = "".join(
        f"<li><strong>{text(name)}</strong>: {text(meaning)}.</li>" for name, meaning in names.OUTCOMES.items()
    )
    note = (
        "They are judged for this model and these rows only, at 95 % confidence. Several statements that are judged "
        "together are held to a stricter standard (Holm's correction)."
    )
    means = folded("what the four outcomes mean", f"<ul>{outcomes}</ul>")
    return f"<p class='dim'>{note}</p><ul class='claims'>{lines}</ul>{means}"


def _claim(claim: Mapping[str, Any], basis: str) -> str:
    outcome = claim["outcome"]
    tag = f"<span class='tag {TONES[outcome]}'>{MARKS[outcome]} {text(outcome)}</span>"
    rests = f"<p class='dim small'>{text(basis)}</p>" if basis else ""
    said = _sentence(names.plainly(claim["sentence"]))
    return f"<li>{tag}<h3>{text(_sentence(claim['name']))}</h3><p>{text(said)}</p>{rests}</li>"


def _rests(claim: Mapping[str, Any], manifest: Mapping[str, Any], seeds: Mapping[str, Any], metric: str) -> str:
    """`Rests on 144 rows, one training (seed 0). Grade B: ...`."""
    if not claim["grade"]:
        return ""
    numbers = claim.get("numbers") or {}
    deciding = [numbers["loss"]] if "loss" in numbers else numbers.values()  # a weaker strength has passages of its own
    counts = [value["n"] for value in deciding if isinstance(value, Mapping) and value.get("n")]
    rows = [f"{max(counts):,} rows or passages"] if counts else []
    known = seeds.get("seeds", ())
    many = claim["grade"] == "A" and len(known) > 1
    told = f"{len(known)} trainings (seeds {', '.join(map(str, known))})"
    trainings = told if many else f"one training (seed {manifest.get('seed', '?')})"
    over = (seeds.get("gains") or {}).get(RIVALS.get(claim["name"], ""))
    both = f" Over {told}: {_over(words.metric_named(metric), over)}." if over else ""
    p = numbers.get("p_holm")
    chance = "" if p is None else f"p = {p:.2g}" if p >= 0.001 else "p below 0.001"
    corrected = f" {chance} after Holm's correction." if chance else ""
    grade = f" Grade {claim['grade']}: {names.GRADES[claim['grade']]}."
    return f"Rests on {', '.join([*rows, trainings])}.{both}{corrected}{grade}"


def _over(metric: Metric, gain: Mapping[str, Any]) -> str:
    ends = ("unknown" if gain[end] is None else signed(metric, gain[end]) for end in ("low", "high"))
    return f"{gained(metric, gain['value'])} (95 % interval {' to '.join(ends)})"


def _sentence(name: str) -> str:
    return name[:1].upper() + name[1:]


def _gains(evidence: Evidence) -> str:
    """Tuned minus each opponent, as intervals."""
    if not evidence.gains:
        return ""
    order = sorted(evidence.gains.items(), key=lambda item: item[1].value)
    metric = words.metric_named(evidence.metric)
    plot = {
        "kind": "intervals",
        "title": f"What the tuned model gains in {metric.title} over each opponent, with 95 % intervals",
        "x": f"gain in {words.in_units(metric)}",
        "labels": [names.system(name, evidence) for name, _ in order],
        "values": [plain.values_of([gain.value, gain.low, gain.high]) for _, gain in order],
        "told": [signed(metric, gain.value) for _, gain in order],
    }
    return figure(plot, explained.READ["gains"])


def _systems(evidence: Evidence) -> str:
    metric_names, primary = words.metric_names(evidence), words.metric_named(evidence.metric)
    rows = []
    for system in sorted(evidence.systems, key=lambda name: name != "tuned"):
        scores = evidence.systems[system]
        row: dict[str, Any] = {"system": names.system(system, evidence)}
        for metric, found in ((words.metric_named(name), scores.get(name)) for name in metric_names):
            row[words.heading(metric)] = (
                f"{value_of(metric, found.value)} ({words.interval(metric, found)})" if found else ""
            )
        row["test rows"] = rows_of(scores[evidence.metric]) if evidence.metric in scores else ""
        gain = evidence.gains.get(system)
        row["tuned gains"] = f"{signed(primary, gain.value)} ({words.signed_interval(primary, gain)})" if gain else ""
        rows.append(row)
    means = listed("dim small", names.explained(metric_names))
    return table(rows, "Each score with its 95 % interval in brackets") + means


def _measured(name: str, values: Mapping[str, Any], metric: str) -> str:
    asked = f"<p class='dim'>{text(explained.ASKED[name])}</p>" if name in explained.ASKED else ""
    plots = "".join(figure(plot, _reading(name, plot, metric)) for plot in values["plots"])
    lines = [f"Not measured: {what}: {names.reason(why)}" for what, why in values["missing"].items()]
    said = [_sentence(names.plainly(each)) for each in re.split(r"; (?![^()]*\))", values["says"])]
    found = f"<p>{text(said[0])}.</p>" if len(said) == 1 else listed("", said)
    took = f"<p class='dim small'>Measured in {words.duration(values['seconds'])}.</p>" if "seconds" in values else ""
    return f"{asked}{found}{plots}{folded('every number', every_number(values['numbers']))}{listed('dim', lines)}{took}"


def _reading(name: str, plot: Mapping[str, Any], metric: str) -> str:
    """How to read a plot, by its kind or its measurement; the strengths also by the metric's direction."""
    by_kind = {"reliability": "reliability", "matrix": "matrix", "path": "frontier"}
    known = by_kind.get(plot["kind"], "curve" if plot.get("dashed") else name if name == "frontier" else "")
    lower = known == "frontier" and not words.metric_named(metric).higher_is_better
    return explained.READ.get("frontier, lower" if lower else known, "")


def _training(steps: Sequence[Mapping[str, Any]]) -> str:
    if not steps:
        return ""
    every = max(1, len(steps) // 200)
    plot = {
        "kind": "curves",
        "title": f"The training loss of {'every step' if every == 1 else f'one step in {every}, from step 1 on'}",
        "x": "step",
        "y": "loss, nats",
        "values": {"training": [[row["step"], row["loss"]] for row in steps[::every]]},
    }
    return figure(plot, explained.READ["loss"])


def _errors(evidence: Evidence) -> str:
    details = evidence.details
    matrix = details.get("confusion_matrix")
    plot = {
        "kind": "matrix",
        "title": "What the tuned model took for what, in test rows",
        "x": "answered",
        "y": "true",
        **(matrix or {}),
    }
    parts = [
        figure(plot, explained.READ["matrix"]) if matrix else "",
        folded("scores of each label", _table_of(details.get("per_class"))),
        folded("the most frequent confusions", _table_of(details.get("confusions"))),
        folded("the first answers, beside the approved ones", _table_of(details.get("samples"))),
    ]
    return "".join(parts)


def _table_of(values: Any) -> str:
    return table([{names.key(key): item for key, item in row.items()} for row in values]) if values else ""


def _missing(comparison: Mapping[str, Any]) -> str:
    both = {**comparison["evidence"]["not_measured"], **comparison["not_measured"]}
    rows = [{"what": _sentence(names.measurement(name)), "why": names.reason(why)} for name, why in both.items()]
    return table(rows, "Not measured means that nobody looked, not that all is well", "facts") if rows else ""


def _glossary(evidence: Evidence) -> str:
    terms = {**explained.WORDS, **{f"grade {grade}": f"{meaning}." for grade, meaning in names.GRADES.items()}}
    return (
        "<dl>" + "".join(f"<dt><strong>{text(k)}</strong></dt><dd>{text(v)}</dd>" for k, v in terms.items()) + "</dl>"
    )
