"""wsgi.file_wrapper over a fake stream."""

from __future__ import annotations

import gzip
import io
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.files import File

from bridge.worker.file_wrapper import FileWrapper, part_of_file
from bridge.worker.types import Environ, WsgiTarget
from bridge.worker.wsgi_response import SMALL_FILE
from tests.worker.fake_sync_stream import FakeSyncStream
from tests.worker.one_wsgi_request import HEAD, Start, answers, fails, is_500, serve

LARGE = os.urandom(SMALL_FILE * 3)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file that is large enough to be sent by descriptor."""
    path = tmp_path / "file"
    path.write_bytes(LARGE)
    return path


def wraps(opened: Any, *headers: tuple[str, str], status: str = "200 OK") -> WsgiTarget:
    """An application that returns a file."""

    def target(environ: Environ, start_response: Start) -> Any:
        start_response(status, list(headers))
        return environ["wsgi.file_wrapper"](opened, 4096)

    return target


@pytest.mark.parametrize("buffering", [-1, 0])
def test_file_is_sent_and_closed(file: Path, buffering: int) -> None:
    """A regular file goes to the router whole, with its length, and is closed after that."""
    opened = file.open("rb", buffering)
    stream = serve(wraps(opened))
    assert [(kind, len(body)) for kind, body, _ in stream.messages] == [("respond", 0), ("file", len(LARGE))]
    assert (stream.length, stream.body, stream.complete) == (len(LARGE), LARGE, True)
    assert opened.closed


def test_from_where_the_file_stands(file: Path) -> None:
    """What was read already is not sent; that Python has read ahead does not count."""
    with file.open("rb") as opened:
        opened.read(10)
        assert serve(wraps(opened)).body == LARGE[10:]


@pytest.mark.parametrize("size", [20, len(LARGE)])
def test_what_was_written_is_sent(file: Path, size: int) -> None:
    """Bytes that Python has not written to the file yet are sent, not those in whose place they are."""
    os.truncate(file, size)
    opened = file.open("r+b")
    opened.read(10)
    opened.seek(0)
    opened.write(b"NEW-HEADER")
    opened.seek(4)
    stream = serve(wraps(opened))
    assert stream.body == b"HEADER" + LARGE[10:size]


def test_no_more_than_the_content_length(file: Path) -> None:
    """The announced length ends the file's part."""
    count = SMALL_FILE + 1
    stream = serve(wraps(file.open("rb"), ("Content-Length", str(count))))
    assert (stream.length, stream.body) == (count, LARGE[:count])


def test_file_shorter_than_announced(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file that is too short is found out before the head is."""
    opened = file.open("rb")
    assert is_500(fails(wraps(opened, ("Content-Length", str(len(LARGE) + 1))), caplog))
    assert "ended 1 bytes short" in caplog.text
    assert opened.closed


def test_small_file_travels_with_the_head(tmp_path: Path) -> None:
    """To copy a few bytes costs less than to hand a descriptor over."""
    path = tmp_path / "small"
    path.write_bytes(b"abc")
    stream = serve(wraps(path.open("rb")))
    assert stream.messages == [("respond", b"abc", True)]
    assert stream.length == 3


@pytest.mark.parametrize("headers", [(), (("Content-Length", "0"),)])
def test_empty_file(tmp_path: Path, headers: tuple[tuple[str, str], ...]) -> None:
    """A file without bytes is an empty body."""
    path = tmp_path / "empty"
    path.touch()
    stream = serve(wraps(path.open("rb"), *headers))
    assert stream.messages == [("respond", b"", True)]
    assert stream.length == 0


@pytest.mark.parametrize(
    ("request_head", "status", "length"),
    [(HEAD, "200 OK", len(LARGE)), (b"GET / HTTP/1.1\r\n\r\n", "304 Not Modified", (1 << 64) - 1)],
)
def test_file_that_nobody_gets(file: Path, request_head: bytes, status: str, length: int) -> None:
    """HEAD and 304 send the head alone, and close the file."""
    opened = file.open("rb")
    stream = serve(wraps(opened, status=status), FakeSyncStream(request_head))
    assert stream.messages == [("respond", b"", True)]
    assert stream.length == length
    assert opened.closed


def make_pipe() -> Any:
    reading, writing = os.pipe()
    os.write(writing, b"from a pipe")
    os.close(writing)
    return os.fdopen(reading, "rb")


def make_gzip(tmp: Path) -> Any:
    with gzip.open(tmp / "packed", "wb") as packed:
        packed.write(LARGE)
    return gzip.open(tmp / "packed", "rb")


class Upper:
    """A wrapper whose bytes are not those of the file below it."""

    def __init__(self, opened: Any) -> None:
        self.opened = opened

    def fileno(self) -> Any:
        return self.opened.fileno()

    def read(self, size: int) -> bytes:
        data: bytes = self.opened.read(size)
        return data.upper()

    def close(self) -> None:
        self.opened.close()


def make_upper(tmp: Path) -> Any:
    (tmp / "lower").write_bytes(b"abc")
    return Upper((tmp / "lower").open("rb"))


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda tmp: io.BytesIO(LARGE), LARGE),
        (lambda tmp: make_pipe(), b"from a pipe"),
        (make_gzip, LARGE),
        (make_upper, b"ABC"),
    ],
    ids=["memory", "pipe", "gzip", "wrapper"],
)
def test_what_is_no_regular_file_is_read(tmp_path: Path, make: Callable[[Path], Any], expected: bytes) -> None:
    """A descriptor is sent only where its bytes are what read() gives; all else is read in blocks."""
    filelike = make(tmp_path)
    assert part_of_file(filelike) is None
    stream = serve(wraps(filelike))
    assert (stream.body, stream.complete) == (expected, True)
    assert "file" not in [kind for kind, _, _ in stream.messages]


def test_file_of_the_kernel() -> None:
    """A file in /proc has no size and yet a text: it is read."""
    with Path("/proc/self/status").open("rb") as opened:
        assert b"Name:" in serve(wraps(opened)).body


def test_file_that_is_shorter_than_it_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file in /sys claims a page and holds a line: it is read, and its true length is sent."""
    path = tmp_path / "file"
    path.write_bytes(b"x" * 4096)
    monkeypatch.setattr("bridge.worker.wsgi_response.os.pread", lambda file, count, offset: b"x")
    stream = serve(wraps(path.open("rb")))
    assert (stream.body, stream.complete) == (b"x" * 4096, True)


def test_device(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a regular file is sent by descriptor, whatever position and size a device claims to have."""
    status = os.stat_result((stat.S_IFBLK | 0o600, 0, 0, 1, 0, 0, len(LARGE), 0, 0, 0))
    with file.open("rb") as opened:
        assert part_of_file(opened) is not None
        monkeypatch.setattr("bridge.worker.file_wrapper.os.fstat", lambda file: status)
        assert part_of_file(opened) is None


def test_file_that_is_written_and_sent() -> None:
    """A temporary file that the application has just written is sent from where it stands."""
    temporary = tempfile.TemporaryFile()  # noqa: SIM115 - the gateway closes it
    temporary.write(LARGE + b"tail")
    temporary.seek(1)
    assert part_of_file(temporary) is not None
    assert serve(wraps(temporary)).body == LARGE[1:] + b"tail"
    assert temporary.closed


def test_object_that_only_passes_on(file: Path) -> None:
    """Django's File is no file itself, and reads by the method of one: its descriptor is sent."""
    stream = serve(wraps(File(file.open("rb"))))
    assert [kind for kind, _, _ in stream.messages] == ["respond", "file"]
    assert stream.body == LARGE


def test_text_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file that gives str is a mistake that is named."""
    path = tmp_path / "text"
    path.write_text("abc")
    assert is_500(fails(wraps(path.open("r")), caplog))
    assert "gave str as a piece of the body, not bytes" in caplog.text


def test_object_without_read(caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be read raises where the wrapper reads it."""
    assert is_500(fails(wraps(object()), caplog))
    assert "AttributeError" in caplog.text


def test_wrapper_inside_another_iterable(file: Path) -> None:
    """What a middleware has wrapped is iterated: it may change the bytes."""
    with file.open("rb") as opened:

        def target(environ: Environ, start_response: Start) -> Any:
            start_response("200 OK", [])
            return (block.swapcase() for block in environ["wsgi.file_wrapper"](opened))

        assert serve(target).body == LARGE.swapcase()


def test_subclass_is_not_the_wrapper(file: Path) -> None:
    """A class derived from the wrapper may read otherwise, so it is asked."""

    class Half(FileWrapper):
        def __next__(self) -> Any:
            block = super().__next__()
            return block[: len(block) // 2]

    opened = file.open("rb")
    assert len(serve(answers(Half(opened, 4096))).body) == len(LARGE) // 2
    assert opened.closed


def test_file_after_write(file: Path) -> None:
    """Once the head is out a file is read like everything else."""

    def target(environ: Environ, start_response: Start) -> Any:
        start_response("200 OK", [])(b"first ")
        return environ["wsgi.file_wrapper"](file.open("rb"), 65536)

    stream = serve(target)
    assert (stream.body, stream.complete) == (b"first " + LARGE, True)


def test_close_comes_from_the_file_object(file: Path) -> None:
    """Django puts its own close() on the file it returns: that is called, once the file is on its way."""
    closed: list[int] = []
    with file.open("rb") as opened:
        passed = File(opened)
        stream = FakeSyncStream()
        passed.close = lambda: closed.append(stream.flushed)
        serve(wraps(passed), stream)
    assert closed == [2]
