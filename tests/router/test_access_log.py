"""The access log: one line per request that nobody can forge, whole through rotation, and never in the way."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from bridge.errors import ConfigError
from bridge.router import access_log
from bridge.router.access_log import AccessLog
from tests.router.rig import until

HEAD = b'GET /a?b HTTP/1.1\r\nHost: a\r\nUser-Agent: curl/1 "x"\r\nReferer: http://r/\r\n\r\n'


def run(test: Callable[[], None]) -> None:
    """Run `test` in a loop; an error in a timer fails it."""
    errors: list[object] = []

    async def inside() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
        test()
        await asyncio.sleep(0)

    uvloop.run(inside())
    assert not errors


def written(path: Path, *lines: tuple[str, bytes, int, int]) -> list[str]:
    """The lines that the log makes of some requests."""

    def test() -> None:
        log = AccessLog(str(path))
        for line in lines:
            log.line(*line)
        log.close()

    run(test)
    return path.read_text("ascii").splitlines()


def test_a_line(tmp_path: Path) -> None:
    """The combined format: client, time, request line, status, size, referer, name of the client."""
    (line,) = written(tmp_path / "log", ("192.0.2.7", HEAD, 200, 12))
    assert re.fullmatch(
        r"192\.0\.2\.7 - - \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\]"
        r' "GET /a\?b HTTP/1\.1" 200 12 "http://r/" "curl/1 \\x22x\\x22"',
        line,
    )


@pytest.mark.parametrize(
    ("client", "head", "status", "part"),
    [
        ("", HEAD, 200, "- - - ["),
        ("192.0.2.7", b"", 400, '"-" 400 0 "-" "-"'),
        ("192.0.2.7", b"\r\n", 400, '"-" 400 0 "-" "-"'),
        ("192.0.2.7", b"GET / HT", 408, '"-" 408'),
        ("192.0.2.7", b"GET / HTTP/1.1\r\n\r\n", 0, '"GET / HTTP/1.1" 499 0 "-" "-"'),
        ("192.0.2.7", b"GET /\xc3\xa9\x00\x1b HTTP/1.1\r\n\r\n", 200, '"GET /\\xC3\\xA9\\x00\\x1B HTTP/1.1"'),
        ("192.0.2.7", b'GET /" 200 1\\ HTTP/1.1\r\n\r\n', 200, '"GET /\\x22 200 1\\x5C HTTP/1.1"'),
        ("192.0.2.7", b"GET / HTTP/1.1\r\nUSER-AGENT:\t \r\n\r\n", 200, '"-" ""'),
        ('fe80::1%" - é\n', HEAD, 200, "fe80::1%\\x22 - \\xE9\\x0A - - ["),
        ("☃", HEAD, 200, "? - - ["),
    ],
)
def test_what_clients_send_cannot_forge_a_line(
    tmp_path: Path, client: str, head: bytes, status: int, part: str
) -> None:
    """Quotes, control characters and everything beyond ASCII are escaped; what is missing is a dash."""
    (line,) = written(tmp_path / "log", (client, head, status, 0))
    assert part in line


def test_lines_are_written_after_a_while(tmp_path: Path) -> None:
    """A line reaches the file without another one, and without being closed."""
    path = tmp_path / "log"

    async def test() -> None:
        log = AccessLog(str(path))
        log.line("192.0.2.7", HEAD, 200, 1)
        await until(path.read_bytes)
        log.line("192.0.2.7", HEAD, 201, 1)
        await until(lambda: path.read_bytes().count(b"\n") == 2)
        log.close()

    uvloop.run(test())


def test_a_file_that_exists_is_kept(tmp_path: Path) -> None:
    """Lines are appended."""
    path = tmp_path / "log"
    written(path, ("192.0.2.7", HEAD, 200, 1))
    assert len(written(path, ("192.0.2.7", HEAD, 200, 1))) == 2


def test_rotation(tmp_path: Path) -> None:
    """After a reopen lines go to a new file of the same name, and the descriptor keeps its number."""
    path, old = tmp_path / "log", tmp_path / "log.1"

    def test() -> None:
        log = AccessLog(str(path))
        number = log._fd
        log.line("192.0.2.7", HEAD, 200, 1)
        log.flush()
        while not path.read_bytes():
            os.sched_yield()
        path.rename(old)
        log.reopen()
        assert log._fd == number
        assert not os.get_inheritable(number)
        log.line("192.0.2.7", HEAD, 201, 2)
        log.close()

    before = len(os.listdir("/proc/self/fd"))
    run(test)
    assert " 200 1 " in old.read_text()
    assert " 201 2 " in path.read_text()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_reopen_that_fails(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """When the new file cannot be made the log says so and goes on in the old one."""
    folder = tmp_path / "folder"
    folder.mkdir()
    path, old = folder / "log", tmp_path / "log.1"

    def test() -> None:
        log = AccessLog(str(path))
        path.rename(old)
        folder.rmdir()
        log.reopen()
        log.line("192.0.2.7", HEAD, 200, 1)
        log.close()

    run(test)
    assert " 200 1 " in old.read_text()
    assert "cannot open" in caplog.text


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    """The start fails with the name of the file and the reason."""
    with pytest.raises(ConfigError, match=r"access_log: cannot open '.*/no/log': No such file"):
        AccessLog(str(tmp_path / "no" / "log"))


def test_a_slow_file_costs_lines_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """While the disk stands still, batches beyond a bound are counted and dropped; nobody waits for them."""
    monkeypatch.setattr(access_log, "MAX_BATCHES", 2)
    entered, go_on = threading.Event(), threading.Event()
    write = os.write

    def slow(fd: int, data: bytes) -> int:
        entered.set()
        go_on.wait(30)
        return write(fd, data)

    def test() -> None:
        log = AccessLog(str(tmp_path / "log"))
        monkeypatch.setattr(access_log.os, "write", slow)  # type: ignore[attr-defined]
        log.line("192.0.2.7", HEAD, 200, 0)
        log.flush()
        assert entered.wait(30)
        for number in range(1, 6):
            log.line("192.0.2.7", HEAD, 200, number)
            log.flush()
        go_on.set()
        while not log._batches.empty():
            os.sched_yield()
        log.line("192.0.2.7", HEAD, 200, 6)
        log.close()

    caplog.set_level(logging.WARNING)
    run(test)
    sizes = [line.split('" 200 ')[1].split()[0] for line in (tmp_path / "log").read_text().splitlines()]
    assert sizes == ["0", "1", "2", "6"]
    assert "3 lines were lost" in caplog.text


def test_a_disk_that_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A write that fails is reported, and later lines are written when there is room again; short writes go on."""
    write = os.write
    results: list[OSError | int] = [OSError(28, "No space left on device"), 10]

    def full(fd: int, data: bytes) -> int:
        result = results.pop(0) if results else len(data)
        if isinstance(result, OSError):
            raise result
        return write(fd, data[:result])

    def test() -> None:
        log = AccessLog(str(tmp_path / "log"))
        monkeypatch.setattr(access_log.os, "write", full)  # type: ignore[attr-defined]
        for number in (1, 2):
            log.line("192.0.2.7", HEAD, 200, number)
            log.flush()
        log.close()

    run(test)
    (line,) = (tmp_path / "log").read_text().splitlines()
    assert '" 200 2 ' in line
    assert "No space left" in caplog.text


def test_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    """A dash is standard output, which is neither reopened nor closed."""

    def test() -> None:
        log = AccessLog("-")
        log.reopen()
        log.line("192.0.2.7", HEAD, 200, 1)
        log.close()

    run(test)
    os.fstat(1)
    assert '"GET /a?b HTTP/1.1" 200 1' in capfd.readouterr().out
