"""Log-probabilities of fixed continuations after many prompts, all in one pass behind a prefix that is read once.

A prompt is tokenised whole; the cache holds the longest prefix of tokens that all prompts have in common (instruction
and fixed examples). Behind it stand a prompt's own tokens and all continuations as a tree: what several of them begin
with stands there once, and each token sees the prompt and its own beginning. Prompts of one length share a batch, so
nothing is padded. Before it is used, this is proved on the longest prompt against reading prompt and continuation
plainly; a model that does not take it (states instead of keys, a window shorter than the prompt) is read plainly.

Legend for shapes: B prompts, K continuations, P tokens of the prefix, Q tokens of a pass, N of the tree, V vocabulary.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from finesmith.tasks import _language
from finesmith.tasks._order import length_order, token_batches
from finesmith.tasks.base import Encoded, Progress, collate, silent

if TYPE_CHECKING:
    import torch

    from finesmith.models.load import Loaded

MOST_TOKENS = 8192
"""Tokens of a pass, and keys and values held for it."""
MOST_ENDS = 1024  # tokens of continuations that share a pass
AGREE = 0.02
"""Nats a token by which both ways may differ in float32; ten times as much in narrower arithmetic."""

Tokens = Sequence[int]
Tree = dict[tuple[int, ...], int]
"""Every beginning of a continuation that predicts a token, and its place; shorter ones come first."""


def log_probabilities(
    loaded: Loaded,
    prompts: Sequence[Tokens],
    ends: Sequence[Tokens],
    *,
    cached: bool = True,
    progress: Progress = silent,
) -> np.ndarray:
    """Summed log-probability in nats of every continuation after every prompt, [prompts, K].

    Args:
        loaded: a causal language model.
        prompts: token ids, one token at least.
        ends: token ids of the continuations, one token at least.
        cached: False reads every prompt with every continuation from its first token.
    """
    import torch

    from finesmith.models import together
    from finesmith.models.device import autocast

    loaded.model.eval()
    longest = max(map(len, prompts), default=0) + max(map(len, ends), default=0)
    cached = cached and longest <= (together.turns(loaded.model) or longest)  # else the cache holds other angles
    with torch.inference_mode(), autocast(loaded.device, loaded.dtype):
        prefix = _proved(loaded, prompts, ends) if cached else None
        if prefix is None:
            return _plainly(loaded, prompts, ends, progress)
        out = np.zeros((len(prompts), len(ends)))
        for places in _batches([len(prompt) - prefix.length for prompt in prompts], prefix.length, ends):
            out[places] = _together(loaded, prefix, [prompts[place] for place in places], ends)
            progress(len(places))
    return out


def shared(prompts: Sequence[Tokens]) -> int:
    """How many tokens all prompts begin with; one less than the shortest has at most."""
    first, least = prompts[0], min(map(len, prompts)) - 1
    if len(prompts) < 2:
        return 0
    return min(_common(first, prompt, least) for prompt in prompts)


def _common(one: Tokens, other: Tokens, most: int) -> int:
    return next((place for place in range(most) if one[place] != other[place]), most)


@dataclass(frozen=True)
class _Prefix:
    """Keys and values of the tokens that all prompts begin with; no cache where there are none."""

    cache: Any
    length: int

    def times(self, rows: int) -> Any:
        """A copy for so many rows: the model writes into what it is given."""
        own = copy.deepcopy(self.cache)
        if self.length:
            own.batch_repeat_interleave(rows)
        return own


def _proved(loaded: Loaded, prompts: Sequence[Tokens], ends: Sequence[Tokens]) -> _Prefix | None:
    """The prefix of all prompts, if reading on from it says what reading plainly says; None otherwise."""
    from finesmith.models.device import is_out_of_memory

    try:
        prefix = _read(loaded, prompts[0][: shared(prompts)])
        return prefix if _agrees(loaded, prefix, max(prompts, key=len), ends) else None
    except (AttributeError, TypeError, ValueError, IndexError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        return None  # a cache that cannot be copied for several rows, a mask that does not fit, ...


def _read(loaded: Loaded, tokens: Tokens) -> _Prefix:
    import torch
    from transformers import DynamicCache

    cache = DynamicCache(config=loaded.model.config)
    if tokens:
        loaded.model(input_ids=torch.tensor([list(tokens)]).to(loaded.device), past_key_values=cache, use_cache=True)
    return _Prefix(cache, len(tokens))


def _agrees(loaded: Loaded, prefix: _Prefix, prompt: Tokens, ends: Sequence[Tokens]) -> bool:
    """Whether both ways say the same of one prompt."""
    import torch

    longest = max(range(len(ends)), key=lambda place: len(ends[place]))
    some = [ends[0], ends[longest]]
    apart = np.abs(_together(loaded, prefix, [prompt], some) - _plainly(loaded, [prompt], some, silent)).max()
    return bool(apart <= AGREE * len(ends[longest]) * (1 if loaded.dtype == torch.float32 else 10))


def _batches(lengths: Sequence[int], held: int, ends: Sequence[Tokens]) -> Iterator[list[int]]:
    """Places of prompts of one length, as many as fit."""
    width = min(MOST_ENDS, len(_tree(ends)))
    by_length: dict[int, list[int]] = {}
    for place, length in enumerate(lengths):
        by_length.setdefault(length, []).append(place)
    for length, places in sorted(by_length.items(), reverse=True):
        size = max(1, MOST_TOKENS // (held + length + width))
        for start in range(0, len(places), size):
            yield places[start : start + size]


def _together(loaded: Loaded, prefix: _Prefix, prompts: Sequence[Tokens], ends: Sequence[Tokens]) -> np.ndarray:
    """[B, K] of prompts of one length."""
    import torch

    own = torch.tensor([list(prompt[prefix.length :]) for prompt in prompts])
    total = np.zeros((len(prompts), len(ends)))
    for part in _parts(ends):
        total[:, part] = _pass(loaded, prefix, own, [list(ends[place]) for place in part])
    return total


def _parts(ends: Sequence[Tokens]) -> Iterator[list[int]]:
    """Places of continuations that share a pass."""
    part: list[int] = []
    for place, end in enumerate(ends):
        if part and sum(len(ends[other]) for other in part) + len(end) > MOST_ENDS:
            yield part
            part = []
        part.append(place)
    yield part


def _pass(loaded: Loaded, prefix: _Prefix, own: torch.Tensor, ends: list[list[int]]) -> np.ndarray:
    """[B, K]: the prompts' own tokens and the continuations behind them in one pass."""
    import torch

    rows, length = own.shape
    tree = _tree(ends)
    beside = torch.tensor([begin[-1] for begin in tree], dtype=torch.long)
    positions = torch.tensor([*range(length), *(length + len(begin) - 1 for begin in tree)])
    tokens = torch.cat([own, beside.expand(rows, -1)], dim=1).to(loaded.device)
    logits = _logits(
        loaded,
        list(range(length - 1, length + len(tree))),
        input_ids=tokens,
        position_ids=(positions + prefix.length).expand(rows, -1).to(loaded.device),
        attention_mask=_mask(length, tree, prefix.length, loaded.device).expand(rows, -1, -1, -1),
        past_key_values=prefix.times(rows),
        use_cache=True,
    )
    before, wanted, owner = _places(tree, ends)
    said = torch.log_softmax(logits.float(), dim=-1)[:, before, wanted].cpu().double()  # [B, tokens of all ends]
    return torch.zeros(rows, len(ends), dtype=torch.double).index_add_(1, owner, said).numpy()


def _tree(ends: Sequence[Tokens]) -> Tree:
    """The last token of a continuation predicts nothing that counts and is not in it."""
    tree: Tree = {}
    for end in ends:
        for step in range(1, len(end)):
            tree.setdefault(tuple(end[:step]), len(tree))
    return tree


def _places(tree: Tree, ends: list[list[int]]) -> tuple[list[int], list[int], torch.Tensor]:
    """Of each token of the continuations where it is predicted (0: at the prompt's last token), which, and whose."""
    import torch

    before, wanted, owner = [], [], []
    for place, end in enumerate(ends):
        for step, token in enumerate(end):
            before.append(1 + tree[tuple(end[:step])] if step else 0)
            wanted.append(token)
            owner.append(place)
    return before, wanted, torch.tensor(owner)


def _mask(length: int, tree: Tree, held: int, device: torch.device) -> torch.Tensor:
    """What is added to attention scores, [1, 1, Q, P + Q]: 0 for the prefix, the prompt and the own beginning."""
    import torch

    dtype = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else torch.float32
    allowed = torch.zeros(length + len(tree), held + length + len(tree), dtype=torch.bool)
    allowed[:, : held + length] = torch.ones(length + len(tree), held + length).tril(held)
    for begin, place in tree.items():
        allowed[length + place, [held + length + tree[begin[:step]] for step in range(1, len(begin) + 1)]] = True
    return torch.where(allowed, 0.0, torch.finfo(dtype).min).to(dtype)[None, None].to(device)


def _logits(loaded: Loaded, places: list[int], **inputs: Any) -> torch.Tensor:
    """[B, places, V]; the output layer runs on those places only where the model can do that."""
    import torch

    at = torch.tensor(places, device=loaded.device)
    if "logits_to_keep" in inspect.signature(loaded.model.forward).parameters:
        return loaded.model(**inputs, logits_to_keep=at).logits
    return loaded.model(**inputs).logits[:, at]


def _plainly(loaded: Loaded, prompts: Sequence[Tokens], ends: Sequence[Tokens], progress: Progress) -> np.ndarray:
    """Every prompt with every continuation as a sequence of its own."""
    pieces = []
    for prompt in prompts:
        for end in ends:
            weights = np.concatenate([np.zeros(len(prompt), np.float32), np.ones(len(end), np.float32)])
            pieces.append(Encoded(0, np.asarray([*prompt, *end], np.int32), weights))
    lengths, out = [len(piece.tokens) for piece in pieces], np.zeros(len(pieces))
    from finesmith.models import together

    company = together.reading(loaded.model)
    for positions in token_batches(length_order(lengths), lengths, MOST_TOKENS, together=company):
        batch = collate([pieces[p] for p in positions], loaded.tokenizer.pad_token_id, loaded.device)
        nats, _ = _language.token_losses(loaded.model, batch)
        counts = (batch["weights"][:, 1:] > 0).sum(dim=1).tolist()
        out[positions] = [-float(part.cpu().double().sum()) for part in nats.split(counts)]
    progress(len(prompts))
    return out.reshape(len(prompts), len(ends))
