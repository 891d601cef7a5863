"""Body bytes that go to the socket past the transport: from shared memory without being kept, and from files.

Both are possible only while the transport holds nothing, so that the order is kept. uvloop has no sendfile and lets
nobody else wait for its sockets, so a file that the socket does not take at once is sent through a duplicate of it.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import Callable
from typing import Any

from bridge.router.answers import CHUNKED, LAST_CHUNK, LENGTH, NO_BODY, UNTIL_CLOSE
from bridge.router.interface import Exchange, Service
from bridge.router.lifetime import DONE, NOT_BEGUN
from bridge.router.response import Responder
from bridge.router.wheel import NEVER

PIECE = 262144  #: bytes of a file that are sent before others get their turn
_GONE = frozenset((errno.EPIPE, errno.ECONNRESET, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH))


class FileSender:
    """A part of a regular file on its way into a socket that does not block. Owns the file's descriptor.

    Args:
        sock: descriptor of the socket; stays the caller's.
        file, offset, count: what is sent.
        progress: called when the client has taken something.
        done: called at the end: with None when all was sent, else with what is wrong with the file, or with nothing
            when it is only that the client has left.
    """

    __slots__ = ("_count", "_done", "_file", "_offset", "_progress", "_socket", "_waits")

    def __init__(
        self,
        sock: int,
        file: int,
        offset: int,
        count: int,
        progress: Callable[[], None],
        done: Callable[[str | None], None],
    ) -> None:
        self._socket = sock
        self._file = file
        self._offset = offset
        self._count = count
        self._progress = progress
        self._done = done
        self._waits = False

    def start(self) -> None:
        """Send a piece, and the rest as the socket takes more."""
        self._send()
        if self._file >= 0:
            try:
                self._socket = os.dup(self._socket)
            except OSError as error:
                self._end(str(error))
                return
            self._waits = True
            asyncio.get_running_loop().add_writer(self._socket, self._send)

    def close(self) -> None:
        """Stop, and close what is ours."""
        if self._waits:
            self._waits = False
            asyncio.get_running_loop().remove_writer(self._socket)
            os.close(self._socket)
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _send(self) -> None:
        try:
            sent = os.sendfile(self._socket, self._file, self._offset, min(self._count, PIECE))
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._end("" if error.errno in _GONE else str(error))
            return
        if not sent:
            self._end("it is shorter than it was")
            return
        self._offset += sent
        self._count -= sent
        if self._count:
            self._progress()
        else:
            self._end(None)

    def _end(self, problem: str | None) -> None:
        self.close()
        self._done(problem)


class DirectResponder(Responder):
    """See the head of the file; the rest of a connection is in `Responder` and `http1.Connection`."""

    __slots__ = ("_sender", "_started")

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        self._sender: FileSender | None = None
        self._started = False

    def send_now(self, data: Any) -> int:
        """Give the socket as much of `data`, body bytes, as it takes at once.

        Returns:
            How many bytes were taken; none where the body is framed in pieces, or while earlier bytes wait.
        """
        mode = self._reply
        if mode == NO_BODY:
            return len(data)
        if not self.flushed or not (mode == UNTIL_CLOSE or (mode == LENGTH and len(data) <= self._remaining)):
            return 0
        try:
            sent = os.write(self._transport.get_extra_info("socket").fileno(), data)
        except OSError:
            return 0  # it is full; or the transport will notice what is wrong
        self._remaining -= sent
        return sent

    def send_file(self, file: int, offset: int, count: int) -> bool:
        """Send `count` bytes of a regular file as the rest of the response; the descriptor is ours from now on.

        Returns:
            False: the body is longer or shorter than announced, so the connection has been cut; or it is gone.
        """
        mode = self._reply
        if mode == LENGTH and count != self._remaining:
            os.close(file)
            self.abort()
            return False
        if mode in (NOT_BEGUN, DONE, NO_BODY) or not count:
            os.close(file)
            return self.write(b"", True)
        self._exchange = None
        if mode == CHUNKED:
            self._transport.write(b"%x\r\n" % count)
        sock = self._transport.get_extra_info("socket").fileno()
        self._sender = FileSender(sock, file, offset, count, self._on_sent, self._on_file_end)
        self._start()
        return True

    def resume_writing(self) -> None:
        """Everything written has left."""
        super().resume_writing()
        self._start()

    def _start(self) -> None:
        if self._sender is not None and not self._started and self.flushed:
            self._started = True
            self._unsent = 0
            self._on_sent()
            self._arm()
            self._sender.start()

    def _on_sent(self) -> None:
        self._send_by = self._service.wheel.clock() + self._service.http.send_timeout

    def _on_file_end(self, problem: str | None) -> None:
        self._sender = None
        self._started = False
        self._send_by = NEVER
        if problem:
            logging.getLogger("bridge").error("a file that is sent as a response: %s", problem)
        if problem is not None:
            self.abort()
            return
        if self._reply == CHUNKED:
            self._transport.write(b"\r\n" + LAST_CHUNK)
        self._finish()

    def _end(self) -> Exchange | None:
        if self._sender is not None:
            self._sender.close()
            self._sender = None
        return super()._end()
