"""Finesmith, through the stages that the command line runs: build, then train with a watcher that is the gate."""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path
from typing import Any

from bench import jobs
from bench.workers import facts
from bench.workers.gate import Gate


def main(folder: Path, system: dict[str, Any]) -> None:
    import torch

    from finesmith import stages
    from finesmith.runfolder import RunFolder
    from finesmith.types import Step
    from finesmith.watch import Watcher

    job = facts.job(folder)
    gate = Gate(job["device"])
    jobs.use_order(job["order"])
    ready = jobs.ready_from(folder, system["options"])
    if jobs.digest([ready.data[place] for place in range(len(ready.data))]) != job["hash"]:
        raise ValueError("the rows were encoded to other tokens than those of the job")
    facts.start(folder, ready.model)
    precision = facts.Precision(ready.model)
    lengths = ready.data.lengths

    class Watch(Watcher):
        """Each step goes through the gate; its tokens must be those of the job."""

        def step(self, step: Step, total: int, scores: dict[str, float], best: bool) -> None:
            expected = sum(lengths[row] for row in job["batches"][step.index - 1])
            if step.tokens != expected:
                raise ValueError(f"step {step.index} had {step.tokens} tokens, the job's has {expected}")
            gate.step(step.loss, step.gradient_norm)

    seen: dict[str, str] = {}

    def look() -> dict[str, Any]:
        if not seen:
            found = (item for item in gc.get_objects() if isinstance(item, torch.optim.Optimizer))
            seen.update(precision.describe(next(found, None)))
        return {**seen, "autocast": str(ready.loaded.dtype != torch.float32).lower()}

    run = RunFolder.create(str(folder / f"run-{id(gate)}"))
    gate.ready(look)
    stages.train(ready, run, Watch(), resume=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
