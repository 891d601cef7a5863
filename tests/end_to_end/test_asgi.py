"""ASGI as an application sees it, and what a client sees of an application that does wrong."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest

from tests.end_to_end.server import Server
from tests.end_to_end.wire import BrokenAnswer, Wire

#: One record of an exception in the application, from its request line to the exception.
RAISED = r"[^\n]*\[error\] exception in the application: {}\nTraceback[\s\S]*?\n{}\n"
HELLO = b"hello\n"


def test_scope(server: Server, wire: Wire) -> None:
    """The scope tells both addresses, the path as it was sent and as it is meant, and every field in order."""
    answer = wire.get("/sc%6Fpe?a=%20b", "X-Two: 1", "x-two: 2", "Cookie:  a=b; c=d  ").answer()
    scope = json.loads(answer.body)
    greeting = f"left by {server.workers[0]}"
    assert scope == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/scope",
        "raw_path": "/sc%6Fpe",
        "query_string": "a=%20b",
        "root_path": "",
        "headers": [["host", "test"], ["x-two", "1"], ["x-two", "2"], ["cookie", "a=b; c=d"]],
        "client": list(wire.socket.getsockname()),
        "server": list(server.address),
        "state": {"greeting": greeting},
        "extensions": {},
    }


def test_absolute_form(wire: Wire) -> None:
    """A target with scheme and host is routed by its path."""
    scope = json.loads(wire.get("http://test/scope?x").answer().body)
    assert (scope["path"], scope["query_string"]) == ("/scope", "x")


def test_disconnect(server: Server) -> None:
    """A client that leaves while the application works is seen by receive(), then send() raises OSError."""
    with Wire(server.address) as wire:
        wire.post("/listen", b"12345")
        server.log.take("listen: began\n")
    server.log.take("listen: http.disconnect behind 5 bytes\nsend: OSError [A-Za-z]+\n")


def test_reset(server: Server) -> None:
    """A connection that is reset is a client that has left."""
    with Wire(server.address) as wire:
        wire.get("/listen")
        server.log.take("listen: began\n")
        wire.cut()
    server.log.take("listen: http.disconnect behind 0 bytes\nsend: OSError [A-Za-z]+\n")


def test_leaving_during_the_response(server: Server) -> None:
    """An application that only sends hears of it from send(), also when the client reads nothing."""
    with Wire(server.address, receive_buffer=4096) as wire:
        assert wire.get("/talk").head().status == 200
    server.log.take("send: OSError [A-Za-z]+\n")


def test_pipelined_client_leaves(server: Server) -> None:
    """FIN behind pipelined requests ends the one that runs, and the others are never begun."""
    with Wire(server.address) as wire:
        wire.get("/listen").get("/listen").get("/listen")
        server.log.take("listen: began\n")
        wire.finish()
        assert wire.ended()
    server.log.take("listen: http.disconnect behind 0 bytes\nsend: OSError [A-Za-z]+\n")
    with Wire(server.address) as wire:
        assert wire.get("/hello").answer().body == HELLO
    assert "listen: began" not in server.log.rest


def test_exception_before_the_head(server: Server, wire: Wire) -> None:
    """It becomes a 500, with traceback and request line in the log, and the connection goes on."""
    answer = wire.get("/fail?when=before&x=%22").answer()
    assert (answer.status, answer.text) == (500, "Internal Server Error")
    record = server.log.take(RAISED.format("GET /fail.when=before&x=%22 HTTP/1.1", "RuntimeError: on purpose"))
    assert "plain.py" in record[0]
    assert "bridge/worker" not in record[0]
    assert wire.get("/hello").answer().body == HELLO


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_exception_behind_the_head(server: Server, wire: Wire, version: str) -> None:
    """It becomes a broken connection, never an answer that looks whole."""
    wire.get("/fail?when=behind", version=version)
    with pytest.raises((BrokenAnswer, ConnectionResetError)):
        wire.answer()
    server.log.take(RAISED.format(f"GET /fail.when=behind HTTP/{version}", "RuntimeError: on purpose"))


def test_no_answer(server: Server, wire: Wire) -> None:
    """An application that returns without an answer gets its client a 500."""
    assert wire.get("/silent").answer().status == 500
    server.log.take(r"[^\n]*\[error\] the application returned without a response: GET /silent HTTP/1.1\n")


@pytest.mark.parametrize(("said", "sent", "what"), [(5, 9, "is longer than"), (9, 5, "ended 4 bytes short of")])
@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_length(server: Server, wire: Wire, said: int, sent: int, what: str, version: str) -> None:
    """A body that is longer or shorter than its content-length is visibly broken, and raises in the application."""
    wire.get(f"/announce?said={said}&sent={sent}", version=version)
    with pytest.raises((BrokenAnswer, ConnectionResetError)):
        wire.answer()
    server.log.take(RAISED.format("GET /announce[^\n]*", f"RuntimeError: the response body {what} [^\n]*"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x", "a\r\nset-cookie: b=c"),
        ("x", "a\nb"),
        ("x", "a\0b"),
        ("x y", "a"),
        ("x:", "a"),
        ("", "a"),
        ("x\r\ny", "a"),
    ],
)
def test_bad_field(server: Server, wire: Wire, name: str, value: str) -> None:
    """A field that would break the head becomes a 500 and names the culprit in the log."""
    wire.get(f"/field?name={quote(name)}&value={quote(value)}")
    answer = wire.answer()
    assert answer.status == 500
    assert "set-cookie" not in answer.fields
    server.log.take(RAISED.format("GET /field[^\n]*", r"ValueError: [^\n]*"))


@pytest.mark.parametrize("name", ["connection", "keep-alive", "transfer-encoding", "upgrade"])
def test_fields_of_the_connection(wire: Wire, name: str) -> None:
    """The connection is the server's business, whatever the application says of it."""
    answer = wire.get(f"/field?name={name}&value=close").answer()
    assert answer.body == b"field\n"
    assert name not in answer.fields
    assert wire.get("/hello").answer().body == HELLO


def test_date_and_server(wire: Wire) -> None:
    """Date and Server are added, unless the application has set its own."""
    assert {"date", "server"} <= wire.get("/hello").answer().fields.keys()
    assert wire.get("/field?name=server&value=mine").answer().fields["server"] == "mine"


def test_root_path() -> None:
    """--root-path is told to the application and put back in front of the path."""
    with Server("plain:app", "--root-path", "/shop") as server, Wire(server.address) as wire:
        scope = json.loads(wire.get("/scope").answer().body)
        assert (scope["root_path"], scope["path"], scope["raw_path"]) == ("/shop", "/shop/scope", "/shop/scope")


def test_lifespan() -> None:
    """The shutdown is announced after the last request was answered."""
    with Server("plain:app") as server:
        with Wire(server.address) as wire:
            wire.get("/hello").answer()
        server.finish()
        assert server.log.text.count("shut down\n") == 1
