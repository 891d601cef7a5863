"""Clients that take their time and a WSGI application with one thread: none of them keeps the others waiting."""

from __future__ import annotations

import contextlib
import os
import re
from contextlib import ExitStack
from pathlib import Path

from tests.end_to_end.applications.threaded import pattern
from tests.end_to_end.server import Server, until
from tests.end_to_end.wire import Wire

APP = "threaded:app"
MIB = 1 << 20


def is_quick(server: Server) -> None:
    """Another client gets its answer although nobody else has moved."""
    with Wire(server.address) as other:
        assert other.get("/hello").answer().text == "hello\n"


def memory(pid: int) -> int:
    """Private memory of a process, in bytes."""
    text = Path("/proc", str(pid), "status").read_text()
    return int(re.findall(r"^RssAnon:\s*(\d+) kB$", text, re.MULTILINE)[0]) * 1024


def files(server: Server) -> int:
    """Temporary files that the router has open."""
    found = 0
    for entry in Path("/proc", str(server.router), "fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # it was closed meanwhile
            found += os.readlink(entry).startswith(str(server.temporary))
    return found


def test_a_slow_upload() -> None:
    """100 MiB of which half come late: the thread answers meanwhile, and the router keeps none in memory."""
    with Server(APP) as server, Wire(server.address) as wire:
        is_quick(server)
        before = memory(server.router)
        wire.send(b"POST /length?piece=1000000 HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % (100 * MIB))
        half = bytes(50 * MIB)
        wire.send(half)
        until(lambda: files(server) == 1, "the body is in a file")
        is_quick(server)
        assert memory(server.router) < before + 8 * MIB
        wire.send(half)
        assert wire.answer().text == str(100 * MIB)
        until(lambda: not files(server), "the file is closed")


def test_bodies_of_every_kind() -> None:
    """In the message, in chunks, in a file, announced or not: the application reads what was sent."""
    with Server(APP, "--set", "http.body_buffer_size=100000") as server, Wire(server.address) as wire:
        for size in (0, 10, 5000, 100_000, 100_001, 3_000_000):
            body = pattern(size)
            assert wire.post("/echo", body).answer().body == body
            wire.send(b"POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n")
            for start in range(0, size, 70_000):
                piece = body[start : start + 70_000]
                wire.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            assert wire.send(b"0\r\n\r\n").answer().body == body


def test_the_client_that_waits_for_100() -> None:
    """The router itself says that the body may come; the thread is not asked."""
    with Server(APP) as server, Wire(server.address) as wire:
        wire.send(b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        assert wire.answer().status == 100
        is_quick(server)
        assert wire.send(b"hello").answer().body == b"hello"


def test_a_client_that_leaves_while_it_uploads() -> None:
    """The application never hears of it, and its file is closed."""
    with Server(APP) as server:
        with Wire(server.address) as wire:
            wire.send(
                b"POST /hold?gate=never HTTP/1.1\r\nHost: test\r\nContent-Length: 9000000\r\n\r\n", bytes(5 * MIB)
            )
            until(lambda: files(server) == 1, "the body is in a file")
        until(lambda: not files(server), "the file is closed")
        is_quick(server)
        assert "hold at" not in server.log.text


def test_a_body_that_is_refused_on_its_way() -> None:
    """Too slow is 408, too large is 413, also when there is a file by then; the application hears of neither."""
    limits = ("--set", "http.body_read_timeout=2", "--set", "http.max_body_size=6000000")
    with Server(APP, *limits) as server:
        with Wire(server.address) as slow:
            slow.send(
                b"POST /hold?gate=never HTTP/1.1\r\nHost: test\r\nContent-Length: 5000000\r\n\r\n", bytes(4 * MIB)
            )
            until(lambda: files(server) == 1, "the body is in a file")
            assert slow.answer().status == 408
        with Wire(server.address) as large:
            large.send(b"POST /hold?gate=never HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n")
            large.send(b"%x\r\n%b\r\n" % (5 * MIB, bytes(5 * MIB)), b"%x\r\n" % (5 * MIB))
            assert large.answer().status == 413
        until(lambda: not files(server), "the files are closed")
        is_quick(server)
        assert "hold at" not in server.log.text


def test_no_place_for_a_body() -> None:
    """The client is told, the log says where and why, and what needs no file is served."""
    with Server(APP, "--set", "http.body_temp_path=/nonexistent") as server:
        with Wire(server.address) as wire:
            answer = wire.post("/echo", bytes(3 * MIB)).answer()
            assert (answer.status, answer.fields["retry-after"]) == (503, "1")
        is_quick(server)
        server.log.take(r"[^\n]*\[error\] a temporary file in /nonexistent: \[Errno 2\] No such file or directory\n")


def test_fifty_slow_readers() -> None:
    """Together they are owed more than shared memory holds; the thread is free, and each of them gets all of it."""
    body = pattern(5 * MIB)
    with Server(APP) as server, ExitStack() as stack:
        wires = [stack.enter_context(Wire(server.address, receive_buffer=65536)) for _ in range(50)]
        for wire in wires:
            wire.get(f"/big?size={len(body)}")
        for wire in wires:
            wire.through(b"\r\n\r\n")
        is_quick(server)
        until(lambda: files(server) == 50, "what they have not taken is in files")
        for wire in wires:
            assert wire.exactly(len(body)) == body
        is_quick(server)
        until(lambda: not files(server), "the files are closed")


def test_a_slow_reader_of_many_pieces() -> None:
    """An iterable of unknown length is run to its end before the client has read much."""
    body = pattern(12 * MIB)
    with Server(APP) as server, Wire(server.address, receive_buffer=65536) as wire:
        wire.get(f"/pieces?size={len(body)}&piece=50000")
        server.log.take("pieces: closed, False\n")
        is_quick(server)
        assert wire.answer().body == body


def test_a_slow_reader_of_a_file() -> None:
    """The router sends it from the application's descriptor: no thread waits, whatever the client speaks."""
    body = pattern(12 * MIB)
    with Server(APP) as server, Wire(server.address, receive_buffer=65536) as wire:
        wire.get(f"/file?size={len(body)}").get("/hello")
        answer = wire.head()
        assert answer.fields["content-length"] == str(len(body))
        is_quick(server)
        assert wire.exactly(len(body)) == body
        assert wire.answer().text == "hello\n"
        wire.get(f"/file?size={len(body)}", method="HEAD")
        assert wire.answer(bodiless=True).fields["content-length"] == str(len(body))
        with Wire(server.address) as old:
            assert old.get(f"/file?size={len(body)}", version="1.0").answer().body == body
        with Wire(server.address, receive_buffer=65536) as leaver:
            leaver.get(f"/file?size={len(body)}").head()
        is_quick(server)
