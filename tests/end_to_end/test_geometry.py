"""The same server with shared memory so small that every limit of it is met all the time, and without memfd."""

from __future__ import annotations

import hashlib
import os
import random
import re
import signal
import threading
from collections.abc import Iterator

import pytest

from tests.end_to_end.server import Server, until
from tests.end_to_end.wire import BrokenAnswer, Wire

TINY = ("chunk_size=64", "chunks=64", "item_size=256", "queue=4", "window=512", "limit=16384")
NAMED = ("memfd=false",)
JUNK = ("junk_fill=true",)
UNSEALED = r"[^\n]*shared memory without memfd: [^\n]*\n"  #: what the operator is told then
#: What he may be told because tests leave their requests, on a machine that is busy with other things.
LEFT = r"[^\n]*\[warning\] 'app' gets more requests than its workers end: \d+ given up by their clients[^\n]*\n"


@pytest.fixture(scope="module", params=[TINY + JUNK, TINY + NAMED, NAMED + JUNK], ids=["tiny", "tiny-named", "named"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Two workers on this geometry; freed chunks are junk in two of the three, so that a stale read shows."""
    options = [word for setting in request.param for word in ("--set", f"memory.{setting}")]
    with Server("plain:app", "-w", "2", *options) as running:
        yield running
        running.main.send_signal(signal.SIGTERM)
        running.log.all()
        running.log.rest = re.sub(LEFT, "", running.log.rest)
        running.log.rest, warnings = re.subn(UNSEALED, "", running.log.rest)
        assert bool(warnings) == ("memfd=false" in request.param)


def test_pipelining(wire: Wire) -> None:
    """Requests of all sizes are answered in order."""
    bodies = [bytes([65 + index]) * size for index, size in enumerate((1, 63, 64, 65, 255, 256, 511, 513, 5000))]
    for body in bodies:
        wire.post("/echo", body)
        wire.get("/hello")
    for body in bodies:
        assert wire.answer().body == body
        assert wire.answer().body == b"hello\n"


@pytest.mark.parametrize("size", [0, 100, 4096, 100_000, 1_000_000])
def test_bodies(wire: Wire, size: int) -> None:
    """Bodies many times larger than all shared memory arrive unchanged, collected and streamed."""
    body = random.Random(size).randbytes(size)
    assert wire.post("/count", body).answer().text == f"{size} {hashlib.sha256(body).hexdigest()}"
    assert wire.post("/echo", body).answer().body == body
    assert wire.get(f"/flood?size={size}&piece=1000").answer().body == b"x" * size


def test_chunked(wire: Wire) -> None:
    """Transfer chunks of any size pass."""
    pieces = [b"a" * size for size in (1, 64, 700, 5000)]
    framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    wire.send(b"POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n", framed, b"0\r\n\r\n")
    assert wire.answer().body == b"".join(pieces)
    assert wire.get("/pieces?count=300").answer().body == b"".join(b"piece %d\n" % number for number in range(300))


@pytest.mark.parametrize("size", [50, 200, 1000, 3000, 7900])
def test_long_heads(wire: Wire, size: int) -> None:
    """Heads that are longer than a queue item, or than all shared memory for heads, pass in both directions."""
    value = "v" * size
    assert wire.get(f"/field?name=x&value={value}").answer().fields["x"] == value
    wire.post("/echo", b"body" * 100, f"X-Long: {value}")
    assert wire.answer().body == b"body" * 100


def test_continue(wire: Wire) -> None:
    """A client that waits for 100 gets it."""
    wire.send(b"POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n")
    assert wire.head().status == 100
    assert wire.send(b"x" * 1000).answer().body == b"x" * 1000


def test_more_requests_than_items(server: Server) -> None:
    """Requests that find no room in the queue wait for it."""
    wires = [Wire(server.address).get(f"/hold?gate=many&n={number}") for number in range(50)]
    for _ in wires:
        server.log.take(r"hold at many in \d+\n")
    server.open("many")
    assert {wire.answer().status for wire in wires} == {200}
    for wire in wires:
        wire.socket.close()


@pytest.mark.parametrize("longest", [40, 1200], ids=["short-heads", "long-heads"])
def test_many_at_once(server: Server, longest: int) -> None:
    """Clients with heads and bodies of all sizes, some of whom leave, get what they asked for."""
    failures: list[str] = []

    def ask(number: int) -> None:
        dice = random.Random(number)
        try:
            for _ in range(30):
                with Wire(server.address) as wire:
                    body = dice.randbytes(dice.choice((10, 300, 3000, 20000)))
                    value = "v" * dice.choice((5, longest // 2, longest))
                    if dice.random() < 0.2:
                        wire.send(b"POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 9999\r\n\r\n", body[:5000])
                        continue
                    wire.post(dice.choice(("/echo", "/mirror")), body, f"X: {value}")
                    answer = wire.answer()
                    assert (answer.status, answer.body == body) == (200, True)
                    assert wire.get(f"/field?name=x&value={value}").answer().fields["x"] == value
        except (AssertionError, BrokenAnswer, OSError) as error:
            failures.append(f"{number}: {error!r}")

    clients = [threading.Thread(target=ask, args=[number]) for number in range(8)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert failures == []


def test_leaving(server: Server) -> None:
    """Clients that leave leave no memory behind."""
    for _ in range(40):
        with Wire(server.address, receive_buffer=4096) as wire:
            wire.get("/talk").receive(10)
        server.log.take("send: OSError [A-Za-z]+\n")
        with Wire(server.address) as wire:
            wire.send(b"POST /listen HTTP/1.1\r\nHost: t\r\nContent-Length: 9999\r\n\r\n", b"x" * 5000)
            server.log.take("listen: began\n")
        server.log.take(r"listen: http.disconnect behind \d+ bytes\nsend: OSError [A-Za-z]+\n")
    with Wire(server.address) as wire:
        assert wire.post("/echo", b"x" * 50000).answer().body == b"x" * 50000


def test_deaths(server: Server) -> None:
    """A killed worker's memory is free again, and its requests end."""
    with Wire(server.address) as up, Wire(server.address, receive_buffer=4096) as down:
        up.send(b"POST /hold_body?gate=never HTTP/1.1\r\nHost: t\r\nContent-Length: 9999\r\n\r\n", b"x" * 5000)
        server.log.take(r"hold_body at never in \d+\n")
        down.get("/flood?size=100000000").receive(10)
        victims = server.workers
        for victim in victims:
            os.kill(victim, signal.SIGKILL)
        assert up.answer().status == 502
        with pytest.raises(BrokenAnswer):
            down.exactly(100000000)
    for victim in victims:
        server.log.take(rf"[^\n]*\(pid {victim}\) ended: signal SIGKILL\n")
    until(lambda: len(server.workers) == 2, "there are two workers again")
    with Wire(server.address) as wire:
        assert wire.post("/echo", b"x" * 50000).answer().body == b"x" * 50000
