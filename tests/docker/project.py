"""docker/compose.yaml brought up as a project of its own, and what is asked of it."""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from tests.docker.engine import BUILDING, COMPOSE_FILE, PATIENCE, Base, logs, nginx, run
from tests.end_to_end.wire import BrokenAnswer, Wire

IMAGE = "bridge-test/demo"


def free_address() -> tuple[str, int]:
    """An address of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        host, number = probe.getsockname()
        return host, number


def until(condition: Callable[[], object], what: str) -> None:
    """Wait until `condition` is true."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"it did not come to pass: {what}"
        time.sleep(0.1)


class Project:
    """The compose file as a project, removed at the end of the `with` block.

    Args:
        compose: the command, in the form that is tested.
        base: what the image is built on.
    """

    def __init__(self, compose: Sequence[str], base: Base) -> None:
        self.address = free_address()  #: of the server
        self.front = free_address()  #: of nginx
        self._name = f"bridge-test-{os.getpid()}"
        self._compose = [*compose, "-f", str(COMPOSE_FILE), "-p", self._name]
        self._environment = {
            "IMAGE": IMAGE,
            "PYTHON_IMAGE": base.image,
            "PYTHON_VERSION": base.version,
            "PORT": str(self.address[1]),
            "FRONT_PORT": str(self.front[1]),
            "NGINX_IMAGE": nginx() or "nginx:stable",
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if kind is not None:
            print(self.do("--profile", "front", "logs", "--no-color"))
        self.do("--profile", "front", "down", "--volumes", "--remove-orphans", "--timeout", "5")

    def do(self, *arguments: str) -> str:
        """What a subcommand of compose writes."""
        return run([*self._compose, *arguments], patience=BUILDING, environment=self._environment)

    def up(self, *arguments: str) -> None:
        """Build and start, as the README says it."""
        self.do("up", "--build", "--detach", *arguments)

    def containers(self, service: str) -> list[str]:
        """The running containers of a service."""
        return self.do("ps", "--quiet", service).split()

    def serves(self, address: tuple[str, int], path: str = "/") -> bool:
        """Whether somebody answers a GET with 200."""
        return get(address, path) == 200


def get(address: tuple[str, int], path: str) -> int:
    """The status of a GET on a connection of its own; 0 = nothing came, -1 = a part of an answer."""
    begun = False
    try:
        with Wire(address) as wire:
            wire.get(path, "Connection: close")
            wire.send()
            begun = bool(peek := wire.socket.recv(1, socket.MSG_PEEK))
            return wire.answer().status if peek else 0
    except (OSError, BrokenAnswer):
        return -1 if begun else 0


class Load:
    """Clients that each ask for one slow page after the other, each on a new connection, until told to end.

    Args:
        address: whom they ask.
        clients: how many at once.

    Attributes:
        ended: number of the request → what `get` said, and when.
    """

    PATH = "/hello/slow?seconds=0.2&number="

    def __init__(self, address: tuple[str, int], clients: int = 16) -> None:
        self.ended: dict[int, tuple[int, float]] = {}
        self._address = address
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(n, clients), daemon=True) for n in range(clients)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        until(lambda: len(self.ended) > 3 * len(self._threads), "the load runs")
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    def _ask(self, number: int, step: int) -> None:
        while not self._over.is_set():
            status = get(self._address, f"{self.PATH}{number}")
            self.ended[number] = status, time.monotonic()
            if status != 200:
                time.sleep(0.05)
            number += step

    def answered(self) -> set[int]:
        """Numbers of the requests that got a whole answer of 200."""
        return {number for number, (status, _) in list(self.ended.items()) if status == 200}

    def lost(self) -> dict[int, int]:
        """Those that were answered otherwise, or in part: number → what `get` said."""
        return {number: status for number, (status, _) in list(self.ended.items()) if status not in (0, 200)}

    def logged(self, *containers: str) -> set[int]:
        """Those that the access log of these containers knows."""
        pattern = re.escape(self.PATH) + r'(\d+) HTTP/1\.[01]" 200 '
        return {int(number) for name in containers for number in re.findall(pattern, logs(name))}
