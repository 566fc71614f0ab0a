"""What the journals of a mount share: above all the open files of drafts, a few dozen at most, the least recently used closed
first.

One that is in use on a thread is pinned and not closed: a closed number would soon mean another file, and an fsync would vouch for
the wrong one.
"""

from __future__ import annotations

import os
import resource
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bucketfs.disk import Disk, DiskFile, PathLike
from bucketfs.errors import TooManyOpen
from bucketfs.reserve import Reserve

HELD_MAX = 64
LIMIT_SHARE = 8
"""Under a low limit of open files the pool holds one part in so many of them."""


@dataclass(eq=False, slots=True)
class _Descriptor:
    file: DiskFile
    pins: int = 0
    unwanted: bool = False


class Descriptors:
    """The pool. A file goes by its path. Any thread may call."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._held_max = min(HELD_MAX, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // LIMIT_SHARE)
        self._lock = threading.Lock()
        self._held: OrderedDict[str, _Descriptor] = OrderedDict()

    @contextmanager
    def borrow(self, path: str, open_: Callable[[], DiskFile]) -> Iterator[DiskFile]:
        """The open file at ``path``, which stays open meanwhile; ``open_`` opens it when it is not, and may raise."""
        with self._lock:
            held = self._held.get(path)
            if held is None:
                # Opened under the lock: two threads that want the same file would open it twice, and one of the two would
                # never be closed.
                held = self._held[path] = _Descriptor(self._open(open_))
            else:
                self._held.move_to_end(path)
            held.pins += 1
        try:
            yield held.file
        finally:
            with self._lock:
                held.pins -= 1
                idle = self._take_idle(self._held_max) if len(self._held) > self._held_max else []
                # Unless `_take_idle` has just taken it: closed twice, its number may be that of another file by then.
                if held.unwanted and not held.pins and self._held.get(path) is held:
                    del self._held[path]
                    idle.append(held)
            self._close(idle)

    def let_go(self, path: str) -> None:
        """The file is not needed soon; it is closed, or will be when the last borrower is done."""
        with self._lock:
            held = self._held.get(path)
            idle = []
            if held is not None:
                held.unwanted = True
                if not held.pins:
                    del self._held[path]
                    idle.append(held)
        self._close(idle)

    def close_below(self, folder: str) -> None:
        """Closes all files below ``folder`` that are not borrowed."""
        with self._lock:
            below = [path for path, held in self._held.items() if path.startswith(f"{folder}/") and not held.pins]
            idle = [self._held.pop(path) for path in below]
        self._close(idle)

    def opened(self, open_: Callable[[], DiskFile]) -> DiskFile:
        """A file that the pool does not hold, opened at the cost of those that it holds idle when the limit of the process is used
        up. Raises what ``open_`` does."""
        with self._lock:
            return self._open(open_)

    def _open(self, open_: Callable[[], DiskFile]) -> DiskFile:
        try:
            return open_()
        except TooManyOpen:
            idle = self._take_idle(0)
            if not idle:
                raise
            self._close(idle)
        return open_()

    def _take_idle(self, keep: int) -> list[_Descriptor]:
        excess = len(self._held) - keep
        taken: list[_Descriptor] = []
        for path in list(self._held) if excess > 0 else ():
            if len(taken) == excess:
                break
            if not self._held[path].pins:
                taken.append(self._held.pop(path))
        return taken

    def _close(self, descriptors: Iterable[_Descriptor]) -> None:
        for held in descriptors:
            self._disk.close(held.file)


RESERVE_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Resources:
    """What the journals of one mount share: room kept for a full disk (a mount may have thousands of journals on one disk), and the
    open files of drafts."""

    reserve: Reserve
    descriptors: Descriptors

    @classmethod
    def below(cls, disk: Disk, folder: PathLike, reserve_bytes: int = RESERVE_BYTES) -> Resources:
        """Those of the journals below ``folder``. Blocks, shortly. Raises DiskFailed."""
        return cls(Reserve(disk, f"{os.fspath(folder)}/reserve", reserve_bytes), Descriptors(disk))
