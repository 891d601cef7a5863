"""A process that does one thing with a shared queue for ever, so that a test can kill it anywhere in the middle.

Arguments: descriptor of the memory, what to do (push, drain, claim), bytes of the queue, then its geometry.
"""

from __future__ import annotations

import mmap
import sys

from bridge.core import COUNT, Queue, Tracking

SLOTS = 8
OWNER = 2


def main(fd: int, task: str, queue_bytes: int, capacity: int, item_size: int, waiters: int) -> None:
    """Join the queue and the tracking words behind it, then work until killed."""
    memory = memoryview(mmap.mmap(fd, 0))
    geometry = {"capacity": capacity, "item_size": item_size, "waiters": waiters}
    queue = Queue(memory[:queue_bytes], **geometry, owner=OWNER, create=False)
    tracking = Tracking(memory[queue_bytes:], slots=SLOTS, owner=OWNER, create=False)
    while task == "push":
        queue.push(b"from the victim")
    while task == "drain":
        queue.drain(2)
    while task == "claim":
        if queue.claim(tracking, 1) & COUNT:
            tracking.move(int.from_bytes(queue.batch[8:16], "little"), Tracking.FINISH)


if __name__ == "__main__":
    numbers = [int(number) for number in sys.argv[3:]]
    main(int(sys.argv[1]), sys.argv[2], *numbers)
