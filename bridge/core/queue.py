"""A queue of messages in shared memory: what C calls `queue.h`, for Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bridge.core.binding import aligned, lib, new_batch, new_geometry, new_handle, view
from bridge.core.draft import Draft
from bridge.core.interface import BATCH, FULL, LOST, NONE, checked_owner, fault
from bridge.core.tracking import Tracking
from bridge.errors import RemoteProtocolError

if TYPE_CHECKING:
    from typing_extensions import Buffer  # comes with the type checker; nothing to install


class Queue:
    """A bounded queue of messages in items of one size, for any number of producers and consumers.

    Message i of the last `drain` or `claim` lies in `batch` at i * `stride`: a 32-bit length in native order, a 32-bit
    place, then the message. The next `drain`, `claim` or `recover` overwrites it. The place is 0, unless a message of
    4 KiB or more was drained. Then only its first KiB lies there, and the whole in `items`, from place * `item_size` -
    `room` on, until the next `drain`. Others could still write there: what is to be checked is in front.

    Args:
        memory: at least `bytes_needed` bytes, shared with the other ends.
        capacity: messages; a power of two, at most 2**24.
        item_size: bytes of one item with its 16 bytes of header; a multiple of 16.
        waiters: how many waiters can sleep on the queue.
        owner: id of this process, 1 to 65534; the same in everything it shares.
        create: lay an empty queue out; False joins one.
        batch: most messages that one call copies out.
        first_ticket: number of the first message; tests start near the ends of its range.
        offset: where in the memory the queue begins.

    Raises:
        ValueError: geometry, owner or memory are unfit; `push`: the message is longer than `room`.
        RemoteProtocolError: the memory to join holds no queue of this version; any method: the queue is damaged.
    """

    __slots__ = ("__weakref__", "_handle", "_pins", "batch", "item_size", "items", "room", "stride")

    room: int  #: largest message in bytes
    stride: int  #: bytes between two messages in `batch`
    batch: Any  #: where messages are copied to: a buffer whose slices are bytes
    item_size: int  #: bytes of one item
    items: memoryview  #: all of them, where they lie

    @staticmethod
    def bytes_needed(capacity: int, item_size: int, waiters: int) -> int:
        """Bytes of shared memory for a queue of this geometry; an impossible one raises ValueError."""
        needed = lib.bridge_queue_bytes(new_geometry(capacity, item_size, waiters))
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
        batch: int = BATCH,
        first_ticket: int = 0,
        offset: int = 0,
    ) -> None:
        geometry = new_geometry(capacity, item_size, waiters)
        address, whole = aligned(memory, offset, self.bytes_needed(capacity, item_size, waiters))
        if create:
            lib.bridge_queue_create(address, geometry, first_ticket)
        handle = new_handle("queue")
        if lib.bridge_queue_open(handle, address, geometry, checked_owner(owner)) < 0:
            raise RemoteProtocolError("the memory holds no queue of this version")
        items = min(capacity, batch)
        copies, self.batch = new_batch(items * handle.stride)
        lib.bridge_queue_use_batch(handle, copies, items)
        self.item_size = item_size
        size = capacity * item_size
        start = offset + self.bytes_needed(capacity, item_size, waiters) - size
        self.items = memoryview(view(memory, start, size)).toreadonly()
        self.room = handle.room
        self.stride = handle.stride
        self._handle = handle
        self._pins = (whole, copies)

    def push(self, message: bytes) -> int:
        """Publish one message.

        Returns:
            0, or w + 1 if the caller must ring waiter w (its sleeping bit was cleared by this call), or FULL.
        """
        result = lib.bridge_queue_push(self._handle, message, len(message))
        if result < FULL:
            raise fault(result)
        return result

    def push_draft(self, draft: Draft, length: int) -> int:
        """As `push`, of the first `length` bytes of a draft."""
        if length > draft.size:
            raise ValueError(f"{length} bytes of a draft of {draft.size}")
        result = lib.bridge_queue_push(self._handle, draft.address, length)
        if result < FULL:
            raise fault(result)
        return result

    def drain(self, limit: int) -> int:
        """Copy up to `limit` messages into the batch, and free their items; long ones: see above, and it may be fewer.

        Returns:
            Their number in the low 16 bits (`COUNT`); bit 16 (`STARVED`) = producers are to be rung, all of them.
        """
        result = lib.bridge_queue_drain(self._handle, limit)
        if result < 0:
            raise fault(result)
        return result

    def claim(self, tracking: Tracking, limit: int) -> int:
        """As `drain`, for requests: the first 8 bytes of a message are its stream, to be won by a CLAIM.

        Cancelled requests are passed over. At most ceil(visible / ready) are taken (see `set_ready`).

        Returns:
            As `drain`; result >> `BATON` is w + 1 if waiter w must be rung because work is left behind, else 0.
        """
        result = lib.bridge_queue_claim(self._handle, tracking._handle, limit)  # noqa: SLF001 - same facade
        if result < 0:
            raise fault(result)
        return result

    def doze(self, waiter: int) -> bool:
        """Set the waiter's sleeping bit, then look at the queue again.

        Returns:
            True: the bit is set and the queue was empty after that; whoever publishes next will ring.
            False: there is something to take, or to let go of by another `drain`, and the bit is clear.
        """
        result = lib.bridge_queue_doze(self._handle, waiter)
        if result < 0:
            raise ValueError(f"no waiter {waiter}") if result == NONE else fault(result)
        return result == 1

    def rouse(self, waiter: int) -> None:
        """Clear a waiter's sleeping bit: one's own after waking, or that of a waiter that died."""
        lib.bridge_queue_rouse(self._handle, waiter)

    def wake(self) -> int:
        """Pass a ring on: w + 1 if there is something in the queue and waiter w slept and must be rung, else 0.

        Called after the death of a waiter, after `recover`, and after an `answer` that was CANCELLED or LOST when other
        threads publish to the same queue: their messages may have become visible only now.
        """
        return lib.bridge_queue_wake(self._handle)

    def set_ready(self, consumers: int) -> None:
        """Tell consumers how many of them share the work, for their part of a claim. Advisory."""
        lib.bridge_queue_set_ready(self._handle, consumers)

    def audit(self) -> int | None:
        """Whether honest consumers can have left what lies in the queue; for its only producer and handle.

        Returns:
            Number of the oldest message that a consumer has taken and not let go of, None if there is none.

        Raises:
            RemoteProtocolError: they cannot: somebody has written what no process of ours writes.
        """
        result = lib.bridge_queue_audit(self._handle)
        if result < 0:
            raise fault(result)
        return self._handle.next - result if result else None

    def length(self) -> int:
        """Messages in the queue; advisory."""
        return lib.bridge_queue_length(self._handle)

    def recover(self, owner: int) -> list[bytes]:
        """Repair what a dead process held; it must be dead, and only one process may do this at a time.

        Items that it was filling become void, items that it was reading are freed. The caller then rings *every* living
        waiter of the queue, and its producers: the dead may have owed a ring to any of them.

        Returns:
            Copies of the messages in the items that it was reading; whether they were acted upon, the caller knows.
        """
        found: list[bytes] = []
        start = 0
        while (start := lib.bridge_queue_recover(self._handle, checked_owner(owner), start)) > 0:
            length = int.from_bytes(self.batch[:4], "little")
            found.append(self.batch[8 : 8 + length])
        if start < 0:
            raise fault(start)
        return found


def publish(queue: Queue, tracking: Tracking, slot: int, message: bytes) -> int:
    """Arm a slot and push the request that it is for, in one call.

    Args:
        queue: where the request goes.
        tracking: where the slot is.
        slot: below 65536.
        message: its first 8 bytes become the stream.

    Returns:
        The stream, with w + 1 in its bits `RING` if waiter w must be rung; FULL; or LOST if the slot is in use. With
        FULL and LOST nothing has changed.

    Raises:
        ValueError: the message is longer than the queue's `room`, or has no 8 bytes.
        RemoteProtocolError: the queue is damaged.
    """
    result = lib.bridge_queue_publish(queue._handle, tracking._handle, slot, message, len(message))  # noqa: SLF001
    if result < 0 and result not in (FULL, LOST):
        raise fault(result)
    return result


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
    result = lib.bridge_queue_answer(queue._handle, tracking._handle, stream, event, message, len(message))  # noqa: SLF001
    if result < LOST:
        raise fault(result)
    return result


def answer_joined(queue: Queue, tracking: Tracking, stream: int, event: int, message: bytes, rest: bytes) -> int:
    """As `answer`, of a message in two pieces, joined where it is pushed: for a long one that saves a copy."""
    ours, words = queue._handle, tracking._handle  # noqa: SLF001 - same facade
    result = lib.bridge_queue_answer_joined(ours, words, stream, event, message, len(message), rest, len(rest))
    if result < LOST:
        raise fault(result)
    return result


def next_request(requests: Queue, answers: Queue, tracking: Tracking, stream: int, message: bytes, waiter: int) -> int:
    """All that a thread which runs one request at a time does between two of them, in one call.

    Args:
        requests: where the next request is claimed; it is started too, unless somebody has cancelled it in between.
        answers: where the last message goes.
        tracking: where the words of both streams are.
        stream: which one is finished; 0 = none.
        message: its last one.
        waiter: this thread, on `requests`: dozes when there is no request.

    Returns:
        The number of requests in the batch of `requests`, 0 (its waiter dozes) or 1, in the low 16 bits (`COUNT`);
        bit 16 (`STARVED`) = the process on the other side is to be rung; result >> `BATON` as from `Queue.claim`.
        FULL, CANCELLED, LOST: the answer was not given, for the reasons of `answer`, and nothing was claimed.

    Raises:
        ValueError: the message is longer than there is room.
        RemoteProtocolError: a queue is damaged, or there is no such waiter.
    """
    taken, given, words = requests._handle, answers._handle, tracking._handle  # noqa: SLF001 - same facade
    result = lib.bridge_queue_next(taken, given, words, stream, message, len(message), waiter)
    if result < LOST:
        raise fault(result)
    return result
