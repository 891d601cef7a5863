"""A child of main: started, watched, started again when it dies, with a pause when it keeps dying young."""

from __future__ import annotations

import contextlib
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from bridge.child import Child
from bridge.loop import Loop, read_all
from bridge.worker.backoff import BackOff

RETRY = 1.0  #: seconds


class Supervised(ABC):
    """What router and prototypes have in common for main.

    Args:
        name: what the log calls it.
        command: its command line, without its link's number.
        loop: main's.
        variables: added to its environment.
    """

    def __init__(self, name: str, command: Sequence[str], loop: Loop, variables: Mapping[str, str]) -> None:
        self.name = name
        self.loop = loop
        self.child: Child | None = None
        self.stopping = False  #: the end has begun: nothing is started any more
        self._command = command
        self._variables = variables
        self._deaths = BackOff(free=1)

    def start(self) -> None:
        """Start it, now or as soon as the machine has room for it; does nothing once the end has begun."""
        if self.stopping or self.child is not None:
            return
        try:
            child = Child(self.name, self._command, self.loop.after, self._variables)
        except OSError as error:
            self.not_started(error)
            self.loop.after(RETRY, self.start)
            return
        self.child = child
        self.loop.watch(child.link, lambda: self._read(child))
        self.configure(child)

    def tell(self, message: dict[str, Any]) -> None:
        """Send it a message, if it lives."""
        if self.child is not None:
            self.child.tell(message)

    def reaped(self, pid: int, status: int) -> bool:
        """Whether the process that ended was this one."""
        child = self.child
        if child is None or child.pid != pid:
            return False
        read_all(child.link, lambda message, fds: self.on_message(child, message, fds))  # its last words
        self.loop.forget(child.link)
        child.close()
        self.child = None
        self.ended(child, status)
        return True

    def again(self, child: Child) -> str:
        """Have another one started, and say when: ", starting another in 2 seconds"."""
        pause = self._deaths.died(child.lived)
        self.loop.after(pause, self.start)
        return "starting another" + (f" in {pause:g} seconds" if pause else "")

    def kill(self) -> None:
        """End it by force."""
        if self.child is not None:
            self.child.kill()

    def collect(self) -> None:
        """After `kill`: leave no zombie in the process that called `bridge.run`."""
        if self.child is not None:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.child.pid, 0)
            self.child.close()

    def _read(self, child: Child) -> None:
        if not read_all(child.link, lambda message, fds: self.on_message(child, message, fds)):
            # It is about to end and to be reaped. One that does not, or talks nonsense, is of no more use.
            self.loop.forget(child.link)
            self.loop.after(RETRY, lambda: child.kill() if child is self.child else None)

    @abstractmethod
    def configure(self, child: Child) -> None:
        """Send the new child what it has to know first."""

    @abstractmethod
    def on_message(self, child: Child, message: dict[str, Any], fds: list[int]) -> None:
        """It has said something."""

    @abstractmethod
    def ended(self, child: Child, status: int) -> None:
        """It has ended, as `os.waitpid` says it."""

    @abstractmethod
    def not_started(self, error: OSError) -> None:
        """It could not be started; it will be tried again."""
