"""The settings of what makes training fast (no torch here). None of them changes what is computed, only how."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from finesmith.settings import Settings

Auto = Literal["auto"]


class SpeedSettings(Settings):
    """Ways to the same result. What depends on the architecture is proved before step 1, else left out with a note."""

    packing: bool = True
    """No padding: the sequences of a forward pass stand in one row, and attention stays inside each of them."""
    chunked_loss: bool = True
    """The output layer runs on supervised tokens only, chunk by chunk, and tokens x vocabulary is never held."""
    block_attention: Annotated[int, Field(ge=0)] | Auto = "auto"
    """Packed sequences of up to so many tokens have their attention computed in cache-sized blocks instead of by
    PyTorch's fused kernel; auto: a race between the two on this CPU decides; 0: none."""
    adapter: Literal["float32", "compute", "peft"] = "float32"
    """A linear layer and its LoRA adapter as one operation, with the adapter's branch in float32 or in the arithmetic's
    precision; peft: as PEFT computes it."""
    cache_gigabytes: float = Field(default=4.0, ge=0)
    """What the frozen layers below all weights that move give is computed once, kept in a temporary file of up to this
    size (and half of the free disk), and read in every epoch; rows beyond it are computed each time; 0: all are.
    Refused where no layer is frozen (method full; lora on all layers)."""
    checkpointing: Literal["auto", "on", "off"] = "auto"
    """Blocks keep their input only and are computed again in the backward pass: less memory for about a third more
    time. auto: where by the estimate even the smallest forward pass does not fit without."""
    processes: Annotated[int, Field(ge=1)] | Auto = "auto"
    """On Linux and a CPU: how many processes of one core each compute the gradients of every step. auto: 2 where
    PyTorch has two threads and a step has enough to compute, as measured; else 1."""
    compile: bool = False
    """Compile the model's blocks one by one (torch.compile). Takes about a minute; on the CPUs measured it did not
    pay, on CUDA it may for long runs of small models."""
    kernels: Literal["torch", "liger"] = "torch"
    """liger: RMS norms and SiLU-gated layers (Llama, Qwen, Mistral) by Liger's kernels, on CUDA with the extra `liger`.
    Not measured."""
    keep_memory: bool = True
    """On Linux, freed memory is kept for the next tensor instead of being given back to the system each time."""
