"""Clients that ask one thing after the other, each under a number of its own, and note what became of it."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

from tests.end_to_end.wire import BrokenAnswer, Wire
from tests.figures.verdict import Asked

BODY = bytes(range(256)) * 400


class Asker(threading.Thread):
    """One client.

    Args:
        address: of the server.
        name: the first part of its requests' identities.
        deadline: seconds after which a request hangs.
        big: what /big is to bring.
    """

    def __init__(self, address: tuple[str, int], name: str, deadline: float, big: bytes) -> None:
        super().__init__(name=name, daemon=True)
        self.asked: list[Asked] = []
        self._over = threading.Event()
        self._address = address
        self._deadline = deadline
        self._big = big
        self._random = random.Random(name)
        self._wire: Wire | None = None

    def stop(self) -> None:
        """End after this request."""
        self._over.set()

    def run(self) -> None:
        """Ask until told to stop."""
        ways = (self._small, self._small, self._small, self._echo, self._echo, self._large, self._leave)
        while not self._over.is_set():
            identity = f"{self.name}-{len(self.asked)}"
            begun = time.monotonic()
            outcome = self._outcome(self._random.choice(ways), identity)
            self.asked.append(Asked(identity, begun, time.monotonic(), outcome))
        self._close()

    def _outcome(self, way: Callable[[Wire, str], str], identity: str) -> str:
        try:
            if self._wire is None:
                self._wire = Wire(self._address)
                self._wire.socket.settimeout(self._deadline)
            outcome = way(self._wire, identity)
        except TimeoutError:
            outcome = "hung"
        except (BrokenAnswer, ConnectionResetError, BrokenPipeError):
            outcome = "cut"
        except OSError as error:
            outcome = repr(error)
        if outcome != "right":
            self._close()
        return outcome

    def _close(self) -> None:
        if self._wire is not None:
            self._wire.socket.close()
            self._wire = None

    def _judge(self, wire: Wire, expected: bytes) -> str:
        answer = wire.answer()
        if answer.status != 200:
            return str(answer.status)
        return "right" if answer.body == expected else "another answer"

    def _small(self, wire: Wire, identity: str) -> str:
        return self._judge(wire.get(f"/small?{identity}"), identity.encode())

    def _large(self, wire: Wire, identity: str) -> str:
        return self._judge(wire.get(f"/big?{identity}"), self._big)

    def _echo(self, wire: Wire, identity: str) -> str:
        body = BODY[: self._random.choice((10, 5000, 20000, len(BODY)))]
        return self._judge(wire.post(f"/echo?{identity}", body), body)

    def _leave(self, wire: Wire, identity: str) -> str:
        wire.get(f"/big?{identity}")
        self._over.wait(self._random.choice((0, 0.0005, 0.002, 0.004)))
        return "left"
