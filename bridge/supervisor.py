"""The supervisor: starts the router and every application, and brings all of them to their end.

One thread that sleeps in `selectors` until a signal, a link or a timer has something. What is started and restarted is
kept by `router_keeper` and `application_keeper`; here are the signals and the two endings:

* TERM: the router stops accepting and finishes; then the workers. What still runs after `graceful_timeout` is ended
  as by INT, so that the application hears of it and can shut down.
* INT, QUIT or a second TERM: workers and router leave at once, within QUICK seconds.

Main holds the listening sockets, so that a router's death loses no waiting connection, and a control link to every
worker, so that a prototype's death loses no worker. When main itself is killed everyone else reads end-of-file and
leaves; the router removes the socket files.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Sequence
from functools import partial

from bridge import config
from bridge.application_keeper import ApplicationKeeper, Place, ids
from bridge.child import adopt_orphans, reap
from bridge.errors import BridgeError
from bridge.ipc.signals import SignalPipe
from bridge.ipc.status import Page
from bridge.log import log
from bridge.loop import Loop
from bridge.roster import FIRST_WORKER, RANGES, Member
from bridge.router.listener import Listener
from bridge.router_keeper import RouterKeeper

QUICK = 5.0  #: seconds for a quick end
HOPELESS = 1.0  #: seconds for the end after a start that failed
EARLIER = 0.3  #: seconds between a prototype's deadline for its workers and main's for the prototype
MANAGED = [signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1]


class Supervisor:
    """The whole work of the main process.

    Args:
        settings: what to serve.
        listeners: open listening sockets; the caller closes them.
        router: command line of the router, without its link's number.
        prototype: the same of every prototype.
        patient: an application that does not start is no reason to end.
    """

    def __init__(
        self,
        settings: config.Settings,
        listeners: list[Listener],
        router: Sequence[str],
        prototype: Sequence[str],
        *,
        patient: bool = False,
    ) -> None:
        self._settings = settings
        self._loop = Loop()
        self._deadline: float | None = None  #: set once the end has begun
        self._quick = False
        self._failure: BridgeError | None = None
        applications = settings.applications.values()
        self._page = Page.create(FIRST_WORKER)  # of the router alone: who can write a page can write all of it
        self._router = RouterKeeper(router, settings, listeners, self._page, self._loop, self)
        self._applications: list[ApplicationKeeper] = []
        first = FIRST_WORKER
        for application in applications:
            own = [
                listener.address.below(prefix)
                for listener in listeners
                for prefix, name in settings.mounts.get(listener.application, {"": listener.application}).items()
                if name == application.name
            ]
            page = Page.create(RANGES * ids(application), first=first)
            where = ", ".join(own) or "no address"
            several = patient or len(applications) > 1
            place = Place(page, first, patient or application.optional, several, where, settings.log_level)
            keeper = ApplicationKeeper(prototype, application, place, self._router, self._loop, self)
            self._applications.append(keeper)
            first += RANGES * ids(application)

    def run(self) -> None:
        """Start everything, watch it, and return when all of it has ended.

        Raises:
            BridgeError: it never came to serve.
        """
        self._signals = SignalPipe(MANAGED)
        self._loop.watch(self._signals, self._on_signals)
        # Process 1 of a container gets no signal that it has no handler for. One that whoever started it has blocked
        # (docker/Dockerfile does) waits until here instead.
        blocked = signal.pthread_sigmask(signal.SIG_UNBLOCK, MANAGED)
        adopt_orphans()
        try:
            self._router.start()
            for application in self._applications:
                application.start()
            while not self._over():
                self._loop.turn()
        finally:
            self._kill_all()
            for kept in (self._router, *self._applications):
                kept.collect()
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            self._signals.close()
            adopt_orphans(adopt=False)
            self._loop.close()
            self._page.close()
        if self._failure:
            raise self._failure

    def _on_signals(self) -> None:
        for number in self._signals.receive():
            if number == signal.SIGCHLD:
                self._reap()
            elif number == signal.SIGTERM:
                self._stop(graceful=True)
            elif number == signal.SIGHUP:
                for application in self._applications:
                    application.reload()
            elif number == signal.SIGUSR1:
                self._router.tell({"type": "reopen"})
            else:
                self._stop(graceful=False)

    def _reap(self) -> None:
        for pid, status in reap():
            if not self._router.reaped(pid, status):
                any(kept.reaped(pid, status) or kept.has(pid) for kept in self._applications)

    # What router and applications tell

    def members(self) -> Iterator[Member]:
        """The living workers of all applications."""
        for application in self._applications:
            yield from list(application.members.values())

    def broken(self) -> Iterator[str]:
        """Names of the applications that cannot be started now."""
        return (kept.application.name for kept in self._applications if kept.broken)

    def router_has_news(self) -> None:
        """Applications may be served from now on that were not."""
        for application in self._applications:
            application.announce()

    def router_drained(self) -> None:
        """Nobody needs the workers any more."""
        self._stop_workers()

    def fail(self, failure: BridgeError) -> None:
        """There is no serving at all: end, and let `run` raise this."""
        self._failure = self._failure or failure
        self._stop(graceful=False, within=HOPELESS)

    # The end

    def _stop(self, *, graceful: bool, within: float = QUICK) -> None:
        if graceful and self._deadline is None:
            within = self._settings.graceful_timeout
            self._loop.after(within, partial(self._stop, graceful=False))
        elif self._quick:
            return
        else:
            self._quick = True
            self._loop.after(within, self._kill_all)
        self._deadline = time.monotonic() + within
        for kept in (self._router, *self._applications):
            kept.stopping = True
        if self._quick:
            self._stop_workers(again=True)
            self._router.tell({"type": "quit"})
        elif self._router.child:
            self._router.tell({"type": "drain"})
        else:
            self._stop_workers()
        if not self._quick:
            log.info("stopping: requests in flight have %g seconds", within)

    def _stop_workers(self, *, again: bool = False) -> None:
        # The prototype kills what has not left in time; a little later main would kill the prototype.
        left = max(0.1, (self._deadline or 0.0) - time.monotonic() - EARLIER)
        for application in self._applications:
            application.stop(graceful=not self._quick, left=left, again=again)

    def _over(self) -> bool:
        if self._deadline is None or not all(application.over for application in self._applications):
            return False
        if self._router.child and not self._quick:
            self._quick = True
            self._loop.after(QUICK, self._kill_all)
            self._router.tell({"type": "quit"})
        return self._router.child is None

    def _kill_all(self) -> None:
        for kept in (self._router, *self._applications):
            kept.kill()
