"""A doorbell: one eventfd that wakes exactly one waiter, the event loop or thread that owns it.

Whoever hands over work rings only when the queue says that the waiter sleeps (its sleeping bit, cleared by
whoever takes it upon himself to ring), so a busy waiter costs no system call.

Both ends hold one and the same open file, so either could let the other's next read or write of it block for ever: by
making it blocking, and the counter empty or full. So nobody reads it, and nobody adds to it. The counter is 1 from
the beginning; to ring is to write 0, which the kernel never delays, and which wakes whoever waits for an *edge*.
"""

from __future__ import annotations

import os
import select


class Doorbell:
    """One waiter's bell. Descriptors may be passed to other processes; each end is closed by its holder."""

    __slots__ = ("_edges", "descriptor")

    def __init__(self, descriptor: int | None = None) -> None:
        """A new bell, or the one behind a received descriptor, which this object owns from now on."""
        #: of the eventfd: to be passed on, or waited for with EPOLLET
        self.descriptor = os.eventfd(1, os.EFD_CLOEXEC | os.EFD_NONBLOCK) if descriptor is None else descriptor
        self._edges: select.epoll | None = None  # makes of an edge what lasts until it is hushed

    def fileno(self) -> int:
        """Descriptor to wait for readability on (level-triggered: `hush` it, or the wait returns at once).

        It is made by the first call, and readable then: who begins to wait may have been rung before.

        Raises:
            OSError: there are no descriptors left.
        """
        if self._edges is None:
            self._edges = select.epoll()
            self._edges.register(self.descriptor, select.EPOLLIN | select.EPOLLET)
        return self._edges.fileno()

    def ring(self) -> None:
        """Wake the waiter; a bell that was closed here wakes nobody."""
        if self.descriptor >= 0:
            os.eventfd_write(self.descriptor, 0)

    def hush(self) -> None:
        """Take all rings so far; harmless when there was none."""
        if self._edges is not None:
            self._edges.poll(0, 1)

    def close(self) -> None:
        """Close this process's descriptors."""
        if self._edges is not None:
            self._edges.close()
            self._edges = None
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
