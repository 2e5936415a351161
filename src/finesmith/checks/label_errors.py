"""Likely label errors, ranked, each with the label that a cheap model would expect."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from finesmith.checks import _confident
from finesmith.checks._confident import Judged
from finesmith.checks.base import Checked, Progress, label_of, percent, share
from finesmith.types import Finding

SHOWN = 200
MANY, GOOD = 0.02, 0.6


@dataclass(frozen=True)
class LabelErrors:
    """Rows whose label a model that has not seen them finds implausible."""

    title: str = "label errors"
    tasks: tuple[str, ...] = ("classification",)
    cost: Literal["slow"] = "slow"

    def skips(self, data: Checked) -> str:
        """Why labels cannot be judged here."""
        return _confident.unjudged(data)

    def __call__(self, data: Checked, progress: Progress) -> Iterator[Finding]:
        """One finding with the candidates in order of suspicion."""
        judged = _confident.judge(data, [str(label_of(row)) for row in data.rows], progress, seed=data.recipe.seed)
        if not len(judged.flagged):
            return
        found = judged.places[judged.flagged].tolist()
        pairs = Counter(
            (str(data.rows[place].target), judged.classes[judged.expected[at]])
            for place, at in zip(found, judged.flagged.tolist(), strict=True)
        )
        confused = "; ".join(f"{given} -> {expected} ({count})" for (given, expected), count in pairs.most_common(2))
        weak = judged.accuracy < GOOD
        doubt = f", by a judge that is right in only {percent(judged.accuracy)} of them" if weak else ""
        yield Finding(
            "label_errors",
            "warning" if len(found) >= MANY * len(data.rows) and not weak else "note",
            f"{share(len(found), len(data.rows))} rows may have the wrong label{doubt} (commonest: {confused}).",
            len(found),
            data.origins(found),
            "Wrong labels are learnt in training, and in the test they mark right answers wrong.",
            "The judge is weak here and flags rows that are only hard: read the first few of the list."
            if weak
            else "Read the list from its top, the most suspect first, and correct what is wrong. It is no error rate: "
            "rare and unusual rows are on it too.",
            {
                "cheap_model_accuracy": judged.accuracy,
                "confusions": [{"given": g, "expected": e, "rows": count} for (g, e), count in pairs.most_common(20)],
                "candidates": candidates(data, judged)[:SHOWN],
                "rows_judged": len(judged.places),
            },
        )


def candidates(data: Checked, judged: Judged) -> list[dict[str, Any]]:
    """The flagged rows, the most suspect first."""
    return [
        {
            **data.sample(int(judged.places[at])),
            "expected": judged.classes[judged.expected[at]],
            "confidence_in_given": round(float(judged.confidence[at]), 4),
        }
        for at in judged.flagged[:SHOWN].tolist()
    ]


PLUGIN = LabelErrors()
