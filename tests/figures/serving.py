"""One server under load: Bridge or another one, with an application of `tests.figures.applications`."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from tests.bench.measure import PATIENCE, ROOT, free_address, stop
from tests.bench.servers import SERVERS, Server


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


@contextmanager
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
            if not _answers(host, number, process):
                log.seek(0)
                raise NotServed(f"{which.name} does not serve: {log.read().decode(errors='replace')[-500:]}")
            yield host, number
        finally:
            stop(process)


def _answers(host: str, number: int, process: subprocess.Popen[bytes]) -> bool:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        connection = http.client.HTTPConnection(host, number, timeout=PATIENCE)
        try:
            connection.request("GET", "/ready")
            return connection.getresponse().status == 200
        except OSError:
            time.sleep(0.02)
        finally:
            connection.close()
    return False
