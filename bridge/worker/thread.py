"""One thread of a WSGI worker: it takes requests itself, one at a time, and runs them.

It has a seat at each router that the worker has joined. With one router, which is the rule, a seat's `next` is all that
happens between two requests. A thread that finds nothing sleeps until one of its bells rings; edge-triggered, so that
waking up is one system call and nobody has to hush a bell.
"""

from __future__ import annotations

import logging
import select
import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

from bridge.errors import BridgeError, PeerLost
from bridge.ipc.doorbell import Doorbell
from bridge.worker.seat import Seat
from bridge.worker.thread_router import ThreadRouter
from bridge.worker.thread_stream import ThreadStream
from bridge.worker.types import SyncStream

_RUNG = select.EPOLLIN | select.EPOLLET


class Gateway(Protocol):
    """Runs the requests of an application: `worker.wsgi.WsgiApplication`."""

    def run(self, stream: SyncStream) -> None:
        """Run one request to the end of its stream; raises nothing."""


class RequestThread:
    """See the head of the file. `join`, `leave` and `stir` are the main thread's.

    Args:
        index: its number, from 0.
        gateway: runs the requests.
        ended: called by the thread as its last step.
    """

    def __init__(self, index: int, gateway: Gateway, ended: Callable[[], None]) -> None:
        self.active = False  #: it is running a request
        self.alive = True  #: it has yet to end
        self.taken = 0  #: requests so far
        self._index = index
        self._run_request = gateway.run
        self._ended = ended
        self._seats: list[Seat] = []
        self._arrived: deque[ThreadRouter] = deque()
        self._leaving = False
        self._stirred = Doorbell()
        self._bells = select.epoll()
        self._bells.register(self._stirred.descriptor, _RUNG)
        # A daemon: one that is stuck in the application must not keep the process alive.
        self._thread = threading.Thread(target=self._run, name=f"request-{index}", daemon=True)

    def start(self) -> None:
        """Begin to run; it sleeps until it is given a router."""
        self._thread.start()

    def join(self, router: ThreadRouter) -> None:
        """Take requests of this router too."""
        self._arrived.append(router)
        self.stir()

    def leave(self) -> None:
        """End with the request that is running."""
        self._leaving = True
        self.stir()

    def stir(self) -> None:
        """Look around: a router has gone."""
        self._stirred.ring()

    def _run(self) -> None:
        done: ThreadStream | None = None
        seat: Seat | None = None
        try:
            while not self._leaving:
                while self._arrived:
                    self._sit_down(self._arrived.popleft())
                if len(self._seats) == 1 and self._seats[0].router.alive and seat in (None, self._seats[0]):
                    seat = self._seats[0]
                    done = self._look(seat, done)
                else:
                    seat, done = self._look_around(seat, done)
                if done is None:
                    seat = None
                    self._bells.poll(maxevents=1)
                else:
                    self._serve(done)
            self._finish(seat, done)
        except BaseException:
            logging.getLogger("bridge").critical("a thread for requests has failed", exc_info=True)
        finally:
            try:
                self._leave_seats()
            finally:
                self.alive = False
                self._ended()

    def _leave_seats(self) -> None:
        """Let nobody ring for this thread any more, however it ends."""
        for seat in list(self._seats):
            try:
                seat.leave()
            except (BridgeError, OSError, ValueError) as error:
                seat.router.fail(error)
            self._get_up(seat)

    def _serve(self, stream: ThreadStream) -> None:
        self.active = True
        self.taken += 1
        try:
            if stream.cancelled():
                stream.abort()
            elif not stream.complete:
                logging.getLogger("bridge").error("a request came without its whole body, which WSGI needs")
                stream.abort()
            else:
                self._run_request(stream)
        except BaseException:
            logging.getLogger("bridge").critical("a request failed", exc_info=True)
            stream.abort()
        self.active = False

    def _look(self, seat: Seat, done: ThreadStream | None) -> ThreadStream | None:
        try:
            return seat.next(done)
        except (BridgeError, OSError, ValueError) as error:  # the latter two: a segment that cannot be mapped
            seat.router.fail(error)
            self._get_up(seat)
            return None

    def _look_around(self, seat: Seat | None, done: ThreadStream | None) -> tuple[Seat | None, ThreadStream | None]:
        """As `_look`, with any number of routers: a request from the next one that has some."""
        self._finish(seat, done)
        for other in list(self._seats):
            if not other.router.alive:
                self._get_up(other)
        # In turn, and after a request the router that it came from is the last to be asked.
        if seat in self._seats:
            while self._seats[-1] is not seat:
                self._seats.append(self._seats.pop(0))
        for other in list(self._seats):
            found = self._look(other, None)
            if found is not None:
                for dozing in self._seats:
                    if dozing is not other:
                        dozing.leave()
                return other, found
        return None, None

    def _finish(self, seat: Seat | None, done: ThreadStream | None) -> None:
        """Say what is left to be said about a request, without looking for another one."""
        if seat is not None and done is not None:
            stream, message = done.rest()
            if stream:
                seat.finish(stream, message)

    def _sit_down(self, router: ThreadRouter) -> None:
        try:
            seat = Seat(router, self._index)
        except PeerLost:  # while this thread ran a request
            return
        except (BridgeError, OSError, ValueError) as error:
            router.fail(error)
            return
        self._seats.append(seat)
        self._bells.register(seat.bell.descriptor, _RUNG)

    def _get_up(self, seat: Seat) -> None:
        self._seats.remove(seat)
        self._bells.unregister(seat.bell.descriptor)
        seat.close()
