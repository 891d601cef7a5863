"""Addresses as text."""

from __future__ import annotations

import pytest

from bridge.config import Address, parse
from bridge.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "address", "shown"),
    [
        ("127.0.0.1:8000", Address(host="127.0.0.1", number=8000), "127.0.0.1:8000"),
        ("localhost:0", Address(host="localhost"), "localhost:0"),
        (":8000", Address(host="0.0.0.0", number=8000), "0.0.0.0:8000"),
        ("*:8000", Address(host="0.0.0.0", number=8000), "0.0.0.0:8000"),
        ("[::1]:80", Address(host="::1", number=80), "[::1]:80"),
        ("unix:/run/x.sock", Address(path="/run/x.sock"), "unix:/run/x.sock"),
        ("unix:@name", Address(path="@name"), "unix:@name"),
        ("unix:///run/x.sock", Address(path="/run/x.sock"), "unix:/run/x.sock"),
    ],
)
def test_addresses_are_read(text: str, address: Address, shown: str) -> None:
    """Every form is understood and shown in its canonical one."""
    assert parse(text) == address
    assert str(address) == shown


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("8000", "did you mean '127.0.0.1:8000' or ':8000'?"),
        ("127.0.0.1", "did you forget the number"),
        ("127.0.0.1:65536", "expected host:number"),
        ("127.0.0.1:http", "expected host:number"),
        ("::1:8000", "an IPv6 address stands in brackets"),
        ("[localhost]:80", "expected an IPv6 address in the brackets"),
        ("[]:80", "expected an IPv6 address in the brackets"),
        ("/run/x.sock", "did you mean 'unix:/run/x.sock'?"),
        ("unix:x.sock", "expected unix:/absolute/path"),
        ("unix:@", "expected unix:/absolute/path or unix:@name"),
        ("unix:/run/", "expected unix:/absolute/path"),
        ("unix:/" + "x" * 107, "at most 107 bytes"),
        ("http://127.0.0.1:80/", "did you mean '127.0.0.1:80'?"),
        ("", "expected host:number"),
    ],
)
def test_wrong_addresses(text: str, hint: str) -> None:
    """A bad address is refused with what was expected and, where possible, what was meant."""
    with pytest.raises(ConfigError) as caught:
        parse(text, "--bind")
    assert hint in str(caught.value)
    assert str(caught.value).startswith("--bind: ")
