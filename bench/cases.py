"""What is trained: geometry of the model, rows, batch. Weights are random; the architectures are real ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


def _llama(hidden: int, layers: int, heads: int, groups: int, inner: int, vocabulary: int) -> dict[str, Any]:
    return {
        "model_type": "llama",
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": groups,
        "intermediate_size": inner,
        "vocab_size": vocabulary,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
    }


MODELS: dict[str, dict[str, Any]] = {
    "8m-8k": _llama(256, 6, 4, 4, 768, 8192),
    "30m-32k": _llama(384, 10, 6, 2, 1152, 32768),
    "30m-152k": _llama(384, 10, 6, 2, 1152, 151936),
    "135m-49k": _llama(576, 30, 9, 3, 1536, 49152),
    "135m-152k": _llama(576, 30, 9, 3, 1536, 151936),
    "1b-128k": _llama(2048, 16, 32, 8, 8192, 128256),
    "3b-128k": _llama(3072, 28, 24, 8, 8192, 128256),
    "tiny-1k": _llama(64, 4, 4, 2, 128, 1024),
    "minilm": {
        "model_type": "bert",
        "hidden_size": 384,
        "num_hidden_layers": 6,
        "num_attention_heads": 12,
        "intermediate_size": 1536,
        "vocab_size": 30522,
        "max_position_embeddings": 512,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    },
    "tiny-bert": {
        "model_type": "bert",
        "hidden_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "intermediate_size": 128,
        "vocab_size": 2048,
        "max_position_embeddings": 512,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    },
}
"""Keyword arguments of the transformers configuration; 30m and 1b name the body's size, the rest the vocabulary.

The 135m body is SmolLM2's, 1b and 3b are Llama 3.2's, minilm is MiniLM-L6's. Dropout is 0 so that losses can be laid
over each other.
"""


@dataclass(frozen=True)
class Case:
    """One workload. `epoch` is the number of optimizer steps in one pass over the rows; `targets` are least ratios.
    `scale` lengthens the blocks of a case whose steps are too short to be timed a few at a time.

    `dtype` is what Finesmith is asked for; `settings` go into its recipe beside the rest.
    """

    name: str
    task: str
    rows: str
    model: str
    method: str
    batch: int
    max_length: int
    peers: tuple[str, ...]
    learning_rate: float
    epoch: int = 64
    scale: int = 1
    dtype: str = "auto"
    settings: Mapping[str, Any] = field(default_factory=dict)
    targets: Mapping[str, float] = field(default_factory=dict)


def _mixed(model: str, method: str, rate: float, targets: Mapping[str, float], **more: Any) -> Case:
    peers = ("trl-default", "trl-best", "trainer") if method == "lora" else ("trl-default", "trl-autocast", "trainer")
    peers = (*peers, "litgpt") if (model, method) == ("30m-32k", "lora") else peers
    return Case(f"mixed-{model}-{method}", "generation", "mixed", model, method, 8, 512, peers, rate, **more,
                targets=targets)  # fmt: skip


_LORA, _LORA_WIDE = {"trl-default": 4.0, "trl-best": 2.0}, {"trl-default": 7.0, "trl-best": 3.5}
_FULL = {"trl-default": 2.0, "trl-autocast": 2.0}

ALL: tuple[Case, ...] = (
    Case("tickets-minilm-full", "classification", "tickets", "minilm", "full", 32, 128, ("trainer", "trainer-autocast"),
         1e-4, scale=4, targets={"trainer": 3.0, "trainer-autocast": 3.0}),
    _mixed("8m-8k", "full", 1e-3, {}),
    _mixed("8m-8k", "lora", 1e-3, {}),
    _mixed("30m-32k", "lora", 1e-3, _LORA),
    _mixed("30m-32k", "full", 3e-4, _FULL),
    _mixed("30m-152k", "lora", 1e-3, _LORA_WIDE),
    _mixed("135m-49k", "lora", 1e-3, _LORA),
    _mixed("135m-49k", "full", 1e-4, _FULL),
    _mixed("135m-152k", "lora", 1e-3, _LORA_WIDE),
    Case("long-30m-32k-lora", "text", "long", "30m-32k", "lora", 2, 2048, ("trl-default", "trl-best"), 1e-3),
    Case("cached-minilm-head", "classification", "tickets", "minilm", "head", 32, 128, ("trainer",), 1e-3, epoch=4,
         targets={"trainer": 10.0}),
    Case("cached-135m-49k-last4", "generation", "mixed", "135m-49k", "last_layers", 8, 512, ("trainer-autocast",), 1e-4,
         epoch=4, settings={"last_layers": {"count": 4}}, targets={"trainer-autocast": 2.0}),
    Case("gpu-1b-lora", "generation", "mixed", "1b-128k", "lora", 16, 1024, ("trl-default", "trl-best", "trainer-bf16"),
         3e-4, dtype="bfloat16"),
    Case("gpu-1b-full", "generation", "mixed", "1b-128k", "full", 16, 1024, ("trl-default", "trainer-autocast"), 2e-5,
         dtype="bfloat16"),
    Case("gpu-3b-lora", "generation", "mixed", "3b-128k", "lora", 16, 1024, ("trl-default", "trl-best", "trainer-bf16"),
         3e-4, dtype="bfloat16"),
    Case("dry-lora", "generation", "mixed", "tiny-1k", "lora", 4, 256, ("trl-default", "trainer"), 1e-3),
    Case("dry-long", "text", "long", "tiny-1k", "full", 2, 256, ("trl-best",), 1e-3),
    Case("dry-last", "generation", "mixed", "tiny-1k", "last_layers", 4, 256, ("trainer",), 1e-3, epoch=4,
         settings={"last_layers": {"count": 2}}),
    Case("dry-tickets", "classification", "tickets", "tiny-bert", "full", 8, 128, ("trainer",), 1e-3),
)  # fmt: skip

BY_NAME = {case.name: case for case in ALL}
PROFILES: dict[str, tuple[str, ...]] = {
    "quick": ("tickets-minilm-full", "mixed-30m-32k-lora"),
    "standard": tuple(case.name for case in ALL if not case.name.startswith(("gpu", "dry", "mixed-8m"))),
    "gpu": ("gpu-1b-lora", "gpu-1b-full"),
    "dry": ("dry-lora", "dry-long", "dry-last", "dry-tickets"),
}
