"""Which token stands where a text is shorter than its neighbours: a model is told what its tokenizer says."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedTokenizerBase


def tell_config(config: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    """Before the model is built; of a model with several senses also the part that reads text, which looks there."""
    config.pad_token_id = tokenizer.pad_token_id
    config.get_text_config().pad_token_id = tokenizer.pad_token_id


def tell_model(model: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    """After it is loaded: where the pad token is also one that texts hold (the end, where there is no pad token of its
    own), its vector is learnt as any other."""
    table = model.get_input_embeddings()
    if getattr(table, "padding_idx", None) in _in_texts(model, tokenizer):
        table.padding_idx = None


def _in_texts(model: Any, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Ids of the tokens that begin, end or stand in a text."""
    said = [tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.unk_token_id]
    for settings in (model.config.get_text_config(), getattr(model, "generation_config", None)):
        ends = getattr(settings, "eos_token_id", None)
        said += ends if isinstance(ends, list) else [ends]
    return {token for token in said if token is not None}
