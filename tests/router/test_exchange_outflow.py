"""Exchanges with a WSGI application: slow readers hold neither window nor chunks, and files end responses."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge import config
from bridge.ipc.message import ABORT, ACK, DATA, FILE, LAST, PART, RESPONSE
from bridge.ipc.stream import Event
from bridge.router import outflow
from bridge.router.exchange import Exchange
from tests.router.by_hand import Taken, WorkerByHand
from tests.router.rig import FakeConnection, Rig, pattern, run, settle, until
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


class Both:
    """A rig with one worker by hand."""

    def __init__(self, http: config.Http, **settings: Any) -> None:
        self.rig = Rig(http=http, protocol="wsgi", **settings)
        self.worker = WorkerByHand(self.rig).attach()

    async def begin(self, *, stalled: bool = False, size: int | None = None) -> tuple[FakeConnection, Taken, Exchange]:
        """A request that the worker has, with the head of its response out if `size` is said."""
        connection, exchange = self.rig.request()
        connection.stalled = stalled
        taken = await self.worker.request()
        if size is not None:
            self.worker.respond(taken, size)
            await until(lambda: connection.status)
        return connection, taken, exchange

    async def window(self, taken: Taken, size: int) -> None:
        """Wait until so many bytes of window have come back."""

        def back() -> bool:
            self.worker.look()
            return self.worker.given_back.get(taken.stream, 0) == size

        await until(back)

    @property
    def held(self) -> int:
        """Chunks of the worker that are not free."""
        return self.worker.port.segment.chunks.busy()

    async def close(self) -> None:
        """Everything is given back."""
        await self.rig.idle()
        assert self.held == 0
        assert not self.worker.router_side.files
        await self.rig.close()
        self.worker.close()


async def take_all(connection: FakeConnection) -> None:
    """Let the client take its response to the end."""
    while not connection.complete:
        await until(lambda: connection.complete or not connection.flushed)
        connection.take()


async def give(both: Both, taken: Taken, body: bytes) -> None:
    """Send a whole body in pieces, each when there are chunks for it."""
    while body:
        piece, body = body[:PIECE], body[PIECE:]
        while not both.worker.data(taken, piece, last=not body):
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
        assert both.rig.application.cancelled == 0
        await both.close()

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


# Files


def send_file(both: Both, taken: Taken, path: Path, offset: int, count: int) -> None:
    """What a worker does for wsgi.file_wrapper."""
    with path.open("rb") as file:
        both.worker.link.send({"type": "file", "stream": taken.stream}, [file.fileno()])
    both.worker.tracking.move(taken.stream, Event.FINISH)
    both.worker.send(DATA, taken.stream, PART.pack(offset, count), flags=FILE | LAST)


@pytest.mark.parametrize("stalled", [False, True])
def test_a_file_ends_a_response(http: config.Http, tmp_path: Path, stalled: bool) -> None:
    """A part of it, behind bytes that the client has taken or not."""
    path = tmp_path / "file"
    path.write_bytes(pattern(50_000))

    async def test() -> None:
        both = Both(http)
        connection, taken, exchange = await both.begin(stalled=stalled, size=PIECE + 30_000)
        both.worker.data(taken, pattern(PIECE))
        send_file(both, taken, path, 10_000, 30_000)
        await take_all(connection)
        assert connection.body == pattern(PIECE) + pattern(50_000)[10_000:40_000]
        assert exchange.sent == PIECE + 30_000
        assert both.rig.over == [exchange]
        await both.close()

    run(test())


def test_the_message_overtakes_its_file(http: config.Http, tmp_path: Path) -> None:
    """Queue and link have no common order: the router looks at the link when a message names what has not come."""
    path = tmp_path / "file"
    path.write_bytes(b"hello")

    async def test() -> None:
        both = Both(http)
        connection, taken, _ = await both.begin(size=5)
        both.rig.application.loop.remove_reader(both.worker.router_side.port.link.fileno())
        send_file(both, taken, path, 0, 5)
        await connection.completed()
        assert connection.body == b"hello"
        both.rig.application.loop.add_reader(
            both.worker.router_side.port.link.fileno(), both.worker.router_side.on_link
        )
        await both.close()

    run(test())


@pytest.mark.parametrize("order", ["file first", "end first"])
def test_a_file_that_is_not_wanted_any_more(http: config.Http, tmp_path: Path, order: str) -> None:
    """A stream that ends without the message that names its file: the file is closed, whichever comes first."""
    path = tmp_path / "file"
    path.write_bytes(b"hello")

    async def test() -> None:
        both = Both(http)
        _, taken, _ = await both.begin(size=5)

        def send() -> None:
            with path.open("rb") as file:
                both.worker.link.send({"type": "file", "stream": taken.stream}, [file.fileno()])

        if order == "file first":
            send()
            await until(lambda: both.worker.router_side.files)
        both.worker.tracking.move(taken.stream, Event.FINISH)
        both.worker.send(ABORT, taken.stream)
        await until(lambda: not both.rig.application.exchanges)
        if order == "end first":
            send()
            await until(lambda: not opened(path))
        assert not both.rig.cut
        assert not opened(path)
        await both.close()

    run(test())


def test_the_client_left_before_the_file_came(http: config.Http, tmp_path: Path) -> None:
    """It is closed, and the stream ends as ever."""
    path = tmp_path / "file"
    path.write_bytes(b"hello")

    async def test() -> None:
        both = Both(http)
        connection, taken, exchange = await both.begin(size=5)
        exchange.client_gone()
        send_file(both, taken, path, 0, 5)
        both.worker.tracking.move(taken.stream, Event.CONFIRM)
        await until(lambda: both.rig.over)
        assert connection.body == b""
        assert not both.rig.cut
        await both.close()

    run(test())


def nothing_sent(both: Both, taken: Taken, path: Path) -> None:
    both.worker.send(DATA, taken.stream, PART.pack(0, 1), flags=FILE | LAST)


def a_directory(both: Both, taken: Taken, path: Path) -> None:
    number = os.open(path.parent, os.O_RDONLY)
    assert stat.S_ISDIR(os.fstat(number).st_mode)
    both.worker.link.send({"type": "file", "stream": taken.stream}, [number])
    os.close(number)
    both.worker.send(DATA, taken.stream, PART.pack(0, 1), flags=FILE | LAST)


def beyond_every_file(both: Both, taken: Taken, path: Path) -> None:
    send_file(both, taken, path, 1 << 62, 1 << 62)


def without_last(both: Both, taken: Taken, path: Path) -> None:
    both.worker.send(DATA, taken.stream, PART.pack(0, 1), flags=FILE)


def a_short_part(both: Both, taken: Taken, path: Path) -> None:
    both.worker.send(DATA, taken.stream, b"\0" * 15, flags=FILE | LAST)


def two_files(both: Both, taken: Taken, path: Path) -> None:
    with path.open("rb") as file:
        for _ in range(2):
            both.worker.link.send({"type": "file", "stream": taken.stream}, [file.fileno()])


def two_in_one_message(both: Both, taken: Taken, path: Path) -> None:
    with path.open("rb") as file:
        both.worker.link.send({"type": "file", "stream": taken.stream}, [file.fileno()] * 2)


@pytest.mark.parametrize(
    "misbehave",
    [nothing_sent, a_directory, beyond_every_file, without_last, a_short_part, two_files, two_in_one_message],
)
def test_what_no_worker_may_do_with_files(
    http: config.Http, tmp_path: Path, misbehave: Callable[[Both, Taken, Path], None]
) -> None:
    """The worker is cut off, its response is broken, and no descriptor is left."""
    path = tmp_path / "file"
    path.write_bytes(b"hello")

    async def test() -> None:
        both = Both(http)
        connection, taken, _ = await both.begin(size=5)
        misbehave(both, taken, path)
        await until(lambda: both.rig.cut)
        await until(lambda: connection.aborted)
        await both.rig.idle()
        assert not opened(tmp_path)
        await both.rig.close()
        both.worker.close()

    run(test())


def test_asgi_sends_no_files(http: config.Http) -> None:
    """A file needs a request whose body is complete; ASGI applications may have others."""

    async def test() -> None:
        rig = Rig(http=http, protocol="asgi")
        worker = WorkerByHand(rig)
        connection, _ = rig.request()
        worker.link.send({"type": "attached", "limit": 1, "interface": "asgi"})
        taken = await worker.request()
        worker.respond(taken, 5)
        worker.send(DATA, taken.stream, PART.pack(0, 1), flags=FILE | LAST)
        await until(lambda: rig.cut)
        assert connection.aborted
        await rig.close()
        worker.close()

    run(test())


def test_a_response_may_say_file_only_in_data(http: config.Http) -> None:
    """A head with that flag and with chunks is refused."""

    async def test() -> None:
        both = Both(http)
        _, taken, _ = await both.begin()
        both.worker.respond(taken, 5)
        both.worker.data(taken, b"x" * 2000)
        await settle()
        both.worker.send(RESPONSE, taken.stream, b"x: y\r\n", flags=FILE, size=5, number=200, head=6)
        await until(lambda: both.rig.cut)
        await both.rig.close()
        both.worker.close()

    run(test())
