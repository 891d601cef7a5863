"""One server under load: Bridge or another one, with an application of `tests.figures.applications`."""

from __future__ import annotations

import contextlib
import http.client
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec

from tests.bench.measure import PATIENCE, ROOT, free_address, stop
from tests.bench.servers import SERVERS, Server

AT_ONCE = 8  #: requests by which it is found out whether every worker serves


class NotServed(Exception):
    """A server is not installed, or does not serve; why, in a line."""


def server(name: str, interface: str) -> Server:
    """One of the servers that the benchmark knows.

    Raises:
        NotServed: it is not installed.
    """
    found = next(server for server in SERVERS if (server.name, server.interface) == (name, interface))
    program = found.command.split()[0].replace("bridged", "bridge")
    if find_spec(program) is None:
        raise NotServed(f"{program} is not installed here: `make figures` installs it")
    return found


@contextlib.contextmanager
def serving(which: Server, target: str, workers: int, told: str, *options: str) -> Iterator[tuple[str, int]]:
    """A server for the length of the block: its address.

    Args:
        which: from `server`.
        target: attribute of `tests.figures.applications`.
        workers: how many.
        told: path of $TOLD; empty = none.
        options: of the command, at its end.

    Raises:
        NotServed: it does not answer.
    """
    host, number = free_address()
    command = which.command.format(
        target=f"tests.figures.applications:{target}", host=host, number=number, workers=workers
    ).split()
    command = [sys.executable, "-m", "bridge" if command[0] == "bridged" else command[0], *command[1:], *options]
    environment = {name: text for name, text in os.environ.items() if name not in ("PORT", "WEB_CONCURRENCY")}
    environment |= {"PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))}
    if told:
        environment["TOLD"] = told
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True) as process,
    ):
        try:
            if not _answers((host, number), process, workers):
                log.seek(0)
                raise NotServed(f"{which.name} does not serve: {log.read().decode(errors='replace')[-500:]}")
            yield host, number
        finally:
            stop(process)


def _answers(address: tuple[str, int], process: subprocess.Popen[bytes], workers: int) -> bool:
    """Wait until every worker has answered: to one that is still starting no connection would go, for good."""
    end = time.monotonic() + PATIENCE
    seen: set[bytes] = set()
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError):
            seen |= _who_answers(address, AT_ONCE if workers > 1 else 1)
        if len(seen) >= workers:
            return True
        time.sleep(0.02)
    return False


def _who_answers(address: tuple[str, int], at_once: int) -> set[bytes]:
    """The workers that answer so many requests at the same time."""
    with contextlib.ExitStack() as stack:
        connections = [http.client.HTTPConnection(*address, timeout=PATIENCE) for _ in range(at_once)]
        for connection in connections:
            stack.callback(connection.close)
            connection.request("GET", "/ready")
        answers = [connection.getresponse() for connection in connections]
        return {answer.read() for answer in answers if answer.status == 200}
