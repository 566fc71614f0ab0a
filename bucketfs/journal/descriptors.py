"""The open files of drafts: a few dozen at most, least recently used closed first.

One that is in use on a thread is pinned and not closed: a closed number would soon mean another file, and an fsync would vouch for
the wrong one.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bucketfs.disk import Disk, OpenFile
from bucketfs.types import DraftId

DESCRIPTORS_MAX = 64


@dataclass(eq=False, slots=True)
class _Descriptor:
    file: OpenFile
    pins: int = 0
    unwanted: bool = False


class Descriptors:
    """``open`` opens the file of a draft; it may raise. Any thread may call."""

    def __init__(self, disk: Disk, open_: Callable[[DraftId], OpenFile]) -> None:
        self._disk = disk
        self._open = open_
        self._lock = threading.Lock()
        self._held: OrderedDict[DraftId, _Descriptor] = OrderedDict()

    def add(self, draft: DraftId, file: OpenFile) -> None:
        """A file that was just made."""
        with self._lock:
            self._held[draft] = _Descriptor(file)
            idle = self._take_idle(DESCRIPTORS_MAX)
        self._close(idle)

    @contextmanager
    def borrow(self, draft: DraftId) -> Iterator[OpenFile]:
        """The open file of a draft, which stays open meanwhile."""
        with self._lock:
            held = self._held.get(draft)
            if held is None:
                held = self._held[draft] = _Descriptor(self._open(draft))
            else:
                self._held.move_to_end(draft)
            held.pins += 1
        try:
            yield held.file
        finally:
            with self._lock:
                held.pins -= 1
                idle = self._take_idle(DESCRIPTORS_MAX) if len(self._held) > DESCRIPTORS_MAX else []
                if held.unwanted and not held.pins and self._held.get(draft) is held:
                    del self._held[draft]
                    idle.append(held)
            self._close(idle)

    def let_go(self, draft: DraftId) -> None:
        """Nobody needs the draft soon; it is closed, or will be when the last borrower is done."""
        with self._lock:
            held = self._held.get(draft)
            idle = []
            if held is not None:
                held.unwanted = True
                if not held.pins:
                    del self._held[draft]
                    idle.append(held)
        self._close(idle)

    def close(self) -> None:
        """Closes all that nobody has borrowed."""
        with self._lock:
            idle = self._take_idle(0)
        self._close(idle)

    def _take_idle(self, keep: int) -> list[_Descriptor]:
        excess = len(self._held) - keep
        taken: list[_Descriptor] = []
        for draft in list(self._held) if excess > 0 else ():
            if len(taken) == excess:
                break
            if not self._held[draft].pins:
                taken.append(self._held.pop(draft))
        return taken

    def _close(self, descriptors: Iterable[_Descriptor]) -> None:
        for held in descriptors:
            self._disk.close(held.file)
