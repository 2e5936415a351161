"""The C library's allocator keeps large blocks instead of giving each back to the system (Linux with glibc only).

By default glibc asks the kernel for every large tensor anew, and each of its pages is cleared on first touch.
"""

from __future__ import annotations

import ctypes
import platform

TRIM, TOP_PAD, MMAP_MAX = -1, -2, -4  # malloc.h
KEPT, PAD = 2**31 - 1, 64 << 20


def keep_blocks() -> bool:
    """Tells malloc to keep freed memory for the next tensor; whether it was understood. Cannot be taken back."""
    if platform.system() != "Linux" or platform.libc_ver()[0] != "glibc":
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    return all(mallopt(option, value) == 1 for option, value in ((MMAP_MAX, 0), (TRIM, KEPT), (TOP_PAD, PAD)))
