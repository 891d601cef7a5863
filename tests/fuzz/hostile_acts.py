"""What a hostile worker can do with its ends, each act by itself.

`HARMLESS` has no effect that anybody else could see. Each of `FORBIDDEN` costs the worker, or, where it goes for
memory that its siblings share, the application.
"""

from __future__ import annotations

import array
import contextlib
import mmap
import os
import socket
import struct

from bridge.core import Queue
from bridge.errors import PeerLost
from bridge.ipc.message import (
    ABORT,
    ACK,
    BATON,
    DATA,
    DESCRIPTOR,
    FILE,
    HEAD,
    HEADER,
    LAST,
    LEAVE,
    RECORD,
    RESPONSE,
    SEGMENT,
    TAKEN,
    UNKNOWN,
    WANT,
)
from bridge.ipc.record import MAGIC, PREFIX
from bridge.ipc.status import ROW
from tests.fuzz.ends import Ends

KINDS = (RESPONSE, DATA, WANT, ABORT, TAKEN, BATON)
_WORDS = 128  # where the words of tracking memory begin


# Harmless


def resize(ends: Ends) -> None:
    """Change the size of whatever memory there is a descriptor of."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if "memfd:bridge" not in os.readlink(f"/proc/self/fd/{name}"):
                continue
            fd, size = int(name), os.fstat(int(name)).st_size
            for wanted in (0, size * 2):
                with contextlib.suppress(OSError):
                    os.ftruncate(fd, wanted)
                    ends.broken("shared memory was resized")
            with contextlib.suppress(OSError):
                os.posix_fallocate(fd, size, size)
                ends.broken("shared memory has grown")


def map_requests(ends: Ends) -> None:
    """Map a segment of requests so that it can be written."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if "memfd:bridge" not in os.readlink(f"/proc/self/fd/{name}"):
                continue
            with mmap.mmap(int(name), 4096) as memory:
                is_segment = memory[:8] == b"bridgeSG"
                number = int.from_bytes(memory[12:16], "little")
            if is_segment and number != ends.port.segment.number:
                ends.broken("a segment of requests can be written")


def change_bells(ends: Ends) -> None:
    """Make every bell blocking, and its counter empty or full."""
    bells = [ends.port.bell, ends.port.peer_bell]
    for bell in bells:
        fd = bell.descriptor
        with contextlib.suppress(OSError):
            os.set_blocking(fd, False)
            os.eventfd_read(fd)
        with contextlib.suppress(OSError):
            os.eventfd_write(fd, ends.random.choice((1, 7, (1 << 64) - 2)))
        os.set_blocking(fd, True)


def ring(ends: Ends) -> None:
    """Ring for nothing."""
    for _ in range(ends.random.randrange(200)):
        ends.port.peer_bell.ring()


def pass_batons(ends: Ends) -> None:
    """Have others rung, whoever they may be."""
    for _ in range(ends.random.randrange(100)):
        ends.send(HEADER.pack(0, BATON, 0, 0, 0, 0, ends.number(), 0))


def disturb_sleepers(ends: Ends) -> None:
    """Set and clear sleeping bits, and the flags beside them."""
    memory = ends.random.choice((ends.attachment.memory, ends.port.memory))
    at = ends.random.choice((384, 388, 512))
    memory[at : at + 4] = ends.random.randbytes(4)


def disturb_row(ends: Ends) -> None:
    """Write into everybody's row of the status page, as far as this process has mapped it."""
    for at in range(ROW, len(ends.page), ROW):
        size = ROW - 16
        ends.page[at + 16 : at + ROW] = bytes(size) if ends.random.random() < 0.5 else ends.random.randbytes(size)


# Its own queue


def say_nonsense(ends: Ends) -> None:
    """Messages with every field at random."""
    chance = ends.random
    for _ in range(20):
        fields = (
            chance.randrange(256),
            chance.randrange(256),
            chance.choice((0, 1, 64, 65535)),
            chance.randrange(9000),
        )
        stream = chance.choice((*ends.streams, chance.randrange(1 << 63)))
        message = HEADER.pack(stream, *fields, chance.randrange(1 << 64), ends.number(), ends.number())
        ends.send(message + chance.randbytes(chance.randrange(200)))


def answer_for_others(ends: Ends) -> None:
    """Whole answers, parts and endings for whatever stream is under way."""
    for stream in ends.streams:
        kind = ends.random.choice(KINDS)
        ends.send(HEADER.pack(stream, kind, ends.random.choice((0, LAST, ACK)), 0, 0, 0, 200, 0))


def name_chunks(ends: Ends) -> None:
    """Descriptors that lie outside, overlap, are not held, or come twice."""
    segment = ends.port.segment
    for stream in ends.streams:
        first, _ = segment.claim(segment.chunk_size, 1)
        piece = ends.random.choice(
            (
                (ends.number(), ends.number(), ends.number()),
                (segment.number, ends.number(), ends.number()),
                (segment.number, segment.count - 1, segment.chunk_size + 1),
                (segment.number, max(first, 0), segment.chunk_size),
                (segment.number, 0, 0),
            )
        )
        message = HEADER.pack(stream, RESPONSE, 0, 2, 0, UNKNOWN, 200, 0) + 2 * DESCRIPTOR.pack(*piece)
        ends.send(message)


def ask_again(ends: Ends) -> None:
    """Ask for the same heads and segments again and again."""
    for stream in ends.streams:
        for _ in range(100):
            ends.send(HEADER.pack(stream, HEAD, 0, 0, 0, 0, 0, 0))
            ends.send(HEADER.pack(0, SEGMENT, 0, 0, 0, 0, ends.random.choice((0, 1 << 16, ends.number())), 0))


def break_heads(ends: Ends) -> None:
    """Response heads that HTTP does not allow."""
    for stream in ends.streams:
        block = ends.random.choice((b"a: b\r\n\r\nHTTP/1.1 200 OK\r\n", b"\0" * 50, b"no colon\r\n", b"x" * 4000))
        head = ends.random.choice((len(block), len(block) + 1, (1 << 32) - 1))
        fields = (LAST, 0, len(block), UNKNOWN, ends.random.choice((0, 99, 200, 70000)), head)
        ends.send(HEADER.pack(stream, RESPONSE, *fields) + block)


def flood(ends: Ends) -> None:
    """Body that nobody has asked for."""
    body = b"x" * (ends.port.outgoing.room - HEADER.size)
    for stream in ends.streams:
        ends.send(HEADER.pack(stream, RESPONSE, 0, 0, 0, UNKNOWN, 200, 0))
        for _ in range(400):
            ends.send(HEADER.pack(stream, DATA, 0, 0, len(body), 0, 0, 0) + body)


def speak_in_tunnels(ends: Ends) -> None:
    """In what may be a WebSocket: bytes without end, credit for nothing, chunks that never came, files, two ends."""
    chance = ends.random
    body = b"x" * (ends.port.outgoing.room - HEADER.size)
    for stream in ends.streams:
        if chance.random() < 0.2:
            ends.send(HEADER.pack(stream, RESPONSE, chance.choice((0, 0, LAST)), 0, 6, UNKNOWN, 101, 6) + b"a: b\r\n")
        kind, flags = chance.choice(
            ((DATA, 0), (DATA, ACK), (DATA, LAST), (DATA, FILE), (WANT, 0), (TAKEN, 0), (ABORT, 0), (LEAVE, 0))
        )
        inline = chance.choice((b"", body)) if kind == DATA else b""
        for _ in range(chance.choice((1, 2, 300))):
            size = ends.number() << chance.choice((0, 32))
            ends.send(HEADER.pack(stream, kind, flags, 0, len(inline), size, 0, 0) + inline)


def scribble_port(ends: Ends) -> None:
    """Bytes at random into the queues of its port: their heads, cells and words."""
    memory = ends.port.memory
    for _ in range(200):
        at = ends.random.randrange(ends.random.choice((1024, len(memory))))
        memory[at] = ends.random.randrange(256)
    ends.port.peer_bell.ring()


def scribble_segment(ends: Ends) -> None:
    """Bytes at random into head and chunk map of its segment, and answers out of it."""
    memory = ends.port.segment.memory
    for _ in range(300):
        memory[ends.random.randrange(2048)] = ends.random.randrange(256)
    name_chunks(ends)


# Its links


def garble_link(ends: Ends) -> None:
    """What is no message, or one that nobody expects."""
    data = ends.random.choice(
        (
            b"{",
            b"[]",
            b"\xff\xfe\0",
            b"[" * 60000,
            b'{"type":"attached"}',
            b'{"type":"file","stream":[]}',
            b"\0" * 60000,
        )
    )
    ends.port.link._socket.send(data)


def attach_again(ends: Ends) -> None:
    """Say again and again that the application is ready."""
    for _ in range(100):
        ends.port.link.send({"type": "attached", "limit": ends.number(), "interface": "asgi"})


def flood_descriptors(ends: Ends) -> None:
    """Messages with as many descriptors as go into one: pipes, sockets that linger, directories."""
    fds: list[int] = []
    for _ in range(40):
        fds += os.pipe()
    listener = socket.create_server(("127.0.0.1", 0))
    with socket.create_connection(listener.getsockname()) as lingering:
        lingering.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 600))
        lingering.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                lingering.send(bytes(1 << 20))
        fds += [os.dup(lingering.fileno()), os.open("/", os.O_RDONLY)]
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds * 3)[:250])]
        with contextlib.suppress(OSError):
            for _ in range(100):
                message = ends.random.choice((b'{"type":"file","stream":1}', b'{"type":"attached"}', b"x"))
                ends.port.link._socket.sendmsg([message], rights)
        lingering.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 600))
    for fd in fds:
        os.close(fd)
    listener.close()


def send_files(ends: Ends) -> None:
    """Files with answers that cannot have any, and of kinds that cannot be sent."""
    with open("/dev/zero", "rb") as device, open(__file__, "rb") as file:
        for stream in ends.streams:
            part = struct.pack("<QQ", ends.number(), ends.number())
            message = HEADER.pack(stream, DATA, FILE | LAST, 0, len(part), 0, 0, 0) + part
            ends.send(HEADER.pack(stream, RESPONSE, 0, 0, 0, UNKNOWN, 200, 0))
            files = [ends.random.choice((device, file)).fileno()] * ends.random.choice((0, 1, 3))
            record(ends, message, files)


def break_records(ends: Ends) -> None:
    """Records that contradict one another, of any stream and any length, with markers for others or with none."""
    for stream in (*ends.streams, ends.random.randrange(1 << 63)):
        for _ in range(10):
            fields = (ends.random.randrange(5), ends.random.choice((0, 0, 1)), ends.number(), ends.number(), stream)
            data = PREFIX.pack(MAGIC, *fields) + ends.random.randbytes(ends.random.randrange(3000))
            ends.port.link._socket.send(data)
            ends.send(HEADER.pack(0, RECORD, 0, 0, 0, 0, ends.number(), 0))


def record(ends: Ends, message: bytes, files: list[int]) -> None:
    """Send one record and its marker as they should be."""
    serial = ends.random.randrange(1 << 32)
    data = PREFIX.pack(MAGIC, 0, 0, serial, len(message), HEADER.unpack_from(message)[0]) + message
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))] if files else []
    ends.port.link._socket.sendmsg([data], rights)
    ends.send(HEADER.pack(0, RECORD, 0, 0, 0, 0, serial, 0))


def hang_up(ends: Ends) -> None:
    """Close the link and live on."""
    ends.port.link._socket.shutdown(socket.SHUT_RDWR)


def lend_link(ends: Ends) -> None:
    """Have another process speak over the links."""
    pid = os.fork()
    if not pid:
        for link in (ends.port.link, ends.main):
            with contextlib.suppress(Exception):
                link.send({"type": "attached", "limit": 0, "interface": "asgi"})
        os._exit(0)
    os.waitpid(pid, 0)


def garble_main(ends: Ends) -> None:
    """Nonsense for main."""
    data = ends.random.choice((b"{", b"{}", b'{"type":"changed"}', b'{"type":[]}', b'{"type":"failed"}', b'{"type":1}'))
    ends.main._socket.send(data)


def flood_main(ends: Ends) -> None:
    """More news for main than it can read."""
    with contextlib.suppress(PeerLost):
        for number in range(2000):
            kind = ends.random.choice(("ready", "changed", "draining"))
            ends.main.send({"type": kind, "path": str(number), "stamp": number})


# What its siblings share


def scribble_words(ends: Ends) -> None:
    """Tracking words of requests that are under way."""
    memory, words = ends.attachment.memory, ends.attachment.geometry.application_queue_bytes + _WORDS
    for stream in ends.streams:
        at = words + 8 * (stream & 0xFFFFFFFF)
        word = ends.random.choice(
            (
                ends.random.randbytes(8),
                (stream >> 32 << 32 | ends.random.randrange(9) << 24 | ends.random.randrange(9)).to_bytes(8, "little"),
                bytes(8),
            )
        )
        memory[at : at + 8] = word


def move_queue(ends: Ends) -> None:
    """Head or tail of the application's queue."""
    at = ends.random.choice((128, 256))
    before = int.from_bytes(ends.attachment.memory[at : at + 8], "little")
    step = ends.random.choice((1, 2, 255, 256, 1 << 40, -1, -256))
    ends.attachment.memory[at : at + 8] = ((before + step) % (1 << 64)).to_bytes(8, "little")


def steal(ends: Ends) -> None:
    """Take requests out of the queue and never run them."""
    ends.attachment.queue.drain(64)


def scribble_cells(ends: Ends) -> None:
    """Words and lengths of the queue's cells."""
    memory, geometry = ends.attachment.memory, ends.attachment.geometry
    end = Queue.bytes_needed(geometry.queue, geometry.item_size, geometry.waiters)
    for _ in range(20):
        at = end - ends.random.randint(1, geometry.queue) * geometry.item_size
        memory[at : at + 16] = ends.random.randbytes(16)


def scribble_block(ends: Ends) -> None:
    """Bytes at random into all that the siblings share."""
    memory = ends.attachment.memory
    for _ in range(2000):
        memory[ends.random.randrange(128, len(memory))] = ends.random.randrange(256)


HARMLESS = (resize, map_requests, change_bells, ring, pass_batons, disturb_sleepers, disturb_row)
OWN = (
    say_nonsense,
    answer_for_others,
    name_chunks,
    ask_again,
    break_heads,
    flood,
    speak_in_tunnels,
    scribble_port,
    scribble_segment,
    garble_link,
    attach_again,
    flood_descriptors,
    send_files,
    break_records,
    hang_up,
    lend_link,
    garble_main,
    flood_main,
)
SHARED = (scribble_words, move_queue, steal, scribble_cells, scribble_block)
FORBIDDEN = tuple(act for pair in zip(OWN, SHARED * 4, strict=False) for act in pair)
