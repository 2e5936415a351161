"""How far `finesmith estimate` is from what a run then takes: each in a process of its own, over many configurations.

    python bench/memory.py             # the table, about half an hour on two busy cores
    python bench/memory.py llama-lora  # only configurations whose name holds this

Ends with 1 where an estimate is more than 15 % off.

Models have random weights and real architectures; activations are made to outweigh the libraries. What is measured is
`costs.peak_memory_bytes` of a run: the most that was resident (VmHWM) from step 1 to the kept weights.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TEXT = "my card was swallowed by the machine please help where is my parcel it never came i want money back"
WORDS = TEXT.split()
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 4, "vocab_size": 8000,
                        "num_attention_heads": 6, "num_key_value_heads": 2}),
    "qwen3": ("Qwen3", {"hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 3, "vocab_size": 6000,
                        "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 64,
                        "tie_word_embeddings": True}),
    "bert": ("Bert", {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 4, "vocab_size": 8000,
                      "num_attention_heads": 6}),
}  # fmt: skip
GRID: dict[str, tuple[str, str]] = {
    "llama-full-float32": ("llama", "train.micro_batch_tokens=4096 model.dtype=float32 method=full"),
    "llama-lora-bfloat16": ("llama", "train.micro_batch_tokens=4096 model.dtype=bfloat16 method=lora"),
    "llama-lora-bfloat16-small": ("llama", "train.micro_batch_tokens=1024 model.dtype=bfloat16 method=lora"),
    "llama-full-bfloat16": ("llama", "train.micro_batch_tokens=2048 model.dtype=bfloat16 method=full"),
    "qwen3-lora-float32": ("qwen3", "train.micro_batch_tokens=4096 model.dtype=float32 method=lora"),
    "qwen3-full-float32-again": (
        "qwen3", "train.micro_batch_tokens=4096 model.dtype=float32 method=full speed.checkpointing=on"),
    "qwen3-lora-bfloat16-again": (
        "qwen3", "train.micro_batch_tokens=4096 model.dtype=bfloat16 method=lora speed.checkpointing=on"),
    "qwen3-last_layers-bfloat16": (
        "qwen3", "train.micro_batch_tokens=2048 model.dtype=bfloat16 method=last_layers last_layers.count=1"),
    "qwen3-last_layers-float32-kept": (
        "qwen3", "train.micro_batch_tokens=1024 model.dtype=float32 method=last_layers last_layers.count=2 "
        "train.max_steps=4"),
    "llama-lora-float32-packed": (
        "llama", "train.micro_batch_tokens=2048 model.dtype=float32 method=lora train.packing=true"),
    "bert-full-float32": ("bert", "train.micro_batch_tokens=4096 model.dtype=float32 method=full"),
    "bert-full-bfloat16": ("bert", "train.micro_batch_tokens=2048 model.dtype=bfloat16 method=full"),
    "bert-full-float32-again": (
        "bert", "train.micro_batch_tokens=4096 model.dtype=float32 method=full speed.checkpointing=on"),
    "bert-head-float32": ("bert", "train.micro_batch_tokens=4096 model.dtype=float32 method=head"),
    "llama-full-float32-plain": (
        "llama", "train.micro_batch_tokens=2048 model.dtype=float32 method=full speed.keep_memory=false "
        "speed.packing=false speed.chunked_loss=false"),
    "llama-lora-bfloat16-two": (
        "llama", "train.micro_batch_tokens=4096 model.dtype=bfloat16 method=lora speed.processes=2"),
    "llama-full-bfloat16-two": (
        "llama", "train.micro_batch_tokens=2048 model.dtype=bfloat16 method=full speed.processes=2"),
    "qwen3-lora-float32-two": (
        "qwen3", "train.micro_batch_tokens=4096 model.dtype=float32 method=lora speed.processes=2"),
}  # fmt: skip
COMMON = "model.device=cpu train.max_steps=3 train.evaluations=1 train.max_length=512 train.learning_rate=1e-4"
COMMON += " speed.checkpointing=off speed.processes=1"


def make_model(folder: Path, family: str) -> None:
    """A model of a real architecture with random weights, and a tokenizer of whole words."""
    import torch
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    core = Tokenizer(
        models.WordLevel({word: place for place, word in enumerate(["<pad>", "<s>", "</s>", *WORDS])}, "</s>")
    )
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>", model_max_length=512
    ).save_pretrained(folder)
    name, sizes = FAMILIES[family]
    torch.manual_seed(0)
    sizes = {**sizes, "max_position_embeddings": 512, "pad_token_id": 0}
    if family == "bert":
        transformers.BertForMaskedLM(transformers.BertConfig(**sizes)).save_pretrained(folder)
        return
    config = getattr(transformers, f"{name}Config")(**sizes, bos_token_id=1, eos_token_id=2)
    getattr(transformers, f"{name}ForCausalLM")(config).save_pretrained(folder)


def make_data(path: Path, *, classes: bool) -> None:
    """Sixty rows of some hundred words: pairs, or texts with one of three labels."""
    random_ = random.Random(0)

    def text() -> str:
        return " ".join(random_.choice(WORDS) for _ in range(random_.randint(60, 200)))

    rows = [{"text": text(), "queue": "abc"[n % 3]} if classes else {"prompt": text(), "completion": text()}
            for n in range(60)]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def prepare(folder: Path) -> None:
    """All models and data of the grid."""
    for family in FAMILIES:
        make_model(folder / family, family)
    make_data(folder / "pairs.jsonl", classes=False)
    make_data(folder / "texts.jsonl", classes=True)


def compare(name: str, folder: Path) -> tuple[int, int]:
    """Bytes at the peak of a configuration: as estimated, and as measured of a training in another process."""
    family, settings = GRID[name]
    classes = family == "bert"
    given = [str(folder / ("texts.jsonl" if classes else "pairs.jsonl")), f"model.name={folder / family}"]
    given += [*COMMON.split(), *settings.split(), f"out={folder / f'run-{name}'}"]
    given += [] if classes else ["generation.max_new_tokens=1"]
    estimated = json.loads(_run("-m", "finesmith", "estimate", *given, "--no-probe", "--json"))["peak_memory_bytes"]
    return estimated, int(_run("-c", TRAIN, *given))


TRAIN = """
import os, sys
for cache in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
    os.environ.setdefault(cache, "64")  # as the command line does
from finesmith import measure, recipe, run, stages
from finesmith.runfolder import RunFolder
from finesmith.watch import Watcher
asked = recipe.from_source(sys.argv[1], recipe.parse_assignments(sys.argv[2:]))
prepared, _ = run.begin(asked, Watcher())
folder = RunFolder.create(prepared.recipe.out)
ready = stages.build(prepared.recipe, prepared.splits, Watcher())
print(stages.train(ready, folder, Watcher(), resume=False).peak_memory)
"""
"""A run of `tune` up to the kept weights, without the test at the end."""


def _run(*arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=ROOT, timeout=600)
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    return done.stdout


def main() -> int:
    """Prints the table, and how many are within 15 %; 1 where one is not."""
    wanted = [name for name in GRID if not sys.argv[1:] or sys.argv[1] in name]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        prepare(folder)
        print("| configuration | estimated, MB | measured, MB | ratio | seconds |\n|---|---|---|---|---|")
        ratios = []
        for name in wanted:
            began = time.perf_counter()
            estimated, measured = compare(name, folder)
            ratios.append(estimated / measured)
            print(
                f"| {name} | {estimated / 1e6:,.0f} | {measured / 1e6:,.0f} | {ratios[-1]:.3f} "
                f"| {time.perf_counter() - began:.0f} |",
                flush=True,
            )
    within = sum(abs(ratio - 1) <= 0.15 for ratio in ratios)
    print(f"\n{within} of {len(ratios)} within 15 %")
    return int(within < len(ratios) or not ratios)


if __name__ == "__main__":
    sys.exit(main())
