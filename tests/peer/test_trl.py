"""The same LoRA run in TRL + PEFT has the same loss curve. Not in `make test`: TRL wants its own environment.

    python3.11 -m venv /tmp/peer && /tmp/peer/bin/pip install -c constraints.txt torch==2.13.0
    /tmp/peer/bin/pip install -c constraints.txt trl peft pytest pytest-timeout -e .
    FINESMITH_PEER_MODEL=FOLDER /tmp/peer/bin/python -m pytest tests/peer -m peer -s

Equal on both sides: the weights at the start (A is copied, B is zero), the tokens and which of them are learnt, the
rows of every step and their order, AdamW's numbers, the schedule, the clipping; all in float32. TRL's own code does the
rest: the labels, padding, loss, accumulation, optimizer.
"""

import os
from importlib.metadata import version
from itertools import chain

import pytest

from finesmith import recipe as recipes
from finesmith import run, stages
from finesmith.runfolder import RunFolder
from finesmith.train.batches import Plan
from finesmith.watch import Watcher
from tests.conftest import clause_rows, write_jsonl

pytestmark = pytest.mark.peer

STEPS, BATCH = 48, 8
LIMIT = 1e-4
"""Nats. In float32 the order of a sum makes about 1e-6, which training may multiply."""


@pytest.fixture(scope="module")
def ours(models, tmp_path_factory):
    """What both must start from, and the losses of our run."""
    folder = tmp_path_factory.mktemp("ours")
    recipe = recipes.make(
        {
            "data": {"path": str(write_jsonl(folder / "rows.jsonl", clause_rows(160)))},
            "model": {
                "name": os.environ.get("FINESMITH_PEER_MODEL") or models("llama"),
                "dtype": "float32",
                "device": "cpu",
            },
            "train": {
                "max_steps": STEPS,
                "batch_size": BATCH,
                "learning_rate": 5e-3,
                "warmup": 0.0,
                "weight_decay": 0.1,
                "clip": 0.5,
                "keep": "last",
                "patience": None,
                "evaluations": 1,
            },
            "generation": {"max_new_tokens": 2},
            "lora": {"rank": 8, "alpha": 16.0},
            "out": str(folder / "run"),
        }
    )
    prepared = run.prepare(recipe)
    ready = stages.build(prepared.recipe, prepared.splits, Watcher())
    start = {name: weight.detach().clone() for name, weight in ready.model.named_parameters() if weight.requires_grad}
    result = run.tune(recipe)
    steps = list(RunFolder(result.path).read_lines("steps.jsonl"))
    return ready, start, [step["loss"] for step in steps], [step["gradient_norm"] for step in steps]


def theirs(ready, start, out, *, micro_batch):
    """Losses and gradient norms of the same run in TRL."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM
    from trl import SFTConfig, SFTTrainer

    plan = Plan(ready.data.lengths, BATCH, ready.recipe.seed)
    assert len(ready.data) % BATCH == 0, "TRL fills a step up with rows of the next epoch; ours is then shorter"
    epochs = -(-STEPS // plan.steps_per_epoch)
    order = list(chain.from_iterable(chain.from_iterable(plan.epoch(number) for number in range(epochs))))
    items = [ready.data[position] for position in order[: STEPS * BATCH]]
    rows = {
        "input_ids": [item.tokens.tolist() for item in items],
        "completion_mask": [(item.weights > 0).astype(int).tolist() for item in items],
    }
    asked = ready.recipe
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(asked.model.name, dtype=torch.float32),
        processing_class=ready.loaded.tokenizer,
        train_dataset=Dataset.from_dict(rows),
        peft_config=LoraConfig(
            task_type="CAUSAL_LM",
            r=asked.lora.rank,
            lora_alpha=asked.lora.alpha,
            lora_dropout=0.0,
            target_modules="all-linear",
        ),
        args=SFTConfig(
            output_dir=str(out),
            max_steps=STEPS,
            per_device_train_batch_size=micro_batch,
            gradient_accumulation_steps=BATCH // micro_batch,
            learning_rate=asked.train.learning_rate,
            lr_scheduler_type="linear",
            warmup_steps=0,
            weight_decay=asked.train.weight_decay,
            adam_beta2=asked.train.beta2,
            max_grad_norm=asked.train.clip,
            completion_only_loss=True,
            max_length=None,
            packing=False,
            train_sampling_strategy="sequential",
            gradient_checkpointing=False,
            bf16=False,
            use_cpu=True,
            seed=0,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
    )
    moving = {name: weight for name, weight in trainer.model.named_parameters() if weight.requires_grad}
    assert moving.keys() == start.keys()
    with torch.no_grad():
        for name, weight in moving.items():
            weight.copy_(start[name])
    trainer.train()
    log = [entry for entry in trainer.state.log_history if "loss" in entry]
    return [float(entry["loss"]) for entry in log], [float(entry["grad_norm"]) for entry in log]


@pytest.mark.parametrize("micro_batch", [BATCH, 2])
def test_the_loss_curve_is_that_of_trl(ours, tmp_path, micro_batch):
    pytest.importorskip("trl")
    ready, start, losses, norms = ours
    their_losses, their_norms = theirs(ready, start, tmp_path, micro_batch=micro_batch)
    assert len(their_losses) == len(losses) == STEPS
    apart = [abs(a - b) for a, b in zip(losses, their_losses, strict=True)]
    norms_apart = [abs(a - b) / b for a, b in zip(norms, their_norms, strict=True)]
    versions = ", ".join(f"{name} {version(name)}" for name in ("trl", "peft", "transformers", "torch"))
    print(
        f"\n{STEPS} steps of {BATCH} rows in passes of {micro_batch}: loss {losses[0]:.4f} to {losses[-1]:.4f} nats, "
        f"at most {max(apart):.1e} apart; gradient norms at most {max(norms_apart):.1e} (relative); {versions}"
    )
    assert max(apart) < LIMIT
    assert max(norms_apart) < 1e-3
    assert losses[-1] < losses[0] - 0.3, "it must have learnt something for the comparison to mean anything"
