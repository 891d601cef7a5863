"""Startup and shutdown of an application, and what is made of applications that do neither properly."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import fastapi
import pytest
import starlette.applications

from bridge.errors import TargetError
from bridge.worker.lifespan import Lifespan
from bridge.worker.types import Receive, Scope, Send, Target

LOG = logging.getLogger("bridge")


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(main(), 10))


def start(target: Target) -> dict[str, Any] | None:
    """Start an application, and shut it down if it has a lifespan."""
    result: list[dict[str, Any] | None] = []

    async def main() -> None:
        lifespan = Lifespan(target, LOG)
        result.append(await lifespan.startup())
        assert lifespan.supported == (result[0] is not None)
        assert await lifespan.shutdown(5)

    run(main)
    return result[0]


def levels(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.levelname for record in caplog.records if record.name == "bridge"]


@pytest.fixture(autouse=True)
def _log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "bridge")


async def ordinary(scope: Scope, receive: Receive, send: Send) -> None:
    assert await receive() == {"type": "lifespan.startup"}
    scope["state"]["pool"] = 7
    await send({"type": "lifespan.startup.complete"})
    assert await receive() == {"type": "lifespan.shutdown"}
    await send({"type": "lifespan.shutdown.complete"})


def test_startup_and_shutdown(caplog: pytest.LogCaptureFixture) -> None:
    """An application that speaks the protocol is started, gives its state, and is shut down; nothing is logged."""
    assert start(ordinary) == {"pool": 7}
    assert not caplog.records


def test_scope_of_lifespan() -> None:
    """The scope is the one that ASGI describes."""
    scopes: list[Scope] = []

    async def target(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(dict(scope))
        await ordinary(scope, receive, send)

    start(target)
    assert scopes[0].pop("state") is not None
    assert scopes == [{"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}}]


def test_startup_takes_its_time() -> None:
    """startup() returns when the application has completed its startup, and not before."""

    async def main() -> None:
        go = asyncio.Event()

        async def target(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await go.wait()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})

        lifespan = Lifespan(target, LOG)
        starting = asyncio.ensure_future(lifespan.startup())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not starting.done()
        go.set()
        assert await starting == {}
        assert await lifespan.shutdown(5)

    run(main)


# Startups that fail


def test_startup_failed() -> None:
    """The message of startup.failed is the line that ends the start; one line has no report."""

    async def target(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database at 192.0.2.9"})

    with pytest.raises(TargetError) as caught:
        start(target)
    assert str(caught.value) == "the application's startup failed: no database at 192.0.2.9"
    assert caught.value.report == ""
    assert caught.value.exit_status == 3


def test_startup_failed_without_a_message() -> None:
    """What the application raises after startup.failed stands in for a message."""

    async def target(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed"})
        raise LookupError("no shelf")

    with pytest.raises(TargetError, match="startup failed: LookupError: no shelf") as caught:
        start(target)
    assert "in target" in caught.value.report
    assert "bridge/worker" not in caught.value.report


def test_startup_failed_and_then_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    """An application that does not return after startup.failed is cancelled."""
    monkeypatch.setattr("bridge.worker.lifespan._LINGER", 0.01)
    ended: list[bool] = []

    async def target(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no"})
        try:
            await receive()
        finally:
            ended.append(True)

    with pytest.raises(TargetError):
        start(target)
    assert ended == [True]


@contextlib.asynccontextmanager
async def broken(app: object) -> AsyncIterator[None]:
    raise LookupError("no shelf")
    yield


@pytest.mark.parametrize(
    "make", [lambda: starlette.applications.Starlette(lifespan=broken), lambda: fastapi.FastAPI(lifespan=broken)]
)
def test_startup_of_a_framework_fails(make: Callable[[], Target], caplog: pytest.LogCaptureFixture) -> None:
    """Starlette and FastAPI report the traceback as message, then raise again: one error, with the traceback."""
    with pytest.raises(TargetError) as caught:
        start(make())
    assert str(caught.value) == "the application's startup failed: LookupError: no shelf"
    assert "in broken" in caught.value.report
    assert "bridge/worker" not in caught.value.report
    assert not levels(caplog)


def test_sys_exit_during_startup() -> None:
    """An application that ends the process during its startup has failed to start."""

    async def target(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        sys.exit("no configuration")

    with pytest.raises(TargetError, match=r"ended its startup with SystemExit\('no configuration'\)") as caught:
        start(target)
    assert "in target" in caught.value.report


# Applications without lifespan


async def knows_only_http(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        raise ValueError("only http")


async def returns(scope: Scope, receive: Receive, send: Send) -> None:
    pass


@pytest.mark.parametrize("target", [knows_only_http, returns])
def test_no_lifespan(target: Target, caplog: pytest.LogCaptureFixture) -> None:
    """An application that does not know the protocol is served without it; one line says so."""
    assert start(target) is None
    assert levels(caplog) == ["INFO"]
    assert "has no lifespan" in caplog.text
    assert "Traceback" not in caplog.text


async def raises_in_startup(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    raise LookupError("no shelf")


async def takes_everything_for_a_request(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "http.response.start", "status": 200})


async def returns_from_startup(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()


@pytest.mark.parametrize(
    ("target", "text"),
    [
        (raises_in_startup, "LookupError: no shelf"),
        (takes_everything_for_a_request, "'http.response.start' is not one that a lifespan sends"),
        (returns_from_startup, "it returned"),
    ],
)
def test_startup_that_is_not_completed(target: Target, text: str, caplog: pytest.LogCaptureFixture) -> None:
    """An application that takes lifespan.startup and then ends is served, as ASGI demands, and seen in the log."""
    assert start(target) is None
    assert levels(caplog) == ["WARNING"]
    assert text in caplog.text
    assert "must send lifespan.startup.failed" in caplog.text


# Order of the messages


@pytest.mark.parametrize(
    "early", ["lifespan.shutdown.complete", "lifespan.shutdown.failed", "http.response.start", "lifespan.startup"]
)
def test_messages_out_of_order(early: str) -> None:
    """What does not answer the event at hand raises in the application, which may go on."""
    errors: list[str] = []

    async def target(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": early})
        except RuntimeError as error:
            errors.append(str(error))
        await ordinary(scope, receive, send)

    assert start(target) == {"pool": 7}
    assert early in errors[0]


def test_answer_given_twice() -> None:
    """A second startup.complete raises in the application."""
    errors: list[str] = []

    async def target(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        try:
            await send({"type": "lifespan.startup.complete"})
        except RuntimeError as error:
            errors.append(str(error))
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    assert start(target) == {}
    assert errors == ["lifespan.startup.complete was sent when nobody waits for it"]


# Shutdowns that fail


def shuts_down(behaviour: Callable[[Receive, Send], Coroutine[Any, Any, None]]) -> bool:
    clean: list[bool] = []

    async def target(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await behaviour(receive, send)

    async def main() -> None:
        lifespan = Lifespan(target, LOG)
        await lifespan.startup()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        clean.append(await lifespan.shutdown(5))

    run(main)
    return clean[0]


def test_shutdown_failed(caplog: pytest.LogCaptureFixture) -> None:
    """shutdown.failed is logged with its message."""

    async def behaviour(receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.shutdown.failed", "message": "half of it is lost"})

    assert not shuts_down(behaviour)
    assert levels(caplog) == ["ERROR"]
    assert "shutdown failed: half of it is lost" in caplog.text


@pytest.mark.parametrize("answered", [True, False])
def test_exception_during_shutdown(answered: bool, caplog: pytest.LogCaptureFixture) -> None:
    """An exception during the shutdown is logged with its traceback, also behind the answer."""

    async def behaviour(receive: Receive, send: Send) -> None:
        await receive()
        if answered:
            await send({"type": "lifespan.shutdown.complete"})
        raise LookupError("no shelf")

    assert not shuts_down(behaviour)
    assert levels(caplog) == ["ERROR"]
    assert "LookupError: no shelf" in caplog.text


def test_shutdown_of_starlette_fails(caplog: pytest.LogCaptureFixture) -> None:
    """Starlette sends shutdown.failed and raises again: one error."""

    @contextlib.asynccontextmanager
    async def lifespan(app: object) -> AsyncIterator[dict[str, int]]:
        yield {"pool": 7}
        raise LookupError("no shelf")

    async def main() -> None:
        subject = Lifespan(starlette.applications.Starlette(lifespan=lifespan), LOG)
        assert await subject.startup() == {"pool": 7}
        assert not await subject.shutdown(5)

    run(main)
    assert levels(caplog) == ["ERROR"]
    assert "LookupError: no shelf" in caplog.text


def test_shutdown_that_takes_too_long(caplog: pytest.LogCaptureFixture) -> None:
    """An application that does not come to its end is cancelled at the deadline."""
    ended: list[bool] = []

    async def target(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append(True)

    async def main() -> None:
        lifespan = Lifespan(target, LOG)
        await lifespan.startup()
        assert not await lifespan.shutdown(0.01)
        assert ended == [True]

    run(main)
    assert "did not shut down within 0.01 seconds" in caplog.text


def test_return_while_serving(caplog: pytest.LogCaptureFixture) -> None:
    """An application may leave its lifespan after the startup; it is noted, and the shutdown has nobody to tell."""

    async def behaviour(receive: Receive, send: Send) -> None:
        pass

    assert shuts_down(behaviour)
    assert levels(caplog) == ["INFO"]


def test_exception_while_serving(caplog: pytest.LogCaptureFixture) -> None:
    """A lifespan that fails between startup and shutdown is an error when it happens."""

    async def behaviour(receive: Receive, send: Send) -> None:
        raise LookupError("no shelf")

    assert not shuts_down(behaviour)
    assert levels(caplog) == ["ERROR"]
    assert "failed while it was serving" in caplog.text


def test_closing_the_loop_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    """A worker that ends without a shutdown leaves no error about the lifespan behind."""

    async def main() -> None:
        await Lifespan(ordinary, LOG).startup()

    run(main)
    assert not caplog.records
