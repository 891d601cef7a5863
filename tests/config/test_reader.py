"""Documents → settings: read back as written, refused with every mistake in its place."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import Any

import pytest

from bridge import config
from bridge.config import check
from bridge.errors import ConfigError, ConfigErrors

RUNNING = f"{sys.version_info[0]}.{sys.version_info[1]}"
RIGHT: dict[str, Any] = {
    "listeners": {"*:80": {"pass": "applications/a"}},
    "applications": {"a": {"type": "python", "module": "m"}},
}


def read(document: Any) -> config.Settings:
    """The settings of a file with this document."""
    return config.from_file(json.dumps(document).encode(), "f")


def mistakes(document: Any) -> list[tuple[str, str]]:
    """Pointer and reason of all that is wrong in it."""
    with pytest.raises(ConfigErrors) as caught:
        read(document)
    assert all("\n" not in str(error) for error in caught.value.errors)
    return [(error.pointer, error.reason) for error in caught.value.errors]


def test_round_trip() -> None:
    """What is written to JSON is read back as the same settings, in another process too."""
    websocket = config.WebSocket(read_timeout=5, max_frame_size=6, compression=False, compression_window_bits=9)
    shop = config.Application(
        "shop.asgi", path=("a", "b"), environment={"A": "b"}, name="the shop/é", websocket=websocket
    )
    limits = config.Limits(shm=5000, timeout=10, run_timeout=20.5, cancel_grace=0, queue_length=7, websockets=8)
    blog = config.Application("b", limits=limits, home="/v", prefix="/b", threads=3, name="blog", retry_safe=True)
    blog = replace(blog, websocket=websocket)
    settings = config.Settings(
        applications={shop.name: shop, blog.name: blog},
        listeners={
            "[::1]:1": config.Listener(pass_="applications/the%20shop%2F%C3%A9"),
            "unix:/x": config.Listener(pass_="applications/blog", backlog=5),
        },
        http=config.Http(max_body_size=None, websocket=websocket),
        forwarded_allow_ips=("10.0.0.0/8", "unix", "*"),
        access_log="-",
    )
    document = json.loads(json.dumps(config.to_json(settings)))
    assert config.from_json(config.Settings, document) == settings
    assert read(document) == settings
    assert settings.listeners["[::1]:1"].application == shop.name


def test_defaults_fill_what_is_left_out() -> None:
    """A listener and a module are enough; only bodies are limited as Unit limits them."""
    expected = config.single(config.Application("m", name="a"), ["*:80"], http=config.Http(max_body_size=8388608))
    assert read(RIGHT) == expected
    assert read(RIGHT | {"settings": {"http": {"idle_timeout": 5}}}).http.max_body_size == 8388608
    assert read(RIGHT | {"settings": {"http": {"max_body_size": None}}}).http.max_body_size is None


def test_forms_that_mean_the_same() -> None:
    """One path is a list of one; an access log is a path or an object with one."""
    assert _application(path="x").path == _application(path=["x"]).path == ("x",)
    assert read(RIGHT | {"access_log": {"path": "/log"}}).access_log == "/log"
    assert read(RIGHT | {"access_log": "/log"}).access_log == "/log"


def _application(**members: Any) -> config.Application:
    return read(RIGHT | {"applications": {"a": {"module": "m"} | members}}).applications["a"]


@pytest.mark.parametrize("kind", ["python", f"python {sys.version_info[0]}", f"python {RUNNING}"])
def test_type(kind: str) -> None:
    """The language may be named with the version that runs."""
    assert _application(type=kind).type == kind


AT_ROOT: list[tuple[Any, str, str]] = [
    ([], "/", "expected an object, found an array"),
    ({"aplications": {}}, "/aplications", "unknown name; did you mean 'applications'?"),
    ({"routes": []}, "/routes", "not served yet; a listener passes to an application"),
    ({"upstreams": {}}, "/upstreams", "not served yet"),
    ({"applications": []}, "/applications", "expected an object, found an array"),
    ({"settings": 5}, "/settings", "expected an object, found 5"),
    ({"settings": {"htp": {}}}, "/settings/htp", "unknown name; did you mean 'http'?"),
    ({"settings": {"listen_threads": 2}}, "/settings/listen_threads", "not served yet"),
    ({"settings": {"http": {"static": {}}}}, "/settings/http/static", "not served yet"),
    ({"settings": {"http": {"idle_timeout": "5"}}}, "/settings/http/idle_timeout", "a number, found the string '5'"),
    (
        {"settings": {"http": {"idle_timeout": -1}}},
        "/settings/http/idle_timeout",
        "expected 0 to 31622400, found -1",
    ),
    (
        {"settings": {"http": {"max_body_size": []}}},
        "/settings/http/max_body_size",
        "an integer number or a null, found",
    ),
    ({"settings": {"memory": {"queue": 100}}}, "/settings/memory/queue", "expected a power of two, found 100"),
    ({"settings": {"log_level": "warn"}}, "/settings/log_level", "did you mean 'warning'?"),
    ({"settings": {"forwarded_allow_ips": ["x"]}}, "/settings/forwarded_allow_ips/0", "expected an IP address"),
    ({"access_log": False}, "/access_log", "expected a string or a null, found false"),
    ({"access_log": ""}, "/access_log", "expected a string that is not empty"),
    ({"access_log": {"path": "x", "format": "y"}}, "/access_log/format", "not served yet"),
    ({"listeners": {}}, "/listeners", "expected 1 to 60 of them, found 0"),
    ({"listeners": {"x": RIGHT["listeners"]["*:80"]}}, "/listeners/x", "expected host:number"),
    ({"listeners": {"unix:/a": {}}}, "/listeners/unix:~1a/pass", "missing, and it has no default"),
    ({"listeners": {"*:80": "applications/a"}}, "/listeners/*:80", "expected an object, found the string"),
    ({"listeners": {"*:80": {"pass": "applications/a", "tls": {}}}}, "/listeners/*:80/tls", "not served yet"),
    ({"listeners": {"*:80": {"pass": "applications/a", "backlog": 0}}}, "/listeners/*:80/backlog", "expected 1 to"),
    ({"listeners": {"*:80": {"pass": 5}}}, "/listeners/*:80/pass", "expected a string, found 5"),
]
AT_APPLICATION: list[tuple[Any, str, str]] = [
    ({"module": None}, "/module", "expected a string, found a null"),
    ({"module": ""}, "/module", "expected a string that is not empty"),
    ({"procesess": 2}, "/procesess", "unknown name; did you mean 'processes'?"),
    ({"name": "b"}, "/name", "unknown name"),
    ({"processes": 0}, "/processes", "expected 1 to 1024, found 0"),
    ({"processes": True}, "/processes", "expected an integer number, found true"),
    ({"processes": 1.5}, "/processes", "expected an integer number, found 1.5"),
    ({"processes": 1.0}, "/processes", "expected an integer number, found 1.0"),
    ({"limits": {"queue_length": 2000000}}, "/limits/queue_length", "expected 1 to 1048576, found 2000000"),
    ({"limits": {"websockets": 49153}}, "/limits/websockets", "expected 0 to 49152, found 49153"),
    ({"processes": {"max": 2}}, "/processes", "expected an integer number, found an object, which is not served yet"),
    ({"factory": 1}, "/factory", "expected a boolean, found 1"),
    ({"path": 5}, "/path", "expected a string or an array of strings, found 5"),
    ({"path": ["a", 5]}, "/path/1", "expected a string, found 5"),
    (
        {"protocol": "wsg"},
        "/protocol",
        "expected one of auto, asgi, wsgi, found the string 'wsg'; did you mean 'wsgi'?",
    ),
    ({"prefix": "shop"}, "/prefix", "expected a path that starts with /, found the string 'shop'"),
    ({"root_path": "/shop/"}, "/root_path", "starts with / and does not end with it"),
    ({"environment": ["A=b"]}, "/environment", "expected an object, found an array"),
    ({"environment": {"A": 5}}, "/environment/A", "expected a string, found 5"),
    ({"environment": {"A": "\0"}}, "/environment/A", "expected a string without NUL"),
    ({"environment": {"A=b": ""}}, "/environment/A=b", 'has no "="'),
    ({"limits": {"requests": 5}}, "/limits/requests", "not served yet"),
    ({"limits": {"shm": 5}}, "/limits/shm", "expected 1024 to"),
    ({"limits": {"timeout": -1}}, "/limits/timeout", "expected 0 to"),
    ({"limits": {"cancel_grace": "1"}}, "/limits/cancel_grace", "expected a number"),
    ({"user": "www"}, "/user", "not served yet"),
    ({"isolation": {}}, "/isolation", "not served yet"),
    ({"type": "php"}, "/type", "not served: applications in Python are, found 'php'"),
    ({"type": "pyton"}, "/type", 'expected "python"'),
    ({"type": "python 2.7"}, "/type", f"found 'python 2.7', but this is Python {RUNNING}"),
    ({"threads": 241}, "/threads", "expected 1 to 240, found 241"),
]


@pytest.mark.parametrize(("part", "pointer", "reason"), AT_ROOT, ids=[pointer for _, pointer, _ in AT_ROOT])
def test_wrong_settings_are_located(part: Any, pointer: str, reason: str) -> None:
    """A mistake is the only one that is told, with its JSON pointer, what was expected and what was found."""
    found = mistakes(RIGHT | part if isinstance(part, dict) else part)
    expected = [(each, why) for each, why in found if each == pointer]
    assert len(expected) == 1
    assert reason in expected[0][1]


@pytest.mark.parametrize(
    ("part", "pointer", "reason"), AT_APPLICATION, ids=[pointer for _, pointer, _ in AT_APPLICATION]
)
def test_wrong_applications_are_located(part: Any, pointer: str, reason: str) -> None:
    """The same below an application; nothing else is complained of."""
    ((found, why),) = mistakes(RIGHT | {"applications": {"a": {"module": "m"} | part}})
    assert found == f"/applications/a{pointer}"
    assert reason in why


def test_targets_need_no_module() -> None:
    """Who configures targets is told that of targets alone."""
    found = mistakes(RIGHT | {"applications": {"a": {"targets": {}}}})
    assert found == [("/applications/a/targets", "not served yet")]


def test_all_at_once_in_the_order_of_the_file() -> None:
    """Every mistake of a file is told in one go, each with the line and column where it stands."""
    text = b"""{
  "applications": {
    "a": {"modul": "m",
          "threads": "4"}
  },
  "listeners": {"*:80": {"pass": "applications/b"}},
  "acces_log": "-"
}"""
    with pytest.raises(ConfigErrors) as caught:
        config.from_file(text, "c.json")
    assert str(caught.value).splitlines() == [
        "c.json:3:10: /applications/a/module: missing, and it has no default",
        "c.json:3:11: /applications/a/modul: unknown name; did you mean 'module'?",
        "c.json:4:22: /applications/a/threads: expected an integer number, found the string '4'",
        "c.json:6:34: /listeners/*:80/pass: there is no application 'b'; there are: 'a'",
        "c.json:7:3: /acces_log: unknown name; did you mean 'access_log'?",
    ]


def test_a_file_that_is_no_json() -> None:
    """A mistake of syntax is the only one."""
    with pytest.raises(ConfigErrors, match=r"^c:1:2: expected a name in quotes, found 'a'$"):
        config.from_file(b"{a}", "c")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("applications/shop", ""),
        ("applications/a%20b%2Fc", ""),
        ("applications/shp", "did you mean 'shop'?"),
        ("applications/nothing", "there are: 'shop', 'a b/c'"),
        ("applications/shop/admin", "targets are not served yet"),
        ("applications/", "expected applications/NAME"),
        ("shop", "expected applications/NAME"),
        ("routes", "routes are not served yet"),
        ("routes/main", "routes are not served yet"),
        ("upstreams/x", "upstreams are not served yet"),
        ("applications/$host", "variables are not served yet"),
    ],
)
def test_pass(value: str, reason: str) -> None:
    """A `pass` names an application that there is; what else Unit can pass to is refused by its name."""
    found = check.check_pass(value, {"shop": {}, "a b/c": {}})
    assert reason in found
    assert bool(found) == bool(reason)


def test_addresses_that_are_the_same() -> None:
    """One address is one listener, however it is spelled; any free number may be asked for several times."""
    target = {"pass": "applications/a"}
    ((pointer, reason),) = mistakes(RIGHT | {"listeners": {"*:80": target, "0.0.0.0:80": target, ":0": target}})
    assert (pointer, reason) == ("/listeners/0.0.0.0:80", "the same address as '*:80'")
    read(RIGHT | {"listeners": {"*:0": target, "0.0.0.0:0": target}})


def test_too_many_processes() -> None:
    """Worker ids have 16 bits: the processes of all applications together are limited."""
    applications = {name: {"module": "m", "processes": 1000} for name in "abc"}
    ((pointer, reason),) = mistakes(RIGHT | {"applications": applications})
    assert (pointer, "expected 2040 processes at most" in reason) == ("/applications", True)
    ((pointer, _),) = mistakes(RIGHT | {"applications": {"a": RIGHT["applications"]["a"], "": {"module": "m"}}})
    assert pointer == "/applications/"


def test_first_mistake_of_a_document_from_main() -> None:
    """A child that reads what main wrote names the first mistake alone."""
    with pytest.raises(ConfigError, match=r"^/x/processes: expected 1 to 1024, found 0$"):
        config.from_json(config.Application, {"module": "m", "processes": 0, "threads": 0}, "/x")
