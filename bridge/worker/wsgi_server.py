"""A worker that serves a WSGI application on threads that take requests themselves.

The main thread runs no requests: it beats, takes signals, and hears main and the routers for its threads. The order of
its life: "ready" to main → its threads take requests from every router that main introduces → told to leave, or main is
gone → the threads end with the requests that they run, or are left behind when their time is over.
"""

from __future__ import annotations

import logging
import os
import select
import sys
import time
from collections.abc import Callable

from bridge import __version__, config
from bridge.errors import BridgeError, PeerLost
from bridge.ipc import handshake
from bridge.ipc.doorbell import Doorbell
from bridge.ipc.link import Link
from bridge.ipc.status import ACTIVE, PERIOD, REQUESTS, Row, State
from bridge.worker import heap
from bridge.worker.main_link import QUICK, MainLink
from bridge.worker.thread import Gateway, RequestThread
from bridge.worker.thread_router import ThreadRouter


class WsgiServer:
    """Serves one WSGI application in this process.

    Args:
        application: what the operator configured.
        main: the link to main.
        row: this worker's row of the status page.
        gateway: runs the requests.
    """

    def __init__(self, application: config.Application, main: MainLink, row: Row, gateway: Gateway) -> None:
        self._settings = application
        self._main = main
        self._row = row
        self._log = logging.getLogger("bridge")
        self._bell = Doorbell()
        self._poll = select.poll()
        self._watched: dict[int, Callable[[], None]] = {}
        self._routers: list[ThreadRouter] = []
        self._threads = [RequestThread(index, gateway, self._bell.ring) for index in range(application.threads)]
        self._leaving = False
        self._graceful = True
        self._beat_at = 0.0  # the monotonic clock's time of the next heartbeat
        self._end_by = 0.0  # and of the end, whatever runs; 0 = it is not leaving

    def run(self) -> int:
        """Serve and leave; returns the exit status, unless threads have to be left behind."""
        if self._leaving:
            return 0
        heap.keep()
        heap.settle()
        for thread in self._threads:
            thread.start()
        self._watch(self._main.fileno(), self._on_main)
        self._watch(self._bell.fileno(), self._bell.hush)
        self._row.enter(State.READY)
        self._tell("ready")
        while self._step():
            pass
        left = sum(thread.alive for thread in self._threads)
        if left:
            self._log.warning("%d requests still run and are left behind", left)
            _exit(0)
        return 0

    def stop(self, graceful: bool) -> None:
        """Leave: finish what runs first, or quickly. May be called again, and from a signal handler."""
        self._graceful = graceful and (self._graceful or not self._leaving)
        self._leaving = True
        self._bell.ring()

    def _step(self) -> bool:
        """Wait for the next thing to do, and do it; False = there is no more."""
        now = time.monotonic()
        if now >= self._beat_at:
            self._beat()
            self._beat_at = now + PERIOD
        alive = sum(thread.alive for thread in self._threads)
        if alive < len(self._threads) and not self._leaving:
            self._log.critical("this worker leaves: %d of its threads have failed", len(self._threads) - alive)
            self.stop(graceful=True)
        if self._leaving:
            self._leave(now)
            if now >= self._end_by or not alive:
                self._beat()
                return False
        until = min(self._beat_at, self._end_by) if self._end_by else self._beat_at
        for fd, _ in self._poll.poll(max(0.0, until - now) * 1000 + 1):
            handle = self._watched.get(fd)
            if handle is not None:  # what one handles may end another
                handle()
        for router in list(self._routers):
            if router.failed:
                self._lost(router)
        return True

    def _leave(self, now: float) -> None:
        if not self._end_by:
            self._end_by = now + self._settings.graceful_timeout
            self._row.enter(State.DRAINING)
            self._tell("draining")
            for router in self._routers:
                router.drain()
            for thread in self._threads:
                thread.leave()
        if not self._graceful:
            self._end_by = min(self._end_by, now + QUICK)

    def _beat(self) -> None:
        self._row.beat()
        self._row.words[REQUESTS] = sum(thread.taken for thread in self._threads)
        self._row.words[ACTIVE] = sum(thread.active for thread in self._threads)

    def _tell(self, kind: str) -> None:
        if not self._main.tell({"type": kind}):
            self.stop(graceful=False)

    # Main and the routers

    def _watch(self, fd: int, handle: Callable[[], None]) -> None:
        self._watched[fd] = handle
        self._poll.register(fd, select.POLLIN)

    def _forget(self, fd: int) -> None:
        del self._watched[fd]
        self._poll.unregister(fd)

    def _on_main(self) -> None:
        if not self._main.hear(self._introduced, self.stop):
            self._forget(self._main.fileno())

    def _introduced(self, link: Link) -> None:
        if self._leaving:
            link.close()
        else:
            self._watch(link.fileno(), lambda: self._on_offer(link))

    def _on_offer(self, link: Link) -> None:
        if self._leaving:
            self._forget(link.fileno())
            link.close()
            return
        try:
            attachment = handshake.receive_offer(link, __version__)
        except PeerLost:
            self._forget(link.fileno())
            link.close()
            return
        except BridgeError as error:
            self._log.critical("cannot join the router: %s", error)
            self.stop(graceful=False)
            return
        if attachment is not None:
            self._forget(link.fileno())
            self._join(ThreadRouter(attachment, self._bell.ring))

    def _join(self, router: ThreadRouter) -> None:
        self._routers.append(router)
        self._watch(router.port.link.fileno(), router.on_link)
        self._watch(router.port.bell.fileno(), router.on_bell)
        router.on_link()  # segments may have come with the offer
        # A router that was started with other settings may have waiters for fewer threads.
        seated = self._threads[: len(router.waiters)]
        router.open(len(seated))
        for thread in seated:
            thread.join(router)

    def _lost(self, router: ThreadRouter) -> None:
        self._routers.remove(router)
        self._forget(router.port.link.fileno())
        self._forget(router.port.bell.fileno())
        router.end()
        for thread in self._threads:
            thread.stir()
        if router.left and not self._leaving:
            self._log.error("this worker leaves: nobody would introduce it to that router again")
            self.stop(graceful=True)


def _exit(status: int) -> None:
    """End this process although threads of it are stuck in the application."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):  # closed, or there is none
            pass
    os._exit(status)
