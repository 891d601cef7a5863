"""X-Forwarded-*: only what a trusted proxy has seen is believed."""

from __future__ import annotations

import pytest

from bridge.router.forwarded import MAX_HOPS, Trusted, is_https


@pytest.mark.parametrize(
    ("peers", "host", "trusted"),
    [
        (["127.0.0.1"], "127.0.0.1", True),
        (["127.0.0.1"], "127.0.0.2", False),
        (["10.0.0.0/8"], "10.1.2.3", True),
        (["10.1.2.3/8"], "10.9.9.9", True),
        (["10.0.0.0/8"], "11.0.0.1", False),
        (["10.0.0.0/8"], "::ffff:10.1.2.3", True),
        (["::1"], "::1", True),
        (["::1"], "127.0.0.1", False),
        (["2001:db8::/32"], "2001:db8:1::5", True),
        (["2001:db8::/32"], "2001:db9::5", False),
        (["127.0.0.1"], "", False),
        (["unix"], "", True),
        (["unix"], "127.0.0.1", False),
        (["*"], "", True),
        (["*"], "192.0.2.1", True),
        ([], "127.0.0.1", False),
        (["127.0.0.1"], "no address", False),
    ],
)
def test_who_is_trusted(peers: list[str], host: str, trusted: bool) -> None:
    """Addresses, networks, unix sockets, everyone; and nobody by default."""
    assert Trusted(peers).trusts(host) is trusted


@pytest.mark.parametrize(
    ("value", "client"),
    [
        (b"192.0.2.1", "192.0.2.1"),
        (b"192.0.2.1, 198.51.100.1", "198.51.100.1"),
        (b"192.0.2.1, 10.0.0.2", "192.0.2.1"),
        (b"203.0.113.9, 192.0.2.1, 10.0.0.2,10.0.0.1", "192.0.2.1"),
        (b"10.0.0.3, 10.0.0.2", "10.0.0.3"),
        (b"evil, 10.0.0.2", "10.0.0.2"),
        (b"192.0.2.1, evil", None),
        (b"evil", None),
        (b"", None),
        (b",", None),
        (b"unknown", None),
        (b" \t192.0.2.1 ", "192.0.2.1"),
        (b"192.0.2.1:4711", "192.0.2.1"),
        (b"[2001:db8::1]:4711", "2001:db8::1"),
        (b"[2001:DB8::0001]", "2001:db8::1"),
        (b"2001:db8::1", "2001:db8::1"),
        (b"fe80::1%eth0", None),
        (b'fe80::1%\xe9" 200', None),
        (b"192.0.2.1\xe9", None),
        (b"0300.0.2.1", None),
    ],
)
def test_the_client_behind_the_proxies(value: bytes, client: str | None) -> None:
    """Read from the right, the first that is no trusted proxy; nothing behind what cannot be read."""
    assert Trusted(["10.0.0.0/8"]).client(value) == client


def test_everyone_is_trusted() -> None:
    """Then the leftmost address is the client's."""
    assert Trusted(["*"]).client(b"192.0.2.1, 198.51.100.1, 10.0.0.1") == "192.0.2.1"


def test_a_list_that_is_too_long() -> None:
    """Nobody has that many proxies: it is not believed at all."""
    hops = [b"10.0.0.1"] * MAX_HOPS
    assert Trusted(["10.0.0.0/8"]).client(b",".join(hops)) == "10.0.0.1"
    assert Trusted(["10.0.0.0/8"]).client(b",".join([*hops, b"10.0.0.1"])) is None


@pytest.mark.parametrize(
    ("value", "https"),
    [
        (b"https", True),
        (b"HTTPS", True),
        (b"http", False),
        (b" https ", True),
        (b"http, https", True),
        (b"https,http", False),
        (b"wss", True),
        (b"ws", False),
        (b"gopher", None),
        (b"", None),
        (b"https;", None),
    ],
)
def test_the_scheme(value: bytes, https: bool | None) -> None:
    """The last proxy's word counts, in any case of letters; other words say nothing."""
    assert is_https(value) is https
