"""The command line: what is read, what is refused, and with which words and status."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import bridge
from bridge import cli


def test_every_option_is_read() -> None:
    """Short and long options arrive under the names that `bridge.run` takes."""
    line = (
        "run m:a -b h:1 --bind unix:/x -w 3 --threads 8 --interface wsgi --factory --app-dir d --root-path /r "
        "--forwarded-allow-ips * --reload --log-level debug --access-log - --graceful-timeout 5 --set a=1 --set b=2 "
        "--ws-max-size 9 --ws-max-queue 8 --ws-ping-interval 7 --ws-ping-timeout 6 --ws-per-message-deflate no"
    )
    assert cli.read(line.split()) == (
        "run",
        {
            "target": "m:a",
            "bind": ["h:1", "unix:/x"],
            "workers": 3,
            "threads": 8,
            "interface": "wsgi",
            "factory": True,
            "app_dir": "d",
            "root_path": "/r",
            "forwarded_allow_ips": "*",
            "reload": True,
            "log_level": "debug",
            "access_log": "-",
            "graceful_timeout": 5.0,
            "set": ["a=1", "b=2"],
            "ws_max_size": 9,
            "ws_max_queue": 8,
            "ws_ping_interval": 7.0,
            "ws_ping_timeout": 6.0,
            "ws_per_message_deflate": False,
        },
    )


def test_nothing_given_is_nothing_said() -> None:
    """Options that are not given do not appear: their defaults belong to the settings."""
    assert cli.read(["run", "m"]) == ("run", {"target": "m"})
    assert cli.read(["serve", "f"]) == ("serve", {"file": "f"})


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "the following arguments are required: COMMAND"),
        ("run", "expected MODULE[:ATTRIBUTE], or --mount PREFIX=MODULE[:ATTRIBUTE]"),
        ("hello:app -w 2", "did you mean: bridged run hello:app"),
        ("config.json --check", "did you mean: bridged serve config.json"),
        ("serve", "the following arguments are required: FILE"),
        ("run m:a --ws-per-message-deflate maybe", "expected true or false, found 'maybe'"),
        ("serve f --chek", "unknown option --chek; did you mean '--check'?"),
        ("serve f -w 2", "unknown option -w; the rest stands in the file"),
        ("run m --wokers 2", "unknown option --wokers; did you mean '--workers'?"),
        ("run m --work 2", "unknown option --work; did you mean '--workers'?"),
        ("run m --port=80", "unknown option --port; here it is --bind HOST:NUMBER"),
        ("run m n", "unexpected argument 'n'"),
        ("run m -w many", "invalid int value: 'many'"),
    ],
)
def test_wrong_usage(line: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong usage is one line on standard error, with a suggestion where there is one, and status 2."""
    with pytest.raises(SystemExit) as caught:
        cli.read(line.split())
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert words in err
    assert (out, err.count("\n")) == ("", 1)


def test_help_that_is_recommended_is_that_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    """Who mistyped an option of a command reads on where the options of that command stand."""
    for line, end in (("run m --port 80", "(try bridged run --help)"), ("serve f -x", "(try bridged serve --help)")):
        with pytest.raises(SystemExit):
            cli.read(line.split())
        said = capsys.readouterr().err
        assert said.startswith(f"bridged {line.split()[0]}: ")
        assert said.endswith(f"{end}\n")


@pytest.mark.parametrize("line", ["--version", "run --version"])
def test_version(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` is answered before and after the command."""
    with pytest.raises(SystemExit) as caught:
        cli.read(line.split())
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"bridged {bridge.__version__}\n"


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    """`run --help` explains every option and shows examples that are themselves right."""
    with pytest.raises(SystemExit) as caught:
        cli.read(["run", "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    examples = [line.split("   ")[0].split() for line in text.splitlines() if line.startswith("  bridged run")]
    assert len(examples) >= 5
    for example in examples:
        cli.read(example[1:])


@pytest.mark.parametrize(
    ("line", "status", "words"),
    [
        ("run m:", 2, "expected module or module:attribute"),
        ("run m -b nonsense", 2, "expected host:number"),
        ("run m -w 0", 2, "expected 1 to 1024"),
        ("run m --set http.x=1", 2, "there is no setting 'http.x'"),
        ("run m -b 203.0.113.1:1", 1, "this machine has no such address"),
    ],
)
def test_errors_are_one_line(line: str, status: int, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be served ends with one line and the documented status."""
    assert cli.main(line.split()) == status
    err = capsys.readouterr().err
    assert err.startswith("bridged: ")
    assert words in err
    assert err.count("\n") == 1


def test_address_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    """An address that somebody listens on is named, and the status is 1."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        assert cli.main(["run", "m", "-b", where]) == 1
    assert capsys.readouterr().err == f"bridged: cannot listen on {where}: address already in use\n"


def test_module_runs_as_the_command() -> None:
    """`python -m bridge` is `bridged`."""
    done = subprocess.run([sys.executable, "-m", "bridge", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"bridged {bridge.__version__}\n"


def test_run_is_resolved_late() -> None:
    """Importing the package loads no supervisor; a name that it does not have is an AttributeError."""
    code = "import sys, bridge; loaded = 'bridge.main' in sys.modules; bridge.run; assert not loaded"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = bridge.nothing


HELLO = """\
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise RuntimeError("not wanted")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})
"""
PROGRAM = """\
import signal, bridge
before = signal.getsignal(signal.SIGTERM)
bridge.run("hello:app", bind="127.0.0.1:0", workers=1)
assert signal.getsignal(signal.SIGTERM) is before
print("returned")
"""


def test_run_returns_when_told_to_stop(tmp_path: Path) -> None:
    """`bridge.run` serves in the caller's process, returns after TERM and puts the signal handlers back."""
    (tmp_path / "hello.py").write_text(HELLO)
    program = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(
        program, cwd=tmp_path, env=dict(os.environ), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr
        assert process.stdout
        while "serves hello:app" not in (line := process.stderr.readline()):
            assert line, "it ended before it served"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == "returned\n"
        assert process.wait() == 0


def test_missing_module_is_one_line(tmp_path: Path) -> None:
    """A module that does not exist ends with status 3 and one line that names it."""
    program = [sys.executable, "-m", "bridge", "run", "nowhere_to_be_found:app", "-b", "127.0.0.1:0", "-w", "3"]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "nowhere_to_be_found" in done.stderr
    assert done.stderr.count("\n") == 1


def test_raising_module_shows_its_traceback_once(tmp_path: Path) -> None:
    """When the application's own code raises, its traceback is shown whole and once, then the line; status 3."""
    (tmp_path / "hello.py").write_text("def build():\n    return 1 / 0\n\nbuild()\n")
    program = [sys.executable, "-m", "bridge", "run", "hello:app", "-b", "127.0.0.1:0", "-w", "3"]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert done.stderr.count("Traceback (most recent call last)") == done.stderr.count("in build") == 1
    assert done.stderr.splitlines()[-1].startswith("bridged: ")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--bind", "foo"),
        ("--workers", "0"),
        ("--graceful-timeout", "-1"),
        ("--log-level", "loud"),
        ("--root-path", "x"),
        ("--ws-max-size", "0"),
        ("--ws-max-queue", "0"),
        ("--ws-ping-interval", "-1"),
    ],
)
def test_an_error_names_what_was_typed(option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever typed an option reads of that option, not of a place in a file that he does not have."""
    assert cli.main(["run", "m:a", option, value]) == 2
    assert capsys.readouterr().err.startswith(f"bridged: {option}: expected ")
