"""A message while it is written: private memory whose front a queue publishes without another copy."""

from __future__ import annotations

from typing import Any

from bridge.core.binding import new_batch


class Draft:
    """See the head of the file, and `Queue.push_draft`.

    Args:
        size: bytes of the longest message.

    Attributes:
        memory: where it is written: a buffer whose slices are bytes.
        view: the same memory, for who writes it without being asked for bytes: a socket that is read into it.
        address: the same, for the core.
        size: in bytes.
    """

    __slots__ = ("address", "memory", "size", "view")

    def __init__(self, size: int) -> None:
        self.address, self.memory = new_batch(size)
        self.view = memoryview(self.memory)
        self.size = size

    def write(self, at: int, data: Any) -> int:
        """Put bytes behind the first `at`; returns where they end."""
        end = at + len(data)
        self.memory[at:end] = data
        return end
