"""How long a text a model reads."""

from __future__ import annotations

import copy
from typing import Any

import torch
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM, PreTrainedTokenizerBase

UNLIMITED = 1 << 30


def context_length(config: Any, tokenizer: PreTrainedTokenizerBase) -> int:
    """The longest input in tokens that the model was built for; what states no limit (XLNet: -1) has none."""
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    stated = getattr(text, "max_position_embeddings", None) or getattr(text, "n_positions", None) or UNLIMITED
    longest = stated - _first_position(config, tokenizer) if stated > 0 else UNLIMITED
    return int(min(longest, tokenizer.model_max_length))


def cached_bytes(model: Any) -> int | None:
    """What every token leaves behind in keys and values while an answer is written, in bytes; None: it does not say.

    As many layers as there are, all of one shape: those of a sliding window or of a recurrence keep less.
    """
    config = model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config
    try:
        heads = config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // heads
        kept = getattr(config, "num_key_value_heads", None) or heads
        return int(2 * config.num_hidden_layers * kept * size * model.dtype.itemsize)
    except (AttributeError, RuntimeError, TypeError):  # layers of different shapes (Gemma 4), no attention at all
        return None


def _first_position(config: Any, tokenizer: PreTrainedTokenizerBase) -> int:
    """Where positions begin: behind the padding's, where the table of positions has one (RoBERTa, MPNet, ...)."""
    decoder = type(config) in AutoModelForCausalLM._model_mapping
    masked = type(config) in AutoModelForMaskedLM._model_mapping
    if type(config) not in AutoModel._model_mapping or (decoder and not masked):
        return 0
    model = _shell(config, tokenizer)
    named = model.named_modules() if model is not None else ()
    tables = [module for name, module in named if name.rpartition(".")[2] == "position_embeddings"]
    paddings = [table.padding_idx for table in tables if getattr(table, "padding_idx", None) is not None]
    return paddings[0] + 1 if paddings else 0


def _shell(config: Any, tokenizer: PreTrainedTokenizerBase) -> Any:
    """The architecture without memory, with one block where it can have one, and the pad token that it is loaded with;
    None where transformers cannot build it."""
    from finesmith.models.load import quiet

    for few in (True, False):
        copied = copy.deepcopy(config)
        try:
            copied.pad_token_id = tokenizer.pad_token_id
            if few:
                copied.num_hidden_layers = 1
            with torch.device("meta"), quiet():
                return AutoModel.from_config(copied)
        except Exception:  # each architecture says in its own way that it has a list for every block
            continue
    return None
