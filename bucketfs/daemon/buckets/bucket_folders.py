"""The folders of the buckets in an all-buckets mount: those that the Hub lists, and those made and removed here.

A bucket that cannot be opened yet is shown as a folder that says so on access: were it missing, ``rsync --delete`` from the mount
would delete what was copied from it before.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import trio

from bucketfs.client import BucketInfo
from bucketfs.daemon.buckets.mount_names import folder_names
from bucketfs.daemon.buckets.opening import OpenVolume
from bucketfs.daemon.buckets.removals import PASSING, Removal, Removals
from bucketfs.daemon.buckets.retry_schedule import RetrySchedule
from bucketfs.daemon.buckets.volumes import Volumes, started
from bucketfs.daemon.session import Session
from bucketfs.disk import Disk
from bucketfs.errors import BucketfsError, Busy, NoSpace, NotEmpty, NotFound, TimedOut, Unavailable
from bucketfs.journal import glance
from bucketfs.types import BucketKey, Cid
from bucketfs.vfs import VFS, Volume

log = logging.getLogger(__name__)

REMOVE_PATIENCE_S = 2.0
"""How long rmdir of a bucket waits for the Hub, so that it can fail at once with what the Hub refuses."""

OPEN_PATIENCE_S = 5.0
"""How long a listing waits for one more of its buckets to open; then the rest are shown as folders that cannot be entered yet."""


@dataclass(slots=True, eq=False)
class PendingBucket:
    """A bucket that cannot be shown yet. ``name`` is that of its folder; ``error`` is why the newest attempt to open it failed;
    ``changes`` counts the changes that wait for it in its journal. ``tried`` is set after the first attempt, ``ended`` after the
    last."""

    name: bytes
    info: BucketInfo
    error: BucketfsError = field(default_factory=lambda: Unavailable("it is being opened"))
    changes: int = 0
    retry: RetrySchedule = field(default_factory=RetrySchedule)
    tried: trio.Event = field(default_factory=trio.Event)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    ended: trio.Event = field(default_factory=trio.Event)


class BucketFolders:
    """Makes, removes and lists buckets for the VFS (its `Buckets`). A mount of one bucket uses `pending` and `removals` only.
    ``vfs`` is set before anything is shown."""

    vfs: VFS

    def __init__(self, session: Session, volumes: Volumes, *, open_patience_s: float = OPEN_PATIENCE_S) -> None:
        self.pending: dict[BucketKey, PendingBucket] = {}
        self.removals = Removals(volumes.journals.parent, session.buckets, self._removed_at_hub, self._refused_at_hub)
        self._session = session
        self._volumes = volumes
        self._open_patience_s = open_patience_s
        self._listing = trio.Lock()
        self._one_at_a_time = trio.Lock()
        self._removed: set[BucketKey] = set(self.removals.pending)

    def start(self) -> None:
        """Go on with the removals that an earlier mount recorded."""
        for removal in self.removals.pending.values():
            self._volumes.start_soon(self.removals.finish, removal)

    def retry_now(self) -> None:
        """What was in the way of the Hub may be gone: repeat all failed attempts."""
        for one in self._volumes.open.values():
            one.scheduler.retry_now()
        for pending in self.pending.values():
            pending.retry.retry_now()
        for removal in self.removals.pending.values():
            removal.retry.retry_now()

    def root_moved(self, key: BucketKey) -> None:
        """The root of a bucket may have moved at the Hub."""
        if key in self._volumes.open:
            self._volumes.open[key].scheduler.root_moved()
        elif key in self.pending:
            self.pending[key].retry.retry_now()

    # What the Hub lists

    async def listed(self, buckets: list[BucketInfo], asked_s: float) -> None:
        """Show exactly these buckets: new ones appear, deleted ones go (unless changes wait in them). The Hub was asked at
        ``asked_s`` of trio's clock; its answer does not know what was made or removed here since."""
        async with self._listing:
            shown = [info for info in buckets if not info.private and info.key not in self._removed]
            names = folder_names(shown, self._names())
            self._rename(shown, names)
            await self._show(shown, names)
            there = {info.key for info in buckets}
            for key, pending in list(self.pending.items()):
                if key not in there and not pending.changes:
                    await self._give_up(pending)
            for key, opened in list(self._volumes.open.items()):
                if key not in there and opened.opened_s < asked_s and not _holds_changes(opened):
                    await self._volumes.close(opened, self._hide)

    def missing(self, buckets: list[BucketInfo]) -> list[BucketInfo]:
        """The buckets of this mount that are not among ``buckets``, those of the Hub."""
        there = {info.key for info in buckets}
        ours = [*(one.info for one in self._volumes.open.values()), *(one.info for one in self.pending.values())]
        return [info for info in ours if info.key not in there]

    async def keep_without_folder(self, info: BucketInfo) -> None:
        """Let ``status`` name a deleted bucket for which changes wait here, in a mount that has no folder for it."""
        error = NotFound(
            "the Hub has it no more, and another one of this name",
            hint=f"what was written for it is kept in {self._volumes.journals / info.key}",
        )
        pending = self.pending[info.key] = PendingBucket(info.name.encode(), info, error)
        await self._count_changes(pending)

    async def _count_changes(self, pending: PendingBucket) -> None:
        journal = self._volumes.journals / pending.info.key
        pending.changes = (await trio.to_thread.run_sync(glance, Disk(), journal)).changes

    def _names(self) -> dict[BucketKey, bytes]:
        pending = {key: one.name for key, one in self.pending.items()}
        return pending | {key: one.name for key, one in self._volumes.open.items()}

    def _rename(self, buckets: list[BucketInfo], names: Mapping[BucketKey, bytes]) -> None:
        """Rename the folders of buckets that were renamed at the Hub, all at once: two may have swapped their names."""
        old = self._names()
        self.vfs.buckets.rename({old[key]: name for key, name in names.items() if old.get(key, name) != name})
        for info in buckets:
            opened, pending, name = self._volumes.open.get(info.key), self.pending.get(info.key), names[info.key]
            if opened is not None and (opened.name, opened.info.name) != (name, info.name):
                log.info("bucket %r was renamed to %r", opened.info.name, info.name)
                opened.rename(name, info)
                self._volumes.feed.tell(started(opened))
            if pending is not None:
                pending.name, pending.info = name, info

    async def _show(self, buckets: list[BucketInfo], names: Mapping[BucketKey, bytes]) -> None:
        """Open what is not open, all at once. Attempts that fail, or take long, go on in the background."""
        new: list[PendingBucket] = []
        for info in buckets:
            if info.key not in self.pending and info.key not in self._volumes.open:
                pending = self.pending[info.key] = PendingBucket(names[info.key], info)
                new.append(pending)
                self._volumes.start_soon(self._open_until_shown, pending)
        await self._wait_until_tried(new)
        for pending in new:
            if not pending.tried.is_set():
                self.vfs.buckets.hold(pending.name, pending.error)

    async def _wait_until_tried(self, new: Sequence[PendingBucket]) -> None:
        """Return when all were tried once, or none was for a while."""
        left = [pending for pending in new if not pending.tried.is_set()]
        while left:
            with trio.move_on_after(self._open_patience_s):
                for pending in left:
                    await pending.tried.wait()
            before, left = left, [pending for pending in left if not pending.tried.is_set()]
            if len(left) == len(before):
                return

    async def _open_until_shown(self, pending: PendingBucket) -> None:
        try:
            with pending.scope:
                while not await self._open(pending):
                    pending.tried.set()
                    await pending.retry.wait()
        finally:
            self.pending.pop(pending.info.key, None)
            pending.tried.set()
            pending.ended.set()

    async def _open(self, pending: PendingBucket) -> bool:
        """One attempt. Returns whether there is nothing more to try."""
        try:
            opened = await self._add(pending)
        except BucketfsError as error:
            await self._count_changes(pending)
            if self._session.guest and isinstance(error, NotFound) and not pending.changes:
                log.info("bucket %r is not shown: %s", pending.info.name, error)
                self._hide(pending.name)
                return True
            if pending.retry.next_try_s is None:
                log.warning("bucket %r cannot be opened: %s", pending.info.name, error)
            pending.error = error
            self.vfs.buckets.hold(pending.name, error)
            return False
        if (opened.name, opened.info) != (pending.name, pending.info):
            opened.rename(pending.name, pending.info)
        self.vfs.buckets.add(opened.name, opened.volume)
        return True

    async def _add(self, pending: PendingBucket) -> OpenVolume:
        """Open a bucket beside others, and when that fails the first time once more alone: the cache asks for blocks of several
        buckets in one request, which fails as a whole when the Hub lacks one block."""
        try:
            return await self._volumes.add(pending.info, pending.name)
        except BucketfsError:
            if pending.tried.is_set():
                raise
        async with self._one_at_a_time:
            return await self._volumes.add(pending.info, pending.name)

    async def _give_up(self, pending: PendingBucket) -> None:
        """The bucket was deleted at the Hub. Its journal stays where it is."""
        pending.scope.cancel()
        with trio.CancelScope(shield=True):
            await pending.ended.wait()
        if pending.info.key not in self._volumes.open:
            self._hide(pending.name)

    def _hide(self, name: bytes) -> None:
        if name in self.vfs.buckets.names:
            self.vfs.buckets.drop(name)

    # What is made and removed here

    async def create(self, name: str) -> None:
        """Make a bucket and show it."""
        await self.removals.name_free(name)
        async with self._listing:
            made = await self._session.buckets.create(name)
            opened = await self._volumes.add(made, name.encode())
            self.vfs.buckets.add(opened.name, opened.volume)

    async def remove(self, volume: Volume) -> None:
        """Remove a bucket that is empty here; when the Hub does not answer soon, it is removed there later. What is shown here may
        be older than what others put into it, so the Hub must have a root that is known here. Raises NotEmpty or Busy when it has
        another one, NoSpace, DiskFailed, and what the Hub refuses."""
        async with self._listing:
            opened = self._volumes.open.get(volume.key)
            if opened is None:
                raise NotFound(f"bucket {volume.key} was taken off the mount")
            # A running push has nothing left to send.
            await self._volumes.stop(opened)
            try:
                # The program has seen it empty, but changes of others may have been shown since. From here on none are.
                if not await _is_empty(volume):
                    raise NotEmpty("the bucket is not empty")
                removal = await self._record_removal(opened)
            except BaseException:
                self._volumes.start(opened)
                raise
            try:
                failure = await self._try_removal(removal)
            except BaseException:
                with trio.CancelScope(shield=True), suppress(BucketfsError):
                    await self.removals.forget(removal)
                self._volumes.start(opened)
                raise
            # A program that gives up on rmdir must not leave a record behind that no task looks after.
            with trio.CancelScope(shield=True):
                if failure is not None and not isinstance(failure, PASSING):
                    try:
                        await self.removals.forget(removal)
                    finally:
                        self._volumes.start(opened)
                    raise await self._refusal(opened, failure)
                self._removed.add(volume.key)
                await self._volumes.close(opened, self._hide)
                if failure is not None or not await self._forget(removal):
                    self._volumes.start_soon(self.removals.finish, removal)

    async def _record_removal(self, opened: OpenVolume) -> Removal:
        roots = _roots_shown(opened.volume)
        try:
            return await self.removals.begin(opened.info, roots)
        except NoSpace:
            # Removing frees room, so it may use the disk reserve.
            if not self._volumes.opener.release_reserve():
                raise
        return await self.removals.begin(opened.info, roots)

    async def _try_removal(self, removal: Removal) -> BucketfsError | None:
        """Remove a bucket at the Hub within the time that a program may wait for rmdir. Returns why that failed."""
        try:
            with trio.fail_after(REMOVE_PATIENCE_S):
                await self.removals.attempt(removal)
        except BucketfsError as error:
            return error
        except trio.TooSlowError:
            return TimedOut("the Hub does not answer soon")
        return None

    async def _forget(self, removal: Removal) -> bool:
        """Drop the changes and the record of a removed bucket. When that fails, another attempt repeats it."""
        try:
            await self._removed_at_hub(removal)
            await self.removals.forget(removal)
        except BucketfsError as error:
            log.info("the record of the removed bucket %r is dropped later: %s", removal.info.name, error)
            return False
        return True

    async def _refusal(self, opened: OpenVolume, error: BucketfsError) -> BucketfsError:
        """The error of rmdir: NotEmpty when what others put into the bucket can be shown soon."""
        if isinstance(error, Busy):
            with trio.move_on_after(REMOVE_PATIENCE_S), suppress(BucketfsError):
                await opened.scheduler.drain()
                if not await _is_empty(opened.volume):
                    return NotEmpty("the bucket is not empty at the Hub")
        return error

    async def _removed_at_hub(self, removal: Removal) -> None:
        await self._volumes.opener.forget_changes(removal.info.key)

    async def _refused_at_hub(self, removal: Removal) -> None:
        """Show a bucket again that was removed here, with what others put into it."""
        self._removed.discard(removal.info.key)
        async with self._listing:
            await self._show([removal.info], folder_names([removal.info], self._names()))


async def _is_empty(volume: Volume) -> bool:
    return await volume.load(lambda: volume.tree.is_empty(volume.root))


def _holds_changes(opened: OpenVolume) -> bool:
    return opened.scheduler.dirty or len(opened.journal.quarantine) > 0


def _roots_shown(volume: Volume) -> set[Cid]:
    """The roots that hold nothing but what was shown here."""
    return {volume.base, *volume.push.proposed, *([volume.push.arrived] if volume.push.arrived is not None else [])}
