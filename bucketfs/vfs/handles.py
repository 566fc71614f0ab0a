"""Open files and directories: numbers that the kernel hands back, and how far a reader has come."""

from __future__ import annotations

from dataclasses import dataclass, field

from bucketfs.errors import BucketfsError, Stale
from bucketfs.types import FileHandle
from bucketfs.vfs.tree.node import FileNode, Node

AHEAD_MIN_BYTES = 1 << 20
AHEAD_MAX_BYTES = 16 << 20
AHEAD_FETCHES_MAX = 3
"""So that the next bytes are on their way while the former ones come. Each is about a third of the window: in smaller pieces
the calls cost more than the waiting (measured: a Get of 4 MiB takes a sixth more processor time than one of 8)."""


@dataclass(slots=True, eq=False)
class OpenFile:
    """One open file. ``next_offset`` is where a sequential reader would read next. ``direct``: it writes past the kernel's
    cache (O_DIRECT). ``amending``: the mount itself opened it, to set the kernel's length of it. ``owed``: a write failed, and
    this handle was not told yet (see `losses`)."""

    node: FileNode
    writable: bool
    synchronous: bool
    direct: bool = False
    amending: bool = False
    owed: BucketfsError | None = None
    next_offset: int = 0
    ahead_bytes: int = 0
    ahead_stop: int = 0
    ahead_fetches: int = 0

    def ahead(self, offset: int, size: int) -> tuple[int, int] | None:
        """Take note of a read; the range worth fetching before it is asked for, ``None`` when there is none.

        The window doubles each time that a third of it was read, and closes when the reader jumps.
        """
        sequential = offset == self.next_offset
        self.next_offset = offset + size
        if not sequential:
            self.ahead_bytes = 0
            self.ahead_stop = 0
            return None
        held_bytes = max(self.ahead_stop - self.next_offset, 0)
        if self.ahead_fetches >= AHEAD_FETCHES_MAX or held_bytes > self.ahead_bytes - self.ahead_bytes // AHEAD_FETCHES_MAX:
            return None
        self.ahead_bytes = min(max(self.ahead_bytes * 2, AHEAD_MIN_BYTES), AHEAD_MAX_BYTES)
        start = max(self.ahead_stop, self.next_offset)
        stop = min(self.next_offset + self.ahead_bytes, self.node.content.size_bytes)
        if start >= stop:
            return None
        self.ahead_stop = stop
        return start, stop


@dataclass(slots=True, eq=False)
class OpenDirectory:
    """One open directory, with the names it had when reading began (POSIX lets later changes show or not)."""

    node: Node | None
    names: list[bytes] | None = None


@dataclass(slots=True, eq=False)
class Handles:
    """All that is open in one mount."""

    _open: dict[FileHandle, OpenFile | OpenDirectory] = field(default_factory=dict)
    _next: int = 1

    def add(self, opened: OpenFile | OpenDirectory) -> FileHandle:
        """A new number for what was opened."""
        handle = FileHandle(self._next)
        self._next += 1
        self._open[handle] = opened
        return handle

    def file(self, handle: FileHandle) -> OpenFile:
        """The open file of a number; Stale for anything else."""
        found = self._open.get(handle)
        if not isinstance(found, OpenFile):
            raise Stale(f"handle {handle} is not an open file")
        return found

    def of(self, node: FileNode) -> list[OpenFile]:
        """All that is open on one file. Looks at everything that is open."""
        return [opened for opened in self._open.values() if isinstance(opened, OpenFile) and opened.node is node]

    def directory(self, handle: FileHandle) -> OpenDirectory:
        """The open directory of a number; Stale for anything else."""
        found = self._open.get(handle)
        if not isinstance(found, OpenDirectory):
            raise Stale(f"handle {handle} is not an open directory")
        return found

    def close(self, handle: FileHandle) -> OpenFile | OpenDirectory:
        """Forget a number; what it stood for."""
        found = self._open.pop(handle, None)
        if found is None:
            raise Stale(f"handle {handle} is not open")
        return found

    def __len__(self) -> int:
        return len(self._open)
