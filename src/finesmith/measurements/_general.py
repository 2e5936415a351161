"""What a model makes of general text, compared with what its base made of the same: the shipped passages and the
user's own prompts. Every number is for one text, so that a tuned model and its base are paired.

Legend for shapes: R texts, T tokens, V vocabulary, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from finesmith import registry
from finesmith.checks import _features
from finesmith.data import passages
from finesmith.evidence import stats
from finesmith.measurements import _speaker
from finesmith.tasks._order import length_order, token_batches
from finesmith.tasks.base import Encoded, collate
from finesmith.types import Estimate, Example, Origin

if TYPE_CHECKING:
    from finesmith.measurements.base import Study
    from finesmith.models.load import Loaded

MARGIN = 0.01
"""What may be lost: a share of the base's bits per byte."""
PROBE_MARGIN = 0.05
"""Of an encoder: a share of the passages that a probe tells apart; 212 passages show no smaller loss."""
LENGTH = 512
"""Most tokens that are read at once."""
LOGITS = 1 << 26
"""Bytes for the logits of one pass; about five times as much is used."""
READING = {"sequence-classification": 1_000, "causal-lm": 100}
"""How many answers take as long as reading the passages once, about: logits of every token against one label, or
against an answer that is written token by token."""
REMEMBERED = 1 << 30
"""Bytes for the base's log-probabilities. Where the vocabulary is too large, its likeliest tokens are kept and the
rest is one; the KL is then a little too small, never too large."""


Part = Literal["all", "choosing", "reporting"]


@dataclass(frozen=True)
class Texts:
    """Texts with the kind of each, `pieces` their tokens (supervised where the weight is not 0), `sizes` in bytes."""

    kinds: np.ndarray
    pieces: Sequence[Encoded]
    sizes: np.ndarray
    texts: Sequence[str] = ()

    @property
    def tokens(self) -> int:
        """Tokens that are predicted."""
        return int(sum((piece.weights[1:] > 0).sum() for piece in self.pieces if piece.weights is not None))


@dataclass(frozen=True)
class Read:
    """What a language model made of texts: `nats`, `kl` (nats, summed over tokens, from the base) and `tokens`: [R]."""

    nats: np.ndarray
    kl: np.ndarray
    tokens: np.ndarray


class Language:
    """Reads texts with a language model; the first reading is the base's, which all later ones are compared with."""

    def __init__(
        self, loaded: Loaded, texts: Texts, logits: Callable[[Mapping[str, Any]], Any], *, remember: bool = True
    ) -> None:
        self._remember = remember
        self.loaded, self.texts, self.logits = loaded, texts, logits
        self._base: list[Any] = []

    def read(self) -> Read:
        """One pass over the texts, in float32 where the weights are."""
        import torch

        from finesmith.models import fast
        from finesmith.models.device import autocast

        loaded, vocabulary = self.loaded, self.loaded.model.config.get_text_config().vocab_size
        lengths = [len(piece.tokens) for piece in self.texts.pieces]
        out = np.zeros((3, len(self.texts.sizes)))
        loaded.model.eval()
        first = not self._base
        with torch.inference_mode(), autocast(loaded.device, fast.narrow(loaded.model)):
            budget = max(1, LOGITS // (4 * vocabulary))
            for number, positions in enumerate(_batches(loaded, lengths, budget)):
                items = [self.texts.pieces[position] for position in positions]
                logs, targets, owners = _supervised(items, loaded, self.logits)
                if first and self._remember:
                    self._base.append(_remembered(logs, REMEMBERED // max(1, self.texts.tokens)))
                values = np.stack([-logs.gather(1, targets[:, None])[:, 0].cpu().double().numpy(),
                                   np.zeros(len(owners)) if first else _divergence(self._base[number], logs),
                                   np.ones(len(owners))])  # fmt: skip
                np.add.at(out.T, owners, values.T)
        return Read(*out)


def _batches(loaded: Loaded, lengths: Sequence[int], budget: int) -> list[list[int]]:
    from finesmith.models import together

    return token_batches(length_order(lengths), lengths, budget, together=together.reading(loaded.model))


def _supervised(items: Sequence[Encoded], loaded: Loaded, logits: Callable[[Mapping[str, Any]], Any]) -> Any:
    """Log-probabilities [N, V] before every supervised token, the tokens [N], and the text that each is of [N]."""
    import torch

    batch = collate(items, loaded.tokenizer.pad_token_id, loaded.device)
    weights = batch.pop("weights").clone()
    weights[:, 0] = 0
    places = weights.flatten().nonzero().squeeze(1)
    before = logits(batch).flatten(0, 1)[places - 1].float()
    rows = np.asarray([item.row for item in items])[(places // weights.shape[1]).cpu().numpy()]
    return torch.log_softmax(before, dim=1), batch["input_ids"].flatten()[places], rows


def _remembered(logs: Any, bytes_each: int) -> Any:
    """All log-probabilities where there is room, else the likeliest, their tokens, and the probability of the rest."""
    if 4 * logs.shape[1] <= bytes_each:
        return logs.clone()
    top, tokens = logs.topk(min(logs.shape[1] - 1, max(64, bytes_each // 12)), dim=1)
    return top, tokens, 1 - top.exp().sum(1)


def _divergence(base: Any, logs: Any) -> np.ndarray:
    """KL(base || this) in nats at each token: [N]."""
    if not isinstance(base, tuple):
        return (base.exp() * (base - logs)).sum(1).cpu().double().numpy()
    top, tokens, rest = base
    ours = logs.gather(1, tokens)
    left = (1 - ours.exp().sum(1)).clamp_min(1e-9)
    rest = rest.clamp_min(1e-9)
    found = (top.exp() * (top - ours)).sum(1) + rest * (rest / left).log()
    return found.cpu().double().clamp_min(0).numpy()


def shipped(tokenizer: Any, length: int, part: Part = "all", *, every: int = 3) -> Texts:
    """The passages, as the task `text` reads documents: all, those that choose (the first of `every` few of each kind),
    or the others, that report."""

    def wanted(place: int) -> bool:
        return part == "all" or (place % every == 0) == (part == "choosing")

    chosen = {
        kind: [text for place, text in enumerate(texts) if wanted(place)] for kind, texts in passages.by_kind().items()
    }
    kinds = [kind for kind, texts in chosen.items() for _ in texts]
    return documents(tokenizer, [text for texts in chosen.values() for text in texts], kinds, length)


def documents(tokenizer: Any, texts: Sequence[str], kinds: Sequence[str], length: int) -> Texts:
    """Plain texts, every token of which is predicted."""
    task = registry.resolve("tasks", "text")
    task = task(task.Settings())
    rows = [Example(str(place), text, None, Origin("", place)) for place, text in enumerate(texts)]
    pieces = [piece for place, row in enumerate(rows) for piece in task.encode(row, place, tokenizer, length)]
    return Texts(np.asarray(kinds), pieces, np.asarray([len(text.encode()) for text in texts], float), texts)


def answers(study: Study, loaded: Loaded, rows: Sequence[Example], kind: str, task: Any = None) -> Texts:
    """Targets given their inputs, as the run's task encodes them (a generator's)."""
    task = task or study.task
    most = int(task.state().get("max_length", 1 << 30))  # documents are read in windows, answers whole
    pieces = [piece for place, row in enumerate(rows)
              for piece in task.encode(row, place, loaded.tokenizer, most, final_only=True)]  # fmt: skip
    size = getattr(task, "size", None)  # what a generator has to write, thoughts included
    sizes = [size(loaded.tokenizer, row) if size else max(1, len(str(row.input).encode())) for row in rows]
    return Texts(np.asarray([kind] * len(rows)), pieces, np.asarray(sizes, float))


@dataclass(frozen=True)
class Seen:
    """Everything that one model made of the passages; `features` [R, D] and `right` [R] of a classifier."""

    read: Read | None = None
    features: np.ndarray | None = None
    right: np.ndarray | None = None


@dataclass
class Yardstick:
    """The passages, laid beside a model at one scale after the other. The first look is the base."""

    loaded: Loaded
    texts: Texts
    seed: int
    language: Language | None = None
    pooled: bool = False
    length: int = LENGTH
    base: Seen | None = field(default=None, repr=False)

    def look(self) -> Seen:
        """What the model is now makes of the passages."""
        from finesmith.models import fast

        features = right = None
        if self.pooled:
            loaded = replace(self.loaded, dtype=fast.narrow(self.loaded.model))
            features = _features.pooled(loaded, self.texts.texts, self.length)
            right = _features.right(features, np.unique(self.texts.kinds, return_inverse=True)[1], seed=self.seed)
        seen = Seen(self.language.read() if self.language else None, features, right)
        self.base = self.base or seen
        return seen

    def loss(self, seen: Seen) -> Estimate:
        """How much worse than the base: relative bits per byte, or (an encoder) the share of
        passages whose kind a linear probe no longer reads off the features."""
        assert self.base is not None
        if seen.read and self.base.read:
            return change(self.base.read, seen.read, seed=self.seed)
        assert seen.right is not None and self.base.right is not None
        return stats.newcombe(self.base.right, seen.right)

    def margin(self, options: Mapping[str, Any]) -> float:
        """What may be lost: as the user says, else the default for what is measured."""
        return float(options.get("retention_margin", MARGIN if self.language else PROBE_MARGIN))

    def drift(self, seen: Seen) -> float:
        """How far from the base, whether for better or worse: KL in nats a token, or (an encoder) 1 - linear CKA."""
        assert self.base is not None
        if seen.read:
            return float(seen.read.kl.sum() / seen.read.tokens.sum())
        return 1 - cka(self.base.features, seen.features)


def yardstick(
    study: Study, loaded: Loaded, *, features: bool, part: Part = "all", like: Yardstick | None = None
) -> Yardstick:
    """The passages for a run's model. `features` compares those of any classifier, not only of an encoder; `like` is
    another yardstick for the same model. A third of the passages choose, which is ample for paired bits; of an encoder
    half: each is only right or wrong."""
    from finesmith.models.load import context_length

    length = min(LENGTH, context_length(loaded.model.config, loaded.tokenizer))
    logits = _speaker.speaker(study, loaded) if like is None else like.language and like.language.logits
    texts = shipped(loaded.tokenizer, length, part, every=3 if logits else 2)
    language = Language(loaded, texts, logits) if logits else None
    pooled = language is None or (features and study.task.kind == "sequence-classification")
    return Yardstick(loaded, texts, study.recipe.seed, language, pooled, length)


def change(base: Read, tuned: Read, chosen: np.ndarray | slice = slice(None), *, seed: int) -> Estimate:
    """Relative change of the bits per byte over texts: 0.01 is one percent more bits."""
    pairs = np.stack([base.nats[chosen], tuned.nats[chosen]], axis=1)
    return stats.over_rows(lambda sums: sums[..., 1] / sums[..., 0] - 1, pairs, seed=seed)


def bits_per_byte(read: Read, texts: Texts, chosen: np.ndarray | slice = slice(None)) -> float:
    """Bits for a byte of the chosen texts."""
    return float(read.nats[chosen].sum() / np.log(2) / texts.sizes[chosen].sum())


def cka(one: Any, other: Any) -> float:
    """Linear centred kernel alignment of two [R, D] (Kornblith et al. 2019, arXiv 1905.00414): 1 where they are equal
    up to rotation and scale."""
    one, other = one - one.mean(axis=0), other - other.mean(axis=0)
    both = np.linalg.norm(one.T @ other) ** 2
    return float(both / (np.linalg.norm(one.T @ one) * np.linalg.norm(other.T @ other)))


def cosine(one: Any, other: Any) -> float:
    """Mean cosine of the rows of two [R, D]."""
    return float(np.mean((one * other).sum(1) / (np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1))))
