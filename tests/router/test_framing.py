"""bridge.router.framing: what a head says about the body and the connection. The corpus has most of the cases."""

from __future__ import annotations

import time

import pytest

from bridge.config import Http
from bridge.errors import ClientError
from bridge.ipc.message import UNKNOWN
from bridge.router.framing import PLAIN, Framing, check_block, check_partial, judge

HTTP = Http()
GET = b"GET / HTTP/1.1\r\nHost: a\r\n"


def _status(head: bytes, limits: Http = HTTP) -> int:
    with pytest.raises(ClientError) as caught:
        judge(head, limits)
    return caught.value.refused_with


def test_the_usual_request_costs_no_object() -> None:
    """Requests without a body on a connection that stays share one Framing."""
    assert judge(GET + b"\r\n", HTTP) is PLAIN
    assert judge(GET + b"Connection: keep-alive\r\nAccept: */*\r\n\r\n", HTTP) is PLAIN
    assert judge(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", HTTP) == Framing(is_head=True)


def test_body_sizes() -> None:
    """Content-Length and chunked are told apart."""
    assert judge(GET + b"Content-Length: 12\r\n\r\n", HTTP) == Framing(size=12)
    assert judge(GET + b"Transfer-Encoding: chunked\r\n\r\n", HTTP) == Framing(size=UNKNOWN, chunked=True)


@pytest.mark.parametrize("name", [b"Content-Length", b"Transfer-Encoding", b"X-Forwarded-For"])
def test_underscore_twins_are_refused(name: bytes) -> None:
    """A name that turns into a framing field when "-" and "_" become the same is refused, in any mixture."""
    value = b"chunked" if name.startswith(b"T") else b"5"
    assert judge(GET + name + b": " + value + b"\r\n\r\n", HTTP) is not PLAIN
    assert _status(GET + name.replace(b"-", b"_") + b": " + value + b"\r\n\r\n") == 400
    assert _status(GET + name.upper().replace(b"-", b"_", 1) + b": " + value + b"\r\n\r\n") == 400


@pytest.mark.parametrize(
    "field",
    [b"Content-Length: 5", b"Transfer-Encoding: chunked", b"Connection: close", b"Expect: 100-continue", b"A: b"],
)
def test_lines_end_in_cr_and_lf(field: bytes) -> None:
    """A CR or a LF alone is refused behind every kind of field, also without llhttp."""
    assert _status(GET + field + b"\nB: c\r\n\r\n") == 400
    assert _status(GET + field + b"\rB: c\r\n\r\n") == 400
    assert _status(GET + field + b"\r\r\n\r\n") == 400
    assert _status(GET[:-2] + b"\n" + field + b"\r\n\r\n") == 400
    assert _status(GET[:-2] + b"\r" + field + b"\r\n\r\n") == 400


@pytest.mark.parametrize("code", [*range(9), *range(10, 32), 127])
def test_no_control_in_a_field(code: int) -> None:
    """No control but TAB is let through in a name or in a value, also without llhttp."""
    assert _status(GET + b"A: b%cc\r\n\r\n" % code) == 400
    assert _status(GET + b"A%cb: c\r\n\r\n" % code) == 400


@pytest.mark.parametrize("code", [*range(33), 35, *range(127, 256)])
def test_no_such_byte_in_a_target(code: int) -> None:
    """A target is printable ASCII without space and without a fragment."""
    assert _status(b"GET /%cx HTTP/1.1\r\nHost: a\r\n\r\n" % code) == 400


def test_a_head_ends_once() -> None:
    """An empty line inside what is called a head is refused: the bytes behind it would be another request."""
    assert _status(GET + b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n") == 400


def test_limits_hold_to_the_byte() -> None:
    """A request line, a field and a head may be as long as the limit and not a byte longer."""
    limits = Http(large_header_buffer_size=64, large_header_buffers=3)
    host = b"Host: a\r\n"
    line = b"GET /%b HTTP/1.1\r\n"
    assert judge(line % (b"x" * 50) + host + b"\r\n", limits) is PLAIN
    assert _status(line % (b"x" * 51) + host + b"\r\n", limits) == 414
    assert judge(GET + b"A: " + b"x" * 61 + b"\r\n\r\n", limits) is PLAIN
    assert _status(GET + b"A: " + b"x" * 62 + b"\r\n\r\n", limits) == 431
    rest = 192 - len(GET) - 2
    filler = b"A: " + b"x" * 59 + b"\r\n"
    fields = filler * (rest // 64) + b"B:" + b"y" * (rest % 64 - 4) + b"\r\n"
    assert judge(GET + fields + b"\r\n", limits) is PLAIN
    assert _status(GET + fields[:-2] + b"y\r\n\r\n", limits) == 431


def test_body_limit() -> None:
    """A Content-Length above max_body_size is 413; without a limit any of 18 digits passes."""
    assert judge(GET + b"Content-Length: 8\r\n\r\n", Http(max_body_size=8)).size == 8
    assert _status(GET + b"Content-Length: 9\r\n\r\n", Http(max_body_size=8)) == 413
    assert judge(GET + b"Content-Length: 999999999999999999\r\n\r\n", HTTP).size == 999999999999999999


@pytest.mark.parametrize("name", [b"Content-Length", b"transfer-encoding", b"CONNECTION", b"Keep-Alive", b"Upgrade"])
def test_a_block_must_not_frame(name: bytes) -> None:
    """The fields that frame a response are the router's, wherever they stand and however they are written."""
    assert not check_block(name + b": x\r\n")
    assert not check_block(b"a: b\r\n" + name.lower() + b":\r\n")
    assert check_block(b"x-" + name + b": x\r\n" + name + b"-x: y\r\n")


@pytest.mark.parametrize(
    "block",
    [b"a: b", b"a: b\n", b"a: b\r\n\r\n", b"a: b\r\n c\r\n", b"a : b\r\n", b": b\r\n", b"a: b\rc\r\n", b"a: \0\r\n"],
)
def test_a_block_is_lines(block: bytes) -> None:
    """A worker cannot end the head, fold a line, or slip in a line of its own."""
    assert not check_block(block)


def test_good_blocks() -> None:
    """What applications send passes."""
    assert check_block(b"")
    assert check_block(b"content-type: text/html\r\nset-cookie: a=b\r\nset-cookie: c=d\r\nx:\r\ny: \xe9\t\r\n")


def test_partial_heads_pass_until_they_cannot_become_good() -> None:
    """Every beginning of a good head passes; the first bad byte is refused where it stands."""
    head = b"\r\n" + GET + b"Accept: */*\r\n\r"
    for length in range(1, len(head) + 1):
        check_partial(head[:length], length - 1, HTTP)
    for bad in (b"\x16\x03", b"GET /\r\n", b"GET / HTTP/1.1\n", GET + b"A: b\n", GET + b"A\0", GET + b"A: b\rc"):
        with pytest.raises(ClientError):
            check_partial(bad, 0, HTTP)
        with pytest.raises(ClientError):
            check_partial(bad, len(bad) - 1, HTTP)


def test_partial_heads_obey_the_limits() -> None:
    """A line that is too long is refused before the head is complete, also when lines follow it in the same bytes."""
    limits = Http(large_header_buffer_size=64, large_header_buffers=3)
    cases = [(b"GET /" + b"x" * 60, 414), (GET + b"A: " + b"x" * 62 + b"\r\nB: c", 431), (GET + b"A: b\r\n" * 30, 431)]
    for head, status in cases:
        with pytest.raises(ClientError) as caught:
            check_partial(head, 0, limits)
        assert caught.value.refused_with == status
    check_partial(GET + b"A: " + b"x" * 61 + b"\r\nB: " + b"y" * 61 + b"\r", 0, limits)


def test_partial_heads_are_not_scanned_again() -> None:
    """The time for a head that comes byte by byte grows with its length, not with the square of it."""
    limits = Http(large_header_buffers=100)

    def seconds(size: int) -> float:
        fields = (b"A: " + b"x" * 95 + b"\r\n") * (size // 100)
        best = float("inf")
        for _ in range(3):
            head = bytearray(GET)
            start = time.process_time()
            for code in fields:
                seen = len(head)
                head.append(code)
                check_partial(head, seen, limits)
            best = min(best, time.process_time() - start)
        return best

    assert seconds(32000) < 20 * seconds(4000)
