"""What keeping the frozen layers' states saves: Finesmith with and without its cache, step by step in turn.

    python bench/frozen.py                                # all cases, about ten minutes on two cores
    python bench/frozen.py --data DATA --cases minilm-head --dtype bfloat16

Both run in one process on the same steps. The cache is filled first, before step 1, and timed; then the two take turns.
Prints a table; "processor" is the ratio of processor seconds, "epochs to pay" what filling costs against what it saves.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

sys.path[0] = str(Path(__file__).parents[1])  # the repository, not this folder

from bench import jobs  # noqa: E402
from bench.cases import Case  # noqa: E402

EPOCH, WARM_UP = 16, 2
LORA = {"lora": {"last_layers": 4}}
CASES = {
    case.name: case
    for case in (
        Case("minilm-head", "classification", "tickets", "minilm", "head", 32, 128, (), 1e-3, EPOCH),
        Case("minilm-last-2-of-6", "classification", "tickets", "minilm", "last_layers", 32, 128, (), 1e-4, EPOCH,
             settings={"last_layers": {"count": 2}}),
        Case("135m-head", "classification", "tickets", "135m-49k", "head", 8, 128, (), 1e-3, EPOCH),
        Case("135m-last-4-of-30", "generation", "mixed", "135m-49k", "last_layers", 4, 512, (), 1e-4, EPOCH,
             settings={"last_layers": {"count": 4}}),
        Case("135m-lora-4-of-30", "generation", "mixed", "135m-49k", "lora", 4, 512, (), 1e-3, EPOCH, settings=LORA),
    )
}  # fmt: skip
HEADER = ("case", "tokens/step", "s/step, computed", "s/step, kept", "ratio (least to most)", "processor", "fill, s",
          "epochs to pay", "MB", "loss apart")  # fmt: skip


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    options.add_argument("--data", type=Path)
    options.add_argument("--dtype", default="float32")
    options.add_argument("--steps", type=int, default=12)
    asked = options.parse_args()
    print("| " + " | ".join(HEADER) + " |", "|" + "---|" * len(HEADER), sep="\n", flush=True)
    for name in asked.cases:
        case = replace(CASES[name], dtype=asked.dtype)
        with tempfile.TemporaryDirectory(prefix="finesmith-bench-") as folder:
            jobs.build(case, Path(folder), data=asked.data, seed=0, steps=EPOCH, device="cpu", order="grouped")
            print("| " + " | ".join([name, *measure(Path(folder), asked.steps)]) + " |", flush=True)


def measure(folder: Path, steps: int) -> list[str]:
    """The row of one case: medians over the steps, in which the two take turns."""
    from finesmith.train import fill
    from finesmith.train.cache import Cache
    from finesmith.watch import Watcher

    plain, kept = jobs.ready_from(folder), jobs.ready_from(folder)
    total = steps + WARM_UP
    began, worked_before = time.perf_counter(), time.process_time()
    cache, notes = fill.fill(
        kept.task, replace(kept.loaded, model=kept.model), kept.data, kept.recipe.train, gigabytes=4.0, folder=folder,
        seed=0, total=EPOCH + total, watcher=Watcher(),
    )  # fmt: skip
    filling, filling_work = time.perf_counter() - began, time.process_time() - worked_before
    if cache.count < len(kept.data):
        raise SystemExit(f"not all states are kept: {notes}")
    with closing(cache):
        runs = [loop_of(plain, Cache(plain.data.lengths), total), loop_of(kept, cache, total)]
        turns = [[timed(run) for run in runs] for _ in range(total)][WARM_UP:]
    ratios = [one[1] / other[1] for one, other in turns]
    computed, read = (median(turn[which][1] for turn in turns) for which in (0, 1))
    work, less = (sum(turn[which][2] for turn in turns) for which in (0, 1))
    apart = max(abs(one[0].loss - other[0].loss) / abs(one[0].loss) for one, other in turns)
    return [
        f"{median(one[0].tokens for one, _ in turns):.0f}", f"{computed:.3f}", f"{read:.4f}",
        f"{median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})", f"{work / less:.1f}", f"{filling:.1f}",
        f"{filling_work / ((work - less) / steps * EPOCH):.2f}", f"{cache.starts[-1] / 1e6:.1f}", f"{apart:.0e}",
    ]  # fmt: skip


def loop_of(ready: Any, cache: Any, total: int) -> Iterator[Any]:
    """The bare training loop of a model."""
    from accelerate import Accelerator

    from finesmith.train import loop, optim

    train = ready.recipe.train
    optimizer = optim.optimizer(ready.model, learning_rate=float(train.learning_rate), weight_decay=0.01, beta2=0.999)
    accelerator = Accelerator(cpu=True)
    model, optimizer = accelerator.prepare(ready.model, optimizer)
    return loop.train(
        model, ready.task, ready.data, train, optimizer=optimizer, accelerator=accelerator, dtype=ready.loaded.dtype,
        pad_id=ready.loaded.tokenizer.pad_token_id, total=total, seed=0, cache=cache,
    )  # fmt: skip


def timed(run: Iterator[Any]) -> tuple[Any, float, float]:
    """The next step, its seconds and its processor seconds."""
    wall, processor = time.perf_counter(), time.process_time()
    return next(run), time.perf_counter() - wall, time.process_time() - processor


if __name__ == "__main__":
    main()
