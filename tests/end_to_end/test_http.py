"""HTTP as a client sees it: framing, order, and what becomes of the connection."""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.end_to_end.server import Server
from tests.end_to_end.wire import BrokenAnswer, Wire

CHUNKED = "Transfer-Encoding: chunked"


def test_keep_alive(wire: Wire) -> None:
    """One connection serves one request after the other, from one client's TCP number."""
    clients = [json.loads(wire.get("/scope").answer().body)["client"] for _ in range(3)]
    assert clients[0] == clients[1] == clients[2]


def test_close_is_honoured(wire: Wire) -> None:
    """Connection: close is answered, repeated, and followed by the end."""
    assert wire.get("/hello", "Connection: close").answer().fields["connection"] == "close"
    assert wire.ended()


def test_pipelining(wire: Wire) -> None:
    """Requests that are sent at once are answered in order, also with bodies of every kind between them."""
    wire.send(
        b"GET /hello HTTP/1.1\r\nHost: t\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nfirst",
        b"POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nsec\r\n3;x=y\r\nond\r\n0\r\n\r\n",
        b"HEAD /hello HTTP/1.1\r\nHost: t\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 200000\r\n\r\n",
        b"z" * 200000,
        b"GET /hello HTTP/1.1\r\nHost: t\r\n\r\n",
    )
    assert wire.answer().body == b"hello\n"
    assert wire.answer().body == b"first"
    assert wire.answer().body == b"second"
    assert wire.answer(bodiless=True).fields["content-length"] == "6"
    assert wire.answer().body == b"z" * 200000
    assert wire.answer().body == b"hello\n"


def test_slow_answer_first(server: Server, wire: Wire) -> None:
    """An answer that takes its time is not overtaken by the one behind it."""
    wire.get("/hold?gate=order").get("/hello")
    server.log.take(r"hold at order in \d+\n")
    server.open("order")
    assert wire.answer().text.startswith("held")
    assert wire.answer().text == "hello\n"


def test_http_1_0(server: Server) -> None:
    """HTTP/1.0 gets no transfer coding and a closed connection, unless it asks for keep-alive."""
    with Wire(server.address) as wire:
        answer = wire.get("/pieces?count=2", version="1.0").answer()
        assert answer.body == b"piece 0\npiece 1\n"
        assert "transfer-encoding" not in answer.fields
    with Wire(server.address) as wire:
        assert wire.get("/hello", "Connection: keep-alive", version="1.0").answer().fields["connection"] == "keep-alive"
        assert wire.get("/hello", version="1.0").answer().body == b"hello\n"
        assert wire.ended()


def test_head(wire: Wire) -> None:
    """HEAD gets the fields of GET and no body, and the connection goes on."""
    expected = wire.get("/hello").answer().fields
    answered = wire.get("/hello", method="HEAD").answer(bodiless=True).fields
    assert answered.keys() == expected.keys()
    assert answered["content-length"] == expected["content-length"]
    assert wire.get("/hello").answer().body == b"hello\n"


@pytest.mark.parametrize("code", [204, 304])
def test_bodiless_status(wire: Wire, code: int) -> None:
    """204 and 304 have neither body nor framing, and the connection goes on."""
    answer = wire.get(f"/status?code={code}").answer()
    assert answer.status == code
    assert not {"content-length", "transfer-encoding"} & answer.fields.keys()
    assert wire.get("/hello").answer().body == b"hello\n"


def test_chunked_both_ways(wire: Wire) -> None:
    """A transfer-chunked request is decoded, and a response without a length is chunked piece by piece."""
    wire.send(f"POST /mirror HTTP/1.1\r\nHost: t\r\n{CHUNKED}\r\n\r\n".encode())
    assert wire.head().fields["transfer-encoding"] == "chunked"
    for piece in (b"one", b"two" * 20000):
        wire.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        got = b""
        while len(got) < len(piece):
            got += wire.chunk()
        assert got == piece
    wire.send(b"0\r\nTrailer: ignored\r\n\r\n")
    assert wire.chunk() == b""
    assert wire.get("/hello").answer().body == b"hello\n"


def test_continue(wire: Wire) -> None:
    """A client that waits is told to go on once the application reads."""
    wire.send(b"POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
    assert wire.head().status == 100
    assert wire.send(b"body").answer().body == b"body"


def test_continue_not_needed(wire: Wire) -> None:
    """An application that does not read answers at once, without 100, and the connection ends."""
    wire.send(b"POST /refuse HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
    answer = wire.answer()
    assert (answer.status, answer.fields["connection"]) == (403, "close")
    assert wire.ended()


def test_upgrade_ignored(wire: Wire) -> None:
    """A request for another protocol is an ordinary request, its body framed as always."""
    wire.post("/echo", b"GET /hello", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
    assert wire.answer().body == b"GET /hello"
    assert wire.get("/hello", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c").answer().body == b"hello\n"
    assert wire.get("/hello").answer().body == b"hello\n"


@pytest.mark.parametrize(
    "request_",
    [
        b"nonsense\r\n\r\n",
        b"GET /hello\r\n\r\n",
        b"GET /hello HTTP/1.1\r\n\r\n",
        b"GET /hello HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /hello HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET /hello HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
        b"GET /hello HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
        b"GET /hello HTTP/1.1\nHost: a\n\n",
        b"GET  /hello HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
def test_malformed(wire: Wire, request_: bytes) -> None:
    """What is no request gets 400 and the end of the connection."""
    answer = wire.send(request_).answer()
    assert (answer.status, answer.fields["connection"]) == (400, "close")
    assert wire.ended()


#: Framing that two parsers could read differently; behind each a request is smuggled that must never be answered.
SMUGGLERS = [
    b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    b"Content-Length: 0\r\nContent-Length: 5\r\n\r\n",
    b"Content-Length: 0, 0\r\n\r\n",
    b"Content-Length: +0\r\n\r\n",
    b"Content-Length: 0x0\r\n\r\n",
    b"Content_Length: 99\r\n\r\n",
    b"Transfer_Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n0 \r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n-0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n0\n\n",
    b"Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 9\r\n\r\n",
    b"Content-Length:\r\n\r\n",
]


@pytest.mark.parametrize("framing", SMUGGLERS, ids=lambda value: value.split(b"\r\n\r\n")[0].decode())
def test_smuggling(wire: Wire, framing: bytes) -> None:
    """Ambiguous framing gets one refusal and the end of the connection; what stands behind it is never answered."""
    head = b"POST /echo HTTP/1.1\r\nHost: t\r\n" + framing
    wire.send(head, b"GET /hello HTTP/1.1\r\nHost: t\r\n\r\n")
    answered = b""
    try:
        answered = wire.receive()
        answered += wire.rest()
    except ConnectionResetError:
        pass
    assert answered.count(b"HTTP/1.1 ") == 1
    assert answered.startswith((b"HTTP/1.1 400", b"HTTP/1.1 501"))
    assert b"hello" not in answered


def test_chunked_on_1_0(wire: Wire) -> None:
    """HTTP/1.0 knows no transfer coding, so a request that has one is refused."""
    wire.send(f"POST /echo HTTP/1.0\r\nHost: t\r\n{CHUNKED}\r\n\r\n0\r\n\r\nGET /hello HTTP/1.0\r\n\r\n".encode())
    assert wire.answer().status == 400
    assert wire.ended()


def test_request_in_body(wire: Wire) -> None:
    """A body that looks like a request is a body: it is echoed, not answered."""
    smuggled = b"GET /pid HTTP/1.1\r\nHost: t\r\n\r\n"
    assert wire.post("/echo", smuggled).answer().body == smuggled
    wire.send(f"POST /echo HTTP/1.1\r\nHost: t\r\n{CHUNKED}\r\n\r\n".encode())
    wire.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(smuggled), smuggled))
    assert wire.answer().body == smuggled
    assert wire.get("/hello").answer().body == b"hello\n"


def test_unread_body(wire: Wire) -> None:
    """The body of a request that was answered without a look at it is not taken for the next request."""
    wire.post("/refuse", b"GET /pid HTTP/1.1\r\nHost: t\r\n\r\n" * 100)
    assert wire.answer().status == 403
    assert wire.get("/hello").answer().body == b"hello\n"


def test_byte_by_byte(wire: Wire) -> None:
    """A request may arrive in any pieces."""
    wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in b"POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n":
        wire.send(bytes([byte]))
    assert wire.answer().body == b"body"


def test_events(server: Server, wire: Wire) -> None:
    """Each server-sent event is there before the next one is made, and the application hears when the client leaves."""
    assert wire.get("/events").head().fields["content-type"] == "text/event-stream"
    with Wire(server.address) as other:
        for number in range(3):
            other.get(f"/tick?text={number}").answer()
            assert wire.chunk() == f"data: {number}\n\n".encode()
    wire.socket.close()
    server.log.take("events: the client left\n")


def test_httpx(server: Server) -> None:
    """A client library reads what it sends, over connections that it keeps."""
    with httpx.Client(base_url=server.url, trust_env=False) as client:
        body = bytes(range(256)) * 4096
        assert client.post("/echo", content=body).content == body
        assert client.post("/mirror", content=iter([b"a" * 70000, b"b"])).content == b"a" * 70000 + b"b"
        assert client.get("/pieces", params={"count": 3}).text == "piece 0\npiece 1\npiece 2\n"
        assert client.head("/hello").status_code == 200


def test_curl(server: Server, tmp_path: Path) -> None:
    """Curl uploads a large file, with the Expect that it adds by itself, and gets it back."""
    file = tmp_path / "upload"
    file.write_bytes(bytes(range(256)) * 8192)
    command = ["curl", "-sS", "--fail", "--max-time", "40", "--data-binary", f"@{file}", f"{server.url}/mirror"]
    result = subprocess.run([*command, "-H", "Expect: 100-continue"], capture_output=True, check=True)
    assert result.stdout == file.read_bytes()


def test_ipv6() -> None:
    """An IPv6 address is listened on, and shown in brackets."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")
    with Server("plain:app", bind=["[::1]:0"]) as server:
        assert server.url.startswith("http://[::1]:")
        with Wire(server.address) as wire:
            assert json.loads(wire.get("/scope").answer().body)["server"] == ["::1", server.address[1]]


def test_broken_upload(server: Server) -> None:
    """A client that leaves inside its body disturbs nobody."""
    with Wire(server.address) as wire:
        wire.send(b"POST /listen HTTP/1.1\r\nHost: t\r\nContent-Length: 100\r\n\r\nabc")
        server.log.take("listen: began\n")
        wire.finish()
        with pytest.raises(BrokenAnswer):
            wire.answer()
    server.log.take(r"listen: http.disconnect behind \d+ bytes\n")
    server.log.take("send: OSError [A-Za-z]+\n")
