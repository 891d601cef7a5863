"""The same as asgi.py for WSGI."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

GREETING = b"Hello, world!\n"
MEBIBYTE = b"x" * (1 << 20)
PIECE = 1 << 16  #: bytes that the upload reads at once, as frameworks do


def fields(kind: str, size: int) -> list[tuple[str, str]]:
    """The header fields of a response."""
    return [("Content-Type", kind), ("Content-Length", str(size))]


def hello(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Say hello."""
    start_response("200 OK", fields("text/plain", len(GREETING)))
    return (GREETING,)


def upload(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Read the body and say how long it was."""
    left = int(environ["CONTENT_LENGTH"])
    size = 0
    while left and (piece := environ["wsgi.input"].read(min(left, PIECE))):
        left -= len(piece)
        size += len(piece)
    answer = b"%d\n" % size
    start_response("200 OK", fields("text/plain", len(answer)))
    return (answer,)


def download(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """A mebibyte in one piece."""
    start_response("200 OK", fields("application/octet-stream", len(MEBIBYTE)))
    return (MEBIBYTE,)
