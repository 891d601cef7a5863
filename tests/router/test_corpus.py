"""The request corpus: every file, in one piece and byte by byte, through a whole connection."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bridge.ipc.message import UNKNOWN
from tests.router.fakes import Client, FakeService

CORPUS = Path(__file__).parent.parent / "http"
VALID = sorted((CORPUS / "valid").glob("*.http"))
INVALID = sorted((CORPUS / "invalid").glob("*.http"))
PIECES = [1 << 30, 1, 3]


def _expected(file: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(file.with_suffix(".json").read_text())
    return loaded


def _play(file: Path, piece: int) -> Client:
    client = Client(FakeService(**_expected(file).get("limits", {})))
    client.send(file.read_bytes(), piece)
    return client


def _described(request: dict[str, Any]) -> tuple[Any, ...]:
    size = request.get("size", 0)
    return (
        request["line"],
        request["body"],
        UNKNOWN if size == "unknown" else size,
        request.get("chunked", False),
        request.get("keep_alive", True),
        request.get("expect", False),
        request.get("minor", 1),
        request.get("is_head", False),
        request.get("forwarded_for"),
        request.get("forwarded_proto"),
        request.get("upgrade", False),
    )


def _seen(client: Client) -> list[tuple[Any, ...]]:
    seen = []
    for exchange in client.service.exchanges:
        framing = exchange.framing
        assert exchange.complete
        assert not exchange.gone
        seen.append(
            (
                exchange.head.partition(b"\r\n")[0].decode("latin-1"),
                exchange.body.decode("latin-1"),
                framing.size,
                framing.chunked,
                framing.keep_alive,
                framing.expect,
                framing.minor,
                framing.is_head,
                framing.forwarded_for and framing.forwarded_for.decode(),
                framing.forwarded_proto and framing.forwarded_proto.decode(),
                framing.upgrade,
            )
        )
    return seen


@pytest.mark.parametrize("piece", PIECES, ids=["whole", "bytewise", "by-three"])
@pytest.mark.parametrize("file", VALID, ids=lambda file: file.stem)
def test_valid(file: Path, piece: int) -> None:
    """A valid request becomes the exchanges that its companion file lists, each answered once."""
    expected = _expected(file)
    client = _play(file, piece)
    assert _seen(client) == [_described(request) for request in expected["requests"]]
    assert client.received.count(b"HTTP/1.1 200 OK\r\n") == len(expected["requests"])
    assert client.service.refusals == []
    assert (client.transport.closing or client.transport.eof) is not expected["open"]


@pytest.mark.parametrize("piece", PIECES, ids=["whole", "bytewise", "by-three"])
@pytest.mark.parametrize("file", INVALID, ids=lambda file: file.stem)
def test_invalid(file: Path, piece: int) -> None:
    """An invalid request gets its status and a close; no application sees a complete request of it."""
    expected = _expected(file)
    client = _play(file, piece)
    served = expected.get("served", 0)
    exchanges = client.service.exchanges
    assert [exchange.complete for exchange in exchanges[:served]] == [True] * served
    for exchange in exchanges[served:]:
        assert (exchange.answered, exchange.gone, exchange.complete) == ([expected["status"]], 0, False)
    assert len(exchanges) <= served + 1
    answer = client.received.split(b"HTTP/1.1 ")[served + 1 :]
    assert [part[:4] for part in answer] == [b"%d " % expected["status"]]
    assert b"\r\nconnection: close\r\n" in answer[0]
    assert client.transport.eof  # not closed yet: the client must be able to read the answer
    before = client.received
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert client.received == before


def test_the_corpus_is_there() -> None:
    """Both halves of the corpus were found, and every file has its companion."""
    assert len(VALID) >= 40
    assert len(INVALID) >= 90
    assert all(file.with_suffix(".json").exists() for file in VALID + INVALID)
