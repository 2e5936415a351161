"""Which sequences may stand in one batch: asked of the model itself, once.

Most models never see what a mask hides. Some do: layers that mix all places without a mask (FNet), convolutions that
reach across an end (ConvBERT), recurrences that begin with the padding or with a neighbour's state (RWKV).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from finesmith.models import fast
from finesmith.models.device import refuse_for_memory
from finesmith.models.reading import close
from finesmith.types import Together

LONG, SHORT = 12, 5
AHEAD = 1024
"""Tokens that an answer may take a prompt on: it must not reach the length at which positions turn otherwise."""
Say = Callable[[Any, Tensor, Tensor], list[Tensor]]
_KNOWN: WeakKeyDictionary[nn.Module, dict[Say, Together]] = WeakKeyDictionary()


def training(model: nn.Module) -> Together:
    """Which sequences may share a pass of a training: any where nothing is padded."""
    return packed(model) if fast.of(model).packed else reading(model)


def packed(model: nn.Module) -> Together:
    """Which sequences may share a row."""
    return turns(model) or "any"


def reading(model: nn.Module) -> Together:
    """Which sequences, padded behind their ends, get together what each gets alone."""
    found, limit = _known(model, _read), turns(model)
    return limit if found == "any" and limit else found


def writing(model: nn.Module) -> Together:
    """Which prompts, padded before their beginnings, are answered together as each is alone."""
    found, limit = _known(model, _write), turns(model)
    return max(1, limit - AHEAD) if found == "any" and limit else found


def turns(model: nn.Module) -> int | None:
    """Up to how many tokens a model turns positions by the same angles; None: at any length.

    With `longrope` (Phi-3 with 128 k, Phi-4 mini) and `dynamic` positions the longest text of a pass decides for all.
    """
    if not hasattr(fast.inner(model), "config"):
        return None
    config = fast.inner(model).config.get_text_config()
    said = getattr(config, "rope_parameters", None) or {}
    parts = [said] if "rope_type" in said else [part for part in said.values() if isinstance(part, Mapping)]
    stated = getattr(config, "max_position_embeddings", None)
    found = [
        part.get("original_max_position_embeddings") or stated
        for part in parts
        if part.get("rope_type") in ("longrope", "dynamic")
    ]
    return min((int(limit) for limit in found if limit), default=None)


def _known(model: Any, say: Say) -> Together:
    plain = fast.inner(model)
    known = _KNOWN.setdefault(plain, {})
    if say not in known:
        known[say] = next((name for name, sizes in _PAIRS.items() if _same(plain, say, *sizes)), "none")
    return known[say]


_PAIRS: dict[Together, tuple[int, int]] = {"any": (LONG, SHORT), "equal": (LONG, LONG)}
"""Lengths of two sequences."""


def _same(model: Any, say: Say, *sizes: int) -> bool:
    """Whether two sequences of these lengths get in one batch what each gets alone; no where it cannot be asked."""
    places = torch.arange(LONG)
    try:
        tokens = fast.probe(model, sum(sizes))
        rows = torch.full((2, LONG), model.config.get_text_config().pad_token_id or 0, device=tokens.device)
        mask = torch.stack([places >= LONG - size if say is _write else places < size for size in sizes])
        mask = mask.to(tokens.device)
        rows[mask] = tokens[0]
        with fast.asking(model):
            beside = say(model, rows, mask.long())
            for row, kept in enumerate(mask):
                alone = say(model, rows[row, kept][None], kept[kept].long()[None])
                if not all(close(one[0], other[row, : len(one[0])]) for one, other in zip(alone, beside, strict=True)):
                    return False
        return True
    except (NotImplementedError, TypeError, ValueError, RuntimeError, LookupError, AttributeError) as error:
        refuse_for_memory(error)
        return False


def _read(model: Any, tokens: Tensor, mask: Tensor) -> list[Tensor]:
    """Logits, and of a classifier also the hidden states: a new head may say the same of everything."""
    inputs = {"input_ids": tokens, "attention_mask": mask}
    logits = model(**inputs).logits
    if logits.dim() == 3:
        return [logits]
    return [logits, getattr(model, model.base_model_prefix)(**inputs).last_hidden_state]


def _write(model: Any, tokens: Tensor, mask: Tensor) -> list[Tensor]:
    """Logits of the first written token and of the one behind it, `[B, 2 V]`."""
    out = model.generate(
        input_ids=tokens,
        attention_mask=mask,
        do_sample=False,
        num_beams=1,
        max_new_tokens=2,
        min_new_tokens=2,
        output_logits=True,
        return_dict_in_generate=True,
    )
    return [torch.cat(out.logits, dim=1)]
