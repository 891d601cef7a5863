"""What the connections of a router share: limits, counters, the access log, and the way to the applications."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from email.utils import formatdate

from bridge import __version__, config
from bridge.ipc.message import HTTPS, WAY
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
    WEBSOCKETS,
    WEBSOCKETS_OPENED,
    WEBSOCKETS_REFUSED,
    Row,
)
from bridge.router.access_log import AccessLog
from bridge.router.application import Application
from bridge.router.exchange import Exchange
from bridge.router.forwarded import Trusted, is_https
from bridge.router.framing import Framing
from bridge.router.hangup import Hangups
from bridge.router.http1 import Connection
from bridge.router.mounts import Mounts
from bridge.router.open_files import FILES_OF_ONE
from bridge.router.opening import Opening
from bridge.router.outflow import CROWDED
from bridge.router.tunnel import Tunnel
from bridge.router.wheel import Wheel


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
        self.connections: set[Connection | Tunnel] = set()
        self.kept = 0
        self.most_kept = settings.memory.limit // CROWDED
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
        tunnels = [application.tunnels for application in applications]
        words[WEBSOCKETS] = sum(map(len, tunnels))
        words[WEBSOCKETS_OPENED] = sum(each.opened for each in tunnels)
        words[WEBSOCKETS_REFUSED] = sum(each.refused for each in tunnels)

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
                self._refuse(connection, head, framing)
                return None
            application, way = chosen
        peer = connection.peer
        https = False
        if connection.trusted and (framing.forwarded_for or framing.forwarded_proto):
            peer, https = self._forwarded(peer, framing)
        make = Opening if framing.upgrade and application.interface != "wsgi" else Exchange
        exchange = make(application, connection, peer + head, framing, (HTTPS if https else 0) | way << WAY)
        if self.access_log is not None:
            exchange.on_over = self._log_exchange
        exchange.begin(body, complete)
        return exchange

    def _refuse(self, connection: Connection, head: bytes, framing: Framing) -> None:
        """Nothing is mounted there."""
        if self.access_log is not None:
            peer = connection.peer
            if connection.trusted and framing.forwarded_for:
                peer, _ = self._forwarded(peer, framing)
            self.access_log.line(_host(peer), head, 404, 0)
        connection.refuse(404)

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
