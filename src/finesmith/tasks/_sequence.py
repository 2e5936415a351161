"""Turns as tokens: one turn alone, or all of a conversation in one sequence where inference would send the same."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Piece:
    """One assistant turn: the prompt's tokens, the answer's with its end, what the template writes behind the end."""

    prompt: list[int]
    answer: list[int]
    behind: list[int]
    weight: float

    def sequence(self) -> tuple[list[int], list[float]]:
        """Tokens and loss weights of this turn alone."""
        return self.prompt + self.answer, [0.0] * len(self.prompt) + [self.weight] * len(self.answer)

    def given(self, lead: list[int]) -> Piece:
        """With `lead` as the end of the prompt, where the answer begins with it."""
        size = len(lead)
        if self.answer[:size] != lead:
            return self
        return replace(self, prompt=self.prompt + lead, answer=self.answer[size:])


def joint_sequence(pieces: Sequence[Piece]) -> tuple[list[int], list[float]] | None:
    """All turns in one sequence, or None where a turn's prompt does not begin with exactly the tokens before it."""
    tokens, weights = pieces[0].sequence()
    for before, piece in itertools.pairwise(pieces):
        so_far = tokens + before.behind
        if piece.prompt[: len(so_far)] != so_far:
            return None
        weights += [0.0] * (len(piece.prompt) - len(tokens)) + [piece.weight] * len(piece.answer)
        tokens = piece.prompt + piece.answer
    return tokens, weights


def trailing(weights: np.ndarray) -> int:
    """How many supervised tokens stand at the end."""
    zeros = np.flatnonzero(weights == 0)
    return len(weights) - (int(zeros[-1]) + 1 if len(zeros) else 0)


def first_difference(tokenizer: Any, trained: np.ndarray, sent: Sequence[int]) -> str:
    """Where two prompts part, in words."""
    at = next(
        (i for i, (a, b) in enumerate(zip(trained.tolist(), sent, strict=False)) if a != b),
        min(len(trained), len(sent)),
    )
    shown = [tokenizer.decode(list(tokens[at : at + 8])) for tokens in (trained.tolist(), sent)]
    return f"at token {at} {shown[0]!r} is trained, {shown[1]!r} is sent"
