"""`mounts` in a file: applications of their own, a table of who is where, and mistakes in the operator's words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bridge import config
from bridge.errors import ConfigErrors

LISTENERS = {"*:80": {"pass": "applications/site"}}


def read(mounts: Any, others: dict[str, Any] | None = None, **members: Any) -> config.Settings:
    """The settings of a file with one application of these mounts, and others."""
    applications = {"site": {"mounts": mounts, **members}, **(others or {})}
    document = {"listeners": LISTENERS, "applications": applications}
    settings = config.from_file(json.dumps(document).encode(), "f")
    assert config.from_json(config.Settings, json.loads(json.dumps(config.to_json(settings)))) == settings
    return settings


def mistakes(mounts: Any, others: dict[str, Any] | None = None, **members: Any) -> list[tuple[str, str]]:
    """Pointer and reason of all that is wrong in such a file."""
    with pytest.raises(ConfigErrors) as caught:
        read(mounts, others, **members)
    return [(error.pointer, error.reason) for error in caught.value.errors]


def test_each_mount_is_an_application() -> None:
    """A mount has a name, its prefix and its target; what it does not say is said by the application around it."""
    settings = read(
        {"/": "shop.wsgi:application", "/api/": {"module": "api.main", "callable": "app", "processes": 3}},
        processes=2,
        path="/srv",
        threads=4,
    )
    assert settings.mounts == {"site": {"": "site/", "/api": "site/api"}}
    shop, api = settings.applications["site/"], settings.applications["site/api"]
    assert (shop.name, shop.target, shop.prefix, shop.processes) == ("site/", "shop.wsgi:application", "", 2)
    assert (api.name, api.target, api.prefix, api.processes) == ("site/api", "api.main:app", "/api", 3)
    assert shop.path == api.path == ("/srv",)
    assert shop.threads == api.threads == 4


def test_environments_and_limits_add_up() -> None:
    """Variables and limits of a mount stand beside those of the application around it, and win over them."""
    mount = {"module": "m", "environment": {"A": "1"}, "limits": {"timeout": 5}}
    around: dict[str, Any] = {"environment": {"A": "0", "B": "2"}, "limits": {"queue_length": 7, "timeout": 9}}
    application = read({"/": mount}, **around).applications["site/"]
    assert application.environment == {"A": "1", "B": "2"}
    assert (application.limits.timeout, application.limits.queue_length) == (5, 7)


def test_applications_that_are_configured_elsewhere() -> None:
    """They stay one application, wherever they are mounted, and know by which prefixes requests come."""
    mounts = {"/a": {"application": "admin"}, "/b": {"application": "admin"}, "/own/": {"application": "admin"}}
    settings = read(mounts, {"admin": {"module": "m", "prefix": "/own/"}})
    assert settings.mounts == {"site": {"/a": "admin", "/b": "admin", "/own": "admin"}}
    admin = settings.applications["admin"]
    assert admin.prefixes == ("/own/", "/a", "/b")
    assert [admin.way(prefix) for prefix in ("/own", "/a", "/b")] == [0, 1, 2]
    assert list(settings.applications) == ["admin"]


def test_mounts_that_share_their_workers() -> None:
    """With `share` there is one application, which knows all targets."""
    mounts = {"/": "shop.wsgi:application", "/api": {"module": "api", "threads": 3, "optional": True}}
    settings = read(mounts, share=True, processes=2)
    assert settings.mounts == {}
    site = settings.applications["site"]
    assert (site.processes, site.target) == (2, "shop.wsgi:application, api")
    assert (site.mounts["/api"].threads, site.mounts["/api"].optional, site.mounts["/"].threads) == (3, True, None)


def test_the_interface_of_mounts_that_share() -> None:
    """What runs them is ASGI, whatever is said of them; a mount without a word of its own has that of around it."""
    site = read({"/": "m", "/a": {"module": "n", "protocol": "asgi"}}, share=True, protocol="wsgi").applications["site"]
    assert (site.protocol, site.mounts["/"].protocol, site.mounts["/a"].protocol) == ("asgi", "wsgi", "asgi")
    free = read({"/": "m"}, share=True).applications["site"]
    assert (free.protocol, free.mounts["/"].protocol) == ("asgi", None)


@pytest.mark.parametrize(
    ("mounts", "members", "pointer", "reason"),
    [
        ({}, {}, "", "expected an object with 1 to 100 mounts, found 0"),
        ([], {}, "", "found an array"),
        ({"a": "m"}, {}, "/a", "expected a path that starts with /"),
        ({"/a/*": "m"}, {}, "/~1a~1*", "as it reads when it is decoded"),
        ({"/a": "m", "/a/": "n"}, {}, "/~1a~1", "the same prefix as '/a'"),
        ({"": "m", "/": "n"}, {}, "/~1", "the same prefix as ''"),
        ({"/a": 5}, {}, "/~1a", 'expected "module", "module:attribute" or an object, found 5'),
        ({"/a": "m:"}, {}, "/~1a", "found the string 'm:'"),
        ({"/a": {}}, {}, "/~1a/module", "missing"),
        ({"/a": {"module": "m", "thread": 1}}, {}, "/~1a/thread", "did you mean 'threads'?"),
        ({"/a": {"module": "m", "threads": 0}}, {"threads": 5}, "/~1a/threads", "expected 1 to 240"),
        ({"/a": {"module": "m", "limits": {"timeout": -1}}}, {}, "/~1a/limits/timeout", "expected 0"),
        ({"/a": {"module": "m", "prefix": "/b"}}, {}, "/~1a/prefix", "the prefix of a mount is its name"),
        ({"/a": {"module": "m", "mounts": {"/b": "n"}}}, {}, "/~1a/mounts", "mounts have no mounts of their own"),
        ({"/a": {"application": "admn"}}, {}, "/~1a/application", "found the string 'admn'; 'site'"),
        ({"/a": {"application": "site"}}, {}, "/~1a/application", "'site' has mounts itself"),
        ({"/a": {"application": "site", "module": "m"}}, {}, "/~1a/module", "write it where that is configured"),
        ({"/a": {"module": "m", "processes": 2}}, {"share": True}, "/~1a/processes", "which the mounts share"),
        ({"/a": {"application": "site"}}, {"share": True}, "/~1a/application", "cannot share these"),
    ],
)
def test_wrong_mounts(mounts: Any, members: dict[str, Any], pointer: str, reason: str) -> None:
    """A mistake in a mount is located there, and said in words that the operator can act on."""
    found = mistakes(mounts, **members)
    expected = [why for each, why in found if each == f"/applications/site/mounts{pointer}"]
    assert len(expected) == 1, found
    assert reason in expected[0]


def test_mounts_of_the_same_name() -> None:
    """A name can be made in two ways; each of both would get the requests of the other."""
    (pointer, reason), *others = mistakes({"/b/c": "m"}, {"site/b": {"mounts": {"/c": "n"}}})
    assert (pointer, others) == ("/applications/site~1b/mounts/~1c", [])
    assert reason == "there is another mount that is called 'site/b/c', at /applications/site/mounts/~1b~1c"


def test_mistakes_around_the_mounts() -> None:
    """What all mounts have from around them is told once, where it stands."""
    targets = {"/": "m", "/a": {"module": "n", "limits": {"timeout": 1}}}
    assert mistakes(targets, threads="4") == [
        ("/applications/site/threads", "expected an integer number, found the string '4'")
    ]
    ((pointer, _),) = mistakes(targets, limits={"queue_length": 0})
    assert pointer == "/applications/site/limits/queue_length"
    for member in ("module", "prefix"):
        other: dict[str, Any] = {member: "/m"}
        ((pointer, reason),) = mistakes(targets, **other)
        assert pointer == f"/applications/site/{member}"
        assert "mount" in reason
    ((pointer, reason),) = mistakes({"/": {"application": "b"}}, {"b": {"module": "m"}}, processes=2)
    assert (pointer, "has no effect" in reason) == ("/applications/site/processes", True)
    ((pointer, _),) = mistakes(targets, share="yes")
    assert pointer == "/applications/site/share"


def test_a_name_that_is_taken() -> None:
    """A mount cannot have the name of another application."""
    ((pointer, reason),) = mistakes({"/a": "m"}, {"site/a": {"module": "n"}})
    assert pointer == "/applications/site/mounts/~1a"
    assert "'site/a'" in reason


def test_sharing_what_is_not_there() -> None:
    """`share` without mounts is a mistake."""
    document = {"listeners": LISTENERS, "applications": {"site": {"module": "m", "share": True}}}
    with pytest.raises(ConfigErrors, match="expected an object with 1 to 100 mounts, found none"):
        config.from_file(json.dumps(document).encode(), "f")
