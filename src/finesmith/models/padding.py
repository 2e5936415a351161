"""Which token stands where a text is shorter than its neighbours: a model is told what its tokenizer says."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedTokenizerBase


def tell_config(config: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    """Before the model is built; of a model with several senses also the part that reads text, which looks there."""
    config.pad_token_id = tokenizer.pad_token_id
    config.get_text_config().pad_token_id = tokenizer.pad_token_id


def tell_model(model: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    """After it is loaded: for `generate`."""
    settings = getattr(model, "generation_config", None)
    if settings is not None:
        settings.pad_token_id = tokenizer.pad_token_id
