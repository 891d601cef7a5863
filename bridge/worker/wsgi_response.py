"""The response of one WSGI request: start_response() and write() of PEP 3333 over a stream.

    START ──start_response()──► HELD ──first piece, or write()──► OPEN ──last piece──► OVER
                                  └───────────whole body, or its end─────────────────────┘

The head is held until there is a piece of the body, or none will come: until then start_response() may be called
again, with exc_info, and the application may still fail with a 500 that says so.

The announced length is kept to the byte. A piece that would go beyond it is refused before any of it is sent, an end
before it breaks the response, and a body that has reached it is complete without waiting for the application's end.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from types import TracebackType
from typing import Any

from bridge.errors import ClientDisconnect, StreamCancelled
from bridge.ipc.message import UNKNOWN
from bridge.worker.answers import own_answer
from bridge.worker.fields import encode
from bridge.worker.file_wrapper import Part
from bridge.worker.types import SyncStream

START, HELD, OPEN, OVER = range(4)

ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]

#: A file up to this size is read and sent with the head: to hand a descriptor over costs more than to copy it.
SMALL_FILE = 32768

#: Status strings that are remembered with their numbers.
MAX_STATUSES = 256

_NO_CONTENT, _NOT_MODIFIED = 204, 304
_is_status = re.compile(r"[2-9][0-9]{2} [\t\x20-\x7e\x80-\xff]*").fullmatch
_statuses: dict[str, int] = {}


class Mistake(Exception):
    """What an application returned breaks a rule of PEP 3333: the text says which, for the log."""


class WsgiResponse:
    """What an application answers to one request.

    Args:
        stream: carries the response.
    """

    __slots__ = ("_block", "_flags", "_remaining", "_size", "_status", "_stream", "bodiless", "head_request", "phase")

    def __init__(self, stream: SyncStream) -> None:
        self._stream = stream
        self.phase = START
        self.head_request = False  #: the method is HEAD; known before the application runs

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        """start_response() of PEP 3333; returns write().

        Raises:
            RuntimeError: it was called before, and exc_info is not given.
            TypeError, ValueError: status or headers are malformed; what was held before still is.
            BaseException: that of exc_info, because the head is out.
        """
        if exc_info:
            try:
                if self.phase >= OPEN and exc_info[1] is not None:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # its traceback leads to this frame
        elif self.phase != START:
            raise RuntimeError("start_response() was called again without exc_info")
        if self.phase >= OPEN:
            raise RuntimeError("start_response() was called when the head was out")
        number = _statuses.get(status) or _learn(status)
        if not isinstance(headers, list):
            raise TypeError(f"the headers are a {type(headers).__name__}: WSGI wants a list of pairs of str")
        self._block, size, self._flags = encode(headers, str)
        self._status = number
        self.bodiless = self.head_request or number in (_NO_CONTENT, _NOT_MODIFIED)
        self._size = size if number != _NO_CONTENT else UNKNOWN
        self._remaining = -1 if self.bodiless or size == UNKNOWN else size
        self.phase = HELD
        return self.write

    def write(self, data: bytes) -> None:
        """write() of PEP 3333: sends the head the first time, then what it is given, at once.

        Raises:
            ClientDisconnect: the client left; an OSError.
            RuntimeError: the response is over, or the body is longer than announced.
            TypeError: the data is not bytes.
        """
        if not isinstance(data, bytes):
            raise TypeError(f"write() takes bytes, not {type(data).__name__}")
        try:
            if self._stream.cancelled():
                raise StreamCancelled("before write()")
            self.give(data, False)
            if self.phase == OVER:
                self._stream.flush()
        except StreamCancelled:
            raise ClientDisconnect("the client left before the response was complete") from None
        except Mistake as mistake:
            raise RuntimeError(str(mistake)) from None

    def give(self, body: bytes, last: bool) -> None:
        """Send a piece of the body, and the head if it is held.

        Raises:
            StreamCancelled: nobody waits any more.
            Mistake: it has no place, or is not as long as announced.
        """
        phase = self.phase
        if phase != HELD and phase != OPEN:  # noqa: PLR1714 - a comparison of tuples costs more
            self._misplaced(body)
            return
        if self.bodiless:
            self._give_head(len(body) if last else UNKNOWN)
            return
        remaining = self._remaining
        if remaining >= 0:
            remaining -= len(body)
            if remaining < 0 or (last and remaining):
                raise Mistake(self._misfit(remaining))
            self._remaining = remaining
            last = not remaining
        self.phase = OVER if last else OPEN
        if phase == OPEN:
            if body or last:
                self._stream.send(body, last)
            return
        size = self._size
        if last and size == UNKNOWN:
            size = len(body)
        self._stream.respond(self._status, self._block, size, self._flags, body, last)

    def give_file(self, part: Part) -> bool:
        """Send part of a file as the whole body, if that can be done; the head is held.

        Returns:
            False if the file is not what it says it is, as some of the kernel's: then it is to be read.

        Raises:
            StreamCancelled: nobody waits any more.
            Mistake: it is shorter than announced.
        """
        file, offset, count = part
        if self.bodiless:
            self._give_head(count)
            return True
        if self._remaining > count:
            raise Mistake(self._misfit(self._remaining - count))
        if self._remaining >= 0:
            count = self._remaining
        if count <= SMALL_FILE:
            data = os.pread(file, count, offset)
            if len(data) != count:
                return False
            self.give(data, True)
            return True
        self.phase = OPEN
        self._stream.respond(self._status, self._block, count, self._flags, b"", False)
        self._stream.send_file(file, offset, count)
        self.phase = OVER
        return True

    def end(self) -> None:
        """The application has no more to give.

        Raises:
            StreamCancelled: nobody waits any more.
            Mistake: something is missing.
        """
        if self.phase != OVER:
            self.give(b"", True)

    def fail(self) -> None:
        """End a response that is not over: with a whole answer while its head is held, else visibly broken."""
        phase, self.phase = self.phase, OVER
        stream = self._stream
        if phase == OPEN:
            stream.abort()
        elif phase != OVER:
            try:
                stream.respond(*own_answer(500, self.head_request))
            except StreamCancelled:
                pass  # nobody waits for the answer

    def _give_head(self, length: int) -> None:
        """The response is its head; `length` is what the body of a GET would have."""
        size = length if self.head_request and self._size == UNKNOWN and self._status != _NO_CONTENT else self._size
        self.phase = OVER
        self._stream.respond(self._status, self._block, size, self._flags, b"", True)

    def _misplaced(self, body: bytes) -> None:
        if self.phase == START:
            raise Mistake("the application did not call start_response() before the body")
        if not body or self.bodiless:
            return
        if self._remaining == 0:
            raise Mistake(self._misfit(-len(body)))
        raise Mistake("write() was called after the response was over")

    def _misfit(self, remaining: int) -> str:
        if remaining < 0:
            return f"the response body is longer than its content-length of {self._size} bytes"
        return f"the response body ended {remaining} bytes short of its content-length of {self._size} bytes"


def _learn(status: Any) -> int:
    """Number of a status string, checked and remembered."""
    if not isinstance(status, str):
        raise TypeError(f"status {status!r} is {type(status).__name__}, not str")
    if not _is_status(status):
        raise ValueError(f'status {status!r} is not a number from 200 to 999, a space and a reason, as in "200 OK"')
    if len(_statuses) >= MAX_STATUSES:
        _statuses.clear()
    number = _statuses[status] = int(status[:3])
    return number
