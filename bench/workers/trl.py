"""TRL's SFTTrainer with PEFT: its own labels, collator, loss and optimizer step."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from bench.workers import facts, hugging_face
from bench.workers.gate import Gate


def main(folder: Path, system: dict[str, Any]) -> None:
    import trl
    from datasets import Dataset
    from transformers import AutoTokenizer

    job = facts.job(folder)
    gate = Gate(job["device"])
    rows = hugging_face.ordered(folder, job)
    data = {"input_ids": [row["tokens"] for row in rows], "completion_mask": [row["learnt"] for row in rows]}
    options = {"completion_only_loss": True, "max_length": None, "packing": False,
               "padding_free": system["padding_free"], **system["options"]}  # fmt: skip
    model = hugging_face.model(folder, job, system["weights"])
    adapters = hugging_face.lora(job) if job["method"] == "lora" else None
    if job["method"] not in ("lora", "full"):
        hugging_face.freeze(model, folder)
    trainer = trl.SFTTrainer(
        model=model,
        processing_class=AutoTokenizer.from_pretrained(folder / "model"),
        train_dataset=Dataset.from_dict(data),
        peft_config=adapters,
        args=trl.SFTConfig(**hugging_face.arguments(folder, job, options)),
        **({"compute_loss_func": native_loss} if system["native_loss"] else {}),
    )
    hugging_face.run(trainer, folder, gate)


def native_loss(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
    """Cross-entropy on all logits at once, in float32, over the step's supervised tokens."""
    import torch.nn.functional as F

    logits = outputs.logits[:, :-1].float()
    total = F.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100, reduction="sum")
    return total / num_items_in_batch


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
