"""The volumes of one mount: which there are, keeping them in step with their buckets, letting them go.

State of a mount, in ``mounts/<tag>`` of the state folder; the tag stands for Hub and bucket, so a mount finds its own again::

    lock              held by the daemon; a second one is refused
    inodes.db         numbers and ctimes for the kernel
    removing/<key>    a bucket that was removed here and not at the Hub yet (see `removals`)
    buckets/<key>/    one journal per bucket
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import trio

from bucketfs.cache import BlockCache
from bucketfs.client import AccountQuota, BucketInfo
from bucketfs.config import make_private
from bucketfs.daemon.buckets.deleted import JOURNALS
from bucketfs.daemon.buckets.mount_names import folder_names
from bucketfs.daemon.buckets.opening import Opener, OpenVolume
from bucketfs.daemon.buckets.pending import Waiting
from bucketfs.daemon.buckets.removals import PASSING, Removal, Removals
from bucketfs.daemon.session import Session
from bucketfs.disk import Disk
from bucketfs.errors import BucketfsError, Busy, NoSpace, NotEmpty, NotFound, OverQuota, Stale, TimedOut
from bucketfs.journal import glance, inodes_named
from bucketfs.sync import ChangeFeed, News, NewsKind, Pace
from bucketfs.types import BucketKey, Cid, Inode
from bucketfs.vfs import VFS, InodeNumbers, Invalidation, Node, Owner, Volume

log = logging.getLogger(__name__)

REMOVE_PATIENCE_S = 2.0
"""How long rmdir of a bucket waits for the Hub, to say at once what the Hub refuses."""

GIVE_BACK_PATIENCE_S = 5.0
"""How long a write that found the disk full waits for one bucket to free what removed files held."""

OPEN_PATIENCE_S = 5.0
"""A listing waits for the buckets that it brings as long as one more is there within this time; the rest are shown as folders
without content."""


class Volumes:
    """All volumes of one mount; makes and removes buckets for the VFS (its `Buckets`)."""

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
        self.waiting: dict[BucketKey, Waiting] = {}
        self.feed = ChangeFeed()
        self.vfs: VFS
        self._session = session
        self._cache = cache
        self._folder = make_private(folder / JOURNALS)
        self._numbers = numbers
        self._opener = Opener(session, self._folder, cache, numbers, owner, notify, read_only=read_only, pace=pace)
        self._room = self._opener.room
        self._nursery: trio.Nursery | None = None
        self._listing = trio.Lock()
        self._alone = trio.Lock()
        self.removals = Removals(folder, session.buckets, self._is_removed, self._bring_back)
        self._removed: set[BucketKey] = set(self.removals.pending)

    @property
    def registry(self) -> dict[Inode, Node]:
        """The nodes of all volumes by their numbers."""
        return self._opener.registry

    @property
    def known_keys(self) -> set[str]:
        """The buckets that this mount has ever opened."""
        return {entry.name for entry in self._folder.iterdir()}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the volumes in step until cancelled, then close their journals."""
        # Before a number is given out: when the table of numbers was lost, only the journals know which are taken.
        for inode in await trio.to_thread.run_sync(_inodes_of, self._folder):
            self._numbers.reserve(inode)
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                for removal in self.removals.pending.values():
                    nursery.start_soon(self.removals.finish, removal)
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._nursery = None
            for one in self.open.values():
                self._opener.closing(one.journal)
                one.journal.close()

    async def add(self, info: BucketInfo, name: bytes, inode: Inode | None = None) -> OpenVolume:
        """Open a bucket and keep it in step from now on. Raises as `Opener.open` does."""
        opened = await self._opener.open(info, name, inode)
        opened.volume.listen(base_moved=partial(self._moved, opened))
        self._start(opened)
        self.open[info.key] = opened
        self.feed.tell(started(opened))
        return opened

    def _start(self, opened: OpenVolume) -> None:
        """Keep a bucket in step."""
        assert self._nursery is not None, "volumes are opened while `run` runs"
        opened.scope, opened.ended = trio.CancelScope(), trio.Event()
        self._nursery.start_soon(self._keep, opened)

    async def _stop(self, opened: OpenVolume) -> None:
        """Keep it in step no longer; a push that runs is cancelled."""
        opened.scope.cancel()
        with trio.CancelScope(shield=True):
            await opened.ended.wait()

    async def _keep(self, opened: OpenVolume) -> None:
        try:
            with opened.scope:
                opened.scheduler.root_moved()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(opened.scheduler.run)
                    nursery.start_soon(opened.pinner.run)
        finally:
            opened.ended.set()

    def _moved(self, opened: OpenVolume, old: Cid, new: Cid, ours: bool) -> None:
        self.feed.tell(News(NewsKind.MOVED, opened.info.key, opened.info.name, opened.name, old, new, ours))

    def hurry(self) -> None:
        """What stood in the way of pushes may be gone: try again now."""
        for one in self.open.values():
            one.scheduler.retry_now()
        for waiting in self.waiting.values():
            waiting.hurry()
        for removal in self.removals.pending.values():
            removal.hurry()

    def heard(self, key: BucketKey) -> None:
        """The root of a bucket may have moved."""
        if key in self.open:
            self.open[key].scheduler.root_moved()
        elif key in self.waiting:
            self.waiting[key].hurry()

    async def learn(self, limits: AccountQuota) -> None:
        """What the account may store, and stores. Raises what fetching the tops of the buckets raises, with a limit for each."""
        self._room.limit_bytes, self._room.used_bytes = limits.bytes_limit, limits.bytes_used
        for one in list(self.open.values()):
            volume, room = one.volume, one.room
            if limits.bucket_bytes_limit:
                room.used_bytes = await volume.load(partial(_size_of_base, volume))
            room.limit_bytes = limits.bucket_bytes_limit
            if _has_room(one):
                one.scheduler.retry_now()

    def space(self, total_bytes: int, free_bytes: int) -> tuple[int, int]:
        """What of the room on this machine, total and free, may be used at the Hub, too."""
        rooms = [self._room, *(one.room for one in self.open.values() if not one.name)]
        for room in rooms:
            left_bytes = room.left_bytes
            if left_bytes is not None:
                total_bytes, free_bytes = min(total_bytes, room.limit_bytes), min(free_bytes, left_bytes)
        return total_bytes, free_bytes

    async def make_room(self, size_bytes: int) -> int:
        """Free so many bytes, or more, for writes that found the disk full: what removed files held, else clean blocks of the
        cache. How many were freed, roughly. A bucket in which that fails, or takes long, keeps the others from nothing."""
        freed_bytes = 0
        for one in list(self.open.values()):
            garbage_bytes = one.volume.pending.garbage_bytes
            with trio.move_on_after(GIVE_BACK_PATIENCE_S):
                try:
                    if await one.scheduler.drafts.free():
                        freed_bytes += garbage_bytes
                except BucketfsError as error:
                    log.debug("bucket %r gives nothing back now: %s", one.info.name, error)
        return freed_bytes or await self._cache.make_room(size_bytes)

    async def settle(self, volume: Volume) -> None:
        """Return when everything in ``volume`` is at the Hub; raises what stands in the way."""
        opened = self.open.get(volume.key)
        if opened is None:
            raise Stale(f"bucket {volume.key} was taken off the mount")
        await opened.scheduler.drain()

    # The buckets of an all-buckets mount

    async def listed(self, buckets: list[BucketInfo], asked_s: float) -> None:
        """Show exactly these buckets at the top: new ones appear, removed ones go (unless something waits in them). The Hub was
        asked for them at ``asked_s`` of trio's clock; what was made or removed here since, it could not say."""
        async with self._listing:
            shown = [info for info in buckets if not info.private and info.key not in self._removed]
            names = folder_names(shown, self._names())
            self._rename(shown, names)
            await self._show(shown, names)
            there = {info.key for info in buckets}
            for key, waiting in list(self.waiting.items()):
                if key not in there and not waiting.changes:
                    await self._give_up(waiting)
            for key, opened in list(self.open.items()):
                if key not in there and opened.opened_s < asked_s and not _holds_changes(opened):
                    await self._close(opened)

    def missing(self, buckets: list[BucketInfo]) -> list[BucketInfo]:
        """The buckets of this mount that are not among ``buckets``, those of the Hub."""
        there = {info.key for info in buckets}
        ours = [*(one.info for one in self.open.values()), *(one.info for one in self.waiting.values())]
        return [info for info in ours if info.key not in there]

    async def put_off(self, info: BucketInfo) -> None:
        """Let ``status`` tell of a bucket that the Hub has no more, and for which this mount has changes and no folder."""
        error = NotFound(
            "the Hub has it no more, and another one of this name",
            hint=f"what was written for it is kept in {self._folder / info.key}",
        )
        waiting = self.waiting[info.key] = Waiting(info.name.encode(), info, error)
        await self._count(waiting)

    async def _count(self, waiting: Waiting) -> None:
        waiting.changes = (await trio.to_thread.run_sync(glance, Disk(), self._folder / waiting.info.key)).changes

    def _names(self) -> dict[BucketKey, bytes]:
        waiting = {key: one.name for key, one in self.waiting.items()}
        return waiting | {key: one.name for key, one in self.open.items()}

    def _rename(self, buckets: list[BucketInfo], names: Mapping[BucketKey, bytes]) -> None:
        """Give the folders of buckets that are called otherwise now their new names, all at once: two may have swapped theirs."""
        old = self._names()
        self.vfs.buckets.rename({old[key]: name for key, name in names.items() if old.get(key, name) != name})
        for info in buckets:
            opened, waiting, name = self.open.get(info.key), self.waiting.get(info.key), names[info.key]
            if opened is not None and (opened.name, opened.info.name) != (name, info.name):
                log.info("bucket %r is called %r now", opened.info.name, info.name)
                opened.rename(name, info)
                self.feed.tell(started(opened))
            if waiting is not None:
                waiting.name, waiting.info = name, info

    async def _show(self, buckets: list[BucketInfo], names: Mapping[BucketKey, bytes]) -> None:
        """Open what is not open, all at once; what cannot be opened soon is tried again behind."""
        assert self._nursery is not None, "buckets are shown while `run` runs"
        new: list[Waiting] = []
        for info in buckets:
            if info.key not in self.waiting and info.key not in self.open:
                waiting = self.waiting[info.key] = Waiting(names[info.key], info)
                new.append(waiting)
                self._nursery.start_soon(self._bring, waiting)
        await _tried(new)
        for waiting in new:
            if not waiting.tried.is_set():
                self.vfs.buckets.hold(waiting.name, waiting.error)

    async def _bring(self, waiting: Waiting) -> None:
        """Try to open a bucket until that succeeds, and show it."""
        try:
            with waiting.scope:
                while not await self._opened(waiting):
                    waiting.again = trio.Event()
                    delay_s = waiting.backoff.next_s()
                    waiting.next_try_s = time.time() + delay_s
                    waiting.tried.set()
                    with trio.move_on_after(delay_s):
                        await waiting.again.wait()
        finally:
            self.waiting.pop(waiting.info.key, None)
            waiting.tried.set()
            waiting.ended.set()

    async def _opened(self, waiting: Waiting) -> bool:
        """Whether there is nothing more to try."""
        try:
            opened = await self._open_waiting(waiting)
        except BucketfsError as error:
            await self._count(waiting)
            if self._session.guest and isinstance(error, NotFound) and not waiting.changes:
                log.info("bucket %r is not shown: %s", waiting.info.name, error)
                if waiting.name in self.vfs.buckets.names:
                    self.vfs.buckets.drop(waiting.name)
                return True
            if waiting.next_try_s is None:
                log.warning("bucket %r cannot be opened: %s", waiting.info.name, error)
            waiting.error = error
            self.vfs.buckets.hold(waiting.name, error)
            return False
        if (opened.name, opened.info) != (waiting.name, waiting.info):
            opened.rename(waiting.name, waiting.info)
        self.vfs.buckets.add(opened.name, opened.volume)
        return True

    async def _open_waiting(self, waiting: Waiting) -> OpenVolume:
        """Open a bucket beside others, and when that fails at first once more by itself: the cache asks for the blocks of several
        in one request, and one block that is lacking fails them all."""
        try:
            return await self.add(waiting.info, waiting.name)
        except BucketfsError:
            if waiting.tried.is_set():
                raise
        async with self._alone:
            return await self.add(waiting.info, waiting.name)

    async def _give_up(self, waiting: Waiting) -> None:
        """The bucket is gone at the Hub; what its journal may hold stays where it is."""
        waiting.scope.cancel()
        with trio.CancelScope(shield=True):
            await waiting.ended.wait()
        if waiting.info.key not in self.open and waiting.name in self.vfs.buckets.names:
            self.vfs.buckets.drop(waiting.name)

    async def create(self, name: str) -> None:
        """Make a bucket and show it."""
        await self.removals.name_free(name)
        async with self._listing:
            made = await self._session.buckets.create(name)
            opened = await self.add(made, name.encode())
            self.vfs.buckets.add(opened.name, opened.volume)

    async def remove(self, volume: Volume) -> None:
        """Remove a bucket that is empty here, also when the Hub does not answer soon: then it is removed there later. What is shown
        here may be older than what others put into it since, so the Hub has to have a root that is known here. Raises NotEmpty or
        Busy when it is known to have another one, NoSpace, DiskFailed, and what the Hub refuses."""
        async with self._listing:
            opened = self.open.get(volume.key)
            if opened is None:
                raise NotFound(f"bucket {volume.key} was taken off the mount")
            # A push that runs has nothing left to carry.
            await self._stop(opened)
            try:
                # Whoever asked has seen it empty. What others put into it may have been shown since; from here on nothing is.
                if not await volume.load(lambda: volume.tree.is_empty(volume.root)):
                    raise NotEmpty("the bucket is not empty")
                removal = await self._begin_removal(opened)
            except BaseException:
                self._start(opened)
                raise
            try:
                done = await self._try_removal(removal)
            except BaseException:
                with trio.CancelScope(shield=True), suppress(BucketfsError):
                    await self.removals.forget(removal)
                self._start(opened)
                raise
            # A program that gives up on rmdir must not leave a record behind that no task looks after.
            with trio.CancelScope(shield=True):
                if done is not None and not isinstance(done, PASSING):
                    try:
                        await self.removals.forget(removal)
                    finally:
                        self._start(opened)
                    raise await self._why_it_stays(opened, done)
                self._removed.add(volume.key)
                await self._close(opened)
                if done is None and await self._removal_made(removal):
                    return
                assert self._nursery is not None, "buckets are removed while `run` runs"
                self._nursery.start_soon(self.removals.finish, removal)

    async def _removal_made(self, removal: Removal) -> bool:
        """Whether it could be written down that the Hub has removed a bucket. Else another attempt finds that, and tries again."""
        try:
            await self._opener.forget_changes(removal.info.key)
            await self.removals.forget(removal)
        except BucketfsError as error:
            log.info("that bucket %r is removed is written down later: %s", removal.info.name, error)
            return False
        return True

    async def _begin_removal(self, opened: OpenVolume) -> Removal:
        roots = _roots_of(opened.volume)
        try:
            return await self.removals.begin(opened.info, roots)
        except NoSpace:
            # Removing frees room, so it may use what is kept for that.
            if not self._opener.release_reserve():
                raise
        return await self.removals.begin(opened.info, roots)

    async def _try_removal(self, removal: Removal) -> BucketfsError | None:
        """Remove a bucket at the Hub within the time that a program may wait for rmdir; why that failed."""
        try:
            with trio.fail_after(REMOVE_PATIENCE_S):
                await self.removals.attempt(removal)
        except BucketfsError as error:
            return error
        except trio.TooSlowError:
            return TimedOut("the Hub does not answer soon")
        return None

    async def _why_it_stays(self, opened: OpenVolume, error: BucketfsError) -> BucketfsError:
        """The error for whoever wanted to remove a bucket: NotEmpty when what others put into it can be shown soon."""
        volume = opened.volume
        if isinstance(error, Busy):
            with trio.move_on_after(REMOVE_PATIENCE_S), suppress(BucketfsError):
                await opened.scheduler.drain()
                if not await volume.load(lambda: volume.tree.is_empty(volume.root)):
                    return NotEmpty("the bucket is not empty at the Hub")
        return error

    async def _is_removed(self, removal: Removal) -> None:
        await self._opener.forget_changes(removal.info.key)

    async def _bring_back(self, removal: Removal) -> None:
        """The Hub does not let go of a bucket that was removed here: show it again, with what others made of it."""
        self._removed.discard(removal.info.key)
        async with self._listing:
            await self._show([removal.info], folder_names([removal.info], self._names()))

    async def _close(self, opened: OpenVolume) -> None:
        """Take a bucket off the mount at once, and close its journal when nobody is at work with it."""
        opened.volume.push.grew(-opened.volume.push.grown_bytes)
        del self.open[opened.info.key]
        self.feed.tell(News(NewsKind.END, opened.info.key, opened.info.name, opened.name, opened.volume.base, None))
        if opened.name in self.vfs.buckets.names:
            self.vfs.buckets.drop(opened.name)
        await self._stop(opened)
        opened.scheduler.stop()
        with trio.CancelScope(shield=True):
            self._opener.closing(opened.journal)
            await opened.journal.aclose()


async def _tried(new: Sequence[Waiting]) -> None:
    """Return when all were tried once, or none was for a while."""
    left = [waiting for waiting in new if not waiting.tried.is_set()]
    while left:
        with trio.move_on_after(OPEN_PATIENCE_S):
            for waiting in left:
                await waiting.tried.wait()
        before, left = left, [waiting for waiting in left if not waiting.tried.is_set()]
        if len(left) == len(before):
            return


def _has_room(one: OpenVolume) -> bool:
    """Whether a push of a volume waits for room at the Hub that is there now."""
    trouble, wanted, free = one.scheduler.failure, one.scheduler.withheld.room_wanted_bytes, one.volume.push.free_bytes
    if trouble is not None and isinstance(trouble.error, OverQuota):
        return all(room.left_bytes != 0 for room in one.volume.push.limits)
    return wanted is not None and (free is None or wanted <= free)


def _holds_changes(opened: OpenVolume) -> bool:
    return opened.scheduler.dirty or len(opened.journal.quarantine) > 0


def _roots_of(volume: Volume) -> set[Cid]:
    """The roots that the Hub may have with nothing in it that was not shown here."""
    return {volume.base, *volume.push.proposed, *([volume.push.arrived] if volume.push.arrived is not None else [])}


def _inodes_of(folder: Path) -> set[Inode]:
    """What all journals of a mount name. Blocks."""
    found = set[Inode]()
    if folder.is_dir():
        for journal in folder.iterdir():
            found |= inodes_named(Disk(), journal)
    return found


def started(opened: OpenVolume) -> News:
    """A bucket is followed from its base on."""
    return News(NewsKind.START, opened.info.key, opened.info.name, opened.name, None, opened.volume.base)


def _size_of_base(volume: Volume) -> int:
    """The cumulative size of the tree at the Hub, as its top directory tells it. An attempt."""
    return sum(link.tsize for link in volume.tree.base_tree.directory(volume.base).entries.values())
