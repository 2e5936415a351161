"""What a training costs, with what it cost before it was stopped and resumed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from finesmith.models.device import peak_memory
from finesmith.train.parallel import Processes


@dataclass(frozen=True)
class Costs:
    """Seconds and peak memory (bytes) of the parts before a resume; this part's come on top, from now on."""

    device: torch.device
    processes: Processes
    seconds: float = 0.0
    memory: int = 0
    began: float = field(default_factory=time.monotonic)

    def so_far(self) -> dict[str, float]:
        """All seconds, and the most memory of any part: plain values, of which `earlier` makes the next part's."""
        most = max(self.memory, peak_memory(self.device) + self.processes.held())
        return {"seconds": self.seconds + time.monotonic() - self.began, "memory": most}


def earlier(facts: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the parts before a resume have cost, by the facts of the saved state.

    One that does not say it (older versions) has at least the seconds of its `steps`, the rows of `steps.jsonl`.
    """
    return facts.get("costs") or {"seconds": sum(row["seconds"] for row in steps), "memory": 0}
