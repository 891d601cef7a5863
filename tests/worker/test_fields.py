"""The headers of an application → header block."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.ipc.message import DATE, SERVER, UNKNOWN
from bridge.worker import fields
from bridge.worker.fields import encode


def test_block() -> None:
    """Fields are written in order, with names in lower case, as one line each."""
    headers = [(b"Content-Type", b"text/plain"), (b"set-cookie", b"a=1"), [b"set-cookie", b"b=\tc\xe9"], (b"x", b"")]
    assert encode(headers) == (
        b"content-type: text/plain\r\nset-cookie: a=1\r\nset-cookie: b=\tc\xe9\r\nx: \r\n",
        UNKNOWN,
        0,
    )


@pytest.mark.parametrize("headers", [[], (), iter([])])
def test_no_headers(headers: Any) -> None:
    """A response may have no headers at all."""
    assert encode(headers) == (b"", UNKNOWN, 0)


def test_headers_may_be_any_iterable() -> None:
    """ASGI says iterable: a generator is one."""
    assert encode((name, b"1") for name in (b"a", b"b"))[0] == b"a: 1\r\nb: 1\r\n"


@pytest.mark.parametrize("name", [b"content-length", b"Content-Length"])
def test_content_length_leaves_the_block(name: bytes) -> None:
    """The announced length is a number beside the block."""
    assert encode([(b"a", b"1"), (name, b"0042"), (b"b", b"2")]) == (b"a: 1\r\nb: 2\r\n", 42, 0)


@pytest.mark.parametrize("value", [b"", b"-1", b"+1", b"1 ", b"0x10", b"1, 1", b"1_0", b"\xb2", b"9" * 19])
def test_content_length_must_be_a_number(value: bytes) -> None:
    """What int() would take for a number and HTTP does not is refused."""
    with pytest.raises(ValueError, match="is not a number of bytes"):
        encode([(b"content-length", value)])


def test_content_length_must_come_once() -> None:
    """Two lengths are refused, equal ones too."""
    with pytest.raises(ValueError, match="comes twice"):
        encode([(b"content-length", b"1"), (b"Content-Length", b"1")])


@pytest.mark.parametrize("name", [b"Connection", b"keep-alive", b"Transfer-Encoding", b"upgrade", b"proxy-connection"])
def test_fields_of_the_connection_are_dropped(name: bytes) -> None:
    """The connection is the router's, whatever the application says about it; also the second time."""
    for _ in range(2):
        assert encode([(name, b"close"), (b"a", b"1")]) == (b"a: 1\r\n", UNKNOWN, 0)


def test_flags_tell_of_date_and_server() -> None:
    """The router learns that it need not add its own."""
    assert encode([(b"Date", b"now")]) == (b"date: now\r\n", UNKNOWN, DATE)
    assert encode([(b"server", b"mine"), (b"date", b"now")])[2] == DATE | SERVER


@pytest.mark.parametrize("value", [b"a\r\nset-cookie: b", b"a\r\n", b"a\n", b"a\r", b"a\0", b"\x7f", b"\x1b[0m"])
@pytest.mark.parametrize("name", [b"location", b"server"])
def test_a_value_cannot_forge_a_field(name: bytes, value: bytes) -> None:
    """Control characters in a value are refused, and the error names the header."""
    with pytest.raises(ValueError, match=f"value of header {name!r} holds a control character"):
        encode([(b"a", b"1"), (name, value)])


@pytest.mark.parametrize(
    "name", [b"", b"a b", b"a:", b"transfer-encoding: chunked", b"a\r\nb", b"caf\xe9", b" a", b"a\t"]
)
def test_a_name_is_a_token(name: bytes) -> None:
    """Anything but a token is refused as a name, again and again."""
    for _ in range(2):
        with pytest.raises(ValueError, match="is not a token"):
            encode([(name, b"1")])


@pytest.mark.parametrize(
    "header",
    [
        ("a", b"1"),
        (b"a", "1"),
        (b"a", None),
        (None, b"1"),
        (b"a", 1),
        (bytearray(b"a"), b"1"),
        ("content-length", "5"),
        (b"content-length", "5"),
        (b"content-length", 5),
        (b"date", "now"),
    ],
)
def test_headers_are_bytes(header: Any) -> None:
    """Text, numbers and None are refused with an error that shows the header."""
    with pytest.raises(TypeError, match="is not bytes"):
        encode([(b"a", b"1"), header])


@pytest.mark.parametrize("header", [(b"a",), (b"a", b"1", b"2"), b"ab:", 7, None])
def test_headers_are_pairs(header: Any) -> None:
    """What is not a pair is refused with an error that shows it."""
    with pytest.raises((TypeError, ValueError), match="is not a pair"):
        encode([header])


def test_remembered_names_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """An application that makes names up does not make the worker grow."""
    monkeypatch.setattr(fields, "MAX_NAMES", 4)
    monkeypatch.setattr(fields, "_prefixes", {})
    for number in range(20):
        assert encode([(b"X-%d" % number, b"1")])[0] == b"x-%d: 1\r\n" % number
        assert len(fields._prefixes) <= 4


def test_remembered_fields_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many values come by, memory is bounded and each block is right, in both forms."""
    monkeypatch.setattr(fields, "MAX_LINES", 4)
    for table in ("_known", "_known_native"):
        monkeypatch.setattr(fields, table, {})
    for number in [*range(20), 19, 3]:
        value = str(number)
        expected = (f"a: {value}\r\n".encode(), number, 0)
        assert encode([(b"a", value.encode()), (b"content-length", value.encode())]) == expected
        assert encode([("A", value), ("Content-Length", value)], str) == expected
        assert len(fields._known) <= 4
        assert len(fields._known_native) <= 4
    assert fields._known
    assert fields._known_native


def test_what_is_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cookies are a client's secret, dates are other ones soon, and long lines rarely repeat."""
    for table in ("_known", "_known_native"):
        monkeypatch.setattr(fields, table, {})
    for name, value in ((b"Set-Cookie", b"id=1"), (b"Date", b"x"), (b"a", b"b" * 200)):
        encode([(name, value)])
        encode([(name.decode(), value.decode())], str)
    assert not fields._known
    assert not fields._known_native


def test_a_length_that_is_known_comes_once() -> None:
    """Two lengths are refused also when each of them has been seen before."""
    for _ in range(2):
        encode([(b"content-length", b"7")])
    with pytest.raises(ValueError, match="comes twice"):
        encode([(b"content-length", b"7"), (b"content-length", b"7")])
