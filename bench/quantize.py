"""What a quantised base costs and saves: LoRA on a random Llama of 31 M weights, each precision in its own process.

    python bench/quantize.py TEXT [--rounds 2] [--steps 20] [--rows 2] [--device cpu]

TEXT is JSONL with documents. Prints a Markdown table: time of a step (the fastest of the rounds for each step, then the
median), what the frozen weights take, peak memory of training (resident on a CPU, allocated on CUDA), and the losses,
which start from the same weights and see the same rows. Needs the extra `bitsandbytes`.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

MODES = [("float32", "none"), ("float32", "nf4"), ("float32", "int8")]
MODES += [("bfloat16", "none"), ("bfloat16", "nf4"), ("bfloat16", "int8")]

COLUMNS = ["arithmetic", "base", "its weights, MB", "step, s", "peak memory, MB"]
COLUMNS += ["loss, step 1", "loss, last step", "largest difference"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rows", type=int, default=2, help="rows of 256 tokens in a step")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--one", nargs=2, metavar=("DTYPE", "QUANTIZE"), help=argparse.SUPPRESS)
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options)))
        return
    with tempfile.TemporaryDirectory() as folder:
        make_model(Path(folder))
        found: dict[tuple[str, str], list[dict[str, Any]]] = {mode: [] for mode in MODES}
        print(f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|", sep="\n", flush=True)
        for number in range(options.rounds):  # the modes take turns, so that other work on the machine does not decide
            for mode in MODES:
                found[mode].append(in_a_process(mode, folder))
                if number == options.rounds - 1:
                    print(row(mode, found[mode], found[mode[0], "none"][0]["losses"]), flush=True)


def row(mode: tuple[str, str], runs: list[dict[str, Any]], plain: list[float]) -> str:
    losses = runs[0]["losses"]
    apart = max(abs(a - b) for a, b in zip(losses, plain, strict=True))
    seconds = statistics.median(map(min, zip(*(run["seconds"] for run in runs), strict=True)))
    memory = min(run["memory"] for run in runs) / 1e6
    cells = [*mode, f"{runs[0]['weights'] / 1e6:.1f}", f"{seconds:.2f}", f"{memory:.0f}"]
    cells += [f"{loss:.4f}" for loss in (losses[0], losses[-1], apart)]
    return f"| {' | '.join(cells)} |"


def in_a_process(mode: tuple[str, str], model: str) -> dict[str, Any]:
    command = [sys.executable, *sys.argv, "--one", *mode, "--model", model]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def make_model(folder: Path) -> None:
    """Random weights of a Llama, with the tokenizer of the embedded base."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from finesmith.models.embedded import EMBEDDED
    from finesmith.models.load import quiet

    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=512,
        intermediate_size=1408,
        num_hidden_layers=9,
        num_attention_heads=8,
        num_key_value_heads=4,
        max_position_embeddings=512,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with quiet():
        LlamaForCausalLM(config).save_pretrained(folder)


def one(options: argparse.Namespace) -> dict[str, Any]:
    """Trains in this process: seconds of each step, peak memory in bytes, losses."""
    from finesmith import recipe, run, stages
    from finesmith.runfolder import RunFolder
    from finesmith.watch import Watcher

    dtype, quantize = options.one
    model = {"name": str(options.model), "dtype": dtype, "quantize": quantize, "device": options.device}
    train = {
        "max_steps": options.steps,
        "batch_size": options.rows,
        "max_length": 256,
        "learning_rate": 1e-3,
        "evaluations": 1,
    }
    with tempfile.TemporaryDirectory() as folder:
        asked = recipe.make(
            {
                "data": {"path": str(options.text)},
                "task": "text",
                "model": model,
                "train": train,
                "out": f"{folder}/run",
            }
        )
        prepared = run.prepare(asked)
        ready = stages.build(prepared.recipe, prepared.splits, Watcher())
        place = RunFolder.create(asked.out)
        trained = stages.train(ready, place, Watcher(), resume=False)
        steps = list(place.read_lines("steps.jsonl"))
    return {
        "seconds": [step["seconds"] for step in steps],
        "memory": trained.peak_memory,
        "weights": sum(held(weight) for weight in ready.model.parameters() if not weight.requires_grad),
        "losses": [step["loss"] for step in steps],
    }


def held(parameter: Any) -> int:
    """Bytes of a weight, with the scales of a quantised one."""
    states = [getattr(parameter, "quant_state", None)]
    states.append(getattr(states[0], "state2", None))
    scales = sum(state.absmax.nbytes for state in states if state is not None)
    rows = getattr(parameter, "SCB", None)
    return parameter.nbytes + scales + (rows.nbytes if rows is not None else 0)


if __name__ == "__main__":
    main()
