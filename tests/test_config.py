"""Settings: written, read back, refused with the place and the reason."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bridge import config
from bridge.errors import ConfigError


def test_round_trip() -> None:
    """What is written to JSON is read back as the same settings."""
    settings = config.Settings(
        config.Application("shop.asgi", callable="app", factory=True, processes=3, graceful_timeout=1.5),
        listeners=("[::1]:1", "unix:/x"),
        http=config.Http(max_body_size=7),
        forwarded_allow_ips=("10.0.0.0/8", "unix", "*"),
        access_log="-",
    )
    assert config.from_json(config.Settings, json.loads(json.dumps(config.to_json(settings)))) == settings


def test_defaults_fill_what_is_left_out() -> None:
    """An object with the module alone is enough."""
    assert config.from_json(config.Settings, {"application": {"module": "m"}}) == config.Settings(
        config.Application("m")
    )


WRONG: list[tuple[Any, str, str]] = [
    ([], "/", "expected an object, found a list"),
    ({}, "/application", "missing"),
    ({"application": {}}, "/application/module", "missing"),
    ({"application": {"module": 5}}, "/application/module", "expected a string, found 5"),
    ({"application": {"module": "m", "procesess": 2}}, "/application/procesess", "did you mean 'processes'?"),
    ({"application": {"module": "m", "processes": 0}}, "/application/processes", "expected 1 to 1024, found 0"),
    ({"application": {"module": "m", "processes": True}}, "/application/processes", "a whole number, found true"),
    ({"application": {"module": "m", "processes": 1.5}}, "/application/processes", "a whole number, found 1.5"),
    ({"application": {"module": "m", "factory": 1}}, "/application/factory", "expected true or false, found 1"),
    ({"application": {"module": "m", "root_path": "shop"}}, "/application/root_path", "starts with /"),
    ({"application": {"module": "m", "root_path": "/shop/"}}, "/application/root_path", "does not end with it"),
    ({"http": {"idle_timeout": "5"}}, "/http/idle_timeout", "expected a number of seconds, found the string '5'"),
    ({"http": {"idle_timeout": -1}}, "/http/idle_timeout", "found -1"),
    ({"http": {"idle_timeout": float("nan")}}, "/http/idle_timeout", "found nan"),
    ({"http": {"max_body_size": []}}, "/http/max_body_size", "expected a whole number or null, found a list"),
    ({"http": None}, "/http", "expected an object, found null"),
    ({"memory": {"queue": 100}}, "/memory/queue", "expected a power of two, found 100"),
    ({"listeners": "127.0.0.1:1"}, "/listeners", "expected a list of strings"),
    ({"listeners": []}, "/listeners", "expected 1 to 60 addresses"),
    ({"listeners": ["a:1", 2]}, "/listeners/1", "expected a string, found 2"),
    ({"forwarded_allow_ips": ["localhost"]}, "/forwarded_allow_ips/0", "expected an IP address"),
    ({"log_level": "warn"}, "/log_level", "did you mean 'warning'?"),
    ({"access_log": False}, "/access_log", "expected a string or null, found false"),
]


@pytest.mark.parametrize(("value", "pointer", "reason"), WRONG, ids=[pointer for _, pointer, _ in WRONG])
def test_wrong_settings_are_located(value: Any, pointer: str, reason: str) -> None:
    """A faulty value is refused with its JSON pointer, what was expected and what was found."""
    if isinstance(value, dict) and value and "application" not in value:
        value = {"application": {"module": "m"}} | value
    with pytest.raises(ConfigError) as caught:
        config.from_json(config.Settings, value)
    assert caught.value.pointer == pointer
    assert reason in caught.value.reason
    assert "\n" not in str(caught.value)


def test_assign_replaces_one_value() -> None:
    """`--set` reaches every group, takes JSON values, and takes anything else as a string."""
    settings = config.Settings(config.Application("m"))
    for assignment in ("http.max_body_size=8", "backlog=5", "application.name=shop", "http.server_version=false"):
        settings = config.assign(settings, assignment)
    assert (settings.http.max_body_size, settings.backlog) == (8, 5)
    assert (settings.application.name, settings.http.server_version) == ("shop", False)


@pytest.mark.parametrize(
    ("assignment", "reason"),
    [
        ("http.max_body_size", "expected NAME=VALUE"),
        ("htp.max_body_size=1", "there is no group 'htp'; did you mean 'http'?"),
        ("http.max_bodysize=1", "did you mean 'max_body_size'?"),
        ("http=1", "there is no setting 'http'"),
        ("backlog.x=1", "there is no group 'backlog'"),
        ("backlog=many", "expected a whole number, found the string 'many'"),
    ],
)
def test_wrong_assignments(assignment: str, reason: str) -> None:
    """`--set` names the assignment and what is wrong with it."""
    with pytest.raises(ConfigError, match="--set") as caught:
        config.assign(config.Settings(config.Application("m")), assignment)
    assert reason in caught.value.reason


def test_options_become_settings() -> None:
    """Each option of `run` arrives at its setting."""
    settings = config.from_options(
        "shop.asgi:make",
        {},
        bind=["127.0.0.1:1", "unix:/x"],
        workers=3,
        factory=True,
        app_dir="/srv",
        root_path="/shop",
        forwarded_allow_ips="10.0.0.1, unix",
        reload=True,
        log_level="debug",
        access_log="-",
        graceful_timeout=5,
        set=["backlog=7"],
    )
    assert settings == config.Settings(
        config.Application(
            "shop.asgi",
            callable="make",
            processes=3,
            factory=True,
            path="/srv",
            root_path="/shop",
            reload=True,
            graceful_timeout=5.0,
        ),
        listeners=("127.0.0.1:1", "unix:/x"),
        forwarded_allow_ips=("10.0.0.1", "unix"),
        log_level="debug",
        access_log="-",
        graceful_timeout=5.0,
        backlog=7,
    )


def test_environment_gives_defaults() -> None:
    """PORT, WEB_CONCURRENCY and FORWARDED_ALLOW_IPS count where the option is not given."""
    environment = {"PORT": "5000", "WEB_CONCURRENCY": "4", "FORWARDED_ALLOW_IPS": "*"}
    settings = config.from_options("m", environment)
    assert settings.listeners == ("0.0.0.0:5000",)
    assert (settings.application.processes, settings.forwarded_allow_ips) == (4, ("*",))
    settings = config.from_options("m", environment, bind="127.0.0.1:1", workers=2, forwarded_allow_ips=["::1"])
    assert settings.listeners == ("127.0.0.1:1",)
    assert (settings.application.processes, settings.forwarded_allow_ips) == (2, ("::1",))


@pytest.mark.parametrize(("name", "text"), [("PORT", "http"), ("PORT", "65536"), ("WEB_CONCURRENCY", "0")])
def test_wrong_environment(name: str, text: str) -> None:
    """A variable that is no such number is named in the error."""
    with pytest.raises(ConfigError, match=f"environment variable {name}"):
        config.from_options("m", {name: text})


@pytest.mark.parametrize("target", ["", ":app", "module:"])
def test_wrong_target(target: str) -> None:
    """A target without module, or with an empty attribute, is refused."""
    with pytest.raises(ConfigError, match="expected module or module:attribute"):
        config.from_options(target, {})


def test_unknown_option() -> None:
    """A misspelt keyword of `bridge.run` is refused with the right one."""
    options: Any = {"worker": 2}
    with pytest.raises(ConfigError, match="did you mean 'workers'"):
        config.from_options("m", {}, **options)
