"""Requests that come by different prefixes get scopes and environs of their own, whatever is remembered."""

from __future__ import annotations

from bridge.ipc.message import HTTPS, WAY
from bridge.worker.environ import EnvironBuilder
from bridge.worker.scope import ScopeBuilder
from bridge.worker.ways import by_way

PREFIXES = ["", "/a", "/a/b"]
HEAD = b"192.0.2.7\x004711\x00192.0.2.1\x0080\nGET /a/b/c HTTP/1.1\r\nHost: a\r\n\r\n"


def test_scopes() -> None:
    """The prefix that has led a request to the application is its root path; the path stays whole."""
    build = by_way([ScopeBuilder("/front", None, prefix).build for prefix in PREFIXES])
    for _ in range(2):
        scopes = [build(HEAD, HTTPS | way << WAY) for way in range(3)]
        assert [scope["root_path"] for scope in scopes] == ["/front", "/front/a", "/front/a/b"]
        assert {(scope["path"], scope["scheme"], scope["http_version"]) for scope in scopes} == {
            ("/front/a/b/c", "https", "1.1")
        }


def test_environs() -> None:
    """The same as SCRIPT_NAME, with the rest in PATH_INFO."""
    build = by_way([EnvironBuilder({}, "/front", prefix).build for prefix in PREFIXES])
    for _ in range(2):
        environs = [build(HEAD, way << WAY, 0) for way in range(3)]
        assert [(each["SCRIPT_NAME"], each["PATH_INFO"]) for each in environs] == [
            ("/front", "/a/b/c"),
            ("/front/a", "/b/c"),
            ("/front/a/b", "/c"),
        ]
