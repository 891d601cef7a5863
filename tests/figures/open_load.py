"""Load that does not wait for its answers: requests come when they come."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

Address = tuple[str, int]
REQUEST = b"GET %b HTTP/1.1\r\nHost: figures\r\n\r\n"


def arrivals(rate: float, seconds: float, chance: random.Random) -> Iterator[float]:
    """Moments from 0 on at which requests come, so many a second on average, as if nobody knew of the others."""
    now = chance.expovariate(rate)
    while now < seconds:
        yield now
        now += chance.expovariate(rate)


@dataclass(slots=True)
class Outcome:
    """What became of one request."""

    came: float  #: seconds from the beginning: when it was to be sent, or was, where its connection was busy till then
    path: bytes
    seconds: float = 0.0  #: until its answer had come
    status: int = 0  #: 0 = there was no answer
    worker: bytes = b""  #: who has answered, as the application says


class _Connection:
    """One connection of a client; it is opened again where the server has closed it.

    Args:
        address: of the server.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._socket: socket.socket | None = None

    async def open(self) -> socket.socket:
        """Connect."""
        self._socket = opened = socket.socket()
        opened.setblocking(False)
        await asyncio.get_running_loop().sock_connect(opened, self._address)
        return opened

    async def ask(self, outcome: Outcome) -> bool:
        """Send a request and note the whole answer; False = the connection has ended instead."""
        loop = asyncio.get_running_loop()
        opened = self._socket or await self.open()
        await loop.sock_sendall(opened, REQUEST % outcome.path)
        received = b""
        while not (received.endswith(b"\n") and b"\r\n\r\n" in received.removesuffix(b"\r\n\r\n")):
            data = await loop.sock_recv(opened, 4096)
            if not data:
                return False
            received += data
        head, _, body = received.partition(b"\r\n\r\n")
        outcome.status, outcome.worker = int(received[9:12]), body.strip()
        if b"connection: close" in head.lower():
            self.close()  # at once: the server may be waiting for it, and do nothing else (gunicorn's sync worker)
        return True

    async def ask_again(self, outcome: Outcome) -> None:
        """The same; where the server has closed a connection that was idle, over a new one."""
        answered, old = False, self._socket
        with contextlib.suppress(OSError):
            answered = await self.ask(outcome)
        if not answered:
            self.close()
            if old is not None:
                await self.ask(outcome)

    def close(self) -> None:
        """Leave without a word."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


async def _once(address: Address, outcome: Outcome, patience: float) -> None:
    """One request on a connection of its own, which is closed when its client has no patience left."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    connection = _Connection(address)
    try:
        async with asyncio.timeout(patience):
            await connection.ask(outcome)
            outcome.seconds = loop.time() - begun
    except (TimeoutError, OSError):
        outcome.status = 0
    finally:
        connection.close()


def impatient(address: Address, rate: float, seconds: float, patience: float, seed: int) -> tuple[float, list[Outcome]]:
    """What becomes of so many requests a second, each on its own connection, whose clients leave after `patience`.

    Returns:
        The moment at which it began, of the monotonic clock, and what became of each.
    """

    async def run() -> tuple[float, list[Outcome]]:
        loop = asyncio.get_running_loop()
        begun, moment = loop.time(), time.monotonic()
        outcomes = [Outcome(came, b"/") for came in arrivals(rate, seconds, random.Random(seed))]
        async with asyncio.TaskGroup() as group:
            for outcome in outcomes:
                await asyncio.sleep(begun + outcome.came - loop.time())
                group.create_task(_once(address, outcome, patience))
        return moment, outcomes

    return asyncio.run(run())


def schedules(
    rate: float, seconds: float, clients: int, path: Callable[[float], bytes], seed: int
) -> list[list[Outcome]]:
    """What each of so many clients asks for, at this rate all together: the `path` of a random number from 0 to 1."""
    found = []
    for number in range(clients):
        chance = random.Random(f"{seed} {number}")
        found.append(
            [Outcome(came, path(chance.random())) for came in tuple(arrivals(rate / clients, seconds, chance))]
        )
    return found


def kept(address: Address, clients: list[list[Outcome]], *, at_once: bool) -> None:
    """Be clients that keep one connection each, and note what becomes of their requests.

    Each sends when its next request is due, or as soon as the one before is answered, and counts from then. It connects
    with its first request, or all of them do before, `at_once`.
    """

    async def run() -> None:
        loop = asyncio.get_running_loop()
        connections = [_Connection(address) for _ in clients]
        if at_once:
            await asyncio.gather(*(connection.ask_again(Outcome(0.0, b"/ready")) for connection in connections))
        begun = loop.time()

        async def client(connection: _Connection, outcomes: list[Outcome]) -> None:
            for outcome in outcomes:
                await asyncio.sleep(begun + outcome.came - loop.time())
                outcome.came = loop.time() - begun
                await connection.ask_again(outcome)
                outcome.seconds = loop.time() - begun - outcome.came
            connection.close()

        async with asyncio.TaskGroup() as group:
            for connection, outcomes in zip(connections, clients, strict=True):
                group.create_task(client(connection, outcomes))

    asyncio.run(run())
