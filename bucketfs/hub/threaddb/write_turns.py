"""Whose turn it is to write to a database: one write transaction at a time, each for a bounded time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from bucketfs.errors import Unavailable
from bucketfs.types import ThreadId

TURN_S = 30.0
"""How long one transaction may keep others waiting. After that the next one that waits has the turn."""
WAIT_S = 60.0


class WriteTurn:
    """The right to write to one database. It ends by `WriteTurns.end`, or is lost to another after `TURN_S`."""

    def __init__(self, thread: ThreadId, until_s: float) -> None:
        self.thread = thread
        self.until_s = until_s
        self.lost = False


class WriteTurns:
    """The turns of all databases of this process. Thread-safe."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._changed = threading.Condition()
        self._held: dict[ThreadId, WriteTurn] = {}

    def begin(self, thread: ThreadId, turn_s: float = TURN_S) -> WriteTurn:
        """Wait for the turn. Raises Unavailable when others had it for too long."""
        deadline_s = self._clock_s() + WAIT_S
        with self._changed:
            while (held := self._held.get(thread)) is not None and held.until_s > self._clock_s():
                now_s = self._clock_s()
                if now_s >= deadline_s:
                    raise Unavailable("another transaction writes to this database", hint="try again later")
                self._changed.wait(min(held.until_s, deadline_s) - now_s)
            if held is not None:
                held.lost = True
            turn = self._held[thread] = WriteTurn(thread, self._clock_s() + turn_s)
            return turn

    def keep(self, turn: WriteTurn) -> bool:
        """Whether the turn was not lost; from now on it is not, for a commit that ends soon."""
        with self._changed:
            if not turn.lost:
                turn.until_s = self._clock_s() + TURN_S
            return not turn.lost

    def end(self, turn: WriteTurn) -> None:
        """The next one may begin. May be called again."""
        with self._changed:
            if self._held.get(turn.thread) is turn:
                del self._held[turn.thread]
                self._changed.notify_all()
