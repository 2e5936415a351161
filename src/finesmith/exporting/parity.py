"""Whether two models are the same one: their logits on the same tokens, and what they write.

P positions, V vocabulary, K labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

POSITIONS = 32
"""Positions of a row whose logits are kept, evenly spaced, the last one among them: a vocabulary is wide."""
TOLERANCE = 1e-3
"""Largest difference of logits that counts as none, relative to the largest of them; equal tensors gave up to 3e-5."""
RUNNERS_UP = 10
"""The most probable tokens of a step that are kept with an answer."""

Done = Callable[[int], None]


@dataclass(frozen=True)
class Answer:
    """A greedy answer: its tokens, the end among them, and for each the scores of the most probable ones."""

    tokens: tuple[int, ...]
    scores: tuple[Mapping[int, float], ...]

    def slack(self, other: Sequence[int]) -> float:
        """By how much, at least, this model prefers its own token where `other` first parts from it; 0 where nowhere.

        One that ends early, or goes on behind the end, parts for no reason of rounding: infinite.
        """
        for step, (own, theirs) in enumerate(zip(self.tokens, other, strict=False)):
            if own != theirs:
                found = self.scores[step]
                return found[own] - found.get(theirs, min(found.values()))
        return 0.0 if len(self.tokens) == len(other) else np.inf


def logits(model: Any, rows: Sequence[Sequence[int]], done: Done) -> list[np.ndarray]:
    """What a model says to token rows, each by itself, in float32: [1, K] or [P, V] each."""
    found = []
    with torch.inference_mode():
        for row in rows:
            said = model(input_ids=torch.tensor([list(row)], device=model.device)).logits[0].float()
            said = said[None] if said.ndim == 1 else said
            places = np.unique(np.linspace(0, len(said) - 1, POSITIONS).round().astype(int))
            found.append(said[torch.from_numpy(places).to(said.device)].cpu().numpy())
            done(1)
    return found


def greedy(model: Any, row: Sequence[int], most: int, **more: Any) -> Answer:
    """The most probable answer to a row; `more` goes to transformers' `generate`, which stops as the model says."""
    with torch.inference_mode():
        tokens = torch.tensor([list(row)], device=model.device)
        out = model.generate(
            input_ids=tokens,
            attention_mask=torch.ones_like(tokens),
            do_sample=False,
            num_beams=1,
            max_new_tokens=most,
            return_dict_in_generate=True,
            output_scores=True,
            **more,
        )
    steps = (step[0].float().topk(min(RUNNERS_UP, step.shape[-1])) for step in out.scores)
    scores = tuple(dict(zip(top.indices.tolist(), top.values.tolist(), strict=True)) for top in steps)
    return Answer(tuple(out.sequences[0, len(row) :].tolist()), scores)


def apart(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> float:
    """The largest difference of two models' logits; infinite where one of them is no number."""
    worst = 0.0
    for a, b in zip(one, other, strict=True):
        if a.shape != b.shape:
            return np.inf
        with np.errstate(invalid="ignore"):
            difference = np.where(a == b, 0.0, np.abs(a - b))
        worst = max(worst, float(np.nan_to_num(difference, nan=np.inf).max()))
    return worst


def largest(said: Sequence[np.ndarray]) -> float:
    """The largest logit, without its sign."""
    return max(float(np.abs(part[np.isfinite(part)]).max(initial=0.0)) for part in said)


def round_to(model: Any, dtype: torch.dtype) -> None:
    """Rounds in place all that is saved of a model as it is rounded by being saved in `dtype`."""
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(tensor.to(dtype))
