"""The segments that an application's requests lie in: as many as are needed, up to a limit, and who waits for room.

Router only: it makes them, and workers read what lies in them.
"""

from __future__ import annotations

import logging
from typing import Any

from bridge.ipc.segment import FREE_SHARE, Segment

RESERVE = 8  #: this part of the memory is left to requests that run


class SegmentPool:
    """The router's segments for requests of one application: grows on demand, up to a limit.

    `grow` is called with a new segment before anything in it is handed out, so that every worker has been sent
    its descriptor before a message can name it. Those who found no memory wait in line; each says how many bytes
    it needs and is called when a run of that size can be claimed. Requests that do not run yet ask for what is to
    spare: however many they are, a reserve is left to those that run, and these are called first.

    Args:
        chunk_size: bytes of a chunk.
        count: chunks of a segment.
        limit: bytes of all segments; there is always one.
        owner: the router's id.
        memfd: see `create_memory`.
        junk: see `Segment`.
        announce: called with each new segment.
        first: number of the first segment.
    """

    __slots__ = (
        "_announce",
        "_chunk_size",
        "_complained",
        "_count",
        "_first",
        "_junk",
        "_limit",
        "_memfd",
        "_owner",
        "_patient",
        "_reserve",
        "_serving",
        "_used",
        "_waiting",
        "segments",
    )

    def __init__(  # noqa: PLR0913 - geometry, and what is behind it
        self,
        chunk_size: int,
        count: int,
        limit: int,
        owner: int,
        *,
        memfd: bool,
        announce: Any,
        first: int = 0,
        junk: bool = False,
    ) -> None:
        self._chunk_size = chunk_size
        self._first = first
        self._count = count
        self._limit = max(1, limit // (chunk_size * count))
        self._owner = owner
        self._memfd = memfd
        self._junk = junk
        self._announce = announce
        self._reserve = self._limit * count // RESERVE  # chunks
        self._waiting: dict[Any, int] = {}
        self._patient: dict[Any, int] = {}  # wait for memory beside the reserve
        self._serving = False
        self._complained = False  # that there is no memory for another segment: once until there is
        self._used = 0  # chunks
        self.segments: list[Segment] = []

    def claim(self, size: int, least: int, *, spare: bool = False) -> tuple[Segment, int, int] | None:
        """A run of up to `size` bytes, at least `least`: (segment, first chunk, bytes), or None when there is none.

        With `spare` the reserve counts as taken.
        """
        chunk_size, count = self._chunk_size, self._count
        wanted = min((size + chunk_size - 1) // chunk_size, count)
        needed = min((least + chunk_size - 1) // chunk_size, count)
        if spare:
            wanted = min(wanted, self._free(spare=True))
            if wanted < needed:
                return None
        for segment in self.segments:
            first, got = segment.chunks.claim_some(wanted, needed)
            if got:
                break
        else:
            if len(self.segments) >= self._limit:
                return None
            try:
                number = self._first + len(self.segments)
                cells = chunk_size, count
                options = {"memfd": self._memfd, "shared": False, "junk": self._junk}
                segment = Segment.create(number, *cells, self._owner, **options)
            except OSError as error:
                # The machine has less than the limit allows: whoever needs memory waits, as at the limit.
                if not self._complained:
                    self._complained = True
                    logging.getLogger("bridge").error("no shared memory for requests: %s", error)
                return None
            self._complained = False
            self.segments.append(segment)
            self._announce(segment)
            first, got = segment.chunks.claim_some(wanted, needed)
        self._used += got
        return segment, first, got * chunk_size

    def grow(self, segment: Segment, end: int, size: int, *, spare: bool = False) -> int:
        """Claim what lies behind a run, from chunk `end` on, for up to `size` bytes: how many; 0 = it is taken.

        For `spare` see `claim`.
        """
        wanted = min(segment.chunks_of(size), self._count)
        if spare:
            wanted = min(wanted, self._free(spare=True))
            if wanted <= 0:
                return 0
        got = segment.chunks.grow(end, wanted, 0)
        self._used += got
        return got * self._chunk_size

    def place(self, data: bytes, most: int) -> list[tuple[Segment, int, int]] | None:
        """Put `data` into at most `most` runs: (segment, first chunk, bytes) of each.

        Returns:
            None, and nothing is held, when there is no memory for it now.
        """
        runs: list[tuple[Segment, int, int]] = []
        position = 0
        while position < len(data):
            lacking = len(data) - position
            left = most - len(runs)
            claimed = self.claim(lacking, -(-lacking // left)) if left > 0 else None
            if claimed is None:
                for segment, first, size in runs:
                    self.release(segment, first, segment.chunks_of(size))
                return None
            segment, first, room = claimed
            size = min(room, lacking)
            segment.write(first, data[position : position + size])
            runs.append((segment, first, size))
            position += size
        return runs

    def share(self, *, spare: bool = False) -> int:
        """Bytes that one stream may hold now; see `FREE_SHARE`, and `claim` for `spare`."""
        return max(self._free(spare=spare) // FREE_SHARE, 1) * self._chunk_size

    def _free(self, *, spare: bool) -> int:
        # Chunks.
        return self._limit * self._count - self._used - (self._reserve if spare else 0)

    def release(self, segment: Segment, first: int, count: int) -> None:
        """Give chunks back, then call those who wait for some."""
        segment.release(first, count)
        self._used -= count
        if (self._waiting or self._patient) and not self._serving:
            self._serving = True
            try:
                self._serve()
            finally:
                self._serving = False

    def wait(self, waiter: Any, least: int, *, spare: bool = False) -> None:
        """Call `waiter.memory_ready()` once a run of `least` bytes can be claimed; for `spare` see `claim`."""
        self.forget(waiter)
        (self._patient if spare else self._waiting)[waiter] = least

    def forget(self, waiter: Any) -> None:
        """The waiter needs nothing any more."""
        self._waiting.pop(waiter, None)
        self._patient.pop(waiter, None)

    def _serve(self) -> None:
        # First come, first served: a large need at the front is not overtaken for ever by small ones. Who is called
        # may give chunks back at once: the loop goes on with those, instead of a recursion as deep as the line.
        while line := self._waiting or self._patient:
            waiter, least = next(iter(line.items()))
            probe = self.claim(least, least, spare=line is self._patient)
            if probe is None:
                return
            segment, first, got = probe
            segment.chunks.release(first, segment.chunks_of(got))
            self._used -= segment.chunks_of(got)
            del line[waiter]
            waiter.memory_ready()

    def busy(self) -> int:
        """Chunks that are not free, over all segments."""
        return sum(segment.chunks.busy() for segment in self.segments)

    def close(self) -> None:
        """Close all descriptors."""
        for segment in self.segments:
            segment.close()
