"""Endings that meet: whatever happens to requests at the same time, each ends once, and what it held is back."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass

import pytest

from bridge import config
from bridge.errors import StreamCancelled
from bridge.router.exchange import Exchange
from bridge.router.framing import PLAIN, Framing
from bridge.worker.stream import WorkerStream
from tests.router.rig import (
    GEOMETRIES,
    HEAD,
    FakeConnection,
    Rig,
    Worker,
    answer,
    echo,
    pattern,
    read,
    run,
    settle,
    until,
    upload,
)

STEPS = 150
SIZES = (0, 0, 5, 300, 900, 3000)  # of bodies; nothing, an item of either geometry, chunks of one or of both


@dataclass(eq=False)
class Client:
    """One request, and how far its body has come."""

    connection: FakeConnection
    exchange: Exchange
    body: bytes
    sent: int

    @property
    def waits(self) -> bool:
        """Whether it has neither an answer nor left."""
        return not self.connection.ended and not self.exchange.gone

    def send(self) -> None:
        """What is read of the body, unless an answer has begun."""
        if self.waits and not self.connection.status and self.sent < len(self.body):
            self.sent = upload(self.connection, self.exchange, self.body, self.sent)


class Crowd:
    """Workers and clients that do what chance says."""

    def __init__(self, memory: config.Memory, seed: int) -> None:
        self.random = random.Random(seed)
        limits = config.Limits(queue_length=self.random.choice((5, 1000)))
        self.rig = Rig(memory, retry_safe=self.random.random() < 0.7, limits=limits)
        self.clients: list[Client] = []
        self.numbers = iter(range(2, 1000))
        self.over = asyncio.Event()

    @property
    def living(self) -> list[Worker]:
        """Workers that the router knows."""
        known = self.rig.application.workers
        return [worker for worker in self.rig.workers if worker.number in known and worker.attached._alive]

    async def serve(self, worker: Worker, stream: WorkerStream) -> None:
        """Read, answer at once, after a while, or not before the end."""
        chance = self.random
        data = await read(stream) if chance.random() < 0.4 else bytes(chance.choice(SIZES))
        if chance.random() < 0.1:
            await self.over.wait()
        await settle(chance.randrange(20))
        try:
            await answer(stream, data)
        except StreamCancelled:
            pass

    def come(self) -> None:
        """A worker comes, if there are few."""
        if len(self.living) < 3:
            self.rig.worker(self.serve, number=next(self.numbers), limit=self.random.choice((1, 2, 10)))

    def die(self) -> None:
        """A worker is killed."""
        self.random.choice(self.living).die()

    def drain(self) -> None:
        """A worker takes no more."""
        self.random.choice(self.living).attached.drain()

    def damage(self) -> None:
        """The memory that the workers share is given up."""
        self.rig.application.damaged("a test says so")

    def ask(self) -> None:
        """A client comes, with some of its body."""
        chance, body = self.random, pattern(self.random.choice(SIZES))
        head = HEAD[:-2] + b"X: " + b"y" * chance.choice((1, 1, 500, 2000)) + b"\r\n\r\n"
        first = chance.choice((chance.randrange(len(body) + 1), len(body)))
        framing = Framing(size=len(body)) if body else PLAIN
        pair = self.rig.request(body[:first], complete=first == len(body), head=head, framing=framing)
        pair[0].stalled = chance.random() < 0.2
        self.clients.append(Client(*pair, body, first))

    def go_on(self) -> None:
        """Some clients send and take."""
        for client in self.random.sample(self.clients, min(len(self.clients), 5)):
            client.send()
            client.connection.take()

    def leave(self) -> None:
        """A client leaves."""
        client = self.random.choice(self.clients)
        if client.waits:
            client.exchange.client_gone()

    def time_out(self) -> None:
        """A request that runs has had its time."""
        exchanges = self.rig.application.exchanges
        runs = [exchange for stream, exchange in exchanges.items() if not self.rig.application.is_queued(stream)]
        self.random.choice(runs).time_out()

    def expire(self) -> None:
        """A request that was published has waited for too long."""
        exchanges = self.rig.application.exchanges
        queued = [exchange for stream, exchange in exchanges.items() if self.rig.application.is_queued(stream)]
        self.rig.application.expire(self.random.choice(queued))

    async def step(self) -> None:
        """One of these, if there is somebody for it, and some of what follows from it."""
        often = (self.ask, self.ask, self.ask, self.go_on, self.go_on, self.come)
        act = self.random.choice((*often, self.leave, self.leave, self.die, self.drain, self.time_out, self.expire))
        if self.random.random() < 0.02:
            act = self.damage
        try:
            act()
        except IndexError:  # there is nobody to choose from
            pass
        self.rig.application.look()
        await settle(self.random.randrange(6))

    async def end(self) -> None:
        """Everybody goes on until nobody waits; a worker comes that answers all."""
        self.over.set()
        for worker in self.living:
            if self.random.random() < 0.5:
                worker.die()
        await settle()
        self.rig.worker(echo, number=next(self.numbers))

        def through() -> bool:
            for client in self.clients:
                client.send()
                client.connection.stalled = False
                client.connection.take()
            return not any(client.waits for client in self.clients)

        await until(through)
        await until(lambda: len(self.rig.over) == len(self.clients))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("memory", GEOMETRIES.values(), ids=GEOMETRIES)
def test_all_at_once(memory: config.Memory, seed: int) -> None:
    """Clients and workers come and go, memory is damaged, deadlines are over; every client is told, or has left."""

    async def test() -> None:
        crowd = Crowd(memory, seed)
        for _ in range(STEPS):
            await crowd.step()
        await crowd.end()
        assert set(crowd.rig.over) == {client.exchange for client in crowd.clients}
        await crowd.rig.idle()
        for port in crowd.rig.application.workers.values():
            assert not port.linked
            assert not port.leaving
        await crowd.rig.close()

    run(test())
