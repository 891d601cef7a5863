"""The exception tree, by whose fault it is.

Every class says who raises it, when, and what the one who catches it does. A full queue, an empty queue
and a lost claim are not errors: they are results (`bridge.core`).

Two attributes carry advice, so that nobody has to guess: `status` is the HTTP status a client gets when the
error ends a request, `exit_status` is the status of the process when it ends the process.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar


class BridgeError(Exception):
    """Root of every error that Bridge raises on purpose; its text is one line for an operator."""

    status: ClassVar[int] = 500
    exit_status: ClassVar[int] = 1


class ConfigError(BridgeError):
    """The operator's settings are wrong: raised by `config`, shown as one line, ends the start.

    Args:
        pointer: JSON pointer (RFC 6901) or option name of the faulty value.
        reason: what was expected and what was found.
        place: file, line and column, where they are known.
    """

    exit_status = 2

    def __init__(self, pointer: str, reason: str, place: str = "") -> None:
        super().__init__(": ".join(part for part in (place, pointer, reason) if part))
        self.pointer = pointer
        self.reason = reason


class ConfigErrors(BridgeError):
    """All that is wrong in a configuration file: raised by `config`, shown as one line each, ends the start.

    Args:
        errors: in the order of the file.
    """

    exit_status = 2

    def __init__(self, errors: Iterable[ConfigError]) -> None:
        self.errors = tuple(errors)
        super().__init__("\n".join(map(str, self.errors)))


class AddressError(BridgeError):
    """An address cannot be listened on: raised by `router.listener`, shown as one line, ends the start."""


class TargetError(BridgeError):
    """The application cannot be found or does not start: raised by a worker while it boots.

    Main shows the text as one line and ends with `exit_status`. `report` holds the application's own
    traceback when its code raised, and is empty when only the name was wrong.
    """

    exit_status = 3

    def __init__(self, line: str, report: str = "") -> None:
        super().__init__(line)
        self.report = report


class ClientError(BridgeError):
    """The client sent something that is refused: raised by `router.framing`, answered with `status`, then closed."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.refused_with = status


class WebSocketError(BridgeError):
    """A client broke the rules of its WebSocket: raised by `worker.frames`; it is closed with `code`."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class ProtocolError(BridgeError):
    """Abstract: a rule between two of our own processes was broken. Raise one of the two subclasses."""

    status = 502

    def __init__(self, message: str) -> None:
        if type(self) is ProtocolError:
            raise TypeError("ProtocolError is abstract: say whose fault it is")
        super().__init__(message)


class LocalProtocolError(ProtocolError):
    """We called something in a state that does not allow it: a bug of ours, never swallowed."""


class RemoteProtocolError(ProtocolError):
    """The other process sent nonsense: that process is cut off, nobody else is hurt."""


class PeerLost(BridgeError):
    """The other end of a link is gone: raised by `ipc.link`; the caller drops what it shared with that peer."""

    status = 502


class LinkFull(PeerLost):
    """The other end of a link has not read for so long that there is no room: raised by `ipc.link`, nothing was sent.

    Who can wait tries again when the link is writable; who cannot takes the other process for gone, as it will be.
    """


class FilesLost(BridgeError):
    """A message has come without its files, for this process may open no more: raised by `ipc.link`.

    It is nobody's fault but ours: the caller does without the files, and asks for them again if it can.

    Args:
        data: the message, whole.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__("this process may open no more files: those that came with a message are lost")
        self.data = data


class StreamCancelled(BridgeError):
    """The other side gave the stream up: caught by the gateways of ASGI and WSGI."""


class ClientDisconnect(BridgeError, OSError):
    """The client left before its response was complete: raised in the application, where it sends or reads.

    ASGI promises the application an `OSError` there, and who reads a file expects one. Bridge does not log it when the
    application lets it pass.
    """


class VersionMismatch(BridgeError):
    """Two processes of different releases met in the handshake: the newcomer ends with this line.

    Args:
        ours: version of the process that raises.
        theirs: version that the other process announced.
    """

    def __init__(self, ours: str, theirs: str) -> None:
        super().__init__(f"this process speaks {ours}, the other one {theirs}: restart all of them together")
        self.ours = ours
        self.theirs = theirs
