"""The C library's allocator keeps large blocks instead of giving each back to the system (Linux with glibc only).

By default glibc asks the kernel for every large tensor anew, and each of its pages is cleared on first touch.

Kept memory has holes: what a run will hold at most is then more than its tensors. `growth` finds how much more by
asking the allocator itself for the same blocks in the same order, without writing to them.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import warnings
from collections.abc import Iterable

TRIM, TOP_PAD, MMAP_MAX = -1, -2, -4  # malloc.h
KEPT, PAD = 2**31 - 1, 64 << 20
ALIGNED = 64  # bytes: as PyTorch asks for a tensor's memory on a CPU
BESIDE = (32, 64, 96)
"""Bytes of small blocks that live as long as a tensor, before and behind it: its own records and those of its gradient.
They land in the gaps that aligning leaves and keep free memory apart (docs/explanation/what-did-not-work.md)."""

Events = Iterable[tuple[int, int]]
"""Blocks by number: `(number, bytes)` when it is taken, `(number, 0)` when it is given back."""


def keep_blocks() -> bool:
    """Tells malloc to keep freed memory for the next tensor; whether it was understood. Cannot be taken back."""
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    return all(mallopt(option, value) == 1 for option, value in ((MMAP_MAX, 0), (TRIM, KEPT), (TOP_PAD, PAD)))


def give_back() -> None:
    """Gives freed memory back to the system: before a fork, after which each side would keep a copy of it."""
    if platform.system() == "Linux" and platform.libc_ver()[0] == "glibc":
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def growth(events: Events) -> int | None:
    """By how many bytes the process would grow if it took and gave back these blocks.

    A forked copy of the process asks for them, so that this one stays as it is. None where the C library is another
    one, or refuses so much. Right only after `keep_blocks`.
    """
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return None
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads: the copy starts none
        child = os.fork()
    if not child:
        try:
            os.write(writing, str(_grown(events)).encode())
        finally:
            os._exit(0)
    os.close(writing)
    answer = os.read(reading, 64).decode()
    os.close(reading)
    os.waitpid(child, 0)
    return int(answer) if answer.isdigit() else None


def _grown(events: Events) -> int | None:
    library, place = ctypes.CDLL("libc.so.6"), ctypes.c_void_p()
    library.malloc.restype, library.malloc.argtypes, library.free.argtypes = (
        ctypes.c_void_p,
        [ctypes.c_size_t],
        [ctypes.c_void_p],
    )
    held: dict[int, list[int]] = {}
    ranges: list[tuple[int, int]] = []
    for number, size in events:
        if not size:
            for start in held.pop(number):
                library.free(start)
            continue
        around = [library.malloc(small) for small in BESIDE]
        if library.posix_memalign(ctypes.byref(place), ctypes.c_size_t(ALIGNED), ctypes.c_size_t(size)):
            return None
        start = place.value or 0
        ranges.append((start, start + size))
        held[number] = [start, *(library.malloc(small) for small in BESIDE), *around]
    return sum(_untouched(library, start, end) for start, end in _joined(ranges))


def _joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The union of ranges of addresses, rounded to whole pages, in order."""
    page, found = mmap.PAGESIZE, list[tuple[int, int]]()
    for start, end in sorted(ranges):
        start, end = start // page * page, -(-end // page) * page
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def _untouched(library: ctypes.CDLL, start: int, end: int) -> int:
    """Bytes of the pages between two addresses that take no memory yet."""
    pages = (end - start) // mmap.PAGESIZE
    states = (ctypes.c_ubyte * pages)()
    if library.mincore(ctypes.c_void_p(start), ctypes.c_size_t(end - start), states):
        return end - start  # given back meanwhile
    return mmap.PAGESIZE * sum(1 for state in bytes(states) if not state & 1)
