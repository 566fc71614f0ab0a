"""Who is inside of something that is to be closed: nothing is closed under a thread that uses it.

SQLite frees a connection whoever is in the middle of a statement on it, and the process dies of that. So what threads use counts
them, and closing first lets none in and then waits.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from bucketfs.errors import Unavailable


class InUse:
    """A door that can be shut. Thread-safe."""

    def __init__(self, what: str) -> None:
        """``what`` is closed, in the words of an error."""
        self._what = what
        self._changed = threading.Condition()
        self._count = 0
        self._shut = False

    @contextmanager
    def enter(self) -> Iterator[None]:
        """While this is held, what is behind the door stays open. Raises Unavailable once it was shut."""
        with self._changed:
            if self._shut:
                raise Unavailable(f"{self._what} is closed")
            self._count += 1
        try:
            yield
        finally:
            with self._changed:
                self._count -= 1
                self._changed.notify_all()

    def shut(self, timeout_s: float) -> int:
        """Lets nobody in any more, and waits for those who are inside; how many still are when the time is over."""
        with self._changed:
            self._shut = True
            self._changed.wait_for(lambda: not self._count, timeout_s)
            return self._count
