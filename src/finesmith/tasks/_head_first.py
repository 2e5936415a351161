"""LP-FT: the head is fitted on frozen features before the trunk moves (Kumar et al. 2022, arXiv 2202.10054).

A logistic regression on what the head's last linear layer sees, written into that layer. So fine-tuning begins at the
linear probe and does not first spoil the pretrained features with the gradients of a random head.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from finesmith.tasks.base import Encoded, Progress, collate, silent
from finesmith.tasks.classification import Classification, run_batches

if TYPE_CHECKING:
    import torch
    from torch import nn

    from finesmith.models.load import Loaded

    Pool = Callable[[torch.Tensor, Mapping[str, torch.Tensor]], torch.Tensor]
    """From what the layer sees of texts, [B, D] or [B, T, D], to the vectors whose scores are the answers: [B, D]."""

STRENGTHS = (0.01, 0.1, 1.0)
NOISE_ROWS = 512
ASKED = 4
"""Rows on which is found out how the model answers from what the layer sees."""
UNSEEN = -4.0
"""The bias of a label that no training row has (any more: rows that are too long may have been left out)."""


def fit_head(
    task: Classification,
    loaded: Loaded,
    train: Sequence[Encoded],
    validation: Sequence[Encoded],
    *,
    dropout: bool = True,
    progress: Progress = silent,
) -> str:
    """Fits the last linear layer of the head; its regularisation is chosen on the validation rows. Returns a note.

    `dropout` says that training with dropout follows; False fits a head that only ever answers.
    """
    layer = last_linear(loaded.model, task)
    pool = _pool(loaded, layer, train)
    if pool is None:
        progress(len(train) + len(validation))
        return (
            f"the classification layer begins at random: how {type(loaded.model).__name__} makes its answer from what "
            "that layer sees was not found, so that it cannot be fitted first"
        )
    features = [_features(loaded, layer, pool, part, progress) for part in (train, validation)]
    targets = [np.stack([item.target for item in part if item.target is not None]) for part in (train, validation)]
    noise = _dropout_noise(loaded, layer, pool, train, features[0]) if dropout else 0.0
    scale = np.sqrt(features[0].var(axis=0) + noise) + 1e-6
    middle = features[0].mean(axis=0) if layer.bias is not None else np.zeros_like(scale)
    scaled = [(part - middle) / scale for part in features]
    fits = [
        (strength, *_regression(task, scaled[0], targets[0], strength, layer.bias is not None))
        for strength in STRENGTHS
    ]
    losses = [_loss(task, scaled[1] @ weight.T + bias, targets[1]) for _, weight, bias in fits]
    strength, weight, bias = fits[int(np.argmin(losses))]
    weight = weight / scale
    _write(layer, weight, bias - weight @ middle)
    told = "" if task.multi_label else _unseen(task.labels, targets[0])
    return (
        f"classification layer first fitted on frozen features: a logistic regression on {len(train):,} training rows, "
        f"its C = {strength:g} chosen on {len(validation):,} validation rows{told}"
    )


def _unseen(labels: Sequence[str], targets: np.ndarray) -> str:
    """Names the labels whose training rows have all been left out."""
    lost = [label for place, label in enumerate(labels) if place not in targets]
    return f"; no training row is left of {', '.join(map(repr, lost))}: hardly ever answered" if lost else ""


def last_linear(model: nn.Module, task: Classification) -> nn.Linear:
    """The layer that gives the K logits: the last linear one in the head with K outputs."""
    from torch import nn

    head = task.head(model)
    layers = [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name.split(".")[0] in head and module.out_features == len(task.labels)
    ]
    return layers[-1]


def _dropout_noise(
    loaded: Loaded, layer: nn.Linear, pool: Pool, items: Sequence[Encoded], clean: np.ndarray
) -> np.ndarray:
    """The variance that dropout gives each feature in training: [D].

    Without it a feature that hardly varies gets a huge weight, and the first step with dropout a loss of hundreds.
    """
    import torch
    from torch import nn

    if not any(isinstance(module, nn.Dropout) and module.p > 0 for module in loaded.model.modules()):
        return np.zeros(clean.shape[1])
    every = max(1, len(items) // NOISE_ROWS)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        noisy = _features(loaded, layer, pool, items[::every], silent, dropout=True)
    return np.mean((noisy - clean[::every]) ** 2, axis=0)


def _own(seen: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The layer sees one vector of each text."""
    return seen


def _last(seen: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Decoders score every token and answer with the score of the last one."""
    last = batch["attention_mask"].cumsum(1).argmax(1)
    return seen[range(len(seen)), last]


def _mean(seen: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The scores of all tokens are averaged (EuroBERT's `late` pooling): the score of the average."""
    mask = batch["attention_mask"][..., None].to(seen.dtype)
    return (seen * mask).sum(1) / mask.sum(1)


def _pool(loaded: Loaded, layer: nn.Linear, items: Sequence[Encoded]) -> Pool | None:
    """How the answer comes from what the layer sees: the way that gives the model's own logits on a few rows."""
    import torch

    from finesmith.models import reading
    from finesmith.models.device import autocast

    rows = sorted(items[: 16 * ASKED], key=lambda item: len(item.tokens))[-ASKED:]
    apart: dict[Pool, float] = {}
    loaded.model.eval()
    with torch.inference_mode(), autocast(loaded.device, loaded.dtype), _watched(layer) as seen:
        for row in rows:
            batch = _inputs(collate([row], loaded.tokenizer.pad_token_id, loaded.device))
            said = loaded.model(**batch).logits.float()
            found = seen[0]
            for pool in (_own,) if found.dim() == 2 else (_last, _mean):
                gap = (layer(pool(found, batch)).float() - said).abs().max() / said.abs().max().clamp(min=1e-12)
                apart[pool] = max(apart.get(pool, 0.0), float(gap))
            seen.clear()
    best = min(apart, key=lambda pool: apart[pool])
    narrow = loaded.dtype != torch.float32
    return best if apart[best] <= (reading.NARROW_TOLERANCE if narrow else reading.TOLERANCE) else None


def _inputs(batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: batch[name] for name in ("input_ids", "attention_mask")}


@contextmanager
def _watched(layer: nn.Linear) -> Iterator[list[torch.Tensor]]:
    """What the layer sees, pass after pass."""
    seen: list[torch.Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        handle.remove()


def _features(
    loaded: Loaded,
    layer: nn.Linear,
    pool: Pool,
    items: Sequence[Encoded],
    progress: Progress,
    *,
    dropout: bool = False,
) -> np.ndarray:
    """What the layer sees of each text, as the model answers from it: [rows, D]."""
    with _watched(layer) as seen:

        def forward(batch: dict[str, Any]) -> Any:
            seen.clear()
            loaded.model.train(dropout)
            loaded.model(**batch)
            return pool(seen[0], batch)

        try:
            return run_batches(loaded, [item.tokens.tolist() for item in items], forward, progress=progress)
        finally:
            loaded.model.eval()


def _regression(
    task: Classification, features: np.ndarray, targets: np.ndarray, strength: float, intercept: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Weights [K, D] and biases [K] of a logistic regression, one for all labels or one for each."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    def fit(target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if len(np.unique(target)) < 2:  # a label that holds in every row or in none: a constant
            return np.zeros((1, features.shape[1])), np.full(1, -UNSEEN if target.all() else UNSEEN) * intercept
        model = LogisticRegression(C=strength, max_iter=100, fit_intercept=intercept)
        with warnings.catch_warnings():  # a fit that is cut short is only regularised a little more
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(features, target)
        return model.coef_, np.broadcast_to(model.intercept_, len(model.coef_))

    if task.multi_label:
        parts = [fit(targets[:, label]) for label in range(targets.shape[1])]
        return np.concatenate([weight for weight, _ in parts]), np.concatenate([bias for _, bias in parts])
    weights, biases = np.zeros((len(task.labels), features.shape[1])), np.full(len(task.labels), UNSEEN * intercept)
    present = np.unique(targets)
    weight, bias = fit(targets) if len(present) > 1 else (np.zeros((1, features.shape[1])), np.zeros(1))
    if len(present) == 2:  # one row of weights for the second class: split it between both
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    weights[present], biases[present] = weight, bias
    return weights, biases


def _loss(task: Classification, logits: np.ndarray, targets: np.ndarray) -> float:
    if task.multi_label:
        return float(np.mean(np.logaddexp(0, logits) - targets * logits))
    shifted = logits - logits.max(axis=1, keepdims=True)
    return float(np.mean(np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(targets)), targets]))


def _write(layer: nn.Linear, weight: np.ndarray, bias: np.ndarray) -> None:
    import torch

    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight))
        if layer.bias is not None:
            layer.bias.copy_(torch.from_numpy(bias))
