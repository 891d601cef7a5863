"""WebSockets under load: messages are framed here, so that the C program which sends them (socket_load.c) need not be.

The messages of a row are a few different texts, taken in turn. Where they are compressed, each is so by itself: it
refers to none before it, and may be sent again and again over a connection that takes over its state.
"""

from __future__ import annotations

import random
import resource
import struct
import subprocess
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from tests.bench.rows import Row
from tests.end_to_end.websocket.client import Client, handshake
from tests.end_to_end.websocket.frames import RSV1, TEXT, frame

HERE = Path(__file__).parent
OFFER = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
WINDOW_BITS = 9  #: of what the client compresses: it fits whatever the server asks for
TAIL = b"\0\0\xff\xff"
DIFFERENT = 8  #: messages of a row
OPEN = "OPEN\n"  #: what the client writes when messages may be sent


@cache
def program() -> str:
    """The compiled client.

    Raises:
        ValueError: there is no compiler, or it complains.
    """
    source, binary = HERE / "socket_load.c", HERE / "build" / "socket_load"
    if not binary.exists() or binary.stat().st_mtime < source.stat().st_mtime:
        binary.parent.mkdir(exist_ok=True)
        command = ["cc", "-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(binary), str(source)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError as error:
            raise ValueError("WebSockets are measured with a C program, and there is no C compiler (cc)") from error
        if done.returncode:
            raise ValueError(f"socket_load.c does not compile: {done.stderr}")
    return str(binary)


def texts(row: Row) -> list[str]:
    """The messages of a row: JSON of records, as chats and dashboards send it, cut to the row's length."""
    chance = random.Random(row.message)
    words = ["apple", "bread", "cheese", "dill", "egg", "flour", "garlic", "honey"]
    made = []
    for _ in range(DIFFERENT):
        records = (
            f'{{"id": {chance.randrange(10**6)}, "name": "{chance.choice(words)}", "price": {chance.random():.4f}}}, '
            for _ in range(row.message // 30 + 1)
        )
        made.append("".join(records)[: row.message])
    return made


def framed(row: Row, text: str) -> bytes:
    """A message as a client sends it."""
    data = text.encode()
    if not row.compressed:
        return frame(TEXT, data)
    made = zlib.compressobj(6, zlib.DEFLATED, -WINDOW_BITS)
    return frame(TEXT, (made.compress(data) + made.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL), reserved=RSV1)


def request(row: Row) -> bytes:
    """The handshake."""
    return handshake(row.path, *_offer(row))


def _offer(row: Row) -> list[str]:
    return [OFFER] if row.compressed or row.idle else []


def ask(row: Row, address: tuple[str, int]) -> str:
    """Send the row's first message; what is wrong with the answer, nothing if it is the right one."""
    with Client(address) as client:
        head = client.ask(row.path, *_offer(row))
        if head.status != 101:
            return f"status {head.status}"
        if ("sec-websocket-extensions" in head.fields) is not row.compressed and not row.idle:
            return "it does not compress" if row.compressed else "it compresses without being asked to"
        message = texts(row)[0]
        part = client.send(framed(row, message)).frame()
        reserved, data = part.reserved, part.payload
        while not part.fin:
            part = client.frame()
            data += part.payload
        if reserved:
            data = zlib.decompressobj(-15).decompress(data + TAIL)
        return "" if data == message.encode() else f"{len(data)} bytes beginning with {data[:20]!r} came back"


@contextmanager
def _client(row: Row, address: tuple[str, int], connections: int, milliseconds: int) -> Iterator[subprocess.Popen[str]]:
    blocks = [request(row), *(framed(row, text) for text in texts(row))]
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"".join(struct.pack("=I", len(block)) + block for block in blocks))
        file.flush()
        length = 0 if row.compressed or row.idle else row.message
        command = [program(), address[0], *map(str, (address[1], connections, milliseconds, length)), file.name]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            yield process


@contextmanager
def opened(row: Row, address: tuple[str, int], connections: int, seconds: float) -> Iterator[Callable[[], str]]:
    """So many WebSockets are open for the length of the block.

    What it gets sends messages through them, for so long, and returns what `figures.parse_wrk` reads. It can be called
    once.
    """
    with _client(row, address, connections, round(seconds * 1000)) as process:
        assert process.stdin
        assert process.stdout
        stdin, stdout = process.stdin, process.stdout
        said = stdout.readline()

        def send() -> str:
            if said != OPEN:
                return said  # why not
            stdin.write("\n")
            stdin.flush()
            return stdout.readline()

        yield send
        process.communicate()


@contextmanager
def held(row: Row, address: tuple[str, int], connections: int) -> Iterator[str]:
    """So many WebSockets are open and silent for the length of the block; what opening them took, in the same form."""
    with _client(row, address, connections, 0) as process:
        assert process.stdout
        yield process.stdout.readline()
        process.communicate()


def allow_many(connections: int) -> None:
    """Let this process, and what it starts, have so many connections open, as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = connections + 1000
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(needed, hard) if hard > 0 else needed, hard))
