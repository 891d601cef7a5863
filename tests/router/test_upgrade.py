"""bridge.router.upgrade, bridge.router.opening: which requests become WebSockets, and what becomes of the others."""

from __future__ import annotations

import pytest

from bridge import config
from bridge.ipc.message import DESCRIPTOR, HEADER, LAST, RESPONSE, UNKNOWN
from bridge.ipc.status import WEBSOCKETS, WEBSOCKETS_OPENED, WEBSOCKETS_REFUSED
from bridge.router.upgrade import refusal
from tests.router.by_hand import WorkerByHand
from tests.router.rig import reply, until
from tests.router.websockets import BLOCK, HANDSHAKE, WebSockets, raw, run

KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
VERSION = b"Sec-WebSocket-Version: 13\r\n"


def test_a_right_handshake() -> None:
    """Names in any case and blanks around values change nothing."""
    assert refusal(HANDSHAKE) == 0
    assert refusal(HANDSHAKE.replace(b"Key: ", b"KEY: \t").replace(b"13\r", b"13 \r")) == 0


@pytest.mark.parametrize(
    "key",
    [
        b"",
        KEY + KEY,
        b"Sec-WebSocket-Key:\r\n",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ\r\n",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZ===\r\n",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZSE=\r\n",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j_Q==\r\n",
        b"X-Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    ],
)
def test_a_wrong_key(key: bytes) -> None:
    """There is one key, and it is 16 bytes in base64."""
    assert refusal(HANDSHAKE.replace(KEY, key)) == 400


@pytest.mark.parametrize(
    "version", [b"", VERSION + VERSION, b"Sec-WebSocket-Version: 8\r\n", VERSION.replace(b"13", b"")]
)
def test_a_wrong_version(version: bytes) -> None:
    """Only version 13 is spoken, and this is said before the key is looked at."""
    assert refusal(HANDSHAKE.replace(VERSION, version)) == 426
    assert refusal(HANDSHAKE.replace(VERSION, version).replace(KEY, b"")) == 426


def test_the_answer_to_a_wrong_version() -> None:
    """426 names the version and the protocol, and ends the connection."""

    async def test() -> None:
        rig = WebSockets()
        client = await rig.client(HANDSHAKE.replace(b"13", b"12"))
        answer = await client.rest()
        assert answer.startswith(b"HTTP/1.1 426 Upgrade Required\r\n")
        for line in (b"upgrade: websocket", b"connection: Upgrade", b"sec-websocket-version: 13", b"connection: close"):
            assert b"\r\n" + line + b"\r\n" in answer
        await client.close()
        await rig.idle()
        await rig.close()

    run(test())


def test_a_wrong_key_is_refused_by_the_router() -> None:
    """No worker is asked, and none needs to be there."""

    async def test() -> None:
        rig = WebSockets()
        client = await rig.client(HANDSHAKE.replace(KEY, b""))
        assert (await client.rest()).startswith(b"HTTP/1.1 400 Bad Request\r\n")
        await client.close()
        await rig.idle()
        await rig.close()

    run(test())


def test_the_answer_to_a_right_handshake() -> None:
    """101 has the worker's fields, and those that are the router's."""

    async def test() -> None:
        rig = WebSockets()
        worker = rig.worker()
        client = await rig.client()
        stream = await rig.asked(worker)
        assert not stream.ended
        assert stream.head.endswith(HANDSHAKE)
        stream.respond(101, BLOCK, 0, 0, b"", False)
        head = (await client.head()).split(b"\r\n")
        assert head[0] == b"HTTP/1.1 101 Switching Protocols"
        assert {b"upgrade: websocket", b"connection: Upgrade", b"server: Bridge/" + rig.service.server[7:]} <= set(head)
        assert BLOCK[:-2] in head
        assert not [line for line in head if line.lower().startswith((b"content-length", b"transfer-encoding"))]
        await client.close()
        await until(lambda: stream.ended)
        stream.send(b"", True)
        await rig.idle()
        await rig.close()

    run(test())


def test_a_denial_is_the_last_answer() -> None:
    """Any other answer is an ordinary one; what the client has sent behind its handshake is no request."""

    async def test() -> None:
        rig = WebSockets()
        worker = rig.worker()
        client = await rig.client(HANDSHAKE + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        reply(await rig.asked(worker), b"not you")
        answer = await client.rest()
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"\r\nconnection: close\r\n" in answer
        assert answer.endswith(b"\r\n\r\nnot you")
        assert not worker.streams
        await client.close()
        await rig.idle()
        await rig.close()

    run(test())


def test_too_many() -> None:
    """Above the limit there is 503 before a worker is asked; those that are asked for count, and come back."""

    async def test() -> None:
        rig = WebSockets(limits=config.Limits(websockets=2))
        worker = rig.worker()
        first, stream = await rig.open(worker)
        second = await rig.client()
        asked = await rig.asked(worker)
        third = await rig.client()
        answer = await third.rest()
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nretry-after: 1\r\n" in answer
        assert not worker.streams
        reply(asked, b"denied")
        assert (await second.rest()).endswith(b"denied")
        fourth, other = await rig.open(worker)
        rig.service.publish_counters()
        words = rig.row.words
        assert (words[WEBSOCKETS], words[WEBSOCKETS_OPENED], words[WEBSOCKETS_REFUSED]) == (2, 2, 1)
        stream.send(b"", True)
        assert await first.rest() == b""
        fifth, another = await rig.open(worker)
        for each in (other, another):
            each.send(b"", True)
        for client in (first, second, third, fourth, fifth):
            await client.close()
        await rig.idle()
        rig.service.publish_counters()
        assert (words[WEBSOCKETS], words[WEBSOCKETS_OPENED], words[WEBSOCKETS_REFUSED]) == (0, 3, 1)
        await rig.close()

    run(test())


def test_a_client_that_does_not_wait() -> None:
    """A client that leaves before it has its answer has asked for nothing."""

    async def test() -> None:
        rig = WebSockets(limits=config.Limits(websockets=1))
        worker = rig.worker()
        client = await rig.client()
        stream = await rig.asked(worker)
        client.reset()
        await until(lambda: stream.cancelled)
        stream.finished()
        await rig.idle()
        client, stream = await rig.open(worker)
        stream.abort()
        assert await client.rest() == b""
        await client.close()
        await rig.idle()
        await rig.close()

    run(test())


def test_a_worker_that_dies_before_it_answers() -> None:
    """The client gets 502, and its place is free again."""

    async def test() -> None:
        rig = WebSockets(limits=config.Limits(websockets=1))
        worker = rig.worker()
        client = await rig.client()
        await rig.asked(worker)
        worker.die()
        assert (await client.rest()).startswith(b"HTTP/1.1 502 ")
        await client.close()
        other = rig.worker()
        client, stream = await rig.open(other)
        stream.abort()
        await client.close()
        await rig.idle()
        await rig.close()

    run(test())


def test_wsgi_sees_an_ordinary_request() -> None:
    """For an application that cannot speak it the request is a GET like any other, and not the last one."""

    async def test() -> None:
        rig = WebSockets(protocol="wsgi")
        worker = WorkerByHand(rig).attach()
        client = await rig.client(HANDSHAKE.replace(KEY, b"") * 2)
        for _ in range(2):
            request = await worker.request()  # which looks for LAST
            worker.respond(request, 2, b"ok", last=True)
            assert b"\r\nconnection:" not in await client.head()
            assert await client.read(2) == b"ok"
        await client.close()
        await rig.idle()
        await rig.close()
        worker.close()

    run(test())


@pytest.mark.parametrize("case", ["unasked", "last", "field", "long", "twice"])
def test_101_that_makes_no_sense(case: str) -> None:
    """A worker that answers 101 where, when or as it may not is cut off."""

    async def test() -> None:
        rig = WebSockets()
        worker = rig.worker()
        client = await rig.client(
            HANDSHAKE.replace(b"keep-alive, Upgrade", b"close") if case == "unasked" else HANDSHAKE
        )
        await until(lambda: worker.streams)
        stream = worker.streams.pop()
        block = b"upgrade: x\r\n" if case == "field" else BLOCK
        if case == "long":
            segment, size = worker.attached.segment, 2 << 20
            first, got = segment.claim(size, size)
            assert got == size
            segment.write(first, b"x: yyy\r\n" * (size // 8))
            message = HEADER.pack(stream._stream, RESPONSE, 0, 1, 0, UNKNOWN, 101, size)
            worker.attached.send(message + DESCRIPTOR.pack(segment.number, first, size))
        else:
            raw(worker, RESPONSE, stream, LAST if case == "last" else 0, block, 101)
        if case == "twice":
            await client.head()
            raw(worker, RESPONSE, stream, 0, block, 101)
        await until(lambda: rig.cut)
        answer = await client.rest()
        assert answer == b"" if case == "twice" else answer.startswith(b"HTTP/1.1 502 ")
        await client.close()
        await rig.idle()
        await rig.close()

    run(test())
