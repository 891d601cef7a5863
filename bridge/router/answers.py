"""PURE. Heads of responses, and the answers that the router gives itself.

The worker sends a status and a block of field lines; what frames the body is decided here, because only the router
knows what the client understands and what will become of the connection.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from bridge.ipc.message import DATE, SERVER
from bridge.router.framing import Framing

#: How the end of a response body is marked.
NO_BODY, LENGTH, CHUNKED, UNTIL_CLOSE = range(4)

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK: Final = b"0\r\n\r\n"
SWITCHED: Final = b"upgrade: websocket\r\nconnection: Upgrade\r\n"  #: lines of 101 (Switching Protocols)

_PHRASES = {status.value: status.phrase for status in HTTPStatus} | {413: "Content Too Large", 414: "URI Too Long"}
_BODILESS = frozenset({204, 304})

#: Status lines of the responses that have a body and nothing special.
USUAL: Final = {
    status: f"HTTP/1.1 {status} {phrase}\r\n".encode()
    for status, phrase in _PHRASES.items()
    if status >= 200 and status not in _BODILESS
}


def delivery(request: Framing, status: int, size: int | None) -> int:
    """How the body of a response is framed: NO_BODY, LENGTH, CHUNKED or UNTIL_CLOSE.

    Args:
        request: framing of the request that is answered.
        status: 200 to 999.
        size: bytes of body that were announced, None = not known.
    """
    if request.is_head or status in _BODILESS:
        return NO_BODY
    if size is not None:
        return LENGTH
    return CHUNKED if request.minor else UNTIL_CLOSE


def framing_lines(request: Framing, status: int, size: int | None, *, keep_alive: bool) -> bytes:
    """The field lines that the router adds to frame a response. For `keep_alive` see `delivery`."""
    lines = b""
    if size is not None and status != 204:  # 304 and HEAD announce what GET would have had
        lines = b"content-length: %d\r\n" % size
    elif delivery(request, status, size) == CHUNKED:
        lines = b"transfer-encoding: chunked\r\n"
    if not keep_alive:
        return lines + b"connection: close\r\n"
    return lines if request.minor else lines + b"connection: keep-alive\r\n"


def response_head(status: int, block: bytes, lines: bytes, flags: int, server: bytes, date: bytes) -> bytes:
    """The whole head of a response.

    Args:
        status: 200 to 999, or 101.
        block: field lines of the worker; `framing.check_block` has passed them.
        lines: see `framing_lines`; for 101 `SWITCHED`.
        flags: DATE, SERVER = the block holds that field, so it is not added.
        server: value of the Server field.
        date: value of the Date field.
    """
    line = USUAL.get(status) or b"HTTP/1.1 %d %b\r\n" % (status, _PHRASES.get(status, "").encode())
    if not flags & (DATE | SERVER):
        return b"%bserver: %b\r\ndate: %b\r\n%b%b\r\n" % (line, server, date, block, lines)
    if not flags & SERVER:
        line += b"server: %b\r\n" % server
    if not flags & DATE:
        line += b"date: %b\r\n" % date
    return b"%b%b%b\r\n" % (line, block, lines)


def canned(status: int, retry_after: int | None = None) -> tuple[bytes, bytes]:
    """Block and body of an answer in the application's place.

    Args:
        status: 400 to 599.
        retry_after: seconds after which the client may try again, None = not said.
    """
    body = f"{status} {_PHRASES.get(status, 'Error')}\n".encode()
    block = b"content-type: text/plain; charset=utf-8\r\n"
    if retry_after is not None:
        block += b"retry-after: %d\r\n" % retry_after
    if status == 426:  # RFC 9110, section 15.5.22, and RFC 6455, section 4.2.2
        block += SWITCHED + b"sec-websocket-version: 13\r\n"
    return block, body
