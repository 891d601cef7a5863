"""What is measured: each row is an application, a request, and the answer that it must get."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One line of the benchmark, measured for every server that can serve it."""

    name: str
    title: str  #: beside the interface, for readers
    interface: str  #: asgi, wsgi or websocket
    target: str  #: module:attribute below tests.bench.applications
    path: str
    answer: int  #: bytes that the body of the answer has
    connections: int  #: how many at once in the short run
    upload: int = 0  #: bytes that the request carries; 0 = GET
    begins: bytes = b""  #: what the body of the answer begins with
    message: int = 0  #: bytes of a message that goes through a WebSocket and comes back
    compressed: bool = False  #: with permessage-deflate
    idle: bool = False  #: connections are opened, with an offer to compress, and held; measured is what that costs


MEBIBYTE = 1 << 20
MANY, FEW = 64, 4  #: connections for pages and for a mebibyte at a time
IDLE = 5000  #: WebSockets on which nothing happens
SHORT, LONG = 20, 16384  #: bytes of a message

ROWS = (
    Row("hello-asgi", "hello", "asgi", "asgi:hello", "/", 14, MANY, begins=b"Hello"),
    Row("hello-wsgi", "hello", "wsgi", "wsgi:hello", "/", 14, MANY, begins=b"Hello"),
    Row(
        "starlette",
        "Starlette page",
        "asgi",
        "starlette_page:app",
        "/items/spoon?page=3",
        3756,
        MANY,
        begins=b"<!doctype",
    ),
    Row(
        "django-asgi", "Django view", "asgi", "django_page:asgi", "/async/spoon?page=3", 399, MANY, begins=b"<!doctype"
    ),
    Row(
        "django-wsgi", "Django view", "wsgi", "django_page:wsgi", "/items/spoon?page=3", 399, MANY, begins=b"<!doctype"
    ),
    Row("upload-asgi", "upload 1 MiB", "asgi", "asgi:upload", "/", 8, FEW, upload=MEBIBYTE, begins=b"1048576\n"),
    Row("upload-wsgi", "upload 1 MiB", "wsgi", "wsgi:upload", "/", 8, FEW, upload=MEBIBYTE, begins=b"1048576\n"),
    Row("download-asgi", "download 1 MiB", "asgi", "asgi:download", "/", MEBIBYTE, FEW, begins=b"xxxx"),
    Row("download-wsgi", "download 1 MiB", "wsgi", "wsgi:download", "/", MEBIBYTE, FEW, begins=b"xxxx"),
    Row("ws-short", "echo 20 B", "websocket", "asgi:echo", "/", SHORT, MANY, message=SHORT),
    Row(
        "ws-short-deflate",
        "echo 20 B, compressed",
        "websocket",
        "asgi:echo",
        "/",
        SHORT,
        MANY,
        message=SHORT,
        compressed=True,
    ),
    Row("ws-long", "echo 16 KiB", "websocket", "asgi:echo", "/", LONG, MANY, message=LONG),
    Row(
        "ws-long-deflate",
        "echo 16 KiB, compressed",
        "websocket",
        "asgi:echo",
        "/",
        LONG,
        MANY,
        message=LONG,
        compressed=True,
    ),
    Row("ws-idle", "idle", "websocket", "asgi:echo", "/", SHORT, IDLE, message=SHORT, idle=True),
)


def complaint(row: Row, status: int, body: bytes) -> str:
    """What is wrong with an answer; nothing if it is the right one."""
    if status != 200:
        return f"status {status}"
    if len(body) != row.answer or not body.startswith(row.begins):
        return f"{len(body)} bytes beginning with {body[:20]!r} instead of {row.answer} with {row.begins!r}"
    return ""
