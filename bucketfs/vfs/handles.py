"""Open files and directories, by the numbers that the kernel hands back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

from bucketfs.errors import BucketfsError, Stale
from bucketfs.types import FileHandle
from bucketfs.vfs.readahead import ReadWindow
from bucketfs.vfs.tree import DirectoryNode, FileNode, Volume

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class OpenedFile:
    """One open file. ``direct``: it writes past the kernel's cache (O_DIRECT). ``amending``: the mount itself opened it, to set the
    kernel's length of it. ``owed``: a write failed, and this handle was not told yet (see `write_failures`)."""

    node: FileNode
    volume: Volume
    writable: bool = False
    synchronous: bool = False
    direct: bool = False
    amending: bool = False
    owed: BucketfsError | None = None
    window: ReadWindow = field(default_factory=ReadWindow)


@dataclass(slots=True, eq=False)
class OpenedDirectory:
    """One open directory, with the names it had when reading began (POSIX lets later changes show or not). Without ``node`` and
    ``volume`` it is the folder of all buckets."""

    node: DirectoryNode | None = None
    volume: Volume | None = None
    names: list[bytes] | None = None


class Handles(dict[FileHandle, T]):
    """What is open in one mount. Stale for a number that nothing is open under."""

    def __init__(self) -> None:
        self._next = 1

    def __missing__(self, handle: FileHandle) -> T:
        raise Stale(f"handle {handle} is not open")

    def add(self, opened: T) -> FileHandle:
        """A new number for what was opened."""
        handle = FileHandle(self._next)
        self._next += 1
        self[handle] = opened
        return handle

    def close(self, handle: FileHandle) -> T:
        """Forget a number; what it stood for."""
        opened = self[handle]
        del self[handle]
        return opened
