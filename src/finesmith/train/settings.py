"""The settings of the training loop (no torch here, so that a recipe can be checked in milliseconds)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from finesmith.settings import Settings

Auto = Literal["auto"]


class TrainSettings(Settings):
    """How the weights are moved. `auto` values are resolved before step 1 and written into the run's recipe."""

    learning_rate: Annotated[float, Field(gt=0)] | Auto = "auto"
    """Peak learning rate; auto takes the method's default for a model of this size."""
    epochs: Annotated[float, Field(gt=0)] | Auto = "auto"
    """Passes over the training rows; auto: for about 1,000 steps in 4 to 15 passes (classification), about 300 in 3
    to 10 (generation) or in 1 to 5 (text)."""
    max_steps: int | None = Field(default=None, gt=0)
    """Stop after this many optimizer steps, instead of after `epochs`."""
    batch_size: int = Field(default=16, gt=0)
    """Rows in one optimizer step (the effective batch size)."""
    micro_batch_tokens: Annotated[int, Field(gt=0)] | Auto = "auto"
    """Tokens, padding included, in one forward pass; changes speed and memory, not the result. auto: 2048 on a CPU
    (measured fastest), 16384 on an accelerator, and less where the estimate says that memory is short."""
    max_length: Annotated[int, Field(gt=1)] | Auto = "auto"
    """Longest row in tokens; auto takes the model's context."""
    optimizer: Literal["adamw", "adamw_8bit", "muon"] = "adamw"
    """adamw_8bit holds AdamW's moments in 8 bits (extra `bitsandbytes`); muon moves hidden matrices by their
    orthogonalised momentum and the rest by AdamW, at the same learning rate (methods full and last_layers)."""
    packing: bool = False
    """Put several short rows into one of `max_length` tokens, unseen by one another: less padding, and like numbers of
    tokens in every step. `batch_size` then counts the filled rows. Not for classification."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """How the learning rate falls after warm-up: to 0 in a line or a half cosine, or not at all."""
    warmup: float = Field(default=0.06, ge=0, lt=1)
    """Share of the steps in which the learning rate rises from 0."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Decoupled weight decay of AdamW, on matrices only."""
    beta2: float = Field(default=0.999, gt=0, lt=1)
    """Decay of AdamW's second moment; 0.95 suits training from scratch."""
    clip: float | None = Field(default=1.0, gt=0)
    """Largest gradient norm; null does not clip."""
    evaluations: Annotated[int, Field(ge=1)] | Auto = "auto"
    """How often the validation rows are measured during training, the end included; auto: once an epoch, 10 at most."""
    patience: int | None = Field(default=4, ge=1)
    """Stop after this many evaluations without a better validation score; null never stops early."""
    keep: Literal["best", "last"] = "best"
    """Which weights are kept: those of the best validation score or those of the last step."""
    save_minutes: float = Field(default=10.0, gt=0)
    """How often the whole state is saved, so that a killed run goes on where it was."""
