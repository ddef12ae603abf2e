"""What the C library does with memory that a step frees."""

from __future__ import annotations

import ctypes
import sys

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST = (1 << 31) - 1
_LARGEST_OLD_MMAP_THRESHOLD = 1 << 25  # what glibc before 2.35 accepts on 64 bits


def keep_freed_memory() -> bool:
    """Have the process keep freed memory for its next allocation; whether the C library has this setting.

    glibc hands the large blocks at the end of its heap back to the kernel as they are freed. On a CPU every step then
    asks for its activations anew, and the kernel clears them page by page: some 50 MB a step of 64 images of 64 x 64,
    a tenth to a fifth of its time. With this the process stays as large as it was at its largest. No value changes.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # a C library other than glibc
        return False
    kept_out_of_mmap = any(mallopt(_M_MMAP_THRESHOLD, size) for size in (_LARGEST, _LARGEST_OLD_MMAP_THRESHOLD))
    return kept_out_of_mmap and bool(mallopt(_M_TRIM_THRESHOLD, _LARGEST))
