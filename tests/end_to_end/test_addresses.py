"""Where requests come from: unix sockets, proxies in front, and what the access log says of it."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.server import Server, until
from tests.end_to_end.wire import Wire

FORWARDED = ("X-Forwarded-For: 203.0.113.7, 198.51.100.9", "X-Forwarded-Proto: https")
LINE = re.compile(r'(\S+) - - \[\d\d/\w{3}/\d{4}:[\d:]{8} [+-]\d{4}\] "([^"]*)" (\d+) (\d+) "([^"]*)" "([^"]*)"')


def seen(wire: Wire, *fields: str) -> dict[str, Any]:
    """The scope of a request with these fields."""
    scope: dict[str, Any] = json.loads(wire.get("/scope", *fields).answer().body)
    return scope


def test_unix_socket(tmp_path: Path) -> None:
    """A unix socket is served beside a TCP address, has no client, and its file goes with the server."""
    path = str(tmp_path / "socket")
    with Server("plain:app", bind=[f"unix:{path}", "127.0.0.1:0"]) as server:
        assert f"unix:{path}" in server.url
        with Wire(path) as wire, Wire(server.address) as other:
            scope = seen(wire, *FORWARDED)
            assert (scope["client"], scope["server"], scope["scheme"]) == (None, [path, None], "http")
            assert seen(other)["server"] == ["127.0.0.1", server.address[1]]
    assert not os.path.exists(path)


def test_unix_proxy(tmp_path: Path) -> None:
    """A proxy on a unix socket is believed if the operator says so."""
    path = str(tmp_path / "socket")
    with Server("plain:app", "--forwarded-allow-ips", "unix", bind=[f"unix:{path}"]), Wire(path) as wire:
        assert seen(wire, *FORWARDED)["client"] == ["198.51.100.9", 0]


def test_trusted_proxy(wire: Wire) -> None:
    """The last address that a trusted proxy names is the client, and its scheme is the request's."""
    scope = seen(wire, *FORWARDED)
    assert (scope["client"], scope["scheme"]) == (["198.51.100.9", 0], "https")
    assert seen(wire)["scheme"] == "http"


def test_chain_of_proxies() -> None:
    """Trusted addresses in the list are passed over, from the right."""
    with (
        Server("plain:app", "--forwarded-allow-ips", "127.0.0.1, 198.51.100.0/24") as server,
        Wire(server.address) as wire,
    ):
        assert seen(wire, *FORWARDED)["client"] == ["203.0.113.7", 0]


def test_untrusted_proxy() -> None:
    """Nobody else is believed."""
    with Server("plain:app", "--forwarded-allow-ips", "192.0.2.1") as server, Wire(server.address) as wire:
        scope = seen(wire, *FORWARDED)
        assert (scope["client"][0], scope["scheme"]) == ("127.0.0.1", "http")
        assert ["x-forwarded-proto", "https"] in scope["headers"]


def test_trusted_by_environment() -> None:
    """FORWARDED_ALLOW_IPS is the default of the option."""
    with Server("plain:app", environment={"FORWARDED_ALLOW_IPS": "192.0.2.1"}) as server, Wire(server.address) as wire:
        assert seen(wire, *FORWARDED)["client"][0] == "127.0.0.1"


def test_access_log_file(tmp_path: Path) -> None:
    """A file gets one line for each request: answered, refused, and 499 for a client that left."""
    file = tmp_path / "access.log"
    with Server("plain:app", "--access-log", str(file)) as server:
        with Wire(server.address) as wire:
            wire.get('/hello?"', "Referer: http://a/", "User-Agent: probe").answer()
            wire.get("/pieces?count=2", "X-Forwarded-For: 203.0.113.7").answer()
            assert wire.get("/hello", method="HEAD").answer(bodiless=True).status == 200
            assert wire.send(b"nonsense\r\n\r\n").answer().status == 400
        with Wire(server.address) as wire:
            wire.send(b"POST /listen HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
            server.log.take("listen: began\n")
            assert wire.send(b"nonsense\r\n").answer().status == 400
            server.log.take("listen: http.disconnect behind 3 bytes\nsend: OSError [A-Za-z]+\n")
        with Wire(server.address) as wire:
            wire.get("/listen")
            server.log.take("listen: began\n")
        server.log.take("listen: http.disconnect behind 0 bytes\nsend: OSError [A-Za-z]+\n")
    lines = [found.groups() for line in file.read_text().splitlines() if (found := LINE.fullmatch(line))]
    assert lines == [
        ("127.0.0.1", r"GET /hello?\x22 HTTP/1.1", "200", "6", "http://a/", "probe"),
        ("203.0.113.7", "GET /pieces?count=2 HTTP/1.1", "200", "16", "-", "-"),
        ("127.0.0.1", "HEAD /hello HTTP/1.1", "200", "0", "-", "-"),
        ("127.0.0.1", "nonsense", "400", "0", "-", "-"),
        ("127.0.0.1", "POST /listen HTTP/1.1", "400", "0", "-", "-"),
        ("127.0.0.1", "GET /listen HTTP/1.1", "499", "0", "-", "-"),
    ]


def test_access_log_reopened(tmp_path: Path) -> None:
    """USR1 to main opens the file anew, after it was moved away."""
    file = tmp_path / "access.log"
    with Server("plain:app", "--access-log", str(file)) as server, Wire(server.address) as wire:
        wire.get("/hello?before").answer()
        until(lambda: "before" in file.read_text(), "the first line is written")
        file.rename(tmp_path / "rotated")
        server.main.send_signal(10)
        until(file.exists, "there is a new file")
        wire.get("/hello?behind").answer()
        until(lambda: "behind" in file.read_text(), "the second line is written")
    assert "behind" not in (tmp_path / "rotated").read_text()


def test_access_log_standard_output() -> None:
    """The name "-" is standard output."""
    with Server("plain:app", "--access-log", "-") as server, Wire(server.address) as wire:
        wire.get("/hello").answer()
        server.output.take(r'127\.0\.0\.1 - - \[[^]]+\] "GET /hello HTTP/1\.1" 200 6 "-" "-"\n')


def test_no_access_log(server: Server, wire: Wire) -> None:
    """Unless asked for there is none."""
    wire.get("/hello").answer()
    assert server.output.text == ""


@pytest.mark.parametrize("place", ["/nowhere/access.log", "/"])
def test_access_log_impossible(place: str) -> None:
    """It is a wrong option: one line, nothing is started, status 2."""
    with Server("plain:app", "--access-log", place, ready=False) as server:
        server.status = 2
        server.main.wait(20)
        assert server.log.all().startswith(f"bridged: --access-log: cannot open '{place}': ")
        assert server.log.all().count("\n") == 1
