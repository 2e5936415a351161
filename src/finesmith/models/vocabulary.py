"""Every token that a text can become has a row in the model's table."""

from __future__ import annotations

import json
from typing import Any

from transformers import PreTrainedTokenizerBase

from finesmith.errors import ModelError


def settle(model: Any, tokenizer: PreTrainedTokenizerBase, name: str) -> tuple[str, ...]:
    """Takes marks that the model has no row for out of the tokenizer; a note that says which.

    The text-only Gemma 3 come with the tokenizer of those that see, whose mark for an image is one token more than they
    know. Such a mark in a text is read as any other characters.

    Raises:
        ModelError: the model has no such table, or an ordinary token or one that every text needs lies outside it.
    """
    known = _rows(model, name)
    if len(tokenizer) <= known:
        return ()
    outside = {token: place for token, place in tokenizer.get_vocab().items() if place >= known}
    used = [tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token, tokenizer.unk_token, tokenizer.cls_token]
    used += [tokenizer.sep_token, tokenizer.mask_token]
    template = json.dumps(tokenizer.chat_template or "", ensure_ascii=False)
    needed = [token for token in outside if token in used or token in template]
    core = getattr(tokenizer, "backend_tokenizer", None)
    if core is None or needed or not outside.keys() <= _marks(core):
        raise ModelError(f"The tokenizer of '{name}' has {len(tokenizer)} tokens, its model only {known}.")
    _take_out(tokenizer, outside.keys())
    shown = ", ".join(repr(token) for token in list(outside)[:5])
    return (f"the tokenizer knows marks that the model has no row for: {shown}; in texts they are plain characters",)


def _rows(model: Any, name: str) -> int:
    """Rows of the table of input embeddings."""
    try:
        return int(model.get_input_embeddings().weight.shape[0])
    except (NotImplementedError, AttributeError) as error:
        raise ModelError(
            f"'{name}' ({model.config.model_type}) has no table with one row for each token: Finesmith cannot tune it.",
            hint="Use a model with a vocabulary (BERT, ModernBERT, Llama, Qwen, ...).",
        ) from error


def _marks(core: Any) -> set[str]:
    """Special tokens that were added behind the vocabulary; others are words that somebody wants to be read."""
    added = {token.content for token in core.get_added_tokens_decoder().values() if token.special}
    return added - set(core.get_vocab(with_added_tokens=False))


def _take_out(tokenizer: Any, tokens: Any) -> None:
    """The library can only add: so from the written form."""
    from tokenizers import Tokenizer

    written = json.loads(tokenizer.backend_tokenizer.to_str())
    written["added_tokens"] = [token for token in written["added_tokens"] if token["content"] not in tokens]
    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(written))
    tokenizer.extra_special_tokens = [token for token in tokenizer.extra_special_tokens if str(token) not in tokens]
