"""The options of `bridged run`, and `--set`, as settings."""

from __future__ import annotations

from typing import Any

import pytest

from bridge import config
from bridge.errors import ConfigError

ONE = config.single(config.Application("m"))


def test_assign_replaces_one_value() -> None:
    """`--set` reaches every group, takes JSON values, and takes anything else as a string."""
    settings = ONE
    for assignment in (
        "http.max_body_size=8",
        "backlog=5",
        "application.threads=3",
        "application.environment.A=1",
        "http.server_version=false",
    ):
        settings = config.assign(settings, assignment)
    assert (settings.http.max_body_size, settings.backlog) == (8, 5)
    application = settings.applications["app"]
    assert (application.threads, application.environment, settings.http.server_version) == (3, {"A": "1"}, False)


@pytest.mark.parametrize(
    ("assignment", "reason"),
    [
        ("http.max_body_size", "expected NAME=VALUE"),
        ("htp.max_body_size=1", "there is no group 'htp'; did you mean 'http'?"),
        ("http.max_bodysize=1", "did you mean 'max_body_size'?"),
        ("http=1", "'http' is a group: expected http.NAME=VALUE with one of header_read_timeout, "),
        ("application.environment=1", "expected application.environment.NAME=VALUE"),
        ("backlog.x=1", "there is no group 'backlog'"),
        ("aplication.threads=1", "did you mean 'application'?"),
        ("bcklog=1", "did you mean 'backlog'?"),
        ("backlog=many", "expected an integer number, found the string 'many'"),
    ],
)
def test_wrong_assignments(assignment: str, reason: str) -> None:
    """`--set` names the assignment and what is wrong with it."""
    with pytest.raises(ConfigError, match="--set") as caught:
        config.assign(ONE, assignment)
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
    assert settings == config.single(
        config.Application(
            "shop.asgi",
            callable="make",
            processes=3,
            factory=True,
            path=("/srv",),
            root_path="/shop",
            reload=True,
            graceful_timeout=5.0,
        ),
        ("127.0.0.1:1", "unix:/x"),
        forwarded_allow_ips=("10.0.0.1", "unix"),
        log_level="debug",
        access_log="-",
        graceful_timeout=5.0,
        backlog=7,
    )


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {}),
        ({"ws_max_size": 5}, {"max_frame_size": 5, "max_message_size": 5}),
        ({"ws_max_queue": 5, "ws_per_message_deflate": False}, {"max_queue": 5, "compression": False}),
        ({"ws_ping_interval": 5}, {"keepalive_interval": 5.0, "read_timeout": 35.0}),
        ({"ws_ping_timeout": 5}, {"read_timeout": 35.0}),
        ({"ws_ping_interval": 2.5, "ws_ping_timeout": 5}, {"keepalive_interval": 2.5, "read_timeout": 7.5}),
        ({"ws_ping_timeout": 0}, {"read_timeout": 0.0}),
        ({"ws_ping_interval": 0}, {"keepalive_interval": 0.0, "read_timeout": 0.0}),
    ],
)
def test_options_of_websockets(options: Any, expected: Any) -> None:
    """They are named as other servers' users know them; who is not pinged is not given up either."""
    settings = config.from_options("m", {}, **options)
    assert settings.http.websocket == config.WebSocket(**expected)
    assert settings.applications["app"].websocket == settings.http.websocket


def test_wrong_options_of_websockets() -> None:
    """They are judged like all others."""
    wrong: Any = {"ws_ping_timeout": "5"}
    with pytest.raises(ConfigError, match="expected a number, found the string '5'"):
        config.from_options("m", {}, **wrong)


def test_environment_gives_defaults() -> None:
    """PORT, WEB_CONCURRENCY and FORWARDED_ALLOW_IPS count where the option is not given."""
    environment = {"PORT": "5000", "WEB_CONCURRENCY": "4", "FORWARDED_ALLOW_IPS": "*"}
    settings = config.from_options("m", environment)
    assert list(settings.listeners) == ["0.0.0.0:5000"]
    assert (settings.applications["app"].processes, settings.forwarded_allow_ips) == (4, ("*",))
    settings = config.from_options("m", environment, bind="127.0.0.1:1", workers=2, forwarded_allow_ips=["::1"])
    assert list(settings.listeners) == ["127.0.0.1:1"]
    assert (settings.applications["app"].processes, settings.forwarded_allow_ips) == (2, ("::1",))


@pytest.mark.parametrize(
    ("name", "text"), [("PORT", "http"), ("PORT", "65536"), ("PORT", "5" * 5000), ("WEB_CONCURRENCY", "0")]
)
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


@pytest.mark.parametrize("bind", [[], 5, ["127.0.0.1:1", 5]])
def test_wrong_kind_of_addresses(bind: Any) -> None:
    """Addresses are strings."""
    with pytest.raises(ConfigError, match="expected a string or an array of strings"):
        config.from_options("m", {}, bind=bind)


@pytest.mark.parametrize("options", [{"forwarded_allow_ips": 5}, {"set": None}, {"set": "backlog=5"}, {"set": [5]}])
def test_wrong_kind_of_lists(options: Any) -> None:
    """What is to be a list of strings and is none is refused in words."""
    with pytest.raises(ConfigError, match=r"expected (a string or )?an array"):
        config.from_options("m", {}, **options)


def test_several_applications_are_named_in_assignments() -> None:
    """Where there are several applications `application` is nobody's name."""
    shop, blog = config.Application("s", name="shop"), config.Application("b", name="blog")
    listener = config.Listener(pass_="applications/shop")
    settings = config.Settings(applications={"shop": shop, "blog": blog}, listeners={"127.0.0.1:1": listener})
    assert config.assign(settings, "applications.blog.threads=2").applications["blog"].threads == 2
    with pytest.raises(ConfigError, match="there are several"):
        config.assign(settings, "application.threads=2")


def test_mounts_of_the_command_line() -> None:
    """`mount` is a table or several texts, a target is mounted at the root, and other options are for all."""
    for mount in ({"/api": "api.main:app"}, ["/api=api.main:app"]):
        settings = config.from_options("shop.wsgi", {}, mount=mount, workers=3, threads=2)
        assert settings.mounts == {"app": {"": "app/", "/api": "app/api"}}
        assert [each.target for each in settings.applications.values()] == ["shop.wsgi", "api.main:app"]
        assert {(each.processes, each.threads) for each in settings.applications.values()} == {(3, 2)}
    shared = config.from_options("", {}, mount={"/": "m", "/api": "n"}, share=True)
    assert list(shared.applications["app"].mounts) == ["/", "/api"]


def test_assignments_to_mounts() -> None:
    """`--set` reaches all that is mounted, or one of them."""
    settings = config.from_options("m", {}, mount={"/a": "n"}, set=["application.threads=3"])
    settings = config.assign(settings, "applications.app.limits.timeout=5")
    settings = config.assign(settings, "applications.app/a.optional=true")
    every = settings.applications.values()
    assert [(each.threads, each.limits.timeout, each.optional) for each in every] == [(3, 5, False), (3, 5, True)]


@pytest.mark.parametrize(
    ("target", "mount", "share", "pointer"),
    [
        ("m", ["/a"], False, "/applications/app/mounts"),
        ("m", 5, False, "/applications/app/mounts"),
        ("m", ["/=n"], False, "target"),
        ("m", {"": "n"}, False, "target"),
        ("", ["/a=m", "/a=n"], False, "/applications/app/mounts/~1a"),
        ("", ["a=m"], False, "/applications/app/mounts/a"),
        ("", [], False, "target"),
        ("m", [], True, "/applications/app/share"),
    ],
)
def test_wrong_mounts(target: str, mount: Any, share: bool, pointer: str) -> None:
    """What is wrong with `--mount` is named."""
    with pytest.raises(ConfigError) as caught:
        config.from_options(target, {}, mount=mount, share=share)
    assert caught.value.pointer == pointer
