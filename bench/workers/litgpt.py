"""LitGPT: its GPT with its adapters, its chunked head and cross-entropy, under Lightning Fabric.

Its own `fit` takes no batches from outside and reports no gradient norm, so its loop body is written again here: same
calls in the same order, plus the clipping that all systems do. It does not tie input and output embeddings, so only
adapters can be compared.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.workers import facts, trainer
from bench.workers.gate import Gate


def main(folder: Path, system: dict[str, Any]) -> None:
    import lightning
    import torch
    from litgpt.lora import GPT, mark_only_lora_as_trainable

    job = facts.job(folder)
    if job["method"] != "lora":
        raise SystemExit("LitGPT unties the embeddings, so only adapters can be compared.")
    gate = Gate(job["device"])
    fabric = lightning.Fabric(devices=1, accelerator=job["device"], precision=system["options"]["precision"])
    with fabric.init_module(empty_init=False):
        model = GPT(config(folder, job))
    mark_only_lora_as_trainable(model)
    rows = facts.rows(folder)
    model.max_seq_length = max(len(row["tokens"]) for row in rows)
    model.load_state_dict(dict(weights(folder, model)), strict=False)
    model = fabric.setup_module(model)
    groups = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = fabric.setup_optimizers(torch.optim.AdamW(groups, lr=job["learning_rate"], weight_decay=0.01))
    precision = facts.Precision(model)
    gate.ready(lambda: {**precision.describe(optimizer.optimizer), "autocast": "false", "checkpointing": "false"})
    for batch in job["batches"]:
        inputs = trainer.collate([rows[row] for row in batch], job["pad_id"])
        gate.step(*step(fabric, model, optimizer, {name: fabric.to_device(value) for name, value in inputs.items()}))


def step(fabric: Any, model: Any, optimizer: Any, inputs: dict[str, Any]) -> tuple[float, float]:
    """One optimizer step, as in litgpt/finetune/lora.py; its loss and gradient norm."""
    from litgpt.utils import chunked_cross_entropy

    logits = model(inputs["input_ids"], lm_head_chunk_size=128)
    logits[-1] = logits[-1][..., :-1, :]
    loss = chunked_cross_entropy(logits, inputs["labels"][..., 1:])
    fabric.backward(loss)
    norm = fabric.clip_gradients(model, optimizer, max_norm=1.0)
    optimizer.step()
    optimizer.zero_grad()
    return float(loss.detach()), float(norm)


def config(folder: Path, job: dict[str, Any]) -> Any:
    """The job's geometry in LitGPT's words."""
    from litgpt.lora import Config

    given = json.loads((folder / "model" / "config.json").read_text(encoding="utf-8"))
    theta = given.get("rope_theta") or given["rope_parameters"]["rope_theta"]
    return Config(
        name="bench", block_size=given["max_position_embeddings"], vocab_size=given["vocab_size"],
        padded_vocab_size=given["vocab_size"], n_layer=given["num_hidden_layers"], n_embd=given["hidden_size"],
        n_head=given["num_attention_heads"], n_query_groups=given["num_key_value_heads"], rotary_percentage=1.0,
        parallel_residual=False, bias=False, norm_class_name="RMSNorm", mlp_class_name="LLaMAMLP",
        intermediate_size=given["intermediate_size"], norm_eps=given["rms_norm_eps"], rope_base=int(theta),
        lora_r=job["rank"], lora_alpha=int(job["alpha"]), lora_dropout=0.0, lora_query=True, lora_key=True,
        lora_value=True, lora_projection=True, lora_mlp=True, lora_head=False,
    )  # fmt: skip


def weights(folder: Path, model: Any) -> Iterator[tuple[str, Any]]:
    """LitGPT's names and tensors: the base through LitGPT's own conversion, A of each adapter from the job's start."""
    import torch
    from litgpt.scripts.convert_hf_checkpoint import copy_weights_hf_llama
    from safetensors.torch import load_file

    base: dict[str, Any] = {}
    copy_weights_hf_llama(model.config, {}, base, load_file(folder / "model" / "model.safetensors"))
    linear = {name.removesuffix(".linear.weight") for name in model.state_dict() if name.endswith(".linear.weight")}
    for name, value in base.items():
        stem = name.removesuffix(".weight")
        yield (f"{stem}.linear.weight" if stem in linear else name), value
    start = load_file(folder / "start.safetensors")
    for layer in range(model.config.n_layer):
        place = f"base_model.model.model.layers.{layer}"
        for ours, theirs in ADAPTED.items():
            parts = [start[f"{place}.{name}.lora_A.default.weight"] for name in theirs]
            yield f"transformer.h.{layer}.{ours}.lora_A", torch.cat(parts)


ADAPTED = {
    "attn.qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attn.proj": ("self_attn.o_proj",),
    "mlp.fc_1": ("mlp.gate_proj",),
    "mlp.fc_2": ("mlp.up_proj",),
    "mlp.proj": ("mlp.down_proj",),
}


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
