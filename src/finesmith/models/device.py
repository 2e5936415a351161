"""Where and at which precision to compute, measured on this machine; and how much memory was used."""

from __future__ import annotations

import functools
import gc
import os
import platform
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch

from finesmith.errors import ModelError
from finesmith.models import allocator
from finesmith.models.quantize import is_quantised

GROUP_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat")
GROUP_2 = ("memory.max", "memory.current", "memory.stat")
NO_MEMORY = (
    " out of memory.",
    "CUDA error: out of memory",
    "MPS backend out of memory",
    "can't allocate memory",
    "not enough memory: you tried to allocate",
    "Cannot allocate memory",
    "FATAL ERROR :: MODULE:PT_DEVMEM Allocation failed",
)
"""What torch says on CUDA, HIP, XPU, MPS, the CPU (on Windows in other words) and HPU, and Linux of a file that cannot
be mapped (accelerate.utils.memory.should_reduce_batch_size, but for cuDNN's "not supported", which smaller passes do
not mend)."""
SMALLER = "Use a smaller model, model.quantize (with method lora), or a machine or device with more free memory."
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(name: str) -> torch.device:
    """The device called `name`; `auto` is cuda, then mps, then cpu.

    Raises:
        ModelError: the device is not on this machine.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f"There is no device '{name}' on this machine: {str(error).splitlines()[0]}.") from error
    return torch.device(name)


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype called `name`; `auto` is bfloat16 where this device multiplies clearly faster in it, else float32.

    On a CPU 'supports bfloat16' says nothing about speed (without AMX or fast AVX512-BF16 it is slower than float32),
    so both are timed.
    """
    if name != "auto":
        return DTYPES[name]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    return torch.bfloat16 if device.type == "cpu" and bfloat16_speedup() > 1.5 else torch.float32


def why_dtype(name: str, device: torch.device, dtype: torch.dtype) -> str:
    """What decided on the arithmetic where that was `auto`; empty where it was asked for."""
    if name != "auto":
        return ""
    chosen = f"arithmetic in {str(dtype).removeprefix('torch.')}"
    if device.type != "cpu":
        return chosen
    return f"{chosen}: products in bfloat16 are {bfloat16_speedup():.1f} times as fast as in float32 here"


@functools.cache
def bfloat16_speedup(size: int = 512, rounds: int = 12) -> float:
    """How many times faster the CPU multiplies matrices in bfloat16 than in float32.

    The two take turns and the fastest multiplication of each counts, so that other work on the machine does not decide.
    """
    factors = {dtype: torch.ones(size, size, dtype=dtype) for dtype in (torch.float32, torch.bfloat16)}
    times: dict[torch.dtype, list[float]] = {dtype: [] for dtype in factors}
    for _ in range(rounds):
        for dtype, factor in factors.items():
            start = time.perf_counter()
            _ = factor @ factor
            times[dtype].append(time.perf_counter() - start)
    return min(times[torch.float32]) / min(times[torch.bfloat16])


def reset_peak_memory(device: torch.device) -> None:
    """Starts a new measurement of peak memory (on Linux and CUDA; elsewhere the peak is that of the process)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif Path("/proc/self/clear_refs").exists():
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:  # a container may forbid it; the peak is then that of the whole process
            return


def peak_memory(device: torch.device) -> int:
    """Peak memory in bytes since the last reset: allocated on the CUDA device, else resident in this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.exists():
        return _line(status, "VmHWM") * 1024
    return _ru_maxrss()


def used_memory(device: torch.device) -> int:
    """Bytes in use now: allocated on the CUDA device, else resident in this process (0 where that is not known)."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    status = Path("/proc/self/status")
    return _line(status, "VmRSS") * 1024 if status.exists() else 0


def private_memory(process: int | str = "self") -> int:
    """Bytes that a process holds and shares with no other (Linux; 0 elsewhere, and for one that has ended)."""
    pages = Path(f"/proc/{process}/smaps_rollup")
    try:
        return 1024 * (_line(pages, "Private_Clean:") + _line(pages, "Private_Dirty:")) if pages.exists() else 0
    except OSError:  # it ended, and nobody has asked how
        return 0


def weights_bytes(model: torch.nn.Module) -> int:
    """Bytes of all weights and buffers, tied ones once."""
    storages = {
        tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes()
        for tensor in (*model.parameters(), *model.buffers())
    }
    return sum(storages.values())


def take_to(model: Any, device: torch.device, name: str) -> Any:
    """The model, with its weights on the device.

    Raises:
        ModelError: they do not fit there; says how large they are, and what was free.
    """
    free = free_memory(device)
    try:
        return model.to(device)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        there = f", and {free / 1e9:.1f} GB is free" if free is not None else ""
        raise ModelError(
            f"The weights of '{name}' do not fit into the memory of '{device}': "
            f"they take {weights_bytes(model) / 1e9:.1f} GB{there}.",
            hint=SMALLER,
        ) from error


def make_room(model: torch.nn.Module) -> None:
    """Takes a model that is done off the accelerator, so that the next one fits."""
    if next(model.parameters()).device.type != "cpu" and not is_quantised(model):  # few bytes, and bound to the device
        model.to("cpu")
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def give_back() -> None:
    """Gives the memory of what nobody holds any more back to the accelerator and to the system."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    allocator.give_back()


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory did not suffice, on any device."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(text in str(error) for text in NO_MEMORY)


def refuse_for_memory(error: Exception) -> None:
    """Told apart from what a model cannot do: a trial on a few tokens for which memory did not suffice.

    Raises:
        ModelError: that was it.
    """
    if is_out_of_memory(error):
        raise ModelError(
            "Memory is too small to run this model on a few tokens.",
            hint=SMALLER,
        ) from error


def free_memory(device: torch.device) -> int | None:
    """Bytes that this process can still take: on the CUDA device, or of the machine and of its control group.

    None where the system does not say.
    """
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
    if not Path("/proc/meminfo").exists():
        return None
    return max(0, min(_line(Path("/proc/meminfo"), "MemAvailable") * 1024, *_group_room()))


def _group_room() -> list[int]:
    """What the limits of the control groups of this process leave, in bytes."""
    groups = Path("/proc/self/cgroup")
    return _room(groups.read_text().splitlines(), Path("/sys/fs/cgroup")) if groups.exists() else []


def _room(groups: list[str], root: Path) -> list[int]:
    """The same for groups as the kernel lists them (`number:kinds:path`, no kinds in version 2), mounted at `root`."""
    found = []
    for _, kinds, path in (line.split(":", 2) for line in groups):
        if kinds and "memory" not in kinds.split(","):
            continue
        top, names = (root / "memory", GROUP_1) if kinds else (root, GROUP_2)
        place = top / path.lstrip("/")
        for folder in (place, *place.parents):
            limit, usage, stat = (folder / name for name in names)
            if limit.exists() and usage.exists() and limit.read_text().strip() != "max":
                given_up = _line(stat, "inactive_file") if stat.exists() else 0  # files that can be read again
                found.append(int(limit.read_text()) - int(usage.read_text()) + given_up)
            if folder == top:
                break
    return found


def _line(path: Path, name: str) -> int:
    """The number behind a name in a file of the kernel's."""
    line = next((line for line in path.read_text().splitlines() if line.startswith(name)), "x 0")
    return int(line.split()[1])


def _ru_maxrss() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if platform.system() == "Darwin" else 1024)


def describe(device: torch.device) -> str:
    """One line for the manifest: the accelerator's name, or the processor and its threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[Any]:
    """The context in which a forward pass computes in `dtype` while the weights keep theirs."""
    if dtype == torch.float32:
        return nullcontext()
    return torch.autocast(device.type, dtype=dtype)


def held_in(stored: torch.dtype, dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """In what weights that do not move are held: in 16 bits on an accelerator that computes so, if they are stored so.

    In float32 they would take twice the memory for the same numbers (for float16 in bfloat16: for those that are
    multiplied); on a CPU memory is not what is short.
    """
    return dtype if device.type != "cpu" and stored.itemsize == dtype.itemsize else torch.float32
