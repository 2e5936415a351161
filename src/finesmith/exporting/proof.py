"""The proof of an export: the trained model and the folder are asked the same, and no error passes for a rounding.

Four models are compared on the same tokens: as trained, with its adapters merged, rounded to the folder's precision
(these in float32), and the folder itself as plain transformers loads it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from finesmith import recipe as recipes
from finesmith.data import passages, split
from finesmith.errors import ExportError, FinesmithError
from finesmith.exporting import parity
from finesmith.models import load as models
from finesmith.models.load import Loaded
from finesmith.recipe import Recipe
from finesmith.runfolder import RunFolder
from finesmith.tasks.base import Task
from finesmith.tasks.classification import Classification
from finesmith.types import Input
from finesmith.watch import Watcher

ROW_TOKENS, ANSWER_TOKENS = 512, 64
"""Longer rows are not asked, and longer answers are cut, so that the proof takes minutes on a CPU too."""


@dataclass(frozen=True)
class Asked:
    """What both models are asked. `origin` says in words where the inputs are from."""

    inputs: tuple[Input, ...]
    origin: str


@dataclass(frozen=True)
class Proof:
    """How far the models are apart. Differences are of logits, relative to the largest of them.

    `merging`: with the adapters merged, in float32. `writing`: the folder read again in float32, from what was to be
    written. `difference`: the folder as it is loaded, in its own precision, from the model as trained in float32.
    Of `answers` (greedy, or labels) `same` are equal; the others part where the model was undecided by less than that.
    """

    rows: int
    origin: str
    merging: float
    writing: float
    difference: float
    answers: int
    same: int


@dataclass
class Trained:
    """What the trained model said: to `prompts` (tokens), continued by its `answers` where it writes."""

    prompts: list[list[int]]
    answers: list[parity.Answer]
    rows: list[list[int]]
    logits: list[np.ndarray]


def rows_of(folder: RunFolder, prepare: Callable[[Recipe], Any], most: int) -> Asked:
    """Some of a run's test rows, if its data is still there and the same."""
    begun = folder.read_json("splits.json")
    try:
        splits = prepare(recipes.load(folder.require("recipe.yaml"))).splits
    except FinesmithError:
        return Asked((), "the data of the run cannot be read")
    if splits.hash != begun["hash"]:
        return Asked((), "the data of the run has changed")
    used = set(begun["test"])
    rows = split.spread([example for example in splits.test if example.id in used], most)
    return Asked(tuple(example.input for example in rows), "test rows")


def listen(task: Task, loaded: Loaded, asked: Asked, watcher: Watcher) -> tuple[Trained, Asked]:
    """What the trained model says to the rows that are short enough, else to shipped passages."""
    most = _most(loaded)
    found = [(item, _tokens(task, loaded.tokenizer, item)) for item in asked.inputs]
    some = [(item, tokens[:most]) for item, tokens in found if len(tokens) <= most or not writes(task)]
    if not some:
        texts = [texts[0][:300] for texts in passages.by_kind().values()]
        why = "every test row is too long" if asked.inputs else asked.origin
        asked = replace(asked, origin=f"shipped passages ({why})")
        some = [(text, _tokens(task, loaded.tokenizer, text)[:most]) for text in texts]
    prompts = [tokens for _, tokens in some]
    with models.quiet(), watcher.progress("asking the trained model", len(prompts)) as progress:
        answers = [_answer(task, loaded, tokens, progress, stop=True) for tokens in prompts] if writes(task) else []
    rows = [[*tokens, *answer.tokens] for tokens, answer in zip(prompts, answers, strict=True)] if answers else prompts
    said = logits("the trained model", loaded.model, rows, watcher)
    return Trained(prompts, answers, rows, said), replace(asked, inputs=tuple(item for item, _ in some))


def writes(task: Task) -> bool:
    """Whether the task gives answers in words."""
    return hasattr(task, "prompt")


def _most(loaded: Loaded) -> int:
    """Most tokens of a row, so that an answer has room behind it."""
    room = models.context_length(loaded.model.config, loaded.tokenizer)
    return min(ROW_TOKENS, max(room - ANSWER_TOKENS, room // 2))


def _tokens(task: Any, tokenizer: Any, item: Input) -> list[int]:
    """What inference sends."""
    if writes(task):
        return task.prompt(tokenizer, item)
    found = tokenizer(str(item), truncation=True, max_length=getattr(task, "max_length", None), verbose=False)
    return found["input_ids"] or [tokenizer.pad_token_id]


def _answer(task: Any, loaded: Loaded, tokens: list[int], progress: parity.Done, *, stop: bool) -> parity.Answer:
    """The greedy answer, stopped where the run stops it, or where the model's own files say."""
    room = models.context_length(loaded.model.config, loaded.tokenizer) - len(tokens)
    most = min(task.learnt.new_tokens, ANSWER_TOKENS, room)
    more = {"eos_token_id": list(task.learnt.stop), "pad_token_id": loaded.tokenizer.pad_token_id} if stop else {}
    progress(1)
    return parity.greedy(loaded.model, tokens, most, **more)


def logits(which: str, model: Any, rows: Sequence[Sequence[int]], watcher: Watcher) -> list[np.ndarray]:
    """What a model says to the rows, with a bar."""
    with watcher.progress(f"reading {which}", len(rows)) as progress:
        return parity.logits(model, rows, progress)


def relative(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> float:
    """The largest difference, relative to the largest of the first."""
    return parity.apart(one, other) / max(parity.largest(one), 1e-12)


def refuse(right: bool, what: str) -> None:
    """Stops an export that is not right.

    Raises:
        ExportError: it is not.
    """
    if not right:
        raise ExportError(
            f"The exported folder does not answer as the trained model does: {what}.",
            hint="Nothing was written; the run is as it was.",
        )


def prove(
    task: Any, whole: Loaded, trained: Trained, asked: Asked, merging: float, writing: float, watcher: Watcher
) -> Proof:
    """The folder as it is loaded by anyone, against the trained model.

    Raises:
        ExportError: other tokens, labels or ends of answers; a difference that no rounding explains.
    """
    own = [
        _tokens(task, whole.tokenizer, item)[: len(row)]
        for item, row in zip(asked.inputs, trained.prompts, strict=True)
    ]
    refuse(own == trained.prompts, "its tokenizer or template gives other tokens")
    said = logits("the folder", whole.model, trained.rows, watcher)
    worst = parity.apart(trained.logits, said)
    refuse(bool(np.isfinite(worst)), "loaded in its own precision, some of its logits are not numbers")
    if isinstance(task, Classification):
        labels = tuple(whole.model.config.id2label[place] for place in range(len(task.labels)))
        refuse(labels == task.labels, f"its labels are {labels[:5]}, the run's {task.labels[:5]}")
        same = [_decided(task, a) == _decided(task, b) for a, b in zip(trained.logits, said, strict=True)]
    elif not writes(task):
        same = []
    else:
        same = _written(task, whole, trained, worst, watcher)
    share = worst / max(parity.largest(trained.logits), 1e-12)
    return Proof(len(trained.rows), asked.origin, merging, writing, share, len(same), sum(same))


def _decided(task: Classification, logits: np.ndarray) -> list[int]:
    return np.flatnonzero(logits[0] > 0).tolist() if task.multi_label else [int(logits[0].argmax())]


def _written(task: Any, whole: Loaded, trained: Trained, worst: float, watcher: Watcher) -> list[bool]:
    """Whether the folder's greedy answers, ended by its own settings, are the trained model's."""
    known = whole.model.generation_config.eos_token_id
    stops = {known} if isinstance(known, int) else set(known or ())
    lost = whole.tokenizer.convert_ids_to_tokens(sorted(set(task.learnt.stop) - stops))
    refuse(not lost, f"its generation settings do not stop at {', '.join(map(repr, lost))}")
    same = []
    with models.quiet(), watcher.progress("asking the folder", len(trained.answers)) as progress:
        for tokens, answer in zip(trained.prompts, trained.answers, strict=True):
            theirs = _answer(task, whole, tokens, progress, stop=False).tokens
            slack = answer.slack(theirs)
            refuse(
                slack <= 2 * worst + 1e-4,
                "an answer parts from the trained model's where that was sure, or ends elsewhere",
            )
            same.append(answer.tokens == theirs)
    return same
