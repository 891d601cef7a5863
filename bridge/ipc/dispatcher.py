"""Take messages apart and hand each one to whoever its stream belongs to.

Every field was written by another process: a message whose parts do not add up to the length that the queue
delivered is that process's fault, and nothing of it is used.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import TypeAlias

from bridge.core import Queue
from bridge.errors import RemoteProtocolError
from bridge.ipc.message import DESCRIPTOR, HEADER, MAX_DESCRIPTORS, RECORD

#: stream, kind, flags, size, number, head, descriptors [(segment, first chunk, bytes)], inline bytes
Handler: TypeAlias = Callable[[int, int, int, int, int, int, list[tuple[int, int, int]] | None, bytes], None]
#: stream, kind, flags, size, inline bytes, which are there until it returns; False = the message is for the handler
Look: TypeAlias = Callable[[int, int, int, int, memoryview], bool]
_RECORD = Struct("<II" + HEADER.format.removeprefix("<"))  #: what the queue puts in front of a message, then the header
_PREFIX = 8
_FIXED = HEADER.size
_BEHIND = _PREFIX + HEADER.size


def dispatch(queue: Queue, count: int, handle: Handler, look: Look | None = None) -> bool:
    """Call `handle` for each of the `count` messages that `queue.drain` or `queue.claim` has just delivered.

    Args:
        queue: where they have come from.
        count: of them.
        handle: takes them.
        look: is asked first whether it takes one that is long, and reads its bytes where they lie.

    Returns:
        Whether items are held, of long messages: `drain(0)` lets go of them.

    Raises:
        RemoteProtocolError: a message whose lengths contradict each other; later ones of the batch are lost.
    """
    batch = queue.batch
    unpack = _RECORD.unpack_from
    stride = queue.stride
    held = False
    for at in range(0, count * stride, stride):
        length, place, stream, kind, flags, pieces, inline, size, number, head = unpack(batch, at)
        descriptors = None
        start = at + _BEHIND
        if pieces:
            if pieces > MAX_DESCRIPTORS or length != _FIXED + pieces * DESCRIPTOR.size + inline:
                raise RemoteProtocolError(
                    f"a message of {length} bytes announces {pieces} descriptors and {inline} bytes"
                )
            end = start + pieces * DESCRIPTOR.size
            descriptors = list(DESCRIPTOR.iter_unpack(batch[start:end]))
            start = end
        elif length != _FIXED + inline:
            raise RemoteProtocolError(f"a message of {length} bytes announces {inline} bytes")
        if place:
            held = True
            start += place * queue.item_size - queue.room - at - _PREFIX
            data = queue.items[start : start + inline]
            if pieces or look is None or not look(stream, kind, flags, size, data):
                handle(stream, kind, flags, size, number, head, descriptors, bytes(data))
            continue
        handle(stream, kind, flags, size, number, head, descriptors, batch[start : start + inline])
    return held


def deliver(message: bytes, handle: Handler) -> None:
    """Call `handle` for one message that has come over the link.

    Raises:
        RemoteProtocolError: it is none, or one that only a queue carries.
    """
    stream, kind, flags, pieces, inline, size, number, head = HEADER.unpack_from(message)
    if pieces or kind == RECORD or len(message) != _FIXED + inline:
        raise RemoteProtocolError(f"a message of {len(message)} bytes and kind {kind} over a link")
    handle(stream, kind, flags, size, number, head, None, message[_FIXED:])
