"""A doorbell: one eventfd that wakes exactly one waiter, the event loop or thread that owns it.

Whoever hands over work rings only when the queue says that the waiter sleeps (its sleeping bit, cleared by
whoever takes it upon himself to ring), so a busy waiter costs no system call.
"""

from __future__ import annotations

import os


class Doorbell:
    """One waiter's bell. Descriptors may be passed to other processes; each end is closed by its holder."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int | None = None) -> None:
        """A new bell, or with `fd` the bell behind a received descriptor, which this object owns from now on."""
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) if fd is None else fd

    def fileno(self) -> int:
        """Descriptor to wait for readability on (level-triggered: `hush` it, or the wait returns at once)."""
        return self._fd

    def ring(self) -> None:
        """Wake the waiter; a bell that was closed here wakes nobody.

        A bell that nobody has hushed 2⁶⁴ times is ringing anyway, so that error is dropped.
        """
        if self._fd < 0:
            return
        try:
            os.eventfd_write(self._fd, 1)
        except BlockingIOError:
            pass

    def hush(self) -> None:
        """Take all rings so far; harmless when there was none."""
        try:
            os.eventfd_read(self._fd)
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Close this process's descriptor."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
