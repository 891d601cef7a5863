"""How each server is started: the fastest options that its documentation names, without an access log.

All of them answer HTTP/1.1 with keep-alive (but gunicorn's sync worker, which has none and closes each connection) and
run on uvloop and httptools where they can. WebSockets are compressed where the client offers it, with the parameters
that each server has by itself. Synchronous workers have one thread: more only compete for one interpreter.

gunicorn takes its fast parser by itself where `gunicorn[fast]` is installed. It must be as new as that asks for: with
gunicorn_h1c 0.6.9, gunicorn 27.0.1 closed connections in the middle of uploads.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

GUNICORN = "gunicorn {target} -b {host}:{number} -w {workers} --log-level warning --no-control-socket"
GUNICORN += " --worker-tmp-dir /dev/shm"
GRANIAN = "granian {target} --host {host} --port {number} --workers {workers} --http 1 --runtime-mode st"
GRANIAN += " --runtime-threads 1 --log-level warning --no-access-log"
UVICORN = "uvicorn {target} --host {host} --port {number} --workers {workers} --loop uvloop --http httptools"
UVICORN += " --lifespan off --no-access-log --no-proxy-headers --log-level warning"
BRIDGE = "bridged run {target} -b {host}:{number} -w {workers} --log-level warning"


@dataclass(frozen=True)
class Server:
    """One server with one interface."""

    name: str
    interface: str  #: asgi, wsgi or websocket
    command: str
    router: bool = False  #: it has a process beside its worker that works as much: it is its own "two processes"


SERVERS = (
    Server("bridge", "asgi", BRIDGE, router=True),
    Server("uvicorn", "asgi", f"{UVICORN} --ws none"),
    Server("granian", "asgi", f"{GRANIAN} --no-ws --interface asginl --loop uvloop"),
    Server("gunicorn-asgi", "asgi", f"{GUNICORN} -k asgi --asgi-loop uvloop --asgi-lifespan off"),
    Server("bridge", "wsgi", BRIDGE, router=True),
    Server("granian", "wsgi", f"{GRANIAN} --no-ws --interface wsgi --blocking-threads 1"),
    Server("gunicorn-gthread", "wsgi", f"{GUNICORN} -k gthread --threads 1"),
    Server("gunicorn-sync", "wsgi", f"{GUNICORN} -k sync"),
    Server("bridge", "websocket", BRIDGE, router=True),
    Server("uvicorn", "websocket", f"{UVICORN} --ws websockets-sansio"),
    Server("granian", "websocket", f"{GRANIAN} --ws --interface asginl --loop uvloop"),
)
#: Whose versions the figures depend on.
PACKAGES = [
    "bridged",
    "uvicorn",
    "granian",
    "gunicorn",
    "gunicorn_h1c",
    "uvloop",
    "httptools",
    "websockets",
    "starlette",
]
PACKAGES += ["django"]


def versions() -> dict[str, str]:
    """The versions of what is installed of the packages that matter."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
