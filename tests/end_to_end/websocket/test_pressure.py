"""Back-pressure in both directions: who does not read stops who sends, and the server's memory stays bounded."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import zlib
from collections.abc import Iterator

import pytest

from tests.end_to_end.server import Server, until
from tests.end_to_end.test_memory import Growth
from tests.end_to_end.websocket.client import Client, connect
from tests.end_to_end.websocket.frames import RSV1, binary, frame, text
from tests.end_to_end.wire import Wire

MIB = 1 << 20
LIMIT = 32 * MIB  #: shared memory for bodies, each direction
EACH = 128 * 1024  #: what a WebSocket may cost beside the shared memory and a few messages: parts, joined, unmasked
KERNEL = 12 * MIB  #: what the kernel may hold of one connection
#: How many WebSockets, and bytes of a message; small ones take their time to fill what the kernel holds.
CASES = [(200, 65536), (50, 1_000_000), (4, 100)]


@pytest.fixture
def server() -> Iterator[Server]:
    """One worker with little shared memory."""
    with Server("sockets:app", "--set", f"memory.limit={LIMIT}") as running:
        with connect(running) as client:  # what is imported and allocated once is no growth
            client.send(binary(bytes(100_000))).message()
        yield running
        running.open("open")  # whoever waits there may end


def moved(server: Server) -> int:
    """Bytes that the application has sent or received."""
    with Wire(server.address) as wire:
        return int(wire.get("/moved").answer().body)


def settled(server: Server) -> int:
    """The same once it stands still."""
    seen: list[int] = []
    pause = threading.Event()

    def still() -> bool:
        seen.append(moved(server))
        pause.wait(0.1)
        return len(seen) > 10 and len(set(seen[-10:])) == 1

    until(still, "nothing moves any more", patience=80)
    return seen[-1]


@pytest.mark.parametrize(("count", "size"), CASES)
def test_clients_that_do_not_read(server: Server, count: int, size: int) -> None:
    """They stop the application's send(); others are served, memory is bounded, and who begins to read gets it all."""
    with Growth(server) as growth, contextlib.ExitStack() as stack:
        clients = []
        for _ in range(count):
            clients.append(stack.enter_context(Client(server.address, receive_buffer=4096)))
            clients[-1].upgrade(f"/flood?size={size}&name=flood")
        sent = settled(server)
        assert sent < count * KERNEL
        with connect(server) as other:
            assert other.send(text("alive")).message() == "alive"
        for client in clients[:3]:
            assert all(len(client.message()) == size for _ in range(KERNEL // size))
        assert moved(server) > sent
    for _ in clients:
        server.log.take("flood: send: OSError\n")
    assert growth.most < LIMIT + count * (EACH + 4 * size)


@pytest.mark.parametrize(("count", "size"), CASES)
def test_an_application_that_does_not_receive(server: Server, count: int, size: int) -> None:
    """Clients cannot send to it without end; others are served, memory is bounded, and what came is not lost."""
    made = binary(os.urandom(size))
    batch = made * max(1, 65536 // size)
    with Growth(server) as growth, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(server, "/deaf?gate=open")) for _ in range(count)]
        for client in clients:
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
            client.socket.setblocking(False)
        sent = [0] * count
        still = []

        def stopped() -> bool:
            before = sum(sent)
            for number, client in enumerate(clients):
                sent[number] = push(client, batch, sent[number])
            still.append(sum(sent) == before)
            return all(still[-5:]) and len(still) > 5

        until(stopped, "nobody can send any more", patience=80)
        assert max(sent) < KERNEL
        with connect(server) as other:
            assert other.send(text("alive")).message() == "alive"
        server.open("open")
        for client, begun in list(zip(clients, sent, strict=True))[:10]:
            client.socket.settimeout(20)
            batches = -(-begun // len(batch))
            client.send(batch[begun - batches * len(batch) :] if begun % len(batch) else b"", text("how many"))
            assert client.message() == str(batches * (len(batch) // len(made)) * size + len("how many"))
    assert growth.most < LIMIT + count * (EACH + 4 * size)


def push(client: Client, batch: bytes, sent: int) -> int:
    """Send batches, again and again, until the socket takes nothing more; how much it has taken in all."""
    with contextlib.suppress(BlockingIOError):
        while sent < 2 * KERNEL:
            sent += client.socket.send(batch[sent % len(batch) :])
    return sent


def test_bombs_that_are_not_received(server: Server) -> None:
    """What is small on its way and large behind it is held back by its large form."""
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = (squeeze.compress(bytes(900_000)) + squeeze.flush(zlib.Z_FULL_FLUSH)).removesuffix(b"\0\0\xff\xff")
    made = frame(2, data, reserved=RSV1)
    offer = "Sec-WebSocket-Extensions: permessage-deflate"
    with Growth(server) as growth, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(server, "/deaf?gate=open", offer)) for _ in range(20)]
        for client in clients:
            client.socket.settimeout(1)
            with contextlib.suppress(TimeoutError):
                client.send(made * 200)
        with connect(server) as other:
            assert other.send(text("alive")).message() == "alive"
    assert growth.most < LIMIT + 20 * 4 * MIB


def test_a_steady_stream(server: Server) -> None:
    """300 MiB each way over one WebSocket, whose client reads while it sends: nothing is lost, nothing grows."""
    count, piece = 300, os.urandom(MIB)
    with Growth(server) as growth, connect(server) as client:
        sender = threading.Thread(target=lambda: [client.send(binary(piece)) for _ in range(count)])
        sender.start()
        for _ in range(count):
            assert client.message() == piece
        sender.join()
    assert growth.most < LIMIT + 16 * MIB
