"""The form that dominates in training answers, trait by trait, and whether an answer keeps to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from finesmith.checks.target_format import FEW, TRAITS

DOMINATES = 0.8
ABSENT = 0.95
"""Share of the training answers without a trait (bullets, headers) from which on its absence is the form."""
LENGTHS = (0.025, 0.975)


@dataclass(frozen=True)
class Form:
    """One trait's rule. `share` of training keeps to it; `always`: an answer without the trait breaks it."""

    trait: str
    form: str
    share: float
    always: bool

    def kept(self, answer: str) -> tuple[float, float]:
        """1 or 0, and whether the rule has something to say about this answer."""
        found = TRAITS[self.trait](answer)
        return (float(found == self.form), 1.0) if self.always or found else (0.0, 0.0)

    @property
    def name(self) -> str:
        """`ending: a period`, `bullets: none`."""
        return f"{self.trait}: {self.form or 'none'}"


def learn(answers: Sequence[str]) -> list[Form]:
    """The rules that training answers keep to; none where they vary."""
    rules = []
    for trait, form in TRAITS.items():
        counts = Counter(form(answer) for answer in answers)
        shown = sum(counts.values()) - counts[""]
        name, most = counts.most_common(1)[0]
        if name == "" and most >= ABSENT * len(answers):
            rules.append(Form(trait, "", most / len(answers), always=True))
        elif shown >= FEW:
            name, most = max(((n, c) for n, c in counts.items() if n), key=lambda item: item[1])
            if most >= DOMINATES * shown:
                rules.append(Form(trait, name, most / shown, always=most >= DOMINATES * len(answers)))
    return rules


def length_bounds(answers: Sequence[str]) -> tuple[float, float]:
    """The words between which 95 % of the training answers lie."""
    low, high = np.quantile([len(answer.split()) for answer in answers], LENGTHS)
    return float(low), float(high)
