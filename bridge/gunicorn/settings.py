"""What becomes of each setting of gunicorn: honoured, without meaning here, not honoured (said), or refused.

gunicorn's configuration object comes in as it is; nothing of gunicorn is imported. A test asserts that every
setting gunicorn knows stands in exactly one of the tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from bridge import config
from bridge.errors import ConfigError

#: Done by gunicorn itself, or by Bridge with the same meaning.
HONOURED = frozenset(
    (
        # read by gunicorn before Bridge sees anything
        *("config", "wsgi_app", "worker_class", "chdir", "pythonpath", "paste", "raw_paste_global_conf", "daemon"),
        *("check_config", "print_config", "spew", "enable_stdio_inheritance", "default_proc_name"),
        # the master
        *("bind", "backlog", "workers", "pidfile", "proc_name", "preload_app", "umask", "control_socket"),
        *("control_socket_mode", "control_socket_disable", "user", "group", "initgroups", "raw_env"),
        # workers
        *("threads", "worker_connections", "max_requests", "max_requests_jitter", "timeout", "graceful_timeout"),
        *("reload", "reload_extra_files", "root_path", "asgi_disconnect_grace_period", "websocket_max_message_size"),
        # the router
        *("keepalive", "limit_request_line", "limit_request_fields", "limit_request_field_size", "tmp_upload_dir"),
        "forwarded_allow_ips",
        # logs
        *("accesslog", "access_log_format", "errorlog", "loglevel", "capture_output", "logger_class", "logconfig"),
        *("logconfig_dict", "logconfig_json", "syslog", "syslog_addr", "syslog_prefix", "syslog_facility"),
        *("disable_redirect_access_to_syslog", "statsd_host", "statsd_prefix", "dogstatsd_tags"),
        # hooks
        *("on_starting", "on_reload", "when_ready", "pre_fork", "post_fork", "post_worker_init", "worker_int"),
        *("worker_abort", "pre_exec", "pre_request", "post_request", "child_exit", "worker_exit"),
        *("nworkers_changed", "on_exit"),
        # gunicorn's dirty workers, which the master keeps as ever
        *("dirty_apps", "dirty_workers", "dirty_timeout", "dirty_threads", "dirty_graceful_timeout"),
        *("on_dirty_starting", "dirty_post_fork", "dirty_worker_init", "dirty_worker_exit"),
    )
)

#: There is nothing here that they could change, and nobody misses it.
IRRELEVANT = frozenset(
    (
        "worker_tmp_dir",  # heartbeats are in shared memory
        "http_parser",  # the router has its own
        *("proxy_allow_ips", "uwsgi_allow_ips"),  # of protocols that are refused
        *("suppress_ragged_eofs", "do_handshake_on_connect"),  # of TLS, which is refused
    )
)

#: Not honoured: the server starts and says so. Name → why.
WARNED = {
    "reload_engine": "files are always polled",
    "sendfile": "the router decides by itself how a file is sent",
    "enable_backlog_metric": "that metric is not sent",
    "asgi_loop": "workers always run on uvloop",
    "asgi_lifespan": "lifespan is always tried, and an application without it is served",
    "http_protocols": "only HTTP/1.1 is served",
    "http2_cleartext": "only HTTP/1.1 is served",
    "http2_max_concurrent_streams": "only HTTP/1.1 is served",
    "http2_initial_window_size": "only HTTP/1.1 is served",
    "http2_max_frame_size": "only HTTP/1.1 is served",
    "http2_max_header_list_size": "only HTTP/1.1 is served",
}

#: What the peers of `forwarded_allow_ips` are believed is another thing than under gunicorn.
FORWARDED = (
    "forwarded_allow_ips: beyond gunicorn, X-Forwarded-For of these peers becomes the client's address;"
    " of secure_scheme_headers only X-Forwarded-Proto is believed"
)

_TLS = "TLS is not served yet; let a proxy in front do it"
_LENIENT = "the router accepts no such requests"
_NAMES = "the router drops header names with underscores, from everyone"

#: Security hangs on them and they are not honoured: the server does not start. Name → why.
REFUSED = {
    "keyfile": _TLS,
    "certfile": _TLS,
    "ca_certs": _TLS,
    "cert_reqs": _TLS,
    "ciphers": _TLS,
    "ssl_version": _TLS,
    "ssl_context": _TLS,
    "proxy_protocol": "the PROXY protocol is not served yet",
    "protocol": "only HTTP is served",
    "secure_scheme_headers": "the router believes X-Forwarded-Proto alone, from forwarded_allow_ips",
    "forwarder_headers": _NAMES,
    "header_map": _NAMES,
    "permit_obsolete_folding": _LENIENT,
    "strip_header_spaces": _LENIENT,
    "permit_unconventional_http_method": _LENIENT,
    "permit_unconventional_http_version": _LENIENT,
    "casefold_http_method": _LENIENT,
    "reuse_port": "the router alone accepts connections, on sockets that the master has opened",
}

#: Other values than the default that mean the same here.
_EQUAL: Mapping[str, tuple[Any, ...]] = {
    "secure_scheme_headers": ({"X-FORWARDED-PROTO": "https"},),
    "asgi_loop": ("uvloop",),
    "reload_engine": ("poll",),
}

LEAST_TIMEOUT = 3.0  #: seconds: workers beat once a second
START = 60.0  #: seconds that an import may take, at least: `timeout` did not bind it under gunicorn


#: Bridge's name of a setting, in an error → gunicorn's.
NAMES = {
    "module": "wsgi_app",
    "path": "chdir",
    "threads": "threads",
    "processes": "workers",
    "root_path": "root_path",
    "prefix": "SCRIPT_NAME",
    "name": "proc_name",
    "requests_in_flight": "worker_connections",
    "graceful_timeout": "graceful_timeout",
    "start_timeout": "timeout",
    "liveness_timeout": "timeout",
    "idle_timeout": "keepalive",
    "large_header_buffer_size": "limit_request_field_size",
    "max_request_line": "limit_request_line",
    "max_header_fields": "limit_request_fields",
    "body_temp_path": "tmp_upload_dir",
    "forwarded_allow_ips": "forwarded_allow_ips",
    "access_log": "accesslog",
    "backlog": "backlog",
}


class Judgement(NamedTuple):
    """Lines for the log."""

    refused: list[str]
    warned: list[str]


def judge(cfg: Any, interface: str) -> Judgement:
    """Look at every setting that the user has changed.

    Args:
        cfg: gunicorn's configuration.
        interface: "asgi" or "wsgi".
    """
    changed = sorted(name for name in cfg.settings if is_changed(cfg, name))
    refused = [f"{name} is refused: {REFUSED[name]}" for name in changed if name in REFUSED]
    warned = [f"{name} has no effect: {WARNED[name]}" for name in changed if name in WARNED]
    if interface == "asgi" and cfg.threads > 1:
        warned.append("threads has no effect: an ASGI worker runs its requests on one loop")
    if _trusted(cfg) != ["127.0.0.1", "::1"]:  # not `changed`: the variable FORWARDED_ALLOW_IPS is gunicorn's default
        warned.append(FORWARDED)
    decided = HONOURED | IRRELEVANT | WARNED.keys() | REFUSED.keys()
    warned += [f"{name} has no effect: this release does not know it" for name in changed if name not in decided]
    return Judgement(refused, warned)


def _trusted(cfg: Any) -> list[str]:
    allowed = cfg.forwarded_allow_ips
    return allowed.split(",") if isinstance(allowed, str) else list(allowed)


def is_changed(cfg: Any, name: str) -> bool:
    """Whether this setting means something else than its default."""
    setting = cfg.settings[name]
    value = setting.get()
    return value != type(setting)().get() and value not in _EQUAL.get(name, ())


def worker_logs_access(cfg: Any, logger_class: type) -> bool:
    """Whether workers write the access log, through gunicorn's logger, and not the router.

    The router is cheaper and logs what no worker sees (408, 502, 503), but knows one format and files only.
    """
    own = logger_class.__module__ != "gunicorn.glogging"
    if own or cfg.logconfig or cfg.logconfig_dict or cfg.logconfig_json:
        return True
    if cfg.syslog and not cfg.disable_redirect_access_to_syslog:
        return True
    return cfg.accesslog is not None and is_changed(cfg, "access_log_format")


def from_gunicorn(
    cfg: Any,
    target: str,
    interface: str,
    *,
    access_in_worker: bool,
    environment: Mapping[str, str],
    name: str | None = None,
) -> config.Settings:
    """Bridge's settings of the same meaning.

    Args:
        cfg: gunicorn's configuration.
        target: the application as the user named it; gunicorn loads it.
        interface: "asgi" or "wsgi".
        access_in_worker: the router writes no access log.
        environment: SCRIPT_NAME is a prefix of all paths, as under gunicorn.
        name: of the application; None = `proc_name`.

    Raises:
        ConfigError: a value is out of Bridge's range; it is called as gunicorn calls it.
    """
    try:
        return _translated(cfg, target, interface, access_in_worker, environment, name or cfg.proc_name)
    except ConfigError as error:
        known = [NAMES[part] for part in error.pointer.split("/") if part in NAMES]
        raise ConfigError(known[-1] if known else error.pointer, error.reason) from error


def _translated(
    cfg: Any, target: str, interface: str, access_in_worker: bool, environment: Mapping[str, str], name: str
) -> config.Settings:
    timeout = max(float(cfg.timeout), LEAST_TIMEOUT) if cfg.timeout else 0.0
    module, _, attribute = target.partition(":")
    application = config.Application(
        module=module,
        callable=attribute or None,
        path=(cfg.chdir,),
        protocol=interface,
        threads=cfg.threads if interface == "wsgi" else 1,
        root_path=_root(cfg.root_path),
        prefix=_root(environment.get("SCRIPT_NAME", "")) if interface == "wsgi" else "",
        name=name,
        processes=max(1, cfg.workers),
        requests_in_flight=cfg.worker_connections,
        graceful_timeout=float(cfg.graceful_timeout),
        start_timeout=max(START, timeout) if timeout else 0.0,
        liveness_timeout=timeout,
        limits=config.Limits(cancel_grace=_grace(cfg, interface)),
    )
    settings = config.single(
        application,
        [f"127.0.0.1:{number}" for number in range(1, len(cfg.address) + 1)],  # gunicorn opens them; here they count
        http=_http(cfg),
        # Peers of a unix socket are always believed, as under gunicorn: whoever may open the file is a proxy.
        forwarded_allow_ips=(*_trusted(cfg), "unix"),
        access_log=None if access_in_worker else cfg.accesslog,
        log_level=cfg.loglevel.lower() if cfg.loglevel.lower() in config.LOG_LEVELS else "info",
        backlog=cfg.backlog,
        graceful_timeout=float(cfg.graceful_timeout),
    )
    return config.from_json(config.Settings, config.to_json(settings))


def _grace(cfg: Any, interface: str) -> float | None:
    # gunicorn's default of 3 seconds is nobody's wish: to be cancelled breaks applications that have never been.
    asked = interface == "asgi" and is_changed(cfg, "asgi_disconnect_grace_period")
    return float(cfg.asgi_disconnect_grace_period) if asked else None


def _http(cfg: Any) -> config.Http:
    field = cfg.limit_request_field_size or MOST_LINE
    line = cfg.limit_request_line or MOST_LINE
    return config.Http(
        idle_timeout=float(cfg.keepalive),
        large_header_buffer_size=field,
        # What nobody has asked for is not worth a look at each request: 8190 bytes do not hurt.
        max_request_line=None if line <= field and not is_changed(cfg, "limit_request_line") else line,
        max_header_fields=cfg.limit_request_fields or None if is_changed(cfg, "limit_request_fields") else None,
        body_temp_path=cfg.tmp_upload_dir,
        websocket=_websocket(cfg),
    )


def _websocket(cfg: Any) -> config.WebSocket:
    # gunicorn's default of 16 MiB is nobody's wish; older releases have no such setting.
    if "websocket_max_message_size" not in cfg.settings or not is_changed(cfg, "websocket_max_message_size"):
        return config.WebSocket()
    size = cfg.websocket_max_message_size or UNLIMITED
    return config.WebSocket(max_frame_size=size, max_message_size=size)


UNLIMITED = 1 << 40  #: bytes: what 0 means


def _root(path: str) -> str:
    trimmed = path.strip("/")
    return f"/{trimmed}" if trimmed else ""


def application_of(settings: config.Settings) -> config.Application:
    """The only one."""
    (application,) = settings.applications.values()
    return application


MOST_LINE = 65536  #: bytes: what "unlimited" means


def for_router(settings: config.Settings, processes: int) -> config.Settings:
    """`settings` without what the router does not look at: it is replaced only when the rest changes.

    Args:
        settings: from `from_gunicorn`.
        processes: workers that it is to have room for.
    """
    ours = application_of(settings)
    application = config.Application(
        module="any",
        name=ours.name,
        processes=processes,
        requests_in_flight=ours.requests_in_flight,
        threads=ours.threads,
        protocol=ours.protocol,
        root_path=ours.root_path,
        prefix=ours.prefix,
    )
    return replace(settings, applications={ours.name: application}, graceful_timeout=0.0)


def with_seats(settings: config.Settings, processes: int, threads: int) -> config.Settings:
    """The settings of a router with room for at least so many workers of at least so many threads."""
    ours = application_of(settings)
    more = replace(ours, processes=max(ours.processes, processes), threads=max(ours.threads, threads))
    return replace(settings, applications={ours.name: more})


def room(workers: int) -> int:
    """For how many workers a router is to have room: in steps, so that few changes need another router."""
    return min(max(FEW, 1 << (workers - 1).bit_length()), config.MOST_PROCESSES)


FEW = 16  #: workers that any router has room for
