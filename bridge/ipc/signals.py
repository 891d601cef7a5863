"""Signals as messages: numbers in a pipe that a process waits for beside its links.

Python runs signal handlers only between two steps of its own code, and a wait that starts just before the
handler would sleep through it. The interpreter's wake-up descriptor has no such gap: the number is written at the
moment of delivery, so the handler itself has nothing to do.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable
from types import FrameType
from typing import Any


def ignore(number: int, frame: FrameType | None) -> None:
    """A handler that does nothing. SIG_IGN would do the same here, but would also reach what is exec'd."""


class SignalPipe:
    """Turns `numbers` into something to wait for. Main thread only.

    Args:
        numbers: signals to receive; their earlier handlers are remembered.
    """

    def __init__(self, numbers: Iterable[signal.Signals]) -> None:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._numbers = frozenset(numbers)
        self._before: dict[signal.Signals, Any] = {number: signal.signal(number, ignore) for number in self._numbers}
        self._wakeup_before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)

    def fileno(self) -> int:
        """Descriptor to wait for readability on."""
        return self._read

    def receive(self) -> list[signal.Signals]:
        """The signals that came since the last call, in order. Equal ones that came close together are one."""
        try:
            data = os.read(self._read, 4096)
        except BlockingIOError:
            return []
        return [signal.Signals(number) for number in data if number in self._numbers]

    def wake(self) -> None:
        """Make the descriptor readable without a signal; from any thread."""
        with contextlib.suppress(BlockingIOError):  # full: it is readable
            os.write(self._write, b"\0")

    def close(self) -> None:
        """Put everything back as it was."""
        signal.set_wakeup_fd(self._wakeup_before)
        for number, handler in self._before.items():
            # None: the handler was not installed from Python, and cannot be put back from here.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self.abandon()

    def abandon(self) -> None:
        """Close the pipe only: for a forked child, which must not wake its parent."""
        os.close(self._read)
        os.close(self._write)
