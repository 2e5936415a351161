"""How far the rows are from what the base model knows (with --model): level and headroom, never one similarity score.

Level: bits per byte and tokens per word against the shipped passages, how easily frozen features tell the rows from
general text (proxy A-distance, Ben-David et al. 2006), accuracy of a linear probe. Headroom: how much reading some of
the rows lowers the bits per byte of others. Domains that are far tend to gain more and to end lower (Gururangan et al.
2020, arXiv 2004.10964).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from finesmith.checks import _features, _fertility
from finesmith.checks.base import Checked, Progress, label_of, percent
from finesmith.data import passages
from finesmith.types import Finding

SAMPLE, PROBED = 200, 2_000
FAR, MEMORISED, DEAR = 1.3, 0.5, 1.5
"""Times the value of general text: bits per byte that is far or known by heart, tokens per word that is dear."""
DEMONSTRATIONS = 6


@dataclass(frozen=True)
class Distance:
    """What the base model makes of the rows before any training."""

    title: str = "distance to the base"
    tasks: tuple[str, ...] = ("classification", "generation", "text")
    cost: Literal["model"] = "model"

    def __call__(self, data: Checked, progress: Progress) -> Iterator[Finding]:
        """One finding on the level, one on the headroom."""
        base = _features.Base(data.recipe)
        own = [data.texts[place] for place in _spread(len(data.rows), SAMPLE)]
        shipped = passages.by_domain()
        progress(len(data.rows) // 3)
        bits = {name: base.bits_per_byte(texts) for name, texts in {"your rows": own, **shipped}.items()}
        tokens = {
            name: _fertility.tokens_per_word(base.tokenizer, texts)
            for name, texts in {"your rows": own, **shipped}.items()
        }
        worst = _fertility.worst_terms(base.tokenizer, data.texts)
        progress(len(data.rows) // 3)
        apart = base.separability(own, shipped["general"], seed=data.recipe.seed)
        probe = _probe(base, data)
        yield _level(base, bits, tokens, worst, apart, probe, rows=len(own))
        headroom = _headroom(base, data, own, probe)
        if headroom is not None:
            yield headroom


def _spread(count: int, most: int) -> list[int]:
    return np.unique(np.linspace(0, count - 1, min(most, count)).astype(int)).tolist()


def _probe(base: _features.Base, data: Checked) -> dict[str, float] | None:
    """Accuracy of a linear probe and of the most frequent label, by cross-validation; None without single labels."""
    if data.task != "classification" or isinstance(data.rows[0].target, tuple):
        return None
    places = _spread(len(data.rows), PROBED)
    return base.probe(
        [str(data.rows[place].input) for place in places],
        [str(label_of(data.rows[place])) for place in places],
        seed=data.recipe.seed,
    )


def _level(
    base: _features.Base,
    bits: Mapping[str, float | None],
    tokens: Mapping[str, float],
    worst: Sequence[Mapping[str, Any]],
    apart: Mapping[str, Any],
    probe: Mapping[str, float] | None,
    *,
    rows: int,
) -> Finding:
    own, general = bits["your rows"], bits["general"]
    ratio = own / general if own and general else None
    dear = tokens["your rows"] / tokens["general"]
    told = [f"{own:.2f} bits per byte, {ratio:.2f} times general text" if ratio else "bits per byte need a decoder"]
    told.append(f"{tokens['your rows']:.2f} tokens per word ({dear:.2f} times)")
    told.append(f"a linear classifier tells your rows from general text in {percent(apart['accuracy'])}")
    if probe:
        right, usual = percent(probe["accuracy"]), percent(probe["majority"])
        told.append(f"a linear probe on frozen features is right in {right} (the most frequent label in {usual})")
    far = (ratio or 0) > FAR or dear > DEAR
    known = ratio is not None and ratio < MEMORISED
    return Finding(
        "distance",
        "warning" if far else "note",
        f"Level of {base.name} before training: {'; '.join(told)}.",
        rows,
        (),
        "The level that is reached after training tends to be lower where the base knows the domain less."
        + (" So low a value suggests that the base has read these very texts." if known else ""),
        _advice(far, worst),
        {
            "bits_per_byte": dict(bits),
            "tokens_per_word": dict(tokens),
            "worst_terms": list(worst),
            "separability": dict(apart),
            "linear_probe": dict(probe) if probe else None,
            "plot": _plot(bits, tokens),
        },
    )


def _advice(far: bool, worst: Sequence[Mapping[str, Any]]) -> str:
    terms = ", ".join(f"'{term['term']}' ({term['tokens']})" for term in worst[:4])
    costly = f" Terms in most tokens: {terms}." if terms else ""
    if far:
        return f"Compare bases by bits per byte on your rows; train on plain domain text first (task: text).{costly}"
    return f"The base is near enough to go on with.{costly}"


def _plot(bits: Mapping[str, float | None], tokens: Mapping[str, float]) -> dict[str, Any]:
    known = {name: value for name, value in bits.items() if value is not None}
    values, x = (known, "bits per byte") if known else (dict(tokens), "tokens per word")
    title = "The base on your rows and on the shipped passages"
    return {"kind": "bars", "title": title, "x": x, "labels": list(values), "values": list(values.values())}


def _headroom(
    base: _features.Base, data: Checked, own: Sequence[str], probe: Mapping[str, float] | None
) -> Finding | None:
    told: list[str] = []
    detail: dict[str, Any] = {"linear_probe_errors": 1 - probe["accuracy"] if probe else None}
    if base.decoder and len(own) > 2 * DEMONSTRATIONS:
        alone, behind = base.in_context(own, DEMONSTRATIONS)
        detail |= {"bits_per_byte_alone": alone, "bits_per_byte_after_rows": behind}
        told.append(
            f"after reading some of your rows the base needs {behind:.2f} instead of {alone:.2f} bits per byte "
            "for others"
        )
    if base.decoder and data.task == "generation":
        places = _spread(len(data.rows), SAMPLE)
        detail["answer_bits_per_byte"] = base.answers([data.rows[place] for place in places], data)
        told.append(f"the answers cost {detail['answer_bits_per_byte']:.2f} bits per byte given their prompts")
    if probe:
        told.append(f"the linear probe leaves {percent(1 - probe['accuracy'])} of the rows wrong")
    if not told:
        return None
    return Finding(
        "distance",
        "note",
        f"Headroom: {'; '.join(told)}.",
        len(own),
        (),
        "This is what training has to win; a far domain gains more by it, a near one is already good.",
        "Read it beside the level; only a run with its evidence says what is really gained.",
        detail,
    )


PLUGIN = Distance()
