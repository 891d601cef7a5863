"""Signals that can be waited for."""

from __future__ import annotations

import os
import select
import signal

from bridge.ipc.signals import SignalPipe


def test_signals_become_readable_and_are_received_in_order() -> None:
    """A signal makes the descriptor readable; other ones are left alone; close puts everything back."""
    before = signal.getsignal(signal.SIGUSR1)
    wakeup = signal.set_wakeup_fd(-1)
    pipe = SignalPipe([signal.SIGUSR1, signal.SIGUSR2])
    try:
        assert pipe.receive() == []
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGUSR2)
        assert select.select([pipe], [], [], 5)[0]
        assert pipe.receive() == [signal.SIGUSR1, signal.SIGUSR2]
        assert pipe.receive() == []
    finally:
        pipe.close()
    assert signal.getsignal(signal.SIGUSR1) is before
    assert signal.set_wakeup_fd(wakeup) == -1
