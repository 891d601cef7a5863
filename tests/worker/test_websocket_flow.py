"""How far a WebSocket's sides may be ahead of one another, and what tells whether the client is still there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace as Namespace
from typing import Any

import pytest

from bridge import config
from bridge.worker.keepalive import KeepAlive
from bridge.worker.types import Receive, Scope, Send
from tests.worker.one_request import turn
from tests.worker.websocket_rig import (
    ACCEPTED,
    BINARY,
    PING,
    PONG,
    TEXT,
    Client,
    Recorder,
    closing,
    echo,
    frame,
    talk,
)


class Idle:
    """An application that accepts, receives only when it is told to, and notes what it got."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.messages: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPTED)
        await self.go_on.wait()
        while (message := await receive())["type"] == "websocket.receive":
            self.messages.append(message["text"])


@pytest.mark.parametrize(("size", "most"), [(1000, 10), (40000, 2)], ids=["messages", "bytes"])
def test_an_application_that_does_not_receive_stops_its_client(size: int, most: int) -> None:
    """What is decoded ahead is bounded in number and in bytes; what lies behind gives no credit back until it is."""
    idle = Idle()

    async def script(client: Client) -> None:
        await client.is_accepted()
        sent = 0
        while sent - client.credit < 65536:  # as the router, which reads no further than its window
            data = frame(TEXT, b"%07d" % sent + b"." * size)
            client.say(data)
            sent += len(data)
        assert len(client.stream.sink._queue) <= most  # type: ignore[attr-defined]
        assert client.credit <= most * (size + 100) + 65536
        stopped = sent
        await turn()
        assert sent - client.credit >= 65536
        idle.go_on.set()
        client.say(closing(1000))
        await client.ends()
        assert stopped - client.credit < 65536  # nothing of it is owed

    talk(idle, script, max_queue=10)
    assert len(idle.messages) > 1
    assert idle.messages == sorted(idle.messages)


def test_small_messages_cost_one_credit_for_many() -> None:
    """Credit goes back when half of the window has been used."""
    recorder = Recorder()

    async def script(client: Client) -> None:
        await client.is_accepted()
        for _ in range(100):
            client.say(frame(TEXT, b"x" * 94))
            await turn(1)
        assert client.credits == [5000, 5000]
        client.say(closing(1000))

    talk(recorder, script, window=10000)
    assert len(recorder.messages) == 100


def test_pings_are_answered_while_the_application_is_busy() -> None:
    """They are seen as soon as the messages in front of them are decoded."""
    idle = Idle()

    async def script(client: Client) -> None:
        await client.is_accepted()
        client.say(frame(TEXT, b"one"), frame(PING, b"?"))
        assert await client.hears() == (PONG, b"?")
        idle.go_on.set()
        client.say(closing(1000))

    talk(idle, script)
    assert idle.messages == ["one"]


def test_pings_of_a_client_that_does_not_read_are_not_collected() -> None:
    """When it reads again, the last one is answered."""
    idle = Idle()

    async def script(client: Client) -> None:
        await client.is_accepted()
        client.full = True
        for number in range(1000):
            client.say(frame(PING, b"%d" % number))
        assert not client.sent
        client.drain()
        assert await client.hears() == (PONG, b"999")
        assert not client.sent
        idle.go_on.set()
        client.say(closing(1000))

    talk(idle, script)


@pytest.mark.parametrize("filled", ["queue", "window"])
def test_a_ping_that_finds_no_room_is_answered_when_there_is_some(filled: str) -> None:
    """At once: nobody looks for it now and then."""
    idle = Idle()

    async def script(client: Client) -> None:
        await client.is_accepted()
        if filled == "queue":
            client.full = True
        else:
            assert not client.stream.send(bytes(10000), last=False)
        client.say(frame(PING, b"?"))
        assert len(client.sent) == (0 if filled == "queue" else 10000)
        client.sent = b""
        if filled == "queue":
            client.drain()
        else:
            client.take()
        assert client.sent == bytes((0x80 | PONG, 1)) + b"?"
        client.sent = b""
        idle.go_on.set()
        client.say(closing(1000))

    talk(idle, script, window=10000, keepalive_interval=0, read_timeout=0)


def test_a_client_that_does_not_read_stops_the_application() -> None:
    """send() waits when a window is under way, and goes on when the client has taken some of it."""
    sent: list[int] = []

    async def target(scope: Scope, receive: Receive, send: Send) -> None:
        await send(ACCEPTED)
        for number in range(50):
            await send({"type": "websocket.send", "bytes": bytes(1000)})
            sent.append(number)

    async def script(client: Client) -> None:
        await client.is_accepted()
        await turn()
        assert len(sent) == 9
        for _ in range(50):
            assert await client.hears() == (BINARY, bytes(1000))
        await client.hears_close()
        client.say(closing(1000))

    talk(target, script, window=10000)


def test_a_silent_client_is_pinged() -> None:
    """Each interval without a word, and not while it talks; what it answers is no message."""
    recorder = Recorder()

    async def script(client: Client) -> None:
        await client.is_accepted()
        client.clock.advance(9)
        assert not client.sent
        client.clock.advance(3)
        assert await client.hears() == (PING, b"")
        client.say(frame(PONG))
        for _ in range(40):
            client.say(frame(TEXT, b"x"))
            await turn()
            client.clock.advance(1)
        assert not client.sent
        client.clock.advance(12)
        assert await client.hears() == (PING, b"")
        assert client.stream.sink._pings == 1  # type: ignore[attr-defined]
        client.clock.advance(10)
        assert await client.hears() == (PING, b"")
        client.say(closing(1000))

    talk(recorder, script, by_hand=True, keepalive_interval=10, read_timeout=0)
    assert set(recorder.messages) == {"x"}


def test_a_client_that_stays_silent_is_given_up() -> None:
    """It is told why, and the application that it is gone."""
    recorder = Recorder()

    async def script(client: Client) -> None:
        await client.is_accepted()
        client.clock.advance(12)
        assert await client.hears() == (PING, b"")
        assert not client.over
        client.clock.advance(10)
        assert await client.hears_close() == (1011, "no sign of life")
        assert client.over

    talk(recorder, script, by_hand=True, keepalive_interval=10, read_timeout=20)
    assert recorder.end == (1006, "")


def test_who_takes_what_is_sent_lives() -> None:
    """A client that is busy with reading has no need to say anything."""
    recorder = Recorder()

    async def script(client: Client) -> None:
        await client.is_accepted()
        for _ in range(40):
            client.stream.acknowledged(0)
            await turn()
            client.clock.advance(1)
        assert not client.over
        client.say(closing(1000))

    talk(recorder, script, by_hand=True, keepalive_interval=0, read_timeout=10)
    assert recorder.end == (1000, "")


@pytest.mark.parametrize(("messages", "max_queue"), [(5, 2), (1, 1)])
def test_who_is_not_read_is_not_silent(messages: int, max_queue: int) -> None:
    """Of a client whose messages nobody receives nothing is known: it is not given up."""
    idle = Idle()

    async def script(client: Client) -> None:
        await client.is_accepted()
        client.say(*[frame(TEXT, b"x")] * messages)
        client.clock.advance(40)
        assert not client.over
        idle.go_on.set()
        await turn()
        client.clock.advance(12)
        await client.ends()
        assert (await client.hears_close())[0] == 1011

    talk(idle, script, by_hand=True, keepalive_interval=0, read_timeout=10, max_queue=max_queue)
    assert len(idle.messages) == messages


def test_nothing_is_looked_at_when_it_is_off() -> None:
    """Intervals of 0 mean never."""

    async def script(client: Client) -> None:
        await client.is_accepted()
        client.clock.advance(3600)
        assert not client.sent
        client.say(closing(1000))

    talk(echo, script, by_hand=True, keepalive_interval=0, read_timeout=0)


def test_a_client_that_does_not_read_is_not_pinged() -> None:
    """What it would find in front of the ping is more than enough, and pings would pile up."""

    async def script(client: Client) -> None:
        await client.is_accepted()
        client.full = True
        client.clock.advance(22)
        assert not client.sent
        client.full = False
        client.clock.advance(10)
        assert await client.hears() == (PING, b"")  # there would have been two before
        client.say(closing(1000))

    talk(echo, script, by_hand=True, keepalive_interval=10, read_timeout=0)


def test_a_closing_handshake_behind_messages_that_nobody_wants() -> None:
    """When the application closes, what it has not received does not hide the client's close frame."""
    busy = asyncio.Event()

    async def target(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(ACCEPTED)
        await busy.wait()

    async def script(client: Client) -> None:
        await client.is_accepted()
        client.say(*[frame(TEXT, b"x")] * 5, closing(1000))
        client.say(frame(TEXT, b"x"))
        busy.set()
        await client.ends()
        assert not client.aborted

    talk(target, script, max_queue=2)


def test_what_is_over_is_not_looked_at() -> None:
    """An application may go on for long after its client has left."""
    idle = Idle()

    async def script(client: Client) -> None:
        await client.is_accepted()
        idle.messages.append("stays")
        client.say(closing(1000), frame(TEXT, b"x" * 1000))
        client.say(frame(TEXT, b"y" * 1000))
        assert client.stream.sink._frames._later == []  # type: ignore[attr-defined]
        while len(client.sockets.keepalive):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
        idle.go_on.set()

    talk(idle, script, close_timeout=0.1)


def test_an_error_in_one_of_them_is_nobody_elses(caplog: pytest.LogCaptureFixture) -> None:
    """The others are looked at, now and later."""
    seen: list[str] = []

    class Socket:
        def __init__(self, name: str) -> None:
            self._name = name

        def look(self, now: float) -> None:
            seen.append(self._name)
            if self._name == "bad":
                raise LookupError("a test")

        def leave(self) -> None: ...

    async def main() -> None:
        timers: list[Callable[[], None]] = []
        loop: Any = asyncio.get_running_loop()
        keepalive = KeepAlive(config.WebSocket(), loop)
        keepalive.loop = Namespace(call_later=lambda _, step: timers.append(step), time=loop.time)  # type: ignore[assignment]
        for name in ("bad", "good"):
            keepalive.add(Socket(name))
        timers.pop()()
        timers.pop()()

    asyncio.run(main())
    assert seen == ["bad", "good", "good"]
    assert "LookupError" in caplog.text


def test_a_worker_without_websockets_looks_at_nothing() -> None:
    """There is a timer as long as there are sockets, and one for all of them."""

    class Socket:
        def look(self, now: float) -> None: ...
        def leave(self) -> None: ...

    async def main() -> None:
        timers: list[Callable[[], None]] = []
        loop: Any = asyncio.get_running_loop()
        keepalive = KeepAlive(config.WebSocket(), loop)
        keepalive.loop = Namespace(call_later=lambda _, step: timers.append(step), time=loop.time)  # type: ignore[assignment]
        one, two = Socket(), Socket()
        keepalive.add(one)
        keepalive.add(two)
        assert len(timers) == 1
        timers.pop()()
        keepalive.discard(one)
        timers.pop()()
        keepalive.discard(two)
        timers.pop()()
        assert timers == []
        keepalive.add(one)
        assert len(timers) == 1

    asyncio.run(main())
