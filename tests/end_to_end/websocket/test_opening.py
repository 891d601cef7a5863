"""Between the handshake and its answer: who leaves, who dies, and which deadlines of requests end with it."""

from __future__ import annotations

import contextlib
import os
import signal

import pytest

from tests.end_to_end.server import Server, until
from tests.end_to_end.websocket.client import Client, connect, handshake
from tests.end_to_end.websocket.frames import PING, PONG, TEXT, Frame, frame, text
from tests.end_to_end.wire import Wire


def held(server: Server, client: Client, gate: str) -> int:
    """Have a handshake wait at a gate; returns the worker's process id."""
    client.send(handshake(f"/hold?gate={gate}&name=hold"))
    return int(server.log.take(r"hold: asked in (\d+)\n")[1])


@pytest.mark.parametrize("rude", [False, True], ids=["FIN", "RST"])
def test_a_client_that_gives_up(server: Server, *, rude: bool) -> None:
    """The application hears 1006, and accepting is an OSError that is no error in the log."""
    with Client(server.address) as client:
        client.send(handshake("/doubt?name=doubt"))
        server.log.take("doubt: doubts\n")
        if rude:
            client.cut()
    server.log.take(r"doubt: left 1006 [^\n]*\ndoubt: accept: OSError\n")


def test_what_comes_before_the_answer(server: Server) -> None:
    """Frames that a client sends before it was accepted are heard once it is."""
    with Client(server.address) as client:
        held(server, client, "early")
        client.send(*(text(f"message {number}") for number in range(20)))
        server.open("early")
        client.check_upgrade(client.head())
        assert [client.message() for _ in range(20)] == [f"message {number}" for number in range(20)]


def test_more_than_is_kept_before_the_answer(server: Server) -> None:
    """A client that does not wait is not read without end; nothing that it has sent is lost."""
    with Client(server.address) as client:
        held(server, client, "flooded")
        message = "x" * 60_000
        data, sent = text(message) * 500, 0
        client.socket.settimeout(0.5)
        with contextlib.suppress(TimeoutError):
            while sent < len(data):
                sent += client.socket.send(data[sent:])
        assert sent < len(data)
        client.socket.settimeout(20)
        server.open("flooded")
        client.check_upgrade(client.head())
        whole = sent // len(text(message))
        assert all(client.message() == message for _ in range(whole))


def test_a_worker_that_dies_first() -> None:
    """The handshake gets 502, the connection ends, and the next worker takes the next one."""
    with Server("sockets:app") as server, Client(server.address) as client:
        victim = held(server, client, "never")
        os.kill(victim, signal.SIGKILL)
        assert client.answer().status == 502
        assert client.ended()
        server.log.take(rf"[^\n]*\[error\] worker \d+ \(pid {victim}\) ended: signal SIGKILL\n")
        with connect(server) as other:
            assert other.send(text("hello")).message() == "hello"


def test_deadlines() -> None:
    """`run_timeout` ends a handshake that is not answered with 504, and no WebSocket that is open."""
    settings = [f"application.limits.{one}" for one in ("run_timeout=2", "timeout=2", "cancel_grace=0.1")]
    settings += [f"http.{one}" for one in ("header_read_timeout=2", "body_read_timeout=2", "idle_timeout=2")]
    settings += [f"http.websocket.{one}" for one in ("keepalive_interval=0.5", "read_timeout=20")]
    with Server("sockets:app", *(word for one in settings for word in ("--set", one))) as server:
        with connect(server) as client:
            with Client(server.address) as slow:
                held(server, slow, "never")
                assert slow.answer().status == 504
                assert slow.ended()
            for _ in range(3):
                ping = client.frame()
                assert ping.opcode == PING
                client.send(frame(PONG, ping.payload))
            assert client.send(text("still here")).past_pings() == Frame(TEXT, b"still here")
        server.log.take(r"[^\n]*\[warning\] [^\n]*\(504\)[^\n]*\n")


def test_no_worker() -> None:
    """A handshake waits for a worker as a request does, and gets 503 when none comes in time."""
    with Server("sockets:app", "--set", "application.queue_timeout=0.5") as server, Client(server.address) as client:
        (worker,) = server.workers
        os.kill(worker, signal.SIGSTOP)
        client.send(handshake("/echo"))
        answer = client.answer()
        assert (answer.status, answer.fields["retry-after"], answer.fields["connection"]) == (503, "1", "close")
        os.kill(worker, signal.SIGCONT)
        server.log.take(r"[^\n]*\[warning\] [^\n]*no worker took them in time[^\n]*\n")


def test_places_of_those_that_were_not_opened() -> None:
    """Who was refused, denied, or has left before the answer, takes no place of `limits.websockets`."""
    with Server("sockets:app", "--set", "application.limits.websockets=1") as server:
        for path, status in (("/refuse", 403), ("/deny", 401), ("/silent", 500)):
            with Client(server.address) as client:
                assert client.send(handshake(path)).answer().status == status
                assert client.ended()
        server.log.take(r"[^\n]*\[error\][^\n]*/silent[^\n]*\n")
        with Client(server.address) as client:
            client.send(handshake("/doubt?name=doubt"))
            server.log.take("doubt: doubts\n")
        server.log.take(r"doubt: left 1006 [^\n]*\ndoubt: accept: OSError\n")

        def opens() -> bool:
            with Client(server.address) as other:
                return other.ask("/echo").status == 101

        until(opens, "the place is free")
        with Wire(server.address) as wire:
            assert wire.get("/page").answer().text == "http GET"
