"""Heads that repeat the field lines of the one before mean what they would mean on a connection of their own."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from bridge.config import Http
from bridge.router.framing import PLAIN, Framing, fields_of, repeats
from tests.router.fakes import Client, FakeService

HEADS = (
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /a?b=1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"POST /form HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.1\r\nContent-Length: 2\r\n\r\n",
    b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
)
BODIES = {b"Content-Length": b"ab", b"chunked": b"2\r\nab\r\n0\r\n\r\n"}
PARTS = (
    b"\r\n",
    b"\n",
    b" ",
    b"\t",
    b"\0",
    b"#",
    b"?",
    b"//",
    b":",
    b"HTTP/1.0",
    b"HEAD",
    b"CONNECT",
    b"X: y\r\n",
    b"\xff",
    b"%",
)


def body_of(head: bytes) -> bytes:
    """Bytes that complete the request of one of HEADS."""
    return next((body for mark, body in BODIES.items() if mark in head), b"")


def outcome(client: Client, request: bytes) -> tuple[object, ...]:
    """What became of one request more."""
    before, seen = len(client.received), len(client.service.exchanges)
    client.send(request)
    new = client.service.exchanges[seen:]
    begun = [(item.head, item.framing, bytes(item.body), item.complete) for item in new]
    return begun, client.received[before:], client.transport.closing, client.service.refusals


def mutated(head: bytes, chance: random.Random) -> bytes:
    """The head with one to three changes, most of them in its first line."""
    text = bytearray(head)
    for _ in range(chance.randint(1, 3)):
        end = text.find(b"\r\n") + 2 if chance.random() < 0.7 else len(text)
        at = chance.randrange(max(end, 1))
        if chance.random() < 0.5:
            text[at:at] = chance.choice(PARTS)
        else:
            text[at : at + chance.randint(0, 3)] = chance.choice((b"", bytes([chance.randrange(256)])))
    return bytes(text)


@pytest.mark.parametrize("head", HEADS)
def test_second_head_means_what_it_means_alone(head: bytes) -> None:
    """Behind a good request, any head is understood, refused or waited for just as on a fresh connection."""
    chance = random.Random(head)
    for _ in range(400):
        request = mutated(head, chance) + body_of(head)
        used = Client(FakeService())
        used.send(head + body_of(head))
        if used.transport.closing:
            return  # the first request was the last of its connection
        assert outcome(used, request) == outcome(Client(FakeService()), request), request


def test_only_the_path_differs() -> None:
    """The usual case is one: another path, other methods, the same fields."""
    fields = fields_of(HEADS[0], PLAIN, Http())
    limits = FakeService().http
    assert repeats(b"GET /other?x=1 HTTP/1.1\r\nHost: a\r\n\r\n", fields, limits)
    assert repeats(b"DELETE /other HTTP/1.1\r\nHost: a\r\n\r\n", fields, limits)


@pytest.mark.parametrize(
    "head",
    [
        b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.0\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: y\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: y\nHost: a\r\n\r\n",
        b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: b\r\n\r\n",
        b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"Host: a\r\n\r\n",
    ],
)
def test_anything_else_is_looked_at(head: bytes) -> None:
    """A line or a field that the first head did not have, or another meaning of the same: no repetition."""
    assert not repeats(head, fields_of(HEADS[0], PLAIN, Http()), FakeService().http)


def test_fields_that_are_not_remembered() -> None:
    """HEAD and version 1.0 give the same fields another meaning, so nothing is concluded from them."""
    assert fields_of(HEADS[5], Framing(is_head=True), Http()) == b""
    assert fields_of(HEADS[5], PLAIN, Http(max_request_line=100)) == b""
    assert fields_of(HEADS[6], Framing(minor=0), Http()) == b""


def test_the_corpus_has_no_repetition_that_is_refused() -> None:
    """No request that has to be refused passes as the repetition of its own fields."""
    for path in sorted(Path(__file__).parents[1].glob("http/invalid/*")):
        head = path.read_bytes().partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
        fields = head.partition(b"\r\n")[2]
        alone, good = Client(FakeService()), Client(FakeService())
        alone.send(head)
        good.send(b"GET / HTTP/1.1\r\n" + fields)
        if alone.service.refusals and not good.service.refusals:
            assert not repeats(head, fields, FakeService().http), path.name
