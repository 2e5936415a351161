"""What all workers share: the conversation with the driver, the clock of a block of steps, peak memory.

The driver says {"run": n} on standard input; the worker trains n steps and answers with one line of JSON. Between two
blocks it waits for the next line and uses no processor, so that libraries can take turns on the same cores.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Gate:
    """Counts steps; at the end of a block it answers the driver and waits for the next."""

    def __init__(self, device: str) -> None:
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)  # whatever a library prints goes to the log
        self._device, self._left, self._losses, self._norms = device, 0, [], []
        self._facts: Callable[[], dict[str, Any]] = dict
        self._began = self._used = 0.0

    def ready(self, facts: Callable[[], dict[str, Any]]) -> None:
        """Says that the model is built and waits for the first block. `facts` is asked after each block."""
        self._facts = facts
        gc.collect()
        loading = peak_memory(self._device)
        reset_peak_memory(self._device)
        self._say({"ready": True, "loading_peak": loading, "resident": resident()})
        self._wait()

    def step(self, loss: float, norm: float) -> None:
        """One optimizer step is done. Does not return before the driver wants another."""
        self._losses.append(loss)
        self._norms.append(norm)
        self._left -= 1
        if self._left:
            return
        self._finish()
        self._wait()

    def _finish(self) -> None:
        synchronize(self._device)
        seconds, used = time.perf_counter() - self._began, time.process_time() - self._used
        answer = {"seconds": seconds, "cpu_seconds": used, "losses": self._losses, "norms": self._norms,
                  "peak": peak_memory(self._device), "reserved": reserved(self._device),
                  "facts": self._facts()}  # fmt: skip
        self._losses, self._norms = [], []
        self._say(answer)

    def _wait(self) -> None:
        line = sys.stdin.readline()
        if not line:
            os._exit(0)
        self._left = int(json.loads(line)["run"])
        synchronize(self._device)
        self._began, self._used = time.perf_counter(), time.process_time()

    def _say(self, value: dict[str, Any]) -> None:
        self._out.write(json.dumps(value) + "\n")
        self._out.flush()


def synchronize(device: str) -> None:
    """Waits until a GPU has done what it was given."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


def reset_peak_memory(device: str) -> None:
    """Starts a new measurement: of the process's resident memory, or of the GPU's allocated memory."""
    if device == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()
    elif Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def peak_memory(device: str) -> int:
    """Bytes since the last reset."""
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated()
    return _status("VmHWM")


def reserved(device: str) -> int:
    """Bytes that torch's allocator has taken from the GPU since the last reset; 0 on a CPU."""
    if device != "cuda":
        return 0
    import torch

    return torch.cuda.max_memory_reserved()


def resident() -> int:
    """Bytes of this process in memory now."""
    return _status("VmRSS")


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    return 0
