"""A WSGI application and one request at a time of each thread: PEP 3333 over a stream.

What the application returned is sent piece by piece, each before the next is asked for. Two kinds are known better: a
list or tuple is all there, so its length is announced and one message carries it; a file of `wsgi.file_wrapper`
goes to the router as it is.

Whatever the application does, its iterable is closed, and its stream ends: with a whole response, with a 500 while
no head is out, else visibly broken. The last piece goes out before close() runs, which may take its time.

A HEAD, 204 or 304 needs nothing but the head: the iterable is not asked for more than its first piece.

When the client has left, write() and wsgi.input raise ClientDisconnect, and an iterable is closed at its next piece;
`environ["bridge.client_disconnected"]()` tells it to who asks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from logging import Logger
from typing import Any

from bridge import __version__
from bridge.errors import ClientDisconnect, StreamCancelled
from bridge.worker.environ import EnvironBuilder
from bridge.worker.file_wrapper import FileWrapper, part_of_file
from bridge.worker.scope import request_line
from bridge.worker.types import SyncStream, WsgiTarget
from bridge.worker.ways import by_way
from bridge.worker.wsgi_errors import WsgiErrors
from bridge.worker.wsgi_input import WsgiInput
from bridge.worker.wsgi_response import HELD, OVER, Mistake, WsgiResponse

#: Lists of several pieces up to this many bytes become one message.
JOINED = 262144

# Iterators that know how much is left: Django's responses are iterated through one.
_COUNTED: tuple[type, ...] = (type(iter([])), type(iter(())))


class WsgiApplication:
    """Runs the requests of one application; its threads share it.

    Args:
        target: the application.
        log: gets the application's tracebacks.
        root_path: what a proxy in front has cut off the path.
        prefixes: what moves from the path to SCRIPT_NAME, for each way that requests come by.
        threads: of this process.
        processes: of the application.
    """

    def __init__(
        self,
        target: WsgiTarget,
        log: Logger,
        root_path: str = "",
        prefixes: Sequence[str] = ("",),
        threads: int = 1,
        processes: int = 1,
    ) -> None:
        self.target = target
        self.log = log
        fixed = {
            "SERVER_SOFTWARE": f"bridged/{__version__}",
            "wsgi.version": (1, 0),
            "wsgi.input": None,
            "wsgi.errors": WsgiErrors(),
            "wsgi.multithread": threads > 1,
            "wsgi.multiprocess": processes > 1,
            "wsgi.run_once": False,
            "wsgi.file_wrapper": FileWrapper,
            "wsgi.input_terminated": True,
            "bridge.client_disconnected": None,
        }
        self._build = by_way([EnvironBuilder(fixed, root_path, prefix).build for prefix in prefixes])

    def run(self, stream: SyncStream) -> None:
        """Run one request to the end of its stream; raises nothing, whatever the application does."""
        response = WsgiResponse(stream)
        body = WsgiInput(stream)
        result: Any = None
        try:
            environ = self._build(stream.head, stream.number, stream.size)
            environ["wsgi.input"] = body
            environ["bridge.client_disconnected"] = stream.cancelled
            if environ["REQUEST_METHOD"] == "HEAD":
                response.head_request = True
            result = self.target(environ, response.start_response)
            if result.__class__ is list and len(result) == 1 and result[0].__class__ is bytes:
                response.give(result[0], True)
            else:
                _give_all(result, response, stream)
        except BaseException as exc:  # noqa: BLE001 - sys.exit() in a view must not end the thread
            self._raised(exc, stream)
            response.fail()
        if result.__class__ is not list:
            self._close(result, stream)
        body.close()
        if not stream.over:
            stream.abort()

    def _close(self, result: Any, stream: SyncStream) -> None:
        """Close what the application returned, when the client has what it gets."""
        try:
            close = getattr(result, "close", None)
            if close is not None:
                try:
                    stream.flush()
                finally:
                    close()
        except BaseException as exc:  # noqa: BLE001 - as above
            self._raised(exc, stream)

    def _raised(self, exc: BaseException, stream: SyncStream) -> None:
        """Log why the response is not what the application meant it to be."""
        if isinstance(exc, Mistake):
            self.log.error("%s: %s", exc, request_line(stream.head))
        elif stream.cancelled() and _tells_of_leaving(exc):
            self.log.debug("the client left: %s", request_line(stream.head))
        else:
            trace = exc.__traceback__ and (exc.__traceback__.tb_next or exc.__traceback__)
            self.log.error(
                "exception in the application: %s", request_line(stream.head), exc_info=(type(exc), exc, trace)
            )


def _give_all(result: Any, response: WsgiResponse, stream: SyncStream) -> None:
    """Send what an application returned.

    Raises:
        BaseException: what the application raises while it is asked for pieces.
        StreamCancelled: nobody waits any more.
        Mistake: it is not what PEP 3333 wants.
    """
    kind = result.__class__
    if kind is list or kind is tuple:
        whole = _join(result)
        if whole is not None:
            response.give(whole, True)
            return
    elif kind is FileWrapper and response.phase == HELD:
        part = part_of_file(result.filelike)
        if part is not None and response.give_file(part):
            return
    iterator = _iterate(result)
    left = iterator.__length_hint__ if iterator.__class__ in _COUNTED else None  # type: ignore[attr-defined]
    for piece in iterator:
        if stream.cancelled():
            raise StreamCancelled("between two pieces")
        if not isinstance(piece, bytes):
            raise Mistake(f"the application gave {type(piece).__name__} as a piece of the body, not bytes")
        if piece:
            response.give(piece, left is not None and not left())
            if response.phase == OVER:
                stream.flush()
                if response.bodiless:
                    return
    response.end()


def _join(pieces: list[Any] | tuple[Any, ...]) -> bytes | None:
    """The pieces as one, if they are few bytes, and bytes at all."""
    if {*map(type, pieces)} - {bytes} or sum(map(len, pieces)) > JOINED:
        return None  # whoever goes through them finds the one that is at fault
    return b"".join(pieces)


def _iterate(result: Any) -> Iterator[Any]:
    if isinstance(result, (str, bytes)):
        raise Mistake(f"the application returned {type(result).__name__}, not an iterable of bytes: make it a list")
    try:
        return iter(result)
    except TypeError:
        if hasattr(result, "__iter__"):
            raise  # out of it
    raise Mistake(f"the application returned {type(result).__name__}, not an iterable of bytes")


def _tells_of_leaving(exc: BaseException | None) -> bool:
    """Whether an exception says no more than that the client left."""
    return exc is not None and (
        isinstance(exc, (ClientDisconnect, StreamCancelled)) or _tells_of_leaving(exc.__cause__)
    )
