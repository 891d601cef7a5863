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
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any

import uvloop

from bridge import __version__, config, log
from bridge.errors import BridgeError, FilesLost, LinkFull, PeerLost
from bridge.ipc import parcel
from bridge.ipc.link import Link, decode
from bridge.ipc.port import ROUTER
from bridge.ipc.signals import ignore
from bridge.ipc.status import Page, Row, State
from bridge.router.application import Application
from bridge.router.http1 import Connection
from bridge.router.listener import SocketFile
from bridge.router.mounts import destinations
from bridge.router.open_files import room_for_clients
from bridge.router.service import Service

RETRY = 1.0  #: seconds
DRAIN_LOOK = 0.05  #: seconds between two looks whether the last connection has ended


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

    def _on_attached(self, pid: int) -> None:
        self._send({"type": "attached", "pid": pid})

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
        if tunnels := sum(len(application.tunnels) for application in self._applications.values()):
            self._log.info("the router ends: %d WebSockets are closed", tunnels)
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
