"""bridge.router.answers: heads of responses."""

from __future__ import annotations

import pytest

from bridge.ipc.message import DATE, SERVER
from bridge.router.answers import CHUNKED, LENGTH, NO_BODY, UNTIL_CLOSE, canned, delivery, framing_lines, response_head
from bridge.router.framing import PLAIN, Framing, check_block

HEAD = Framing(is_head=True)
OLD = Framing(minor=0, keep_alive=False)


@pytest.mark.parametrize(
    ("request_framing", "status", "size", "mode"),
    [
        (PLAIN, 200, 5, LENGTH),
        (PLAIN, 200, 0, LENGTH),
        (PLAIN, 200, None, CHUNKED),
        (OLD, 200, 5, LENGTH),
        (OLD, 200, None, UNTIL_CLOSE),
        (HEAD, 200, 5, NO_BODY),
        (HEAD, 200, None, NO_BODY),
        (PLAIN, 204, 5, NO_BODY),
        (PLAIN, 304, None, NO_BODY),
        (OLD, 304, 7, NO_BODY),
    ],
)
def test_delivery(request_framing: Framing, status: int, size: int | None, mode: int) -> None:
    """The body is framed by what the client understands and what the status allows."""
    assert delivery(request_framing, status, size) == mode


@pytest.mark.parametrize(
    ("request_framing", "status", "size", "keep_alive", "lines"),
    [
        (PLAIN, 200, 5, True, b"content-length: 5\r\n"),
        (PLAIN, 200, None, True, b"transfer-encoding: chunked\r\n"),
        (PLAIN, 200, 5, False, b"content-length: 5\r\nconnection: close\r\n"),
        (Framing(minor=0), 200, 5, True, b"content-length: 5\r\nconnection: keep-alive\r\n"),
        (OLD, 200, None, False, b"connection: close\r\n"),
        (HEAD, 200, 5, True, b"content-length: 5\r\n"),
        (HEAD, 200, None, True, b""),
        (PLAIN, 204, 0, True, b""),
        (PLAIN, 304, 9, True, b"content-length: 9\r\n"),
    ],
)
def test_framing_lines(request_framing: Framing, status: int, size: int | None, keep_alive: bool, lines: bytes) -> None:
    """Never both framings, never a length with 204, and 1.0 is told that the connection stays."""
    assert framing_lines(request_framing, status, size, keep_alive=keep_alive) == lines


def test_server_and_date_are_the_applications_when_it_sets_them() -> None:
    """Each of the two is added unless the block holds it."""
    date, server = b"date: D\r\n", b"server: S\r\n"
    for flags, added in ((0, server + date), (DATE, server), (SERVER, date), (DATE | SERVER, b"")):
        head = response_head(200, b"a: b\r\n", b"c: d\r\n", flags, b"S", b"D")
        assert head == b"HTTP/1.1 200 OK\r\n" + added + b"a: b\r\nc: d\r\n\r\n"


def test_unknown_status() -> None:
    """A status without a known phrase has an empty one."""
    assert response_head(299, b"", b"", 0, b"S", b"D").startswith(b"HTTP/1.1 299 \r\n")


def test_canned_answers_are_good_blocks() -> None:
    """The router's own answers pass the check that it makes on a worker's."""
    block, body = canned(503, 2)
    assert check_block(block)
    assert b"retry-after: 2\r\n" in block
    assert body == b"503 Service Unavailable\n"
    assert b"retry-after" not in canned(400)[0]
