"""Back-pressure from end to end: bodies of any size, and clients of any slowness, within the configured memory."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from bridge.config import Memory
from tests.end_to_end.server import Server, until
from tests.end_to_end.wire import Wire

MIB = 1 << 20
SIZE = 2048 * MIB
LIMIT = 16 * MIB  #: of request bodies
SEGMENT = 4 * MIB  #: of response bodies
WINDOW = Memory().window  #: of one body
ALLOWED = LIMIT + SEGMENT + 64 * MIB
KERNEL = 8 * MIB  #: more than the socket buffers of one connection hold


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server with little shared memory."""
    settings = [f"memory.limit={LIMIT}", f"memory.chunks={SEGMENT >> 14}"]
    with Server("plain:app", *(word for setting in settings for word in ("--set", setting))) as running:
        with Wire(running.address) as wire:  # what is imported and allocated once is no growth
            wire.post("/mirror", b"x" * MIB).answer()
        yield running


class Growth:
    """By how much each process of a server grows, at most, while the `with` block runs."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.peaks: dict[int, int] = {}

    def __enter__(self) -> Self:
        self._before = self._sizes()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _sizes(self) -> dict[int, int]:
        """Proportional set size, shared memory included, of each process in bytes."""
        sizes = {}
        for process in self._server.living():
            with contextlib.suppress(OSError):
                lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
                sizes[process.pid] = next(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))
        return sizes

    def _watch(self) -> None:
        over = False
        while not over:
            over = self._over.wait(0.1)
            for pid, size in self._sizes().items():
                self.peaks[pid] = max(self.peaks.get(pid, 0), size - self._before[pid])

    @property
    def most(self) -> int:
        """Bytes by which the process grew that grew most."""
        return max(self.peaks.values())


def send_body(wire: Wire, size: int, *, chunked: bool = False) -> None:
    """Send that many bytes."""
    piece = bytes(MIB)
    framed = b"%x\r\n%b\r\n" % (MIB, piece) if chunked else piece
    for _ in range(size // MIB):
        wire.send(framed)
    if chunked:
        wire.send(b"0\r\n\r\n")


def head_of(path: str, size: int) -> bytes:
    """The head of an upload."""
    return f"POST {path} HTTP/1.1\r\nHost: t\r\nContent-Length: {size}\r\n\r\n".encode()


@pytest.mark.parametrize("query", ["", "&slow=1"], ids=["normal", "slow"])
def test_upload(server: Server, wire: Wire, query: str) -> None:
    """2 GiB arrive at an application, slow or not, and no process grows by more than its shared memory."""
    with Growth(server) as growth:
        wire.send(head_of(f"/count?unhashed=1{query}", SIZE))
        send_body(wire, SIZE)
        assert wire.answer().text.startswith(f"{SIZE} ")
    assert growth.most < ALLOWED


def test_chunked_upload(server: Server, wire: Wire) -> None:
    """The same holds for a transfer-chunked body."""
    size = SIZE // 8
    with Growth(server) as growth:
        wire.send(b"POST /count?unhashed=1 HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n")
        send_body(wire, size, chunked=True)
        assert wire.answer().text.startswith(f"{size} ")
    assert growth.most < ALLOWED


def progress(server: Server) -> int:
    """Bytes that /flood has got rid of, once it stands still."""
    with Wire(server.address) as wire:
        seen: list[int] = []
        pause = threading.Event()

        def still() -> bool:
            seen.append(int(wire.get("/progress").answer().body))
            pause.wait(0.05)
            return len(seen) > 5 and len(set(seen[-5:])) == 1

        until(still, "the application's send() waits")
    return seen[-1]


def test_download(server: Server) -> None:
    """2 GiB go to a slow reader; when it stops reading send() stops too, and goes on with it."""
    with Growth(server) as growth, Wire(server.address, receive_buffer=65536) as wire:
        assert wire.get(f"/flood?size={SIZE}").head().status == 200
        received = 0
        buffer = bytearray(MIB)
        stops = [0, SIZE // 2]
        received = len(wire.receive(0))
        while received < SIZE:
            if stops and received >= stops[0]:
                stops.pop(0)
                ahead = progress(server) - received
                assert ahead < KERNEL + WINDOW
            received += wire.socket.recv_into(buffer)
        assert received == SIZE
    assert growth.most < ALLOWED


def test_stopped_reader_in_small_pieces(server: Server) -> None:
    """An application that sends small pieces is stopped too: what waits is counted in bytes, not in messages."""
    with Growth(server) as growth, Wire(server.address, receive_buffer=4096) as wire:
        wire.get(f"/flood?size={SIZE}&piece=100")
        assert progress(server) < KERNEL + WINDOW
    assert growth.most < ALLOWED


def test_uploads_that_stop(server: Server) -> None:
    """Clients that leave in the middle of their uploads leave no memory behind."""
    for _ in range(2 * LIMIT // WINDOW):
        with Wire(server.address) as wire:
            wire.send(head_of("/listen", 10 * MIB), bytes(WINDOW))
            server.log.take("listen: began\n")
        server.log.take(r"listen: http.disconnect behind \d+ bytes\nsend: OSError [A-Za-z]+\n")
    with Wire(server.address) as wire:
        assert wire.post("/echo", b"x" * LIMIT).answer().body == b"x" * LIMIT


def test_downloads_that_stop(server: Server) -> None:
    """Clients that leave in the middle of their downloads leave no memory behind."""
    for _ in range(4 * SEGMENT // WINDOW):
        with Wire(server.address, receive_buffer=4096) as wire:
            wire.get("/talk").receive(10)
        server.log.take("send: OSError [A-Za-z]+\n")
    with Wire(server.address) as wire:
        assert wire.post("/echo", b"x" * LIMIT).answer().body == b"x" * LIMIT


def test_more_downloads_than_memory(server: Server) -> None:
    """Slow readers want more than there is: answers that need memory pass all the same, and all come to an end."""
    size = 8 * MIB
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(Wire(server.address, receive_buffer=65536)) for _ in range(40)]
        for wire in wires:
            wire.get(f"/flood?size={size}")
        progress(server)
        with Wire(server.address) as other:
            assert other.get("/hello").answer().text == "hello\n"
            assert other.post("/echo", b"x" * 50_000).answer().body == b"x" * 50_000
        bodies: list[int] = []

        def read(wire: Wire) -> None:
            bodies.append(len(wire.answer().body))

        readers = [threading.Thread(target=read, args=[wire]) for wire in wires]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
    assert bodies == [size] * len(wires)


def test_more_uploads_than_memory(server: Server) -> None:
    """Uploads that want more than there is wait for one another; small requests pass, and all come to an end."""
    size = 2 * MIB
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(Wire(server.address)) for _ in range(100)]
        senders = []
        for number, wire in enumerate(wires):
            request = head_of(f"/hold_body?gate=all&n={number}", size) + bytes(size)
            senders.append(threading.Thread(target=wire.send, args=[request]))
            senders[-1].start()
        for _ in range(LIMIT // (2 * size)):  # more than that need not have begun
            server.log.take(r"hold_body at all in \d+\n")
        with Wire(server.address) as other:
            assert other.get("/hello").answer().text == "hello\n"
        server.open("all")
        for wire in wires:
            assert wire.answer().text == str(size)
        for sender in senders:
            sender.join()
