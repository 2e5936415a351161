"""Cost against length, batch and rows: one axis moves, the rest stands still, and an exponent is fitted."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from bench import arithmetic, jobs
from bench.cases import BY_NAME, Case
from bench.jobs import MARGIN
from bench.measure import Plan, one_job
from bench.processes import paired
from bench.systems import BY_NAME as SYSTEMS

LENGTHS, LENGTH_BATCH = (128, 256, 512, 1024, 2048), 2
BATCHES, BATCH_LENGTH = (1, 2, 4, 8, 16), 128
ROWS = (1000, 2000, 4000, 8000)
STEPS, ROUNDS = 2, 3
RIVALS = ("finesmith", "trl-best")


def measure(interpreters: Mapping[str, Path], plan: Plan, tell: Callable[[str], None]) -> list[dict[str, Any]]:
    """The three tables, as plain values."""
    base = BY_NAME["long-30m-32k-lora"]
    lengths = {
        size: replace(base, name=f"cost-length-{size}", max_length=size + MARGIN, batch=LENGTH_BATCH)
        for size in LENGTHS
    }
    batches = {
        size: replace(base, name=f"cost-batch-{size}", max_length=BATCH_LENGTH + MARGIN, batch=size) for size in BATCHES
    }
    return [
        _steps("length in tokens", f"{base.name}, {LENGTH_BATCH} rows a step", lengths, interpreters, plan, tell),
        _steps("rows in a step", f"{base.name}, {BATCH_LENGTH} tokens a row", batches, interpreters, plan, tell),
        _rows(plan, tell),
    ]


def _steps(
    axis: str,
    title: str,
    sized: Mapping[int, Case],
    interpreters: Mapping[str, Path],
    plan: Plan,
    tell: Callable[[str], None],
) -> dict[str, Any]:
    """Seconds of a step of each size, the median of some rounds in which the systems take turns."""
    names = [name for name in RIVALS if SYSTEMS[name].environment in interpreters]
    systems = [SYSTEMS[name] for name in names]
    series: dict[str, list[float]] = {f"{name}, seconds a step": [] for name in names}
    for case in sized.values():
        job = one_job(case, plan, 0, STEPS * (ROUNDS + 1))
        run = paired(job, systems, interpreters, warm_up=STEPS, rounds=ROUNDS, steps=STEPS, minutes=plan.minutes,
                     threads=plan.threads, device=plan.device, tell=tell)  # fmt: skip
        for name in run.systems:
            seconds = [blocks[name].seconds / STEPS for blocks in run.rounds]
            series[f"{name}, seconds a step"].append(arithmetic.spread(seconds).middle)
    for name in [name for name, values in series.items() if len(values) < len(sized)]:
        tell(f"cost: {name} is not shown: it was left out of a size")
        del series[name]
    return _table(axis, title, list(sized), series)


def _rows(plan: Plan, tell: Callable[[str], None]) -> dict[str, Any]:
    """Seconds of reading, splitting, encoding and proving so many rows, with a tiny model, so that it does not count.

    Not all that comes before step 1: without the checks of the data, and without a classifier's head fitted first.
    """
    case = BY_NAME["dry-tickets"]
    job = one_job(case, plan, 0, 8)
    train = (job.folder / "rows" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    seconds = []
    for size in ROWS:
        (job.folder / "rows" / "train.jsonl").write_text("".join(_numbered(train, size)), encoding="utf-8")
        began = time.perf_counter()
        jobs.ready_from(job.folder)
        seconds.append(time.perf_counter() - began)
        tell(f"cost: {size} rows are read and encoded in {seconds[-1]:.2f} s")
    return _table("rows", "reading, splitting, encoding short tickets", list(ROWS), {"finesmith, seconds": seconds})


def _numbered(lines: Sequence[str], size: int) -> list[str]:
    """`size` rows that all differ."""
    found = [json.loads(lines[place % len(lines)]) for place in range(size)]
    return [json.dumps({**row, "text": f"{row['text']} {place}"}) + "\n" for place, row in enumerate(found)]


def _table(axis: str, title: str, sizes: Sequence[int], series: Mapping[str, list[float]]) -> dict[str, Any]:
    fits = {name: asdict(arithmetic.fit_exponent([float(size) for size in sizes], values))
            for name, values in series.items()}  # fmt: skip
    return {"axis": axis, "case": title, "sizes": list(sizes), "series": dict(series), "fits": fits}
