"""The command `bridged`: options or a file in, settings out, a line for each error and an exit status.

Exit status: 0 stopped as told · 1 an address cannot be listened on, or Bridge itself did not start · 2 wrong
options or settings · 3 the application cannot be loaded or started.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from bridge import __version__, config
from bridge.errors import BridgeError, ConfigError, ConfigErrors, TargetError
from bridge.main import serve

EXAMPLES = """\
examples:
  bridged run hello:app                           module hello.py, its attribute app, on 127.0.0.1:8000
  bridged run hello:app -b 127.0.0.1:8080 -w 4    four workers
  bridged run hello:app -b unix:/run/hello.sock   for a proxy on the same machine
  bridged run shop.wsgi --threads 8               a WSGI application: so many requests at once in each worker
  bridged run hello:make_app --factory --reload   while developing: call make_app(); restart on changes
  bridged run shop.asgi --app-dir /srv/shop       attribute "application", else "app", in /srv/shop/shop/asgi.py
  bridged run --mount /=shop.wsgi --mount /api=api.main:app    two applications, each with workers of its own
  bridged run hello:app --set http.max_body_size=8388608

signals: TERM stops after the requests in flight; INT and QUIT stop at once; HUP replaces the workers without a
gap; USR1 reopens the access log. The exit status is 0, 1 (address), 2 (usage) or 3 (application).
"""
SERVE_EXAMPLES = """\
examples:
  bridged serve config.json                       what the file describes
  bridged serve --check config.json               only say what is wrong in it
  bridged serve config.json --set log_level=debug
  bridged serve config.json --set applications.shop.processes=4

a file in the form of NGINX Unit's configuration, here with one of two applications on a socket:
  {
      "listeners": {
          "*:8080": {"pass": "applications/hello"},
          "unix:/run/shop.sock": {"pass": "applications/shop"}
      },
      "applications": {
          "hello": {"type": "python", "module": "hello"},
          "shop": {"type": "python 3", "path": "/srv/shop", "home": "/srv/shop/venv", "module": "shop.wsgi",
                   "processes": 2, "threads": 8, "environment": {"STAGE": "production"}}
      }
  }

An application that does not start is tried again and again; meanwhile its requests get 503, and the others are served.

signals: as with bridged run. HUP replaces the workers; a changed file is read after a restart only. The exit status is
0, 1 (address), or 2 (usage, or the file).
"""
#: Which option sets what a settings error points to.
OPTIONS = {
    "/listeners": "--bind",
    "/applications/app/processes": "--workers",
    "/applications/app/threads": "--threads",
    "/applications/app/protocol": "--interface",
    "/applications/app/path": "--app-dir",
    "/applications/app/root_path": "--root-path",
    "/applications/app/module": "the target",
    "/applications/app/mounts": "--mount",
    "/applications/app/share": "--share",
    "/settings/forwarded_allow_ips": "--forwarded-allow-ips",
    "/settings/log_level": "--log-level",
    "/access_log": "--access-log",
    "access_log": "--access-log",
    "/settings/graceful_timeout": "--graceful-timeout",
    "/applications/app/graceful_timeout": "--graceful-timeout",
    "/settings/http/websocket/max_frame_size": "--ws-max-size",
    "/settings/http/websocket/max_message_size": "--ws-max-size",
    "/settings/http/websocket/max_queue": "--ws-max-queue",
    "/settings/http/websocket/keepalive_interval": "--ws-ping-interval",
    "/settings/http/websocket/read_timeout": "--ws-ping-timeout",
    "/settings/http/websocket/compression": "--ws-per-message-deflate",
}
#: What the same thing is called elsewhere.
FOREIGN = {
    "--host": "--bind HOST:NUMBER",
    "--port": "--bind HOST:NUMBER",
    "--uds": "--bind unix:/path",
    "--access-logfile": "--access-log",
    "--timeout": "--set application.limits.run_timeout=SECONDS (a request) or application.liveness_timeout (a worker)",
    "--timeout-graceful-shutdown": "--graceful-timeout",
    "--chdir": "--app-dir",
    "--proxy-headers": "--forwarded-allow-ips",
    "--limit-concurrency": "--set application.requests_in_flight=NUMBER",
    "--limit-max-body-size": "--set http.max_body_size=BYTES",
    "--timeout-keep-alive": "--set http.idle_timeout=SECONDS",
    "--keep-alive": "--set http.idle_timeout=SECONDS",
    "--backlog": "--set backlog=NUMBER",
    "--blocking-threads": "--threads",
    "--wsgi": "--interface wsgi",
}


class _Parser(argparse.ArgumentParser):
    """Errors are one line that starts with the command and says where to read on."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (try {self.prog} --help)\n")


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    top = _Parser(
        prog="bridged",
        description="Bridge: a Python application server with a router in front of its workers.",
        epilog="bridged run --help and bridged serve --help show the options and examples.",
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"bridged {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)
    run = _command(commands, "run", "serve an ASGI or WSGI application, or several below one address", EXAMPLES)
    _add_options(run)
    file = _command(commands, "serve", "serve the applications that a file describes", SERVE_EXAMPLES)
    file.add_argument("file", metavar="FILE", help="JSON; comments are allowed")
    file.add_argument("--check", action="store_true", help="say what is wrong in the file, and end")
    file.add_argument("--set", action="append", metavar="NAME=VALUE", help="a setting that the file has otherwise")
    return top


def _command(commands: Any, name: str, does: str, examples: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name,
        help=does,
        description=f"{does.capitalize()}.".replace("asgi or wsgi", "ASGI or WSGI"),
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    command.add_argument("--version", action="version", version=f"bridged {__version__}")
    return command


def _add_options(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    what = 'what to serve; without attribute "application", then "app"; may be left out where there is a --mount'
    add("target", nargs="?", metavar="MODULE[:ATTRIBUTE]", help=what)
    add(
        "-b",
        "--bind",
        action="append",
        metavar="ADDRESS",
        help="host:number, [v6]:number, :number or unix:/path; repeatable (default 127.0.0.1:8000, or 0.0.0.0:$PORT)",
    )
    add(
        "--mount",
        action="append",
        metavar="PREFIX=TARGET",
        help="serve another one below this path, with workers of its own, e.g. /api=api.main:app; repeatable",
    )
    add("--share", action="store_true", help="what is mounted shares its workers, instead")
    add("-w", "--workers", type=int, metavar="N", help="worker processes (default $WEB_CONCURRENCY or 1)")
    add("--threads", type=int, metavar="N", help="threads of each worker, for a WSGI application (default 1)")
    add("--interface", metavar="KIND", help=f"{', '.join(config.PROTOCOLS)} (default auto: by the look of it)")
    add("--factory", action="store_true", help="the attribute is a function that returns the application")
    add("--app-dir", metavar="DIR", help="where the module is looked for first (default: the current directory)")
    add("--root-path", metavar="PATH", help="prefix under which a proxy in front shows the application, e.g. /shop")
    add(
        "--forwarded-allow-ips",
        metavar="LIST",
        help='peers whose X-Forwarded-* are believed: addresses, networks, "unix", "*"; separated by commas '
        "(default $FORWARDED_ALLOW_IPS or 127.0.0.1,::1)",
    )
    add("--reload", action="store_true", help="replace the workers when a source file changes; for development")
    add("--log-level", metavar="LEVEL", help=f"{', '.join(config.LOG_LEVELS)} (default info)")
    add("--access-log", metavar="PATH", help="a line for each request, - = standard output (default: none)")
    add("--graceful-timeout", type=float, metavar="S", help="seconds that requests have to end (default 30)")
    _add_websocket_options(command)
    add("--set", action="append", metavar="NAME=VALUE", help="any other setting, e.g. http.body_read_timeout=60")


def _add_websocket_options(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--ws-max-size", type=int, metavar="BYTES", help="of a WebSocket's message (default 1048576)")
    add("--ws-max-queue", type=int, metavar="N", help="messages read ahead of the application (default 32)")
    add("--ws-ping-interval", type=float, metavar="S", help="silence after which a client is pinged (default 30)")
    add("--ws-ping-timeout", type=float, metavar="S", help="that it has to answer; 0 = for ever (default 30)")
    add("--ws-per-message-deflate", type=_boolean, metavar="BOOL", help="offer compression (default true)")


def _boolean(text: str) -> bool:
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if text.lower() not in words:
        raise argparse.ArgumentTypeError(f"expected true or false, found {text!r}")
    return words[text.lower()]


def read(arguments: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """Command and options of a command line: those of `run` as `bridge.config.Options`, with the target beside them.

    Raises:
        SystemExit: wrong usage (status 2), or --help or --version, which have been answered (status 0).
    """
    grammar = parser()
    first = arguments[0] if arguments else ""
    if first not in ("run", "serve") and not first.startswith("-"):
        if ":" in first:
            grammar.error(f"no command given; did you mean: bridged run {first}")
        if first.endswith(".json"):
            grammar.error(f"no command given; did you mean: bridged serve {first}")
    given, unknown = grammar.parse_known_args(arguments)
    if unknown:
        grammar.prog = f"bridged {given.command}"
        grammar.error(_unknown(given.command, unknown[0]))
    options = vars(given)
    if given.command == "run" and not options.get("target") and not options.get("mount"):
        grammar.prog = "bridged run"
        grammar.error("expected MODULE[:ATTRIBUTE], or --mount PREFIX=MODULE[:ATTRIBUTE]")
    return options.pop("command"), options


def _unknown(command: str, text: str) -> str:
    if not text.startswith("-"):
        return f"unexpected argument {text!r}"
    name = text.partition("=")[0]
    if command == "serve":
        known = ["--check", "--set", "--help", "--version"]
        return f"unknown option {name}{config.near_miss(name, known)}; the rest stands in the file"
    if name in FOREIGN:
        return f"unknown option {name}; here it is {FOREIGN[name]}"
    names = [f"--{option.replace('_', '-')}" for option in config.Options.__annotations__]
    return f"unknown option {name}{config.near_miss(name, [*names, '--help', '--version'])}"


def _named(error: BridgeError) -> str:
    """The error, with the option that was typed in the place of a JSON pointer."""
    if isinstance(error, ConfigError):
        for pointer, option in OPTIONS.items():
            if error.pointer == pointer or error.pointer.startswith(f"{pointer}/"):
                mount = error.pointer.removeprefix(pointer).partition("/")[2] if option == "--mount" else ""
                prefix = mount.partition("/")[0].replace("~1", "/").replace("~0", "~")
                return f"{option} {prefix}".rstrip() + f": {error.reason}"
    return str(error)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status.

    Args:
        arguments: the command line without the program's name; None = that of this process.
    """
    command, options = read(sys.argv[1:] if arguments is None else arguments)
    try:
        if command == "run":
            serve(config.from_options(options.pop("target", None) or "", os.environ, **options))
        else:
            settings = from_file(options["file"], options.get("set", ()))
            if not options.get("check"):
                serve(settings, patient=True)
    except ConfigErrors as error:
        for each in error.errors:
            print(f"bridged: {each}", file=sys.stderr)
        return error.exit_status
    except BridgeError as error:
        if isinstance(error, TargetError) and error.report:
            print(error.report.rstrip(), file=sys.stderr)
        print(f"bridged: {_named(error) if command == 'run' else error}", file=sys.stderr)
        return error.exit_status
    return 0


def from_file(name: str, assignments: Sequence[str] = ()) -> config.Settings:
    """The settings that a file describes, with some of them replaced.

    Raises:
        ConfigErrors: all that is wrong in the file.
        ConfigError: there is no such file, or an assignment is wrong.
    """
    try:
        with open(name, "rb") as file:
            data = file.read()
    except OSError as error:
        raise ConfigError(name, f"cannot be read: {error.strerror}") from None
    settings = config.from_file(data, name)
    for assignment in assignments:
        settings = config.assign(settings, assignment)
    return settings
