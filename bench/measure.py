"""One case from its files to its numbers: the timed rounds, the memory pass, the further seeds of the loss curves."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import arithmetic
from bench.cases import MODELS, Case
from bench.jobs import RANK, Job, build
from bench.processes import Paired, WorkerFailed, alone, paired
from bench.systems import System


@dataclass(frozen=True)
class Plan:
    """How much is measured. `minutes` ends the rounds of a case early, but not before the third."""

    warm_up: int
    rounds: int
    steps: int
    seeds: int
    loss_steps: int
    memory_steps: int
    minutes: float
    threads: int
    device: str
    data: Path | None
    work: Path
    order: str = "grouped"
    keep: bool = False


def measure(
    case: Case,
    systems: Sequence[System],
    interpreters: Mapping[str, Path],
    plan: Plan,
    peak: Mapping[str, float],
    tell: Callable[[str], None],
) -> Iterator[dict[str, Any]]:
    """The numbers of a case as plain values: after the timed rounds, with the memory, with the further seeds."""
    cached = case.epoch < 16  # a block is then a whole epoch, and the warm-up is the first one
    warm_up, steps = (case.epoch, case.epoch) if cached else (plan.warm_up, plan.steps * case.scale)
    total = warm_up + plan.rounds * steps
    tell(f"{case.name}: making the job")
    job = one_job(case, plan, 0, total)
    timed = paired(job, systems, interpreters, warm_up=warm_up, rounds=plan.rounds, steps=steps,
                   minutes=plan.minutes, threads=plan.threads, device=plan.device, tell=tell)  # fmt: skip
    result = _describe(job, timed)
    running = [system for system in systems if system.name in timed.systems]
    _speed(result, job, timed, {system.name: system for system in running})
    if case.method in ("full", "lora") and case.task != "classification":
        _mfu(result, job, peak)
    _losses(result, [timed])
    yield result
    if plan.memory_steps:
        _memory(result, job, running, interpreters, plan, tell)
        yield result
    _clean(job, plan)
    if plan.seeds > 1:
        _losses(result, [timed, *_seeds(case, running, interpreters, plan, tell)])
        yield result


def one_job(case: Case, plan: Plan, seed: int, steps: int) -> Job:
    """The files of a case in the work folder; what was there is replaced."""
    folder = plan.work / f"{case.name}-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    return build(case, folder, data=plan.data, seed=seed, steps=steps, device=plan.device,
                 order=plan.order)  # fmt: skip


def _clean(job: Job, plan: Plan) -> None:
    if not plan.keep:
        shutil.rmtree(job.folder, ignore_errors=True)


def _describe(job: Job, timed: Paired) -> dict[str, Any]:
    import torch
    from transformers import AutoConfig, AutoModel

    with torch.device("meta"):
        model = AutoModel.from_config(AutoConfig.from_pretrained(job.folder / "model"))
    case = job.case
    return {
        "name": case.name, "task": case.task, "method": case.method, "model": case.model, "batch": case.batch,
        "epoch": case.epoch, "source": job.source, "shape": job.shape(), "warm_up": timed.warm_up,
        "steps": timed.steps, "rounds": len(timed.rounds), "targets": dict(case.targets), "failed": timed.failed,
        "parameters": sum(weight.numel() for weight in model.parameters()), "calibration": timed.calibration,
        "config": MODELS[case.model], "systems": {},
    }  # fmt: skip


def _speed(result: dict[str, Any], job: Job, timed: Paired, systems: Mapping[str, System]) -> None:
    starts = [timed.warm_up + number * timed.steps for number in range(len(timed.rounds))]
    tokens = [job.tokens(start, timed.steps) for start in starts]
    ours = [blocks["finesmith"].seconds for blocks in timed.rounds]
    for name, system in systems.items():
        seconds = [blocks[name].seconds for blocks in timed.rounds]
        entry: dict[str, Any] = {
            "note": system.note,
            "facts": timed.rounds[-1][name].facts,
            "seconds": seconds,
            "cpu_seconds": [blocks[name].cpu_seconds for blocks in timed.rounds],
            "tokens_per_second": [count / value for count, value in zip(tokens, seconds, strict=True)],
            "tuned_malloc": system.tuned_malloc,
        }
        if name != "finesmith":
            entry["ratios"] = arithmetic.ratios(ours, seconds)
            used = result["systems"]["finesmith"]["cpu_seconds"]
            entry["cpu_ratios"] = arithmetic.ratios(used, entry["cpu_seconds"])
            both = [speeds[name] / speeds["finesmith"] for speeds in timed.calibration]
            entry["steady"] = [abs(value - 1) <= 0.2 for value in both]
        result["systems"][name] = entry


def _mfu(result: dict[str, Any], job: Job, peak: Mapping[str, float]) -> None:
    shape = result["shape"]
    work = arithmetic.work_per_token(MODELS[job.case.model], job.case.method, rank=RANK,
                                  mean_length=shape["mean_length"], supervised=shape["supervised"])  # fmt: skip
    for entry in result["systems"].values():
        entry["mfu"] = work * arithmetic.spread(entry["tokens_per_second"]).middle / max(peak.values())


def _memory(
    result: dict[str, Any],
    job: Job,
    systems: Sequence[System],
    interpreters: Mapping[str, Path],
    plan: Plan,
    tell: Callable[[str], None],
) -> None:
    for system in systems:
        try:
            loading, block = alone(job, system, interpreters[system.environment], steps=plan.memory_steps,
                                   threads=plan.threads)  # fmt: skip
        except WorkerFailed as error:
            result["failed"][system.name] = str(error)
            continue
        entry = result["systems"][system.name]
        entry["peak"], entry["loading_peak"], entry["reserved"] = block.peak, loading, block.reserved
        entry["memory_ratio"] = block.peak / result["systems"]["finesmith"]["peak"]
        tell(f"{job.case.name} memory: {system.name} {block.peak / (1 << 20):.0f} MiB")


def _seeds(
    case: Case,
    systems: Sequence[System],
    interpreters: Mapping[str, Path],
    plan: Plan,
    tell: Callable[[str], None],
) -> list[Paired]:
    """The same training from other first weights and in another order, for its losses alone."""
    found = []
    for seed in range(1, plan.seeds):
        job = one_job(case, plan, seed, plan.loss_steps)
        found.append(paired(job, systems, interpreters, warm_up=1, rounds=1, steps=plan.loss_steps - 1,
                            minutes=plan.minutes, threads=plan.threads, device=plan.device, tell=tell))  # fmt: skip
        _clean(job, plan)
    return found


def _losses(result: dict[str, Any], runs: Sequence[Paired]) -> None:
    """Every run's loss curve of every system, and how far each is from ours.

    Raises:
        SystemExit: a gradient norm that is not positive: that system does not train.
    """
    for name, entry in result["systems"].items():
        entry["losses"] = [_line(run, name, "losses") for run in runs if name in run.systems]
        entry["norms"] = [_line(run, name, "norms") for run in runs if name in run.systems]
        if any(not norm > 0 for line in entry["norms"] for norm in line):
            raise SystemExit(f"{name} had a gradient norm that is not positive in {result['name']}: it does not train")
    for name, entry in result["systems"].items():
        if name != "finesmith":
            both = [[_line(run, each, "losses") for each in ("finesmith", name)] for run in runs if name in run.systems]
            entry["apart"] = [arithmetic.apart(*curves) for curves in both]


def _line(run: Paired, name: str, what: str) -> list[float]:
    blocks = [run.first[name], *(blocks[name] for blocks in run.rounds)]
    return [value for block in blocks for value in getattr(block, what)]


def elapsed(since: float) -> str:
    """Minutes and seconds since a moment of `time.monotonic`."""
    seconds = round(time.monotonic() - since)
    return f"{seconds // 60}:{seconds % 60:02d}"
