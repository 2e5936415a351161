"""A base model before training: its bits per byte, its frozen features, and what a linear classifier reads off them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from finesmith import registry
from finesmith.tasks.classification import run_batches
from finesmith.types import Example, Origin

if TYPE_CHECKING:
    from finesmith.checks.base import Checked
    from finesmith.models.load import Loaded
    from finesmith.recipe import Recipe

FOLDS = 5
SHORTEST = 40
"""Characters; general text is cut to pieces as long as the rows are, or the lengths alone would tell them apart."""
MOST_BYTES = 2_000


class Base:
    """The model that the recipe names, loaded once; a decoder as a language model, an encoder as features."""

    def __init__(self, recipe: Recipe) -> None:
        from finesmith.models import load as models

        config = models.load_config(recipe.model)
        self.decoder = models.is_decoder(config)
        self.name = recipe.model.name
        labels = () if self.decoder else ("a", "b")
        self._loaded: Any = models.load(
            recipe.model, "causal-lm" if self.decoder else "sequence-classification", labels=labels, seed=recipe.seed
        )
        self.tokenizer: Any = self._loaded.tokenizer
        self._context = min(512, models.context_length(config, self.tokenizer))
        text = registry.resolve("tasks", "text")
        self._text = text(text.Settings(), max_length=self._context)

    def bits_per_byte(self, texts: Sequence[str]) -> float | None:
        """Bits that the base needs for a byte of these texts (their first 2,000 bytes); None for an encoder."""
        if not self.decoder:
            return None
        return _per_byte(self._measure([_first(text) for text in texts]))

    def in_context(self, texts: Sequence[str], count: int) -> tuple[float, float]:
        """Bits per byte of single texts, and of the same texts behind `count` others (in half the context)."""
        room = self._context * 2  # characters that half a context of tokens surely holds
        ahead = ["\n\n".join(_first(texts[(at + step) % len(texts)]) for step in range(1, count + 1))[-room:] + "\n\n"
                 for at in range(len(texts))]  # fmt: skip
        own = [_first(text)[:room] for text in texts]
        alone = self._measure(own)
        whole = self._measure([first + second for first, second in zip(ahead, own, strict=True)])
        before = self._measure(ahead)
        behind = sum(row["nats"] for row in whole) - sum(row["nats"] for row in before)
        return _per_byte(alone), max(0.0, behind) / np.log(2) / sum(row["bytes"] for row in alone)

    def answers(self, rows: Sequence[Example], data: Checked) -> float:
        """Bits per byte of the answers given their prompts, as training would send them."""
        task = registry.resolve("tasks", data.task)(data.recipe.section(data.task)).fit(rows)
        task, _ = task.prepare(self._loaded)
        return _per_byte(task.measure(self._loaded, rows))

    def features(self, texts: Sequence[str]) -> np.ndarray:
        """The mean over its tokens of the last hidden state of each text: [N, D]."""
        return pooled(self._loaded, texts, self._context)

    def separability(self, own: Sequence[str], general: Sequence[str], *, seed: int) -> dict[str, Any]:
        """How well a linear classifier on frozen features tells the texts from general ones of the same length."""
        size = max(SHORTEST, int(np.median([len(text) for text in own])))
        cut = [text[at : at + size] for text in general for at in range(0, max(1, len(text) - size // 2), size)]
        count = min(len(own), len(cut))
        draw = np.random.default_rng(seed)
        chosen = [[texts[int(place)][:size] for place in draw.permutation(len(texts))[:count]] for texts in (own, cut)]
        if count < 2 * FOLDS:
            return {"accuracy": 0.5, "a_distance": 0.0, "texts": count}
        features = self.features([*chosen[0], *chosen[1]])
        accuracy = _cross_validated(features, np.repeat([0, 1], count), seed=seed)
        return {"accuracy": accuracy, "a_distance": max(0.0, 2 * (1 - 2 * (1 - accuracy))), "texts": count}

    def probe(self, texts: Sequence[str], labels: Sequence[str], *, seed: int) -> dict[str, float] | None:
        """Accuracy of a linear probe over the classes with five rows or more; None where there are not two."""
        names, codes, sizes = np.unique(np.asarray(labels), return_inverse=True, return_counts=True)
        kept = np.flatnonzero(sizes[codes] >= FOLDS)
        if len(set(codes[kept].tolist())) < 2:
            return None
        features = self.features([texts[int(place)] for place in kept])
        accuracy = _cross_validated(features, codes[kept], seed=seed)
        return {
            "accuracy": accuracy,
            "majority": float(sizes.max() / len(kept)),
            "rows": len(kept),
            "classes": len(names),
        }

    def _measure(self, texts: Sequence[str]) -> list[dict[str, float]]:
        rows = [Example(str(at), text, None, Origin("", at)) for at, text in enumerate(texts)]
        return self._text.measure(self._loaded, rows)


def pooled(loaded: Loaded, texts: Sequence[str], limit: int) -> np.ndarray:
    """The mean over its first `limit` tokens of the last hidden state of each text: [N, D]."""
    tokenizer: Any = loaded.tokenizer
    rows = [tokenizer(text, truncation=True, max_length=limit, verbose=False)["input_ids"] for text in texts]

    def forward(batch: dict[str, Any]) -> Any:
        hidden = loaded.model(**batch, output_hidden_states=True).hidden_states[-1]
        mask = batch["attention_mask"].unsqueeze(-1)
        return (hidden * mask).sum(1) / mask.sum(1)

    return run_batches(loaded, [row or [tokenizer.pad_token_id] for row in rows], forward)


def right(features: np.ndarray, codes: np.ndarray, *, seed: int) -> np.ndarray:
    """Whether a logistic regression on standardised features, fitted on the other folds, is right: [N] zeros and ones.

    `codes` are the classes, two rows of each at least; five folds where there are five.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    folds = StratifiedKFold(
        max(2, min(FOLDS, np.unique(codes, return_counts=True)[1].min())), shuffle=True, random_state=seed
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=200))
        return (cross_val_predict(model, features, codes, cv=folds) == codes).astype(float)


def _first(text: str) -> str:
    return text.encode("utf-8", "replace")[:MOST_BYTES].decode("utf-8", "ignore")


def _per_byte(rows: Sequence[dict[str, float]]) -> float:
    return sum(row["nats"] for row in rows) / np.log(2) / max(1.0, sum(row["bytes"] for row in rows))


def _cross_validated(features: np.ndarray, codes: np.ndarray, *, seed: int) -> float:
    """The share that is right."""
    return float(right(features, codes, seed=seed).mean())
