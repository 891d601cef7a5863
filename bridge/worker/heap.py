"""The heap of a worker: freed memory is kept for the next body, and what was imported is left alone.

The pieces of a large request body are `bytes` of some hundred KiB each, which live for microseconds. The C library
returns such blocks to the kernel when they are freed, and every new one costs its page faults again: measured, a fifth
of the worker's time in an upload. What is kept instead is bounded by `KEPT`.
"""

from __future__ import annotations

import ctypes
import gc

KEPT = 16 << 20  #: bytes that may stay free at the end of the heap
LARGE = 2 << 20  #: blocks from this size on are still mapped one by one

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt(3)


def keep() -> bool:
    """Tell the C library; False where it takes no such advice (it is not glibc)."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return bool(mallopt(_TRIM_THRESHOLD, KEPT)) and bool(mallopt(_MMAP_THRESHOLD, LARGE))


def settle() -> None:
    """The application is loaded: what lives now lives as long as the process, and is no more looked at for garbage."""
    gc.collect()
    gc.freeze()
