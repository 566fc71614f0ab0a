"""The open buckets of one mount: opened, kept in step with the Hub, closed.

State of a mount, in ``mounts/<tag>`` of the state folder; the tag stands for Hub and bucket, so a mount finds its own again::

    lock              held by the daemon; a second one is refused
    inodes.db         numbers and ctimes for the kernel
    known.json        the listing that the Hub last gave (see `hub_cache`)
    removing/<key>    a bucket that was removed here and not at the Hub yet (see `removals`)
    buckets/<key>/    one journal per bucket
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import trio

from bucketfs.cache import BlockCache
from bucketfs.client import AccountQuota, BucketInfo
from bucketfs.config import make_private
from bucketfs.daemon.buckets.deleted import JOURNALS
from bucketfs.daemon.buckets.opening import Opener, OpenVolume
from bucketfs.daemon.session import Session
from bucketfs.disk import Disk
from bucketfs.errors import BucketfsError, OverQuota, Stale
from bucketfs.journal import inodes_named
from bucketfs.sync import ChangeFeed, News, NewsKind, Pace
from bucketfs.types import BucketKey, Cid, Inode
from bucketfs.vfs import InodeNumbers, Invalidation, Node, Owner, Volume

log = logging.getLogger(__name__)

FREE_PATIENCE_S = 5.0
"""How long a write that found the disk full waits for one bucket to free what removed files held."""


class Volumes:
    """The open buckets of one mount, by key."""

    def __init__(
        self,
        session: Session,
        folder: Path,
        cache: BlockCache,
        numbers: InodeNumbers,
        owner: Owner,
        notify: Callable[[Invalidation], None],
        *,
        read_only: bool,
        pace: Pace,
    ) -> None:
        self.open: dict[BucketKey, OpenVolume] = {}
        self.feed = ChangeFeed()
        self.journals = make_private(folder / JOURNALS)
        self.opener = Opener(session, self.journals, cache, numbers, owner, notify, read_only=read_only, pace=pace)
        self._cache = cache
        self._numbers = numbers
        self._nursery: trio.Nursery | None = None

    @property
    def registry(self) -> dict[Inode, Node]:
        """The nodes of all volumes by their numbers."""
        return self.opener.registry

    @property
    def keys_seen(self) -> set[str]:
        """The buckets that this mount has ever opened."""
        return {entry.name for entry in self.journals.iterdir()}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the volumes in step until cancelled, then close their journals."""
        # Before a number is given out: when the table of numbers was lost, only the journals know which are taken.
        for inode in await trio.to_thread.run_sync(_inodes_in_journals, self.journals):
            self._numbers.reserve(inode)
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._nursery = None
            for one in self.open.values():
                self.opener.closing(one.journal)
                one.journal.close()

    def start_soon(self, task: Callable[..., Awaitable[object]], *arguments: object) -> None:
        """Start a task that ends, at the latest, before the journals are closed."""
        assert self._nursery is not None, "volumes are used while `run` runs"
        self._nursery.start_soon(task, *arguments)

    async def add(self, info: BucketInfo, name: bytes, inode: Inode | None = None) -> OpenVolume:
        """Open a bucket and keep it in step from now on. Raises as `Opener.open` does."""
        opened = await self.opener.open(info, name, inode)
        opened.volume.listen(base_moved=partial(self._base_moved, opened))
        self.start(opened)
        self.open[info.key] = opened
        self.feed.tell(started(opened))
        return opened

    def start(self, opened: OpenVolume) -> None:
        """Keep a bucket in step."""
        opened.scope, opened.ended = trio.CancelScope(), trio.Event()
        self.start_soon(self._keep_in_step, opened)

    async def stop(self, opened: OpenVolume) -> None:
        """Keep a bucket in step no longer; a push that runs is cancelled."""
        opened.scope.cancel()
        with trio.CancelScope(shield=True):
            await opened.ended.wait()

    async def _keep_in_step(self, opened: OpenVolume) -> None:
        try:
            with opened.scope:
                opened.scheduler.root_moved()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(opened.scheduler.run)
                    nursery.start_soon(opened.pinner.run)
        finally:
            opened.ended.set()

    async def close(self, opened: OpenVolume, hide: Callable[[bytes], None]) -> None:
        """Take a bucket off the mount at once, where ``hide`` removes its folder, and close its journal when no call uses it."""
        opened.volume.push.grew(-opened.volume.push.grown_bytes)
        del self.open[opened.info.key]
        self.feed.tell(News(NewsKind.END, opened.info.key, opened.info.name, opened.name, opened.volume.base, None))
        hide(opened.name)
        await self.stop(opened)
        opened.scheduler.stop()
        with trio.CancelScope(shield=True):
            self.opener.closing(opened.journal)
            await opened.journal.aclose()

    def _base_moved(self, opened: OpenVolume, old: Cid, new: Cid, ours: bool) -> None:
        self.feed.tell(News(NewsKind.MOVED, opened.info.key, opened.info.name, opened.name, old, new, ours))

    async def drain(self, volume: Volume) -> None:
        """Return when everything in ``volume`` is at the Hub. Raises what prevents it."""
        opened = self.open.get(volume.key)
        if opened is None:
            raise Stale(f"bucket {volume.key} was taken off the mount")
        await opened.scheduler.drain()

    # Room at the Hub and on this disk

    async def apply_quota(self, quota: AccountQuota) -> None:
        """Take over what the account may store, and stores. Raises what fetching the roots of the buckets raises, when buckets have
        a limit."""
        account = self.opener.room
        account.limit_bytes, account.used_bytes = quota.bytes_limit, quota.bytes_used
        for one in list(self.open.values()):
            volume, room = one.volume, one.room
            if quota.bucket_bytes_limit:
                room.used_bytes = await volume.load(partial(_base_bytes, volume))
            room.limit_bytes = quota.bucket_bytes_limit
            if _has_room(one):
                one.scheduler.retry_now()

    def space(self, total_bytes: int, free_bytes: int) -> tuple[int, int]:
        """Of this disk's total and free bytes, those that may also be used at the Hub."""
        rooms = [self.opener.room, *(one.room for one in self.open.values() if not one.name)]
        for room in rooms:
            left_bytes = room.left_bytes
            if left_bytes is not None:
                total_bytes, free_bytes = min(total_bytes, room.limit_bytes), min(free_bytes, left_bytes)
        return total_bytes, free_bytes

    async def make_room(self, size_bytes: int) -> int:
        """Free disk space for writes that found the disk full: what removed files held, else at least ``size_bytes`` of clean
        blocks in the cache. Returns roughly how many bytes were freed. A bucket where this fails, or takes long, is passed over."""
        freed_bytes = 0
        for one in list(self.open.values()):
            garbage_bytes = one.volume.pending.garbage_bytes
            with trio.move_on_after(FREE_PATIENCE_S):
                try:
                    if await one.scheduler.drafts.free():
                        freed_bytes += garbage_bytes
                except BucketfsError as error:
                    log.debug("bucket %r frees nothing now: %s", one.info.name, error)
        return freed_bytes or await self._cache.make_room(size_bytes)


def started(opened: OpenVolume) -> News:
    """The first news of a bucket: programs follow it from its base on."""
    return News(NewsKind.START, opened.info.key, opened.info.name, opened.name, None, opened.volume.base)


def _has_room(one: OpenVolume) -> bool:
    """Whether a push that waited for room at the Hub has it now."""
    failure, wanted, free = one.scheduler.failure, one.scheduler.withheld.room_wanted_bytes, one.volume.push.free_bytes
    if failure is not None and isinstance(failure.error, OverQuota):
        return all(room.left_bytes != 0 for room in one.volume.push.limits)
    return wanted is not None and (free is None or wanted <= free)


def _inodes_in_journals(folder: Path) -> set[Inode]:
    """What all journals of a mount name. Blocks."""
    found = set[Inode]()
    if folder.is_dir():
        for journal in folder.iterdir():
            found |= inodes_named(Disk(), journal)
    return found


def _base_bytes(volume: Volume) -> int:
    """The cumulative size of the tree at the Hub, by the links of its root. Raises Wanted when that must be fetched first."""
    return sum(link.tsize for link in volume.tree.base_tree.directory(volume.base).entries.values())
