"""The types where ASGI, a request and its stream meet, each named once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Target = Callable[[Scope, Receive, Send], Awaitable[None]]


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
