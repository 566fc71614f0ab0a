"""Counting the threads that use something, so that it is not closed under them.

SQLite frees a connection even while another thread runs a statement on it, and the process crashes. So closing first refuses new
users and then waits for the others.
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
        """Refuse new users and wait for the others; returns how many are left when the time is over."""
        with self._changed:
            self._shut = True
            self._changed.wait_for(lambda: not self._count, timeout_s)
            return self._count
