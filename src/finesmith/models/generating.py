"""A base's settings for writing, made fit to be kept: they are written again with the trained model."""

from __future__ import annotations

from typing import Any

from finesmith.errors import ModelError

SAMPLING = ("temperature", "top_p", "min_p", "top_h", "typical_p", "top_k", "epsilon_cutoff", "eta_cutoff")
"""Read only where `do_sample` is true."""
BEAMS = ("early_stopping", "length_penalty")
"""Read only where there are several beams."""
OURS = (
    *("stop_strings", "prompt_lookup_num_tokens", "penalty_alpha", "num_return_sequences", "max_new_tokens"),
    *("output_scores", "output_logits", "output_attentions", "output_hidden_states"),
)
"""What asks for more than a prompt or for more than one answer, or bounds what the task's `max_new_tokens` bounds."""


def settle(model: Any, pad: int | None) -> None:
    """Takes out what is never read, and what no answer here could be written with.

    transformers loads a file with such settings, but refuses to write it again once anything in it has changed: the
    training would be over by then.

    Args:
        model: with a `generation_config` or without.
        pad: the padding token.

    Raises:
        ModelError: what is left contradicts itself.
    """
    config = getattr(model, "generation_config", None)
    if config is None:
        return
    config.pad_token_id = pad
    unread = (*OURS, *(SAMPLING if config.do_sample is not True else ()))
    unread += BEAMS if (getattr(config, "num_beams", None) or 1) == 1 else ()
    for name in unread:
        if getattr(config, name, None) is not None:
            setattr(config, name, None)
    try:
        config.validate(strict=True)
    except ValueError as error:
        raise ModelError(
            f"The base's generation_config.json contradicts itself: {str(error).splitlines()[0]}",
            hint="Mend that file, or remove it: training needs nothing of it.",
        ) from error
