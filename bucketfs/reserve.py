"""Room kept for hard times: a file whose blocks are given up when the disk is full.

Deleting must work on a full disk, and what is deleted is recorded, too: by a journal, and by the databases of a hub. So a few
MiB are taken in advance and given up step by step, only for what frees space; a step rather than all at once, because whatever
is given up any program may take. One file serves all who share its disk, in this process and others.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from bucketfs.disk import Disk, DiskFile, PathLike
from bucketfs.errors import NoSpace, NotFound

STEP_BYTES = 256 * 1024


class Reserve:
    """The reserve file at ``path``, of ``wanted_bytes``; it is not taken while the disk has less than ``ample_bytes`` left,
    since others need the room more. The file is open only while its size changes. All methods block, shortly, and raise
    DiskFailed."""

    def __init__(self, disk: Disk, path: PathLike, wanted_bytes: int, *, ample_bytes: int = 0) -> None:
        self._disk = disk
        self._path = os.fspath(path)
        self._wanted_bytes = wanted_bytes
        self._ample_bytes = ample_bytes

    @property
    def size_bytes(self) -> int:
        """How much is kept now."""
        try:
            return self._disk.file_size(self._path)
        except NotFound:
            return 0

    def fill(self) -> bool:
        """Take the room again, as far as the disk has it. Whether all of it is kept."""
        if self.size_bytes >= self._wanted_bytes:
            return True
        if self._ample_bytes and self._free_bytes() < self._ample_bytes:
            return False
        try:
            with self._open() as file:
                self._disk.allocate(file, self._wanted_bytes)
        except NoSpace:
            return False
        return True

    def release(self, step_bytes: int = STEP_BYTES) -> bool:
        """Give up ``step_bytes``. False when there was nothing left to give up."""
        held_bytes = self.size_bytes
        if held_bytes:
            with self._open() as file:
                self._disk.truncate(file, max(0, held_bytes - step_bytes))
        return held_bytes > 0

    def release_when_full(self, step_bytes: int) -> bool:
        """Give up ``step_bytes`` if the disk has less room than that. Whether any was given up."""
        return self._free_bytes() < step_bytes and self.release(step_bytes)

    def _free_bytes(self) -> int:
        return self._disk.free_bytes(os.path.dirname(self._path) or ".")

    @contextmanager
    def _open(self) -> Iterator[DiskFile]:
        file = self._disk.open(self._path, create=True)
        try:
            yield file
        finally:
            self._disk.close(file)
