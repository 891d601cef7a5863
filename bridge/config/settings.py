"""PURE. The typed objects of a configuration, and beside each field what is allowed in it.

Times are seconds, sizes are bytes. Fields that Unit has are called as there and stand where they stand there; those of
Bridge alone are marked "Bridge".
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, NamedTuple
from urllib.parse import quote, unquote

LOG_LEVELS = ("debug", "info", "warning", "error", "critical")
PROTOCOLS = ("auto", "asgi", "wsgi")
MOST_PROCESSES = 1024
MOST_THREADS = 240  #: each has a bell, and these travel to the worker in one message
MOST_WEBSOCKETS = 49152  #: a stream's number has 16 bits for its slot, and requests need some
MOST_LISTENERS = 60  #: their sockets travel to the router in one message


class Range(NamedTuple):
    """Bounds of a number, both included."""

    least: float
    most: float

    def expected(self, value: float) -> str:
        """What is expected instead of `value`; empty if it is right."""
        return "" if self.least <= value <= self.most else f"{self.least} to {self.most}"


class OneOf(NamedTuple):
    """The words that a string may be."""

    words: tuple[str, ...]

    def expected(self, value: str) -> str:
        """What is expected instead of `value`; empty if it is right."""
        return "" if value in self.words else f"one of {', '.join(self.words)}"


class PowerOfTwo:
    """1, 2, 4, 8 and so on."""

    def expected(self, value: int) -> str:
        """What is expected instead of `value`; empty if it is right."""
        return "" if value > 0 and not value & (value - 1) else "a power of two"


class Root:
    """A path prefix: empty, or with a slash in front and none behind."""

    def expected(self, value: str) -> str:
        """What is expected instead of `value`; empty if it is right."""
        right = not value or (value.startswith("/") and not value.endswith("/"))
        return "" if right else "a path that starts with / and does not end with it"


class Prefix:
    """A path prefix below which an application is served: empty, or with a slash in front."""

    def expected(self, value: str) -> str:
        """What is expected instead of `value`; empty if it is right."""
        return "" if not value or value.startswith("/") else "a path that starts with /"


class Peer:
    """Who may be believed."""

    def expected(self, value: str) -> str:
        """What is expected instead of `value`; empty if it is right."""
        if value in ("*", "unix"):
            return ""
        try:
            ipaddress.ip_network(value, strict=False)
        except ValueError:
            return 'an IP address, a network, "unix" or "*"'
        return ""


class NotEmpty:
    """Anything but nothing, and no byte that ends a string in C."""

    def expected(self, value: str) -> str:
        """What is expected instead of `value`; empty if it is right."""
        return "" if value and "\0" not in value else "a string that is not empty and has no NUL in it"


class Variable:
    """Name or value of an environment variable."""

    def expected(self, value: str) -> str:
        """What is expected instead of `value`; empty if it is right."""
        return "" if "\0" not in value else "a string without NUL"


Seconds = Annotated[float, Range(0, 86400 * 366)]
Path = Annotated[str, NotEmpty()]


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSocket:
    """`settings.http.websocket`: what a client may send through a WebSocket, and how one is kept alive."""

    read_timeout: Seconds = 60.0  #: nothing came that long, no pong either; then it is closed (1011); 0 = never
    keepalive_interval: Seconds = 30.0  #: nothing came that long; then the client is pinged; 0 = never
    max_frame_size: Annotated[int, Range(1, 1 << 40)] = 1048576  #: of the payload as it travels; 1009 above
    max_message_size: Annotated[int, Range(1, 1 << 40)] = 1048576  #: Bridge: all its frames, unpacked; 1009 above
    max_queue: Annotated[int, Range(1, 1 << 20)] = 32  #: Bridge: messages that are read ahead of the application
    compression: bool = True  #: Bridge: permessage-deflate (RFC 7692) with clients that offer it
    #: Bridge: of the windows in both directions. One costs 2 ** bits bytes for what is received, and
    #: 2 ** (bits + 2) + 2 ** (memory_level + 9) for what is sent, once something was.
    compression_window_bits: Annotated[int, Range(9, 15)] = 12
    compression_memory_level: Annotated[int, Range(1, 9)] = 5  #: Bridge: see above
    #: Bridge: for the client's part of the closing handshake; then it is cut. For the application to answer what came
    #: before a close frame; then that is answered
    close_timeout: Seconds = 10.0
    window: Annotated[int, Range(1024, 1 << 30)] = 65536  #: Bridge: bytes of one that may wait for its worker


@dataclass(frozen=True, slots=True, kw_only=True)
class Http:
    """`settings.http`: limits on what a client may send and how long it may take."""

    header_read_timeout: Seconds = 30.0  #: from the first byte of a head to its last; then 408
    body_read_timeout: Seconds = 30.0  #: between two pieces of a body; then 408
    send_timeout: Seconds = 30.0  #: between two pieces that the client takes; then the connection is closed
    idle_timeout: Seconds = 180.0  #: of a keep-alive connection without a request; then it is closed
    #: longest request line (414) and longest header field (431)
    large_header_buffer_size: Annotated[int, Range(64, 1 << 20)] = 8192
    large_header_buffers: Annotated[int, Range(1, 1024)] = 4  #: times the above = largest whole head (431)
    max_request_line: Annotated[int | None, Range(1, 1 << 20)] = None  #: Bridge: 414 above; None = as a field
    max_header_fields: Annotated[int | None, Range(1, 1 << 16)] = None  #: Bridge: 431 above; None = unlimited
    #: 413 above; None = unlimited. A file that says nothing gets Unit's 8 MiB (`reader.FILE_BODY_SIZE`)
    max_body_size: Annotated[int | None, Range(0, 1 << 62)] = None
    #: of a body that is collected for WSGI, in shared memory; the rest in a file
    body_buffer_size: Annotated[int, Range(0, 1 << 40)] = 1048576
    body_temp_path: Path | None = None  #: where such files are made; None = the system's directory for temporary files
    #: Bridge: of one response that a slow client has yet to take; then the thread waits
    max_temp_file_size: Annotated[int, Range(0, 1 << 62)] = 1073741824
    websocket: WebSocket = field(default_factory=WebSocket)
    server_version: bool = True  #: "Server: Bridge/x.y.z", else "Server: Bridge"


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bridge: geometry of the shared memory. The tests also run on a tiny one."""

    chunk_size: Annotated[int, Range(64, 1 << 24)] = 16384
    chunks: Annotated[int, Range(1, 1 << 20)] = 640  #: per segment
    #: most shared memory for bodies, per application and direction, unless the application has its own `limits.shm`
    limit: Annotated[int, Range(1024, 1 << 46)] = 104857600
    #: Bytes of one queue item, header included. What fits in needs no chunks, which saves a third of the server's time
    #: for a page of 12 KiB or a WebSocket message of 16 KiB: hence the size. Small messages cost no more in large items
    #: (measured), but a page of memory each; long ones, up to `queue` times this for each queue.
    item_size: Annotated[int, Range(64, 1 << 20)] = 20480
    queue: Annotated[int, Range(2, 1 << 16), PowerOfTwo()] = 128  #: items of one queue
    #: bytes of one body that may wait in shared memory, per stream and direction
    window: Annotated[int, Range(64, 1 << 40)] = 1048576
    junk_fill: bool = False  #: fill chunks that are freed, so that whoever still reads them is caught: for debugging
    memfd: bool = True  #: False = POSIX shared memory objects, as where the kernel has no memfd


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """`limits` of an application."""

    shm: Annotated[int | None, Range(1024, 1 << 46)] = None  #: as `memory.limit`, for this application alone
    #: that the application neither writes nor takes body that its worker has yet to get, although the client does its
    #: part; then 504, or the connection is cut; 0 = off
    timeout: Seconds = 0.0
    run_timeout: Seconds = 0.0  #: Bridge: from the beginning of a run to its end; then the same; 0 = off
    #: Bridge: a request that nobody waits for any more has so long to end by itself; then its task is cancelled (ASGI);
    #: None = never
    cancel_grace: Seconds | None = None
    queue_length: Annotated[int, Range(1, 1 << 20)] = 16384  #: Bridge: requests that may wait for a worker; else 503
    websockets: Annotated[int, Range(0, MOST_WEBSOCKETS)] = 10000  #: Bridge: that may be open; else 503


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """Bridge: one of several applications that share their workers; None = as the application around it says."""

    module: Annotated[str, NotEmpty()]
    callable: Annotated[str | None, NotEmpty()] = None
    factory: bool | None = None
    path: tuple[Path, ...] | None = None
    protocol: Annotated[str | None, OneOf(PROTOCOLS)] = None
    threads: Annotated[int | None, Range(1, MOST_THREADS)] = None
    optional: bool | None = None  #: the others are served also if it does not start

    @property
    def target(self) -> str:
        """As the operator named it."""
        return f"{self.module}:{self.callable}" if self.callable else self.module


@dataclass(frozen=True, slots=True)
class Application:
    """One application: what to load, in which surroundings, and how many processes and requests it may use."""

    module: Annotated[str, NotEmpty()] = ""  #: empty = there are `mounts`, and no default otherwise
    callable: Annotated[str | None, NotEmpty()] = None  #: None = "application", then "app"
    factory: bool = False
    path: tuple[Path, ...] = (".",)  #: put in front of sys.path; relative to `working_directory`
    home: Path | None = None  #: a virtual environment of this Python version
    working_directory: Path | None = None  #: None = that of `bridged`
    environment: Mapping[str, Annotated[str, Variable()]] = field(default_factory=dict)  #: set before anything else
    type: str = "python"  #: "python", "python 3", "python 3.11"
    protocol: Annotated[str, OneOf(PROTOCOLS)] = "auto"  #: "auto" = recognised by the look of the callable
    threads: Annotated[int, Range(1, MOST_THREADS)] = 1  #: of one worker that serves WSGI
    prefix: Annotated[str, Prefix()] = ""  #: root_path, SCRIPT_NAME of requests below it; cuts nothing off an ASGI path
    root_path: Annotated[str, Root()] = ""  #: Bridge: what a proxy in front has cut off the path
    processes: Annotated[int, Range(1, MOST_PROCESSES)] = 1
    limits: Limits = field(default_factory=Limits)
    requests_in_flight: Annotated[int, Range(1, 1 << 20)] = 1000  #: Bridge: per worker
    #: Bridge: a worker that is told to leave finishes its requests; then it is killed
    graceful_timeout: Seconds = 30.0
    start_timeout: Seconds = 60.0  #: Bridge: import and lifespan startup; then the worker is killed
    #: Bridge: a worker whose loop stands still that long is killed; 0 = never
    liveness_timeout: Seconds = 60.0
    queue_timeout: Seconds = 30.0  #: Bridge: a request may wait that long for a worker; then 503
    #: Bridge: a GET, HEAD, OPTIONS or TRACE whose worker has died before it answered is run once more by another one
    retry_safe: bool = False
    reload: bool = False  #: Bridge: restart the workers when a source file changes
    optional: bool = False  #: Bridge: `bridged run` serves the others also if this one does not start
    share: bool = False  #: Bridge: each worker runs all of `mounts`
    mounts: Mapping[str, Mount] = field(default_factory=dict)  #: Bridge: what the workers run, by prefix, if they share
    name: str = "app"  #: its key in `applications`; not written there a second time
    websocket: WebSocket = field(default_factory=WebSocket)  #: `settings.http.websocket`; not written here
    mounted_at: tuple[str, ...] = ()  #: prefixes of mounts that lead here and are not `prefix`; written there, not here

    @property
    def target(self) -> str:
        """As the operator named it: `module` or `module:attribute`; several if there are mounts."""
        if self.mounts:
            return ", ".join(mount.target for mount in self.mounts.values())
        return f"{self.module}:{self.callable}" if self.callable else self.module

    @property
    def prefixes(self) -> tuple[str, ...]:
        """Those that requests may come by, as `way` counts them."""
        return (self.prefix, *self.mounted_at)

    def way(self, prefix: str) -> int:
        """Number of the prefix of a mount that leads here."""
        return 0 if self.prefix.rstrip("/") == prefix else 1 + self.mounted_at.index(prefix)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """What becomes of requests that arrive at one address."""

    pass_: str  #: "applications/NAME", with percent-encoding where the name needs it
    backlog: Annotated[int | None, Range(1, 65535)] = None  #: None = `settings.backlog`

    @property
    def application(self) -> str:
        """Name of the application that they go to, or of one that has mounts."""
        return unquote(self.pass_.removeprefix("applications/"))


@dataclass(frozen=True, slots=True, kw_only=True)
class General:
    """`settings`: what holds for the whole server."""

    http: Http = field(default_factory=Http)
    memory: Memory = field(default_factory=Memory)
    #: Bridge: peers whose X-Forwarded-* are believed; "*" = all
    forwarded_allow_ips: tuple[Annotated[str, Peer()], ...] = ("127.0.0.1", "::1")
    log_level: Annotated[str, OneOf(LOG_LEVELS)] = "info"  #: Bridge
    #: Bridge: connections that the kernel keeps per address until the router accepts them
    backlog: Annotated[int, Range(1, 65535)] = 2048
    #: Bridge: after TERM: what still runs then is ended as by INT
    graceful_timeout: Seconds = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(General):
    """Everything one server needs. The fields of `General` stand below `settings` in a document."""

    applications: Mapping[str, Application]
    listeners: Mapping[str, Listener]
    #: of applications that have mounts in place of workers: name → prefix, empty for the root → name of another one
    mounts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    access_log: Path | None = None  #: path or "-" (standard output); None = off


def single(application: Application, addresses: Sequence[str] = ("127.0.0.1:8000",), **general: Any) -> Settings:
    """The settings of a server that serves one application at all of these addresses.

    Args:
        application: the one.
        addresses: as the keys of `listeners`.
        general: other fields of `Settings`.
    """
    listener = Listener(pass_=f"applications/{quote(application.name, safe='')}")
    return Settings(
        applications={application.name: application},
        listeners=dict.fromkeys(addresses, listener),
        **general,
    )
