"""A worker that serves an ASGI application on one event loop.

The order of its life: lifespan startup → "ready" to main → take requests from every router that main introduces →
told to leave, or main is gone → finish what runs → lifespan shutdown.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import uvloop

from bridge import __version__, config
from bridge.errors import BridgeError, PeerLost, TargetError
from bridge.ipc import handshake
from bridge.ipc.link import Link
from bridge.ipc.status import ACTIVE, PERIOD, REQUESTS, Row, State
from bridge.worker import heap
from bridge.worker.asgi import AsgiApplication
from bridge.worker.attach import Attached
from bridge.worker.lifespan import Lifespan
from bridge.worker.main_link import QUICK, MainLink
from bridge.worker.scope import ScopeBuilder
from bridge.worker.types import Target
from bridge.worker.ways import by_way
from bridge.worker.websocket import WebSockets

SHUTDOWN = 10.0  #: most seconds of a lifespan shutdown; less when the graceful timeout is shorter


class AsgiServer:
    """Serves one ASGI application in this process.

    Args:
        application: what the operator configured.
        main: the link to main.
        row: this worker's row of the status page.
        target: the application.
    """

    def __init__(self, application: config.Application, main: MainLink, row: Row, target: Target) -> None:
        self._settings = application
        self._main = main
        self._row = row
        self._target = target
        self._log = logging.getLogger("bridge")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._leaving = False
        self._told = asyncio.Event()  # to leave …
        self._hurried = asyncio.Event()  # … and at once
        self._app: AsgiApplication
        self._sockets: WebSockets
        self._routers: list[Attached] = []
        self._offers: list[Link] = []
        self._ready = False
        self._taken = 0  # requests from routers that are gone

    def run(self) -> int:
        """Start the application, serve and leave; returns the exit status."""
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(self._serve())

    def stop(self, graceful: bool) -> None:
        """Leave: finish what runs first, or quickly. May be called again, and from a signal handler."""
        self._leaving = True
        if self._loop is not None and not self._loop.is_closed():
            if not graceful:
                self._loop.call_soon_threadsafe(self._hurried.set)
            self._loop.call_soon_threadsafe(self._told.set)

    async def _serve(self) -> int:
        heap.keep()
        self._loop = asyncio.get_running_loop()
        if self._leaving:
            return 0
        lifespan = Lifespan(self._target, self._log)
        starting = self._loop.create_task(lifespan.startup())
        told = self._loop.create_task(self._told.wait())
        self._loop.add_reader(self._main.fileno(), self._on_main)
        self._beat()
        await asyncio.wait({starting, told}, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            return 0
        try:
            state = starting.result()
        except TargetError as error:
            return self._main.failed(error)
        settings = self._settings
        scopes = [ScopeBuilder(settings.root_path, state, prefix) for prefix in settings.prefixes]
        self._app = AsgiApplication(self._target, scopes[0], self._loop, self._log, settings.limits.cancel_grace)
        self._app.build = by_way([each.build for each in scopes])
        self._app.build_websocket = by_way([each.build_websocket for each in scopes])
        self._sockets = WebSockets(self._app, settings.websocket, self._loop)
        self._begin()
        await told
        return await self._leave(lifespan)

    def _begin(self) -> None:
        heap.settle()
        self._ready = True
        self._row.enter(State.READY)
        self._tell({"type": "ready"})
        offers, self._offers = self._offers, []
        for link in offers:
            self._wait_for_offer(link)

    async def _leave(self, lifespan: Lifespan) -> int:
        self._row.enter(State.DRAINING)
        self._tell({"type": "draining"})
        for router in list(self._routers):
            router.drain()
        self._sockets.leave()
        await self._drained()
        await self._flushed()
        if not await lifespan.shutdown(min(SHUTDOWN, max(QUICK, self._settings.graceful_timeout))):
            self._log.warning("the application's shutdown was not complete")
        for router in list(self._routers):
            router.close()
        return 0

    async def _drained(self) -> None:
        """Let what runs end: in the time that requests have, or quickly from the moment on at which that is said."""
        loop = asyncio.get_running_loop()
        ending = loop.create_task(self._app.drain(self._settings.graceful_timeout))
        hurried = loop.create_task(self._hurried.wait())
        await asyncio.wait({ending, hurried}, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        if self._app.stopping:  # what has not ended in time is being cancelled, which is not done twice
            await ending
        elif not ending.done():
            ending.cancel()
            await self._app.drain(QUICK)

    async def _flushed(self) -> None:
        """Let messages that found a full queue reach the router."""
        end = asyncio.get_running_loop().time() + QUICK
        # At the end of the process's life: no event is worth its bookkeeping on the way of every message.
        while any(not router.clear() for router in self._routers) and asyncio.get_running_loop().time() < end:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    def _tell(self, message: dict[str, Any]) -> None:
        if not self._main.tell(message):
            self.stop(graceful=False)

    def _beat(self) -> None:
        self._row.beat()
        self._row.words[REQUESTS] = self._taken + sum(router.taken for router in self._routers)
        if self._ready:
            self._row.words[ACTIVE] = len(self._app.tasks) - len(self._sockets.keepalive)
        asyncio.get_running_loop().call_later(PERIOD, self._beat)

    # Main and the routers

    def _on_main(self) -> None:
        if not self._main.hear(self._introduced, self.stop):
            asyncio.get_running_loop().remove_reader(self._main.fileno())

    def _introduced(self, link: Link) -> None:
        if self._leaving:
            link.close()
        elif self._ready:
            self._wait_for_offer(link)
        else:
            self._offers.append(link)

    def _wait_for_offer(self, link: Link) -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(link.fileno(), self._on_offer, link)

    def _on_offer(self, link: Link) -> None:
        loop = asyncio.get_running_loop()
        if self._leaving:
            loop.remove_reader(link.fileno())
            link.close()
            return
        try:
            attachment = handshake.receive_offer(link, __version__)
            if attachment is None:
                return
            loop.remove_reader(link.fileno())
            limit = self._settings.requests_in_flight
            router = Attached(attachment, limit, self._app.start, self._lost, self._sockets)
            self._routers.append(router)
            router.open()
        except PeerLost:
            loop.remove_reader(link.fileno())
            link.close()
        except BridgeError as error:
            self._log.critical("cannot join the router: %s", error)
            self.stop(graceful=False)

    def _lost(self, router: Attached) -> None:
        if router in self._routers:
            self._routers.remove(router)
            self._taken += router.taken
        if router.left and not self._leaving:
            self._log.error("this worker leaves: nobody would introduce it to that router again")
            self.stop(graceful=True)
