"""The disk tier: knows what is on disk without looking, reads on threads, writes behind the reader.

The ``DiskIndex`` (what is there, and in which order it would go) belongs to the trio thread, so a miss costs nothing and no lock is
needed; the ``DiskStore`` does what was decided. Blocks to be stored wait in a bounded queue, where they can still be read. When the
queue is full a block is not stored: a reader never waits for the cache.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TypeVarTuple

import trio

from bucketfs.cache.disk_index import DiskIndex, cost
from bucketfs.cache.disk_store import FILE_SIZE_MIN, DiskStore, StoreLost
from bucketfs.dag import multihash_of
from bucketfs.disk import Disk, Workers
from bucketfs.errors import NoSpace
from bucketfs.types import Cid

QUEUE_BYTES = 64 * 1024 * 1024
BATCH_BYTES = 8 * 1024 * 1024
BATCH_BLOCKS = 256
READERS = 4
TOUCHED_MAX = 4096
DRAIN_S = 5.0

Ts = TypeVarTuple("Ts")
log = logging.getLogger(__name__)


class DiskTier:
    """Blocks on disk. All methods belong to the trio thread. After an error of the disk the tier holds less; it raises none."""

    def __init__(self, folder: str, limit_bytes: int, *, disk: Disk | None = None, queue_bytes: int = QUEUE_BYTES) -> None:
        self._store = DiskStore(disk or Disk(), folder)
        self.index = DiskIndex(limit_bytes)
        self._queue_bytes = queue_bytes
        self._readers = Workers(READERS)
        self._writer = Workers(1)
        # SQLite is used from one thread at a time, and not the one that spends long on files.
        self._database = Workers(1)
        self._storing = trio.Lock()
        self._wake = trio.Event()
        self._touched: dict[bytes, int] = {}
        self._gone: dict[bytes, int] = {}  # found missing or corrupt, with sizes; not yet written down
        self._open = False
        self._closed = False
        self.pending: dict[Cid, bytes] = {}
        self.pending_bytes = 0
        self.corrupt = 0
        self.not_stored = 0
        self.failures = 0

    # What is there

    def holds(self, cid: Cid) -> bool:
        """Whether ``read_many`` is worth asking."""
        return multihash_of(cid) in self.index

    async def read_many(self, cids: Sequence[Cid]) -> dict[Cid, bytes]:
        """Those of the blocks that are there and right. What is corrupt is dropped and counted."""
        large = [cid for cid in cids if self.index.size(multihash_of(cid)) >= FILE_SIZE_MIN]
        chosen = set(large)
        small = [cid for cid in cids if cid not in chosen]
        found: dict[Cid, bytes] = {}
        jobs = [large[start::READERS] for start in range(min(READERS, len(large)))]
        if len(jobs) + bool(small) == 1:
            await self._read(small, jobs[0] if jobs else [], found)
        else:
            async with trio.open_nursery() as nursery:
                for job in jobs:
                    nursery.start_soon(self._read, (), job, found)
                if small:
                    nursery.start_soon(self._read, small, (), found)
        return found

    # What shall be there

    def put(self, cid: Cid, data: bytes) -> None:
        """Will be stored soon, unless the queue is full. Does not await."""
        if cid in self.pending or self.holds(cid):
            return
        too_large = cost(len(data)) > self.index.limit_bytes
        if self._closed or too_large or self.pending_bytes + len(data) > self._queue_bytes:
            self.not_stored += 1
            return
        self.pending[cid] = data
        self.pending_bytes += len(data)
        self._wake.set()

    async def open(self) -> None:
        """Reads what an earlier run left. When that fails the tier is empty, and tries again with each batch to be stored."""
        self.index.clear()
        self._touched.clear()
        self._gone.clear()
        try:
            entries = await self._database.run(self._store.open)
        except StoreLost as lost:
            self._failed(lost)
            return
        self.index.load(entries)
        self._open = True

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Opens, stores what is put until cancelled, then stores the rest for a moment and closes."""
        try:
            await self.open()
            task_status.started()
            while True:
                await self._wake.wait()
                self._wake = trio.Event()
                await self.flush()
        finally:
            with trio.move_on_after(DRAIN_S, shield=True):
                await self.aclose()

    async def flush(self) -> None:
        """Stores everything that waits."""
        async with self._storing:
            while self.pending or self._gone or len(self._touched) >= TOUCHED_MAX:
                await self._guarded(self._store_batch if self.pending else self._give_up)

    async def make_room(self, size_bytes: int) -> int:
        """Gives up the least recently used blocks, about ``size_bytes`` of them. Returns how many bytes that was."""
        async with self._storing:
            before = self.index.used_bytes
            victims = self.index.victims(size_bytes)
            await self._guarded(self._give_up, victims)
            return before - self.index.used_bytes

    async def aclose(self) -> None:
        """Stores what waits and gives the folder back. Nothing is stored afterwards."""
        try:
            await self.flush()
            async with self._storing:
                if self._touched:
                    await self._guarded(self._give_up)
        finally:
            self._closed = True
            self._open = False
            self.index.clear()
            with trio.move_on_after(DRAIN_S, shield=True):
                await self._database.run(self._store.close)

    # Inside

    async def _read(self, small: Sequence[Cid], large: Sequence[Cid], found: dict[Cid, bytes]) -> None:
        corrupt = 0
        good: dict[Cid, bytes] = {}
        try:
            if small:
                good, corrupt = await self._database.run(self._store.read_rows, small)
            else:
                good, corrupt = await self._readers.run(self._store.read_files, large)
        except StoreLost as lost:
            # The next block to be stored opens the store anew.
            self._failed(lost)
        for cid in (*small, *large):
            key = multihash_of(cid)
            if cid not in good:
                self._gone[key] = self.index.size(key)
                self.index.pop(key, None)
                self._touched.pop(key, None)
            elif key in self.index and self.index.touch(key):
                self._touched[key] = self.index.epoch
        if corrupt:
            self.corrupt += corrupt
            log.warning("%d blocks in the cache were not what their names say; they are fetched again", corrupt)
        if self._gone or len(self._touched) >= TOUCHED_MAX:
            self._wake.set()
        found.update(good)

    async def _guarded(self, work: Callable[[*Ts], Awaitable[None]], *arguments: *Ts) -> None:
        """Runs ``work``, which uses the store, and once more with the store opened anew if it was lost. If that does not help,
        all that waits is dropped."""
        for _ in range(2):
            if not self._open:
                await self.open()
            if self._open:
                try:
                    return await work(*arguments)
                except StoreLost as lost:
                    self._failed(lost)
        self.not_stored += len(self.pending)
        self.pending.clear()
        self.pending_bytes = 0
        self._gone.clear()
        self._touched.clear()
        return None

    async def _store_batch(self) -> None:
        batch = self._next_batch()
        stored = await self._store_blocks(batch)
        self.not_stored += len(batch) - stored
        for cid, data in batch:
            del self.pending[cid]
            self.pending_bytes -= len(data)

    async def _store_blocks(self, batch: Sequence[tuple[Cid, bytes]]) -> int:
        """Stores blocks and makes room for them. Returns how many were stored: on a full disk not all."""
        keyed = [(multihash_of(cid), data) for cid, data in batch]
        large = [(key, data) for key, data in keyed if len(data) >= FILE_SIZE_MIN]
        count = await self._writer.run(self._store.write_files, large) if large else 0
        stored = large[:count] + [(key, data) for key, data in keyed if len(data) < FILE_SIZE_MIN]
        for key, data in stored:
            self._gone.pop(key, None)
            self.index.add(key, len(data))
        # On a full disk as much is given up as was to be stored, so that the next batch may fit.
        victims = self.index.victims(sum(cost(len(data)) for _, data in large[count:]))
        try:
            await self._commit(victims, stored)
        except NoSpace:
            for key, _ in stored:
                self.index.pop(key, None)
            await self._writer.run(self._store.remove_files, [key for key, _ in large])
            return 0
        return len(stored)

    async def _give_up(self, victims: Sequence[tuple[bytes, int]] = ()) -> None:
        # A row that could not be removed names a file that is gone, which the next start puts right.
        with suppress(NoSpace):
            await self._commit(victims, ())

    def _next_batch(self) -> list[tuple[Cid, bytes]]:
        batch: list[tuple[Cid, bytes]] = []
        size = 0
        for cid, data in self.pending.items():
            batch.append((cid, data))
            size += len(data)
            if size >= BATCH_BYTES or len(batch) >= BATCH_BLOCKS:
                break
        return batch

    async def _commit(self, victims: Sequence[tuple[bytes, int]], stored: Sequence[tuple[bytes, bytes]]) -> None:
        """Removes the files of what is gone, then writes the rows of what was stored, used and lost. Files first: on a full disk
        the rows need the room."""
        for key, size in victims:
            self._gone[key] = size
            self._touched.pop(key, None)
        gone, self._gone = self._gone, {}
        touched, self._touched = self._touched, {}
        put = [
            (key, len(data), self.index.epoch, data if len(data) < FILE_SIZE_MIN else None)
            for key, data in stored
            if key not in gone
        ]
        files = [key for key, size in gone.items() if size >= FILE_SIZE_MIN]
        if files:
            await self._writer.run(self._store.remove_files, files)
        await self._database.run(self._store.commit, put, list(touched.items()), gone.keys())

    def _failed(self, lost: StoreLost) -> None:
        self.failures += 1
        self._open = False
        self.index.clear()
        log.warning("%s", lost)
