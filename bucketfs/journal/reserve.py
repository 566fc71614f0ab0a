"""Room kept for hard times: a file whose blocks are given up when the disk is full.

Deleting files must work on a full disk, and deleting is recorded too. So a few MiB are taken in advance and given up step by
step, only for records that free space; a step rather than all at once, because whatever is given up anybody may take.
"""

from __future__ import annotations

from bucketfs.disk import Disk
from bucketfs.errors import NoSpace

STEP_BYTES = 256 * 1024


class Reserve:
    """The reserve file at ``path``. All methods block, shortly."""

    def __init__(self, disk: Disk, path: str, size_bytes: int) -> None:
        self._disk = disk
        self._wanted = size_bytes
        self._file = disk.open(path, create=True)
        self.size_bytes = disk.size(self._file)

    def fill(self) -> bool:
        """Takes the room again, as far as the disk has it. Whether all of it is there."""
        if self.size_bytes < self._wanted:
            try:
                self._disk.allocate(self._file, self._wanted)
            except NoSpace:
                return False
            self.size_bytes = self._wanted
        return True

    def release(self, size_bytes: int = STEP_BYTES) -> bool:
        """Gives up ``size_bytes``. False when nothing was left to give up."""
        if not self.size_bytes:
            return False
        rest = max(0, self.size_bytes - size_bytes)
        self._disk.truncate(self._file, rest)
        self.size_bytes = rest
        return True

    def close(self) -> None:
        """The room stays taken."""
        self._disk.close(self._file)
