"""A worker as main knows it: its number, its control link, and a handle on the process that no other can inherit."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
from collections.abc import Iterable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Protocol

from bridge.child import Child
from bridge.errors import PeerLost
from bridge.ipc.link import Link
from bridge.log import log

FIRST_WORKER = 2  #: 0 is nobody and 1 the router
RANGES = 8  #: of worker ids: a new prototype gets one that no orphan is in
MOST_REPORT = 262144  #: bytes of a failed worker's traceback that main reads


@dataclass(eq=False, slots=True)
class Member:
    """One worker, from its fork until its process has ended.

    Args:
        number: worker id: row in the status page and owner in shared memory.
        pid: process id, for the log.
        link: main's end of the worker's control link.
        prototype: who forked it; a member whose prototype is dead is an orphan and main's own child.
        application: name of the one that it runs.

    Attributes:
        ready: it takes requests, or has.
        attached: it has said so to the router, to the one that lives now.
        told: kinds of news that it has sent.
        draining: it takes no more.
    """

    number: int
    pid: int
    link: Link
    prototype: Child
    application: str = ""
    ready: bool = False
    attached: bool = field(init=False, default=False)
    told: set[str] = field(init=False, default_factory=set)
    draining: bool = field(init=False, default=False)
    pidfd: int | None = field(init=False, default=None)
    ended: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        with contextlib.suppress(OSError, AttributeError):
            self.pidfd = os.pidfd_open(self.pid)

    def kill(self, number: signal.Signals) -> None:
        """Send the worker a signal; does nothing if it has ended, even if its process id is someone else's now."""
        if self.ended:
            return
        with contextlib.suppress(OSError, PeerLost):
            if self.pidfd is not None:
                signal.pidfd_send_signal(self.pidfd, number)
            elif number == signal.SIGTERM:
                self.link.send({"type": "drain"})
            else:
                os.kill(self.pid, number)

    def close(self) -> None:
        """Let go of it: its process has ended, or main does."""
        self.ended = True
        self.link.close()
        if self.pidfd is not None:
            os.close(self.pidfd)
            self.pidfd = None


def free_range(members: Iterable[int], size: int, first: int = FIRST_WORKER) -> int | None:
    """The first id of a range of `size` ids, none of which a living worker has; None if there is no such range.

    Args:
        members: ids of the application's living workers.
        size: of one range.
        first: the first id of the application.
    """
    taken = {(number - first) // size for number in members}
    return next((first + index * size for index in range(RANGES) if index not in taken), None)


class Introducible(Protocol):
    """What `introduce` has to know of a worker."""

    @property
    def number(self) -> int:
        """Its worker id."""

    @property
    def application(self) -> str:
        """Name of what it serves."""

    @property
    def pid(self) -> int:
        """Its process id."""

    @property
    def link(self) -> Link:
        """Main's end of its control link."""

    def kill(self, number: signal.Signals) -> None:
        """Send it a signal."""


def introduce(member: Introducible, router: Child) -> None:
    """Give the worker and the router a link to each other; each learns by its own link's end if the other is gone.

    A worker that cannot be given one is of no use: it is ended, and the prototype's next one tries again.
    """
    try:
        with ExitStack() as made:
            ours, theirs = (made.enter_context(closing(end)) for end in Link.pair())
            message = {"type": "worker", "application": member.application, "worker": member.number, "pid": member.pid}
            router.tell(message, [ours.fileno()])
            member.link.send({"type": "router"}, [theirs.fileno()])
    except PeerLost:
        pass  # its end shows elsewhere: the worker's pidfd becomes readable
    except OSError as error:
        log.error("worker %d (pid %d) cannot be introduced to the router: %s", member.number, member.pid, error)
        member.kill(signal.SIGKILL)


def read_report(fds: list[int]) -> str:
    """The text in the first of these memory files, if there is one; closes all of them."""
    text = ""
    for fd in fds:
        with contextlib.suppress(OSError):
            fcntl.fcntl(fd, fcntl.F_GET_SEALS)  # only memory has an answer: to read it never takes long
            text = text or os.pread(fd, MOST_REPORT, 0).decode(errors="replace")
        os.close(fd)
    return text
