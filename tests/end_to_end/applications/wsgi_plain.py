"""A WSGI application without a framework: one path for each thing that a test wants to happen.

wsgiref.validate stands around each of them and raises at what PEP 3333 does not allow, save around those that
return a file: it would hide it. Gates are those of plain.py.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from urllib.parse import parse_qs
from wsgiref.types import StartResponse as Start
from wsgiref.types import WSGIEnvironment as Environ
from wsgiref.validate import validator

Handler = Callable[[Environ, Start], Iterable[bytes]]

PATHS: dict[str, Handler] = {}
PIECE = bytes(range(256)) * 256


def path(handler: Handler) -> Handler:
    """Serve the function under its name, and watch it."""
    PATHS[f"/{handler.__name__}"] = validator(handler)
    return handler


def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """Hand each request to the function for its path."""
    return PATHS[environ["PATH_INFO"]](environ, start_response)


def say(text: str) -> None:
    """Tell the test, in one write."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def asked(environ: Environ, name: str, default: str = "") -> str:
    """One value of the query."""
    query: str = environ["QUERY_STRING"]
    return parse_qs(query).get(name, [default])[0]


def gate(name: str, environ: Environ) -> None:
    """Wait for the test."""
    file = asked(environ, "gate")
    say(f"{name} at {file} in {os.getpid()}")
    while not Path(os.environ["GATES"], file).exists():
        time.sleep(0.01)


def answer(start_response: Start, body: bytes, status: str = "200 OK") -> list[bytes]:
    """A whole response."""
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


@path
def hello(environ: Environ, start_response: Start) -> Iterable[bytes]:
    return answer(start_response, b"hello\n")


@path
def pid(environ: Environ, start_response: Start) -> Iterable[bytes]:
    return answer(start_response, b"%d" % os.getpid())


@path
def environ(environ: Environ, start_response: Start) -> Iterable[bytes]:
    shown = {key: value for key, value in environ.items() if isinstance(value, (str, bool, tuple))}
    return answer(start_response, json.dumps(shown).encode())


@path
def empty(environ: Environ, start_response: Start) -> Iterable[bytes]:
    start_response("204 No Content", [])
    return []


@path
def digest(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """The length and the digest of the body, which is read in pieces."""
    seen, size = hashlib.sha256(), 0
    while piece := environ["wsgi.input"].read(int(asked(environ, "piece", "65536"))):
        seen.update(piece)
        size += len(piece)
    assert environ["CONTENT_LENGTH"] == str(size)
    return answer(start_response, f"{size} {seen.hexdigest()}".encode())


@path
def lines(environ: Environ, start_response: Start) -> Iterator[bytes]:
    """Each line of the body, as it is read."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    for line in environ["wsgi.input"]:
        yield b"%d " % len(line)


@path
def unread(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """A body that nobody looks at."""
    return answer(start_response, b"unread")


class Closing(list[bytes]):
    """A body, and what is done when the client has it."""

    def __init__(self, body: bytes, close: Callable[[], None]) -> None:
        super().__init__([body])
        self.close = close


@path
def late(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """Read the body when the client has the answer: in the tail of a generator, in close(), or behind write()."""
    body = bytes(int(asked(environ, "answer")))
    write = start_response("202 Accepted", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])

    def read() -> None:
        gate("late", environ)
        found = environ["wsgi.input"].read(int(asked(environ, "size")))
        say(f"late: {len(found)} {hashlib.sha256(found).hexdigest()}")

    def pieces() -> Iterator[bytes]:
        yield body
        read()

    how = asked(environ, "how")
    if how == "close":
        return Closing(body, read)
    if how == "tail":
        return pieces()
    write(body)
    read()
    return []


@path
def wait(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """Stop before the head."""
    gate("wait", environ)
    return answer(start_response, b"waited")


@path
def half(environ: Environ, start_response: Start) -> Iterator[bytes]:
    """Stop in the middle of the body, and tell when it is closed."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    try:
        yield b"first"
        gate("half", environ)
        yield b"second"
    finally:
        say("half: closed")


@path
def orphan(environ: Environ, start_response: Start) -> Iterator[bytes]:
    """Give a second piece when the client has left."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    try:
        yield b"first"
        while not environ["bridge.client_disconnected"]():
            time.sleep(0.01)
        yield b"second"
        say("orphan: went on")
    finally:
        say("orphan: closed")


@path
def large(environ: Environ, start_response: Start) -> Iterator[bytes]:
    """A body of many pieces; tells when the application is through with it."""
    count = int(asked(environ, "pieces"))
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(count * len(PIECE)))])
    for _ in range(count):
        yield PIECE
    say("large: given")


@path
def flood(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """Write until the client has left."""
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    try:
        while True:
            write(PIECE)
    except OSError as exc:
        say(f"flood: {type(exc).__name__}")
        raise
    return []


@path
def watch(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """Ask until the client has left."""
    say("watch: began")
    while not environ["bridge.client_disconnected"]():
        time.sleep(0.01)
    say("watch: the client left")
    return answer(start_response, b"for nobody")


@path
def fail(environ: Environ, start_response: Start) -> Iterable[bytes]:
    raise ZeroDivisionError("in the view")


@path
def short(environ: Environ, start_response: Start) -> Iterator[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "10")])
    yield b"five "


@path
def leave(environ: Environ, start_response: Start) -> Iterable[bytes]:
    sys.exit("out of a view")


def file(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """A file that the test has laid beside its gates."""
    opened = Path(os.environ["GATES"], asked(environ, "name")).open("rb")  # noqa: SIM115 - the server closes it
    opened.seek(int(asked(environ, "from", "0")))
    start_response("200 OK", [("Content-Type", "text/plain")])
    wrapper: Iterable[bytes] = environ["wsgi.file_wrapper"](opened)
    return wrapper


PATHS["/file"] = file
