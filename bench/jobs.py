"""One case as files that every worker reads: model folder, token ids, which of them are learnt, the batches, the start.

Finesmith encodes and orders the rows; the peers get the same ids, loss masks, batches and first values of the weights
that move.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench import rows as row_sets
from bench.cases import MODELS, Case

RANK, ALPHA = 16, 32.0
MARGIN = 32
"""Tokens that a template may add to a row."""
HELD_OUT = 8
"""Rows for validation and test together: a run wants some, the benchmark ends before they are read."""


@dataclass(frozen=True)
class Job:
    """A case with a seed, ready to be run by anyone. `source` says where the rows come from."""

    folder: Path
    case: Case
    seed: int
    source: str
    batches: list[list[int]]
    lengths: list[int]
    supervised: list[float]

    def tokens(self, start: int, steps: int) -> int:
        """Useful (non-padding) tokens in `steps` steps from step `start`."""
        return sum(self.lengths[row] for batch in self.batches[start : start + steps] for row in batch)

    def shape(self) -> dict[str, float]:
        """Mean and longest row in tokens, the share that is learnt, and padding as share of the padded batch."""
        padded = sum(len(batch) * max(self.lengths[row] for row in batch) for batch in self.batches)
        total = self.tokens(0, len(self.batches))
        return {
            "mean_length": float(np.mean(self.lengths)),
            "longest": float(max(self.lengths)),
            "supervised": float(sum(self.supervised) / sum(self.lengths)),
            "padding": 1 - total / padded,
        }


def use_order(order: str) -> None:
    """Which rows meet in a step: `grouped`, as Finesmith ships (rows of like length), or `shuffled`, as peers do alone.

    Both sides always get the same order; grouped spares a peer that pads most of its padding.
    """
    from finesmith.train import batches

    if order == "shuffled":
        batches.BUCKET = 1


def build(case: Case, folder: Path, *, data: Path | None, seed: int, steps: int, device: str, order: str) -> Job:
    """Writes the job's files.

    Raises:
        SystemExit: too few rows for one epoch of the case.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows, source = row_sets.load(case.rows, data)
    tokenizer = _tokenizer([text for row in rows for text in row.values()], case)
    _model(case, folder / "model", tokenizer, seed)
    chosen = _fitting(rows, tokenizer, case)
    wanted = min(case.epoch, steps) * case.batch
    if len(chosen) < wanted:
        chosen = (chosen * (wanted // max(1, len(chosen)) + 1))[:wanted] if chosen else []
    if not chosen:
        raise SystemExit(f"No row of '{case.rows}' fits into {case.max_length} tokens.")
    _write_rows(folder / "rows", chosen[:wanted], chosen[wanted : wanted + HELD_OUT] or chosen[-HELD_OUT:])
    settings = _recipe(case, folder, seed, steps, device)
    (folder / "recipe.json").write_text(json.dumps(settings), encoding="utf-8")
    use_order(order)
    return _export(ready_from(folder), folder, case, seed, steps, source, order)


def ready_from(folder: Path, speed: Mapping[str, Any] | None = None) -> Any:
    """Finesmith's own model and training sequences for a job (`finesmith.stages.Ready`), with other speed settings."""
    from finesmith import recipe as recipes
    from finesmith import run, stages
    from finesmith.watch import Watcher

    recipe = recipes.make(json.loads((folder / "recipe.json").read_text(encoding="utf-8")))
    prepared = run.prepare(recipe.replace(speed=dict(speed or {})))
    return stages.build(prepared.recipe, prepared.splits, Watcher())


def _recipe(case: Case, folder: Path, seed: int, steps: int, device: str) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "data": {"path": str(folder / "rows")},
        "task": case.task,
        "model": {"name": str(folder / "model"), "dtype": case.dtype, "device": device},
        "method": case.method,
        "train": {
            "max_steps": steps + 1,  # never reached: the run ends before its evaluation
            "batch_size": case.batch,
            "max_length": case.max_length,
            "learning_rate": case.learning_rate,
            "schedule": "constant",
            "warmup": 0.0,
            "weight_decay": 0.01,
            "clip": 1.0,
            "evaluations": 1,
            "patience": None,
            "keep": "last",
            "save_minutes": 1e6,
        },
        "out": str(folder / "run"),
        "seed": seed,
        **case.settings,
    }
    if case.method == "lora":
        settings["lora"] = {"rank": RANK, "alpha": ALPHA, **case.settings.get("lora", {})}
    if case.task == "classification":
        settings["classification"] = {"head_first": False}
    return settings


def _export(ready: Any, folder: Path, case: Case, seed: int, steps: int, source: str, order: str) -> Job:
    from safetensors.torch import save_file

    from finesmith.train.batches import Plan

    items = [ready.data[position] for position in range(len(ready.data))]
    plan = Plan(ready.data.lengths, case.batch, seed)
    batches = list(_batches(plan, steps))
    weights = [np.ones(len(item.tokens), np.float32) if item.weights is None else item.weights for item in items]
    np.savez(
        folder / "items.npz",
        tokens=np.concatenate([item.tokens for item in items]),
        weights=np.concatenate(weights),
        lengths=np.asarray([len(item.tokens) for item in items]),
        targets=np.asarray([-1 if item.target is None else int(item.target) for item in items]),
    )
    moving = {name: value for name, value in ready.model.named_parameters() if value.requires_grad}
    save_file({name: value.detach().float().cpu().contiguous() for name, value in moving.items()},
              folder / "start.safetensors")  # fmt: skip
    facts = {
        "case": case.name, "seed": seed, "task": case.task, "method": case.method, "steps": steps,
        "batch_size": case.batch, "learning_rate": case.learning_rate, "rank": RANK, "alpha": ALPHA,
        "classes": len(set(ready.task.load_arguments().get("labels", ()))), "batches": batches,
        "pad_id": ready.loaded.tokenizer.pad_token_id, "device": ready.loaded.device.type, "hash": digest(items),
        "order": order,
    }  # fmt: skip
    (folder / "job.json").write_text(json.dumps(facts), encoding="utf-8")
    lengths, supervised = list(ready.data.lengths), [float(value) for value in ready.data.supervised]
    return Job(folder, case, seed, source, batches, lengths, supervised)


def digest(items: Sequence[Any]) -> str:
    """A hash of the token ids of all sequences, so that a worker can prove that it trains on the job's."""
    return hashlib.sha256(b"".join(np.asarray(item.tokens, np.int32).tobytes() for item in items)).hexdigest()


def _batches(plan: Any, steps: int) -> Iterator[list[int]]:
    for step in range(steps + 1):
        epoch, place = divmod(step, plan.steps_per_epoch)
        batches = plan.epoch(epoch)
        yield [int(row) for row in batches[place]]


def _fitting(rows: Sequence[row_sets.Row], tokenizer: Any, case: Case) -> list[row_sets.Row]:
    """Rows that fit; a long text is cut to exactly one window of the case's length."""
    kept = []
    for row in rows:
        if len(kept) == case.epoch * case.batch + HELD_OUT:
            break
        texts = [text for key, text in row.items() if key != "label"]
        ids = tokenizer("\n".join(texts), add_special_tokens=False)["input_ids"]
        if case.rows == "long":
            kept.append({"text": tokenizer.decode(ids[: case.max_length - MARGIN])})
        elif len(ids) + MARGIN <= case.max_length:
            kept.append(dict(row))
    return kept


def _write_rows(folder: Path, train: Sequence[row_sets.Row], rest: Sequence[row_sets.Row]) -> None:
    folder.mkdir(exist_ok=True)
    labels = {row["label"] for row in train if "label" in row}
    known = [row for row in rest if row.get("label") is None or row["label"] in labels] or list(train[:2])
    for part, content in (("train", train), ("validation", known[0::2]), ("test", known[1::2] or known)):
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in content)
        (folder / f"{part}.jsonl").write_text(text, encoding="utf-8")


def _tokenizer(texts: Sequence[str], case: Case) -> Any:
    """A byte-level BPE of these texts, no larger than the model's vocabulary; an encoder gets [CLS] and [SEP]."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<unk>", "<end>", "<start>"]
    size = min(int(MODELS[case.model]["vocab_size"]), 32768)
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=special, initial_alphabet=alphabet,
                                  show_progress=False)  # fmt: skip
    tokenizer.train_from_iterator(texts[:4000], trainer)
    if case.task == "classification":
        ends = [(name, tokenizer.token_to_id(name)) for name in ("<start>", "<end>")]
        tokenizer.post_processor = processors.BertProcessing(ends[1], ends[0])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", eos_token="<end>",
                                   bos_token="<start>", model_max_length=8192)  # fmt: skip


def _model(case: Case, folder: Path, tokenizer: Any, seed: int) -> None:
    """Random weights of a real architecture, with the tokenizer, as `save_pretrained` writes them."""
    import torch
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

    arguments = dict(MODELS[case.model])
    config = AutoConfig.for_model(arguments.pop("model_type"), **arguments, pad_token_id=tokenizer.pad_token_id,
                                  bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id)  # fmt: skip
    torch.manual_seed(seed)
    kind = AutoModel if case.task == "classification" else AutoModelForCausalLM
    kind.from_config(config, dtype=torch.float32).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
