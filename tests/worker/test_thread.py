"""Threads that take requests themselves: many at one port, sleeping, leaving, and more than one router."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections import Counter
from collections.abc import Callable

import pytest

from bridge.ipc import handshake
from bridge.ipc.message import ABORT, BATON, HEADER, LAST
from bridge.ipc.port import Geometry
from bridge.worker.thread import RequestThread
from bridge.worker.thread_router import ThreadRouter
from bridge.worker.types import SyncStream
from tests.ipc.rings import ringing, rung
from tests.worker.thread_rig import HEAD, NORMAL, PATIENCE, TINY, RouterSide, until

SHORT = HEAD[-24:]


class Gateway:
    """Answers each request with `answer`, or does what the test wants."""

    def __init__(self, run: Callable[[SyncStream], None] | None = None) -> None:
        self.count: Counter[str] = Counter()
        self.gate = threading.Event()
        self.waiting = threading.Semaphore(0)
        self._run = run

    def run(self, stream: SyncStream) -> None:
        """As `worker.wsgi.WsgiApplication`."""
        self.count[threading.current_thread().name] += 1
        if self._run is not None:
            self._run(stream)
        stream.respond(200, b"", 2, 0, b"ok", True)

    def wait(self, stream: SyncStream) -> None:
        """Hold the request until the gate is open."""
        self.waiting.release()
        assert self.gate.wait(PATIENCE)


class Threads:
    """The threads of one worker."""

    def __init__(self, gateway: Gateway, count: int) -> None:
        self.ended = threading.Semaphore(0)
        self.all = [RequestThread(index, gateway, self.ended.release) for index in range(count)]
        for thread in self.all:
            thread.start()

    def join(self, side: RouterSide) -> None:
        """All of them take this router's requests."""
        for thread in self.all:
            thread.join(side.router)

    def leave(self) -> None:
        """All of them end; waits for that."""
        for thread in self.all:
            thread.leave()
        for _ in self.all:
            assert self.ended.acquire(timeout=PATIENCE)
        until(lambda: not any(thread.alive for thread in self.all))


def asleep(side: RouterSide, threads: int) -> bool:
    """Whether so many have their sleeping bits set."""
    return side.sleeping() == threads


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("geometry", [NORMAL, TINY], ids=["normal", "tiny"])
def test_every_request_is_answered_once(geometry: Geometry, threads: int) -> None:
    """However they come, in bursts and one by one, to threads that run or sleep."""
    requests = 1500
    gateway = Gateway()
    with RouterSide(geometry, threads) as side:
        workers = Threads(gateway, threads)
        workers.join(side)
        published: list[int] = []
        answered: list[int] = []
        burst = 1
        while len(answered) < requests:
            while len(published) < requests and len(published) - len(answered) < burst and side.has_room(3):
                published.append(side.publish(head=SHORT))
            for message in side.drain():
                assert message.payload == b"ok"
                answered.append(message.stream)
                side.free(message.stream)
            if len(published) == len(answered):
                burst = burst % (geometry.queue - 1) + 1
        assert sorted(answered) == sorted(published)
        assert sum(gateway.count.values()) == sum(thread.taken for thread in workers.all) == requests
        until(lambda: asleep(side, threads))
        workers.leave()
        assert asleep(side, 0)


def test_threads_run_side_by_side() -> None:
    """While some of them are busy, the others are rung for what comes."""
    gateway = Gateway()
    gateway._run = gateway.wait
    with RouterSide(NORMAL, 3) as side:
        workers = Threads(gateway, 3)
        workers.join(side)
        for _ in range(4):
            side.publish()
        for _ in range(3):
            assert gateway.waiting.acquire(timeout=PATIENCE)
        assert sum(thread.active for thread in workers.all) == 3
        assert side.queue.length() == 1
        gateway.gate.set()
        side.receive(4)
        assert len(gateway.count) == 3
        workers.leave()


def test_a_thread_that_leaves_passes_its_ring_on() -> None:
    """A request for which it was rung is another sleeper's: here that of the same worker."""
    with RouterSide(NORMAL, 2) as side:
        seats = [side.seat(0), side.seat(1)]
        assert seats[0].next(None) is seats[1].next(None) is None
        side.publish()  # rings one of them
        first = [rung(bell) for bell in side.bells]
        assert sorted(first) == [False, True]
        seats[first.index(True)].leave()
        assert rung(side.bells[first.index(False)])


def test_a_router_that_found_no_room_is_rung() -> None:
    """The main thread, which makes room in the queue to the worker, says so to who waits for it."""
    with RouterSide(TINY, join=False) as side:
        attachment = handshake.receive_offer(side.theirs, "1")
        assert attachment
        router = ThreadRouter(attachment, lambda: None)
        while side.port.send(HEADER.pack(0, 77, 0, 0, 0, 0, 0, 0)):
            pass
        assert not ringing(side.port.bell)
        router.on_bell()
        assert rung(side.port.bell)
        assert side.port.flush()
        router.end()


def test_the_baton_of_another_worker() -> None:
    """A ring for a waiter of another worker goes through the router."""
    with RouterSide(NORMAL, 1) as side:
        seat = side.seat()
        side.publish()
        side.publish()
        assert not side.queue.doze(5)  # there is something: it would not sleep
        side.set_sleeping(5)
        assert seat.next(None) is not None
        (message,) = side.drain()
        assert (message.kind, message.number) == (BATON, 5)


def test_leaving_threads_finish() -> None:
    """Who is told to leave ends with the request that it runs, and takes no other."""
    gateway = Gateway()
    gateway._run = gateway.wait
    with RouterSide(NORMAL, 1) as side:
        workers = Threads(gateway, 1)
        workers.join(side)
        side.publish()
        assert gateway.waiting.acquire(timeout=PATIENCE)
        side.publish()
        workers.all[0].leave()
        gateway.gate.set()
        assert workers.ended.acquire(timeout=PATIENCE)
        (message,) = side.receive()
        assert message.flags & LAST
        assert side.queue.length() == 1
        assert sum(gateway.count.values()) == 1


def test_routers_in_turn() -> None:
    """A thread with two routers serves both, and sleeps on neither while it runs a request of the other."""
    gateway = Gateway()
    with RouterSide() as one, RouterSide() as two:
        workers = Threads(gateway, 1)
        workers.join(one)
        workers.join(two)
        for side in (one, two, two, one, one, two):
            side.publish()
            side.receive()
        gateway._run = gateway.wait
        one.publish()
        assert gateway.waiting.acquire(timeout=PATIENCE)
        assert asleep(two, 0)
        for _ in range(3):
            two.publish()
            one.publish()
        gateway.gate.set()
        one.receive(4)
        two.receive(3)
        workers.leave()


def test_a_router_that_goes() -> None:
    """A thread that runs its request ends with it, and serves the next router; nothing is left open."""
    gateway = Gateway()
    gateway._run = gateway.wait
    before = bells_and_links()
    workers = Threads(gateway, 2)
    with RouterSide(NORMAL, 2) as side:
        workers.join(side)
        side.publish()
        assert gateway.waiting.acquire(timeout=PATIENCE)
        side.link.close()
        assert side.failed.wait(PATIENCE)
        for thread in workers.all:
            thread.stir()
    with RouterSide(NORMAL, 2) as side:
        workers.join(side)
        gateway.gate.set()
        side.publish()
        side.publish()
        side.receive(2)
        workers.leave()
    until(lambda: len(bells_and_links()) == len(before) + 2)


def test_a_router_that_goes_before_its_thread_comes() -> None:
    """A thread that is busy while a router comes and goes serves the one that it had."""
    gateway = Gateway()
    gateway._run = gateway.wait
    with RouterSide() as side:
        workers = Threads(gateway, 1)
        workers.join(side)
        side.publish()
        assert gateway.waiting.acquire(timeout=PATIENCE)
        with RouterSide() as other:
            workers.join(other)
            other.link.close()
            assert other.failed.wait(PATIENCE)
        gateway.gate.set()
        side.publish()
        side.receive(2)
        workers.leave()


def bells_and_links() -> list[str]:
    """Eventfds and sockets of this process; its mappings, which hold descriptors too, go with their last view."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # that of this listing
            found.append(os.readlink(f"/proc/self/fd/{number}"))
    return [target for target in found if target.startswith(("anon_inode:[eventfd]", "socket:"))]


def test_requests_that_are_not_run(caplog: pytest.LogCaptureFixture) -> None:
    """Those that nobody waits for any more, and those whose body is not all there, end without the application."""
    gateway = Gateway()
    with RouterSide(TINY, 1) as side:
        workers = Threads(gateway, 1)
        side.publish(head=SHORT, flags=0)
        workers.join(side)
        (message,) = side.receive()
        assert message.kind == ABORT
        assert not gateway.count
        workers.leave()
    assert "without its whole body" in caplog.text


def test_a_gateway_that_raises(caplog: pytest.LogCaptureFixture) -> None:
    """The thread goes on; the client sees a broken response."""
    caplog.set_level(logging.CRITICAL)

    def fail(stream: SyncStream) -> None:
        raise SystemExit(3)

    gateway = Gateway(fail)
    with RouterSide() as side:
        workers = Threads(gateway, 1)
        workers.join(side)
        side.publish()
        assert [message.kind for message in side.receive()] == [ABORT]
        gateway._run = None
        side.publish()
        assert side.receive()[0].payload == b"ok"
        workers.leave()
    assert "a request failed" in caplog.text


def test_a_thread_that_fails_takes_no_ring_with_it(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever ends it, its sleeping bit goes with it: a ring for it would be lost, and the request wait."""
    with RouterSide(NORMAL, 2) as side, RouterSide(NORMAL, 1) as other:
        workers = Threads(Gateway(), 2)
        workers.join(side)
        until(lambda: asleep(side, 2))
        workers.all[1].join(other.router)  # where there is no waiter for it
        assert workers.ended.acquire(timeout=PATIENCE)
        until(lambda: not workers.all[1].alive)
        assert asleep(side, 1)
        for _ in range(3):
            side.publish()
            side.receive()
        workers.all[0].leave()
        assert workers.ended.acquire(timeout=PATIENCE)
    assert "a thread for requests has failed" in caplog.text


def test_a_router_that_is_left_hears_it_at_once() -> None:
    """Not when the last thread lets go of it, which may be long in the application."""
    gateway = Gateway()
    gateway._run = gateway.wait
    with RouterSide() as side:
        workers = Threads(gateway, 1)
        workers.join(side)
        side.publish()
        assert gateway.waiting.acquire(timeout=PATIENCE)
        side.link.send({"type": "what no router says"})
        until(side.lost)
        gateway.gate.set()
        workers.leave()
        assert side.router.left


def test_garbage_in_the_queue() -> None:
    """The router is left, and the thread lives on."""
    gateway = Gateway()
    with RouterSide() as side:
        workers = Threads(gateway, 1)
        workers.join(side)
        until(lambda: asleep(side, 1))
        assert side.queue.push(HEADER.pack(side.arm(), 99, LAST, 0, 0, 0, 0, 0)) == 1
        side.bells[0].ring()
        assert side.failed.wait(PATIENCE)
        assert side.router.failed
        workers.leave()
