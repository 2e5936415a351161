"""Workers as processes: started together, waiting, taking turns block by block. Nothing computes while another does."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.calibrate import calibrate
from bench.environment import REPOSITORY
from bench.jobs import Job
from bench.systems import TUNED_MALLOC, System

CAPACITY = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64", "LRU_CACHE_CAPACITY": "64"}
"""What Finesmith's command line sets for itself."""


LEAST_ROUNDS = 3


class WorkerFailed(Exception):
    """A worker ended without an answer; its argument says which, and the end of its log."""


@dataclass(frozen=True)
class Block:
    """What one system said about one block of steps."""

    seconds: float
    cpu_seconds: float
    losses: list[float]
    norms: list[float]
    peak: int
    reserved: int
    facts: dict[str, str]


@dataclass
class Paired:
    """Blocks of all systems over the same steps, round by round, and the machine's speed before each block."""

    steps: int
    warm_up: int
    systems: list[str]
    rounds: list[dict[str, Block]] = field(default_factory=list)
    calibration: list[dict[str, float]] = field(default_factory=list)
    first: dict[str, Block] = field(default_factory=dict)
    loading: dict[str, int] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


class Worker:
    """A running library that waits for blocks of steps."""

    def __init__(self, system: System, interpreter: Path, job: Job, threads: int) -> None:
        self.system, self._log = system, job.folder / f"{system.name}.log"
        module = f"bench.workers.{system.worker}"
        words = [str(interpreter), "-m", module, str(job.folder), json.dumps(asdict(system))]
        with self._log.open("w", encoding="utf-8") as log:
            self._process = subprocess.Popen(words, cwd=REPOSITORY, env=_environment(system, threads), text=True,
                                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)  # fmt: skip

    def ready(self) -> int:
        """Waits until the model is built; the peak memory of getting there."""
        return int(self._answer()["loading_peak"])

    def run(self, steps: int) -> Block:
        """Trains so many steps and waits for them."""
        assert self._process.stdin is not None
        with suppress(OSError):  # it is gone: then it has no answer either
            self._process.stdin.write(json.dumps({"run": steps}) + "\n")
            self._process.stdin.flush()
        return Block(**self._answer())

    def end(self) -> None:
        """Closes its input, at which it stops."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()
        self._process.kill()
        self._process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            tail = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:]
            raise WorkerFailed(f"{self.system.name}: {' | '.join(tail)[-600:]}")
        return json.loads(line)


def _environment(system: System, threads: int) -> dict[str, str]:
    own = system.environment == "own"
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH" and not key.startswith("MALLOC_")}
    path = [str(REPOSITORY), *([os.environ["PYTHONPATH"]] if own and os.environ.get("PYTHONPATH") else [])]
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join(path),
        "OMP_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "TRL_EXPERIMENTAL_SILENCE": "1",
        **(CAPACITY if own else {}),
        **(TUNED_MALLOC if system.tuned_malloc else {}),
    }


def paired(
    job: Job,
    systems: Sequence[System],
    interpreters: Mapping[str, Path],
    *,
    warm_up: int,
    rounds: int,
    steps: int,
    minutes: float,
    threads: int,
    device: str,
    tell: Callable[[str], None],
) -> Paired:
    """Runs all systems over the same steps in turns; the order within a round is drawn anew each round."""
    found, began = Paired(steps, warm_up, []), time.monotonic()
    workers: dict[str, Worker] = {}
    try:
        for system in systems:
            workers[system.name] = Worker(system, interpreters[system.environment], job, threads)
            _try(found, workers, system.name, lambda worker: found.loading.__setitem__(worker.system.name,
                                                                                      worker.ready()))  # fmt: skip
        for name in list(workers):
            _try(found, workers, name, lambda worker: found.first.__setitem__(worker.system.name, worker.run(warm_up)))
        shuffle = random.Random(job.seed)
        for number in range(rounds):
            if number >= LEAST_ROUNDS and time.monotonic() - began > 60 * minutes:
                break
            blocks, speeds = {}, {}
            for name in shuffle.sample(list(workers), len(workers)):
                speeds[name] = calibrate(device, threads)
                _try(found, workers, name, lambda worker, into=blocks: into.update({worker.system.name:
                                                                                    worker.run(steps)}))  # fmt: skip
            found.rounds.append(blocks)
            found.calibration.append(speeds)
            times = ", ".join(f"{name} {block.seconds / steps:.2f}" for name, block in sorted(blocks.items()))
            tell(f"{job.case.name} seed {job.seed} round {number + 1} of {rounds}: {times} s a step")
    finally:
        for worker in workers.values():
            worker.end()
    found.systems = list(workers)
    return found


def _try(found: Paired, workers: dict[str, Worker], name: str, action: Callable[[Worker], object]) -> None:
    """A peer that cannot run a case is left out and named; Finesmith itself must run."""
    try:
        action(workers[name])
    except WorkerFailed as error:
        if workers[name].system.environment == "own":
            raise
        workers.pop(name).end()
        found.failed[name] = str(error)
        print(f"left out: {error}", file=sys.stderr, flush=True)


def alone(job: Job, system: System, interpreter: Path, *, steps: int, threads: int) -> tuple[int, Block]:
    """One system in a process of its own, nothing beside it: peak memory of loading, and of training `steps` steps."""
    worker = Worker(system, interpreter, job, threads)
    try:
        return worker.ready(), worker.run(steps)
    finally:
        worker.end()
