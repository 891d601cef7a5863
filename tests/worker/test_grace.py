"""bridge.worker.grace: requests that go on although nobody waits for them."""

from __future__ import annotations

import asyncio
import logging

import pytest

from bridge.worker.asgi import AsgiApplication
from bridge.worker.scope import ScopeBuilder
from bridge.worker.types import Receive, Scope, Send, Target
from tests.worker.fake_stream import FakeStream


def application(target: Target, grace: float | None) -> AsgiApplication:
    """One whose requests have this grace."""
    loop = asyncio.get_running_loop()
    return AsgiApplication(target, ScopeBuilder(), loop, logging.getLogger("bridge"), grace)


@pytest.mark.parametrize("grace", [0.0, 0.05])
def test_cancelled_when_the_grace_is_over(grace: float, caplog: pytest.LogCaptureFixture) -> None:
    """The task of a request whose client has left is cancelled, not before; others go on. It is no error."""

    async def main() -> None:
        ends: list[float] = []
        loop = asyncio.get_running_loop()
        go_on = asyncio.Event()

        async def target(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await go_on.wait()
            except asyncio.CancelledError:
                ends.append(loop.time())
                raise

        app = application(target, grace)
        left, stays = FakeStream(), FakeStream()
        app.start(left)
        app.start(stays)
        await asyncio.sleep(0)
        left.cancel()
        begun = loop.time()
        while not left.finishes:  # noqa: ASYNC110 - a stream tells nobody
            await asyncio.sleep(0.001)
        assert ends[0] - begun >= grace
        assert not stays.finishes
        go_on.set()
        await app.drain()
        assert len(ends) == 1

    with caplog.at_level(logging.INFO, "bridge"):
        asyncio.run(asyncio.wait_for(main(), 10))
    assert [record.levelname for record in caplog.records] == ["ERROR"]  # the one that went on, and did not answer


def test_a_task_that_has_not_begun() -> None:
    """It is not cancelled before its first step, which is what ends its stream."""

    async def main() -> None:
        async def target(scope: Scope, receive: Receive, send: Send) -> None:
            raise AssertionError

        app, stream = application(target, 0.0), FakeStream()
        app.start(stream)
        stream.cancel()
        assert app._grace is not None
        app._grace._look()
        await asyncio.sleep(0)
        assert stream.finishes == 1
        assert not app.tasks

    asyncio.run(asyncio.wait_for(main(), 10))


def test_who_goes_on_is_not_cancelled_again() -> None:
    """A task that has work to do in spite of it is let alone."""

    async def main() -> None:
        cancelled = 0

        async def target(scope: Scope, receive: Receive, send: Send) -> None:
            nonlocal cancelled
            for _ in range(2):
                try:
                    await asyncio.sleep(0.1)
                except asyncio.CancelledError:
                    cancelled += 1

        app, stream = application(target, 0.0), FakeStream()
        app.start(stream)
        await asyncio.sleep(0)
        stream.cancel()
        await app.drain()
        assert cancelled == 1

    asyncio.run(asyncio.wait_for(main(), 10))


def test_nobody_is_cancelled_unless_the_operator_says_so() -> None:
    """Without a grace a request ends by itself, however long that takes."""

    async def main() -> None:
        async def target(scope: Scope, receive: Receive, send: Send) -> None:
            await asyncio.sleep(0.1)

        app, stream = application(target, None), FakeStream()
        app.start(stream)
        await asyncio.sleep(0)
        stream.cancel()
        assert await app.drain() == 0

    asyncio.run(asyncio.wait_for(main(), 10))


def test_no_timer_when_nothing_runs() -> None:
    """The last request takes the timer with it, and the next one starts it."""

    async def main() -> None:
        async def target(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 204})
            await send({"type": "http.response.body"})

        app = application(target, 0.0)
        for _ in range(2):
            app.start(FakeStream())
            grace = app._grace
            assert grace is not None
            assert grace.awake
            while grace.awake:  # noqa: ASYNC110 - nor does a timer
                await asyncio.sleep(0.001)

    asyncio.run(asyncio.wait_for(main(), 10))
