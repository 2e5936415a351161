"""The proof before step 1: on real rows, what is trained is what inference will send, and something is learnt in each.

A row that fails stops the run and is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from finesmith.errors import ProofError, counted
from finesmith.tasks._template import adds_bos
from finesmith.tasks.base import Encoded, Task
from finesmith.types import Example, Message

SAMPLE = 500


def prove(task: Task, tokenizer: Any, examples: Sequence[Example], max_length: int) -> str:
    """Checks up to 500 rows, spread evenly. Returns a sentence: what was proved, and the share of supervised tokens.

    Raises:
        ProofError: with the first rows that fail, their reason and their text.
    """
    places = np.unique(np.linspace(0, len(examples) - 1, min(SAMPLE, len(examples))).astype(int))
    failed: list[str] = []
    tokens = supervised = 0
    for place in places.tolist():
        pieces = task.encode(examples[place], place, tokenizer, max_length)
        reasons = faults(task, tokenizer, examples[place], pieces)
        failed += [f"{examples[place].origin}: {reason}" for reason in reasons]
        tokens += sum(len(piece.tokens) for piece in pieces)
        supervised += int(sum((piece.weights > 0).sum() for piece in pieces if piece.weights is not None))
    if failed:
        raise ProofError(
            "What would be trained is not what inference sends:",
            problems=failed[:10],
            hint="See the tokens of a row with: finesmith show-tokens DATA --row N",
        )
    share = f"; {supervised / max(1, tokens):.0%} of the tokens are supervised" if supervised else ""
    return f"proved on {counted(len(places), 'row')}: {task.proves}{share}"


def faults(task: Task, tokenizer: Any, example: Example, pieces: Sequence[Encoded]) -> list[str]:
    """What is wrong with one row's training sequences; empty when nothing is."""
    if not pieces or not any(piece.supervised for piece in pieces):
        return ["nothing in this row is supervised"]
    found = list(task.check(example, pieces, tokenizer))
    start = tokenizer.bos_token_id
    if start is not None and start != tokenizer.eos_token_id:
        counts = [_leading(piece.tokens, start) for piece in pieces]
        wanted = (
            0 if tokenizer.chat_template and "bos_token" not in tokenizer.chat_template else int(adds_bos(tokenizer))
        )
        first = counts if task.spare else counts[:1]  # a later window of a document begins in the middle of it
        if max(counts) > 1 or min(first) < wanted:
            wrong = max(counts) if max(counts) > 1 else min(first)
            found.append(f"{counted(wrong, 'start token')} ({tokenizer.bos_token!r}) instead of one")
        elif tokenizer.bos_token in _said(example) and any((piece.tokens[1:] == start).any() for piece in pieces):
            found.append(f"its text holds the start token {tokenizer.bos_token!r}")
    return found


def _leading(tokens: np.ndarray, start: int) -> int:
    """How many start tokens a sequence begins with; in some templates every turn begins with one."""
    others = np.flatnonzero(tokens != start)
    return int(others[0]) if len(others) else len(tokens)


def _said(example: Example) -> str:
    given, target = example.input, example.target
    texts = [given] if isinstance(given, str) else [message.content for message in given.messages]
    return "\n".join([*texts, target.content] if isinstance(target, Message) else texts)
