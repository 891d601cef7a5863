"""An ASGI application that turns on its server: it owns a worker's ends, and writes garbage to all of them.

It serves until $GATE exists, then each worker goes on for $PEACE seconds with what must have no effect at all, and then
with one thing after another until it is ended. What it does depends on $SEED and on how many workers have begun before
it. It tells in $TOLD what it does; a line that begins with "BROKEN" is what should not have been possible, one with
"MISTAKE" an act that is not what it was meant to be.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from functools import partialmethod
from typing import Any

from bridge.ipc import handshake
from bridge.ipc.status import Row
from bridge.worker.main_link import MainLink
from tests.fuzz.ends import Ends
from tests.fuzz.hostile_acts import FORBIDDEN, HARMLESS

PAUSE = 0.01  #: seconds between two acts
PATIENCE = 3.0  #: seconds after which an act has had its effect, if it has one


class Fuzzer:
    """What one worker does, from its first request on."""

    def __init__(self) -> None:
        self._told = os.open(os.environ["TOLD"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._gate = os.environ["GATE"]
        self._tell("worker")
        with open(os.environ["TOLD"], "rb") as file:
            self._turn = file.read().count(b"worker")
        self._random = random.Random(f"{os.environ['SEED']} {self._turn}")
        self._accept = handshake.accept
        self._say, self._beat = MainLink.tell, Row.beat
        self._main: Any = None
        self._row: Any = None
        # By these three it gets hold of everything that its server has.
        setattr(handshake, "accept", self._accepted)  # noqa: B010 - of another type, as far as mypy is concerned
        setattr(MainLink, "tell", partialmethod(_spoken, self))  # noqa: B010
        setattr(Row, "beat", partialmethod(_beaten, self))  # noqa: B010

    def _tell(self, text: str) -> None:
        os.write(self._told, f"{text} {os.getpid()}\n".encode())

    def spoken(self, main: Any, *said: Any) -> bool:
        """The worker tells main something."""
        self._main = main
        return self._say(main, *said)

    def beaten(self, row: Any) -> None:
        """The worker's heart beats."""
        self._row = row
        self._beat(row)

    def _accepted(self, *offer: Any) -> Any:
        attachment = self._accept(*offer)
        page = self._row.words.obj
        ends = Ends(attachment, self._main._link, page, self._random, lambda text: self._tell(f"BROKEN {text}"))
        threading.Thread(target=self._run, args=(ends,), daemon=True).start()
        return attachment

    def _run(self, ends: Ends) -> None:
        begun = time.monotonic()
        while not os.path.exists(self._gate):
            time.sleep(0.02)
        end = max(time.monotonic(), begun + float(os.environ["PEACE"]))
        while time.monotonic() < end:
            self._act(ends, self._random.choice(HARMLESS))
            time.sleep(PAUSE)
        while True:
            act = self._rarest()
            self._act(ends, act)
            until = time.monotonic() + PATIENCE
            while time.monotonic() < until:
                time.sleep(PAUSE)
                self._act(ends, act, quietly=True)

    def _rarest(self) -> Callable[[Ends], None]:
        """What all workers together have done least often, so that everything is seen; each looks from elsewhere on."""
        with open(os.environ["TOLD"], "rb") as file:
            done = Counter(line.split()[1] for line in file if line.startswith(b"act "))
        start = (self._turn + int(os.environ["SEED"])) % len(FORBIDDEN)
        order = FORBIDDEN[start:] + FORBIDDEN[:start]
        return min(order, key=lambda act: done[act.__name__.encode()] / FORBIDDEN.count(act))

    def _act(self, ends: Ends, act: Callable[[Ends], None], *, quietly: bool = False) -> None:
        if not quietly:
            self._tell(f"act {act.__name__}")
        try:
            act(ends)
        except (AttributeError, NameError, TypeError) as error:  # the server has changed, and this act has not
            self._tell(f"MISTAKE {act.__name__}: {error!r:.200}")
        except Exception as error:  # noqa: BLE001 - its ends may be in any state
            if not quietly:
                self._tell(f"failed {act.__name__}: {error!r:.200}")


def _spoken(main: Any, which: Fuzzer, *said: Any) -> bool:
    return which.spoken(main, *said)


def _beaten(row: Any, which: Fuzzer) -> None:
    which.beaten(row)


fuzzer = Fuzzer() if "TOLD" in os.environ else None


async def app(
    scope: MutableMapping[str, Any],
    receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
    send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
) -> None:
    """Answer, some requests at once and some in a while; bodies are sent back, and so is what comes by WebSocket."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] != "websocket.disconnect":
            if message["type"] == "websocket.receive":
                await send({**message, "type": "websocket.send"})
        return
    if scope["type"] != "http":
        raise RuntimeError("there is no lifespan")
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    if scope["path"] == "/slow":
        await asyncio.sleep(0.2)
    body = body or b"x" * (100_000 if scope["path"] == "/large" else 10)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
