"""The opening handshake of RFC 6455, section 4: what becomes a WebSocket, what is refused, what stays a request."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.end_to_end.server import Server
from tests.end_to_end.websocket.client import KEY, Client, connect, handshake
from tests.end_to_end.websocket.frames import text

USUAL = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": KEY,
}


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    """A connection on which nothing has been asked yet."""
    with Client(server.address) as opened:
        yield opened


def request(*extra: str, line: str = "GET /echo HTTP/1.1", **changes: str | None) -> bytes:
    """The usual handshake with fields that are changed or, with None, left out; "_" stands for "-"."""
    fields = dict(USUAL)
    for name, value in changes.items():
        known = next(key for key in USUAL if key.lower() == name.replace("_", "-"))
        if value is None:
            del fields[known]
        else:
            fields[known] = value
    lines = [f"{name}: {value}" for name, value in fields.items()]
    return "\r\n".join([line, "Host: test", *lines, *extra, "", ""]).encode()


ACCEPTED = {
    "as usual": request(),
    "names in capitals": request(connection="UPGRADE", upgrade="WEBSOCKET"),
    "as Firefox sends it": request(connection="keep-alive, Upgrade"),
    "without a blank": request(connection="keep-alive,Upgrade"),
    "several Connection lines": request("Connection: Upgrade", connection="keep-alive"),
    "several protocols": request(upgrade="h2c, websocket"),
    "several Upgrade lines": request("Upgrade: websocket", upgrade="h2c"),
    "blanks around": request(sec_websocket_version="  13  ", sec_websocket_key=f"  {KEY} "),
    "a length of nothing": request("Content-Length: 0"),
}


@pytest.mark.parametrize("asked", ACCEPTED.values(), ids=ACCEPTED)
def test_accepted(client: Client, asked: bytes) -> None:
    """Whatever RFC 6455 takes for a handshake opens a WebSocket."""
    client.send(asked)
    client.check_upgrade(client.head())
    assert client.send(text("hello")).message() == "hello"


ORDINARY = {
    "another method": (request(line="POST /echo HTTP/1.1"), b"http POST"),
    "HTTP/1.0": (request(line="GET /echo HTTP/1.0"), b"http GET"),
    "another protocol": (request(upgrade="h2c"), b"http GET"),
    "no Upgrade": (request(upgrade=None), b"http GET"),
    "no Connection": (request(connection=None), b"http GET"),
    "Connection without it": (request(connection="keep-alive"), b"http GET"),
    "a word that begins so": (request(connection="upgrades", upgrade="websockets"), b"http GET"),
    "a version behind it": (request(upgrade="websocket/13"), b"http GET"),
    "a body": (request("Content-Length: 3") + b"abc", b"http GET"),
    "a body in transfer chunks": (request("Transfer-Encoding: chunked") + b"0\r\n\r\n", b"http GET"),
}


@pytest.mark.parametrize(("asked", "answer"), ORDINARY.values(), ids=ORDINARY)
def test_ordinary(client: Client, asked: bytes, answer: bytes) -> None:
    """Anything else is an ordinary request, to which the application answers."""
    found = client.send(asked).answer()
    assert (found.status, found.body) == (200, answer)


@pytest.mark.parametrize("version", ["12", "8", "0", "14", "013", "13, 8", "x", "", None])
def test_version(client: Client, version: str | None) -> None:
    """Another version than 13 gets 426 with the one that is spoken, and no application is asked (4.2.2, 4.4)."""
    answer = client.send(request(sec_websocket_version=version)).answer()
    assert (answer.status, answer.fields["sec-websocket-version"]) == (426, "13")
    assert answer.fields["upgrade"].lower() == "websocket"
    assert {"upgrade", "close"} & set(answer.fields["connection"].lower().split(", "))
    assert client.ended()


BAD_KEYS = {
    "missing": request(sec_websocket_key=None),
    "empty": request(sec_websocket_key=""),
    "15 bytes": request(sec_websocket_key="dGhlIHNhbXBsZSBub25j"),
    "17 bytes": request(sec_websocket_key="dGhlIHNhbXBsZSBub25jZTE="),
    "no base64": request(sec_websocket_key="dGhlIHNhbXBsZSBub25j!!=="),
    "unpadded": request(sec_websocket_key="dGhlIHNhbXBsZSBub25jZQ"),
    "twice": request(f"Sec-WebSocket-Key: {KEY}"),
}


@pytest.mark.parametrize("asked", BAD_KEYS.values(), ids=BAD_KEYS)
def test_key(client: Client, asked: bytes) -> None:
    """A key that is not 16 bytes in base64, once, gets 400, and no application is asked."""
    answer = client.send(asked).answer()
    assert (answer.status, answer.fields["connection"]) == (400, "close")
    assert client.ended()


def test_malformed_head(client: Client) -> None:
    """A handshake is judged as every request is."""
    assert client.send(request("Host: other")).answer().status == 400
    assert client.ended()


def test_behind_the_handshake(client: Client) -> None:
    """What comes in one piece with the handshake is not lost and not taken for a request."""
    messages = [f"message {number}" for number in range(100)]
    client.send(request(), *map(text, messages))
    client.check_upgrade(client.head())
    assert [client.message() for _ in messages] == messages


def test_much_behind_the_handshake(client: Client) -> None:
    """That holds for more than a socket is read for at once."""
    messages = ["x" * 60_000, "y" * 60_000, "z" * 60_000]
    client.send(request(), *map(text, messages))
    client.check_upgrade(client.head())
    assert [client.message() for _ in messages] == messages


def test_byte_by_byte(client: Client) -> None:
    """The handshake may arrive in any pieces, and so may the first message."""
    client.trickle(request() + text("hello"))
    client.check_upgrade(client.head())
    assert client.message() == "hello"


def test_behind_requests(client: Client) -> None:
    """A connection that has served requests becomes a WebSocket, also one that sent them all at once."""
    client.get("/page").get("/page").send(request(), text("hello"))
    assert [client.answer().body for _ in range(2)] == [b"http GET", b"http GET"]
    client.check_upgrade(client.head())
    assert client.message() == "hello"


def test_scope(server: Server) -> None:
    """The application sees path, query, fields and addresses as for a request, and schemes of its own."""
    fields = ["Sec-WebSocket-Protocol: one, two", "Sec-WebSocket-Protocol: three", "X-Own: é"]
    with connect(server, "/scope?a=%20b", *fields) as client:
        scope = json.loads(client.message())
        assert (scope["type"], scope["scheme"], scope["http_version"]) == ("websocket", "ws", "1.1")
        assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/scope", "/scope", "a=%20b")
        assert scope["subprotocols"] == ["one", "two", "three"]
        assert scope["server"] == list(server.address)
        assert scope["client"] == list(client.socket.getsockname())
        assert ["upgrade", "websocket"] in scope["headers"]
        assert dict(scope["headers"])["x-own"].encode("latin-1").decode() == "é"
        assert "websocket.http.response" in scope["extensions"]
        assert "method" not in scope
        assert client.leave() == (1000, "")


def test_scope_behind_a_proxy(server: Server) -> None:
    """A proxy that is believed says who the client is and that it came by TLS."""
    with connect(server, "/scope", "X-Forwarded-Proto: https", "X-Forwarded-For: 192.0.2.7") as client:
        scope = json.loads(client.message())
        assert (scope["scheme"], scope["client"][0]) == ("wss", "192.0.2.7")


def test_subprotocol(server: Server) -> None:
    """The subprotocol that the application takes is told to the client; none is told if it takes none."""
    offer = "Sec-WebSocket-Protocol: chat.v2, chat"
    with connect(server, "/echo?choose=1", offer) as client:
        assert client.answer_to_upgrade.fields["sec-websocket-protocol"] == "chat.v2"
    with connect(server, "/echo", offer) as client:
        assert "sec-websocket-protocol" not in client.answer_to_upgrade.fields


def test_own_fields(server: Server) -> None:
    """The application's header fields are in the answer, also several of one name."""
    with connect(server, "/fields") as client:
        found = client.answer_to_upgrade.fields
        assert (found["set-cookie"], found["x-own"]) == ("a=1, b=2", "yes")


def test_fields_of_the_connection(server: Server) -> None:
    """Fields of the connection are the server's: what the application says of it is dropped, as in every response."""
    with connect(server, "/fields?bad=upgrade") as client:
        assert client.answer_to_upgrade.fields["upgrade"] == "websocket"


@pytest.mark.parametrize("name", ["sec-websocket-accept", "a b", "x:y", "x\r\ny"])
def test_fields_that_are_not_its_own(server: Server, client: Client, name: str) -> None:
    """An application that sets the server's fields, or fields that are none, gets an exception and the client a 500."""
    quoted = name.replace(" ", "%20").replace("\r", "%0d").replace("\n", "%0a")
    assert client.ask(f"/fields?name=hers&bad={quoted}").status == 500
    server.log.take(r"hers: \w+Error\n")
    server.log.take(r"[^\n]*\[error\][^\n]*/fields[^\n]*\nTraceback[\s\S]*?\n\w+Error: [^\n]*\n")


def test_refused(server: Server, client: Client) -> None:
    """An application that closes before it has accepted refuses with 403, and the connection ends."""
    answer = client.send(handshake("/refuse?name=refused")).answer()
    assert (answer.status, answer.fields["connection"]) == (403, "close")
    assert client.ended()
    server.log.take(r"refused: left \d+ [^\n]*\n")


def test_denied(client: Client) -> None:
    """An application may answer with a response of its own, and the connection ends."""
    answer = client.send(handshake("/deny"), text("ignored")).answer()
    assert (answer.status, answer.body) == (401, b"not you\n")
    assert (answer.fields["content-type"], answer.fields["x-own"]) == ("text/plain", "yes")
    assert answer.fields["connection"] == "close"
    assert client.ended()


def test_raised(server: Server, client: Client) -> None:
    """An application that raises before it has accepted is a 500, and its traceback is in the log."""
    assert client.send(handshake("/fail")).answer().status == 500
    assert client.ended()
    server.log.take(r"[^\n]*\[error\][^\n]*/fail[^\n]*\nTraceback[\s\S]*?\nRuntimeError: on purpose\n")


def test_not_answered(server: Server, client: Client) -> None:
    """An application that returns without a word is one that has failed."""
    assert client.send(handshake("/silent")).answer().status == 500
    assert client.ended()
    server.log.take(r"[^\n]*\[error\][^\n]*/silent[^\n]*\n")


def test_wsgi() -> None:
    """For a WSGI application there are no WebSockets: it answers the request, and the connection stays."""
    with Server("wsgi_plain:app", "--interface", "wsgi") as server, Client(server.address) as client:
        for _ in range(2):
            assert client.send(request(line="GET /hello HTTP/1.1")).answer().body == b"hello\n"
        assert client.get("/hello").answer().body == b"hello\n"
