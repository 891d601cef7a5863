"""The router process: `python -P -m bridge.router.process FD`, where FD is its link to main.

Wires the parts together: listening sockets → connections → exchanges → the application's workers. It ends when main
is gone, and then removes the socket files that main can no longer remove.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from email.utils import formatdate
from functools import partial
from typing import Any

import uvloop

from bridge import __version__, config, log
from bridge.errors import BridgeError, FilesLost, LinkFull, PeerLost
from bridge.ipc import parcel
from bridge.ipc.link import Link, decode
from bridge.ipc.message import HTTPS, WAY
from bridge.ipc.port import ROUTER
from bridge.ipc.signals import ignore
from bridge.ipc.status import (
    ACCEPTED,
    ACTIVE,
    CANCELLED,
    CONNECTIONS,
    ERRORS,
    EXPIRED,
    QUEUED,
    REPEATED,
    REQUESTS,
    TIMED_OUT,
    TURNED_AWAY,
    Page,
    Row,
    State,
)
from bridge.router.access_log import AccessLog
from bridge.router.application import Application
from bridge.router.exchange import Exchange
from bridge.router.forwarded import Trusted, is_https
from bridge.router.framing import Framing
from bridge.router.hangup import Hangups
from bridge.router.http1 import Connection
from bridge.router.listener import SocketFile
from bridge.router.mounts import Mounts, destinations
from bridge.router.open_files import FILES_OF_ONE, room_for_clients
from bridge.router.wheel import Wheel

RETRY = 1.0  #: seconds
DRAIN_LOOK = 0.05  #: seconds between two looks whether the last connection has ended


class Service:
    """What the connections of this router need, and the one place that knows all parts.

    Args:
        settings: of the whole server.
        applications: run the requests.
        row: this process's row of the status page.
        most: open files that connections may cost.
    """

    def __init__(self, settings: config.Settings, applications: Mapping[str, Application], row: Row, most: int) -> None:
        loop = asyncio.get_running_loop()
        self.settings = settings
        self.http = settings.http
        self.applications = applications
        self.row = row
        self.connections: set[Connection] = set()
        self.draining = False
        self.wheel = Wheel(loop.time, loop.call_later)
        self.hangups = Hangups(loop.add_reader, loop.remove_reader, loop.call_later)
        self.call_soon = loop.call_soon
        self.accepted = 0
        self._most = most
        self._crowded = False  # said that there are too many connections; not said again until there is room
        self.server = f"Bridge/{__version__}".encode() if settings.http.server_version else b"Bridge"
        self.trusted = Trusted(settings.forwarded_allow_ips)
        self.access_log = AccessLog(settings.access_log) if settings.access_log else None
        self.requests = 0
        self.tick()

    def tick(self) -> None:
        """Make the Server and Date fields (RFC 9110, sections 10.2.4 and 6.6.1) of the second that begins."""
        self.date = formatdate(time.time(), usegmt=True).encode()
        self.fields = b"server: %b\r\ndate: %b\r\n" % (self.server, self.date)

    def publish_counters(self) -> None:
        """Write what has been counted to the status page (once a second: nobody reads it more often)."""
        words = self.row.words
        words[REQUESTS] = self.requests
        applications = self.applications.values()
        words[ACTIVE] = sum(len(application.exchanges) for application in applications)
        words[QUEUED] = sum(application.waiting for application in applications)
        words[CONNECTIONS] = len(self.connections)
        words[ACCEPTED] = self.accepted
        tallies = [application.tally for application in applications]
        words[CANCELLED] = sum(tally.cancelled for tally in tallies)
        words[ERRORS] = sum(tally.errors for tally in tallies)
        words[EXPIRED] = sum(tally.expired for tally in tallies)
        words[TURNED_AWAY] = sum(tally.turned_away for tally in tallies)
        words[TIMED_OUT] = sum(tally.timed_out for tally in tallies)
        words[REPEATED] = sum(tally.repeated for tally in tallies)

    def admits(self) -> bool:
        """Count a connection that was just accepted; False = it is one too many and has to be closed."""
        self.accepted += 1
        most, number = self._most, len(self.connections)
        if number >= most // FILES_OF_ONE and any(each.interface != "asgi" for each in self.applications.values()):
            most //= FILES_OF_ONE
        if number < most:
            if self._crowded and number < most * 9 // 10:
                self._crowded = False
            return True
        if not self._crowded:
            self._crowded = True
            logging.getLogger("bridge").error(
                "%d connections are open, as many as the limit of open files allows: more are closed at once", number
            )
        return False

    def trusts(self, host: str) -> bool:
        """Whether the forwarded headers of this peer are believed; an empty host is a unix socket's peer."""
        return self.trusted.trusts(host)

    def exchange(
        self, connection: Connection, head: bytes, framing: Framing, body: bytes, complete: bool
    ) -> Exchange | None:
        """Begin one request; see `router.interface.Service`."""
        self.requests += 1
        application, way = connection.destination, 0
        if application.__class__ is Mounts:
            chosen = application.choose(head)
            if chosen is None:
                self.refused(connection, head, 404)
                connection.refuse(404)
                return None
            application, way = chosen
        peer = connection.peer
        https = False
        if connection.trusted and (framing.forwarded_for or framing.forwarded_proto):
            peer, https = self._forwarded(peer, framing)
        exchange = Exchange(application, connection, peer + head, framing, (HTTPS if https else 0) | way << WAY)
        if self.access_log is not None:
            exchange.on_over = self._log_exchange
        exchange.begin(body, complete)
        return exchange

    def _forwarded(self, peer: bytes, framing: Framing) -> tuple[bytes, bool]:
        https = bool(framing.forwarded_proto and is_https(framing.forwarded_proto))
        client = self.trusted.client(framing.forwarded_for) if framing.forwarded_for else None
        if client is not None:
            _, _, server = peer.split(b"\0", 2)
            peer = client.encode() + b"\x000\0" + server
        return peer, https

    def refused(self, connection: Connection, head: bytes, status: int) -> None:
        """A request was answered without an exchange (access log only)."""
        if self.access_log is not None:
            self.access_log.line(_host(connection.peer), head, status, 0)

    def _log_exchange(self, exchange: Exchange) -> None:
        if self.access_log is not None:
            peer, head = exchange.parts()
            self.access_log.line(_host(peer), head, exchange.status, exchange.sent)


def _host(peer: bytes) -> str:
    return peer.partition(b"\0")[0].decode("latin-1")


class Router:
    """The process: its link to main, its listeners, its applications."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._loop = asyncio.get_running_loop()
        self._log = logging.getLogger("bridge")
        self._ended = asyncio.Event()
        self._servers: list[tuple[asyncio.Server, socket.socket, Callable[[], Connection]]] = []
        self._files: list[SocketFile] = []
        self._service: Service | None = None
        self._applications: dict[str, Application] = {}
        self._row: Row
        self._starting: asyncio.Task[None] | None = None
        self._draining: asyncio.Task[None] | None = None

    async def run(self) -> int:
        """Serve until main says that it is over, or is gone; returns the exit status."""
        self._loop.add_reader(self._link.fileno(), self._on_link)
        self._on_link()
        await self._ended.wait()
        return 0

    def _on_link(self) -> None:
        try:
            while received := self._receive():
                self._on_message(*received)
        except PeerLost:
            self._main_gone()
        except BridgeError as error:
            self._log.critical("%s", error)
            self._end()

    def _receive(self) -> tuple[dict[str, Any], list[int]] | None:
        while True:
            try:
                return self._link.receive()
            except FilesLost as error:
                message = decode(error.data, ())
                if message["type"] != "worker":
                    raise  # it was the configuration
                # Whoever cannot be reached serves nobody; the next one is tried when main's patience allows.
                self._log.error("worker %d (pid %d) cannot be taken in: %s", message["worker"], message["pid"], error)
                self._on_cut(message["worker"], "it could not be taken in")

    def _on_message(self, message: dict[str, Any], fds: list[int]) -> None:
        kind = message["type"]
        if kind == "configure":
            self._configure(message, fds)
        elif kind == "worker":
            self._applications[message["application"]].introduce(
                message["worker"], message["pid"], Link.adopt(fds[0], sender=message["pid"])
            )
        elif kind == "gone":
            self._applications[message["application"]].gone(message["worker"], message["pid"])
        elif kind == "broken":
            self._applications[message["application"]].set_broken(broken=bool(message["broken"]))
        elif kind == "drain":
            self._draining = self._loop.create_task(self._drain())
        elif kind == "reopen" and self._service is not None and self._service.access_log is not None:
            self._service.access_log.reopen()
        elif kind == "files":
            self._files = [SocketFile.from_json(item) for item in message["files"]]
        elif kind == "quit":
            self._end()

    def _configure(self, message: dict[str, Any], fds: list[int]) -> None:
        page_fd, settings_fd, *sockets = fds
        settings = config.from_json(config.Settings, parcel.unpack(settings_fd))
        log.set_up(settings.log_level)
        self._row = Page(page_fd, message["rows"]).row(ROUTER)
        self._row.begin(os.getpid())
        for name, application in settings.applications.items():
            memory = replace(settings.memory, limit=application.limits.shm or settings.memory.limit)
            self._applications[name] = Application(
                application, memory, __version__, self._on_cut, self._on_attached, settings.http
            )
        self._service = Service(settings, self._applications, self._row, room_for_clients(settings))
        described = message["listeners"]
        self._files = [SocketFile.from_json(item["file"]) for item in described if item["file"]]
        known = destinations(settings, self._applications)
        doors = [
            (socket.socket(fileno=fd), known[item["application"]], item["backlog"] or settings.backlog)
            for fd, item in zip(sockets, described, strict=True)
        ]
        self._starting = self._loop.create_task(self._listen(self._service, doors))

    async def _listen(self, service: Service, doors: Iterable[tuple[socket.socket, Any, int]]) -> None:
        for sock, destination, backlog in doors:
            sock.setblocking(False)
            make = partial(Connection, service, destination)
            # Without a backlog uvloop would shrink the one that main has set.
            server = await self._loop.create_server(make, sock=sock, backlog=backlog)
            self._servers.append((server, sock.dup(), make))
        self._row.enter(State.READY)
        self._beat()
        self._send({"type": "serving"})

    def _beat(self) -> None:
        self._row.beat()
        if self._service is not None:
            self._service.publish_counters()
            self._service.tick()
        for application in self._applications.values():
            application.report()
            application.look()
        self._loop.call_later(1.0 - time.time() % 1.0, self._beat)

    def _on_cut(self, worker: int, reason: str) -> None:
        self._send({"type": "cut", "worker": worker, "reason": reason})

    def _on_attached(self, worker: int) -> None:
        self._send({"type": "attached", "worker": worker})

    def _send(self, message: dict[str, Any]) -> None:
        if self._ended.is_set():
            return  # the link is closed: workers that attach meanwhile are nobody's news
        try:
            self._link.send(message)
        except LinkFull:
            self._loop.call_later(RETRY, self._send, message)  # it stands still for a moment, and is not gone
        except PeerLost:
            self._main_gone()

    def _main_gone(self) -> None:
        # It cannot remove them any more; whoever is left must not find a dead socket.
        for file in self._files:
            file.unlink()
        self._loop.remove_reader(self._link.fileno())
        self._end()

    async def _drain(self) -> None:
        """Stop accepting, but serve everyone the kernel has already accepted; then let the connections end."""
        service = self._service
        if service is None:
            raise AssertionError("main drains only a router that it has configured")
        service.draining = True
        self._row.enter(State.DRAINING)
        for server, sock, make in self._servers:
            server.close()
            await self._accept_rest(sock, make)
            sock.close()
        self._servers.clear()
        for connection in list(service.connections):
            connection.drain()
        while service.connections:  # noqa: ASYNC110 - once in a life; connections need not tell anybody
            await asyncio.sleep(DRAIN_LOOK)
        self._send({"type": "drained"})

    async def _accept_rest(self, sock: socket.socket, make: Callable[[], Connection]) -> None:
        while True:
            try:
                client, _ = sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self._log.error("accept: %s", error)
                return
            await self._loop.connect_accepted_socket(make, client)

    def _end(self) -> None:
        self._ended.set()

    def close(self) -> None:
        """Let go of everything; connections that are still open are cut."""
        for server, sock, _ in self._servers:
            server.close()
            sock.close()
        for application in self._applications.values():
            for port in list(application.workers.values()):
                port.stop()  # main's word to quit may be heard before the workers' end is
        if self._service is not None and self._service.access_log is not None:
            self._service.access_log.close()
        self._loop.remove_reader(self._link.fileno())  # libuv aborts when the loop goes on with a closed descriptor
        self._link.close()


async def _serve(fd: int) -> int:
    router = Router(Link.adopt(fd))
    try:
        return await router.run()
    finally:
        router.close()


def main(argv: list[str]) -> int:
    """Run the router whose link to main is the inherited descriptor `argv[0]`; returns the exit status."""
    log.set_up()
    # These reach the whole process group; main, which has blocked them until now, decides what they mean.
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, ignore)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    gc.freeze()
    return uvloop.run(_serve(int(argv[0])))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
