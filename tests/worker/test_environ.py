"""Head block → environ."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.ipc.message import HTTP_1_0, HTTPS
from bridge.worker import environ as subject
from bridge.worker.environ import EnvironBuilder
from bridge.worker.types import Environ

PEER = b"192.0.2.7\x0049152\x00192.0.2.1\x008080\n"


def build(request: bytes, number: int = 0, size: int = 0, peer: bytes = PEER, **settings: Any) -> Environ:
    return EnvironBuilder({"wsgi.version": (1, 0)}, **settings).build(peer + request, number, size)


def build_target(target: bytes, **settings: Any) -> Environ:
    return build(b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n", **settings)


def build_fields(*lines: bytes, size: int = 0) -> Environ:
    head = b"GET / HTTP/1.1\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n"
    return build(head, size=size)


def test_every_key_of_an_environ() -> None:
    """A whole head becomes exactly the environ that CGI and PEP 3333 describe, beside what is fixed."""
    head = b"POST /a/b?c=d&e HTTP/1.1\r\nHost: example.test\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\n"
    assert build(head, size=3) == {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/a/b",
        "QUERY_STRING": "c=d&e",
        "RAW_URI": "/a/b?c=d&e",
        "REQUEST_URI": "/a/b?c=d&e",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": "192.0.2.1",
        "SERVER_PORT": "8080",
        "REMOTE_ADDR": "192.0.2.7",
        "REMOTE_PORT": "49152",
        "CONTENT_TYPE": "text/plain",
        "CONTENT_LENGTH": "3",
        "HTTP_HOST": "example.test",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
    }


def test_version_and_scheme_come_from_the_message() -> None:
    """The bits of the REQUEST say version and scheme; one connection may carry both versions."""
    builder = EnvironBuilder({})
    head = PEER + b"GET / HTTP/1.1\r\n\r\n"
    for number, expected in [
        (0, ("HTTP/1.1", "http")),
        (HTTP_1_0, ("HTTP/1.0", "http")),
        (HTTPS, ("HTTP/1.1", "https")),
        (HTTP_1_0 | HTTPS, ("HTTP/1.0", "https")),
        (0, ("HTTP/1.1", "http")),
    ]:
        environ = builder.build(head, number, 0)
        assert (environ["SERVER_PROTOCOL"], environ["wsgi.url_scheme"]) == expected


def test_an_environ_is_the_applications_own() -> None:
    """What an application writes into its environ is in no other one, and each has its own numbers."""
    builder = EnvironBuilder({"fixed": 1})
    first = builder.build(PEER + b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\n", 0, 7)
    first |= {"fixed": 2, "HTTP_HOST": "x", "PATH_INFO": "x", "REMOTE_ADDR": "x", "more": 1}
    second = builder.build(PEER + b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n", 0, 0)
    assert (second["fixed"], second["HTTP_HOST"], second["PATH_INFO"]) == (1, "a", "/a")
    assert second["REMOTE_ADDR"] == "192.0.2.7"
    assert second.keys() & {"more", "CONTENT_LENGTH"} == set()


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/a%20b%2Fc", "/a b/c"),
        (b"/%C3%A9", "\xc3\xa9"),
        (b"/\xc3\xa9", "\xc3\xa9"),
        (b"/%ff%00", "\xff\x00"),
        (b"/100%", "/100%"),
        (b"//double", "//double"),
        (b"/", "/"),
        (b"/a?b=/c", "/a"),
    ],
)
def test_path_is_decoded_to_bytes_and_shown_as_latin_1(target: bytes, path: str) -> None:
    """Percent-encoded bytes become characters of the same number; slashes are left alone."""
    environ = build_target(target)
    assert environ["PATH_INFO"] == (path if path.startswith("/") else "/" + path)
    assert environ["RAW_URI"] == environ["REQUEST_URI"] == target.decode("latin-1")


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"http://example.test/a?b", "/a", "b"),
        (b"http://example.test", "/", ""),
        (b"/a#b", "/a", ""),
        (b"*", "", ""),
        (b"/?", "/", ""),
        (b"/?a=%20\xe9?", "/", "a=%20\xe9?"),
    ],
)
def test_forms_of_a_target(target: bytes, path: str, query: str) -> None:
    """The path of an absolute form is the one inside; that of the asterisk is empty; the query is not decoded."""
    environ = build_target(target)
    assert (environ["PATH_INFO"], environ["QUERY_STRING"]) == (path, query)
    assert environ["RAW_URI"] == target.decode("latin-1")


def test_root_path_is_the_script_name() -> None:
    """What a proxy in front has cut off is the script name; the path is what came."""
    for root_path in ("/api", "/api/", "api"):
        environ = build_target(b"/a", root_path=root_path)
        assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("/api", "/a")
    assert build_target(b"/a", root_path="/é")["SCRIPT_NAME"] == "/\xc3\xa9"


@pytest.mark.parametrize(
    ("target", "script", "path"),
    [
        (b"/app/a", "/app", "/a"),
        (b"/app", "/app", ""),
        (b"/app/", "/app", "/"),
        (b"/application", "", "/application"),
        (b"/other", "", "/other"),
        (b"/%61pp/a%20b", "/app", "/a b"),
        (b"/app?app", "/app", ""),
        (b"*", "", ""),
    ],
)
def test_prefix_moves_to_the_script_name(target: bytes, script: str, path: str) -> None:
    """A path that begins with the prefix, at the end of a segment, is split there; any other stays whole."""
    environ = build_target(target, prefix="/app/")
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == (script, path)


def test_root_path_and_prefix_add_up() -> None:
    """What was cut off in front comes first."""
    environ = build_target(b"/app/a", root_path="/front", prefix="/app")
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("/front/app", "/a")


def test_repeated_fields_are_joined() -> None:
    """The values of a field stand in order, with a comma between them, and those of Cookie with a semicolon."""
    environ = build_fields(b"X-A:1", b"Cookie: a=1", b"x-a: \t two words \t", b"X-A:1", b"cookie:b=2", b"X-B: ")
    assert environ["HTTP_X_A"] == "1, two words, 1"
    assert environ["HTTP_COOKIE"] == "a=1; b=2"
    assert environ["HTTP_X_B"] == ""
    assert environ["SERVER_PROTOCOL"] == "HTTP/1.1"


def test_identical_lines_are_joined_too() -> None:
    """A line that is repeated to the letter is still two."""
    assert build_fields(b"X-A: 1", b"X-A: 1")["HTTP_X_A"] == "1, 1"


def test_names_with_an_underscore_are_dropped() -> None:
    """X_Forwarded_For could be taken for X-Forwarded-For, so it is not there, neither alone nor beside it."""
    environ = build_fields(b"X_Forwarded_For: evil", b"X-Forwarded-For: good", b"Host: a", b"_: b")
    assert environ["HTTP_X_FORWARDED_FOR"] == "good"
    assert "evil" not in environ.values()
    assert "HTTP_X_FORWARDED_FOR" not in build_fields(b"X_Forwarded_For: evil")
    assert "CONTENT_LENGTH" not in build_fields(b"Content_Length: 5")
    assert environ["SERVER_PROTOCOL"] == "HTTP/1.1"


def test_values_are_latin_1() -> None:
    """Every byte of a value is the character of its number."""
    assert build_fields(b"X-A: \xe9\xff")["HTTP_X_A"] == "\xe9\xff"


@pytest.mark.parametrize(("size", "length"), [(0, "0"), (12, "12")])
def test_chunked_body_has_its_length(size: int, length: str) -> None:
    """A body in transfer chunks is here whole: the environ tells its length, and not how it came."""
    environ = build_fields(b"Transfer-Encoding: chunked", size=size)
    assert environ["CONTENT_LENGTH"] == length
    assert not [key for key in environ if "TRANSFER" in key]


def test_length_without_a_body() -> None:
    """A length of zero is told as it was sent; where there is none, there is none."""
    assert build_fields(b"Content-Length: 0")["CONTENT_LENGTH"] == "0"
    assert build_fields(b"Content-Length: 0", b"Content-Length: 0")["CONTENT_LENGTH"] == "0"
    assert "CONTENT_LENGTH" not in build_fields(b"Host: a")


def test_unix_socket() -> None:
    """A Unix socket has no client address and no name: the required keys are never empty."""
    environ = build(b"GET / HTTP/1.1\r\n\r\n", peer=b"\0\0/run/bridge.sock\0\n")
    assert (environ["REMOTE_ADDR"], environ["SERVER_NAME"], environ["SERVER_PORT"]) == ("", "localhost", "80")
    assert "REMOTE_PORT" not in environ
    assert build(b"GET / HTTP/1.1\r\n\r\n", HTTPS, peer=b"\0\0/x\0\n")["SERVER_PORT"] == "443"


def test_client_without_a_number() -> None:
    """A client that a proxy told of has an address and no number."""
    environ = build(b"GET / HTTP/1.1\r\n\r\n", peer=b"203.0.113.9\0\x00192.0.2.1\x008080\n")
    assert environ["REMOTE_ADDR"] == "203.0.113.9"
    assert "REMOTE_PORT" not in environ


def test_memories_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither peers nor request lines nor fields are remembered without end, and secrets are not at all."""
    for name in ("MAX_PEERS", "MAX_LINES", "MAX_FIELDS", "MAX_BLOCKS"):
        monkeypatch.setattr(subject, name, 3)
    builder = EnvironBuilder({})
    for number in range(10):
        peer = b"192.0.2.7\x00%d\x00192.0.2.1\x008080\n" % (1000 + number)
        head = b"GET /%d HTTP/1.1\r\nHost: %d\r\nCookie: a=%d\r\n\r\n" % (number, number, number)
        builder.build(peer + head.replace(b"Cookie: ", b"X-Cookie: "), 0, 0)
        builder.build(peer + head.replace(b"Cookie: ", b"X-Cookie: "), 0, 0)
        environ = builder.build(peer + head, 0, 0)
        assert [environ[key] for key in ("REMOTE_PORT", "PATH_INFO", "HTTP_HOST", "HTTP_COOKIE")] == [
            str(1000 + number),
            f"/{number}",
            str(number),
            f"a={number}",
        ]
        assert max(len(builder._peers[0]), len(builder._lines), len(builder._fields)) <= 3
        assert 0 < len(builder._blocks) <= 3
        assert not [line for line in [*builder._fields, *builder._blocks] if b"\r\nCookie" in b"\r\n" + line]


def test_heads_that_come_again() -> None:
    """What is remembered of a head is what was read of it, and no application can change it."""
    builder = EnvironBuilder({})
    head = PEER + b"POST / HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nX_A: 2\r\nX-A: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
    first = builder.build(head, 0, 7)
    expected = first.copy()
    assert (first["HTTP_X_A"], first["CONTENT_LENGTH"]) == ("1, 3", "7")
    for _ in range(3):
        first.clear()
        first = builder.build(head, 0, 7)
        assert first == expected
    assert builder._blocks
    assert builder.build(head, 0, 0)["CONTENT_LENGTH"] == "0"


def test_what_is_no_head_block_is_refused() -> None:
    """Bytes without a peer block raise, and nothing is guessed."""
    with pytest.raises(ValueError, match="unpack"):
        build(b"GET / HTTP/1.1\r\n\r\n", peer=b"")
