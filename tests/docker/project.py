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
NOTHING, BROKEN = 0, -1  #: instead of a status: no byte came, a part of an answer


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
    """The status of a GET on a connection of its own, or NOTHING, or BROKEN."""
    try:
        with Wire(address) as wire:
            if not wire.get(path, "Connection: close").socket.recv(1, socket.MSG_PEEK):
                return NOTHING
            try:
                return wire.answer().status
            except (OSError, BrokenAnswer):
                return BROKEN
    except OSError:
        return NOTHING


class Load:
    """Clients that each ask for one slow page after the other, each on a new connection, until told to end.

    Args:
        address: whom they ask.
        clients: how many at once.

    Attributes:
        sent: number of the request → when, as `time.monotonic()` has it.
        ended: number → what `get` said.
    """

    PATH = "/hello/slow?seconds=0.6&number="
    ARRIVED = 0.3  #: seconds after which a request is at its application, and has half of its time before it

    def __init__(self, address: tuple[str, int], clients: int = 16) -> None:
        self.sent: dict[int, float] = {}
        self.ended: dict[int, int] = {}
        self._address = address
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(n, clients), daemon=True) for n in range(clients)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
            time.sleep(0.04)  # so that at every moment some have just begun, and some are nearly done
        until(lambda: len(self.answered()) > 2 * len(self._threads), "the load runs")
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    def _ask(self, number: int, step: int) -> None:
        while not self._over.is_set():
            self.sent[number] = time.monotonic()
            self.ended[number] = get(self._address, f"{self.PATH}{number}")
            if self.ended[number] == NOTHING:
                time.sleep(0.05)  # until somebody is there again
            number += step

    def answered(self) -> set[int]:
        """Numbers of the requests that got a whole answer of 200."""
        return {number for number, status in list(self.ended.items()) if status == 200}

    def arrived(self, moment: float) -> set[int]:
        """Those that were surely at their application at that moment, or behind it."""
        return {number for number, sent in list(self.sent.items()) if sent < moment - self.ARRIVED}

    def logged(self, *containers: str) -> set[int]:
        """Those that the access log of these containers knows."""
        pattern = re.escape(self.PATH) + r'(\d+) HTTP/1\.[01]" 200 '
        return {int(number) for name in containers for number in re.findall(pattern, logs(name))}
