"""WSGI with real processes: what an application sees, and what a client sees of it."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
from collections.abc import Iterator

import pytest

from bridge import __version__
from tests.end_to_end.server import Server
from tests.end_to_end.wire import BrokenAnswer, Wire

#: One record of an exception in the application, from its request line to the exception.
RAISED = r"[^\n]*\[error\] exception in the application: {}\nTraceback[\s\S]*?\n{}\n"
PIECE = bytes(range(256)) * 256  # of applications/wsgi_plain.py
HEAD = b"POST /digest HTTP/1.1\r\nHost: test\r\n"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One worker of two threads."""
    with Server("wsgi_plain:app", "--threads", "2") as running:
        yield running


def digest(body: bytes) -> str:
    """What /digest answers."""
    return f"{len(body)} {hashlib.sha256(body).hexdigest()}"


def test_hello(wire: Wire) -> None:
    """A connection carries answer after answer, pipelined ones too."""
    for _ in range(3):
        answer = wire.get("/hello").answer()
        assert (answer.status, answer.text, answer.fields["content-length"]) == (200, "hello\n", "6")
    request = b"GET /hello HTTP/1.1\r\nHost: test\r\n\r\n"
    wire.send(request * 20)
    assert [wire.answer().text for _ in range(20)] == ["hello\n"] * 20


def test_bodiless_answers(wire: Wire) -> None:
    """HEAD and 204 have no body, and the connection goes on."""
    assert wire.get("/hello", method="HEAD").answer(bodiless=True).fields["content-length"] == "6"
    assert wire.get("/empty").answer().status == 204
    assert wire.get("/hello").answer().text == "hello\n"


def test_environ(server: Server, wire: Wire) -> None:
    """The environ tells both addresses, the path as it was sent and as it is meant, and every field."""
    fields = ["X-Two: 1", "x-two: 2", "Cookie: a=b", "Cookie: c=d"]
    shown = json.loads(wire.get("/env%69ron?a=%20b", *fields, "Content-Type: a/b").answer().body)
    address, number = wire.socket.getsockname()
    assert shown == {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/environ",
        "QUERY_STRING": "a=%20b",
        "RAW_URI": "/env%69ron?a=%20b",
        "REQUEST_URI": "/env%69ron?a=%20b",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_SOFTWARE": f"bridged/{__version__}",
        "SERVER_NAME": server.address[0],
        "SERVER_PORT": str(server.address[1]),
        "REMOTE_ADDR": address,
        "REMOTE_PORT": str(number),
        "HTTP_HOST": "test",
        "HTTP_X_TWO": "1, 2",
        "HTTP_COOKIE": "a=b; c=d",
        "CONTENT_TYPE": "a/b",
        "wsgi.version": [1, 0],
        "wsgi.url_scheme": "http",
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
    }


@pytest.mark.parametrize("size", [0, 1, 1000, 16384, 100_000, 1_048_576, 1_048_577, 5_000_000])
@pytest.mark.parametrize("piece", [1 << 16, 1 << 30])
def test_upload(wire: Wire, size: int, piece: int) -> None:
    """Bodies of any size arrive whole, whether they lie in memory or in a file, read in pieces or at once."""
    body = (PIECE * (size // len(PIECE) + 1))[:size]
    assert wire.post(f"/digest?piece={piece}", body).answer().text == digest(body)


@pytest.mark.parametrize("size", [1, 70_000, 3_000_000])
def test_upload_in_transfer_chunks(wire: Wire, size: int) -> None:
    """A body of unannounced length has its length in the environ, and arrives whole."""
    body = (PIECE * (size // len(PIECE) + 1))[:size]
    wire.send(HEAD, b"Transfer-Encoding: chunked\r\n\r\n")
    for start in range(0, size, 50_000):
        part = body[start : start + 50_000]
        wire.send(b"%x\r\n" % len(part), part, b"\r\n")
    wire.send(b"0\r\n\r\n")
    assert wire.answer().text == digest(body)
    assert wire.get("/hello").answer().text == "hello\n"


def test_lines(wire: Wire) -> None:
    """Lines of a body, answered one by one."""
    body = b"one\ntwo\n" + b"x" * 100_000 + b"\nend"
    assert wire.post("/lines", body).answer().text == "4 4 100001 3 "


@pytest.mark.parametrize("size", [1000, 300_000, 3_000_000])
def test_body_that_is_not_read(wire: Wire, size: int) -> None:
    """A body that the application does not read is no trouble for the next request."""
    for _ in range(3):
        assert wire.post("/unread", bytes(size)).answer().text == "unread"


@pytest.mark.parametrize("how", ["tail", "close", "write"])
@pytest.mark.parametrize("answer", [2, 100_000])
@pytest.mark.parametrize("size", [300, 100_000, 3_000_000])
def test_body_that_is_read_after_the_response(server: Server, wire: Wire, how: str, answer: int, size: int) -> None:
    """It is the request's own, wherever it lies, also when another one has its memory by then."""
    body = (PIECE * (size // len(PIECE) + 1))[:size]
    name = f"{how}-{answer}-{size}"
    assert len(wire.post(f"/late?how={how}&answer={answer}&size={size}&gate={name}", body).answer().body) == answer
    server.log.take(f"late at {name} in")
    with Wire(server.address) as other:
        for _ in range(3):
            assert other.post("/digest", bytes(size)).answer().text == digest(bytes(size))
    server.open(name)
    server.log.take(f"late: {digest(body)}\n")
    assert wire.get("/hello").answer().text == "hello\n"


def test_continue(wire: Wire) -> None:
    """The client is told to go on before any thread has seen the request."""
    wire.send(HEAD, b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n")
    assert wire.head().status == 100
    wire.send(b"12345")
    assert wire.answer().text == digest(b"12345")


def test_stream(server: Server, wire: Wire) -> None:
    """A piece of a generator reaches the client before the next one is made."""
    wire.get("/half?gate=stream")
    assert wire.head().fields["transfer-encoding"] == "chunked"
    assert wire.chunk() == b"first"
    server.log.take("half at stream in")
    server.open("stream")
    assert [wire.chunk(), wire.chunk()] == [b"second", b""]
    server.log.take("half: closed\n")


@pytest.mark.parametrize("size", [0, 1000, 100_000, 5_000_000])
@pytest.mark.parametrize("offset", [0, 7])
def test_file(server: Server, wire: Wire, size: int, offset: int) -> None:
    """A file of any size is sent from where it stands, with its length, and the connection goes on."""
    content = (PIECE * (size // len(PIECE) + 1))[:size]
    (server.gates / f"file{size}").write_bytes(content)
    for _ in range(2):
        answer = wire.get(f"/file?name=file{size}&from={offset}").answer()
        assert answer.fields["content-length"] == str(len(content[offset:]))
        assert answer.body == content[offset:]
    answer = wire.get(f"/file?name=file{size}", method="HEAD").answer(bodiless=True)
    assert answer.fields["content-length"] == str(size)
    assert wire.get("/hello").answer().text == "hello\n"


def test_threads_run_side_by_side(server: Server) -> None:
    """Two requests are in the application at the same time, a third one waits for a thread."""
    with Wire(server.address) as one, Wire(server.address) as two, Wire(server.address) as three:
        one.get("/wait?gate=left")
        server.log.take("wait at left in")
        two.get("/wait?gate=right")
        server.log.take("wait at right in")
        three.get("/hello")
        server.open("left")
        assert one.answer().text == "waited"
        assert three.answer().text == "hello\n"
        server.open("right")
        assert two.answer().text == "waited"


def test_client_that_leaves_is_noticed(server: Server) -> None:
    """The callable of the environ says that the client has left; nothing is logged of that."""
    with Wire(server.address) as wire:
        wire.get("/watch")
        server.log.take("watch: began\n")
    server.log.take("watch: the client left\n")


def test_client_that_leaves_stops_write(server: Server) -> None:
    """write() raises an OSError when the client has left."""
    with Wire(server.address) as wire:
        wire.get("/flood")
        wire.receive(100_000)
        wire.cut()
    server.log.take("flood: ClientDisconnect\n")


def test_client_that_leaves_closes_the_iterable(server: Server) -> None:
    """A generator is closed at its next piece when the client has left."""
    with Wire(server.address) as wire:
        wire.get("/orphan")
        assert wire.head().status == 200
        assert wire.chunk() == b"first"
        wire.cut()
    server.log.take("orphan: closed\n")
    assert "orphan: went on" not in server.log.text


def test_exceptions(server: Server, wire: Wire) -> None:
    """An exception is a 500 and a traceback; an exit out of a view ends no worker."""
    before = wire.get("/pid").answer().text
    assert wire.get("/fail").answer().status == 500
    server.log.take(RAISED.format("GET /fail HTTP/1.1", "ZeroDivisionError: in the view"))
    assert wire.get("/leave").answer().status == 500
    server.log.take(RAISED.format("GET /leave HTTP/1.1", "SystemExit: out of a view"))
    assert wire.get("/pid").answer().text == before


def test_body_that_is_too_short(server: Server, wire: Wire) -> None:
    """A response that ends before its announced length is seen as broken."""
    with pytest.raises(BrokenAnswer):
        wire.get("/short").answer()
    server.log.take(r"[^\n]*ended 5 bytes short of its content-length of 10 bytes: GET /short HTTP/1.1\n")


@pytest.fixture
def single() -> Iterator[Server]:
    """One worker of one thread, which anybody could hold who can."""
    with Server("wsgi_plain:app", "--interface", "wsgi") as running:
        yield running


def test_slow_reader_holds_no_thread(single: Server) -> None:
    """A client that takes nothing of a large response has the application through with it all the same."""
    pieces = 200
    with Wire(single.address, receive_buffer=4096) as slow, Wire(single.address) as other:
        slow.get(f"/large?pieces={pieces}")
        single.log.take("large: given\n")
        assert other.get("/hello").answer().text == "hello\n"
        slow.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)  # slow is enough: now it takes it
        assert slow.answer().body == PIECE * pieces


@pytest.mark.parametrize("size", [1000, 3_000_000])
def test_slow_uploader_holds_no_thread(single: Server, size: int) -> None:
    """A request whose body is not complete is in no thread."""
    body = bytes(size)
    with Wire(single.address) as slow, Wire(single.address) as other:
        slow.send(HEAD, b"Content-Length: %d\r\n\r\n" % size, body[: size // 2])
        for _ in range(5):
            assert other.get("/hello").answer().text == "hello\n"
        slow.send(body[size // 2 :])
        assert slow.answer().text == digest(body)


def test_request_of_a_client_that_left_never_runs(single: Server) -> None:
    """While the only thread is taken, a client that gives up costs nothing."""
    with Wire(single.address) as one:
        one.get("/wait?gate=only")
        single.log.take("wait at only in")
        with Wire(single.address) as two:
            two.get("/wait?gate=never")
        for _ in range(2):  # what the router refuses by itself: by the second answer it has seen the other client go
            with Wire(single.address) as refused:
                assert refused.send(b"no HTTP\r\n\r\n").answer().status == 400
        with Wire(single.address) as three:
            three.get("/hello")
            single.open("only")
            assert three.answer().text == "hello\n"
        assert one.answer().text == "waited"
    assert "never" not in single.log.text


@pytest.mark.parametrize("path", ["/wait", "/half"])
def test_worker_that_is_killed(single: Server, path: str) -> None:
    """A worker that dies costs the request that it ran, before the head or behind it; the next worker serves."""
    [worker] = single.workers
    with Wire(single.address) as wire:
        wire.get(f"{path}?gate=dead")
        single.log.take(f"{path[1:]} at dead in {worker}\n")
        os.kill(worker, signal.SIGKILL)
        if path == "/wait":
            assert wire.answer().status == 502
        else:
            with pytest.raises(BrokenAnswer):
                wire.answer()
    single.log.take(rf"[^\n]*\[error\] worker \d+ \(pid {worker}\) ended: signal SIGKILL\n")
    with Wire(single.address) as wire:
        assert wire.get("/pid").answer().text != str(worker)
