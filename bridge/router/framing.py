"""PURE. What the bytes of a request head mean for the connection: where the body ends and whether another follows.

Strategy: two parsers look at every head. llhttp (`http1`) knows the grammar; this file is stricter than llhttp
wherever a proxy in front could read the same bytes in another way, and refuses instead of repairing.

One regular expression runs over the head, from line to line. It passes over every field line that is well-formed
and does not matter here, so that a usual head costs one search: what is found is a good Host (as an empty
string) and every line that has to be looked at, or refused. Field values that the application reads are left as
they are.

Rules that llhttp does not have, or has weaker: the version is exactly 1.0 or 1.1, one space between the parts of
the request line, no fragment, one well-formed Host, no transfer coding but one `chunked` and only on 1.1, no
underscore in the name of a field that frames the body or names the client.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from bridge.config import Http
from bridge.errors import ClientError
from bridge.ipc.message import UNKNOWN

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]"
_VALUE = rb"[\t\x20-\x7e\x80-\xff]"  # anything but controls; obs-text is the application's business
_HOST = rb"(?:[A-Za-z0-9._~%!$&'()*+;=-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?"
_TARGET = rb'[!-"$-~]'  # printable ASCII without space and without "#"

# Names are spelled [Cc][Oo]… because the first character then decides: IGNORECASE would try every alternative.
_JUDGED = (
    rb"(?:[Hh][Oo][Ss][Tt]"
    rb"|[Cc][Oo][Nn](?:[Tt][Ee][Nn][Tt][-_][Ll][Ee][Nn][Gg][Tt][Hh]"
    # Connection: keep-alive says nothing on 1.1; 1.0 looks for it separately
    rb"|[Nn][Ee][Cc][Tt][Ii][Oo][Nn](?!:[ \t]*[Kk][Ee][Ee][Pp]-[Aa][Ll][Ii][Vv][Ee][ \t]*\r))"
    rb"|[Tt][Rr][Aa][Nn][Ss][Ff][Ee][Rr][-_][Ee][Nn][Cc][Oo][Dd][Ii][Nn][Gg]"
    rb"|[Ee][Xx][Pp][Ee][Cc][Tt]"
    rb"|[Xx][-_][Ff][Oo][Rr][Ww][Aa][Rr][Dd][Ee][Dd][-_](?:[Ff][Oo][Rr]|[Pp][Rr][Oo][Tt][Oo])):"
)
_find_judged = re.compile(
    rb"\n(?:[Hh][Oo][Ss][Tt]:[ \t]*" + _HOST + rb"[ \t]*\r(?=\n)"
    rb"|(?!\r\n\Z|\Z)(?!(?!" + _JUDGED + rb")" + _TOKEN + rb"+:" + _VALUE + rb"*\r\n)([\s\S][^\n]*))"
).findall

#: Group 1 = HEAD, group 2 = version 1.0; so `lastindex` of the usual request is None.
_match_usual = re.compile(rb"(?:(HEAD)|(?!CONNECT )" + _TOKEN + rb"+) /" + _TARGET + rb"* HTTP/1\.(?:1|(0))\r\n").match
_match_rare = re.compile(
    rb"(?:(HEAD)|OPTIONS(?= \* )|(?!CONNECT )" + _TOKEN + rb"+(?= [Hh])) "
    rb"(?:\*|[Hh][Tt][Tt][Pp][Ss]?://" + _HOST + rb"(?:[/?]" + _TARGET + rb"*)?) HTTP/1\.(?:1|(0))\r\n"
).match
#: The same for a line that llhttp is known to take, whatever the fields behind it are: 1.1, any usual method but HEAD.
_match_known = re.compile(rb"(?:GET|POST|PUT|PATCH|DELETE) /[A-Za-z0-9/?&=%.,:;@~_!$'()*+-]* HTTP/1\.1\r\n").fullmatch
_match_connect = re.compile(rb"CONNECT " + _TARGET + rb"+ HTTP/1\.[01]\r\n").match
_match_version = re.compile(_TOKEN + rb"+ " + _TARGET + rb"+ HTTP/[0-9]\.[0-9]\r\n").match
_match_first = re.compile(rb"\r\n?\Z|(?:\r\n)?" + _TOKEN).match
_match_field = re.compile(rb"(" + _TOKEN + rb"+):[ \t]*(" + _VALUE + rb"*)\r").fullmatch
_match_codings = re.compile(rb"(?:" + _TOKEN + rb"+[ \t]*,[ \t]*)+chunked", re.IGNORECASE).fullmatch
_search_keep_alive = re.compile(rb"\nconnection:[ \t]*keep-alive[ \t]*\r", re.IGNORECASE).search
_find_protocols = re.compile(rb"\nupgrade:([^\r]*)\r", re.IGNORECASE).findall
_search_stray = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)|\0").search

_match_block = re.compile(
    rb"(?:(?!(?:content-length|transfer-encoding|connection|keep-alive|upgrade|proxy-connection|te|trailer):)"
    + _TOKEN
    + rb"+:"
    + _VALUE
    + rb"*\r\n)*",
    re.IGNORECASE,
).fullmatch

_MAX_LENGTH_DIGITS = 18  # below 2**63, so that no sum of sizes overflows anywhere behind us
_ONE_HOST = [b""]


@dataclass(slots=True)
class Framing:
    """What `judge` has read from one head. Never changed after it was made: instances are shared.

    Attributes:
        size: bytes of body: Content-Length, 0 without a body, UNKNOWN for a transfer-chunked one.
        chunked: the body is transfer-chunked.
        keep_alive: another request may follow.
        expect: the client waits for "100 Continue" before it sends the body.
        minor: 0 for HTTP/1.0, 1 for HTTP/1.1.
        is_head: the method is HEAD: the response has no body.
        forwarded_for: value of X-Forwarded-For (several fields joined with ", "), None without.
        forwarded_proto: value of X-Forwarded-Proto, likewise.
        upgrade: it asks for a WebSocket. Where that is not to be had it means what it means without.
    """

    size: int = 0
    chunked: bool = False
    keep_alive: bool = True
    expect: bool = False
    minor: int = 1
    is_head: bool = False
    forwarded_for: bytes | None = None
    forwarded_proto: bytes | None = None
    upgrade: bool = False


PLAIN: Final = Framing()  #: HTTP/1.1, no body, keep-alive: what nearly every request is
_PLAIN_HEAD: Final = Framing(is_head=True)
REFUSED: Final = Framing(keep_alive=False)  #: stands for a request that could not be read


def judge(head: bytes, limits: Http) -> Framing:
    """Read the framing of a request head.

    Args:
        head: all bytes of the head; it ends with the first CRLFCRLF.
        limits: sizes above which a request is refused.

    Raises:
        ClientError: the request is refused; its `refused_with` is the status.
    """
    line = _match_usual(head) or _match_rare(head)
    if line is None or len(head) > limits.large_header_buffer_size:
        _check_sizes(head, limits)
        if line is None:
            raise _line_error(head)
    if limits.max_request_line is not None or limits.max_header_fields is not None:
        _check_rare_limits(head, limits)
    found = _find_judged(head)
    if found == _ONE_HOST:
        kind = line.lastindex
        if kind is None:
            return PLAIN
        if kind == 1:
            return _PLAIN_HEAD
    minor = 1 if line[2] is None else 0
    return _judge_fields(head, found, minor, is_head=line[1] is not None, limits=limits)


def fields_of(head: bytes, framing: Framing, limits: Http) -> bytes:
    """The field lines of a head that was judged, for `repeats`; empty if that is not to be asked about this one."""
    if framing.is_head or not framing.minor or limits.max_request_line is not None:
        return b""
    return head[head.find(b"\n") + 1 :]


def repeats(head: bytes, fields: bytes, limits: Http) -> bool:
    """Whether this head has just these field lines, behind a request line that needs no second look.

    Then it means what the head meant that they came with: most requests of a connection differ in the first line only.

    Args:
        head: as `judge` gets it.
        fields: from `fields_of`, of a head that `judge` and llhttp have passed.
        limits: as `judge`.
    """
    return (
        head.endswith(fields)
        and len(head) <= limits.large_header_buffer_size
        and _match_known(head, 0, len(head) - len(fields)) is not None
    )


def check_partial(head: bytes | bytearray, start: int, limits: Http) -> None:
    """Refuse a head that is still incomplete but can no longer become a good one.

    Args:
        head: what has arrived, without CRLFCRLF.
        start: bytes that an earlier call has seen.
        limits: sizes above which a request is refused.

    Raises:
        ClientError: as `judge` would.
    """
    size = limits.large_header_buffer_size
    if _match_first(head) is None:
        raise ClientError(400, "request line")
    skip = 2 if head.startswith(b"\r\n") else 0
    fresh = max(head.rfind(b"\n", 0, start) + 1, skip)  # where the line begins that goes on now
    if len(head) - fresh > size:
        lengths = [len(line.rstrip(b"\r")) for line in head[fresh:].split(b"\n")]
        if fresh == skip:
            if lengths[0] > (limits.max_request_line or size):
                raise ClientError(*_LONG_LINE)
            del lengths[0]
        if max(lengths, default=0) > size:
            raise ClientError(*_LONG_FIELD)
    if len(head) > size * limits.large_header_buffers:
        raise ClientError(431, "head is too large")
    if fresh == skip:
        end = head.find(b"\n", max(start, skip)) + 1
        if end:
            _check_line(bytes(head[skip:end]))
    if _search_stray(head, max(start - 1, 0)):
        raise ClientError(400, "CR or LF alone, or NUL")


def _check_line(line: bytes) -> None:
    if not (_match_usual(line) or _match_rare(line)):
        raise _line_error(line)


def check_block(block: bytes) -> bool:
    """Whether a header block of a worker may go out as it is.

    Args:
        block: `name: value` lines, each with its CRLF, without the line that ends a head.

    Returns:
        False for anything that is no field line, and for the names that frame the response: those are the router's.
    """
    return _match_block(block) is not None


USUAL_BLOCK = 4096  #: bytes
#: The same for blocks of up to `USUAL_BLOCK` bytes: the last answers are remembered, with their blocks. Most responses
#: of an application have one of a few.
check_usual_block: Callable[[bytes], bool] = lru_cache(maxsize=256)(check_block)


def is_field(line: bytes) -> bool:
    """Whether a trailer line (without CRLF) is well-formed and does not pretend to frame anything."""
    return _match_field(line + b"\r") is not None and not _find_judged(b"\n" + line + b"\r\n")


_LONG_LINE = (414, "request line is too long")
_LONG_FIELD = (431, "header field is too large")


def _check_sizes(head: bytes, limits: Http) -> None:
    size = limits.large_header_buffer_size
    lines = head.split(b"\r\n")
    if len(lines[0]) > (limits.max_request_line or size):
        raise ClientError(*_LONG_LINE)
    if len(head) > size * limits.large_header_buffers:
        raise ClientError(431, "head is too large")
    if max(map(len, lines[1:]), default=0) > size:
        raise ClientError(*_LONG_FIELD)


def _check_rare_limits(head: bytes, limits: Http) -> None:
    if limits.max_request_line is not None and head.find(b"\r\n") > limits.max_request_line:
        raise ClientError(*_LONG_LINE)
    # The request line and the empty line at the end are no fields.
    if limits.max_header_fields is not None and head.count(b"\r\n") - 2 > limits.max_header_fields:
        raise ClientError(431, "too many header fields")


def _line_error(head: bytes) -> ClientError:
    if _match_connect(head):
        return ClientError(501, "CONNECT")
    found = _match_version(head)
    if found and not found[0].endswith((b" HTTP/1.0\r\n", b" HTTP/1.1\r\n")):
        return ClientError(505, "HTTP version")
    return ClientError(400, "request line")


def _judge_fields(head: bytes, found: list[bytes], minor: int, *, is_head: bool, limits: Http) -> Framing:
    fields: dict[bytes, bytes] = {}
    hosts = 0
    for line in found:
        if not line:
            hosts += 1
            continue
        name, value = _split(line)
        earlier = fields.get(name)
        if earlier is not None:
            if name in _SINGLE:
                raise ClientError(400, f"several {name.decode()} fields")
            value = earlier + b", " + value
        fields[name] = value
    if hosts != 1 and (hosts or minor):
        raise ClientError(400, "Host is missing or repeated")
    keep_alive = True if minor else _search_keep_alive(head) is not None
    if not fields:
        return Framing(keep_alive=keep_alive, minor=minor, is_head=is_head)
    size, chunked = _body(fields, minor, limits)
    expect = _expects(fields.get(b"expect"), minor) and size != 0
    upgrade = False
    if b"connection" in fields:
        options = _tokens(fields[b"connection"])
        keep_alive = b"close" not in options and (keep_alive or b"keep-alive" in options)
        # A protocol behind a body, or of 1.0, is ignored (RFC 9110, section 7.8).
        if b"upgrade" in options and minor and not size and head.startswith(b"GET "):
            upgrade = b"websocket" in _tokens(b",".join(_find_protocols(head)))
    forwarded_for = fields.get(b"x-forwarded-for")
    forwarded_proto = fields.get(b"x-forwarded-proto")
    return Framing(size, chunked, keep_alive, expect, minor, is_head, forwarded_for, forwarded_proto, upgrade)


def _tokens(value: bytes) -> set[bytes]:
    return {token.strip() for token in value.lower().split(b",")}


_SINGLE = frozenset({b"content-length", b"transfer-encoding", b"expect"})


def _split(line: bytes) -> tuple[bytes, bytes]:
    field = _match_field(line)
    if field is None:
        raise ClientError(400, "header field")
    name = field[1].lower()
    if name == b"host":
        raise ClientError(400, "Host")  # a good one is not looked at
    if b"_" in name or name not in _KNOWN:
        raise ClientError(400, "name of a header field")
    return name, field[2].rstrip(b" \t")


_KNOWN = _SINGLE | {b"connection", b"x-forwarded-for", b"x-forwarded-proto"}


def _body(fields: dict[bytes, bytes], minor: int, limits: Http) -> tuple[int, bool]:
    coding = fields.get(b"transfer-encoding")
    length = fields.get(b"content-length")
    if coding is not None:
        if length is not None or not minor:
            raise ClientError(400, "Transfer-Encoding beside Content-Length or on HTTP/1.0")
        if coding.lower() == b"chunked":
            return UNKNOWN, True
        if _match_codings(coding) and b"chunked" not in coding.lower()[:-7]:
            raise ClientError(501, "transfer coding")
        raise ClientError(400, "Transfer-Encoding")
    if length is None:
        return 0, False
    if not length.isdigit() or len(length) > _MAX_LENGTH_DIGITS:
        raise ClientError(400, "Content-Length")
    size = int(length)
    if limits.max_body_size is not None and size > limits.max_body_size:
        raise ClientError(413, "body is too large")
    return size, False


def _expects(value: bytes | None, minor: int) -> bool:
    if value is None or not minor:
        return False
    if value.lower() != b"100-continue":
        raise ClientError(417, "Expect")
    return True
