"""Head block → scope."""

from __future__ import annotations

import pytest

from bridge.ipc.message import HTTP_1_0, HTTPS
from bridge.worker import scope as subject
from bridge.worker.scope import ScopeBuilder, parse_peer, request_line
from bridge.worker.types import Scope

PEER = b"192.0.2.7\x0049152\x00192.0.2.1\x008080\n"


def build(request: bytes, number: int = 0, root_path: str = "", peer: bytes = PEER) -> Scope:
    return ScopeBuilder(root_path).build(peer + request, number)


def build_target(target: bytes, root_path: str = "") -> Scope:
    return build(b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n", root_path=root_path)


def test_every_key_of_an_http_scope() -> None:
    """A whole head becomes exactly the scope that ASGI describes."""
    head = b"POST /a/b?c=d&e HTTP/1.1\r\nHost: example.test\r\nContent-Type: text/plain\r\n\r\n"
    assert build(head) == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/a/b",
        "raw_path": b"/a/b",
        "query_string": b"c=d&e",
        "root_path": "",
        "headers": [(b"host", b"example.test"), (b"content-type", b"text/plain")],
        "client": ("192.0.2.7", 49152),
        "server": ("192.0.2.1", 8080),
        "extensions": {},
    }


def test_version_and_scheme_come_from_the_message() -> None:
    """The bits of the REQUEST say version and scheme, whatever the request line says."""
    scope = build(b"GET / HTTP/1.0\r\n\r\n", HTTP_1_0 | HTTPS)
    assert (scope["http_version"], scope["scheme"], scope["headers"]) == ("1.0", "https", [])


def test_header_order_duplicates_and_white_space() -> None:
    """Fields keep their order and repetitions; names become lower case, white space around values goes."""
    head = (
        b"GET / HTTP/1.1\r\nX-A:1\r\nCookie: a=1\r\nx-a: \t two words \t\r\nCookie:b=2\r\nX-Empty:\r\nX-C: a:b\r\n\r\n"
    )
    assert build(head)["headers"] == [
        (b"x-a", b"1"),
        (b"cookie", b"a=1"),
        (b"x-a", b"two words"),
        (b"cookie", b"b=2"),
        (b"x-empty", b""),
        (b"x-c", b"a:b"),
    ]


def test_only_http_white_space_is_cut_off_a_value() -> None:
    """Bytes that only Python takes for white space belong to the value."""
    assert build(b"GET / HTTP/1.1\r\nX: \x0ba\x85\xa0 \r\n\r\n")["headers"] == [(b"x", b"\x0ba\x85\xa0")]


@pytest.mark.parametrize(
    ("target", "path", "raw_path", "query"),
    [
        (b"/", "/", b"/", b""),
        (b"/a?", "/a", b"/a", b""),
        (b"/a?b?c", "/a", b"/a", b"b?c"),
        (b"/caf%C3%A9%20x", "/café x", b"/caf%C3%A9%20x", b""),
        (b"/a%2Fb", "/a/b", b"/a%2Fb", b""),
        (b"/100%", "/100%", b"/100%", b""),
        (b"/%zz", "/%zz", b"/%zz", b""),
        (b"/%ff%C3", "/\ufffd\ufffd", b"/%ff%C3", b""),
        (b"/a?x=%C3%A9", "/a", b"/a", b"x=%C3%A9"),
        (b"//double", "//double", b"//double", b""),
        (b"/a#part", "/a", b"/a", b""),
        (b"/a?b#part", "/a", b"/a", b"b"),
        (b"/p?u=http://b/c", "/p", b"/p", b"u=http://b/c"),
        (b"http://example.test/a/b?c", "/a/b", b"/a/b", b"c"),
        (b"HTTPS://example.test", "/", b"/", b""),
        (b"http://example.test?c=/d", "/", b"/", b"c=/d"),
        (b"http://example.test/#f", "/", b"/", b""),
        (b"*", "*", b"*", b""),
        (b"example.test:443", "example.test:443", b"example.test:443", b""),
    ],
)
def test_target(target: bytes, path: str, raw_path: bytes, query: bytes) -> None:
    """Path, raw path and query string of every form of a request target."""
    scope = build_target(target)
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == (path, raw_path, query)


@pytest.mark.parametrize("line", [b"GET  /a HTTP/1.1", b"GET /a  HTTP/1.1"])
def test_spaces_beside_the_target(line: bytes) -> None:
    """More than one space around the target, which llhttp lets through, does not become part of it."""
    assert build(line + b"\r\n\r\n")["path"] == "/a"


@pytest.mark.parametrize("root_path", ["/shop", "/shop/", "shop"])
def test_root_path_is_put_back(root_path: str) -> None:
    """A path that a proxy has shortened is whole again, both decoded and raw."""
    scope = build_target(b"/a%20b?c", root_path)
    assert (scope["root_path"], scope["path"], scope["raw_path"]) == ("/shop", "/shop/a b", b"/shop/a%20b")
    assert scope["query_string"] == b"c"


def test_root_path_does_not_touch_the_asterisk() -> None:
    """OPTIONS * asks about the server, not about a path."""
    assert build_target(b"*", "/shop")["path"] == "*"


@pytest.mark.parametrize(
    ("peer", "client", "server"),
    [
        (b"192.0.2.7\x001\x00192.0.2.1\x0080", ("192.0.2.7", 1), ("192.0.2.1", 80)),
        (b"2001:db8::7\x001\x002001:db8::1\x00443", ("2001:db8::7", 1), ("2001:db8::1", 443)),
        (b"192.0.2.7\x000\x00192.0.2.1\x0080", ("192.0.2.7", 0), ("192.0.2.1", 80)),
        (b"192.0.2.7\x00\x00192.0.2.1\x0080", ("192.0.2.7", 0), ("192.0.2.1", 80)),
        (b"\x00\x00/run/bridge.sock\x00", None, ("/run/bridge.sock", None)),
        (b"192.0.2.7\x0049152\x00/run/bridge.sock\x00", ("192.0.2.7", 49152), ("/run/bridge.sock", None)),
        (b"\x00\x00\x00", None, None),
    ],
)
def test_peer(peer: bytes, client: object, server: object) -> None:
    """Addresses with their TCP numbers; a Unix socket has no client, and its path for a server."""
    assert parse_peer(peer) == (client, server)
    scope = build(b"GET / HTTP/1.1\r\n\r\n", peer=peer + b"\n")
    assert (scope["client"], scope["server"]) == (client, server)


@pytest.mark.parametrize("peer", [b"", b"a\x001\x00b", b"a\x00x\x00b\x001"])
def test_broken_peer_block(peer: bytes) -> None:
    """A peer block that no router writes is refused."""
    with pytest.raises(ValueError, match=r"unpack|int"):
        parse_peer(peer)


def test_remembered_peers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory for peer blocks does not grow with the number of clients, and answers stay right."""
    monkeypatch.setattr(subject, "MAX_PEERS", 3)
    builder = ScopeBuilder()
    for number in [*range(1, 9), 1, 1]:
        peer = b"192.0.2.7\x00%d\x00192.0.2.1\x0080\n" % number
        assert builder.build(peer + b"GET / HTTP/1.1\r\n\r\n", 0)["client"] == ("192.0.2.7", number)
        assert len(builder._peers) <= 3


def test_state_is_copied_for_each_request() -> None:
    """Every scope has its own shallow copy of the lifespan state, and none without lifespan."""
    shared: list[int] = []
    builder = ScopeBuilder("", {"pool": shared})
    first, second = (builder.build(PEER + b"GET / HTTP/1.1\r\n\r\n", 0)["state"] for _ in range(2))
    first["mine"] = 1
    assert second == {"pool": shared}
    assert second["pool"] is shared
    assert "state" not in build(b"GET / HTTP/1.1\r\n\r\n")


def test_nothing_mutable_is_shared_between_scopes() -> None:
    """An application may write into its scope without changing the next one."""
    builder = ScopeBuilder()
    first, second = (builder.build(PEER + b"GET / HTTP/1.1\r\nA: b\r\n\r\n", 0) for _ in range(2))
    for key in ("asgi", "extensions", "headers"):
        assert first[key] is not second[key]


def test_fields_that_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of field lines that come again give equal lists of their own, in bounded memory."""
    monkeypatch.setattr(subject, "MAX_BLOCKS", 2)
    builder = ScopeBuilder()
    for _ in range(4):
        for value in (b"1", b"2", b"3"):
            head = PEER + b"GET / HTTP/1.1\r\nHost: a\r\nX: " + value + b"\r\n\r\n"
            headers = builder.build(head, 0)["headers"]
            assert headers == [(b"host", b"a"), (b"x", value)]
            headers.append((b"mine", b"1"))
        assert 0 <= len(builder._blocks) <= 2
    assert builder._blocks


def test_secrets_are_not_remembered() -> None:
    """Credentials stay in no memory of the builder, however often they come."""
    builder = ScopeBuilder()
    for _ in range(3):
        builder.build(PEER + b"GET / HTTP/1.1\r\nHost: a\r\nCookie: geheim\r\nAuthorization: geheim\r\n\r\n", 0)
    kept = [getattr(builder, name) for name in ScopeBuilder.__slots__]
    assert "geheim" not in repr(kept)


def test_request_line_for_a_log() -> None:
    """A request line is logged in printable ASCII and at a bounded length."""
    assert request_line(PEER + b"GET /a?b HTTP/1.1\r\nHost: a\r\n\r\n") == "GET /a?b HTTP/1.1"
    assert request_line(PEER + b"GET /\x1b[31m\xff HTTP/1.1\r\n\r\n") == r"GET /\x1b[31m\xff HTTP/1.1"
    assert len(request_line(PEER + b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n", 100)) == 100


@pytest.mark.parametrize(
    ("target", "path", "root"),
    [
        (b"/shop/a?b", "/shop/a", "/shop"),
        (b"/shop", "/shop", "/shop"),
        (b"/shop/", "/shop/", "/shop"),
        (b"/sh%6fp/a", "/shop/a", "/shop"),
        (b"/shopping", "/shopping", ""),
        (b"/other/shop", "/other/shop", ""),
    ],
)
def test_prefix(target: bytes, path: str, root: str) -> None:
    """A prefix that the path begins with counts as root path, at the end of a segment only; the path stays whole."""
    request = PEER + b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n"
    scope = ScopeBuilder(prefix="/shop/").build(request, 0)
    assert (scope["path"], scope["root_path"]) == (path, root)
    scope = ScopeBuilder("/front", prefix="/shop").build(request, 0)
    assert (scope["path"], scope["root_path"]) == ("/front" + path, "/front" + root)
