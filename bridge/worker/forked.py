"""A worker process from its fork to its exit, around the server that it runs."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, Protocol

from bridge import config
from bridge.errors import PeerLost
from bridge.ipc.link import Link
from bridge.ipc.signals import ignore
from bridge.ipc.status import Row
from bridge.log import log
from bridge.worker.reload import Watcher
from bridge.worker.surroundings import directories

BROKEN = 70  #: exit status after an exception that the server let through (EX_SOFTWARE)


class Server(Protocol):
    """What a worker runs: made from (config.Application, control Link, Row), cheaply, before anything slow."""

    def run(self) -> int:
        """Load the application, say "ready" or "failed" on the control link, serve; returns the exit status."""

    def stop(self, graceful: bool) -> None:
        """End `run` soon. Called from a signal handler, at any time, perhaps again."""


class Heartbeat:
    """In the place of gunicorn's temporary file: the worker's row in the status page."""

    def __init__(self, row: Row) -> None:
        self.row = row

    def last_update(self) -> float:
        """Seconds of the monotonic clock at the last beat."""
        return self.row.last_beat

    def close(self) -> None:
        """Called by gunicorn for siblings after each fork, and at reaping: the page stays mapped."""


class QuietLog:
    """In the place of gunicorn's logger: its errors are ours, its news nobody's."""

    def __init__(self, cfg: Any) -> None:
        self.cfg = cfg

    def _drop(self, *_: Any, **__: Any) -> None:
        pass

    setup = reopen_files = close_on_exec = debug = info = access = log = _drop

    def error(self, text: str, *arguments: Any, **options: Any) -> None:
        """Pass on what only goes wrong when Bridge is wrong."""
        log.error(text, *arguments, **options)

    critical = exception = warning = error


def serve(application: config.Application, control: Link, row: Row, server: Callable[..., Server]) -> None:
    """Run the server in this freshly forked process; ends by SystemExit, whatever happens.

    Anything else must not leave this function: above it stands the prototype's loop, which would take a
    KeyboardInterrupt for its own.
    """
    status: object = BROKEN
    try:
        row.begin(os.getpid())
        running = server(application, control, row)
        take_signals(running)
        if application.reload:
            _watch(application, control)
        status = running.run()
    except SystemExit as end:
        status = end.code
    except BaseException:  # noqa: BLE001 - see above
        log.critical("the worker failed", exc_info=True)
    sys.exit(status if isinstance(status, int) else int(status is not None))


def take_signals(server: Server) -> None:
    """Install the worker's own handlers, then let signals in: they were blocked before the fork.

    They are plain handlers, because those of an event loop are deaf until the loop runs, and an import takes long.
    """

    def stop(number: int, _: FrameType | None) -> None:
        server.stop(number == signal.SIGTERM)

    for number in (signal.SIGCHLD, signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU, signal.SIGWINCH):
        signal.signal(number, signal.SIG_DFL)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, ignore)  # they reach the whole group: main decides
    for number in (signal.SIGTERM, signal.SIGQUIT):
        signal.signal(number, stop)
        signal.siginterrupt(number, False)  # libraries in C may not expect EINTR
    with contextlib.suppress(OSError, ValueError):  # standard error may be closed
        faulthandler.enable()  # SIGABRT, the prototype's first word to a worker that hangs, shows where
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def _watch(application: config.Application, control: Link) -> None:
    def report(path: str, stamp: int) -> None:
        # Once main is gone the thread ends with this error suppressed; the worker ends by itself.
        with contextlib.suppress(PeerLost, OSError):
            control.send({"type": "changed", "path": path, "stamp": stamp})

    Watcher(*directories(application)).start(report)
