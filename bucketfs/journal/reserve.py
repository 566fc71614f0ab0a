"""Room kept for hard times: a file whose blocks are given up when the disk is full.

Deleting files must work on a full disk, and deleting is recorded too. So a few MiB are taken in advance and given up step by
step, only for records that free space; a step rather than all at once, because whatever is given up any program may take. The
journals of one mount share one reserve: it is on the same disk for all of them, and a mount may have thousands of journals.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bucketfs.disk import Disk, DiskFile
from bucketfs.errors import NoSpace, NotFound

STEP_BYTES = 256 * 1024


class Reserve:
    """The reserve file at ``path``, open only while its size changes. All methods block, shortly."""

    def __init__(self, disk: Disk, path: str, size_bytes: int) -> None:
        self._disk = disk
        self._path = path
        self._wanted = size_bytes
        try:
            self.size_bytes = disk.file_size(path)
        except NotFound:
            self.size_bytes = 0

    def fill(self) -> bool:
        """Takes the room again, as far as the disk has it. Whether all of it is there."""
        if self.size_bytes < self._wanted:
            try:
                with self._open() as file:
                    self._disk.allocate(file, self._wanted)
            except NoSpace:
                return False
            self.size_bytes = self._wanted
        return True

    def release(self, size_bytes: int = STEP_BYTES) -> bool:
        """Gives up ``size_bytes``. False when nothing was left to give up."""
        if not self.size_bytes:
            return False
        rest = max(0, self.size_bytes - size_bytes)
        with self._open() as file:
            self._disk.truncate(file, rest)
        self.size_bytes = rest
        return True

    @contextmanager
    def _open(self) -> Iterator[DiskFile]:
        file = self._disk.open(self._path, create=True)
        try:
            yield file
        finally:
            self._disk.close(file)
