"""The request as an application receives it, and the life of requests beside each other."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Coroutine, Generator
from typing import Any

import pytest

from bridge.worker.types import Message, Receive, Scope, Send, Target
from tests.worker.fake_stream import FakeStream
from tests.worker.one_request import POST, application, body, sends, serve, start, turn


def collects(events: list[Message], count: int) -> Target:
    async def target(scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(count):
            events.append(await receive())  # noqa: PERF401 - seen as they come
        await send(start())
        await send(body())

    return target


def test_request_without_a_body() -> None:
    """A request without a body is one empty event, and nobody is told that the application reads."""
    events: list[Message] = []
    stream = serve(collects(events, 1))
    assert events == [{"type": "http.request", "body": b"", "more_body": False}]
    assert stream.reads == 0


def test_body_that_came_with_the_head() -> None:
    """What is here already is given at once."""
    events: list[Message] = []
    stream = serve(collects(events, 1), FakeStream(POST, (b"all",)))
    assert events == [{"type": "http.request", "body": b"all", "more_body": False}]
    assert stream.reads == 0


def test_body_that_arrives_in_pieces() -> None:
    """receive() waits for each piece; the last one says that it is the last."""

    async def main() -> None:
        events: list[Message] = []
        app, stream = application(collects(events, 3)), FakeStream(POST, (b"a",), ended=False)
        app.start(stream)
        await turn()
        assert events == [{"type": "http.request", "body": b"a", "more_body": True}]
        assert stream.reads == 1
        stream.feed(b"b")
        await turn()
        assert len(events) == 2
        stream.feed(b"", last=True)
        await app.drain()
        assert events[1:] == [
            {"type": "http.request", "body": b"b", "more_body": True},
            {"type": "http.request", "body": b"", "more_body": False},
        ]

    asyncio.run(main())


def test_receive_that_is_cancelled_loses_nothing() -> None:
    """A framework may cancel receive() to poll it; the next one gets what then comes."""

    async def main() -> None:
        events: list[Message] = []

        async def target(scope: Scope, receive: Receive, send: Send) -> None:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(receive(), 0.01)
            stream.feed(b"late", last=True)
            events.append(await receive())
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(receive(), 0.01)
            await send(start())
            await send(body())
            events.append(await receive())

        app, stream = application(target), FakeStream(POST, ended=False)
        app.start(stream)
        await app.drain()
        assert events == [{"type": "http.request", "body": b"late", "more_body": False}, {"type": "http.disconnect"}]

    asyncio.run(main())


def test_scope_of_the_application() -> None:
    """Root path and state reach the application."""
    scopes: list[Scope] = []

    async def target(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await send(start())
        await send(body())

    serve(target, root_path="/shop", state={"a": 1})
    assert (scopes[0]["path"], scopes[0]["root_path"], scopes[0]["state"]) == ("/shop/", "/shop", {"a": 1})


def test_requests_run_beside_each_other() -> None:
    """A request that waits does not hold up another."""

    async def main() -> None:
        waiting = FakeStream(POST, ended=False)

        async def target(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send(start())
            await send(body())

        app = application(target)
        app.start(waiting)
        quick = FakeStream()
        app.start(quick)
        await turn()
        assert quick.complete
        assert len(app.tasks) == 1
        waiting.feed(b"", last=True)
        await app.drain()
        assert waiting.complete

    asyncio.run(main())


def test_running_requests_are_not_collected() -> None:
    """A request that waits for something that nothing else refers to survives the garbage collector."""

    async def main() -> None:
        async def target(scope: Scope, receive: Receive, send: Send) -> None:
            await asyncio.get_running_loop().create_future()

        app = application(target)
        app.start(FakeStream())
        await turn()
        gc.collect()
        assert len(app.tasks) == 1
        await app.drain(0)

    asyncio.run(main())


def test_a_finished_request_leaves_no_garbage() -> None:
    """A request is freed by its last reference: the garbage collector has nothing to do."""

    async def main() -> None:
        app = application(sends(start(), body(b"x")))
        stream = FakeStream()
        freed = weakref.ref(stream)
        app.start(stream)
        await app.drain()
        await turn()
        del stream
        assert freed() is None

    gc.disable()
    try:
        asyncio.run(main())
    finally:
        gc.enable()


@pytest.mark.parametrize("opened", [True, False])
def test_drain_cancels_what_is_late(opened: bool, caplog: pytest.LogCaptureFixture) -> None:
    """A request that outlives the time to drain gets 503, or a broken response once its head is out."""

    async def main() -> FakeStream:
        async def target(scope: Scope, receive: Receive, send: Send) -> None:
            if opened:
                await send(start())
                await send(body(b"half", more=True))
            await asyncio.get_running_loop().create_future()

        app, stream = application(target), FakeStream()
        app.start(stream)
        assert await app.drain(0.01) == 1
        assert not app.tasks
        assert stream.finishes == 1
        return stream

    stream = asyncio.run(main())
    assert stream.aborted == opened
    assert stream.status == (200 if opened else 503)
    assert "cancelled, the server stops: GET / HTTP/1.1" in caplog.text


def test_drain_of_a_request_that_has_not_begun() -> None:
    """A request that was claimed in the last moment is answered too."""

    async def main() -> None:
        async def target(scope: Scope, receive: Receive, send: Send) -> None:
            await asyncio.get_running_loop().create_future()

        app, stream = application(target), FakeStream()
        app.start(stream)
        assert await app.drain(0) == 1
        assert (stream.status, stream.finishes) == (503, 1)

    asyncio.run(main())


def test_drain_waits_for_requests_that_come_meanwhile() -> None:
    """drain() ends when no request is left, also of those that began after it."""

    async def main() -> None:
        async def target(scope: Scope, receive: Receive, send: Send) -> None:
            await turn()
            if scope["method"] == "POST":
                app.start(second)
            await send(start())
            await send(body())

        app, first, second = application(target), FakeStream(POST), FakeStream()
        app.start(first)
        assert await app.drain(10) == 0
        assert first.complete
        assert second.complete

    asyncio.run(main())


class Rest:
    """What is left of a coroutine that has waited for `first` already."""

    def __init__(self, first: Any, coroutine: Coroutine[Any, Any, None]) -> None:
        self._first, self._coroutine = first, coroutine

    def __await__(self) -> Generator[Any, Any, None]:
        yield self._first
        yield from self._coroutine.__await__()


def begins_at_once(loop: asyncio.AbstractEventLoop, wrapped: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """As asyncio.eager_task_factory of Python 3.12: a task whose first step is done when it is made."""
    try:
        first = wrapped.send(None)
    except StopIteration:
        return asyncio.Task(asyncio.sleep(0), loop=loop)

    async def rest() -> None:
        await Rest(first, wrapped)

    return asyncio.Task(rest(), loop=loop)


def test_tasks_that_begin_at_once() -> None:
    """A task factory of the application's may do that: a request ends as it does else."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(begins_at_once)  # type: ignore[arg-type]
        app = application(sends(start(), body(b"x")))
        stream = FakeStream()
        app.start(stream)
        assert await app.drain() == 0
        assert not app.tasks
        assert stream.complete
        assert stream.finishes == 1

    asyncio.run(asyncio.wait_for(main(), 10))
