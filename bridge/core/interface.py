"""What the C core offers, with types: its functions, what they return, and the numbers they take.

The statically typed version of core.cdef, for the files that wrap it; `bridge.core` re-exports what others need.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NewType, Protocol

from bridge.errors import RemoteProtocolError

FULL: Final = -1  #: of `Queue.push`, `answer`: no room now; whoever drains will see that somebody starves
NONE: Final = -1  #: of `ChunkMap`: no such run of chunks now
CANCELLED: Final = -2  #: of `answer`: nobody waits for this stream any more
LOST: Final = -3  #: of `Tracking`, `answer`: illegal here, or the slot is in another generation; nothing changed

BATCH: Final = 64  #: most messages that one call copies out
COUNT: Final = 0xFFFF  #: bits of a result of `drain` and `claim`: messages in the batch
STARVED: Final = 1 << 16  #: bit of these: a producer met a full queue: all producers are to be rung
RING: Final = 0xFFFF << 16  #: bits of what `publish` returns: w + 1 when waiter w is to be rung
BATON: Final = 17  #: of `claim` and `next_request`: result >> BATON is w + 1 when waiter w is to be rung, else 0

TOO_LONG: Final = -5
MAX_OWNER: Final = 0xFFFE  #: of process ids: 0 is nobody, 0xFFFF holds the sentinel of a chunk map

Handle = NewType("Handle", object)  #: a private struct of the core, behind one object of the facade
Address = NewType("Address", object)  #: memory that Python owns
Geometry = NewType("Geometry", object)


def checked_owner(owner: int) -> int:
    """The same number, if a process can have it as its id; else ValueError."""
    if not 0 < owner <= MAX_OWNER:
        raise ValueError(f"owner id {owner} is not in 1 to {MAX_OWNER}")
    return owner


def fault(result: int) -> Exception:
    """The exception for a result that is no outcome."""
    if result == TOO_LONG:
        return ValueError("the message does not fit an item of this queue")
    if result == LOST:
        return RemoteProtocolError("another process has taken this one for dead and recovered what it held")
    return RemoteProtocolError("shared memory holds what no process of ours writes")


class Numbers:
    """The numbers of a stream's states and events; `bridge.ipc.stream` holds their names and their table."""

    __slots__ = ()

    FREE: Final = 0
    QUEUED: Final = 1
    CLAIMED: Final = 2
    RUNNING: Final = 3
    RESPONDING: Final = 4
    CANCELLED: Final = 5
    CANCELLING: Final = 6
    DONE: Final = 7

    CLAIM: Final = 1
    START: Final = 2
    RESPOND: Final = 3
    FINISH: Final = 4
    CANCEL: Final = 5
    CONFIRM: Final = 6
    DIE: Final = 7
    ARM: Final = 8


class Functions(Protocol):
    """The C functions of core.cdef, with Python's types."""

    bridge_queue_bytes: Callable[[Geometry], int]
    bridge_queue_create: Callable[[Address, Geometry, int], int]
    bridge_queue_open: Callable[[Handle, Address, Geometry, int], int]
    bridge_queue_use_batch: Callable[[Handle, Address, int], None]
    bridge_queue_push: Callable[[Handle, bytes, int], int]
    bridge_queue_publish: Callable[[Handle, Handle, int, bytes, int], int]
    bridge_queue_drain: Callable[[Handle, int], int]
    bridge_queue_claim: Callable[[Handle, Handle, int], int]
    bridge_queue_answer: Callable[[Handle, Handle, int, int, bytes, int], int]
    bridge_queue_answer_joined: Callable[[Handle, Handle, int, int, bytes, int, bytes, int], int]
    bridge_queue_next: Callable[[Handle, Handle, Handle, int, bytes, int, int], int]
    bridge_queue_doze: Callable[[Handle, int], int]
    bridge_queue_rouse: Callable[[Handle, int], None]
    bridge_queue_wake: Callable[[Handle], int]
    bridge_queue_set_ready: Callable[[Handle, int], None]
    bridge_queue_audit: Callable[[Handle], int]
    bridge_queue_length: Callable[[Handle], int]
    bridge_queue_recover: Callable[[Handle, int, int], int]
    bridge_tracking_bytes: Callable[[int], int]
    bridge_tracking_open: Callable[[Handle, Address, int, int, int], int]
    bridge_tracking_arm: Callable[[Handle, int], int]
    bridge_tracking_move: Callable[[Handle, int, int, int], int]
    bridge_tracking_state: Callable[[Handle, int], int]
    bridge_tracking_owner: Callable[[Handle, int], int]
    bridge_tracking_recover: Callable[[Handle, int, int], int]
    bridge_chunk_map_bytes: Callable[[int], int]
    bridge_chunk_map_open: Callable[[Handle, Address, int, int, int], int]
    bridge_chunk_map_claim: Callable[[Handle, int], int]
    bridge_chunk_map_claim_some: Callable[[Handle, int, int], int]
    bridge_chunk_map_grow: Callable[[Handle, int, int, int], int]
    bridge_chunk_map_transfer: Callable[[Handle, int, int, int, int], int]
    bridge_chunk_map_release: Callable[[Handle, int, int, int], int]
    bridge_chunk_map_wait: Callable[[Handle], int]
    bridge_chunk_map_take_waiting: Callable[[Handle], int]
    bridge_chunk_map_recover: Callable[[Handle, int], int]
    bridge_chunk_map_busy: Callable[[Handle], int]
