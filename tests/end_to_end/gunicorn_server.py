"""A real `gunicorn -k bridge.gunicorn.AsgiWorker …` as a tree of processes."""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.end_to_end.server import APPLICATIONS, Process, Server

PLAIN = (sys.executable, "-m", "gunicorn")
ASGI = (*PLAIN, "-k", "bridge.gunicorn.AsgiWorker")
WSGI = (*PLAIN, "-k", "bridge.gunicorn.WsgiWorker")
STARTED = "bridged [^ ]+ serves [^\n]*\n"


class Gunicorn(Server):
    """`Server` with gunicorn's command line; see there.

    Args:
        target: `module:attribute`.
        options: of `gunicorn`.
        config: text of a configuration file.
        bind: addresses; none are said when empty.
        environment: added to that of the tests.
        command: what comes before the target.
        chdir: where the module lies; None = not said.
        inherited: descriptors that it keeps open.
        ready: False = it is not expected to serve; nothing is waited for.
    """

    def __init__(
        self,
        target: str,
        *options: str,
        config: str = "",
        bind: Sequence[str] = ("127.0.0.1:0",),
        environment: Mapping[str, str] | None = None,
        command: Sequence[str] = ASGI,
        chdir: Path | None = APPLICATIONS,
        inherited: Sequence[int] = (),
        ready: bool = True,
    ) -> None:
        more = ["--no-control-socket"]
        if chdir:
            more += ["--chdir", str(chdir)]
        super().__init__(
            target,
            *options,
            *more,
            app_dir=None,
            bind=bind,
            environment=environment,
            command=command,
            inherited=inherited,
            ready=ready,
        )
        self.config = self.directory / "gunicorn.conf.py"
        self.config.write_text(config)
        self._arguments += ["-c", str(self.config)]

    @property
    def prototype(self) -> int:
        """The master forks the workers itself."""
        return self.main.pid

    @property
    def workers(self) -> list[int]:
        """Process ids of the master's workers."""
        return sorted(process.pid for process in self.children if "bridge.router" not in process.command)

    @property
    def routers(self) -> list[int]:
        """Process ids of the routers."""
        return sorted(process.pid for process in self.children if "bridge.router" in process.command)

    @property
    def children(self) -> list[Process]:
        """Living children of the master."""
        return [process for process in self.living() if process.parent == self.main.pid]

    def hup(self) -> None:
        """Have it read its configuration again."""
        self.main.send_signal(signal.SIGHUP)

    def kill(self, pid: int) -> None:
        """Take out of the log that this process was killed, and whatever follows of that."""
        self.log.take(rf"[^\n]*\(pid.{pid}\)[^\n]*SIGKILL[^\n]*\n")


def bound(log: str) -> list[tuple[str, int]]:
    """Addresses of all lines that say where the master listens."""
    return [(host, int(number)) for host, number in re.findall(r"http://([0-9.]+):(\d+)", log)]
