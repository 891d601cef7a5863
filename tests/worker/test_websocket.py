"""A WebSocket's ordinary course: the handshake, messages both ways, and the closing handshake begun by either side."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import pytest

from bridge.worker.types import Message, Receive, Scope, Send
from tests.worker.websocket_rig import (
    ACCEPT,
    ACCEPTED,
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Client,
    Recorder,
    closing,
    echo,
    frame,
    request,
    talk,
)


def test_echo() -> None:
    """What the client says comes back, and its close frame too, with the end of the connection."""

    async def script(client: Client) -> None:
        await client.is_accepted()
        assert client.block == ACCEPT
        assert client.tunnels == 1
        for text in ("hello", "", "é" * 200, "x" * 70000):
            client.say(frame(TEXT, text.encode()))
            assert await client.hears_text() == text
        client.say(frame(BINARY, bytes(range(256))))
        assert await client.hears() == (BINARY, bytes(range(256)))
        client.say(closing(1000, "bye"))
        assert await client.hears_close() == (1000, "bye")
        assert client.over

    talk(echo, script)


def test_scope() -> None:
    """The scope is that of a request, without a method, and with what the client offers."""
    scopes: list[Scope] = []

    async def target(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await send({"type": "websocket.close"})

    async def script(client: Client) -> None:
        await client.ends()

    talk(target, script, request("Sec-WebSocket-Protocol: chat, superchat", "Sec-WebSocket-Protocol: v2"))
    (scope,) = scopes
    assert "method" not in scope
    assert (scope["type"], scope["scheme"], scope["path"], scope["query_string"]) == (
        "websocket",
        "ws",
        "/chat",
        b"room=1",
    )
    assert scope["subprotocols"] == ["chat", "superchat", "v2"]
    assert scope["extensions"] == {"websocket.http.response": {}}
    assert scope["asgi"] == {"version": "3.0", "spec_version": "2.4"}
    assert (b"sec-websocket-version", b"13") in scope["headers"]


def test_accept_with_a_subprotocol_and_headers() -> None:
    """The application chooses among the subprotocols, and may add fields of its own."""

    async def target(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"x-one", b"1"), (b"Set-Cookie", b"a=b")]
        await send({"type": "websocket.accept", "subprotocol": "v2", "headers": headers})

    async def script(client: Client) -> None:
        await client.is_accepted()
        client.say(closing(1000))

    client = talk(target, script, request("Sec-WebSocket-Protocol: v1, v2"))
    assert client.block == ACCEPT + b"sec-websocket-protocol: v2\r\nx-one: 1\r\nset-cookie: a=b\r\n"


def test_several_messages_in_one_piece_and_one_in_several() -> None:
    """How the bytes are cut on their way is nothing that an application sees."""
    recorder = Recorder()

    async def script(client: Client) -> None:
        await client.is_accepted()
        data = b"".join([frame(TEXT, b"one"), frame(BINARY, b"two" * 50), frame(TEXT, b"three"), closing(1000)])
        client.say(data[:150])
        for index in range(150, len(data)):
            client.say(data[index : index + 1])

    talk(recorder, script)
    assert recorder.messages == ["one", b"two" * 50, "three"]
    assert recorder.end == (1000, "")


def test_fragments_with_control_frames_between_them() -> None:
    """A message in fragments is one message; pings between them are answered, in their order."""
    recorder = Recorder()

    async def script(client: Client) -> None:
        await client.is_accepted()
        euro = "€".encode()
        client.say(frame(TEXT, b"a" + euro[:1], fin=False), frame(PING, b"1"), frame(CONTINUATION, b"", fin=False))
        client.say(frame(PONG), frame(CONTINUATION, euro[1:], fin=False), frame(PING, b"2"))
        assert [await client.hears(), await client.hears()] == [(PONG, b"1"), (PONG, b"2")]
        assert not recorder.events
        client.say(frame(CONTINUATION, b"z"), frame(BINARY, b"x", fin=False), frame(CONTINUATION, b"y"), closing(3000))

    talk(recorder, script)
    assert recorder.messages == ["a€z", b"xy"]


@pytest.mark.parametrize(
    ("sent", "code", "reason"),
    [
        (closing(1000, "bye"), 1000, "bye"),
        (closing(1001), 1001, ""),
        (closing(4999, "é"), 4999, "é"),
        (frame(CLOSE), 1005, ""),
    ],
)
def test_the_client_closes(sent: bytes, code: int, reason: str) -> None:
    """Code and reason reach the application, and are sent back as they came."""
    recorder = Recorder()

    async def script(client: Client) -> None:
        await client.is_accepted()
        client.say(sent)
        await client.ends()
        assert client.sent[2:] == (b"" if code == 1005 else struct.pack("!H", code) + reason.encode())

    talk(recorder, script)
    assert recorder.end == (code, reason)


@pytest.mark.parametrize(
    ("message", "sent"),
    [
        ({}, (1000, "")),
        ({"code": 4001, "reason": "é"}, (4001, "é")),
        ({"code": None, "reason": None}, (1000, "")),
        ({"code": 1011, "reason": "é" * 100}, (1011, "é" * 61)),
    ],
)
def test_the_application_closes(message: Message, sent: tuple[int, str]) -> None:
    """The closing handshake is waited for, and what the client still says on its way is dropped."""
    events: list[Message] = []

    async def target(scope: Scope, receive: Receive, send: Send) -> None:
        await send(ACCEPTED)
        await send({"type": "websocket.close", **message})
        assert await receive() == {"type": "websocket.connect"}
        events.append(await receive())

    async def script(client: Client) -> None:
        assert await client.hears_close() == sent
        assert not client.over
        client.say(frame(TEXT, b"late"), frame(PING), closing(1000, "yes"))
        await client.ends()
        assert not client.sent

    talk(target, script)
    assert events == [{"type": "websocket.disconnect", "code": 1000, "reason": "yes"}]


def test_the_application_returns() -> None:
    """To return is to close with 1000."""

    async def target(scope: Scope, receive: Receive, send: Send) -> None:
        await send(ACCEPTED)

    async def script(client: Client) -> None:
        assert await client.hears_close() == (1000, "")
        client.say(closing(1000))
        await client.ends()
        assert not client.aborted

    talk(target, script)


def test_messages_that_came_before_the_end_are_received_before_it() -> None:
    """A client may say something and leave at once."""
    recorder = Recorder()

    async def script(client: Client) -> None:
        await client.is_accepted()
        client.hang_up(frame(TEXT, b"last words"))
        await client.ends()

    talk(recorder, script)
    assert recorder.messages == ["last words"]
    assert recorder.end == (1006, "")


def test_receive_may_be_cancelled_and_called_by_several_tasks() -> None:
    """Whoever stops waiting takes no message along."""
    received: list[Any] = []

    async def target(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPTED)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(receive(), 0.01)
        tasks = [asyncio.ensure_future(receive()) for _ in range(3)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        await send({"type": "websocket.send", "text": "go on"})
        received.extend([(await task)["text"] for task in tasks[1:]])

    async def script(client: Client) -> None:
        assert await client.hears_text() == "go on"
        client.say(frame(TEXT, b"one"), frame(TEXT, b"two"))
        await client.hears_close()
        client.say(closing(1000))

    talk(target, script)
    assert sorted(received) == ["one", "two"]


def test_bytes_of_every_kind() -> None:
    """A bytearray and a memoryview are bytes too, and what becomes of them later does not matter."""

    async def target(scope: Scope, receive: Receive, send: Send) -> None:
        await send(ACCEPTED)
        data = bytearray(b"abc")
        await send({"type": "websocket.send", "bytes": data})
        data[:] = b"xyz"
        await send({"type": "websocket.send", "bytes": memoryview(b"def"), "text": None})

    async def script(client: Client) -> None:
        assert await client.hears() == (BINARY, b"abc")
        assert await client.hears() == (BINARY, b"def")
        client.say(closing(1000))

    talk(target, script)
