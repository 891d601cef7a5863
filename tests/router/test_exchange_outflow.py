"""Exchanges with a WSGI application: slow readers hold neither window nor chunks."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge import config
from bridge.ipc.message import ABORT, ACK, DATA
from bridge.ipc.stream import Event
from bridge.router import outflow
from bridge.router.exchange import Exchange
from tests.router.by_hand import Both, Taken, take_all
from tests.router.rig import FakeConnection, pattern, run, settle, until
from tests.router.test_disk import opened

PIECE = 131072


@pytest.fixture
def http(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[config.Http]:
    """Files lie in the test's directory, and none is left open; nobody is waited for."""
    monkeypatch.setattr(outflow, "PATIENCE", 0.0001)
    directory = tmp_path / "spool"
    directory.mkdir()
    yield config.Http(body_temp_path=str(directory))
    assert not opened(tmp_path)


async def give(both: Both, taken: Taken, body: bytes) -> None:
    """Send a whole body in pieces, each when there are chunks for it."""
    while body:
        piece, body = body[:PIECE], body[PIECE:]
        while not both.worker.data(taken, piece, last=not body):  # noqa: ASYNC110 - chunks tell nobody in these tests
            await asyncio.sleep(0)


def test_a_client_that_takes_everything(http: config.Http) -> None:
    """No file is made for it, and the window comes back at once."""

    async def test() -> None:
        both = Both(http)
        connection, taken, _ = await both.begin(size=2 * PIECE)
        both.worker.data(taken, pattern(PIECE))
        await both.window(taken, PIECE)
        both.worker.data(taken, pattern(PIECE), last=True)
        await connection.completed()
        assert connection.body == pattern(PIECE) * 2
        assert not both.rig.application.disk.jobs
        assert both.rig.over
        await both.close()

    run(test())


def test_a_client_that_takes_nothing(http: config.Http) -> None:
    """Window and chunks come back although it has hardly a byte; then it gets all of it, in order."""

    async def test() -> None:
        both = Both(http)
        body = pattern(20 * PIECE)
        connection, taken, exchange = await both.begin(stalled=True, size=len(body))
        for index in range(20):
            assert both.worker.data(taken, body[index * PIECE :][:PIECE], last=index == 19)
            if index < 19:
                await both.window(taken, (index + 1) * PIECE)
        await until(lambda: not both.rig.application.exchanges)
        await until(lambda: not both.held)
        assert len(connection.body) <= outflow.COPIED
        assert both.rig.over == []
        await take_all(connection)
        assert connection.body == body
        assert both.rig.over == [exchange]
        assert exchange.sent == len(body)
        both.worker.look()
        assert both.worker.given_back[taken.stream] == 19 * PIECE  # nothing for a stream that is over
        await both.close()

    run(test())


def test_many_clients_that_take_nothing(http: config.Http) -> None:
    """Fifty of them, each with more than shared memory could hold together, and a worker that has one thread."""

    async def test() -> None:
        both = Both(http)
        body = pattern(4 * PIECE)
        connections = []
        for _ in range(50):
            connection, taken, _ = await both.begin(stalled=True, size=len(body))
            connections.append(connection)
            await give(both, taken, body)
        await until(lambda: not both.held)
        quick, taken, _ = await both.begin()
        both.worker.respond(taken, 2, b"ok", last=True)
        await quick.completed()
        for connection in connections:
            await take_all(connection)
            assert connection.body == body
        await both.close()

    run(test())


def test_small_pieces_for_a_client_that_takes_nothing(http: config.Http) -> None:
    """What travels in queue items is moved as well."""

    async def test() -> None:
        both = Both(http)
        connection, taken, _ = await both.begin(stalled=True, size=300 * 500)
        for index in range(300):
            both.worker.send(DATA, taken.stream, pattern(500), flags=ACK)
            if index % 50 == 49:
                await both.window(taken, (index + 1) * 500)
        both.worker.end(taken)
        await take_all(connection)
        assert connection.body == pattern(500) * 300
        await both.close()

    run(test())


def test_a_file_of_limited_size(http: config.Http) -> None:
    """Beyond `max_temp_file_size` the window comes back only as the client takes what there is."""

    async def test() -> None:
        small = config.Http(body_temp_path=http.body_temp_path, max_temp_file_size=PIECE)
        both = Both(small)
        body = pattern(4 * PIECE)
        connection, taken, _ = await both.begin(stalled=True, size=len(body))
        for index in range(2):
            both.worker.data(taken, body[index * PIECE :][:PIECE])
        for _ in range(20):
            await until(lambda: not both.rig.application.disk.jobs)
            await settle()
        both.worker.look()
        assert both.worker.given_back.get(taken.stream, 0) < 2 * PIECE
        assert both.held
        for index in range(2, 4):
            both.worker.data(taken, body[index * PIECE :][:PIECE], last=index == 3)
        await take_all(connection)
        assert connection.body == body
        await both.close()

    run(test())


def test_no_files_at_all(http: config.Http) -> None:
    """With `max_temp_file_size` 0 a slow client is waited for, as it is for ASGI."""

    async def test() -> None:
        both = Both(config.Http(body_temp_path="/nonexistent", max_temp_file_size=0))
        connection, taken, _ = await both.begin(stalled=True, size=3 * PIECE)
        both.worker.data(taken, pattern(3 * PIECE), last=True)
        await take_all(connection)
        assert connection.body == pattern(3 * PIECE)
        await both.close()

    run(test())


def leaves(both: Both, connection: FakeConnection, taken: Taken, exchange: Exchange) -> None:
    """The client goes."""
    exchange.client_gone()


def aborts(both: Both, connection: FakeConnection, taken: Taken, exchange: Exchange) -> None:
    """The application cannot go on."""
    both.worker.tracking.move(taken.stream, Event.FINISH)
    both.worker.send(ABORT, taken.stream)


def dies(both: Both, connection: FakeConnection, taken: Taken, exchange: Exchange) -> None:
    """The worker goes."""
    both.rig.application.lose(both.worker.router_side)


@pytest.mark.parametrize("end", [leaves, aborts, dies])
@pytest.mark.parametrize("moved", [False, True])
def test_endings_in_the_middle(
    http: config.Http, end: Callable[[Both, FakeConnection, Taken, Exchange], None], moved: bool
) -> None:
    """Whoever ends a response that is in a file, or on the way into one: nothing is left of it."""

    async def test() -> None:
        both = Both(http)
        connection, taken, exchange = await both.begin(stalled=True, size=9 * PIECE)
        both.worker.data(taken, pattern(PIECE))
        both.worker.data(taken, pattern(PIECE))
        await until(lambda: both.held)
        if moved:
            await both.window(taken, 2 * PIECE)
        end(both, connection, taken, exchange)
        if end is leaves:
            assert both.worker.tracking.state(taken.stream) != 0
            both.worker.data(taken, pattern(PIECE))
            both.worker.tracking.move(taken.stream, Event.CONFIRM)
            both.worker.send(ABORT, taken.stream)
        else:
            await until(lambda: connection.aborted)
        connection.held.clear()
        await until(lambda: both.rig.over)
        assert both.rig.over == [exchange]
        await both.close() if end is not dies else await both.rig.idle()
        if end is dies:
            await both.rig.close()
            both.worker.close()

    run(test())


def test_the_client_leaves_behind_the_last_message(http: config.Http) -> None:
    """The worker is through, and what the client has not taken is forgotten."""

    async def test() -> None:
        both = Both(http)
        _, taken, exchange = await both.begin(stalled=True, size=4 * PIECE)
        both.worker.data(taken, pattern(4 * PIECE), last=True)
        await until(lambda: not both.rig.application.exchanges and not both.held)
        assert both.rig.over == []
        exchange.client_gone()
        assert both.rig.over == [exchange]
        assert both.rig.application.tally.cancelled == 0
        await both.close()

    run(test())


def test_the_worker_dies_behind_its_last_message(http: config.Http) -> None:
    """The response is whole, and the client gets all of it; nobody speaks to the dead."""

    async def test() -> None:
        both = Both(http)
        connection, taken, _ = await both.begin(stalled=True, size=4 * PIECE)
        both.worker.data(taken, pattern(4 * PIECE), last=True)
        await until(lambda: not both.rig.application.exchanges)
        both.rig.application.lose(both.worker.router_side)
        await take_all(connection)
        assert connection.body == pattern(4 * PIECE)
        await both.rig.idle()
        await both.rig.close()
        both.worker.close()

    run(test())


def test_a_body_of_another_length_than_announced(http: config.Http, caplog: pytest.LogCaptureFixture) -> None:
    """It is found when it is written, and the worker is named."""

    async def test() -> None:
        both = Both(http)
        connection, taken, exchange = await both.begin(size=1)
        connection.length_kept = False
        both.worker.data(taken, pattern(PIECE), last=True)
        await until(lambda: both.rig.over)
        assert both.rig.over == [exchange]
        await both.close()

    run(test())
    assert "worker 2 sent a response that is longer or shorter than announced" in caplog.text


def test_a_disk_that_fails_in_reading(
    http: config.Http, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The client sees a broken response, the application is told that nobody waits, the log says why."""

    async def test() -> None:
        both = Both(http)
        connection, taken, _ = await both.begin(stalled=True, size=9 * PIECE)
        both.worker.data(taken, pattern(PIECE))
        await both.window(taken, PIECE)

        def broken(*_: Any) -> bytes:
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(os, "pread", broken)
        connection.take()
        await until(lambda: connection.aborted)
        both.worker.tracking.move(taken.stream, Event.CONFIRM)
        both.worker.send(ABORT, taken.stream)
        await both.close()

    run(test())
    assert [message.partition(": ")[2] for message in caplog.messages] == ["[Errno 5] Input/output error"]
