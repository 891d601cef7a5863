"""PURE. Records: how a port's messages travel over its link when they carry a file or are too long for a queue item.

A message is cut into fragments, each of which is one record of the link:

    offset  size  field
    0       1     magic    no JSON text begins like this
    1       1     flags    NF: not the first fragment, MF: more fragments follow
    2       2     zero
    4       4     serial   of the record, counted by its sender
    8       4     total    bytes of the whole message, the same in all of its fragments
    12      8     stream   that the message is about; never 0
    20            bytes of the message, which begins with its header as in a queue; no descriptors of chunks

Files come with the first fragment. Behind each record its sender puts a *marker* into the queue (kind RECORD, number =
serial): the message takes its place among the others where its last marker is. Whoever reads the marker finds the
record, for it was sent before; a record that is read earlier is suspended until then. As the serial joins the two,
threads of one sender may mix theirs, and a record without a marker, of a stream that was cancelled in between, blocks
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from struct import Struct

from bridge.ipc.message import HEADER, RECORD

MAGIC = 0xB1
PREFIX = Struct("<BBHIIQ")
NF, MF = 1, 2
FRAGMENT = 16384  #: bytes of a message in one record
SHARE = 65536  #: bytes of one message before another one has its turn
AT_ONCE = 4  #: messages of one sender that take turns; the others wait until one of these is through
LONGEST = 1 << 20  #: bytes of a message


def fragments(stream: int, message: bytes, serials: Callable[[], int]) -> Iterator[tuple[bytes, bytes]]:
    """The records of a message of at most `LONGEST` bytes, and the marker of each.

    Args:
        stream: that it is about.
        message: header and inline bytes.
        serials: gives the next number; called as late as possible.
    """
    total = len(message)
    for start in range(0, total, FRAGMENT):
        flags = (NF if start else 0) | (MF if start + FRAGMENT < total else 0)
        serial = serials() & 0xFFFFFFFF
        record = PREFIX.pack(MAGIC, flags, 0, serial, total, stream) + message[start : start + FRAGMENT]
        yield record, HEADER.pack(0, RECORD, 0, 0, 0, 0, serial, 0)


def is_record(data: bytes) -> bool:
    """Whether a message of a link is a record."""
    return data[:1] == b"\xb1"
