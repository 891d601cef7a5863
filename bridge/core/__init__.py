"""Structures in shared memory, for Python: queues of messages, tracking words, maps of chunks.

Every object here is one thread's private handle on memory that it is given and keeps alive; the same memory
may be mapped by other processes, and stand behind other handles of this one. The core knows no file, no process and
no clock: whoever maps the memory also rings, waits and notices deaths.

Outcomes are values (`FULL`, `NONE`, `CANCELLED`, `LOST`), so the hot path raises nothing; faults are exceptions:
`RemoteProtocolError` when the memory holds what no honest process writes (or is of another version when it is joined),
`ValueError` when the caller is wrong (about a geometry, an owner, memory that is too small, a message too long).

This is the only file that sees `ffi` and `lib`; nothing of theirs leaves it, except the buffers that `view` makes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from bridge.core._core import ffi as _ffi
from bridge.core._core import lib as _untyped_lib
from bridge.core.interface import (
    BATCH,
    BATON,
    CANCELLED,
    COUNT,
    FULL,
    LOST,
    NONE,
    STARVED,
    Functions,
    Numbers,
    checked_owner,
    fault,
)
from bridge.errors import RemoteProtocolError

__all__ = ["BATCH", "BATON", "CANCELLED", "COUNT", "FULL", "LOST", "NONE", "STARVED"]
__all__ += ["ChunkMap", "Queue", "Tracking", "answer", "view"]

if TYPE_CHECKING:
    from typing_extensions import Buffer  # comes with the type checker; nothing to install

_lib = cast("Functions", _untyped_lib)


def _address(memory: Buffer, offset: int, needed: int) -> tuple[Any, Any]:
    """Address of `needed` writable bytes behind `offset`, and what pins the whole buffer as long as it lives.

    Slices would do without the offset, but a memoryview whose bytes are in use must not be cleared by the collector
    of cycles: CPython (3.11 to 3.13) crashes then.
    """
    whole = _ffi.from_buffer("uint8_t[]", memory, require_writable=True)
    if not 0 <= offset <= offset + needed <= len(whole):
        raise ValueError(f"bytes {offset} to {offset + needed} are not inside {len(whole)} bytes")
    return whole + offset, whole


def _aligned(memory: Buffer, offset: int, needed: int) -> tuple[Any, Any]:
    address, whole = _address(memory, offset, needed)
    if int(_ffi.cast("uintptr_t", address)) % 8:
        raise ValueError("memory is not aligned to 8 bytes")
    return address, whole


class Queue:
    """A bounded queue of messages in items of one size, for any number of producers and consumers.

    Message i of the last `drain` or `claim` lies in `batch` at i * `stride`: a 32-bit length in native order, four
    zero bytes, then the message. The next `drain`, `claim` or `recover` overwrites it.

    Args:
        memory: at least `bytes_needed` bytes, shared with the other ends.
        capacity: messages; a power of two, at most 2**24.
        item_size: bytes of one item with its 16 bytes of header; a multiple of 16.
        waiters: how many waiters can sleep on the queue.
        owner: id of this process, 1 to 65534; the same in everything it shares.
        create: lay an empty queue out; False joins one.
        first_ticket: number of the first message; tests start near the ends of its range.
        offset: where in the memory the queue begins.

    Raises:
        ValueError: geometry, owner or memory are unfit; `push`: the message is longer than `room`.
        RemoteProtocolError: the memory to join holds no queue of this version; any method: the queue is damaged.
    """

    __slots__ = ("__weakref__", "_handle", "_pins", "batch", "room", "stride")

    room: int  #: largest message in bytes
    stride: int  #: bytes between two messages in `batch`
    batch: memoryview  #: where messages are copied to

    @staticmethod
    def bytes_needed(capacity: int, item_size: int, waiters: int) -> int:
        """Bytes of shared memory for a queue of this geometry; an impossible one raises ValueError."""
        needed = _lib.bridge_queue_bytes(_geometry(capacity, item_size, waiters))
        if needed == 0:
            raise ValueError(f"no queue has {capacity} items of {item_size} bytes and {waiters} waiters")
        return needed

    def __init__(  # noqa: PLR0913 - a queue has this many properties; all but one are named by the caller
        self,
        memory: Buffer,
        *,
        capacity: int,
        item_size: int,
        waiters: int,
        owner: int,
        create: bool,
        first_ticket: int = 0,
        offset: int = 0,
    ) -> None:
        geometry = _geometry(capacity, item_size, waiters)
        address, whole = _aligned(memory, offset, self.bytes_needed(capacity, item_size, waiters))
        if create:
            _lib.bridge_queue_create(address, geometry, first_ticket)
        handle: Any = _ffi.new("bridge_queue *")
        if _lib.bridge_queue_open(handle, address, geometry, checked_owner(owner)) < 0:
            raise RemoteProtocolError("the memory holds no queue of this version")
        items = min(capacity, BATCH)
        batch = _ffi.new("uint8_t[]", items * handle.stride)
        _lib.bridge_queue_use_batch(handle, batch, items)
        self.room = handle.room
        self.stride = handle.stride
        self.batch = memoryview(_ffi.buffer(batch))
        self._handle = handle
        self._pins = (whole, batch)

    def push(self, message: bytes) -> int:
        """Publish one message.

        Returns:
            0, or w + 1 if the caller must ring waiter w (its sleeping bit was cleared by this call), or FULL.
        """
        result = _lib.bridge_queue_push(self._handle, message, len(message))
        if result < FULL:
            raise fault(result)
        return result

    def drain(self, limit: int) -> int:
        """Copy up to `limit` messages into the batch, and free their items.

        Returns:
            Their number in the low 16 bits (`COUNT`); bit 16 (`STARVED`) = producers are to be rung, all of them.
        """
        result = _lib.bridge_queue_drain(self._handle, limit)
        if result < 0:
            raise fault(result)
        return result

    def claim(self, tracking: Tracking, limit: int) -> int:
        """As `drain`, for requests: the first 8 bytes of a message are its stream, to be won by a CLAIM.

        Cancelled requests are passed over. At most ceil(visible / ready) are taken (see `set_ready`).

        Returns:
            As `drain`; result >> `BATON` is w + 1 if waiter w must be rung because work is left behind, else 0.
        """
        result = _lib.bridge_queue_claim(self._handle, tracking._handle, limit)  # noqa: SLF001 - same facade
        if result < 0:
            raise fault(result)
        return result

    def doze(self, waiter: int) -> bool:
        """Set the waiter's sleeping bit, then look at the queue again.

        Returns:
            True: the bit is set and the queue was empty after that; whoever publishes next will ring.
            False: there is something to take, and the bit is clear.
        """
        result = _lib.bridge_queue_doze(self._handle, waiter)
        if result < 0:
            raise ValueError(f"no waiter {waiter}") if result == NONE else fault(result)
        return result == 1

    def rouse(self, waiter: int) -> None:
        """Clear a waiter's sleeping bit: one's own after waking, or that of a waiter that died."""
        _lib.bridge_queue_rouse(self._handle, waiter)

    def wake(self) -> int:
        """Pass a ring on: w + 1 if there is something in the queue and waiter w slept and must be rung, else 0.

        Called after the death of a waiter, after `recover`, and after an `answer` that was CANCELLED or LOST when other
        threads publish to the same queue: their messages may have become visible only now.
        """
        return _lib.bridge_queue_wake(self._handle)

    def take_starved(self) -> bool:
        """True if a producer met a full queue since the last call: all are to be rung. `drain` asks by itself."""
        return _lib.bridge_queue_take_starved(self._handle) == 1

    def set_ready(self, consumers: int) -> None:
        """Tell consumers how many of them share the work, for their part of a claim. Advisory."""
        _lib.bridge_queue_set_ready(self._handle, consumers)

    def length(self) -> int:
        """Messages in the queue; advisory."""
        return _lib.bridge_queue_length(self._handle)

    def recover(self, owner: int) -> list[bytes]:
        """Repair what a dead process held; it must be dead, and only one process may do this at a time.

        Items that it was filling become void, items that it was reading are freed. The caller then rings *every* living
        waiter of the queue, and its producers if `take_starved()`: the dead may have owed a ring to any of them.

        Returns:
            Copies of the messages in the items that it was reading; whether they were acted upon, the caller knows.
        """
        found: list[bytes] = []
        start = 0
        while (start := _lib.bridge_queue_recover(self._handle, checked_owner(owner), start)) > 0:
            length = int.from_bytes(self.batch[:4], "little")
            found.append(bytes(self.batch[8 : 8 + length]))
        if start < 0:
            raise fault(start)
        return found


def _geometry(capacity: int, item_size: int, waiters: int) -> Any:
    try:
        return _ffi.new("struct bridge_queue_geometry *", (capacity, item_size, waiters))
    except OverflowError as error:
        raise ValueError(f"no queue has {capacity} items of {item_size} bytes and {waiters} waiters") from error


class Tracking(Numbers):
    """One 64-bit word per request in flight: generation of its slot, state, owner.

    A *stream* is the name of a request: generation << 32 | slot, never 0. States and events have the numbers of
    `bridge.ipc.stream`, which also holds their table.

    Args:
        memory: at least `bytes_needed` bytes, shared.
        slots: number of words.
        owner: id of this process, which a CLAIM writes into the word.
        create: lay all words out as FREE; False joins.
    """

    __slots__ = ("_handle", "_owner", "_pins")

    @staticmethod
    def bytes_needed(slots: int) -> int:
        """Bytes of shared memory for `slots` words."""
        return _lib.bridge_tracking_bytes(slots)

    def __init__(self, memory: Buffer, *, slots: int, owner: int, create: bool, offset: int = 0) -> None:
        address, whole = _aligned(memory, offset, self.bytes_needed(slots))
        self._owner = checked_owner(owner)
        self._handle: Any = _ffi.new("bridge_tracking *")
        self._pins = whole
        if _lib.bridge_tracking_open(self._handle, address, slots, owner, create) < 0:
            raise RemoteProtocolError("the memory holds no tracking words of this version")

    def arm(self, slot: int) -> int:
        """Make a free or finished slot QUEUED in its next generation: the stream, or LOST if it is in use."""
        return _lib.bridge_tracking_arm(self._handle, slot)

    def move(self, stream: int, event: int, owner: int | None = None) -> int:
        """Move a stream by an event; ARM is no such event, see `arm`.

        Args:
            stream: which one.
            event: what happens to it.
            owner: with CLAIM, who claims (unless given, this process). With any other event, who must hold the
                stream for the move to be legal (unless given, it does not matter).

        Returns:
            The new state; or LOST, and nothing has changed.
        """
        if owner is None:
            owner = self._owner if event == self.CLAIM else 0
        return _lib.bridge_tracking_move(self._handle, stream, event, owner)

    def state(self, stream: int) -> int:
        """The state of a stream, or LOST if its slot is in another generation."""
        return _lib.bridge_tracking_state(self._handle, stream)

    def owner(self, stream: int) -> int:
        """Who claimed a stream, 0 if nobody has, or LOST if its slot is in another generation."""
        return _lib.bridge_tracking_owner(self._handle, stream)

    def recover(self, owner: int) -> list[tuple[int, int]]:
        """Make every stream that a dead process held DONE and nobody's.

        Returns:
            Each stream with the state it was in. Those in DONE were finished; if the caller still waits for the last
            message of one, its owner died before it could publish it.
        """
        found: list[tuple[int, int]] = []
        start = _lib.bridge_tracking_recover(self._handle, checked_owner(owner), 0)
        while start:
            found.append((self._handle.found_stream, self._handle.found_state))
            start = _lib.bridge_tracking_recover(self._handle, owner, start)
        return found


def answer(queue: Queue, tracking: Tracking, stream: int, event: int, message: bytes) -> int:
    """Move a stream that this process claimed, and push a message about it: both, or neither.

    Args:
        queue: where the message goes.
        tracking: where the stream's word is.
        stream: which one.
        event: RESPOND, FINISH; or 0 for a message that leaves a running stream as it is (a stream that was only
            claimed starts to run).
        message: what to push.

    Returns:
        As `Queue.push`; CANCELLED if nobody waits for the stream any more; LOST if it is not this process's, or in a
        state that allows no answer. With FULL, CANCELLED and LOST the stream is as it was.

    Raises:
        ValueError: the message is longer than the queue's `room`.
        RemoteProtocolError: the queue is damaged.
    """
    result = _lib.bridge_queue_answer(queue._handle, tracking._handle, stream, event, message, len(message))  # noqa: SLF001
    if result < LOST:
        raise fault(result)
    return result


class ChunkMap:
    """Who holds which chunk of a segment: one 16-bit word per chunk, 0 = free, else the id of its owner.

    Args:
        memory: at least `bytes_needed` bytes, shared.
        count: chunks.
        owner: id of this process.
        create: lay the map out, all free; False joins.
    """

    __slots__ = ("_handle", "_owner", "_pins")

    @staticmethod
    def bytes_needed(count: int) -> int:
        """Bytes of shared memory for the map of `count` chunks."""
        return _lib.bridge_chunk_map_bytes(count)

    def __init__(self, memory: Buffer, *, count: int, owner: int, create: bool, offset: int = 0) -> None:
        address, whole = _aligned(memory, offset, self.bytes_needed(count))
        self._owner = checked_owner(owner)
        self._handle: Any = _ffi.new("bridge_chunk_map *")
        self._pins = whole
        if _lib.bridge_chunk_map_open(self._handle, address, count, owner, create) < 0:
            raise RemoteProtocolError("the memory holds no chunk map of this version")

    def claim(self, wanted: int) -> int:
        """Claim the first free run of exactly `wanted` chunks: its first chunk, or NONE and nothing has changed."""
        return _lib.bridge_chunk_map_claim(self._handle, wanted)

    def claim_some(self, wanted: int, least: int) -> tuple[int, int]:
        """Claim the first free run of `least` chunks and grow it up to `wanted`: (first, chunks) or (NONE, 0)."""
        result = _lib.bridge_chunk_map_claim_some(self._handle, wanted, least)
        return (NONE, 0) if result < 0 else (result >> 32, result & 0xFFFFFFFF)

    def grow(self, end: int, wanted: int, least: int) -> int:
        """Claim chunks from `end` on, up to `wanted`: how many; if fewer than `least`, 0 and nothing has changed."""
        return _lib.bridge_chunk_map_grow(self._handle, end, wanted, least)

    def transfer(self, first: int, count: int, old: int, new: int) -> bool:
        """Hand a run over from one owner to another.

        Returns:
            False, and nothing has changed, if the run leaves the map or one of its chunks is not `old`'s: the
            descriptor that named it was forged, or came twice.
        """
        return _lib.bridge_chunk_map_transfer(self._handle, first, count, old, new) == 1

    def release(self, first: int, count: int, owner: int | None = None) -> int:
        """Free those chunks of a run that `owner` (unless given: this process) holds: how many these were.

        After it, `take_waiting` says whether somebody is to be rung.
        """
        return _lib.bridge_chunk_map_release(self._handle, first, count, self._owner if owner is None else owner)

    def wait(self) -> bool:
        """Set the waiting flag, after a claim that failed and before one last try: True if it was not set yet."""
        return _lib.bridge_chunk_map_wait(self._handle) == 1

    def take_waiting(self) -> bool:
        """After a release: True if somebody waits for chunks and is to be rung; clears the flag."""
        return _lib.bridge_chunk_map_take_waiting(self._handle) == 1

    def recover(self, owner: int) -> int:
        """Free everything that a dead process held: how many chunks these were."""
        return _lib.bridge_chunk_map_recover(self._handle, checked_owner(owner))

    def busy(self) -> int:
        """Chunks that somebody holds; advisory."""
        return _lib.bridge_chunk_map_busy(self._handle)


def view(memory: Buffer, offset: int, size: int) -> Any:
    """A new writable buffer over bytes `offset` to `offset + size` of a mapping, with a life of its own.

    It keeps the mapping alive. A weak reference to it dies when the last reader of these bytes is gone: a
    memoryview, or a transport that has yet to send them. (Slices of one memoryview share their exporter with
    all others, so nothing can be learnt from those.) A range that leaves the mapping raises ValueError.
    """
    address, whole = _address(memory, offset, size)
    pinned = _ffi.gc(address, lambda _: whole)  # does nothing when it is called; until then it holds the mapping
    return _ffi.buffer(pinned, size)
