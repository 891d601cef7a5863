"""The table of gunicorn's settings: complete, unambiguous, and with the values that the router and workers get."""

from __future__ import annotations

from typing import Any

import gunicorn
import pytest
from gunicorn.config import KNOWN_SETTINGS, Config
from gunicorn.glogging import Logger
from gunicorn.instrument.statsd import Statsd

from bridge.errors import ConfigError
from bridge.gunicorn import settings
from bridge.gunicorn.settings import (
    HONOURED,
    IRRELEVANT,
    REFUSED,
    WARNED,
    for_router,
    from_gunicorn,
    judge,
    room,
    with_seats,
)
from bridge.gunicorn.settings import application_of as settings_of_router

NAMES = {setting.name for setting in KNOWN_SETTINGS}


def configured(**values: Any) -> Config:
    """Gunicorn's configuration with these values."""
    cfg = Config()
    for name, value in values.items():
        cfg.set(name, value)
    return cfg


def translated(environment: dict[str, str] | None = None, interface: str = "asgi", **values: Any) -> Any:
    """Bridge's settings for these of gunicorn."""
    return from_gunicorn(
        configured(**values), "shop.web:app", interface, access_in_worker=False, environment=environment or {}
    )


def test_every_setting_is_decided() -> None:
    """Each setting that gunicorn knows stands in one table, and none in two; older releases know fewer."""
    tables = [set(HONOURED), set(IRRELEVANT), set(WARNED), set(REFUSED)]
    decided = set().union(*tables)
    assert decided >= NAMES
    assert sum(map(len, tables)) == len(decided)
    assert decided == NAMES or gunicorn.version_info < (27,)


@pytest.mark.parametrize(("value", "most"), [(None, 1 << 20), (1 << 24, 1 << 20), (5000, 5000), (0, 1 << 40)])
@pytest.mark.skipif("websocket_max_message_size" not in NAMES, reason="this gunicorn does not have the setting")
def test_size_of_messages(value: int | None, most: int) -> None:
    """The limit of gunicorn's is honoured when somebody has set it."""
    settings = translated() if value is None else translated(websocket_max_message_size=value)
    (application,) = settings.applications.values()
    assert application.websocket == settings.http.websocket
    assert (application.websocket.max_message_size, application.websocket.max_frame_size) == (most, most)


def test_defaults_are_said_nothing_about() -> None:
    """An untouched configuration is neither refused nor warned of."""
    assert judge(Config(), "asgi") == ([], [])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("certfile", "/x"),
        ("keyfile", "/x"),
        ("ca_certs", "/x"),
        ("cert_reqs", 2),
        ("ciphers", "x"),
        ("ssl_context", lambda _cfg, _make: None),
        ("proxy_protocol", "v1"),
        ("protocol", "uwsgi"),
        ("secure_scheme_headers", {"X-FORWARDED-SSL": "on"}),
        ("secure_scheme_headers", {}),
        ("forwarder_headers", "REMOTE_USER"),
        ("header_map", "dangerous"),
        ("header_map", "refuse"),
        ("strip_header_spaces", True),
        ("permit_obsolete_folding", True),
        ("permit_unconventional_http_method", True),
        ("permit_unconventional_http_version", True),
        ("casefold_http_method", True),
        ("reuse_port", True),
    ],
)
def test_refused(name: str, value: Any) -> None:
    """What security hangs on and is not honoured is refused, by name and with the reason."""
    (line,) = judge(configured(**{name: value}), "asgi").refused
    assert line == f"{name} is refused: {REFUSED[name]}"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sendfile", False),
        ("reload_engine", "inotify"),
        ("asgi_loop", "asyncio"),
        ("asgi_lifespan", "off"),
        ("http_protocols", "h1,h2"),
        ("enable_backlog_metric", True),
    ],
)
def test_warned(name: str, value: Any) -> None:
    """What has no effect is named, when the user has changed it."""
    refused, (line,) = judge(configured(**{name: value}), "asgi")
    assert not refused
    assert line == f"{name} has no effect: {WARNED[name]}"


def test_equal_values_are_no_change() -> None:
    """Another value of the same meaning is left alone."""
    cfg = configured(secure_scheme_headers={"X-FORWARDED-PROTO": "https"}, asgi_loop="uvloop", reload_engine="poll")
    assert judge(cfg, "asgi") == ([], [])


def test_what_proxies_are_believed_is_said() -> None:
    """Trusting X-Forwarded-For is more than gunicorn does: whoever names his proxies is told, the default is not."""
    for value in ("10.0.0.1", "*", "127.0.0.1,::1,10.0.0.1"):
        assert judge(configured(forwarded_allow_ips=value), "asgi") == ([], [settings.FORWARDED])
    assert judge(configured(forwarded_allow_ips="127.0.0.1,::1"), "wsgi") == ([], [])


def test_proxies_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """FORWARDED_ALLOW_IPS is gunicorn's default, not a change of the user's; it is said all the same."""
    monkeypatch.setattr("gunicorn.config.ForwardedAllowIPS.default", "10.0.0.1")
    assert judge(Config(), "asgi").warned == [settings.FORWARDED]
    assert translated().forwarded_allow_ips == ("10.0.0.1", "unix")


def test_threads_concern_wsgi_alone() -> None:
    """An ASGI worker has no use for threads, and says so; a WSGI worker takes them."""
    cfg = configured(threads=4)
    assert judge(cfg, "wsgi") == ([], [])
    assert judge(cfg, "asgi").warned == ["threads has no effect: an ASGI worker runs its requests on one loop"]
    assert translated(interface="wsgi", threads=4).applications["gunicorn"].threads == 4
    assert translated(threads=4).applications["gunicorn"].threads == 1


def test_setting_of_a_later_gunicorn_is_said() -> None:
    """A setting that no table knows is named once it is changed."""
    cfg = Config()

    class Newer:
        def __init__(self) -> None:
            self.value = 1

        def get(self) -> int:
            return self.value

    novelty = cfg.settings["novelty"] = Newer()
    assert judge(cfg, "asgi") == ([], [])
    novelty.value = 7
    assert judge(cfg, "asgi").warned == ["novelty has no effect: this release does not know it"]


def test_values() -> None:
    """Numbers arrive where they mean the same."""
    found = translated(
        workers=3,
        timeout=40,
        graceful_timeout=7,
        keepalive=5,
        backlog=99,
        worker_connections=50,
        limit_request_line=2000,
        limit_request_field_size=3000,
        tmp_upload_dir="/tmp",
        loglevel="debug",
        accesslog="-",
        forwarded_allow_ips="10.0.0.0/8,::1",
        root_path="api/",
        proc_name="shop",
        chdir="/",
    )
    application = found.applications["shop"]
    assert (application.target, application.path, application.protocol) == ("shop.web:app", ("/",), "asgi")
    assert (application.processes, application.requests_in_flight, application.root_path) == (3, 50, "/api")
    assert (application.liveness_timeout, application.start_timeout, application.graceful_timeout) == (40, 60, 7)
    assert (found.http.idle_timeout, found.http.large_header_buffer_size, found.http.body_temp_path) == (
        5,
        3000,
        "/tmp",
    )
    assert (found.backlog, found.log_level, found.access_log, found.graceful_timeout) == (99, "debug", "-", 7)
    assert found.forwarded_allow_ips == ("10.0.0.0/8", "::1", "unix")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, (8190, None, None)),
        ({"limit_request_line": 4000}, (8190, 4000, None)),
        ({"limit_request_line": 0}, (8190, 65536, None)),
        ({"limit_request_field_size": 2000}, (2000, 4094, None)),
        ({"limit_request_field_size": 0}, (65536, None, None)),
        ({"limit_request_fields": 20}, (8190, None, 20)),
    ],
)
def test_limits_of_heads(values: dict[str, Any], expected: tuple[int, int | None, int | None]) -> None:
    """Gunicorn's three limits are kept, each for itself; defaults bind no tighter than the router's own."""
    http = translated(**values).http
    assert (http.large_header_buffer_size, http.max_request_line, http.max_header_fields) == expected


def test_timeouts() -> None:
    """Zero is no timeout; one that is shorter than a few heartbeats is not taken at its word."""
    assert translated(timeout=0).applications["gunicorn"].liveness_timeout == 0
    assert translated(timeout=0).applications["gunicorn"].start_timeout == 0
    assert translated(timeout=1).applications["gunicorn"].liveness_timeout == settings.LEAST_TIMEOUT
    assert translated(timeout=600).applications["gunicorn"].start_timeout == 600


def test_grace_of_a_request_whose_client_left() -> None:
    """Only who has set it gets it: gunicorn's own default would cancel requests that nobody meant to be cancelled."""
    assert translated().applications["gunicorn"].limits.cancel_grace is None
    assert translated(asgi_disconnect_grace_period=0).applications["gunicorn"].limits.cancel_grace == 0
    assert translated(asgi_disconnect_grace_period=7).applications["gunicorn"].limits.cancel_grace == 7
    wsgi = translated(interface="wsgi", asgi_disconnect_grace_period=7)
    assert wsgi.applications["gunicorn"].limits.cancel_grace is None


def test_script_name() -> None:
    """SCRIPT_NAME of the environment is a prefix of WSGI applications, as under gunicorn."""
    environment = {"SCRIPT_NAME": "/shop"}
    assert translated(environment, interface="wsgi").applications["gunicorn"].prefix == "/shop"
    assert translated(environment).applications["gunicorn"].prefix == ""


def test_everyone_may_be_believed() -> None:
    """The star stays a star."""
    assert translated(forwarded_allow_ips="*").forwarded_allow_ips == ("*", "unix")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("workers", 5000),
        ("threads", 300),
        ("limit_request_field_size", 32),
    ],
)
def test_out_of_range(name: str, value: Any) -> None:
    """A value that gunicorn takes and Bridge does not is an error that names it as gunicorn's users know it."""
    with pytest.raises(ConfigError, match=rf"^{name}: "):
        translated(interface="wsgi", **{name: value})


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"accesslog": "-"}, False),
        ({}, False),
        ({"access_log_format": "%(s)s"}, False),
        ({"accesslog": "-", "access_log_format": "%(s)s"}, True),
        ({"syslog": True}, True),
        ({"syslog": True, "disable_redirect_access_to_syslog": True}, False),
        ({"logconfig": "/x"}, True),
        ({"logconfig_dict": {"version": 1}}, True),
        ({"logconfig_json": "/x"}, True),
    ],
)
def test_who_logs_access(values: dict[str, Any], expected: bool) -> None:
    """The router writes plain files in the usual format; whatever else is asked for is done by the workers."""
    assert settings.worker_logs_access(configured(**values), Logger) is expected


def test_other_loggers_log_access() -> None:
    """A logger class of the user's, or statsd's, sees every request."""
    own = type("Own", (Logger,), {})
    assert settings.worker_logs_access(Config(), own)
    assert settings.worker_logs_access(Config(), Statsd)


def test_the_router_stays_when_only_workers_change() -> None:
    """Settings that the router does not look at are no reason for another one; its own are."""
    plain = for_router(translated(), 16)
    assert plain == for_router(translated(workers=4, timeout=7, graceful_timeout=9), 16)
    assert plain != for_router(translated(keepalive=9), 16)
    assert plain != for_router(translated(), 32)


def test_room_grows_in_steps() -> None:
    """Few numbers of workers differ in what they ask of the router, and none asks for more than there may be."""
    assert [room(workers) for workers in (1, 16, 17, 64, 65, 1000, 1024)] == [16, 16, 32, 64, 128, 1024, 1024]


def test_seats_are_never_taken_away() -> None:
    """A router that is to serve old and new workers has room for both kinds."""
    settings = for_router(translated(interface="wsgi", threads=4), 32)
    found = settings_of_router(with_seats(settings, 16, 8))
    assert (found.processes, found.threads) == (32, 8)
    assert with_seats(settings, 16, 1) == settings
