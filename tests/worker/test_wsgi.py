"""PEP 3333 over a fake stream: what an application is given, and how what it returns is sent and closed."""

from __future__ import annotations

import gc
import logging
import sys
import threading
import weakref
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from bridge import __version__
from bridge.ipc.message import DATE, SERVER, UNKNOWN
from bridge.worker.types import Environ
from bridge.worker.wsgi import JOINED, WsgiApplication
from tests.worker.fake_sync_stream import FakeSyncStream
from tests.worker.one_wsgi_request import HEAD, Start, answers, fails, serve


def test_small_response_is_one_message() -> None:
    """Head and body of a list travel together, and complete the stream; nothing else needs to be flushed."""
    headers = [("Content-Type", "text/plain"), ("Content-Length", "5"), ("Date", "now"), ("Server", "mine")]
    stream = serve(answers([b"hello"], *headers, status="201 Created"))
    assert stream.messages == [("respond", b"hello", True)]
    assert (stream.status, stream.length, stream.flags, stream.flushed) == (201, 5, DATE | SERVER, 0)
    assert stream.block == b"content-type: text/plain\r\ndate: now\r\nserver: mine\r\n"


@pytest.mark.parametrize(
    ("result", "body"),
    [([], b""), ([b""], b""), ([b"ab"], b"ab"), ((b"a",), b"a"), ([b"a", b"", b"bc"], b"abc"), ((b"a", b"b"), b"ab")],
)
def test_length_of_what_is_all_there_is_known(result: Any, body: bytes) -> None:
    """The body of a list or tuple needs no content-length from the application."""
    stream = serve(answers(result))
    assert stream.messages == [("respond", body, True)]
    assert stream.length == len(body)


def test_large_list_is_sent_piece_by_piece() -> None:
    """Pieces are not copied together when they are many bytes; the last one completes the response."""
    pieces = [b"a" * JOINED, b"b"]
    stream = serve(answers(pieces))
    assert stream.messages == [("respond", pieces[0], False), ("send", b"b", True)]
    assert stream.length == UNKNOWN


def test_pieces_of_a_generator_are_sent_at_once() -> None:
    """Each piece is out before the next is asked for; empty ones are nothing; the head waits for the first one."""
    stream = FakeSyncStream()
    seen = []

    def pieces() -> Iterator[bytes]:
        for piece in (b"", b"one", b"", b"two"):
            seen.append(len(stream.messages))
            yield piece
        seen.append(len(stream.messages))

    serve(answers(pieces()), stream)
    assert seen == [0, 0, 1, 1, 2]
    assert stream.messages == [("respond", b"one", False), ("send", b"two", False), ("send", b"", True)]
    assert stream.length == UNKNOWN


def test_generator_may_start_the_response_itself() -> None:
    """An application that is a generator calls start_response() when it is asked for its first piece."""

    def target(environ: Environ, start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"late"

    assert serve(target).body == b"late"


def test_generator_without_pieces() -> None:
    """A body that turns out to be empty has a length after all."""
    stream = serve(answers(iter([])))
    assert stream.messages == [("respond", b"", True)]
    assert stream.length == 0


def test_announced_length_completes_a_generator() -> None:
    """Once all announced bytes are there the client does not wait for the generator to end."""
    stream = FakeSyncStream()
    states = []

    def pieces() -> Iterator[bytes]:
        yield b"abc"
        states.append((stream.complete, stream.flushed))
        yield b""

    serve(answers(pieces(), ("Content-Length", "3")), stream)
    assert states == [(True, 1)]
    assert stream.messages == [("respond", b"abc", True)]


def test_iterator_of_a_list_knows_its_end() -> None:
    """What is iterated through a list's own iterator is one message too: so are Django's responses."""

    class Response:
        def __iter__(self) -> Iterator[bytes]:
            return iter([b"page"])

    stream = serve(answers(Response()))
    assert stream.messages == [("respond", b"page", True)]
    assert stream.length == 4


def test_old_kind_of_iterable() -> None:
    """PEP 3333 counts objects with nothing but __getitem__ among the iterables."""

    class Pieces:
        def __getitem__(self, index: int) -> bytes:
            return [b"a", b"b"][index]

    assert serve(answers(Pieces())).body == b"ab"


class Closed:
    """An iterable that tells when it was closed."""

    def __init__(self, stream: FakeSyncStream, pieces: Iterable[bytes] = (b"a", b"b")) -> None:
        self.stream = stream
        self.pieces = iter(pieces)
        self.given = 0
        self.closed: list[tuple[bool, int]] = []  # was the response over, how many messages were flushed

    def __iter__(self) -> Closed:
        return self

    def __next__(self) -> bytes:
        piece = next(self.pieces)
        self.given += 1
        return piece

    def close(self) -> None:
        self.closed.append((self.stream.over, self.stream.flushed))


def test_close_is_called_when_the_client_has_it_all() -> None:
    """close() runs once, after the last piece went out: it may take its time."""
    stream = FakeSyncStream()
    result = Closed(stream)
    serve(answers(result), stream)
    assert result.closed == [(True, 3)]


def raise_in_the_middle() -> Iterator[bytes]:
    yield b"a"
    raise LookupError("no shelf")


def test_close_is_called_after_an_exception(caplog: pytest.LogCaptureFixture) -> None:
    """close() runs also when the iteration failed, and the client knows by then."""
    stream = FakeSyncStream()
    result = Closed(stream, raise_in_the_middle())
    fails(answers(result), caplog, stream)
    assert result.closed == [(True, 1)]
    assert stream.aborted


def test_close_is_called_when_the_body_is_not_iterated(caplog: pytest.LogCaptureFixture) -> None:
    """close() runs also when start_response() was forgotten."""
    stream = FakeSyncStream()
    result = Closed(stream)
    fails(lambda environ, start_response: result, caplog, stream)
    assert result.closed == [(True, 1)]


def test_close_is_called_when_the_client_left(caplog: pytest.LogCaptureFixture) -> None:
    """When the client leaves nothing more is asked for, close() runs, and nobody is told but in debug."""
    stream = FakeSyncStream(leaves_after=2)
    result = Closed(stream, (b"%d" % number for number in range(100)))
    with caplog.at_level(logging.DEBUG, "bridge"):
        serve(answers(result), stream)
    assert result.given == 3
    assert len(result.closed) == 1
    assert [record.levelname for record in caplog.records] == ["DEBUG"]
    assert stream.body == b"01"


def test_generator_is_closed_when_the_client_left() -> None:
    """A generator leaves its with blocks, empty pieces ask too."""
    left = []

    def pieces() -> Iterator[bytes]:
        try:
            while True:
                yield b""
        finally:
            left.append(True)

    stream = serve(answers(pieces()), FakeSyncStream(leaves_after=5))
    assert left == [True]
    assert stream.messages == []


@pytest.mark.parametrize(("request_head", "status"), [(HEAD, "200 OK"), (None, "204 No Content"), (None, "304 Not")])
def test_responses_without_a_body(request_head: bytes | None, status: str) -> None:
    """What must not have a body is complete with its head, however much the application gives."""
    for result in ([b"body"], iter([b"body", b"more"]), (piece for piece in [b"", b"body", b"more"]), []):
        stream = FakeSyncStream(request_head) if request_head else FakeSyncStream()
        serve(answers(result, status=status), stream)
        assert stream.messages == [("respond", b"", True)]


def test_an_endless_body_of_a_head_request_ends() -> None:
    """A HEAD needs the first piece at most; then the iterable is closed."""
    stream = FakeSyncStream(HEAD)
    result = Closed(stream, iter(lambda: b"tick", None))
    serve(answers(result), stream)
    assert result.given == 1
    assert result.closed == [(True, 1)]


def test_length_of_a_head_response() -> None:
    """HEAD announces what GET would: as the application says, or as its list shows; 204 announces nothing."""
    assert serve(answers([], ("Content-Length", "9")), FakeSyncStream(HEAD)).length == 9
    assert serve(answers([b"body"]), FakeSyncStream(HEAD)).length == 4
    assert serve(answers(iter([b"a", b"b"])), FakeSyncStream(HEAD)).length == UNKNOWN
    assert serve(answers([], ("Content-Length", "9"), status="304 Not Modified")).length == 9
    assert serve(answers([], ("Content-Length", "0"), status="204 No Content")).length == UNKNOWN
    assert serve(answers([b"body"], status="204 No Content"), FakeSyncStream(HEAD)).length == UNKNOWN


def test_environ_of_a_gateway() -> None:
    """What the environ says of the server itself."""
    seen: list[Environ] = []

    def target(environ: Environ, start_response: Start) -> list[bytes]:
        seen.append(environ.copy())
        seen[-1]["read"] = environ["wsgi.input"].read()
        seen[-1]["left"] = environ["bridge.client_disconnected"]()
        assert type(environ) is dict
        start_response("200 OK", [])
        return []

    post = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"
    serve(target, FakeSyncStream(post, b"abc"), threads=2, root_path="/front", prefixes=("/a",))
    serve(target, FakeSyncStream(post, b"abc", leaves_after=2), processes=2)
    keys = ["wsgi.version", "wsgi.multithread", "wsgi.multiprocess", "wsgi.run_once", "wsgi.input_terminated"]
    assert [[environ[key] for key in keys] for environ in seen] == [
        [(1, 0), True, False, False, True],
        [(1, 0), False, True, False, True],
    ]
    assert [environ["read"] for environ in seen] == [b"abc", b"abc"]
    assert [environ["left"] for environ in seen] == [False, False]
    assert (seen[0]["SCRIPT_NAME"], seen[0]["PATH_INFO"]) == ("/front/a", "")
    assert seen[0]["SERVER_SOFTWARE"] == f"bridged/{__version__}"


def test_client_disconnected_tells() -> None:
    """The callable of the environ says when the client has left."""

    def target(environ: Environ, start_response: Start) -> list[bytes]:
        said = [environ["bridge.client_disconnected"]() for _ in range(4)]
        assert said == [False, False, True, True]
        start_response("200 OK", [])
        return [b"for nobody"]

    assert serve(target, FakeSyncStream(leaves_after=2)).messages == []


def test_errors_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    """wsgi.errors writes text as it is, to the standard error of the moment, and takes str only."""

    def target(environ: Environ, start_response: Start) -> list[bytes]:
        errors = environ["wsgi.errors"]
        errors.write("one\n")
        errors.writelines(["two\n", "three\n"])
        print("four", file=errors)
        errors.flush()
        with pytest.raises(TypeError, match="takes str, not bytes"):
            errors.write(b"five")
        start_response("200 OK", [])
        return []

    serve(target)
    assert capsys.readouterr().err == "one\ntwo\nthree\nfour\n"


def test_closed_standard_error_hurts_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """An application that complains does not fail because nobody can hear it."""

    def target(environ: Environ, start_response: Start) -> list[bytes]:
        environ["wsgi.errors"].write("unheard\n")
        environ["wsgi.errors"].flush()
        start_response("200 OK", [])
        return [b"fine"]

    monkeypatch.setattr(sys, "stderr", None)
    assert serve(target).body == b"fine"


def test_what_outlives_its_request_is_dead() -> None:
    """start_response(), write() and wsgi.input that a thread has kept touch no later request."""
    kept: list[Any] = []

    def target(environ: Environ, start_response: Start) -> list[bytes]:
        kept.extend([start_response, start_response("200 OK", []), environ["wsgi.input"]])
        return [b"a"]

    stream = serve(target, FakeSyncStream(body=b"abc"))
    start_response, write, body = kept
    with pytest.raises(RuntimeError):
        start_response("200 OK", [])
    with pytest.raises(RuntimeError, match="after the response was over"):
        write(b"late")
    with pytest.raises(ValueError, match="over"):
        body.read()
    assert stream.messages == [("respond", b"a", True)]


@pytest.mark.parametrize("written", [b"", b"a"])
def test_what_outlives_a_failed_request_is_dead(written: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """write() reaches nothing after its request has failed, before the head or behind it."""
    kept: list[Any] = []

    def target(environ: Environ, start_response: Start) -> list[bytes]:
        kept.append(start_response("200 OK", []))
        if written:
            kept[0](written)
        raise LookupError

    stream = fails(target, caplog)
    sent = list(stream.messages)
    with pytest.raises(RuntimeError, match="after the response was over"):
        kept[0](b"late")
    assert stream.messages == sent


def test_requests_leave_no_circles(caplog: pytest.LogCaptureFixture) -> None:
    """The environ of a request is freed at its end, by counting alone, also when the application raised."""

    class Marker:
        pass

    marks: list[weakref.ref[Marker]] = []

    def target(environ: Environ, start_response: Start) -> list[bytes]:
        mark = environ["mark"] = Marker()
        marks.append(weakref.ref(mark))
        if len(marks) == 3:
            raise LookupError
        if len(marks) == 4:
            start_response("200 OK", [])(b"a")
        try:
            raise ValueError
        except ValueError:
            start_response("200 OK", [], sys.exc_info() if len(marks) != 1 else None)
        return [b"a"]

    caplog.set_level(logging.CRITICAL, "bridge")  # a record holds the exception, and that its frames
    gc.disable()
    try:
        for _ in range(4):
            serve(target)
    finally:
        gc.enable()
    assert [mark() for mark in marks] == [None] * 4


def test_threads_share_an_application() -> None:
    """Requests of several threads at a time do not mix."""
    waiting = threading.Barrier(4, timeout=10)

    def target(environ: Environ, start_response: Start) -> list[bytes]:
        name = environ["PATH_INFO"].encode()
        body = environ["wsgi.input"].readline()
        waiting.wait()
        start_response("200 OK", [("X-Name", environ["PATH_INFO"])])
        return [name, body]

    application = WsgiApplication(target, logging.getLogger("bridge"), threads=4)
    streams = [FakeSyncStream(b"GET /%d HTTP/1.1\r\n\r\n" % n, b"body of %d" % n) for n in range(4)]
    threads = [threading.Thread(target=application.run, args=[stream]) for stream in streams]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert [stream.body for stream in streams] == [b"/%dbody of %d" % (n, n) for n in range(4)]
    assert [stream.block for stream in streams] == [b"x-name: /%d\r\n" % n for n in range(4)]
