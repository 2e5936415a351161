"""What the embedded model is, read from its files without torch, and which larger model to name instead."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

EMBEDDED = Path(__file__).parent / "base"
"""The folder of the embedded model: config, weights and tokenizer as transformers reads them."""

ADVICE = (
    (
        "up to 150 M",
        "encoders, for labels on a CPU: sentence-transformers/all-MiniLM-L6-v2, answerdotai/ModernBERT-base",
    ),
    (
        "0.1 to 0.6 B",
        "decoders, for text on a laptop with lora: HuggingFaceTB/SmolLM2-135M, Qwen/Qwen3-0.6B",
    ),
    ("1 to 4 B", "decoders, lora on a GPU with 16 GB: Qwen/Qwen3-1.7B, Qwen/Qwen3-4B"),
    ("7 to 9 B", "decoders, lora on a GPU with 40 GB: Qwen/Qwen3-8B"),
)
"""Size to what it is good for. lora holds about 2 bytes a frozen weight, full fine-tuning 16 bytes a weight."""


def facts() -> dict[str, Any]:
    """`parameters`, `context` (tokens), `vocabulary`, `bytes` of the weights; empty where this copy carries none."""
    weights = EMBEDDED / "model.safetensors"
    if not weights.exists():
        return {}
    config = json.loads((EMBEDDED / "config.json").read_text(encoding="utf-8"))
    return {
        "parameters": sum(math.prod(tensor["shape"]) for name, tensor in _header(weights).items() if name[0] != "_"),
        "context": config["max_position_embeddings"],
        "vocabulary": config["vocab_size"],
        "bytes": weights.stat().st_size,
    }


def lines() -> Iterator[tuple[str, str]]:
    """How to name a model, and one line about it; then advice by size."""
    found = facts()
    if found:
        yield (
            "embedded",
            f"the small English decoder that ships with Finesmith: {found['parameters'] / 1e6:.1f} M parameters, "
            f"context {found['context']} tokens, {found['bytes'] / 1e6:.1f} MB, Apache-2.0; needs no hub; "
            f"in {EMBEDDED}",
        )
    yield "owner/name", "any encoder or decoder on the hub that transformers knows: --model Qwen/Qwen3-0.6B"
    yield "FOLDER", "a local folder with config.json, model.safetensors and tokenizer.json: --model ./my-model"
    yield from ADVICE


def _header(path: Path) -> dict[str, Any]:
    """The table of contents of a safetensors file: its length in 8 bytes, then JSON."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        return json.loads(file.read(length))
