"""Which blocks the disk tier holds, which it gives up first, and how much that is. Pure.

The order is least recently used: exact in memory, approximate on disk. With each block the *epoch* of its last use is stored;
epochs are counted by bytes stored (one for each 32nd part of the limit). So a block that is read a thousand times in one epoch is
written down once, and after a restart the order is right except within an epoch.

A block counts for its size plus an overhead, and at least for one disk page, so that many small blocks cannot outgrow the limit
(nor this table the memory).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from cachetools import LRUCache

PAGE_SIZE = 4096
EPOCHS_PER_LIMIT = 32


def cost(size: int) -> int:
    """What a block of ``size`` bytes takes on a disk, about."""
    return (size + PAGE_SIZE) // PAGE_SIZE * PAGE_SIZE


class DiskIndex(LRUCache[bytes, tuple[int, int]]):
    """The blocks on disk, least recently used first: key → (size in bytes, epoch of the last use written down).

    Without a limit of its own: what goes has to be removed from the disk, so nothing may go but by `victims` or ``pop``.
    """

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(math.inf, lambda block: cost(block[0]))
        self.limit_bytes = limit_bytes
        self.epoch = 0
        self._stored_bytes = 0

    @property
    def used_bytes(self) -> int:
        """What all blocks take, about."""
        return int(self.currsize)

    def size(self, key: bytes) -> int:
        """The size of a block that is about to be read; 0 when it is not there."""
        return self.get(key, (0, 0))[0]

    def load(self, blocks: Iterable[tuple[bytes, int, int]]) -> None:
        """Takes in what an earlier run left: keys, sizes and epochs, in the order of their epochs."""
        for key, size, epoch in blocks:
            self[key] = (size, epoch)
            self.epoch = max(self.epoch, epoch)

    def add(self, key: bytes, size: int) -> None:
        """A block is stored, as the most recently used."""
        self._stored_bytes += cost(size)
        if self._stored_bytes >= self.limit_bytes // EPOCHS_PER_LIMIT:
            self._stored_bytes = 0
            self.epoch += 1
        self[key] = (size, self.epoch)

    def touch(self, key: bytes) -> bool:
        """A block is used. Returns whether that should be written down (with the present epoch)."""
        size, epoch = self[key]
        if epoch == self.epoch:
            return False
        self[key] = (size, self.epoch)
        return True

    def victims(self, give_up_bytes: int = 0) -> list[tuple[bytes, int]]:
        """Drops what must go to keep the limit, and at least ``give_up_bytes`` of what is there, least recently used first.
        Returns keys and sizes."""
        target = min(self.limit_bytes, self.used_bytes - give_up_bytes)
        gone: list[tuple[bytes, int]] = []
        while self and self.used_bytes > target:
            key, (size, _) = self.popitem()
            gone.append((key, size))
        return gone
