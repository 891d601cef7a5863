"""Behind nginx and HAProxy, with the few lines that their documentation asks for."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.sync.client import connect as library

from tests.end_to_end.server import Server, until
from tests.end_to_end.websocket.client import Client
from tests.end_to_end.websocket.frames import PING, PONG, Frame, binary, frame, text

NGINX = """
daemon off;
master_process off;
pid {place}/pid;
error_log stderr;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
    map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
    server {{
        listen 127.0.0.1:{number};
        location / {{
            proxy_pass {url};
            proxy_http_version 1.1;
            proxy_set_header Host $host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
        }}
    }}
}}
"""
HAPROXY = """
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
    timeout tunnel 1h
    option forwardfor
frontend in
    bind 127.0.0.1:{number}
    default_backend bridge
backend bridge
    server one {host}
"""
PROXIES = {
    "nginx": (NGINX, ["nginx", "-p", "{place}", "-c", "{place}/conf"]),
    "haproxy": (HAPROXY, ["haproxy", "-db", "-f", "{place}/conf"]),
}


def free_number() -> int:
    """A TCP number of the loopback address on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture(scope="module", params=PROXIES)
def proxy(request: pytest.FixtureRequest, server: Server) -> Iterator[tuple[str, int]]:
    """The address of a proxy in front of the server."""
    form, command = PROXIES[request.param]
    where = os.pathsep.join([os.environ["PATH"], "/usr/sbin"])  # not everybody has that on the PATH
    if not (program := shutil.which(command[0], path=where)):
        pytest.skip(f"there is no {command[0]} here (Debian: apt-get install {command[0]})")
    number = free_number()
    with tempfile.TemporaryDirectory() as place:
        host = server.url.removeprefix("http://")
        Path(place, "conf").write_text(form.format(place=place, number=number, url=server.url, host=host))
        words = [program, *(word.format(place=place) for word in command[1:])]
        with Path(place, "log").open("wb") as log, subprocess.Popen(words, stdout=log, stderr=log) as process:
            try:

                def listens() -> bool:
                    assert process.poll() is None, Path(place, "log").read_text()
                    with socket.socket() as probe:
                        return probe.connect_ex(("127.0.0.1", number)) == 0

                until(listens, f"{command[0]} listens")
                yield "127.0.0.1", number
            finally:
                process.terminate()
                process.wait(20)


@pytest.fixture
def client(proxy: tuple[str, int]) -> Iterator[Client]:
    """A connection to the proxy."""
    with Client(proxy) as opened:
        yield opened


def test_messages(client: Client) -> None:
    """Messages and pings pass both ways, short and long."""
    client.upgrade("/echo", "Sec-WebSocket-Protocol: chat")
    assert client.send(text("schön")).message() == "schön"
    assert client.send(frame(PING, b"x")).frame() == Frame(PONG, b"x")
    data = os.urandom(1_000_000)
    assert client.send(binary(data)).message() == data


def test_close(server: Server, client: Client) -> None:
    """A code passes to the application, and the client's connection ends in order."""
    client.upgrade("/echo?name=proxied")
    assert client.leave(4000, "enough")[0] == 4000
    server.log.take(r"proxied: left 4000 'enough'\n")


def test_close_by_the_application(client: Client) -> None:
    """So does the application's own to the client."""
    client.upgrade("/end?code=4001&reason=done")
    assert client.closing() == (4001, "done")


def test_a_client_that_vanishes(server: Server, client: Client) -> None:
    """A client of the proxy that vanishes is noticed."""
    client.upgrade("/echo?name=vanished")
    server.log.take("vanished: open\n")
    client.cut()
    server.log.take(r"vanished: left 1006 [^\n]*\n")


@pytest.mark.parametrize(("path", "status"), [("/refuse", 403), ("/deny", 401)])
def test_refused(client: Client, path: str, status: int) -> None:
    """A refusal passes as the response that it is."""
    assert client.ask(path).status == status


def test_requests_beside(client: Client) -> None:
    """The same proxy passes requests."""
    assert client.get("/page").answer().body == b"http GET"


def test_library(proxy: tuple[str, int]) -> None:
    """A client library, with compression."""
    with library(f"ws://{proxy[0]}:{proxy[1]}/echo", sock=socket.create_connection(proxy)) as client:
        client.send("x" * 100_000)
        assert client.recv() == "x" * 100_000
