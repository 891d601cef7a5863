"""Whatever has happened to a server: in the end nobody holds any of its memory, and it has what it began with."""

from __future__ import annotations

import contextlib
import os
import re
import signal

import pytest

from bridge import config
from tests.end_to_end.inside import NOTHING, Inside, Left
from tests.end_to_end.server import Server, until
from tests.end_to_end.wire import BrokenAnswer, Wire

MIB = 1 << 20
DIED = r"[^\n]*\[error\] worker \d+ \(pid \d+\) ended: signal SIGKILL\n"
SERVERS = {"asgi": "streams:asgi", "wsgi": "streams:wsgi"}
WITHOUT_FILES = ("--set", "http.max_temp_file_size=0")  #: then a thread of WSGI waits for slow clients as ASGI does


def settled(server: Server) -> None:
    """Wait until everything is free."""
    inside = Inside(server.router)
    until(lambda: inside.left() == NOTHING, f"everything is free: {inside.left()}")


def files(pid: int) -> int:
    """Descriptors of a process."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def replace_worker(server: Server) -> None:
    """Kill a worker, and wait for the next one."""
    victim, *others = server.workers
    os.kill(victim, signal.SIGKILL)
    server.log.take(DIED)
    count = len(others) + 1
    until(lambda: len(server.workers) == count and victim not in server.workers, "there is another worker")


def reload(server: Server) -> None:
    """Replace all workers, and wait until the old ones have left."""
    before = server.workers
    server.main.send_signal(signal.SIGHUP)
    server.log.take("reloaded\n")
    until(lambda: not set(before) & {process.pid for process in server.living()}, "the old workers have left")


def ask_and_leave(server: Server) -> None:
    """Requests that succeed, and clients that leave in the middle of every part of one."""
    with Wire(server.address) as wire:
        assert wire.get("/small").answer().text == "small\n"
        assert wire.post("/echo", b"x" * 3 * MIB).answer().body == b"x" * 3 * MIB
    for _ in range(3):
        with Wire(server.address) as wire:
            wire.send(b"POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 4000000\r\n\r\n", bytes(2 * MIB))
        with Wire(server.address, receive_buffer=4096) as wire:
            wire.get("/download").receive(1000)
        with Wire(server.address) as wire:
            wire.get("/small")


@pytest.mark.parametrize("interface", SERVERS)
def test_everything_is_free_in_the_end(interface: str) -> None:
    """Success, clients that leave, a worker that is killed with all of that on its hands, a reload: all comes back."""
    with Server(SERVERS[interface], "-w", "2") as server:
        ask_and_leave(server)
        settled(server)
        with Wire(server.address, receive_buffer=4096) as reader, Wire(server.address) as sender:
            reader.get("/download").receive(1000)
            sender.send(b"POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 4000000\r\n\r\n", bytes(MIB))
            until(lambda: Inside(server.router).left() != NOTHING, "bodies lie in shared memory")
            for pid in server.workers:
                os.kill(pid, signal.SIGKILL)
                server.log.take(DIED)
        settled(server)
        ask_and_leave(server)
        reload(server)
        ask_and_leave(server)
        settled(server)


def test_what_is_held_is_seen() -> None:
    """A request that waits shows as a tracking word, its body as chunks, those of other tests would too."""
    with Server("plain:app") as server, Wire(server.address) as wire:
        wire.send(b"POST /hold_body?gate=go HTTP/1.1\r\nHost: t\r\nContent-Length: 500000\r\n\r\n", bytes(300_000))
        server.log.take("hold_body at go in [0-9]+\n")
        inside = Inside(server.router)
        until(lambda: inside.left().chunks > 10, "the body lies in chunks")
        assert inside.left()[1:] == (0, 1)
        assert inside.left() > Left(10, 0, 0)
        server.open("go")
        wire.send(bytes(200_000))
        assert wire.answer().text == "500000"
        settled(server)


@pytest.mark.parametrize("interface", SERVERS)
def test_descriptors_and_processes_come_back(interface: str) -> None:
    """After dead workers, reloads and clients that leave, main, router and prototype have as many files as before."""
    with Server(SERVERS[interface], "-w", "2") as server:
        keepers = (server.main.pid, server.router, server.prototype)

        def held() -> tuple[int, ...]:
            return (len(server.living()), Inside(server.router).mappings(), *map(files, keepers))

        ask_and_leave(server)  # what is made once for all is made now
        replace_worker(server)
        settled(server)
        seen: list[tuple[int, ...]] = []

        def still() -> bool:
            seen.append(held())
            return len(seen) > 20 and len(set(seen[-20:])) == 1

        until(still, "the last connection is closed")
        before = seen[-1]
        for _ in range(3):
            ask_and_leave(server)
            replace_worker(server)
            reload(server)
        settled(server)
        until(lambda: held() == before, f"{before} again, not {held()}")


@pytest.mark.parametrize("interface", SERVERS)
def test_a_worker_that_waits_for_memory_obeys(interface: str) -> None:
    """Responses to clients that take nothing hold what they may, others wait: the worker ends in its grace."""
    options = ("--set", "memory.chunks=2", "--graceful-timeout", "0.5", "--threads", "4", *WITHOUT_FILES)
    with Server(SERVERS[interface], *options) as server, contextlib.ExitStack() as stack:
        wires = [stack.enter_context(Wire(server.address, receive_buffer=4096)) for _ in range(4)]
        for wire in wires:
            wire.get("/download")
        inside = Inside(server.router, config.Memory(chunks=2))
        # Of ASGI the last bytes may lie in the router's buffer for the socket, and each task wait for its own client.
        stuck = [Left(chunks, 0, 4) for chunks in ((2,) if interface == "wsgi" else (0, 1, 2))]
        until(lambda: inside.left() in stuck, "four requests run, and can go no further")
        server.main.send_signal(signal.SIGTERM)
        for wire in wires:
            with pytest.raises((BrokenAnswer, ConnectionResetError)):
                wire.exactly(90_000_000)
        server.main.wait(20)
        server.log.all()
        server.log.rest = re.sub(r"[^\n]*cancelled, the server stops[^\n]*\n", "", server.log.rest)
