"""The router of a gunicorn master: one process that is kept alive, and replaced when its settings change.

A new router serves before the old one stops accepting, on the same sockets or on others. Workers are introduced to
every router that lives: an old one may have requests in line for long. What routers write to standard error goes to
the master's log, line by line.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pwd
import re
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bridge import config
from bridge.child import ROUTER, Child, describe
from bridge.ipc.link import Link
from bridge.ipc.status import Page
from bridge.log import log
from bridge.loop import Loop, read_all
from bridge.roster import Introducible, introduce
from bridge.router.listener import Listener
from bridge.worker.backoff import BackOff

MOST_TEXT = 65536  #: bytes of a router's log that are read at once
RETRY = 1.0  #: seconds
GENERATIONS = 4  #: of workers that a router has room for
MOST_WAITERS = 65535  #: threads of all workers that it has room for
_LINE = re.compile(r"\S+ \S+ \[\d+\] \[(\w+)\] (.*)")


@dataclass(frozen=True, slots=True)
class Introduced:
    """A worker as the router is told of it."""

    number: int
    application: str
    pid: int
    link: Link
    send_signal: Callable[[int, signal.Signals], None]

    def kill(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.send_signal(self.pid, number)


@dataclass(frozen=True, slots=True)
class Order:
    """What a router is to do: one with another order is another router."""

    settings: config.Settings
    listeners: tuple[Listener, ...]
    command: Sequence[str]
    grace: float  #: seconds that requests have when it is replaced

    @property
    def room(self) -> int:
        """Workers that it can take in: of several generations, while one replaces another."""
        (application,) = self.settings.applications.values()
        return min(GENERATIONS * application.processes, MOST_WAITERS // application.threads)


@dataclass(eq=False, slots=True)
class Router:
    """One router process.

    Args:
        child: the process.
        order: what it was started for.
        output: read end of the pipe that is its standard error.

    Attributes:
        known: numbers of the workers that were introduced to it and have not ended.
        attached: process ids of those that have attached to it, and have not ended.
    """

    child: Child
    order: Order
    output: int
    serving: bool = False
    draining: bool = False
    drained: bool = False
    told_to_quit: bool = False
    known: set[int] = field(default_factory=set)
    attached: set[int] = field(default_factory=set)


class Routers:
    """See the head of the file.

    Args:
        loop: what the master sleeps in.
        page: the status page.
        known: gives every living worker.
        cut: called with the number of a worker that must be killed.
        news: called when a router has begun to accept, or a worker has attached to one.
    """

    def __init__(
        self,
        loop: Loop,
        page: Page,
        known: Callable[[], Iterable[Introducible]],
        cut: Callable[[int], None],
        news: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._page = page
        self._known = known
        self._cut = cut
        self._news = news
        self._alive: dict[int, Router] = {}
        self._current: Router | None = None
        self._order: Order | None = None
        self._deaths = BackOff(free=1)
        self._ending = False
        self._own = True
        self.ever_served = False

    def use(self, order: Order) -> None:
        """Have a router with this order; the one that serves now goes on until the new one does.

        Raises:
            OSError: it cannot be started.
        """
        if order != self._order:
            self._start(order)
            self._order = order

    def _start(self, order: Order) -> None:
        read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            child = Child("router", order.command, self._loop.after, stderr=write)
        except OSError:
            os.close(read)
            raise
        finally:
            os.close(write)
        router = self._alive[child.pid] = Router(child, order, read)
        self._loop.watch(child.link, lambda: self._read(router))
        self._loop.watch(read, lambda: self._copy_log(router))
        message = {
            "type": "configure",
            "listeners": [listener.to_json() for listener in order.listeners],
            "owner_pid": os.getpid(),
            "rows": self._page.rows,
        }
        sockets = [listener.socket.fileno() for listener in order.listeners]
        child.configure(message, config.to_json(order.settings), [self._page.fd, *sockets])
        if not self._own:
            self._tell_files(router)
        for worker in self._known():
            self._introduce(worker, router)

    def _start_again(self) -> None:
        if self._ending or self._order is None or self._current is not None:
            return
        try:
            self._start(self._order)
        except OSError as error:
            log.error("the router cannot be started: %s", error)
            self._loop.after(RETRY, self._start_again)

    def own_files(self, *, own: bool) -> None:
        """Say whether routers remove the socket files when the master is gone; not while they are another master's."""
        if own != self._own:
            self._own = own
            for router in self._alive.values():
                self._tell_files(router)

    def _tell_files(self, router: Router) -> None:
        files = [listener.file.to_json() for listener in router.order.listeners if listener.file and self._own]
        router.child.tell({"type": "files", "files": files})

    def introduce(self, worker: Introducible) -> None:
        """Give this worker and every router that has room for it links to each other."""
        for router in self._alive.values():
            self._introduce(worker, router)

    @staticmethod
    def _introduce(worker: Introducible, router: Router) -> None:
        # One that is full is about to be replaced by one that is not: who has no place there has one here.
        if len(router.known) < router.order.room:
            router.known.add(worker.number)
            introduce(worker, router.child)

    def gone(self, worker: Introducible) -> None:
        """This worker has ended: a process that it forked may hold its link to a router open."""
        about = {"application": worker.application, "worker": worker.number, "pid": worker.pid}
        for router in self._alive.values():
            if worker.number in router.known:
                router.known.discard(worker.number)
                router.attached.discard(worker.pid)
                router.child.tell({"type": "gone", **about})

    def reopen(self) -> None:
        """Open the access log anew."""
        self._tell_all({"type": "reopen"})

    def drain(self) -> None:
        """Stop accepting for good, and finish what has come."""
        self._ending = True
        for router in self._alive.values():
            self._drain(router)

    def serving(self, wanted: int) -> int:
        """Workers of the router that accepts; 0 while they are fewer than wanted, and fewer than it has room for."""
        router = self._current
        if router is None or self._ending:
            return 0
        attached = len(router.attached)
        return attached if attached >= min(wanted, router.order.room) else 0

    @property
    def busy(self) -> bool:
        """Whether some router has not finished, after `drain`."""
        return any(not router.drained for router in self._alive.values())

    @property
    def alive(self) -> bool:
        """Whether some router has not ended."""
        return bool(self._alive)

    def quit(self) -> None:
        """End now, whatever runs."""
        self._ending = True
        for router in self._alive.values():
            self._quit(router)

    def kill(self) -> None:
        """End those that would not."""
        for router in self._alive.values():
            router.child.kill()

    def ended(self, pid: int, status: int) -> bool:
        """A child was reaped; whether it was a router. One that never served is not started again."""
        router = self._alive.pop(pid, None)
        if router is None:
            return False
        self._loop.forget(router.child.link)
        router.child.close()
        self._copy_log(router)
        self._loop.forget(router.output)
        os.close(router.output)
        if router is self._current:
            self._current = None
        if self._ending or router.draining:
            return True
        if not router.serving and self._current is not None:
            log.error("the new router ended before it served: %s; the old one goes on", describe(status))
            self._order = self._current.order
            return True
        if not self.ever_served:
            log.error("the router (pid %d) ended before it served: %s", pid, describe(status))
            return True
        pause = self._deaths.died(router.child.lived)
        then = "starting another; its connections went with it"
        log.error("the router (pid %d) ended: %s; %s", pid, describe(status), then)
        self._loop.after(pause, self._start_again)
        return True

    def release(self) -> None:
        """In a forked child: let go of what is the master's."""
        for router in self._alive.values():
            router.child.close()
            os.close(router.output)

    def _read(self, router: Router) -> None:
        if not read_all(router.child.link, lambda message, _: self._on_message(router, message)):
            # It is about to end and to be reaped. One that does not, or talks nonsense, is of no more use.
            self._loop.forget(router.child.link)
            self._loop.after(RETRY, lambda: router.child.kill() if router.child.pid in self._alive else None)

    def _on_message(self, router: Router, message: dict[str, Any]) -> None:
        if message["type"] == "serving":
            router.serving = self.ever_served = True
            before = self._current
            if before is not None and router.order != self._order == before.order:
                before = router  # it was started earlier, and comes too late
            else:
                self._current = router
            if before is not None:
                self._drain(before)
                self._loop.after(before.order.grace, lambda: self._quit(before))
            self._news()
        elif message["type"] == "attached":
            router.attached |= {message["pid"]} & {worker.pid for worker in self._known()}
            self._news()
        elif message["type"] == "drained":
            router.drained = True
            if not self._ending:
                self._quit(router)
        elif message["type"] == "cut":
            self._cut(int(message["worker"]))

    def _drain(self, router: Router) -> None:
        if not router.draining:
            router.draining = True
            router.child.tell({"type": "drain"})

    def _quit(self, router: Router) -> None:
        router.draining = True
        if not router.told_to_quit:
            router.told_to_quit = True
            router.child.tell({"type": "quit"})

    def _tell_all(self, message: dict[str, Any]) -> None:
        for router in self._alive.values():
            router.child.tell(message)

    def _copy_log(self, router: Router) -> None:
        try:
            text = os.read(router.output, MOST_TEXT)
        except BlockingIOError:
            return
        if not text:
            self._loop.forget(router.output)
        for line in text.decode(errors="replace").splitlines():
            found = _LINE.fullmatch(line)
            level, said = (found[1].upper(), found[2]) if found else ("ERROR", line)
            number = logging.getLevelNamesMapping().get(level, logging.ERROR)
            log.log(number, "router (pid %d): %s", router.child.pid, said)


def command(uid: int, gid: int, *, initgroups: bool) -> tuple[str, ...]:
    """Command line of a router that is to run as this user.

    Args:
        uid: the user.
        gid: the group.
        initgroups: with all other groups of that user, if the system knows it, else with none.
    """
    if (uid, gid) == (os.getuid(), os.getgid()):
        return ROUTER
    groups = [gid] * bool(gid)
    if initgroups:
        with contextlib.suppress(KeyError):  # a number without a name, as in containers
            groups = os.getgrouplist(pwd.getpwuid(uid).pw_name, gid)
    numbers = ",".join(str(group) for group in groups)
    return (sys.executable, "-P", "-m", "bridge.router.unprivileged", str(uid), str(gid), numbers)
