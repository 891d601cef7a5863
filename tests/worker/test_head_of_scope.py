"""The environ of a WSGI application whose request came as an ASGI scope."""

from __future__ import annotations

import pytest

from bridge.ipc.message import HTTPS, UNKNOWN
from bridge.worker.environ import EnvironBuilder
from bridge.worker.head_of_scope import announced_length, head_of
from bridge.worker.types import Environ, Scope
from tests.worker.asgi_client import http_scope


def environ_of(scope: Scope, size: int = 0) -> Environ:
    """What the application finds."""
    number = HTTPS if scope["scheme"] == "https" else 0
    return EnvironBuilder({}, prefix=scope["root_path"]).build(head_of(scope), number, size)


def test_environ() -> None:
    """It is that of a worker of its own, with the root path in SCRIPT_NAME."""
    fields = {"host": "a:1", "cookie": "a=1", "x-a": "1", "x_forwarded_for": "forged", "content-type": "t/x"}
    scope = http_scope("/front/shop/a b/é", "POST", fields, root_path="/front/shop", scheme="https")
    scope["raw_path"] = b"/front/shop/a%20b/%C3%A9"
    scope["query_string"] = b"q=1"
    scope["headers"] += [(b"cookie", b"b=2"), (b"x-a", b"2"), (b"content-length", b"3")]
    environ = environ_of(scope, 3)
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("/front/shop", "/a b/é".encode().decode("latin-1"))
    assert (environ["RAW_URI"], environ["QUERY_STRING"]) == ("/front/shop/a%20b/%C3%A9?q=1", "q=1")
    assert (environ["HTTP_COOKIE"], environ["HTTP_X_A"]) == ("a=1; b=2", "1, 2")
    assert "HTTP_X_FORWARDED_FOR" not in environ
    assert (environ["CONTENT_LENGTH"], environ["CONTENT_TYPE"]) == ("3", "t/x")
    assert (environ["wsgi.url_scheme"], environ["REMOTE_ADDR"], environ["SERVER_PORT"]) == ("https", "192.0.2.7", "80")


@pytest.mark.parametrize("raw", [None, b"/a/x", b"/other", b"/a/b c", b"/a\r\nX: y"])
def test_raw_paths_that_say_something_else(raw: bytes | None) -> None:
    """What is no raw form of the path is not believed."""
    environ = environ_of(http_scope("/a/b c", raw_path=raw, root_path="/a"))
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("/a", "/b c")
    assert environ["RAW_URI"] == "/a/b%20c"


def test_unix_sockets() -> None:
    """Neither client nor number: as in a worker of its own."""
    environ = environ_of(http_scope(client=None, server=("/run/a.sock", None)))
    assert (environ["REMOTE_ADDR"], environ["SERVER_NAME"], environ["SERVER_PORT"]) == ("", "localhost", "80")


def test_line_ends_in_a_scope() -> None:
    """Whatever made the scope, a path or a field does not become several lines."""
    scope = http_scope("/a\r\nX-B:1", raw_path=b"/a\r\nX-B:1", fields={"x-a": "1\r\nx-b: 2", "x-c": "3"})
    environ = environ_of(scope)
    assert (environ["PATH_INFO"], environ["RAW_URI"]) == ("/a\r\nX-B:1", "/a%0D%0AX-B%3A1")
    assert [name for name in environ if name.startswith("HTTP_X")] == ["HTTP_X_C"]


@pytest.mark.parametrize(
    ("fields", "version", "length"),
    [
        ({}, "1.1", 0),
        ({}, "1.0", 0),
        ({}, "2", UNKNOWN),
        ({"content-length": "7"}, "2", 7),
        ({"Content-Length": "7"}, "1.1", 7),
        ({"content-length": "-7"}, "1.1", 0),
        ({"transfer-encoding": "chunked"}, "1.1", UNKNOWN),
    ],
)
def test_announced_lengths(fields: dict[str, str], version: str, length: int) -> None:
    """A length is what the fields say; without them there is no body in HTTP/1, and later nobody knows."""
    assert announced_length(http_scope(fields=fields, http_version=version)) == length
