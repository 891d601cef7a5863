"""Memory that sockets are read into when the bytes go elsewhere at once: one piece for the whole process."""

from __future__ import annotations

import mmap
from functools import cache


@cache
def scratch(size: int) -> tuple[mmap.mmap, memoryview]:
    """`size` bytes, and a view of them; what is read into it is taken out before the next socket is read.

    It is a mapping, because a slice of one is bytes at once; what a view or a bytearray gives has to be copied again.
    """
    memory = mmap.mmap(-1, size)
    return memory, memoryview(memory)
