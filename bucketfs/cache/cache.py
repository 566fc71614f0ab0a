"""``BlockCache``: a Source over a Source. Memory, then disk, then the source below.

A block that several tasks want at one time is fetched once (a *flight*). Flights that begin in the same turn of the event loop
are one batch: the task that begins the first of them leads, waits one turn, then fetches the whole batch with one ``get_many``.
When the leader is cancelled, the waiting tasks find their flights abandoned and one of them leads the next batch. So reading
needs no background task, and the deadline of one reader does not end the wait of another.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cachetools
import trio

from bucketfs.cache.disk_tier import QUEUE_BYTES, DiskTier
from bucketfs.cache.source import Shelter, Source
from bucketfs.disk import Disk
from bucketfs.errors import BucketfsError, Corrupt, NotFound
from bucketfs.types import Cid

MEMORY_OVERHEAD = 200  # bytes: key, entry and object headers


@dataclass(frozen=True, slots=True)
class CacheFigures:
    """``hits`` were answered from memory, ``disk_hits`` from disk, ``misses`` from the source below.

    ``not_stored`` counts blocks that were not written because the queue or the disk was full; ``failures`` how often the folder
    could not be used; ``corrupt`` blocks on disk that were not what their names said.
    """

    memory_bytes: int
    memory_blocks: int
    disk_bytes: int
    disk_blocks: int
    queue_bytes: int
    hits: int
    disk_hits: int
    misses: int
    corrupt: int
    not_stored: int
    failures: int


@dataclass(eq=False, slots=True)
class _Flight:
    """One block on its way. ``done`` without ``data`` or ``error`` means that its leader was cancelled."""

    done: trio.Event = field(default_factory=trio.Event)
    data: bytes | None = None
    error: BucketfsError | None = None


class BlockCache:
    """See ``Source`` for what is returned and raised. ``folder`` None means no disk tier. All methods belong to the trio thread.

    Reading works at once; what is read is stored on disk only while ``run`` runs. ``shelters`` are asked before the source below:
    they keep the base that a journal needs, also when the cache was deleted and the Hub has lost it.
    """

    def __init__(
        self,
        below: Source,
        folder: Path | str | None,
        memory_bytes: int,
        disk_bytes: int,
        *,
        disk: Disk | None = None,
        queue_bytes: int = QUEUE_BYTES,
    ) -> None:
        self.shelters: list[Shelter] = []
        self._below = below
        self._memory: cachetools.LRUCache[Cid, bytes] = cachetools.LRUCache(memory_bytes, _memory_size)
        self._tier = None
        self._pending: dict[Cid, bytes] = {}
        if folder is not None and disk_bytes > 0:
            self._tier = DiskTier(str(folder), disk_bytes, disk=disk, queue_bytes=queue_bytes)
            self._pending = self._tier.pending
        self._flights: dict[Cid, _Flight] = {}
        self._boarding: list[tuple[Cid, _Flight]] = []
        self._hits = 0
        self._disk_hits = 0
        self._misses = 0

    # Source

    def peek(self, cid: Cid) -> bytes | None:
        """The block if it is in memory, or still waits to be stored."""
        try:
            return self._memory[cid]
        except KeyError:
            return self._pending.get(cid)

    async def get(self, cid: Cid) -> bytes:
        """The block. No checkpoint when it is in memory."""
        data = self.peek(cid)
        if data is not None:
            self._hits += 1
            return data
        return (await self._gather([cid]))[cid]

    async def get_many(self, cids: Sequence[Cid]) -> dict[Cid, bytes]:
        """All of the blocks. No checkpoint when they are in memory."""
        found: dict[Cid, bytes] = {}
        wanted: list[Cid] = []
        for cid in cids:
            data = self.peek(cid)
            if data is None:
                wanted.append(cid)
            else:
                found[cid] = data
        self._hits += len(found)
        if wanted:
            found.update(await self._gather(wanted))
        return found

    async def at_hand(self, cids: Sequence[Cid]) -> dict[Cid, bytes]:
        """Those of the blocks that are on this machine. Awaits its disk, but no network; raises nothing."""
        found = {cid: data for cid in cids if (data := self.peek(cid)) is not None}
        if self._tier is not None:
            tier = self._tier
            found |= await tier.read_many([cid for cid in cids if cid not in found and tier.holds(cid)])
        return found | await self._sheltered([cid for cid in cids if cid not in found])

    # Our own blocks

    def put(self, cid: Cid, data: bytes) -> None:
        """Takes in a block that we built ourselves. Does not await."""
        self._remember(cid, data)
        if self._tier is not None:
            self._tier.put(cid, data)

    def put_many(self, blocks: Iterable[tuple[Cid, bytes]]) -> None:
        """Takes in blocks, e.g. the ``items()`` of a mapping. Does not await."""
        for cid, data in blocks:
            self.put(cid, data)

    # Life

    async def open(self) -> None:
        """Reads what is on disk, for use without ``run``."""
        if self._tier is not None:
            await self._tier.open()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Opens, reports ready, and stores what is read until cancelled; then closes."""
        if self._tier is not None:
            await self._tier.run(task_status=task_status)
        else:
            task_status.started()
            await trio.sleep_forever()

    async def flush(self) -> None:
        """Returns when what was read so far is on disk, or was given up."""
        if self._tier is not None:
            await self._tier.flush()

    async def make_room(self, size_bytes: int) -> int:
        """Removes about ``size_bytes`` from the disk, least recently used first, as drafts need the room. Returns how many."""
        return await self._tier.make_room(size_bytes) if self._tier is not None else 0

    async def aclose(self) -> None:
        """Stores what waits and gives the folder back. ``run`` does it at its end."""
        if self._tier is not None:
            await self._tier.aclose()

    def figures(self) -> CacheFigures:
        """How the cache stands now."""
        tier = self._tier
        return CacheFigures(
            memory_bytes=int(self._memory.currsize),
            memory_blocks=len(self._memory),
            disk_bytes=tier.index.used_bytes if tier else 0,
            disk_blocks=len(tier.index) if tier else 0,
            queue_bytes=tier.pending_bytes if tier else 0,
            hits=self._hits,
            disk_hits=self._disk_hits,
            misses=self._misses,
            corrupt=tier.corrupt if tier else 0,
            not_stored=tier.not_stored if tier else 0,
            failures=tier.failures if tier else 0,
        )

    # Inside

    async def _gather(self, cids: Iterable[Cid]) -> dict[Cid, bytes]:
        found: dict[Cid, bytes] = {}
        wanted = dict.fromkeys(cids)  # in order, and each once
        while wanted:
            flights, leads = self._board(wanted)
            if leads:
                await self._lead()
            for cid, flight in flights:
                await flight.done.wait()
                if flight.error is not None:
                    # A copy each, since a traceback grows with every raise.
                    raise copy.copy(flight.error) from flight.error
                if flight.data is not None:
                    found[cid] = flight.data
                    del wanted[cid]
        return found

    def _board(self, cids: Iterable[Cid]) -> tuple[list[tuple[Cid, _Flight]], bool]:
        """The flights of these blocks, begun where there is none, and whether the caller leads."""
        leads = False
        flights: list[tuple[Cid, _Flight]] = []
        for cid in cids:
            flight = self._flights.get(cid)
            if flight is None:
                flight = self._flights[cid] = _Flight()
                data = self.peek(cid)  # it may have come after the last flight was abandoned
                if data is not None:
                    self._land(cid, data)
                else:
                    leads = leads or not self._boarding
                    self._boarding.append((cid, flight))
            flights.append((cid, flight))
        return flights, leads

    async def _lead(self) -> None:
        batch: list[tuple[Cid, _Flight]] = []
        try:
            try:
                await trio.lowlevel.checkpoint()
            finally:
                batch, self._boarding = self._boarding, []
            tier = self._tier
            on_disk = [cid for cid, _ in batch if tier is not None and tier.holds(cid)]
            there = set(on_disk)
            absent = [cid for cid, _ in batch if cid not in there]
            if on_disk and absent:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._from_disk, on_disk)
                    nursery.start_soon(self._from_below, absent)
            elif on_disk:
                await self._from_disk(on_disk)
            else:
                await self._from_below(absent)
        finally:
            for cid, flight in batch:
                # A flight that landed is no longer in the table, where a later one for the same block may stand.
                if not flight.done.is_set():
                    del self._flights[cid]
                    flight.done.set()

    async def _from_disk(self, cids: Sequence[Cid]) -> None:
        assert self._tier is not None
        found = await self._tier.read_many(cids)
        self._disk_hits += len(found)
        for cid, data in found.items():
            self._remember(cid, data)
            self._land(cid, data)
        spoilt = [cid for cid in cids if cid not in found]
        if spoilt:
            await self._from_below(spoilt)

    async def _sheltered(self, cids: Sequence[Cid]) -> dict[Cid, bytes]:
        found: dict[Cid, bytes] = {}
        for shelter in list(self.shelters):
            held = [cid for cid in cids if cid not in found and cid in shelter]
            if held:
                found |= await shelter.get_many(held)
        return found

    async def _from_below(self, cids: Sequence[Cid]) -> None:
        found = await self._sheltered(cids)
        for cid, data in found.items():
            self.put(cid, data)
            self._land(cid, data)
        rest = [cid for cid in cids if cid not in found]
        if rest:
            await self._fetch(rest)

    async def _fetch(self, cids: Sequence[Cid]) -> None:
        """Fetches, and gives each flight its block or its error. A missing block must not fail the others of its batch, which other
        tasks may want: a batch that fails for one of its blocks is halved until that one is found."""
        try:
            blocks = await self._below.get_many(cids)
        except (NotFound, Corrupt) as error:
            if len(cids) == 1:
                self._crash(cids[0], error)
                return
            middle = len(cids) // 2
            await self._fetch(cids[:middle])
            await self._fetch(cids[middle:])
        except BucketfsError as error:
            for cid in cids:
                self._crash(cid, error)
        else:
            self._misses += len(cids)
            for cid in cids:
                self.put(cid, blocks[cid])
                self._land(cid, blocks[cid])

    def _land(self, cid: Cid, data: bytes) -> None:
        flight = self._flights.pop(cid)
        flight.data = data
        flight.done.set()

    def _crash(self, cid: Cid, error: BucketfsError) -> None:
        flight = self._flights.pop(cid)
        flight.error = error
        flight.done.set()

    def _remember(self, cid: Cid, data: bytes) -> None:
        if len(data) + MEMORY_OVERHEAD <= self._memory.maxsize:
            self._memory[cid] = data


def _memory_size(data: bytes) -> int:
    return len(data) + MEMORY_OVERHEAD
