"""The types where ASGI and WSGI, a request and its stream meet, each named once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Protocol

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Target = Callable[[Scope, Receive, Send], Awaitable[None]]

Environ = dict[str, Any]  #: a dict and nothing derived from it, as PEP 3333 has it
WsgiTarget = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]


class Stream(Protocol):
    """What a request needs of the port: implemented by `worker.stream`, and by a fake in the tests.

    A stream is *over* when it was cancelled, aborted, or given its last piece. `readable` and `gone` may be
    awaited by several tasks, and a task that waits may be cancelled: that must lose nothing.
    """

    head: bytes  #: head block
    number: int  #: version and scheme bits of the REQUEST
    cancelled: bool  #: nobody waits for the response any more
    ended: bool  #: take() has given the last byte of the request body

    def begin(self) -> bool:
        """The application is about to run; False = nobody waits for it any more, so it must not."""

    def take(self) -> bytes | None:
        """All bytes of the request body that are here and were not taken; None = none. Never waits."""

    async def readable(self) -> None:
        """Wait until take() has something, `ended`, or the stream is over.

        It tells the router that the application reads, which moves the flow-control window and answers
        `Expect: 100-continue`.
        """

    def respond(self, status: int, block: bytes, size: int, flags: int, body: bytes, last: bool) -> bool:
        """Send the head, and the body as far as it is known.

        What was given goes out whether or not somebody awaits writable(): a head may be all there is for long.

        Args:
            status: 200 to 999.
            block: header block, without what belongs to the connection.
            size: content length in bytes, or UNKNOWN.
            flags: DATE, SERVER.
            body: of any length, often empty.
            last: the response is complete with that.

        Returns:
            True to go on; False if writable() is to be awaited first.

        Raises:
            StreamCancelled: nobody waits any more.
        """

    def send(self, body: bytes, last: bool) -> bool:
        """Send more of the body; everything else as `respond`."""

    async def writable(self) -> None:
        """Wait until there is room, after `last` until all was handed over.

        Raises:
            StreamCancelled: nobody waits any more.
        """

    def abort(self) -> None:
        """The head is out and the response cannot be completed: the client must see it broken."""

    async def gone(self) -> None:
        """Wait until the stream is over."""

    def finished(self) -> None:
        """The application is through with the stream: called exactly once, after everything else."""


class SyncStream(Protocol):
    """What a request needs of a thread: implemented by `worker.thread_stream`, and by a fake in the tests.

    The whole request body is here before the request is, so nothing but the response waits for anybody. One thread
    has the stream from the claim to its end. A stream is *over* when it was cancelled, aborted, or given its last
    piece.
    """

    head: bytes  #: head block
    number: int  #: version and scheme bits of the REQUEST
    size: int  #: bytes of the request body, exactly
    over: bool  #: the last piece is on its way, or the stream was aborted

    def cancelled(self) -> bool:
        """Whether nobody waits for the response any more; costs a look at shared memory, no call into C."""

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes of the request body from `offset`: fewer only where the body ends. `offset` never goes back.

        Raises:
            StreamCancelled: nobody waits any more.
        """

    def respond(self, status: int, block: bytes, size: int, flags: int, body: bytes, last: bool) -> None:
        """Send the head, and the body as far as it is known; waits while there is no room.

        Args:
            status: 200 to 999.
            block: header block, without what belongs to the connection.
            size: content length in bytes, or UNKNOWN.
            flags: DATE, SERVER.
            body: of any length, often empty.
            last: the response is complete with that. It may stay with the thread until `flush`, or until the thread
                looks for its next request, so that both are one call into C.

        Raises:
            StreamCancelled: nobody waits any more.
        """

    def send(self, body: bytes, last: bool) -> None:
        """Send more of the body; everything else as `respond`."""

    def send_file(self, file: int, offset: int, count: int) -> None:
        """The rest of the response is `count` bytes (at least one) of a regular file from `offset`; the head is out.

        The descriptor may be closed when this returns.

        Raises:
            StreamCancelled: nobody waits any more.
        """

    def flush(self) -> None:
        """What was given goes out now, not with the thread's next step.

        To be called when the response is complete and the application goes on: it may still read the request body.
        """

    def abort(self) -> None:
        """The head is out and the response cannot be completed: the client must see it broken; harmless when over."""
