"""A WSGI application for the tests: each path does one thing."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

Environ = dict[str, Any]
START_RESPONSE = Callable[..., Any]
GATES = Path(os.environ.get("GATES", "."))
PATIENCE = 20.0

runs: dict[str, int] = {}
together = threading.Barrier(int(os.environ.get("TOGETHER", "1")))


def app(environ: Environ, start_response: START_RESPONSE) -> Iterable[bytes]:
    """The application."""
    path = environ["PATH_INFO"].strip("/") or "hello"
    asked = {name: values[0] for name, values in parse_qs(environ["QUERY_STRING"]).items()}
    result = PATHS[path](environ, asked)
    if isinstance(result, bytes):
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(result)))])
        return [result]
    start_response("200 OK", [("Content-Type", "text/plain")])
    return result


def wait(gate: str, path: str) -> None:
    """Say where this request is, and wait until the test opens the gate."""
    print(f"{path} at {gate} in {os.getpid()}", file=sys.stderr, flush=True)
    end = time.monotonic() + PATIENCE
    while not (GATES / gate).exists() and time.monotonic() < end:
        time.sleep(0.005)


def hello(environ: Environ, asked: dict[str, str]) -> bytes:
    """A small answer."""
    return b"hello\n"


def who(environ: Environ, asked: dict[str, str]) -> bytes:
    """Process and thread, once as many requests as TOGETHER says run in this process at the same time."""
    together.wait(PATIENCE)
    return f"{os.getpid()} {threading.get_ident()}".encode()


def pid(environ: Environ, asked: dict[str, str]) -> bytes:
    """The process."""
    return str(os.getpid()).encode()


def hold(environ: Environ, asked: dict[str, str]) -> bytes:
    """Wait at a gate."""
    wait(asked["gate"], "hold")
    return b"held\n"


def stuck(environ: Environ, asked: dict[str, str]) -> bytes:
    """Never come back."""
    print("stuck in a request", file=sys.stderr, flush=True)
    print("last words", end="")  # in the buffer of a stream that nobody flushes
    threading.Event().wait()
    return b""


def echo(environ: Environ, asked: dict[str, str]) -> bytes:
    """The request body."""
    return bytes(environ["wsgi.input"].read())


def length(environ: Environ, asked: dict[str, str]) -> bytes:
    """Its length, read in pieces."""
    total = 0
    while data := environ["wsgi.input"].read(int(asked.get("piece", "10000"))):
        total += len(data)
    return str(total).encode()


def big(environ: Environ, asked: dict[str, str]) -> bytes:
    """Many bytes at once."""
    return pattern(int(asked["size"]))


def pieces(environ: Environ, asked: dict[str, str]) -> Iterator[bytes]:
    """The same, piece by piece; says when the client has left or it is over."""
    size, piece = int(asked["size"]), int(asked.get("piece", "1000"))
    whole = pattern(size)
    try:
        for start in range(0, size, piece):
            yield whole[start : start + piece]
    finally:
        print(f"pieces: closed, {environ['bridge.client_disconnected']()}", file=sys.stderr, flush=True)


def file(environ: Environ, asked: dict[str, str]) -> Iterable[bytes]:
    """The same out of a file."""
    temporary = tempfile.TemporaryFile()  # noqa: SIM115 - closed by the file wrapper's close()
    temporary.write(b"before" + pattern(int(asked["size"])))
    temporary.seek(len(b"before"))
    wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](temporary)
    return wrapped


@cache
def pattern(size: int) -> bytes:
    """Bytes in which a piece that is missing, repeated or in the wrong place shows."""
    return b"".join(number.to_bytes(4, "big") for number in range(size // 4 + 1))[:size]


PATHS: dict[str, Callable[[Environ, dict[str, str]], bytes | Iterable[bytes]]] = {
    function.__name__: function for function in (hello, who, pid, hold, stuck, echo, length, big, pieces, file)
}
