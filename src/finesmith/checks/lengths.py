"""Lengths in tokens of the chosen model: percentiles, rows over its context, what would be cut, steps and time."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from finesmith import registry
from finesmith.checks.base import Checked, Progress, histogram, percent, pieces, plural, share
from finesmith.tasks.base import Encoded, collate
from finesmith.types import Conversation, Example, Finding, Message

MEASURED = 10_000
"""Rows of which percentiles are taken, evenly over the data; the search for long rows looks at every row."""
TEMPLATE = 64
"""Tokens that a chat template may add to a turn, at most."""
TIMED = 4
WIDEST = 1 << 20


@dataclass(frozen=True)
class Lengths:
    """What training would read of each row."""

    title: str = "lengths"
    tasks: tuple[str, ...] = ("classification", "generation", "text")
    cost: Literal["slow"] = "slow"

    def __call__(self, data: Checked, progress: Progress) -> Iterator[Finding]:
        """Rows that are too long; then percentiles, steps and time."""
        from finesmith.models import load as models

        recipe = data.recipe
        task = registry.resolve("tasks", data.task)(recipe.section(data.task)).fit(data.rows)
        loaded = models.load(recipe.model, task.kind, **task.load_arguments(), seed=recipe.seed)
        task, _ = task.prepare(loaded)
        context = models.context_length(loaded.model.config, loaded.tokenizer)
        limit = context if recipe.train.max_length == "auto" else min(context, int(recipe.train.max_length))
        places = np.linspace(0, len(data.rows) - 1, min(MEASURED, len(data.rows))).astype(int).tolist()
        sample = [_encoded(task, data.rows[place], loaded.tokenizer, limit, progress) for place in places]
        lengths = np.array([sum(len(piece.tokens) for piece in found) for found in sample])
        if data.task != "text":
            yield from _long(data, task, loaded.tokenizer, limit)
        yield _summary(data, task, loaded, sample, lengths, limit)


def _encoded(task: Any, row: Example, tokenizer: Any, limit: int, progress: Progress) -> list[Encoded]:
    progress(1)
    return task.encode(row, 0, tokenizer, limit if task.spare == 0 else WIDEST)


def _long(data: Checked, task: Any, tokenizer: Any, limit: int) -> Iterator[Finding]:
    """Rows over the limit. A row has at most as many tokens as bytes and template, so most need no tokenizer; with
    tools or tool calls, which a template writes in its own way, it is encoded.
    """
    found, lost, total = [], 0, 0
    for place, row in enumerate(data.rows):
        if _most(row) <= limit:
            continue
        tokens = [len(piece.tokens) for piece in task.encode(row, place, tokenizer, WIDEST)]
        total += sum(tokens)
        if max(tokens, default=0) > limit:
            found.append(place)
            lost += sum(max(0, length - limit) for length in tokens)
    if found:
        policy = data.recipe.data.over_length
        yield Finding(
            "lengths",
            "blocking" if policy == "error" else "warning",
            f"{share(len(found), len(data.rows))} rows are longer than {limit:,} tokens; "
            f"{percent(lost / max(total, 1))} of the tokens of long rows would be cut.",
            len(found),
            data.origins(found),
            "What is cut is not learnt; of an answer it is the end, so that the model does not learn to stop.",
            "Take a model with a longer context (--model), shorten or part them, or set data.over_length to drop or "
            "truncate.",
            {
                "limit": limit,
                "policy": policy,
                "tokens_cut": lost,
                "samples": [data.sample(place) for place in found[:20]],
            },
        )


def _most(row: Example) -> float:
    """Tokens that a row has at most."""
    given = row.input if isinstance(row.input, Conversation) else Conversation(())
    said = (*given.messages, row.target) if isinstance(row.target, Message) else given.messages
    if given.tools or any(message.extra for message in said):
        return math.inf
    return sum(len(text.encode("utf-8", "replace")) for text in pieces(row)) + TEMPLATE * (len(given.messages) + 2)


def _summary(
    data: Checked, task: Any, loaded: Any, sample: Sequence[list[Encoded]], lengths: Any, limit: int
) -> Finding:
    recipe = data.recipe
    marks = {f"p{q}": int(np.quantile(lengths, q / 100)) for q in (50, 95, 99)} | {"max": int(lengths.max())}
    rows = data.counts.rows["train"]
    sequences = round(rows * sum(map(len, sample)) / len(sample))  # of a long document there are many
    per_epoch = max(1, -(-sequences // recipe.train.batch_size))
    epochs = task.default_epochs(per_epoch) if recipe.train.epochs == "auto" else float(recipe.train.epochs)
    steps = recipe.train.max_steps or max(1, round(epochs * per_epoch))
    speed = _speed(task, loaded, [piece for found in sample for piece in found], limit)
    seconds = steps * recipe.train.batch_size * float(lengths.sum()) / max(1, sum(map(len, sample))) / speed
    answers = [sum(int((p.weights > 0).sum()) for p in f if p.weights is not None) for f in sample]
    told = ", ".join(f"{name} {value:,}" for name, value in marks.items())
    wanted = np.array(answers) if data.task == "generation" else None
    extra = "" if wanted is None else f"; answers p50 {int(np.median(wanted)):,}, max {int(wanted.max()):,}"
    return Finding(
        "lengths",
        "note",
        f"Tokens a row for {recipe.model.name}: {told}{extra}. Training: {plural(steps, 'step')}, "
        f"about {_duration(seconds)} here.",
        data.counts.rows.total(),
        (),
        "Length decides memory and time, and what does not fit into the context is not read.",
        "If the time is too long: fewer epochs (train.epochs), a smaller model, or an accelerator.",
        {
            "percentiles": marks,
            "limit": limit,
            "answer_tokens": None if wanted is None else {"p50": float(np.median(wanted)), "max": int(wanted.max())},
            "rows_measured": len(sample),
            "steps": steps,
            "epochs": epochs,
            "seconds": seconds,
            "tokens_per_second": speed,
            "how": "forward and backward passes over all weights, timed on a few batches; evaluation comes on top",
            "plot": histogram(
                "Tokens a row", lengths, "tokens", mark=float(limit) if lengths.max() > limit / 2 else None
            ),
        },
    )


def _speed(task: Any, loaded: Any, found: Sequence[Encoded], limit: int) -> float:
    """Tokens a second of a forward and backward pass on batches of about 2,000 tokens."""
    from finesmith.models.device import autocast

    usual = sorted((p for p in found if 1 < len(p.tokens) <= limit and p.supervised), key=lambda p: len(p.tokens))
    if not usual:
        return float("inf")
    middle = usual[len(usual) // 4 : len(usual) // 4 + max(1, 2048 // len(usual[len(usual) // 2].tokens))]
    batch = collate(middle, loaded.tokenizer.pad_token_id, loaded.device)
    best = float("inf")
    loaded.model.train()
    for _ in range(TIMED):
        began = time.perf_counter()
        with autocast(loaded.device, loaded.dtype):
            total, count = task.loss(loaded.model, batch)
        (total / count).backward()
        float(total.detach())  # waits for an accelerator
        best = min(best, time.perf_counter() - began)
    loaded.model.zero_grad()
    loaded.model.eval()
    return sum(len(piece.tokens) for piece in middle) / best


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


PLUGIN = Lengths()
