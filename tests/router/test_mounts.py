"""Where a request goes of a listener with mounts, by the head as it was received."""

from __future__ import annotations

import pytest

from bridge import config
from bridge.router.mounts import Mounts, destinations

TABLE = {"": ("root", 0), "/a": ("first", 0), "/a/b": ("second", 2), "/é x": ("third", 0)}


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("/", "root"),
        ("/?/a", "root"),
        ("/ab", "root"),
        ("/a", "first"),
        ("/a?x=/b", "first"),
        ("/a/b/c?x", "second"),
        ("/%61/%62", "second"),
        ("/a%2Fb", "second"),
        ("/a%2fbc", "first"),
        ("/a%", "root"),
        ("/%C3%A9%20x/y", "third"),
        ("/%c3/y", "root"),
        ("//a", "root"),
        ("/x/../a", "root"),
        ("*", "root"),
        ("http://a/", "root"),
        ("http://a", "root"),
        ("http://a?/a", "root"),
        ("http://h:80/a/b", "second"),
        ("http://h/%61?x", "first"),
        ("/a://b/a", "root"),
    ],
)
def test_the_path_decides(target: str, found: str) -> None:
    """The longest prefix of the decoded path, of either form of target, says where a request goes."""
    chosen = Mounts(TABLE).choose(f"GET {target} HTTP/1.1\r\nHost: /a/b\r\n\r\n".encode())
    assert chosen is not None
    assert chosen[0] == found


@pytest.mark.parametrize("target", ["/", "/ab", "*", "http://a"])
def test_nothing_is_mounted_there(target: str) -> None:
    """Without a root there are paths that lead nowhere."""
    mounts = Mounts({"/a": ("first", 0)})
    assert mounts.choose(f"OPTIONS {target} HTTP/1.1\r\n\r\n".encode()) is None


def test_names_of_listeners() -> None:
    """A listener passes to an application, or to what is mounted: there each prefix has its application and its way."""
    document = {
        "listeners": {"*:80": {"pass": "applications/site"}},
        "applications": {"site": {"mounts": {"/": "m", "/a": {"application": "b"}}}, "b": {"module": "n"}},
    }
    settings = config.from_json(config.Settings, document)
    known = destinations(settings, {"site/": "first", "b": "second"})
    assert known["b"] == "second"
    site = known["site"]
    assert isinstance(site, Mounts)
    assert [site.choose(b"GET %b HTTP/1.1" % path) for path in (b"/x", b"/a")] == [("first", 0), ("second", 1)]
