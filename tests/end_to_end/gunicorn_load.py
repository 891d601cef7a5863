"""A client that asks a server without a pause, while something happens to it."""

from __future__ import annotations

import threading
from typing import Self

from tests.end_to_end.server import Server
from tests.end_to_end.wire import BrokenAnswer, Wire


class Load(threading.Thread):
    """A client that asks without a pause, and counts what is not an answer.

    Args:
        server: whom it asks.
        requests: of one connection.
    """

    def __init__(self, server: Server, requests: int = 20) -> None:
        super().__init__(daemon=True)
        self._server = server
        self._requests = requests
        self._over = threading.Event()
        self.answers = 0
        self.pids: set[int] = set()
        self.wrong: list[object] = []

    def run(self) -> None:
        while not self._over.is_set():
            try:
                with Wire(self._server.address) as wire:
                    for _ in range(self._requests):
                        answer = wire.get("/pid").answer()
                        if answer.status != 200:
                            self.wrong.append(answer)
                            break
                        self.pids.add(int(answer.body))
                        self.answers += 1
                        if answer.fields.get("connection") == "close":
                            break
            except (OSError, BrokenAnswer) as error:
                self.wrong.append(error)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()
        assert self.answers, "nobody has answered"
        assert self.wrong == [], self.wrong
