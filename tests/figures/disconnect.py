"""How long after a client has left its application knows."""

from __future__ import annotations

import os
import socket
import tempfile
import time
from pathlib import Path

from tests.figures.balance import quantile
from tests.figures.figure import Figure, Goal, Result
from tests.figures.serving import server, serving

MOST = 0.005  #: seconds, for 99 of 100 on an idle machine …
MOST_ALONE = 0.05  #: … and for half of them in the short form, also on a busy one
REQUEST = b"GET /watch HTTP/1.1\r\nHost: figures\r\n\r\n"
#: More than the router keeps of what is sent behind a request, so that it stops reading the socket; and so little that
#: the end of the connection finds room in the kernel.
BEHIND = b"x" * 40_000
PATIENCE = 20.0  #: seconds
KINDS = (
    ("http.disconnect", "asgi", b""),
    ("http.disconnect, socket not read", "asgi", BEHIND),
    ("client_disconnected()", "wsgi", b""),
)


class Told:
    """What an application tells, line by line."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_RDWR)  # both ends, so that it never ends
        os.set_blocking(self._file, True)
        self._rest = b""

    def line(self) -> str:
        """The next one."""
        while b"\n" not in self._rest:
            self._rest += os.read(self._file, 65536)
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode()

    def close(self) -> None:
        """Listen no more."""
        os.close(self._file)


def leave(address: tuple[str, int], told: Told, behind: bytes) -> float:
    """Ask, wait until the application runs, and leave: seconds until it knew."""
    with socket.create_connection(address, PATIENCE) as client:
        client.sendall(REQUEST)
        assert told.line() == "begun"
        if behind:
            client.sendall(behind)
            time.sleep(0.01)  # until it is not read any more, about
        left = time.monotonic_ns()
    what, moment = told.line().split()
    assert what == "gone"
    return (int(moment) - left) / 1e9


def measure(interface: str, behind: bytes, times: int) -> list[float]:
    """So many clients, one after the other: seconds in ascending order."""
    with tempfile.TemporaryDirectory(prefix="bridge-figures-") as directory:
        path = str(Path(directory, "told"))
        os.mkfifo(path)
        told = Told(path)
        try:
            with serving(server("bridge", interface), f"leave_{interface}", 1, path) as address:
                return sorted(leave(address, told, behind) for _ in range(times))
        finally:
            told.close()


def figure(short: bool) -> Result:
    """Measure Bridge; nobody else is asked."""
    rows, goals = [], []
    for name, interface, behind in KINDS:
        times = measure(interface, behind, 40 if short else 500)
        p50, p99 = quantile(times, 0.5), quantile(times, 0.99)
        rows.append([f"{interface.upper()}: {name}", *(f"{each * 1000:.2f} ms" for each in (p50, p99, times[-1]))])
        if short:
            text = f"{interface.upper()}, {name}: half of them within {MOST_ALONE * 1000:.0f} ms"
            goals.append(Goal(text, f"{p50 * 1000:.2f} ms", p50 <= MOST_ALONE))
        else:
            text = f"{interface.upper()}, {name}: p99 at most {MOST * 1000:.0f} ms"
            goals.append(Goal(text, f"{p99 * 1000:.2f} ms", p99 <= MOST))
    return Result(["what tells", "p50", "p99", "longest"], rows, goals)


DISCONNECT = Figure(
    "disconnect",
    "A client leaves",
    "From the client's close to the moment at which its application knows: from receive(), or by asking every 0.2 ms."
    " Also where the router does not read the socket, because the client has sent too much behind its request.",
    figure,
)
