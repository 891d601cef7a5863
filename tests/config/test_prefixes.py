"""Paths and prefixes: the longest one wins, and only at the end of a segment."""

from __future__ import annotations

import pytest

from bridge.config import Prefixes, prefixes


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (b"/", ""),
        (b"/a", "/a"),
        (b"/a/", "/a"),
        (b"/a/x", "/a"),
        (b"/ab", ""),
        (b"/a.b", ""),
        (b"/a/b", "/a/b"),
        (b"/a/b/c", "/a/b"),
        (b"/a/bc", "/a"),
        (b"/x.y/1", "/x.y"),
        (b"/xzy/1", ""),
        ("/é/1".encode(), "/é"),
        (b"*", ""),
        (b"//a", ""),
        (b"/a\n", ""),
        (b"/A", ""),
    ],
)
def test_the_longest_prefix(path: bytes, found: str) -> None:
    """A path lies below the longest prefix that it has whole segments of, else below the root."""
    known = ["/a", "", "/a/b", "/x.y", "/é"]
    number = Prefixes(known).find(path)
    assert number is not None
    assert known[number] == found
    assert Prefixes([each for each in known if each]).find(path) is None or found


def test_nothing_but_the_root() -> None:
    """The root alone takes everything, and without any prefix nothing is found."""
    assert Prefixes([""]).find(b"/a/b") == 0
    assert Prefixes([]).find(b"/a/b") is None


def test_many_prefixes() -> None:
    """Any number of them is told apart."""
    known = [f"/{'x' * number}" for number in range(1, 150)]
    assert [Prefixes(known).find(each.encode() + b"/y") for each in known] == list(range(149))


@pytest.mark.parametrize("text", ["a", "/a//b", "//", "/a%20b", "/a?b", "/a#b", "/a/*", "*", "/\n", "/\ud800"])
def test_what_is_no_prefix(text: str) -> None:
    """What no path could lie below, or what is meant otherwise, is said to be wrong."""
    assert prefixes.mistake(text)
    assert not prefixes.mistake("/a b/é/")
