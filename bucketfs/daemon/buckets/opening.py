"""Opening a bucket of a mount: from its journal with the last base and pending changes, or from the Hub's root the first time."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import trio

from bucketfs.cache import BlockCache
from bucketfs.client import BucketInfo, Credentials
from bucketfs.config import make_private
from bucketfs.daemon.session import Session
from bucketfs.disk import Disk
from bucketfs.errors import DiskFailed, HubError, NoSpace, NotFound, Refused, Unauthenticated, Unsupported
from bucketfs.journal import Journal, Quarantine, Resources
from bucketfs.remote import NativeRemote
from bucketfs.sync import BasePinner, Pace, Pusher, Scheduler
from bucketfs.types import ROOT_INODE, BucketKey, Inode
from bucketfs.vfs import (
    BaseTree,
    FileNode,
    InodeNumbers,
    Invalidation,
    Namespace,
    Node,
    Owner,
    Pending,
    StorageLimit,
    Volume,
    draft_ids,
    recover,
)

log = logging.getLogger(__name__)

SWEEPS_MAX = 16
"""How many journals are swept at a time when a mount of many buckets starts: each takes a thread and a descriptor."""


@dataclass(slots=True, eq=False)
class OpenVolume:
    """One bucket of the mount. ``name`` is its folder's name at the top, empty when it is the root of the mount."""

    name: bytes
    info: BucketInfo
    volume: Volume
    journal: Journal
    scheduler: Scheduler
    pinner: BasePinner
    room: StorageLimit
    opened_s: float = field(default_factory=trio.current_time)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    ended: trio.Event = field(default_factory=trio.Event)

    def rename(self, name: bytes, info: BucketInfo) -> None:
        """The bucket, and its folder, have another name now."""
        self.name, self.info = name, info
        self.volume.tree.remember_root(ROOT_INODE, name)


class Opener:
    """Opens the buckets of one mount, which share ``registry`` and ``base_tree``; ``room`` is what the account has left."""

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
        self.registry: dict[Inode, Node] = {}
        self.base_tree = BaseTree(cache)
        self.room = StorageLimit("the account")
        self._session = session
        self._folder = folder
        self._resources = Resources.below(Disk(), folder.parent)
        self._sweeping = trio.CapacityLimiter(SWEEPS_MAX)
        self._cache = cache
        self._numbers = numbers
        self._owner = owner
        self._notify = notify
        self._read_only = read_only
        self._pace = pace
        self._known_me: tuple[Credentials, str] | None = None

    async def open(self, info: BucketInfo, name: bytes, inode: Inode | None) -> OpenVolume:
        """Open a bucket; ``inode`` is its root's number when it is given already. Raises Unsupported for a private one, NotFound
        when nothing of it is shared, and what its journal and the Hub raise."""
        if info.private:
            raise Unsupported(
                f"bucket {info.name!r} is private (encrypted); mounting one is not possible yet",
                hint="use 'bucketfs buck get' and 'bucketfs buck push'",
            )
        folder = make_private(self._folder / info.key)
        journal = await trio.to_thread.run_sync(Journal.open, Disk(), folder, self._resources)
        # First of all: blocks of the base may be nowhere but in the journal.
        self._cache.shelters.append(journal.pins)
        try:
            volume = await self._volume(info, journal, name, inode)
            remote = NativeRemote(self._session.blocks, self._session.buckets, info.thread, info.key)
            pusher = Pusher(volume, remote, self._cache, self._notify, me=self._me)
            if volume.owes_checkpoint:
                await self._begin_anew(pusher, info)
            if self._session.guest:
                await self._look_as_guest(pusher, remote, info)
        except BaseException:
            self.closing(journal)
            journal.close()
            raise
        scheduler = Scheduler(volume, remote, pusher, self._pace)
        room = StorageLimit(f"bucket {info.name!r}")
        volume.push.limits = (room,) if self._session.guest else (self.room, room)
        volume.push.grew(_grown_by(volume))
        return OpenVolume(name, info, volume, journal, scheduler, BasePinner(volume, self._cache), room)

    def release_reserve(self) -> bool:
        """Release a part of the disk reserve, which is for changes that free room. False when none is left."""
        return self._resources.reserve.release()

    async def forget_changes(self, key: BucketKey) -> None:
        """Drop the changes in the journal of a bucket that is not open. Raises NoSpace, DiskFailed."""
        journal = await trio.to_thread.run_sync(Journal.open, Disk(), self._folder / key, self._resources)
        try:
            if journal.recovered.base is not None:
                journal.quarantine = Quarantine()
                journal.checkpoint(journal.recovered.base, [])
                await journal.compact()
        finally:
            await journal.aclose()

    def closing(self, journal: Journal) -> None:
        """Detach a journal from the cache, before it is closed."""
        self._cache.shelters.remove(journal.pins)

    async def _volume(self, info: BucketInfo, journal: Journal, name: bytes, inode: Inode | None) -> Volume:
        tree = Namespace(self.base_tree, self._numbers, self.registry, self._owner, updated_at_ns=info.updated_at_ns)
        volume = Volume(info.key, tree, Pending(tree), journal, read_only=self._read_only)
        known = self._numbers.at(ROOT_INODE, name)
        if inode is None:
            inode = known.inode if known is not None else self._numbers.fresh()
        quarantined = await recover(volume, info.root, inode, known)
        volume.tree.new_here = known is None
        volume.tree.remember_root(ROOT_INODE, name)
        for op in journal.recovered.unbacked:
            log.info("bucket %r: a power loss took bytes of %r that were never synced", info.name, op.path)
        for path in journal.recovered.set_aside:
            log.warning("bucket %r: part of the journal is damaged; what could not be read is kept in %s", info.name, path)
        if quarantined:
            log.warning(
                "bucket %r: changes of %d paths cannot be applied, because blocks that they were made on are lost; they are kept, "
                "and 'bucketfs recover' saves them elsewhere (the first is %r)",
                info.name,
                len(quarantined),
                quarantined[0],
            )
        async with self._sweeping:
            await journal.sweep(draft_ids(volume))
        # The last mount may have ended before it could free the drafts of removed files.
        volume.pending.leave_garbage(await trio.to_thread.run_sync(journal.unneeded_bytes, draft_ids(volume)))
        return volume

    async def _begin_anew(self, pusher: Pusher, info: BucketInfo) -> None:
        """Checkpoint, so that no record names draft bytes that a power loss took: new writes may use the same draft. Without room
        for it the scheduler retries, and until then the bucket refuses changes."""
        try:
            await pusher.checkpoints.write()
        except (NoSpace, DiskFailed) as error:
            log.warning("bucket %r: no change is possible until its journal can be written anew: %s", info.name, error)

    async def _look_as_guest(self, pusher: Pusher, remote: NativeRemote, info: BucketInfo) -> None:
        """Learn the permissions in someone else's bucket before it is shown. Raises NotFound when there are none."""
        await pusher.apply_permissions(await remote.look())
        rights = pusher.permissions
        if rights is not None and not rights.shows(""):
            raise NotFound(
                f"nothing of bucket {info.key} is shared with you",
                hint=f"its owner runs 'bucketfs buck roles grant BUCKET {rights.me} --role reader'",
            )

    async def _me(self) -> str:
        """The public key of the acting account or user, asked for once for each key in use; empty when the Hub does not say."""
        credentials = self._session.credentials()
        if self._known_me is None or self._known_me[0] != credentials:
            try:
                me = await self._session.me()
            except (Refused, HubError) as error:
                if isinstance(error, Unauthenticated):
                    raise
                log.info("the Hub does not say who acts here, so permissions are left to it: %s", error)
                me = ""
            self._known_me = (credentials, me)
        return self._known_me[1]


def _grown_by(volume: Volume) -> int:
    """How many bytes the replayed changes add to the sizes of files."""
    dirty = [node.content for node in volume.tree.dirty_nodes() if isinstance(node, FileNode)]
    return sum(content.size_bytes - content.base_size_bytes for content in dirty)
