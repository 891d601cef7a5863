"""Notice a client that leaves while its socket is not read.

A paused transport watches nothing, so neither FIN nor reset would be seen before reading goes on, and an application
would work for nobody. One nested epoll serves all paused connections: their sockets are in it only while they are
paused, edge-triggered and for hang-ups only, so data that waits in the kernel wakes nobody.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Any, Protocol

from bridge.log import log

PATIENCE = 0.002  #: seconds that a pause lasts before its socket is watched


class Paused(Protocol):
    """A connection that is not read at the moment."""

    def peer_closed(self, *, reset: bool) -> None:
        """The client has closed at least its sending side; `reset`: the connection is broken, for both sides."""
        ...


class Hangups:
    """See the head of the file.

    Args:
        add_reader: the loop's: file descriptor, callback.
        remove_reader: the loop's: file descriptor.
        call_later: the loop's: seconds, callback.
    """

    __slots__ = ("_call_later", "_due", "_epoll", "_fresh", "_remove_reader", "_watched")

    def __init__(
        self,
        add_reader: Callable[[int, Callable[[], None]], None],
        remove_reader: Callable[[int], Any],
        call_later: Callable[[float, Callable[[], None]], Any],
    ) -> None:
        self._epoll = select.epoll()
        self._call_later = call_later
        self._fresh: set[int] = set()  # watched, and not yet in the epoll
        self._due = False
        self._remove_reader = remove_reader
        self._watched: dict[int, Paused] = {}
        add_reader(self._epoll.fileno(), self._on_readable)

    def watch(self, fd: int, connection: Paused) -> None:
        """Call `connection.peer_closed()` once when the client hangs up, also when it already has."""
        if self._watched.get(fd) is connection:
            return
        self._watched[fd] = connection
        # Most pauses are over at once: only those that last are worth system calls.
        self._fresh.add(fd)
        if not self._due:
            self._due = True
            self._call_later(PATIENCE, self._register)

    def _register(self) -> None:
        self._due = False
        fresh, self._fresh = self._fresh, set()
        mask = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLET
        for fd in fresh:
            try:
                self._epoll.register(fd, mask)
            except FileExistsError:
                self._epoll.modify(fd, mask)
            except OSError as error:
                # The kernel has no memory for it: this client is missed only when bytes are sent to it.
                log.warning("a paused client cannot be watched: %s", error)

    def forget(self, fd: int, connection: Paused) -> None:
        """End what `watch` began. Does nothing when `fd` belongs to another connection by now."""
        if self._watched.get(fd) is connection:
            del self._watched[fd]
            if fd in self._fresh:
                self._fresh.discard(fd)
                return
            try:
                self._epoll.unregister(fd)
            except OSError:
                return  # closed before: the kernel has taken it out

    def close(self) -> None:
        """Watch nothing any more."""
        self._watched.clear()
        self._fresh.clear()
        self._remove_reader(self._epoll.fileno())
        self._epoll.close()

    def _on_readable(self) -> None:
        for fd, events in self._epoll.poll(0):
            connection = self._watched.get(fd)
            if connection is not None:
                self.forget(fd, connection)
                connection.peer_closed(reset=bool(events & select.EPOLLERR))
