"""PURE. What the operator may set, as frozen typed objects with Unit's names where Unit has the feature.

Times are seconds, sizes are bytes. Every object can be written to JSON and read back, because main hands
each child process its settings that way. Reading is strict: an error names the JSON pointer (or the option) of
the faulty value, what was expected and what was found, and a misspelt name gets the nearest right one.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from typing import Any, NamedTuple, TypedDict, TypeVar, Unpack, get_type_hints

from bridge.errors import ConfigError

LOG_LEVELS = ("debug", "info", "warning", "error", "critical")
PROTOCOLS = ("auto", "asgi", "wsgi")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Http:
    """Unit's `settings.http`: limits on what a client may send and how long it may take."""

    header_read_timeout: float = 30.0  #: from the first byte of a head to its last; then 408
    body_read_timeout: float = 30.0  #: between two pieces of a body; then 408
    send_timeout: float = 30.0  #: between two pieces that the client takes; then the connection is closed
    idle_timeout: float = 180.0  #: of a keep-alive connection without a request; then it is closed
    large_header_buffer_size: int = 8192  #: longest request line (414) and longest header field (431)
    large_header_buffers: int = 4  #: times `large_header_buffer_size` = largest whole head (431)
    max_body_size: int | None = None  #: 413 above; None = unlimited (the default of `run`)
    body_buffer_size: int = 1048576  #: of a body that is collected for WSGI, in shared memory; the rest in a file
    body_temp_path: str | None = None  #: where such files are made; None = the system's directory for temporary files
    max_temp_file_size: int = 1073741824  #: of one response that a slow client has yet to take; then the thread waits
    server_version: bool = True  #: "Server: Bridge/x.y.z", else "Server: Bridge"


@dataclass(frozen=True, slots=True)
class Memory:
    """Geometry of the shared memory. The tests also run on a tiny one."""

    chunk_size: int = 16384
    chunks: int = 640  #: per segment
    limit: int = 104857600  #: `limits.shm` of Unit: most shared memory for bodies, per application and direction
    item_size: int = 1024  #: bytes of one queue item, header included
    queue: int = 256  #: items of one queue; a power of two
    window: int = 1048576  #: bytes of one body that may wait in shared memory, per stream and direction
    memfd: bool = True  #: False = POSIX shared memory objects, as where the kernel has no memfd


@dataclass(frozen=True, slots=True)
class Application:
    """One application: what to load, and how many processes and requests it may use."""

    module: str
    callable: str | None = None  #: None = "application", then "app"
    factory: bool = False
    path: str = "."  #: put in front of sys.path
    protocol: str = "auto"  #: "asgi", "wsgi", or "auto" = recognised by the look of the callable
    threads: int = 1  #: of one worker that serves WSGI
    root_path: str = ""  #: what a proxy in front has cut off the path: root_path, SCRIPT_NAME
    name: str = "app"
    processes: int = 1
    requests_in_flight: int = 1000  #: per worker
    graceful_timeout: float = 30.0  #: a worker that is told to leave finishes its requests; then it is killed
    start_timeout: float = 60.0  #: import and lifespan startup; then the worker is killed
    liveness_timeout: float = 60.0  #: a worker whose loop stands still that long is killed; 0 = never
    queue_timeout: float = 30.0  #: a request may wait that long for a worker; then 503
    reload: bool = False  #: restart the workers when a source file changes

    @property
    def target(self) -> str:
        """As the operator named it: `module` or `module:attribute`."""
        return f"{self.module}:{self.callable}" if self.callable else self.module


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything one server needs."""

    application: Application
    listeners: tuple[str, ...] = ("127.0.0.1:8000",)  #: host:port, [v6]:port, unix:/path
    http: Http = field(default_factory=Http)
    memory: Memory = field(default_factory=Memory)
    forwarded_allow_ips: tuple[str, ...] = ("127.0.0.1", "::1")  #: peers whose X-Forwarded-* are believed; "*" = all
    access_log: str | None = None  #: path or "-" (standard output); None = off
    log_level: str = "info"
    backlog: int = 2048  #: connections that the kernel keeps per address until the router accepts them
    graceful_timeout: float = 30.0  #: after TERM: what still runs then is ended as by INT


def to_json(settings: object) -> dict[str, Any]:
    """`settings` (any object of this file) as plain JSON values."""
    result: dict[str, Any] = json.loads(json.dumps(asdict(settings)))  # type: ignore[call-overload]
    return result


def from_json(kind: type[T], value: object, pointer: str = "") -> T:
    """The object of class `kind` that `value` describes; names left out keep their defaults.

    Args:
        kind: one of the classes of this file.
        value: what `json.loads` gave.
        pointer: JSON pointer of `value`, for the errors.

    Raises:
        ConfigError: a name is unknown or missing, or a value is of the wrong kind or out of range.
    """
    if not isinstance(value, Mapping):
        raise ConfigError(pointer or "/", f"expected an object, found {_found(value)}")
    hints = get_type_hints(kind)
    for name in value:
        if name not in hints:
            raise ConfigError(f"{pointer}/{name}", f"unknown name{near_miss(str(name), hints)}")
    arguments = {name: _read(hints[name], item, f"{pointer}/{name}") for name, item in value.items()}
    for item in fields(kind):  # type: ignore[arg-type]
        if item.name not in value and item.default is MISSING and item.default_factory is MISSING:
            raise ConfigError(f"{pointer}/{item.name}", "missing, and it has no default")
    return kind(**arguments)


def assign(settings: Settings, assignment: str) -> Settings:
    """`settings` with one value replaced, as `--set NAME=VALUE` does.

    Args:
        settings: left as it is.
        assignment: e.g. `http.max_body_size=8388608`; the value is JSON, and anything else is taken as a string.

    Raises:
        ConfigError: no such name, or no such value for it.
    """
    option = f"--set {assignment}"
    path, equals, text = assignment.partition("=")
    if not equals:
        raise ConfigError(option, "expected NAME=VALUE, e.g. http.max_body_size=8388608")
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    document = to_json(settings)
    place, names = document, path.strip().split(".")
    for name in names[:-1]:
        inner = place.get(name)
        if not isinstance(inner, dict):
            known = [name for name, value in place.items() if isinstance(value, dict)]
            raise ConfigError(option, f"there is no group {name!r}{near_miss(name, known)}")
        place = inner
    if names[-1] not in place or isinstance(place[names[-1]], dict):
        raise ConfigError(option, f"there is no setting {path!r}{near_miss(names[-1], place)}")
    place[names[-1]] = value
    try:
        return from_json(Settings, document)
    except ConfigError as error:
        raise ConfigError(option, error.reason) from error


def near_miss(name: str, known: Sequence[str] | Mapping[str, object]) -> str:
    """Text that offers the known name nearest to `name`, or nothing."""
    nearest = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {nearest[0]!r}?" if nearest else ""


class Options(TypedDict, total=False):
    """What `bridge.run` takes by keyword, named as the options of `bridged run`."""

    bind: str | Sequence[str]  #: host:port, [v6]:port, unix:/path; one or several
    workers: int
    threads: int  #: of each worker that serves WSGI
    interface: str  #: "asgi", "wsgi" or "auto"
    factory: bool  #: the target is a function that returns the application
    app_dir: str
    root_path: str
    forwarded_allow_ips: str | Sequence[str]  #: addresses, networks, "unix" or "*"; a string is split at commas
    reload: bool
    log_level: str
    access_log: str | None  #: path, or "-" for standard output
    graceful_timeout: float
    set: Sequence[str]  #: as `--set`, e.g. ["http.max_body_size=8388608"]


def from_options(target: str, environment: Mapping[str, str], **options: Unpack[Options]) -> Settings:
    """The settings for `bridged run target` with these options.

    Args:
        target: `module` or `module:attribute`.
        environment: PORT, WEB_CONCURRENCY and FORWARDED_ALLOW_IPS are the defaults of bind, workers and
            forwarded_allow_ips, as other servers have it.
        options: see `Options`.

    Raises:
        ConfigError: an option is unknown, of the wrong kind or out of range.
    """
    for name in options:
        if name not in Options.__annotations__:
            raise ConfigError(name, f"unknown option{near_miss(name, Options.__annotations__)}")
    module, colon, attribute = target.partition(":")
    if not module or (colon and not attribute):
        raise ConfigError("target", f"expected module or module:attribute, found {target!r}")
    application: dict[str, Any] = {"module": module, "callable": attribute or None}
    document: dict[str, Any] = {"application": application}
    for name, value in (_defaults(environment) | dict(options)).items():
        if name in _OF_APPLICATION:
            application[_OF_APPLICATION[name]] = value
        elif name == "bind":
            document["listeners"] = [value] if isinstance(value, str) else value
        elif name == "forwarded_allow_ips":
            parts = value.split(",") if isinstance(value, str) else value
            document[name] = [part.strip() if isinstance(part, str) else part for part in parts]
        elif name != "set":
            document[name] = value
    if "graceful_timeout" in document:
        application["graceful_timeout"] = document["graceful_timeout"]
    settings = from_json(Settings, document)
    for assignment in options.get("set", ()):
        settings = assign(settings, assignment)
    return settings


_OF_APPLICATION = {
    "workers": "processes",
    "threads": "threads",
    "interface": "protocol",
    "factory": "factory",
    "app_dir": "path",
    "root_path": "root_path",
    "reload": "reload",
}


def _defaults(environment: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if environment.get("PORT"):
        found["bind"] = [f"0.0.0.0:{_number(environment, 'PORT', 65535)}"]
    if environment.get("WEB_CONCURRENCY"):
        found["workers"] = _number(environment, "WEB_CONCURRENCY", MOST_PROCESSES)
    if environment.get("FORWARDED_ALLOW_IPS"):
        found["forwarded_allow_ips"] = environment["FORWARDED_ALLOW_IPS"]
    return found


def _number(environment: Mapping[str, str], name: str, most: int) -> int:
    text = environment[name]
    if not (text.isascii() and text.isdigit()) or not 0 < int(text) <= most:
        raise ConfigError(f"environment variable {name}", f"expected a whole number from 1 to {most}, found {text!r}")
    return int(text)


class _Range(NamedTuple):
    """Bounds of a number, both included."""

    least: float
    most: float


MOST_PROCESSES = 1024
MOST_THREADS = 240  #: each has a bell, and these travel to the worker in one message
_SECONDS = _Range(0, 86400 * 366)  #: for everything that is not in the table
_RANGES = {
    "/http/large_header_buffer_size": _Range(64, 1 << 20),
    "/http/large_header_buffers": _Range(1, 1024),
    "/http/max_body_size": _Range(0, 1 << 62),
    "/http/body_buffer_size": _Range(0, 1 << 40),
    "/http/max_temp_file_size": _Range(0, 1 << 62),
    "/memory/chunk_size": _Range(64, 1 << 24),
    "/memory/chunks": _Range(1, 1 << 20),
    "/memory/limit": _Range(1024, 1 << 46),
    "/memory/item_size": _Range(64, 1 << 20),
    "/memory/queue": _Range(2, 1 << 16),
    "/memory/window": _Range(64, 1 << 40),
    "/application/processes": _Range(1, MOST_PROCESSES),
    "/application/requests_in_flight": _Range(1, 1 << 20),
    "/application/threads": _Range(1, MOST_THREADS),
    "/backlog": _Range(1, 65535),
}


def _read(kind: Any, value: object, pointer: str) -> Any:
    if is_dataclass(kind):
        return from_json(kind, value, pointer)  # type: ignore[arg-type]
    right, expected = _KINDS[kind]
    if isinstance(value, list):
        value = tuple(value)
    if not isinstance(value, right) or (isinstance(value, bool) and kind is not bool):
        raise ConfigError(pointer, f"expected {expected}, found {_found(value)}")
    if kind is float:
        value = float(value)  # type: ignore[arg-type]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        _check_range(value, pointer)
    if isinstance(value, tuple):
        return tuple(_read(str, item, f"{pointer}/{index}") for index, item in enumerate(_check_list(value, pointer)))
    if isinstance(value, str):
        _check_text(value, pointer)
    return value


_KINDS: dict[Any, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), "true or false"),
    int: ((int,), "a whole number"),
    int | None: ((int, type(None)), "a whole number or null"),
    float: ((int, float), "a number of seconds"),
    str: ((str,), "a string"),
    str | None: ((str, type(None)), "a string or null"),
    tuple[str, ...]: ((tuple,), "a list of strings"),
}


def _check_range(value: float, pointer: str) -> None:
    bounds = _RANGES.get(pointer, _SECONDS)
    if not bounds.least <= value <= bounds.most:
        raise ConfigError(pointer, f"expected {bounds.least:g} to {bounds.most:g}, found {value:g}")
    if pointer == "/memory/queue" and int(value) & (int(value) - 1):
        raise ConfigError(pointer, f"expected a power of two, found {value:g}")


def _check_list(value: tuple[object, ...], pointer: str) -> tuple[object, ...]:
    if pointer == "/listeners" and not 0 < len(value) <= MOST_LISTENERS:
        raise ConfigError(pointer, f"expected 1 to {MOST_LISTENERS} addresses, found {len(value)}")
    if pointer == "/forwarded_allow_ips":
        for index, item in enumerate(value):
            _check_peer(item, f"{pointer}/{index}")
    return value


MOST_LISTENERS = 60  #: their sockets travel to the router in one message


def _check_peer(value: object, pointer: str) -> None:
    if value in ("*", "unix"):
        return
    try:
        ipaddress.ip_network(str(value), strict=False)
    except ValueError:
        expected = 'expected an IP address, a network, "unix" or "*"'
        raise ConfigError(pointer, f"{expected}, found {_found(value)}") from None


def _check_text(value: str, pointer: str) -> None:
    if pointer == "/log_level" and value not in LOG_LEVELS:
        hint = near_miss(value, LOG_LEVELS)
        raise ConfigError(pointer, f"expected one of {', '.join(LOG_LEVELS)}, found {value!r}{hint}")
    if pointer == "/application/protocol" and value not in PROTOCOLS:
        hint = near_miss(value, PROTOCOLS)
        raise ConfigError(pointer, f"expected one of {', '.join(PROTOCOLS)}, found {value!r}{hint}")
    if pointer == "/application/root_path" and value and (not value.startswith("/") or value.endswith("/")):
        raise ConfigError(pointer, f"expected a path that starts with / and does not end with it, found {value!r}")


def _found(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, (dict, list, tuple)):
        return "an object" if isinstance(value, dict) else "a list"
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"the string {value!r}" if isinstance(value, str) else f"{value!r}"
