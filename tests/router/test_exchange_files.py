"""Exchanges with a WSGI application: files that a worker has opened end responses."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bridge import config
from bridge.ipc.message import ABORT, DATA, FILE, HEADER, LAST, PART, RECORD, RESPONSE
from bridge.ipc.stream import Event
from bridge.router import outflow
from tests.ipc.test_link import few_files
from tests.router.by_hand import Both, Taken, WorkerByHand, take_all
from tests.router.rig import Rig, pattern, run, settle, until
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


def send_file(both: Both, taken: Taken, path: Path, offset: int, count: int) -> None:
    """What a worker does for wsgi.file_wrapper."""
    marker = file_record(both, taken, path, offset, count)
    both.worker.tracking.move(taken.stream, Event.FINISH)
    both.worker.mark(marker)


def file_record(both: Both, taken: Taken, path: Path, offset: int = 0, count: int = 5) -> bytes:
    """The record alone; returns the marker that belongs to it."""
    number = os.open(path, os.O_RDONLY)
    try:
        return both.worker.send_record(DATA, taken.stream, PART.pack(offset, count), number, flags=FILE | LAST)
    finally:
        os.close(number)


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


def test_the_marker_is_read_before_its_record(http: config.Http, tmp_path: Path) -> None:
    """Queue and link have no common order: the router looks at the link when a marker names what it has not read."""
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

        if order == "file first":
            file_record(both, taken, path)
            await until(lambda: both.worker.router_side.linked)
        both.worker.tracking.move(taken.stream, Event.FINISH)
        both.worker.send(ABORT, taken.stream)
        await until(lambda: not both.rig.application.exchanges)
        if order == "end first":
            file_record(both, taken, path)
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


def test_no_room_for_a_file(http: config.Http, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Our own limit of open files costs one response, visibly, and not the worker."""
    path = tmp_path / "file"
    path.write_bytes(b"hello")

    async def test() -> None:
        both = Both(http)
        connection, taken, _ = await both.begin(size=5)
        marker = file_record(both, taken, path)
        both.worker.tracking.move(taken.stream, Event.FINISH)
        with few_files(0):
            both.worker.mark(marker)
            await until(lambda: both.rig.over)
        assert connection.aborted
        assert not both.rig.cut
        connection, taken, _ = await both.begin(size=5)
        send_file(both, taken, path, 0, 5)
        await connection.completed()
        assert connection.body == b"hello"
        await both.close()

    run(test())
    assert "limit of open files" in caplog.text


def nothing_sent(both: Both, taken: Taken, path: Path) -> None:
    both.worker.send(DATA, taken.stream, PART.pack(0, 1), flags=FILE | LAST)


def a_directory(both: Both, taken: Taken, path: Path) -> None:
    both.worker.mark(file_record(both, taken, path.parent))


def beyond_every_file(both: Both, taken: Taken, path: Path) -> None:
    send_file(both, taken, path, 1 << 62, 1 << 62)


def without_last(both: Both, taken: Taken, path: Path) -> None:
    both.worker.send(DATA, taken.stream, PART.pack(0, 1), flags=FILE)


def a_short_part(both: Both, taken: Taken, path: Path) -> None:
    both.worker.send(DATA, taken.stream, b"\0" * 15, flags=FILE | LAST)


def two_in_one_message(both: Both, taken: Taken, path: Path) -> None:
    with path.open("rb") as file:
        both.worker.send_record(DATA, taken.stream, PART.pack(0, 1), file.fileno(), file.fileno(), flags=FILE | LAST)


def with_something_else(both: Both, taken: Taken, path: Path) -> None:
    with path.open("rb") as file:
        both.worker.mark(both.worker.send_record(DATA, taken.stream, b"hello", file.fileno()))


def in_json(both: Both, taken: Taken, path: Path) -> None:
    with path.open("rb") as file:
        both.worker.link.send({"type": "file", "stream": taken.stream}, [file.fileno()])


def a_marker_alone(both: Both, taken: Taken, path: Path) -> None:
    both.worker.mark(HEADER.pack(0, RECORD, 0, 0, 0, 0, 4711, 0))


@pytest.mark.parametrize(
    "misbehave",
    [
        nothing_sent,
        a_directory,
        beyond_every_file,
        without_last,
        a_short_part,
        two_in_one_message,
        with_something_else,
        in_json,
        a_marker_alone,
    ],
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
