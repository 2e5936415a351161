"""How fast the machine is right now: a small matrix multiplication before each block, and the peak for MFU."""

from __future__ import annotations

import os
import platform
import statistics
import time
from pathlib import Path
from typing import Any


def calibrate(device: str, threads: int, seconds: float = 0.06) -> float:
    """GFLOP/s of a bfloat16 product of matrices (512 x 512 on a CPU, 4096 x 4096 on a GPU), the median of some."""
    import torch

    torch.set_num_threads(threads)
    return _speed(4096 if device == "cuda" else 512, torch.bfloat16, device, seconds) / 1e9


def peak(device: str, threads: int) -> dict[str, float]:
    """The best FLOP/s seen over some sizes, for each precision: what MFU is measured against."""
    import torch

    torch.set_num_threads(threads)
    sizes = (4096, 8192) if device == "cuda" else (512, 1024, 2048)
    types = {"bfloat16": torch.bfloat16, "float32": torch.float32}
    return {name: max(_speed(size, dtype, device, 0.5) for size in sizes) for name, dtype in types.items()}


def _speed(size: int, dtype: Any, device: str, seconds: float) -> float:
    import torch

    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))  # zeros would read too fast
    out = torch.empty(size, size, device=device, dtype=dtype)
    times: list[float] = []
    for _ in range(2):
        torch.matmul(left, right, out=out)
    began = time.perf_counter()
    while not times or time.perf_counter() - began < seconds:
        wait(device)
        start = time.perf_counter()
        torch.matmul(left, right, out=out)
        wait(device)
        times.append(time.perf_counter() - start)
    return 2 * size**3 / statistics.median(times)


def wait(device: str) -> None:
    """Until a GPU has done what it was given."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


def machine(device: str) -> dict[str, Any]:
    """What ran it: processor, cores, memory, accelerator, load, versions."""
    from importlib.metadata import PackageNotFoundError, version

    import torch

    def known(name: str) -> str:
        try:
            return version(name)
        except PackageNotFoundError:
            return "not installed"

    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    flags = next((line for line in lines if line.startswith("flags")), "")
    return {
        "processor": model or platform.processor(),
        "cores": os.cpu_count(),
        "bf16": [flag for flag in ("avx512_bf16", "amx_bf16") if flag in flags],
        "load": os.getloadavg()[0],
        "accelerator": torch.cuda.get_device_name() if device == "cuda" else None,
        "system": platform.platform(),
        "versions": {name: known(name) for name in ("finesmith", "transformers", "peft", "accelerate")}
        | {"torch": str(torch.__version__)},
    }
