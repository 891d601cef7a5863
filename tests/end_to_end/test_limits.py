"""Limits on what a client may send and how long it may take, set small."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.server import COMMAND, Server, until
from tests.end_to_end.test_slow_clients import files
from tests.end_to_end.wire import BrokenAnswer, Wire

SIZES = ("http.large_header_buffer_size=1024", "http.large_header_buffers=2", "http.max_body_size=10000")
TIMES = ("http.header_read_timeout=0.5", "http.body_read_timeout=0.5", "http.idle_timeout=2", "http.send_timeout=1")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server with small limits."""
    options = [word for setting in (*SIZES, *TIMES) for word in ("--set", setting)]
    with Server("plain:app", *options) as running:
        yield running


def refused(wire: Wire, status: int) -> bool:
    """Whether the answer is this refusal, and the last thing on its connection."""
    answer = wire.answer()
    assert (answer.status, answer.fields["connection"]) == (status, "close")
    return wire.ended()


def test_target(wire: Wire) -> None:
    """A request line that is too long gets 414."""
    assert refused(wire.get("/" + "a" * 2000), 414)


def test_field(wire: Wire) -> None:
    """A field that is too long gets 431."""
    assert refused(wire.get("/hello", "X: " + "a" * 2000), 431)


def test_head(wire: Wire) -> None:
    """Many fields that are too long together get 431, also when the head does not end."""
    fields = [f"X-{number}: {'a' * 500}" for number in range(8)]
    wire.send("\r\n".join(["GET /hello HTTP/1.1", "Host: t", *fields]).encode())
    assert refused(wire, 431)


def test_body(wire: Wire) -> None:
    """A body that is announced too long gets 413 before any of it was sent, and instead of 100."""
    wire.send(b"POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 10001\r\nExpect: 100-continue\r\n\r\n")
    assert refused(wire, 413)


def test_body_at_the_limit(wire: Wire) -> None:
    """A body of exactly the limit passes."""
    assert wire.post("/count?unhashed=1", b"x" * 10000).answer().text.startswith("10000 ")


def test_chunked_body(wire: Wire) -> None:
    """A transfer-chunked body gets 413 once it has become too long."""
    head = b"POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n"
    wire.send(head, b"1388\r\n" + b"x" * 5000 + b"\r\n", b"1389\r\n" + b"x" * 5001 + b"\r\n")
    assert refused(wire, 413)


def test_head_timeout(wire: Wire) -> None:
    """A head that does not end in time gets 408."""
    assert refused(wire.send(b"GET /hello HTTP/1.1\r\nHo"), 408)


@pytest.mark.parametrize("framing", ["Content-Length: 10", "Transfer-Encoding: chunked"])
def test_body_timeout(wire: Wire, framing: str) -> None:
    """A body that stops coming gets 408."""
    assert refused(wire.send(f"POST /echo HTTP/1.1\r\nHost: t\r\n{framing}\r\n\r\n3".encode()), 408)


def test_idle_timeout(wire: Wire) -> None:
    """A connection without a request is closed without a word, a new one and a used one."""
    assert wire.ended()


def test_idle_timeout_behind_a_request(wire: Wire) -> None:
    """A connection that has had a request is closed without a word too."""
    assert wire.get("/hello").answer().status == 200
    assert wire.ended()


def test_long_request_is_not_idle(server: Server, wire: Wire) -> None:
    """A request that the application works on outlives every one of these times."""
    wire.get("/hold?gate=long")
    server.log.take(r"hold at long in \d+\n")
    with Wire(server.address) as other:
        assert other.ended()  # idle_timeout has passed
    server.open("long")
    assert wire.answer().status == 200


def test_send_timeout(server: Server) -> None:
    """A client that takes nothing for too long is cut off, and the application hears of it."""
    with Wire(server.address, receive_buffer=4096) as wire:
        wire.get("/talk")
        server.log.take("send: OSError [A-Za-z]+\n")
        with pytest.raises(BrokenAnswer):
            wire.exactly(1 << 40)


def test_bodies_in_files_leave_files_for_the_router() -> None:
    """Every client that is let in gets its answer when all bodies lie in files, and a dead worker is replaced."""
    few = ("sh", "-c", 'ulimit -n 128; exec "$@"', "sh", *COMMAND)
    body = bytes(50_000)
    with (
        Server("threaded:app", "--set", "http.body_buffer_size=1000", command=few) as server,
        contextlib.ExitStack() as held,
    ):
        assert answered(server)
        wires = [held.enter_context(Wire(server.address)) for _ in range(80)]
        server.log.take(r"\[error\] \d+ connections are open[^\n]*\n")
        half = b"POST /length HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % len(body) + body[1:]
        let_in = []
        for wire in wires:
            with contextlib.suppress(ConnectionError):
                wire.send(half)
                let_in.append(wire)
        until(lambda: files(server) == sum(not closed(wire) for wire in let_in), "every body is in a file")
        let_in = [wire for wire in let_in if not closed(wire)]
        assert len(let_in) > 5
        (worker,) = server.workers
        os.kill(worker, signal.SIGKILL)
        server.log.take(r"\[error\] worker [^\n]*SIGKILL\n")
        for wire in let_in:
            wire.send(body[:1])
        assert [wire.answer().text for wire in let_in] == [str(len(body))] * len(let_in)


def closed(wire: Wire) -> bool:
    """Whether the server has closed this connection, on which no answer is due."""
    return bool(select.select([wire.socket], [], [], 0)[0])


def test_more_connections_than_files() -> None:
    """Those are closed, which is said once; a worker that dies meanwhile is replaced; then there is room again."""
    few = ("sh", "-c", 'ulimit -n 64; exec "$@"', "sh", *COMMAND)
    with Server("plain:app", command=few) as server:
        idle = sockets(server)
        for number in (1, 2):
            with contextlib.ExitStack() as held:
                wires = [held.enter_context(Wire(server.address)) for _ in range(80)]
                assert wires[-1].ended()
                server.log.take(r"\[error\] 16 connections are open[^\n]*\n")
                if number == 1:
                    (worker,) = server.workers
                    os.kill(worker, signal.SIGKILL)
                    server.log.take(r"\[error\] worker [^\n]*SIGKILL\n")
                wires[0].get("/hello")
                assert wires[0].answer().status == 200
            until(lambda: sockets(server) == idle, "all of them have ended")
            assert answered(server)


def sockets(server: Server) -> int:
    """Sockets that the router has open."""
    found = 0
    for entry in Path("/proc", str(server.router), "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # it was just closed
            found += os.readlink(entry).startswith("socket:")
    return found


def answered(server: Server) -> bool:
    """Whether a new connection is served."""
    with Wire(server.address) as wire:
        try:
            return wire.get("/hello").answer().status == 200
        except (OSError, BrokenAnswer):
            return False
