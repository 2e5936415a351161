"""The plain Hugging Face Trainer, with PEFT where the case asks for adapters."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.workers import facts, hugging_face
from bench.workers.gate import Gate


def main(folder: Path, system: dict[str, Any]) -> None:
    from transformers import Trainer, TrainingArguments

    job = facts.job(folder)
    gate = Gate(job["device"])
    model = hugging_face.model(folder, job, system["weights"])
    if job["method"] == "lora":
        from peft import get_peft_model

        model = get_peft_model(model, hugging_face.lora(job))
    elif job["method"] != "full":
        hugging_face.freeze(model, folder)
    options = {"remove_unused_columns": False, **system["options"]}
    trainer = Trainer(
        model=model,
        args=TrainingArguments(**hugging_face.arguments(folder, job, options)),
        train_dataset=hugging_face.ordered(folder, job),
        data_collator=lambda batch: collate(batch, job["pad_id"]),
    )
    hugging_face.run(trainer, folder, gate)


def collate(batch: Sequence[dict[str, Any]], pad_id: int) -> dict[str, Any]:
    """Pads to the longest row of the batch, as the library's own collators do."""
    import torch

    width = max(len(row["tokens"]) for row in batch)
    tokens = torch.tensor([row["tokens"] + [pad_id] * (width - len(row["tokens"])) for row in batch])
    mask = torch.tensor([[1] * len(row["tokens"]) + [0] * (width - len(row["tokens"])) for row in batch])
    if batch[0]["target"] >= 0:
        return {"input_ids": tokens, "attention_mask": mask, "labels": torch.tensor([row["target"] for row in batch])}
    learnt = torch.tensor([row["learnt"] + [0] * (width - len(row["learnt"])) for row in batch])
    return {"input_ids": tokens, "attention_mask": mask, "labels": tokens.masked_fill(learnt == 0, -100)}


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
