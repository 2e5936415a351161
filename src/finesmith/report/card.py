"""The model card: a README.md as model hubs read it, with the evidence in it and nothing that was not measured.

Returns text; writes no file. Keys that `about` lacks leave their line out: nothing is guessed, the licence least.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict

from finesmith.evidence import plain
from finesmith.evidence.verdict import number, signed
from finesmith.evidence.verdict import rows as rows_of
from finesmith.report import usage, words
from finesmith.types import Estimate, Evidence

STAYS = "What else this card says was changed by hand, or is of an earlier state: the comparison has left it as it is."
ONE = "One training run: another seed may give another model."


class About(TypedDict, total=False):
    """What a card says about a run beside its evidence. All keys are optional."""

    name: str  # of the tuned model, the title of the card
    model: str  # the model that was tuned, as it was given
    base_model: str  # its id on a hub; left out where it is a folder
    method: str  # lora, full, ...
    quantize: str  # nf4, int8: how the base is held
    quantization: Mapping[str, Any]  # the arguments for BitsAndBytesConfig that load it so
    adapter: bool  # whether the files are an adapter for `model`
    revision: str  # of a model on a hub, where one was asked for
    multi_label: bool  # of a classifier: whether several labels may hold
    asking: Mapping[str, Any]  # of a generator: what others have to know who ask it, as `tasks/_answers.py` says
    path: str  # where the model's files lie; "path/to/run" where unknown
    license: str  # SPDX id
    data: str  # the file or data set
    rows: Mapping[str, int]  # train, validation, test
    split_hash: str
    notes: Sequence[str]  # how the parts of the data came about, what was noticed
    seed: int
    recipe: str  # the complete recipe as YAML
    versions: Mapping[str, str]  # of the libraries
    machine: str


def render(evidence: Evidence, about: About) -> str:
    """The card as Markdown with a YAML front matter."""
    sections = [
        _front_matter(evidence, about),
        _what(evidence, about),
        _results(evidence),
        _classes(evidence),
        _missing(evidence),
        "## How to use\n\n" + usage.section(evidence.task, about),
        _bullets("Training data", _data(about)),
        _settings(evidence, about),
        _bullets("Limits", _limits(evidence)),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def with_scale(card: str, scale: float, point: str, measured: Mapping[str, Any] | None, metric: str) -> str:
    """The card of a model that was set to another scale than 1, said below its first sentence, or at its end
    where it has none; at 1 the card alone. `measured` is the point's `test` in `metric`, over `rows` test rows."""
    bare = re.sub(r"\n*<!-- scale -->.*?<!-- /scale -->", "", card, flags=re.DOTALL)
    if scale == 1:
        return bare
    named = f" (the point `{point}`)" if point else ""
    place = "between the base (0) and the tuned model (1)" if scale < 1 else "beyond the tuned model (1)"
    told = [
        f"The files in `model/` are at scale {scale:g}{named}, {place}.",
        f"{words.on_test_rows(metric, measured)} at this scale." if measured else "This scale was not measured.",
        "What else this card says was measured at scale 1. `finesmith set-scale RUN 1` brings that model back.",
    ]
    note = f"<!-- scale -->\n**{told[0]}** {' '.join(told[1:])}\n<!-- /scale -->\n"
    first, mark, rest = bare.partition("\n> ")
    if not mark:  # a card that its owner wrote anew
        return f"{bare.rstrip()}\n\n{note}".lstrip()
    verdict, _, rest = rest.partition("\n")
    return f"{first}\n> {verdict}\n\n{note}{rest}"


def exported(card: str, task: str, about: About) -> str:
    """The card of a run for its exported folder (`path`), which needs no adapter and no base; with the licence of the
    base where that is known and the card has none."""
    card = re.sub(r"\A---\nlibrary_name: .*\n", "---\nlibrary_name: transformers\n", card)
    front, mark, rest = card.partition("\n---\n")
    if about.get("license") and "\nlicense: " not in front:
        front += f"\nlicense: {_quoted(about['license'])}"
    before, _, behind = f"{front}{mark}{rest}".partition("## How to use\n")
    _, heading, after = behind.partition("\n## ")
    return f"{before}## How to use\n\n{usage.exported(task, about)}\n{heading}{after}"


def licence_of(card: str) -> str:
    """The licence that the front matter of a card names; empty where it names none."""
    front = card.partition("\n---\n")[0] if card.startswith("---\n") else ""
    found = re.search(r"^license: *[\"']?([^\"'\n]+)", front, flags=re.MULTILINE)
    return found[1].strip() if found else ""


def with_verdict(card: str, comparison: Mapping[str, Any], before: Evidence) -> str:
    """The card with the decision and the claims of a comparison (plain values) before its results; in the place of an
    earlier comparison's. What the card says of the evidence `before` becomes what the comparison's says."""
    bare = re.sub(r"<!-- verdict -->.*?<!-- /verdict -->\n*", "", card, flags=re.DOTALL)
    bare, whole = _renewed(bare, before, plain.from_json(comparison["evidence"]))
    bare = _with_seeds(bare, comparison)
    rows = [
        [claim["name"], claim["outcome"] + (f" ({claim['grade']})" if claim["grade"] else ""), claim["sentence"]]
        for claim in comparison["claims"]
    ]
    missing = "; ".join(f"{name.replace('_', ' ')}: {why}" for name, why in comparison["not_measured"].items())
    parts = [
        "<!-- verdict -->\n## Verdict",
        f"**{comparison['decision']}**",
        _table(["claim", "outcome (grade)", "why"], rows, right=False),
        "Judged for this model and this data only. A: three seeds, no leaked row; B: one seed; C: no interval decides.",
        f"Not measured: {missing}" if missing else "",
        "" if whole else STAYS,
        "Every number and plot: `report.html`, `comparison.json`.\n<!-- /verdict -->\n\n",
    ]
    said = "\n\n".join(part for part in parts if part)
    place = bare.find("## Results")
    return bare[:place] + said + bare[place:] if place >= 0 else f"{bare.rstrip()}\n\n{said}".rstrip() + "\n"


def _renewed(card: str, before: Evidence, after: Evidence) -> tuple[str, bool]:
    """The card with its first sentence, its results and what was not measured as they are now; and whether all of these
    still stood as they had been written, and so could be replaced."""
    whole = True
    for old, new in zip(_told(before), _told(after), strict=True):
        whole = whole and old in card
        if old:
            card = card.replace(old, new, 1) if new else card.replace(f"{old}\n\n", "", 1)
    return card, whole


def _told(evidence: Evidence) -> list[str]:
    """What another opponent changes on a card."""
    return [f"\n> {evidence.verdict}\n", _results(evidence), _missing(evidence)]


def _with_seeds(card: str, comparison: Mapping[str, Any]) -> str:
    """The limit that only one training was made, as it is where there are others with other seeds."""
    found = comparison["measured"].get("seeds", {}).get("numbers", {})
    if len(found.get("seeds", ())) < 2:
        return card
    metric = words.metric_named(comparison["evidence"]["metric"])
    values = ", ".join(number(metric, value) for value in found["values"])
    said = f"- This is one of {len(found['seeds'])} trainings with other seeds; {metric.title}: {values}."
    known = rf"^- (?:{re.escape(ONE)}|This is one of \d+ trainings with other seeds; .*)$"
    return re.sub(known, lambda _: said, card, flags=re.MULTILINE)


def _front_matter(evidence: Evidence, about: About) -> str:
    """What a hub indexes. Strings are written as JSON, which YAML reads as they are."""
    lines = [f"library_name: {'peft' if about.get('adapter') else 'transformers'}"]
    lines += [f"{key}: {_quoted(about[key])}" for key in ("base_model", "license") if about.get(key)]
    if evidence.task in usage.PIPELINES:
        lines.append(f"pipeline_tag: {usage.PIPELINES[evidence.task]}")
    tags = ["finesmith", *([about["method"]] if "method" in about else [])]
    for key, values in (("tags", tags), ("metrics", words.metric_names(evidence))):
        lines += [f"{key}:", *(f"- {_quoted(value)}" for value in values)]
    return "\n".join(["---", *lines, "---"])


def _what(evidence: Evidence, about: About) -> str:
    name = about.get("name", "A tuned model")
    base = f" `{about['model']}`" if "model" in about else " a pretrained model"
    method = f" with the method `{about['method']}`" if "method" in about else ""
    method += f" on its base quantised to {about['quantize']}" if "quantize" in about else ""
    data = f" on `{about['data']}`" if "data" in about else ""
    made = f"Fine-tuned with Finesmith from{base}{method}{data} for {evidence.task}."
    return f"# {name}\n\n{made}\n\n> {evidence.verdict}"


def _results(evidence: Evidence) -> str:
    """The primary metric with gains, the other metrics, and how the intervals were made."""
    names = words.metric_names(evidence)
    tables = [_primary(evidence)] + ([_others(evidence, names[1:])] if len(names) > 1 else [])
    note = (
        "All rows are of the test split, which chose no setting of the model; n says how many a system answered, and "
        "gains are over the rows that both answered. Intervals are 95 %: Wilson's for a share and Newcombe's for a "
        "paired difference of shares, a bootstrap over rows for other metrics. They cover the choice of test rows, "
        "not of the training seed."
    )
    if any(found.groups is not None for scores in evidence.systems.values() for found in scores.values()):
        note += " Rows of one group or of the same input are not independent: whole groups of them are drawn."
    leaks = words.without_leaks(evidence)
    return "\n\n".join(["## Results", *tables, *([leaks] if leaks else []), note])


def _primary(evidence: Evidence) -> str:
    metric = words.metric_named(evidence.metric)
    rows = []
    for system, scores in evidence.systems.items():
        if (estimate := scores.get(evidence.metric)) is not None:
            gain = evidence.gains.get(system)
            gained = f"{signed(metric, gain.value)} ({words.signed_interval(metric, gain)})" if gain else ""
            rows.append([words.system_title(system), _value(evidence.metric, estimate), rows_of(estimate), gained])
    return _table(["system", f"{words.heading(metric)} (95 % interval)", "n", "tuned gains (95 % interval)"], rows)


def _others(evidence: Evidence, names: Sequence[str]) -> str:
    rows = [
        [words.system_title(system), *(_value(n, scores[n], rows=True) if n in scores else "-" for n in names)]
        for system, scores in evidence.systems.items()
        if any(name in scores for name in names)
    ]
    return _table(["system", *(words.heading(words.metric_named(name)) for name in names)], rows)


def _value(name: str, estimate: Estimate, *, rows: bool = False) -> str:
    metric = words.metric_named(name)
    interval = words.interval(metric, estimate)
    return f"{number(metric, estimate.value)} ({interval}{f', n = {rows_of(estimate)}' if rows else ''})"


def _classes(evidence: Evidence, *, limit: int = 10) -> str:
    """The weakest classes and the commonest confusions of the tuned model, where `details` has them."""
    classes = sorted(evidence.details.get("per_class", ()), key=lambda row: (row["f1"], row["label"]))[:limit]
    pairs = evidence.details.get("confusions", ())[:limit]
    parts = []
    if classes:
        rows = [
            [r["label"], *(f"{r[key]:.2f}" for key in ("precision", "recall", "f1")), str(r["support"])]
            for r in classes
        ]
        parts += ["## Weakest classes", _table(["class", "precision", "recall", "F1", "test rows"], rows)]
    if pairs:
        rows = [[pair["target"], pair["output"], str(pair["count"])] for pair in pairs]
        parts += ["Most frequent confusions:", _table(["class", "taken for", "test rows"], rows)]
    return "\n\n".join(parts)


def _data(about: About) -> list[str]:
    counts = ", ".join(f"{part} {count:,}" for part, count in about.get("rows", {}).items())
    hashed = f"Split `{about['split_hash'][:16]}` (SHA-256 of the ids in each part)" if "split_hash" in about else ""
    return [line for line in (f"Rows: {counts}" if counts else "", hashed, *about.get("notes", ())) if line]


def _settings(evidence: Evidence, about: About) -> str:
    """Seed, costs, machine, versions, and the complete recipe."""
    lines = [f"Seed: {about['seed']}"] if "seed" in about else []
    lines += [f"Training cost: {', '.join(words.costs(evidence.costs))}"] if evidence.costs else []
    lines += [f"Machine: {about['machine']}"] if "machine" in about else []
    versions = ", ".join(f"{library} {version}" for library, version in about.get("versions", {}).items())
    lines += [f"Versions: {versions}"] if versions else []
    recipe = fenced(about["recipe"], "yaml") if "recipe" in about else ""
    body = [part for part in ("\n".join(f"- {line}" for line in lines), recipe) if part]
    return "\n\n".join(["## Settings", *body]) if body else ""


def _limits(evidence: Evidence) -> list[str]:
    limits = [
        "The scores hold for rows like those of the test set; on other inputs nothing was measured.",
        ONE,
        "The model inherits the knowledge, the gaps and the biases of the model it was tuned from.",
    ]
    if len(evidence.gains.keys() - {"base"}) > 1:
        limits.append("The strongest opponent was picked on the test rows, which leans against the tuned model.")
    return limits


def _missing(evidence: Evidence) -> str:
    return _bullets("Not measured", [f"{what}: {why}" for what, why in evidence.not_measured.items()])


def _bullets(title: str, lines: Sequence[str]) -> str:
    return "\n".join([f"## {title}", "", *(f"- {line}" for line in lines)]) if lines else ""


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, right: bool = True) -> str:
    """A Markdown table; the first column left, the others right where they are numbers."""
    marks = ["---", *["---:" if right else "---"] * (len(heads) - 1)]
    return "\n".join(f"| {' | '.join(map(_cell, row))} |" for row in [heads, marks, *rows])


def _cell(text: str) -> str:
    """A label may look like HTML or end the cell."""
    for sign, written in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "\\|")):
        text = text.replace(sign, written)
    return " ".join(text.split())


def fenced(text: str, language: str) -> str:
    """A code block whose fence is longer than any in the text."""
    longest = max((len(run) for run in re.findall(r"`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def _quoted(text: object) -> str:
    return json.dumps(text, ensure_ascii=False)
