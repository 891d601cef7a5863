"""The same WebSockets wherever they are served: tiny memory, unix sockets, gunicorn, a file of settings, the log."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import sys
from pathlib import Path

import pytest

from tests.end_to_end.gunicorn_server import Gunicorn
from tests.end_to_end.server import APPLICATIONS, Server, until
from tests.end_to_end.test_geometry import JUNK, NAMED, TINY, UNSEALED
from tests.end_to_end.websocket.client import Client, connect
from tests.end_to_end.websocket.frames import CLOSE, PING, PONG, Frame, binary, close, frame, text

MIB = 1 << 20


@pytest.mark.parametrize("geometry", [TINY + JUNK, TINY + NAMED, NAMED + JUNK], ids=["tiny", "tiny-named", "named"])
def test_geometry(geometry: tuple[str, ...]) -> None:
    """With shared memory of which every limit is met all the time, messages of any size pass, many at once."""
    options = [word for setting in geometry for word in ("--set", f"memory.{setting}")]
    with Server("sockets:app", "-w", "2", *options) as server:
        clients = [connect(server) for _ in range(20)]
        for size in (0, 1, 63, 64, 255, 256, 257, 511, 513, 5000, 100_000):
            data = random.Random(size).randbytes(size)
            for client in clients:
                client.send(binary(data), frame(PING, b"x"))
            for client in clients:
                answers = {client.frame(), client.frame()} if size < 126 else set()
                if answers:
                    assert answers == {Frame(2, data), Frame(PONG, b"x")}
                else:
                    assert_both(client, data)
        for client in clients[10:]:
            client.cut()
        for client in clients[:10]:
            assert client.leave()[0] == 1000
            client.socket.close()
        if "memfd=false" in geometry:
            server.main.send_signal(signal.SIGTERM)
            server.log.all()
            server.log.rest = re.sub(UNSEALED, "", server.log.rest)


def assert_both(client: Client, data: bytes) -> None:
    """A pong and then, or in front of it, a message in any frames."""
    got = [client.frame(), client.frame()]
    assert sorted(part.opcode for part in got) == [2, PONG]
    assert next(part.payload for part in got if part.opcode == 2) == data


def test_unix_socket(tmp_path: Path) -> None:
    """Over a unix socket: echo, close by either side, a client that vanishes."""
    path = str(tmp_path / "socket")
    with Server("sockets:app", bind=[f"unix:{path}"]) as server:
        with Client(path) as client:
            client.upgrade("/echo?name=unix")
            data = os.urandom(MIB - 100)
            assert client.send(binary(data)).message() == data
            assert client.send(text("and")).message() == "and"  # else send() may still wait, and raise, when we leave
            assert client.leave(4000)[0] == 4000
        server.log.take(r"unix: left 4000 [^\n]*\n")
        with Client(path) as client:
            client.upgrade("/end?code=4001")
            assert client.closing()[0] == 4001
            assert client.send(close(4001)).rest() == b""
        with Client(path) as client:
            client.upgrade("/echo?name=gone")
            server.log.take("gone: open\n")
        server.log.take(r"gone: left 1006 [^\n]*\n")


def test_gunicorn() -> None:
    """`gunicorn -k`: echo, 1012 when the workers are replaced, and when the master ends."""
    with Gunicorn("sockets:app", "-w", "2") as server:
        for number in (signal.SIGHUP, signal.SIGTERM):

            def opens() -> bool:
                with Client(server.address) as probe:
                    return probe.ask("/echo").status == 101

            until(opens, "it serves")
            with connect(server, "/echo?name=gunicorn") as client:
                server.log.take("gunicorn: open\n")
                assert client.send(text("hello")).message() == "hello"
                server.main.send_signal(number)
                assert client.closing()[0] == 1012
                client.send(close(1012))
                assert client.rest() == b""
                server.log.take(r"gunicorn: left 1012 [^\n]*\n")


def test_settings_of_a_file(tmp_path: Path) -> None:
    """Unit's members of `settings.http.websocket`, and ours, and the application's own limit, as a file says them."""
    document = {
        "listeners": {"127.0.0.1:0": {"pass": "applications/one"}},
        "applications": {
            "one": {
                "type": "python",
                "path": str(APPLICATIONS),
                "module": "sockets",
                "callable": "app",
                "limits": {"websockets": 1},
            }
        },
        "settings": {"http": {"websocket": {"max_frame_size": 100, "compression": False, "keepalive_interval": 0.3}}},
    }
    file = tmp_path / "config.json"
    file.write_text(json.dumps(document))
    command = (sys.executable, "-m", "bridge", "serve", str(file))
    with Server("", command=command, app_dir=None, bind=(), ready=False) as server:
        server.log.take(r"one serves[^\n]*\n|serves[^\n]*\n")
        found = re.search(r"127\.0\.0\.1:(\d+)", server.log.text)
        assert found
        server.address = ("127.0.0.1", int(found[1]))
        with connect(server, "/echo", "Sec-WebSocket-Extensions: permessage-deflate") as client:
            assert "sec-websocket-extensions" not in client.answer_to_upgrade.fields
            with Client(server.address) as other:
                assert other.ask("/echo").status == 503
            assert client.frame().opcode == PING
            client.send(binary(bytes(101)))
            last = client.past_pings()
            assert (last.opcode, last.payload[:2]) == (CLOSE, (1009).to_bytes(2, "big"))
            assert client.rest() == b""
        server.log.take(r"[^\n]*'one': 1 WebSockets refused[^\n]*\n")


def test_access_log() -> None:
    """A WebSocket has its line when it is over: status 101, and the bytes that went through it."""
    with Server("sockets:app", "--access-log", "-") as server:
        with connect(server, "/echo?a=1") as client:
            client.send(text("x" * 100)).message()
            assert client.leave()[0] == 1000
        line = server.output.take(r'[^\n]*"GET /echo\?a=1 HTTP/1.1" (\d+) (\d+)[^\n]*\n')
        assert (int(line[1]), int(line[2])) == (101, 102 + 4)
        with Client(server.address) as client:
            client.ask("/refuse")
        assert server.output.take(r'[^\n]*"GET /refuse HTTP/1.1" (\d+) [^\n]*\n')[1] == "403"
