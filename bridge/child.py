"""Starting a process of our own from a fresh interpreter, with a link to it; and what became of it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from bridge.errors import LinkFull, PeerLost
from bridge.ipc import parcel
from bridge.ipc.link import Link, close_all
from bridge.log import log

ROUTER = (sys.executable, "-P", "-m", "bridge.router.process")
PROTOTYPE = (sys.executable, "-P", "-m", "bridge.worker.prototype")

LINK_FD = 3  #: number of the link's descriptor in the child; it is also the last argument of its command line
DECIDED_BY_MAIN = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
_PR_SET_CHILD_SUBREAPER = 36
RETRY = 0.05  #: seconds until a link that was full is tried again
MOST_WAITING = 8192  #: messages; a process that leaves more unread is of no use any more
NO_VARIABLES: Mapping[str, str] = MappingProxyType({})
_FOREIGN = ("NOTIFY_SOCKET", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "SERVER_SOFTWARE")


class Child:
    """A process that main started, and main's end of the link to it.

    Args:
        name: what the log calls it.
        command: program and arguments; the number of the link's descriptor is appended.
        after: calls something so many seconds later, in main's loop.
        stderr: descriptor of what is to be its standard error; None = this process's.
        variables: added to its environment.

    Raises:
        OSError: the program cannot be started.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        after: Callable[[float, Callable[[], None]], None],
        variables: Mapping[str, str] = NO_VARIABLES,
        *,
        stderr: int | None = None,
    ) -> None:
        self.name = name
        self.link, theirs = Link.pair()
        self.started = time.monotonic()
        self._after = after
        self._waiting: deque[tuple[dict[str, Any], list[int]]] = deque()  # messages that found the link full
        # Ctrl-C reaches the whole process group, and a service manager's TERM perhaps everyone. What they mean is
        # main's to decide: they stay blocked in the router, and in the prototype until it has its own handlers.
        # (To be ignored instead would be inherited by everything that the application starts.)
        try:
            self.pid = os.posix_spawn(
                command[0],
                [*command, str(LINK_FD)],
                environment(variables),
                file_actions=[
                    *([(os.POSIX_SPAWN_DUP2, stderr, 2)] if stderr is not None else []),
                    (os.POSIX_SPAWN_DUP2, theirs.fileno(), LINK_FD),
                ],
                setsigmask=DECIDED_BY_MAIN,
                setsigdef=[signal.SIGPIPE, signal.SIGXFSZ, *DECIDED_BY_MAIN],
            )
        except OSError:
            self.link.close()
            raise
        finally:
            theirs.close()

    @property
    def lived(self) -> float:
        """Seconds since its start."""
        return time.monotonic() - self.started

    def tell(self, message: dict[str, Any], fds: Sequence[int] = ()) -> None:
        """Send it a message, now or when it has read others; if it does not take it, its death is seen elsewhere.

        A router that starts, or stands still, while hundreds of workers are introduced to it has a full link.

        Raises:
            OSError: there is no descriptor left for a file that has to wait.
        """
        if not self._waiting and self._send(message, fds):
            return
        copies = [os.dup(fd) for fd in fds]
        if not self._waiting:
            self._after(RETRY, self._go_on)
        self._waiting.append((message, copies))
        if len(self._waiting) > MOST_WAITING:
            log.error("the %s (pid %d) does not read what it is told: it is ended", self.name, self.pid)
            self.forget()
            self.kill()

    def _send(self, message: dict[str, Any], fds: Sequence[int]) -> bool:
        try:
            self.link.send(message, fds)
        except LinkFull:
            return False
        except PeerLost:
            log.debug("the %s did not take %r", self.name, message["type"])
        return True

    def _go_on(self) -> None:
        while self._waiting and self._send(*self._waiting[0]):
            close_all(self._waiting.popleft()[1])
        if self._waiting:
            self._after(RETRY, self._go_on)

    def forget(self) -> None:
        """Send nothing of what still waits."""
        while self._waiting:
            close_all(self._waiting.popleft()[1])

    def close(self) -> None:
        """Let go of it: it has ended, or this process is another one now."""
        self.forget()
        self.link.close()

    def configure(self, message: dict[str, Any], settings: dict[str, Any], fds: Sequence[int]) -> None:
        """Send it its first message, with the settings, which may be of any length, in a file behind `fds[0]`."""
        fd = parcel.pack(settings)
        self.tell(message, [fds[0], fd, *fds[1:]])
        os.close(fd)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal. Only for a child that is not yet reaped: its number cannot belong to anyone else."""
        os.kill(self.pid, number)


def hold_standard_files() -> None:
    """Open /dev/null in place of standard files that are closed.

    Else a link or a socket would get such a number, and be taken for standard error, here and in every child.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it gets the lowest free number: this one


def environment(variables: Mapping[str, str] = NO_VARIABLES) -> dict[str, str]:
    """This process's environment without what concerns this process alone, and with `variables`.

    Service managers address main by NOTIFY_SOCKET and LISTEN_*, and an embedded gunicorn would take GUNICORN_*
    for its own. The io_uring that libuv would open is of no use to sockets.
    """
    kept = {name: value for name, value in os.environ.items() if name not in _FOREIGN}
    kept |= {"UV_USE_IO_URING": "0", **variables}
    return {name: value for name, value in kept.items() if not name.startswith("GUNICORN_")}


def adopt_orphans(*, adopt: bool = True) -> bool:
    """Become (or stop being) the parent of every descendant whose own parent dies; False where that is impossible.

    The workers of a dead prototype go on serving as children of main, which can then reap them.
    """
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        return int(libc.prctl(_PR_SET_CHILD_SUBREAPER, int(adopt), 0, 0, 0)) == 0
    except (OSError, AttributeError):
        return False


def reap() -> list[tuple[int, int]]:
    """Process id and status (as `os.waitpid` gives it) of every child that has ended since the last call."""
    ended: list[tuple[int, int]] = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended.append((pid, status))


def describe(status: int) -> str:
    """An exit status in words, e.g. "exit status 1" or "signal SIGKILL"."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exit status {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"
