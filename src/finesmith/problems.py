"""What is wrong with a setting, in words: where it stands, what was given, what was wanted, the nearest name."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pydantic import BaseModel

from finesmith.errors import nearest

WANTED = {"model_type": "a section of settings", "dict_type": "pairs, such as {text: body}"}
"""What a setting should be, where pydantic's words are not ours."""

OTHERS = {
    "train.epochs": "n_epochs num_epochs num_train_epochs nb_epochs",
    "train.learning_rate": "lr learning_rate_multiplier",
    "train.batch_size": "micro_batch_size per_device_train_batch_size per_device_batch_size "
    "gradient_accumulation_steps",
    "train.max_length": "sequence_len seq_length max_seq_length max_seq_len cutoff_len context_length n_ctx",
    "train.max_steps": "num_steps iters",
    "train.warmup": "warmup_steps warmup_ratio",
    "train.schedule": "lr_scheduler lr_scheduler_type",
    "train.optimizer": "optim",
    "train.clip": "max_grad_norm gradient_clipping",
    "train.beta2": "adam_beta2",
    "train.evaluations": "eval_steps eval_strategy evaluation_strategy evals_per_epoch",
    "train.patience": "early_stopping early_stopping_patience",
    "train.keep": "load_best_model_at_end",
    "train.save_minutes": "save_steps save_strategy saves_per_epoch",
    "train.packing": "sample_packing pack",
    "data.path": "dataset datasets dataset_name training_file train_file train_dataset training_data train_data",
    "data.validation": "validation_file valid_file val_file eval_file eval_dataset val_set_size val_size test_size "
    "eval_split",
    "data.test": "test_file test_dataset",
    "model.name": "base_model model_id model_name_or_path pretrained_model_name_or_path",
    "model.dtype": "bf16 fp16 torch_dtype precision",
    "model.quantize": "load_in_4bit load_in_8bit quantization bnb_4bit_quant_type",
    "model.attention": "attn_implementation flash_attention flash_attn",
    "lora.rank": "lora_r r peft_r",
    "lora.target_modules": "lora_target lora_target_linear",
    "generation.template": "chat_template chat_template_path chat_template_jinja",
    "generation.max_new_tokens": "max_tokens max_completion_tokens",
    "speed.checkpointing": "gradient_checkpointing use_gradient_checkpointing",
    "method": "peft use_lora use_peft finetuning_type",
    "out": "output_dir output suffix",
    "seed": "random_seed data_seed",
    "track": "report_to integrations wandb_project",
}
"""Our settings, and what OpenAI, TRL, PEFT, Axolotl and others call the same."""

REMARKS = {
    "train.learning_rate": "the rate itself",
    "train.batch_size": "all rows of one step, however many go at once",
    "train.warmup": "a share of the steps",
    "train.save_minutes": "in minutes",
    "data.path": "on the command line the first word",
    "data.validation": "a share of the rows, or a file",
    "model.dtype": "bfloat16, float16 or float32",
    "model.quantize": "nf4 or int8",
    "lora.target_modules": "empty: all linear layers",
    "generation.template": "auto, chat or plain; one of your own is chat_template.jinja in the model's folder",
    "out": "the run folder",
}
"""What is said of a setting beside its name, where another tool means something else by its own."""

WAYS_OUT = {
    "generation.template": "A template of your own is the file chat_template.jinja in the model's folder.",
}
"""What is said of a value that a setting does not take, where what is wanted is had otherwise."""

CLOSE = 0.75
"""Likeness (0..1, of difflib) from which a setting of another section is meant."""


def explain_all(items: Iterable[Any], known: type[BaseModel]) -> list[tuple[list[str], str]]:
    """Key and sentence of each setting that is wrong; where it may be of several kinds, what each kind wants."""
    by_path: dict[tuple[str, ...], list[Any]] = {}
    for item in items:
        by_path.setdefault(tuple(str(part) for part in item["loc"] if not _is_branch(part)), []).append(item)
    return [(list(path), _explain(list(path), found, known)) for path, found in by_path.items()]


def _explain(path: list[str], items: list[Any], known: type[BaseModel]) -> str:
    key = ".".join(path)
    if items[0]["type"] == "extra_forbidden":
        return f"unknown setting '{key}'. {_meant(path, known)}"
    if items[0]["type"] == "missing":
        return f"'{key}' is missing."
    if any(item["type"].startswith(("greater", "less")) for item in items):
        items = [item for item in items if item["type"] != "string_type"]  # a number that is too large is no text
    shown = json.dumps(items[0]["input"], default=str)[:60]
    if ":" in key and items[0]["input"] is None:
        return f"'{key}' has no value: YAML wants a space after the colon."
    wanted = " or ".join(WANTED.get(item["type"], item["msg"].removeprefix("Input should be ")) for item in items)
    return f"'{key}' is {shown}: it should be {wanted}. {WAYS_OUT.get(key, '')}".rstrip()


def _meant(path: list[str], known: type[BaseModel]) -> str:
    """The nearest setting; for a setting that stands in the wrong section, the right one."""
    elsewhere = [
        f"{section}.{path[-1]}"
        for section, field in known.model_fields.items()
        if path[-1] in getattr(field.annotation, "model_fields", ())
    ]
    if elsewhere:
        return f"Did you mean '{elsewhere[0]}'?"
    here = _fields_at(path[:-1], known)
    setting, remark, likeness = meant_by(path[-1], known)
    if setting and likeness > max((_likeness(path[-1], name) for name in here), default=0.0):
        return f"Did you mean '{setting}'{f' ({remark})' if remark else ''}?"
    return nearest(path[-1], here)


def meant_by(name: str, known: type[BaseModel]) -> tuple[str, str, float]:
    """The setting that another tool calls so or that is nearest to a name, what to say of it, and how near it is.

    All empty where none is near enough.
    """
    wanted = name.lower().replace("-", "_")
    for setting, names in OTHERS.items():
        if wanted in names.split():
            return setting, REMARKS.get(setting, ""), 1.0
    likeness, setting = max((_likeness(wanted, name), setting) for setting, name in _names(known))
    return (setting, "", likeness) if likeness >= CLOSE else ("", "", 0.0)


def _names(known: type[BaseModel]) -> Iterator[tuple[str, str]]:
    """Every setting with its dots, beside each name by which it may be meant: `rank`, `lora_rank`."""
    for section, field in known.model_fields.items():
        yield section, section
        for name in getattr(field.annotation, "model_fields", ()):
            yield from ((f"{section}.{name}", name), (f"{section}.{name}", f"{section}_{name}"))


def _likeness(given: str, name: str) -> float:
    return difflib.SequenceMatcher(None, given.lower(), name).ratio()


def _is_branch(part: Any) -> bool:
    """Pydantic names the branch of a union in `loc` (`float`, `literal['auto']`, ...); those are not keys."""
    return isinstance(part, str) and (
        part in {"float", "int", "str", "none"} or part.startswith(("literal[", "constrained"))
    )


def _fields_at(path: list[str], known: type[BaseModel]) -> list[str]:
    owner: Any = known
    for part in path:
        owner = owner.model_fields[part].annotation
    return list(owner.model_fields)


def place(path: Sequence[str], source: str, document: Any) -> str:
    """`file:line: ` of a key, or nothing when the value did not come from a file."""
    number = line(path, document)
    return f"{source}:{number}: " if source and number else (f"{source}: " if source else "")


def line(path: Sequence[str], document: Any) -> int:
    """The line of a key in a YAML document, or of the section that lacks it; 0 where neither stands there."""
    found, node = 0, document
    for key in path:
        if not hasattr(node, "lc") or key not in node:
            return found
        found, node = node.lc.key(key)[0] + 1, node[key]
    return found
