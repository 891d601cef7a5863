"""What becomes of WebSockets when a client, a worker, the router or the server ends, and beside what they live."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Self

import pytest

from tests.end_to_end.server import Server, until
from tests.end_to_end.websocket.client import Client, connect
from tests.end_to_end.websocket.frames import CLOSE, PING, PONG, TEXT, Frame, close, frame, text
from tests.end_to_end.wire import BrokenAnswer, Wire

DIED = r"[^\n]*\[error\] worker \d+ \(pid {}\) ended: signal SIGKILL\n"
ROUTER_DIED = r"[^\n]*\[error\] the router [^\n]*\n"


@contextlib.contextmanager
def many(server: Server, count: int, path: str = "/pid") -> Iterator[list[tuple[Client, int]]]:
    """So many open WebSockets, each with the process that serves it."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(server, path)) for _ in range(count)]
        yield [(client, int(client.message())) for client in clients]


class Echoing:
    """Threads that echo over WebSockets until these end; `ends` is how each of them did."""

    def __init__(self, server: Server, count: int) -> None:
        self._server = server
        self.ends: list[tuple[int, str] | str] = []
        self._echoed = [0] * count
        self._threads = [threading.Thread(target=self._run, args=[each]) for each in range(count)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        until(lambda: min(self._echoed) > 10, "messages come back to each")
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.join()

    def _run(self, each: int) -> None:
        with connect(self._server, "/echo") as client:
            number = 0
            try:
                while True:
                    client.send(text(f"message {number}"))
                    answer = client.frame()
                    if answer.opcode == CLOSE:
                        self.ends.append((int.from_bytes(answer.payload[:2], "big"), answer.payload[2:].decode()))
                        client.send(close(1012))
                        assert client.rest() == b""
                        return
                    assert answer.payload == b"message %d" % number
                    number += 1
                    self._echoed[each] += 1
            except (BrokenAnswer, OSError) as error:
                self.ends.append(type(error).__name__)


# --- clients ------------------------------------------------------------------------------------------------


def test_clients_that_vanish() -> None:
    """FIN and RST are noticed at once, also of a client whose messages the application does not take."""
    with Server("sockets:app") as server:
        for rude in (True, False):
            with connect(server, "/echo?name=idle") as client:
                server.log.take("idle: open\n")
                if rude:
                    client.cut()
            server.log.take(r"idle: left 1006 [^\n]*\n")
            with connect(server, "/flood?name=reader") as client:
                client.frame()
                if rude:
                    client.cut()
            server.log.take("reader: send: OSError\n")
        with Wire(server.address) as wire:
            assert wire.get("/page").answer().text == "http GET"


# --- workers ------------------------------------------------------------------------------------------------


def test_a_worker_that_is_killed() -> None:
    """Its WebSockets end with FIN; those of its sibling live on, and new ones find a worker."""
    with Server("sockets:app", "-w", "2") as server, contextlib.ExitStack() as stack:
        clients: list[tuple[Client, int]] = []

        def spread() -> bool:
            clients.extend(stack.enter_context(many(server, 40)))
            return all(sum(pid == worker for _, pid in clients) >= 8 for worker in server.workers)

        until(spread, "both have some")
        assert len(clients) <= 120
        victim = min(server.workers)
        os.kill(victim, signal.SIGSTOP)
        for client, pid in clients:
            if pid == victim:
                client.send(text("x" * 200_000))  # more than is taken from the socket
        os.kill(victim, signal.SIGKILL)
        for client, pid in clients:
            if pid == victim:
                assert client.socket.recv(100) == b""  # no ConnectionResetError
            else:
                assert client.send(text("alive")).message() == "alive"
        server.log.take(DIED.format(victim))
        with many(server, 10):
            pass


def test_replaced_workers() -> None:
    """HUP: each WebSocket of the old workers is told 1012 under load, and the new ones serve."""
    with Server("sockets:app", "-w", "2") as server:
        with Echoing(server, 8) as echoing:
            server.main.send_signal(signal.SIGHUP)
        assert [end[0] for end in echoing.ends] == [1012] * 8
        with connect(server) as client:
            assert client.send(text("new")).message() == "new"


def test_what_the_application_hears_of_a_drain() -> None:
    """To the application it is a disconnect with 1012."""
    with Server("sockets:app") as server, connect(server, "/echo?name=drained") as client:
        server.log.take("drained: open\n")
        server.main.send_signal(signal.SIGHUP)
        assert client.closing()[0] == 1012
        client.send(close(1012))
        assert client.rest() == b""
        server.log.take(r"drained: left 1012 [^\n]*\n")


# --- the server ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_clients_that_ignore_a_drain(number: signal.Signals) -> None:
    """A client that does not answer the close frame is closed after the close timeout, and keeps nobody."""
    with Server("sockets:app", "--set", "http.websocket.close_timeout=0.3") as server:
        with connect(server) as client:
            before = server.workers
            server.main.send_signal(number)
            assert client.closing()[0] == 1012
            assert client.rest() == b""
        if number == signal.SIGHUP:
            until(lambda: not set(before) & {process.pid for process in server.living()}, "the old worker has left")


def test_term() -> None:
    """TERM: every WebSocket is told 1012 under load, and the server ends in order."""
    with Server("sockets:app", "-w", "2") as server:
        with Echoing(server, 8) as echoing:
            server.main.send_signal(signal.SIGTERM)
        assert [end[0] for end in echoing.ends] == [1012] * 8
        server.finish()


def test_a_router_that_is_killed() -> None:
    """Its WebSockets end with it, which the log says; the application hears 1006, and the next router serves."""
    with Server("sockets:app", "-w", "2") as server, connect(server, "/echo?name=orphan") as client:
        server.log.take("orphan: open\n")
        old = server.router
        os.kill(old, signal.SIGKILL)
        assert client.ended()
        server.log.take(r"orphan: left 1006 [^\n]*\n")
        assert "connections" in server.log.take(ROUTER_DIED)[0]

        def again() -> bool:
            with contextlib.suppress(BrokenAnswer, OSError), connect(server) as other:
                return other.send(text("new")).message() == "new"
            return False

        until(again, "the next router serves WebSockets")
        assert server.router != old


# --- beside others ------------------------------------------------------------------------------------------


def test_their_own_limit() -> None:
    """Beyond `limits.websockets` a handshake gets 503 and nobody is asked; requests pass, and places are given anew."""
    with Server("sockets:app", "--set", "application.limits.websockets=2") as server:
        with connect(server) as one, connect(server) as two:
            with Client(server.address) as third:
                answer = third.ask("/echo?name=third")
                assert (answer.status, "retry-after" in answer.fields) == (503, True)
            with Wire(server.address) as wire:
                assert wire.get("/page").answer().text == "http GET"
            assert one.send(text("one")).message() == "one"
            two.leave()

            def again() -> bool:
                with Client(server.address) as other:
                    return other.ask("/echo").status == 101

            until(again, "there is room for another one")
        assert "third:" not in server.log.text
        server.log.take(r"[^\n]*'app': \d+ WebSockets refused \(503\): 2 were open, which is limits.websockets\n")


def test_beside_requests() -> None:
    """Thousands of WebSockets keep no request waiting, also more than a worker has requests in flight."""
    settings = ("application.requests_in_flight=10", "application.queue_timeout=5")
    options = [word for one in settings for word in ("--set", one)]
    with Server("sockets:app", *options) as server, many(server, 2000) as clients:
        with Wire(server.address) as wire:
            for _ in range(200):
                assert wire.get("/page").answer().text == "http GET"
        for client, _ in clients[::100]:
            client.send(frame(PING, b"alive"), text("hello"))
            assert client.frame() == Frame(PONG, b"alive")
            assert client.message() == "hello"


def test_keep_alive() -> None:
    """Who is silent is pinged; who does not answer is closed, and who answers stays."""
    settings = ("keepalive_interval=0.4", "read_timeout=3")
    options = [word for one in settings for word in ("--set", f"http.websocket.{one}")]
    with Server("sockets:app", *options) as server:
        with connect(server, "/echo?name=mute") as mute, connect(server) as polite:
            for _ in range(9):
                ping = polite.frame()
                assert ping.opcode == PING
                polite.send(frame(PONG, ping.payload))
            assert mute.past_pings().opcode == CLOSE
            assert polite.send(text("still here")).past_pings() == Frame(TEXT, b"still here")
        server.log.take(r"mute: left \d+ [^\n]*\n")
