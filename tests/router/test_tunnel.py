"""bridge.router.tunnel: the bytes of WebSockets, both ways."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Any

import pytest

from bridge import config
from bridge.ipc.message import ACK, DATA
from bridge.router.tunnel import Tunnel
from bridge.router.worker_port import WorkerPort
from bridge.worker.attach import Attached
from bridge.worker.tunnel import TunnelStream
from tests.router.rig import settle, until
from tests.router.websockets import HANDSHAKE, LARGE, Client, WebSockets, echo, raw, run, unread


class Echo:
    """The same, of bytes that are handed over where they arrive."""

    def __init__(self, stream: TunnelStream) -> None:
        self.heard = False
        self._stream = stream

    def arrived(self, data: bytes | memoryview) -> None:
        self._stream.send(bytes(data), last=False)

    def relieved(self) -> None: ...
    def lost(self) -> None: ...
    def leave(self) -> None: ...


def test_bytes_both_ways(memory: config.Memory) -> None:
    """What is sent arrives, in order, from the bytes behind the handshake to those in front of FIN."""

    async def test() -> None:
        rig = WebSockets(memory)
        client, stream = await rig.open(rig.worker(), b"early")
        running = asyncio.create_task(echo(stream))
        assert await client.read(5) == b"early"
        for size in (1, 20, 5000, 20_000):
            client.writer.write(LARGE[:size])
            assert await client.read(size) == LARGE[:size]
        client.writer.write(LARGE)
        client.writer.write_eof()
        assert await client.rest() == LARGE
        await running
        await rig.end(client, stream)

    run(test())


def test_many_at_the_same_time(memory: config.Memory) -> None:
    """A queue that is full halts whoever wants to send, and none of them for ever."""

    async def test() -> None:
        rig = WebSockets(memory)
        worker = rig.worker()
        pairs = [await rig.open(worker) for _ in range(20)]
        running = [asyncio.create_task(echo(stream)) for _, stream in pairs]

        async def converse(client: Client) -> None:
            client.writer.write(LARGE[:50_000])
            assert await client.read(50_000) == LARGE[:50_000]
            client.writer.write_eof()
            assert await client.rest() == b""

        await asyncio.gather(*running, *(converse(client) for client, _ in pairs))
        for client, _ in pairs:
            await client.close()
        await rig.idle()
        assert not rig.application.workers[worker.number].halted
        await rig.close()

    run(test())


def test_an_echo_needs_no_message_for_credit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where bytes go both ways, what was consumed and what has left is said with them: nothing else is sent for it."""
    sent: list[bytes] = []
    monkeypatch.setattr(Attached, "send", lambda _, message: sent.append(message))
    monkeypatch.setattr(WorkerPort, "acknowledge", lambda _, stream, size: sent.append(b"%d" % size))

    async def test() -> None:
        rig = WebSockets()
        client, stream = await rig.open(rig.worker())
        stream.sink, stream.eager = Echo(stream), True
        for _ in range(20):  # five times the window
            client.writer.write(LARGE[:16_384])
            assert await client.read(16_384) == LARGE[:16_384]
        assert sent == []
        monkeypatch.undo()
        await rig.end(client, stream)

    run(test())


def test_a_client_that_does_not_read() -> None:
    """The worker waits when a window of its bytes has not left, and goes on when they have."""

    async def test() -> None:
        rig = WebSockets()
        client, stream = await rig.open(rig.worker())
        sent = 5000
        while stream.send(LARGE[:5000], False):
            sent += 5000
            await asyncio.sleep(0)
        assert await client.read(sent) == LARGE[:5000] * (sent // 5000)
        await stream.writable()
        await rig.end(client, stream)

    run(test())


def test_a_client_that_sends_and_does_not_read() -> None:
    """What it sends is no credit for what it has not read: an echo stops at the window, however long the messages."""

    async def test() -> None:
        rig = WebSockets()
        client, stream = await rig.open(rig.worker())
        client.reader._transport.pause_reading()  # type: ignore[attr-defined]
        running = asyncio.create_task(echo(stream))
        sent = LARGE * 100
        client.writer.write(sent)
        (tunnel,) = rig.application.tunnels.values()
        assert isinstance(tunnel, Tunnel)
        await until(lambda: rig.cut or (tunnel._credit <= 0 and not tunnel._flushed and unread(stream) > 32768))
        await settle(1000)
        assert not rig.cut
        assert tunnel._unacknowledged == stream._unacknowledged <= 65536 + 32768
        client.reader._transport.resume_reading()  # type: ignore[attr-defined]
        client.writer.write_eof()
        assert await client.rest() == sent
        await running
        await rig.end(client, stream)

    run(test())


@pytest.mark.parametrize("window", [65536, 16 << 20])
def test_an_application_that_does_not_wait(window: int) -> None:
    """Any number of tasks may send at the same time, whatever the windows: that is no offence."""

    async def test() -> None:
        rig = WebSockets(http=config.Http(websocket=config.WebSocket(window=window)))
        client, stream = await rig.open(rig.worker())
        client.reader._transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(2000):
            stream.send(LARGE[:8000], last=False)
            await asyncio.sleep(0)
        await settle()
        assert not rig.cut
        client.reader._transport.resume_reading()  # type: ignore[attr-defined]
        assert await client.read(2000 * 8000) == LARGE[:8000] * 2000
        await rig.end(client, stream)

    run(test())


def test_long_frames_go_to_the_socket_from_where_they_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as it takes them: then the transport gets what it has not taken, and all that follows, in order."""
    through: list[int] = []
    handle = Tunnel.on_message

    def spy(tunnel: Tunnel, port: WorkerPort, kind: int, *rest: Any) -> None:
        if kind == DATA:
            through.append(len(rest[-1]))
        handle(tunnel, port, kind, *rest)

    monkeypatch.setattr(Tunnel, "on_message", spy)

    async def test() -> None:
        rig = WebSockets(http=config.Http(websocket=config.WebSocket(window=1 << 24)))
        client, stream = await rig.open(rig.worker())
        for size in (4000, 4096, 10_000):
            stream.send(LARGE[:size], last=False)
            assert await client.read(size) == LARGE[:size]
        assert through == [4000]
        sent = b""
        while 10_000 not in through:
            sent += LARGE[len(sent) % 1000 :][:10_000]
            stream.send(sent[-10_000:], last=False)
            await asyncio.sleep(0)
        for size in (5, 10_000, 300, 15_000):
            stream.send(LARGE[:size], last=False)
            sent += LARGE[:size]
        stream.send(b"end", last=True)
        assert await client.rest() == sent + b"end"
        await rig.end(client, stream)

    run(test())


def test_what_the_socket_does_not_take_is_a_copy_and_comes_first() -> None:
    """Nothing passes it, and what is written where it lay changes nothing of it."""

    async def test() -> None:
        rig = WebSockets(http=config.Http(websocket=config.WebSocket(window=1 << 24)))
        client, stream = await rig.open(rig.worker())
        (tunnel,) = rig.application.tunnels.values()
        assert isinstance(tunnel, Tunnel)
        reading: Any = client.writer.transport
        reading.pause_reading()
        item, sent, got = bytearray(10_000), b"", b""
        while tunnel.pass_on(tunnel.port, 0, 0, memoryview(item).toreadonly()):
            sent += item
            item[:] = bytes((item[0] + 1 & 0xFF,)) * len(item)
        assert tunnel._transport.get_write_buffer_size()
        with contextlib.suppress(BlockingIOError):
            while True:
                got += os.read(client.writer.get_extra_info("socket").fileno(), 1 << 20)
        assert not tunnel.pass_on(tunnel.port, 0, 0, memoryview(item))  # although there is room again
        assert tunnel._sent == tunnel._unacknowledged == len(sent)
        reading.resume_reading()
        assert got + await client.read(len(sent) - len(got)) == sent
        await rig.end(client, stream)

    run(test())


def test_nothing_is_written_behind_what_was_thrown_away() -> None:
    """A transport that closes because of an error holds nothing, and its socket is still there."""

    async def test() -> None:
        rig = WebSockets()
        client, stream = await rig.open(rig.worker())
        (tunnel,) = rig.application.tunnels.values()
        assert isinstance(tunnel, Tunnel)
        tunnel._transport.abort()
        assert not tunnel.pass_on(tunnel.port, 0, 0, memoryview(LARGE[:5000]))
        assert await client.rest() == b""
        await rig.end(client, stream)

    run(test())


def test_what_is_idle_holds_nothing(memory: config.Memory) -> None:
    """Between two messages there are no chunks, no timers, and no turns."""

    async def test() -> None:
        rig = WebSockets(memory)
        worker = rig.worker()
        client, stream = await rig.open(worker)
        client.writer.write(LARGE[:60_000])
        size = 0
        while size < 60_000:
            await stream.readable()
            size += len(stream.take() or b"")
        await until(lambda: rig.application.turns.dozing)
        await until(lambda: rig.application.pool.busy() == 0)
        assert rig.application.workers[worker.number].port.segment.chunks.busy() == 0
        await rig.end(client, stream)

    run(test())


def test_it_is_no_request_any_more() -> None:
    """A tunnel takes no place of a request, has no deadline, and is counted for itself."""

    async def test() -> None:
        rig = WebSockets(limits=config.Limits(run_timeout=10, timeout=10), queue_timeout=10)
        rig.by_hand()
        client, stream = await rig.open(rig.worker())
        application = rig.application
        assert not application.exchanges
        assert list(application.tunnels) == [stream._stream]
        rig.clock.advance(60)
        client.writer.write(b"x")
        await until(lambda: stream.take() == b"x")
        await rig.end(client, stream)

    run(test())


def test_windows_come_back(memory: config.Memory) -> None:
    """A worker that asks hears that its bytes have left, at once if they have."""

    async def test() -> None:
        rig = WebSockets(memory)
        worker = rig.worker()
        client, stream = await rig.open(worker)
        stream._unacknowledged = 50
        raw(worker, DATA, stream, ACK, bytes(50))
        assert await client.read(50) == bytes(50)
        await until(lambda: stream._unacknowledged == 0)
        await rig.end(client, stream)

    run(test())


def test_the_handshake_in_pieces() -> None:
    """A handshake that comes byte by byte is the same."""

    async def test() -> None:
        rig = WebSockets()
        worker = rig.worker()
        client = await rig.client(b"")
        for byte in HANDSHAKE:
            client.writer.write(bytes([byte]))
            await asyncio.sleep(0)
        stream = await rig.asked(worker)
        stream.respond(101, b"", 0, 0, b"", False)
        await client.head()
        await rig.end(client, stream)

    run(test())
