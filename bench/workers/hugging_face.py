"""What TRL and the plain Trainer share: the model, its adapters, the same rows in the same order, the gate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.workers import facts
from bench.workers.gate import Gate

DTYPES = {"float32": "float32", "bfloat16": "bfloat16"}


def model(folder: Path, job: dict[str, Any], weights: str) -> Any:
    """The job's model as transformers loads it, at the precision `weights`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    dtype = getattr(torch, DTYPES[weights])
    if job["task"] == "classification":
        return AutoModelForSequenceClassification.from_pretrained(
            folder / "model", dtype=dtype, num_labels=job["classes"]
        )
    return AutoModelForCausalLM.from_pretrained(folder / "model", dtype=dtype)


def lora(job: dict[str, Any]) -> Any:
    """The adapters that Finesmith's recipe asks for, in PEFT's words."""
    from peft import LoraConfig

    return LoraConfig(task_type="CAUSAL_LM", r=job["rank"], lora_alpha=job["alpha"], lora_dropout=0.0,
                      target_modules="all-linear")  # fmt: skip


def freeze(model: Any, folder: Path) -> None:
    """Leaves exactly the weights open that Finesmith moves (head, last layers)."""
    from safetensors import safe_open

    with safe_open(folder / "start.safetensors", framework="pt") as file:
        names = set(file.keys())
    for name, weight in model.named_parameters():
        weight.requires_grad_(name in names)


def ordered(folder: Path, job: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows in the order in which the steps take them.

    Raises:
        ValueError: a step with fewer rows than the others, which the Trainer would fill up.
    """
    rows = facts.rows(folder)
    if {len(batch) for batch in job["batches"]} != {job["batch_size"]}:
        raise ValueError("the last step of an epoch has fewer rows: choose a number of rows that the batch divides")
    return [rows[row] for batch in job["batches"] for row in batch]


def arguments(folder: Path, job: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Trainer arguments that make its optimizer and order those of the job; `options` override them."""
    return {
        "output_dir": str(folder / "peer"),
        "max_steps": job["steps"] + 1,
        "per_device_train_batch_size": job["batch_size"],
        "learning_rate": job["learning_rate"],
        "lr_scheduler_type": "constant",
        "warmup_steps": 0,
        "weight_decay": 0.01,
        "max_grad_norm": 1.0,
        "train_sampling_strategy": "sequential",
        "use_cpu": job["device"] == "cpu",
        "seed": 0,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        **options,
    }


def run(trainer: Any, folder: Path, gate: Gate) -> None:
    """Puts the starting values in, hangs the gate into the log, trains."""
    from transformers import TrainerCallback

    facts.start(folder, trainer.model)
    precision = facts.Precision(trainer.model)
    seen: dict[str, str] = {}

    class Step(TrainerCallback):
        """A step is over when the Trainer has logged it."""

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **more: Any) -> None:
            if logs and "loss" in logs:
                gate.step(float(logs["loss"]), float(logs["grad_norm"]))

    def look() -> dict[str, Any]:
        if not seen:
            seen.update(precision.describe(trainer.optimizer))
        checkpointing = bool(trainer.args.gradient_checkpointing)
        return {**seen, "autocast": str(bool(trainer.args.bf16)).lower(), "checkpointing": str(checkpointing).lower()}

    trainer.add_callback(Step())
    gate.ready(look)
    trainer.train()
