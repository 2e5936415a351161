"""Whether a language model sees only what stands before a token: its loss says nothing where it sees the token itself.

A configuration may say that it does not; else the model is asked, on a few tokens.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from finesmith.errors import ModelError
from finesmith.models.device import refuse_for_memory

LENGTH, SAME, PROBES = 12, 6, 3
TOLERANCE, NARROW_TOLERANCE = 3e-3, 3e-2
"""Largest change of a logit by later tokens, relative to the largest logit: in float32, in narrower arithmetic."""


def says_otherwise(config: Any) -> bool:
    """Whether a configuration says that tokens see what comes after them (EmbeddingGemma, XLM)."""
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    both_ways = getattr(text, "use_bidirectional_attention", None) in (True, "all")  # 'vision': images alone
    return both_ways or getattr(text, "causal", None) is False


def check(model: Any, name: str) -> tuple[str, ...]:
    """Asks a model about sequences that begin alike: there it has to say the same, whatever follows.

    Every one of several pairs has to differ, so that rounding that sends a token to another expert does not count.

    Returns:
        A note where the model could not be asked.

    Raises:
        ModelError: what follows changes what the model says; or memory does not suffice for a few tokens.
    """
    try:
        leak = _leak(model)
    except (TypeError, ValueError, RuntimeError, LookupError, AttributeError, AssertionError) as error:
        refuse_for_memory(error)
        return (f"not shown that this model sees no later tokens: it cannot be asked ({type(error).__name__})",)
    if leak is None:
        return ("not shown that this model sees no later tokens: what it says is no number",)
    if leak <= 1:
        return ()
    raise ModelError(
        f"'{name}' ({model.config.model_type}) sees later tokens: what follows a token changes what the model says "
        "before it. It would read the text that it should predict, and its loss would mean nothing.",
        hint="Name a decoder (Llama, Qwen, Gemma, ...), or use task: classification.",
    )


def _leak(model: Any) -> float | None:
    """The smallest change among the pairs, as a multiple of what is tolerated; None where logits are no numbers."""
    from finesmith.models.fast import asking, probe

    first = probe(model, LENGTH)
    known = model.get_input_embeddings().num_embeddings
    found = []
    with asking(model):
        expected = _said(model, first)
        for turn in range(1, PROBES + 1):
            other = first.clone()
            other[:, SAME:] = (first[:, SAME:] + 13 * turn) % known
            found.append(_change(expected, _said(model, other)))
    return min(found) if all(torch.isfinite(torch.tensor(found))) else None


def _said(model: Any, tokens: Tensor) -> Tensor:
    """Logits of the tokens that all sequences share, `[SAME, V]`."""
    return model(input_ids=tokens).logits[0, :SAME].detach().cpu()


def _change(one: Tensor, other: Tensor) -> float:
    tolerance = TOLERANCE if one.dtype == torch.float32 else NARROW_TOLERANCE
    largest = float(one.float().abs().max())
    return float((one.float() - other.float()).abs().max()) / (tolerance * largest) if largest else 0.0
