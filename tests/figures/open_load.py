"""Load that does not wait for its answers: requests come when they come."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

Address = tuple[str, int]
REQUEST = b"GET %b HTTP/1.1\r\nHost: figures\r\n\r\n"


def arrivals(rate: float, seconds: float, seed: int) -> Iterator[float]:
    """Moments from 0 on at which requests come, so many a second on average, as if nobody knew of the others."""
    chance = random.Random(seed)
    now = chance.expovariate(rate)
    while now < seconds:
        yield now
        now += chance.expovariate(rate)


@dataclass(slots=True)
class Outcome:
    """What became of one request."""

    came: float  #: seconds from the beginning
    path: bytes
    seconds: float = 0.0  #: until its answer had come
    status: int = 0  #: 0 = there was no answer


class _Connection:
    """One connection of a client."""

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.setblocking(False)

    async def open(self, address: Address) -> None:
        """Connect."""
        await asyncio.get_running_loop().sock_connect(self._socket, address)

    async def ask(self, path: bytes) -> int:
        """Send a request and wait for the whole answer: its status, 0 if the connection has ended instead."""
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(self._socket, REQUEST % path)
        received = b""
        while not (received.endswith(b"\n") and b"\r\n\r\n" in received.removesuffix(b"\r\n\r\n")):
            data = await loop.sock_recv(self._socket, 4096)
            if not data:
                return 0
            received += data
        return int(received[9:12])

    async def ask_again(self, address: Address, path: bytes) -> int:
        """The same; where the server has closed the connection behind the last answer, over a new one."""
        try:
            status = await self.ask(path)
        except OSError:
            status = 0
        if not status:
            self.close()
            self._socket = socket.socket()
            self._socket.setblocking(False)
            await self.open(address)
            status = await self.ask(path)
        return status

    def close(self) -> None:
        """Leave without a word."""
        self._socket.close()


async def _once(address: Address, outcome: Outcome, patience: float) -> None:
    """One request on a connection of its own, which is closed when its client has no patience left."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    connection = _Connection()
    try:
        async with asyncio.timeout(patience):
            await connection.open(address)
            outcome.status = await connection.ask(outcome.path)
            outcome.seconds = loop.time() - begun
    except (TimeoutError, OSError):
        outcome.status = 0
    finally:
        connection.close()


def impatient(address: Address, rate: float, seconds: float, patience: float) -> tuple[float, list[Outcome]]:
    """What becomes of so many requests a second, each on its own connection, whose clients leave after `patience`.

    Returns:
        The moment at which it began, of the monotonic clock, and what became of each.
    """

    async def run() -> tuple[float, list[Outcome]]:
        loop = asyncio.get_running_loop()
        begun, moment = loop.time(), time.monotonic()
        outcomes = [Outcome(came, b"/") for came in arrivals(rate, seconds, seed=1)]
        async with asyncio.TaskGroup() as group:
            for outcome in outcomes:
                await asyncio.sleep(begun + outcome.came - loop.time())
                group.create_task(_once(address, outcome, patience))
        return moment, outcomes

    return asyncio.run(run())


def kept(
    address: Address, rate: float, seconds: float, connections: int, path: Callable[[float], bytes]
) -> list[Outcome]:
    """What becomes of so many requests a second over so many connections that are kept.

    A request takes one of the connections that are idle, whichever, or waits for one; its time counts from its arrival.
    What it asks for is the `path` of a random number from 0 to 1.
    """

    async def run() -> list[Outcome]:
        loop = asyncio.get_running_loop()
        chance = random.Random(2)
        outcomes = [Outcome(came, path(chance.random())) for came in arrivals(rate, seconds, seed=1)]
        idle = [_Connection() for _ in range(connections)]
        for connection in idle:
            await connection.open(address)
            await connection.ask(b"/ready")
        free = asyncio.Semaphore(connections)
        begun = loop.time()

        async def ask(outcome: Outcome) -> None:
            async with free:
                connection = idle.pop(chance.randrange(len(idle)))
                outcome.status = await connection.ask_again(address, outcome.path)
                outcome.seconds = loop.time() - begun - outcome.came
                idle.append(connection)

        async with asyncio.TaskGroup() as group:
            for outcome in outcomes:
                await asyncio.sleep(begun + outcome.came - loop.time())
                group.create_task(ask(outcome))
        for connection in idle:
            connection.close()
        return outcomes

    return asyncio.run(run())
