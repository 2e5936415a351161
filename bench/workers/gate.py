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
        seconds, used = time.perf_counter() - self._began, processor_seconds() - self._used
        import torch  # every worker has it already

        answer = {"seconds": seconds, "cpu_seconds": used, "losses": self._losses, "norms": self._norms,
                  "peak": peak_memory(self._device), "reserved": reserved(self._device),
                  "facts": {"torch": str(torch.__version__), **self._facts()}}  # fmt: skip
        self._losses, self._norms = [], []
        self._say(answer)

    def _wait(self) -> None:
        line = sys.stdin.readline()
        if not line:
            os._exit(0)
        self._left = int(json.loads(line)["run"])
        synchronize(self._device)
        self._began, self._used = time.perf_counter(), processor_seconds()

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
    """Bytes since the last reset; and what forked processes hold for themselves now."""
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated()
    return _status("VmHWM") + sum(_private(child) for child in children())


def processor_seconds() -> float:
    """Processor time of this process and of those that it forked."""
    ticks = [(child / "stat").read_text(encoding="utf-8").rpartition(")")[2].split() for child in children()]
    return time.process_time() + sum(int(each[11]) + int(each[12]) for each in ticks) / os.sysconf("SC_CLK_TCK")


def children() -> list[Path]:
    """The folders in /proc of the processes that this one forked and that still run."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        except OSError:  # gone meanwhile
            continue
        if int(fields[1]) == os.getpid() and fields[0] != "Z":
            found.append(folder)
    return found


def _private(folder: Path) -> int:
    lines = (folder / "smaps_rollup").read_text(encoding="utf-8").splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


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
