"""Greedy answers that are JSON whatever the model prefers: the most probable token that keeps them so, at every step.

A text is the beginning of a JSON object or list if some ending makes it one; the endings tried here are the shortest
that could. After the last bracket only the end of the turn is left.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from finesmith.tasks import _answers
from finesmith.tasks.generation import Generation

if TYPE_CHECKING:
    import torch

    from finesmith.models.load import Loaded

CANDIDATES = 64
"""Tokens that are tried at a step, the most probable first; where none will do, the model's own choice stands."""
WORDS = [word[at:] for word in ("true", "false", "null") for at in range(1, len(word))]
ENDINGS = ("", "0", '"', '":0', ":0", '"":0', ".0", *WORDS)
SPACE = re.compile(r"\s{3,}$")


class JsonOnly(Generation):
    """The task of a prepared `Generation`, its answers held to JSON."""

    def steering(self, loaded: Loaded, width: int) -> Any:
        """A logits processor for prompts that are `width` tokens wide."""
        from transformers import LogitsProcessorList

        return LogitsProcessorList([_Steering(self, loaded.tokenizer, width)])


class _Steering:
    """Leaves one token a row: see the module."""

    def __init__(self, task: Generation, tokenizer: Any, width: int) -> None:
        self.stop, self.lead = set(task.learnt.stop), _answers.lead(task.learnt, tokenizer)
        self.tokenizer, self.width = tokenizer, width

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores [B, V] with everything but the chosen token at minus infinity."""
        import torch

        order = scores.topk(min(CANDIDATES, scores.shape[1]), dim=1).indices.tolist()
        out = scores.clone()
        for place, (row, likely) in enumerate(zip(input_ids[:, self.width :].tolist(), order, strict=True)):
            if self.stop & set(row):
                continue
            token = self._choice(row, likely)
            if token is not None:
                out[place] = -torch.inf
                out[place, token] = 0.0
        return out

    def _choice(self, said: list[int], likely: list[int]) -> int | None:
        if whole(self._text(said)):
            return min(self.stop)
        others = (token for token in likely if token not in self.stop)
        return next((token for token in others if begun(self._text([*said, token]))), None)

    def _text(self, tokens: list[int]) -> str:
        return self.tokenizer.decode(tokens, skip_special_tokens=True).removeprefix(self.lead)


def whole(text: str) -> bool:
    """Whether a text is a JSON object or list."""
    try:
        return isinstance(json.loads(text), (dict, list))
    except (ValueError, RecursionError):
        return False


def begun(text: str) -> bool:
    """Whether a text is one, or the beginning of one; long runs of spaces are not, they lead nowhere."""
    start = text.lstrip()
    if not start:
        return len(text) < 3
    if start[0] not in "{[" or SPACE.search(text):
        return False
    brackets, quoted, pending = _open(start)
    closing = "".join("}" if bracket == "{" else "]" for bracket in reversed(brackets))
    if quoted:
        start += pending
    return any(whole(start + ending + closing) for ending in ENDINGS)


def _open(text: str) -> tuple[list[str], bool, str]:
    """The brackets that are open, whether a string is, and what would finish an escape in it."""
    brackets: list[str] = []
    quoted, pending = False, ""
    for letter in text:
        if pending:
            pending = "0000" if pending == "n" and letter == "u" else pending[1:] if pending != "n" else ""
        elif quoted:
            quoted, pending = letter != '"', "n" if letter == "\\" else ""
        elif letter == '"':
            quoted = True
        elif letter in "{[":
            brackets.append(letter)
        elif letter in "}]" and brackets:
            brackets.pop()
    return brackets, quoted, pending
