"""Who is measured: Finesmith and its peers, each with its settings and with the precision of every part.

`options` go to the library's own arguments. What stands here is what was asked for; each worker also reports what it
found in the running model, and the table shows that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

TUNED_MALLOC = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "2147483647",
    "MALLOC_TOP_PAD_": "67108864",
}
"""glibc keeps freed memory, so that big tensors are not zeroed page by page in every step."""


@dataclass(frozen=True)
class System:
    """One library with one set of settings. `worker` is a module in bench.workers, `environment` where it runs.

    `weights` is the precision of what is loaded; `options` override the defaults of the library's own arguments.
    `native_loss` gives TRL a loss function of ours (one cross-entropy on the model's logits), which turns its own off.
    """

    name: str
    worker: str
    environment: str = "peers"
    weights: str = "float32"
    tuned_malloc: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    padding_free: bool = False
    native_loss: bool = False
    note: str = ""


_PLAIN = {"gradient_checkpointing": False}
ALL: tuple[System, ...] = (
    System("finesmith", "finesmith", "own", note="as it ships"),
    System("finesmith-1", "finesmith", "own", options={"processes": 1}, note="in one process"),
    System("finesmith-2", "finesmith", "own", options={"processes": 2}, note="in two processes, of one thread each"),
    System("finesmith-computed", "finesmith", "own", options={"cache_gigabytes": 0.0},
           note="frozen layers computed in every step"),
    System("trl-default", "trl", note="TRL + PEFT as they ship: float32 weights, bfloat16 autocast, checkpointing"),
    System("trl-autocast", "trl", options=_PLAIN, padding_free=True, tuned_malloc=True,
           note="float32 weights, bfloat16 autocast, no checkpointing, padding-free, tuned malloc"),
    System("trl-best", "trl", weights="bfloat16", options={**_PLAIN, "bf16": False}, padding_free=True,
           tuned_malloc=True, note="bfloat16 weights, no autocast, no checkpointing, padding-free, tuned malloc"),
    System("trl-padded", "trl", weights="bfloat16", options={**_PLAIN, "bf16": False}, tuned_malloc=True,
           note="as trl-best, but padded"),
    System("trl-mixed", "trl", weights="bfloat16", options=_PLAIN, padding_free=True, tuned_malloc=True,
           note="bfloat16 weights under autocast, no checkpointing, padding-free, tuned malloc"),
    System("trl-native", "trl", weights="bfloat16", options={**_PLAIN, "bf16": False}, padding_free=True,
           native_loss=True, tuned_malloc=True, note="as trl-best, with the model's own logits and one cross-entropy"),
    System("trl-float32", "trl", options={**_PLAIN, "bf16": False}, padding_free=True, tuned_malloc=True,
           note="float32 throughout, no checkpointing, padding-free, tuned malloc"),
    System("trl-liger", "trl", weights="bfloat16", options={**_PLAIN, "bf16": False, "use_liger_kernel": True},
           tuned_malloc=True, note="as trl-padded, with Liger's kernels (GPU)"),
    System("trainer", "trainer", note="Hugging Face Trainer (+ PEFT) as they ship: float32"),
    System("trainer-autocast", "trainer", options={"bf16": True}, tuned_malloc=True,
           note="float32 weights, bfloat16 autocast, tuned malloc"),
    System("trainer-bf16", "trainer", weights="bfloat16", tuned_malloc=True,
           note="bfloat16 weights, no autocast, tuned malloc"),
    System("litgpt", "litgpt", environment="litgpt", weights="bfloat16", options={"precision": "bf16-true"},
           tuned_malloc=True, note="LitGPT's model, adapters and loss, bf16-true, tuned malloc"),
)  # fmt: skip

BY_NAME = {system.name: system for system in ALL}
SWEEP = ("trl-autocast", "trl-best", "trl-padded", "trl-mixed", "trl-native", "trl-float32")
"""Settings of TRL that are tried for its strongest on this machine."""
