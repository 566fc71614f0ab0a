"""One push: snapshot → blocks → root swap → the overlay rests on the new root. A large backlog goes in batches.

If another root turned up at the Hub, the overlay is rebased onto it first and the push tried again; what was built tells the
rebase which changes are equal on both sides. What cannot go (`Withheld`) stays here, dirty and in the journal; the rest goes out.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from bucketfs.cache import KeepingSource
from bucketfs.errors import (
    BlocksMissing,
    BucketfsError,
    Corrupt,
    Denied,
    InvalidArgument,
    NameInvalid,
    NameTooLong,
    OverQuota,
    RootMoved,
    TooLarge,
    Unavailable,
)
from bucketfs.remote import Block, Emit, Look, Remote, Sent, send_all
from bucketfs.sync.checkpoints import Checkpoints
from bucketfs.sync.partial_push import UnitPath, part_pushed
from bucketfs.sync.push_load import PushLoad
from bucketfs.sync.rebaser import Rebaser
from bucketfs.sync.refusal_search import RefusalSearch, SwapRefused
from bucketfs.sync.rollback import RollbackRepair, supply
from bucketfs.sync.tree_builder import FilesDamaged, FileVersion, build, built_files
from bucketfs.sync.withheld import Withheld
from bucketfs.types import Cid, Link, UploadId
from bucketfs.vfs import (
    Batches,
    BatchLimits,
    Invalidation,
    Node,
    Permissions,
    Snapshot,
    Volume,
    apply_permissions,
    built_of,
    freeze,
    permissions_of,
    without_folders,
)

log = logging.getLogger(__name__)

SUPPLIES_MAX = 64
"""Below a block that the Hub lacks it sees nothing: one round of sending for each level of a tree, and files have up to ten."""

MOVES_MAX = 20
"""A root that moves this often under one push belongs to a Hub that answers nonsense; the push is tried again later."""

ABANDONED_MAX = 3
"""How often one push is begun anew because most of it was removed meanwhile. After that it goes on whatever is removed: a program
that makes and removes large files without end keeps nothing else from the Hub."""

SEARCHES_MAX = 5
"""How often one push looks for what the Hub refuses."""

_REFUSALS = (Denied, OverQuota, InvalidArgument, NameInvalid, NameTooLong, TooLarge)
"""What a Hub says of something in what is pushed: it says so again however often it is tried, and does not mean the rest."""


class _Abandoned(Exception):
    """Most of what a push had to carry was removed while it ran."""


async def _unknown() -> str:
    return ""


@dataclass(slots=True)
class Pushed:
    """What a push did."""

    root: Cid
    sent: Sent
    conflicts: list[str] = field(default_factory=list)


class Pusher:
    """Pushes of one volume. One at a time: the caller is a single task, which also follows the Hub by ``rebaser``."""

    def __init__(
        self,
        volume: Volume,
        remote: Remote,
        cache: KeepingSource,
        notify: Callable[[Invalidation], None],
        *,
        attributes: bool = True,
        me: Callable[[], Awaitable[str]] = _unknown,
        limits: BatchLimits | None = None,
    ) -> None:
        """``me`` tells the public key that the Hub knows this user by, or an empty text. ``limits`` is how much one root brings."""
        self.checkpoints = Checkpoints(volume)
        self.rebaser = Rebaser(volume, cache, self.checkpoints, notify, attributes=attributes)
        self.withheld = Withheld(volume.key)
        self.now = Sent()
        """What the push that runs has carried, or the last one."""
        self.total = Sent()
        """What all pushes have carried, those that failed too."""
        self._volume = volume
        self._remote = remote
        self._cache = cache
        self._notify = notify
        self._attributes = attributes
        self._me = me
        self._batches = Batches(volume, limits or BatchLimits())
        self._repair = RollbackRepair(volume, remote, cache)
        self._upload = UploadId(secrets.token_bytes(16))

    async def push(self) -> Pushed | None:
        """Push everything that is dirty now but what the Hub refuses; None when that is nothing. Raises what stands in the way,
        with all still dirty."""
        done: list[Pushed] = []
        await self.rebaser.catch_up()
        self._batches = self._batches.anew()
        searches = 0
        while searches < SEARCHES_MAX:
            try:
                await self._push(None, done)
                while self._batches.more:
                    await self._push(None, done)
            except SwapRefused as refused:
                self._batches.forget()
                if isinstance(refused.error, OverQuota):
                    # Each time fewer files are left.
                    self._withhold_largest(refused.error)
                else:
                    searches += 1
                    await self.apply_permissions(await self._remote.look())
                    await RefusalSearch(self._volume, self.withheld, lambda paths: self._push(paths, done)).run(
                        refused.error
                    )
            else:
                if not done:
                    return None
                sent = Sent()
                for one in done:
                    sent.add(one.sent)
                return Pushed(done[-1].root, sent, [path for one in done for path in one.conflicts])
        raise Denied("the Hub refuses changes and does not say which", hint="it is tried again")

    async def _push(self, only: Collection[UnitPath] | None, done: list[Pushed]) -> None:
        """Push the next batch of what is dirty, or ``only`` some of it; what was done is added to ``done``."""
        conflicts: list[str] = []
        # A push that lost the swap to another one is quicker the next time: what did not change meanwhile is at the Hub already.
        known: dict[FileVersion, Link] = {}
        abandoned = 0
        for _ in range(MOVES_MAX):
            snapshot = await self._snapshot(only)
            if snapshot is None:
                self.withheld.clear()
                return
            if only is None and self.withheld.fit(snapshot, self._volume.push.free_bytes):
                self._put_back(snapshot)
                continue
            grown_bytes = self._volume.push.grown_bytes
            self.now = Sent()
            load = PushLoad(snapshot, may_drop=abandoned < ABANDONED_MAX)
            try:
                with self.checkpoints.during(load):
                    part = await self.withheld.cut(snapshot, only)
                    links: Mapping[Node, Link] = {}
                    moved = None
                    if part.snapshot is not None:
                        links, moved = await self._carry(part.snapshot, load, known)
            except _Abandoned:
                abandoned += 1
                self._put_back(snapshot)
                continue
            except FilesDamaged as error:
                self._put_back(snapshot)
                self.withheld.damage(error)
                continue
            except BaseException:
                snapshot.release()
                raise
            finally:
                self.total.add(self.now)
            if moved is None:
                part_pushed(snapshot, part, links, partly=only is not None)
                if part.snapshot is not None:
                    self._volume.base_moved(snapshot.base)
                    # The Hub releases the blocks of an upload with its swap. Until then all tries share one, so that what
                    # they sent stays there.
                    self._upload = UploadId(secrets.token_bytes(16))
                    done.append(Pushed(self._volume.base, self.now, conflicts))
                    self.withheld.took()
                    # What is left out has not grown at the Hub.
                    await self._let_go(snapshot, grown_bytes - snapshot.grown_bytes + part.snapshot.grown_bytes)
                return
            self._put_back(snapshot)
            if await self.repaired(await self._remote.look()):
                continue
            built = built_of(part.snapshot, links) if part.snapshot is not None and links else {}
            if not snapshot.whole or self.withheld.files_count:
                built = without_folders(built) | await self.rebaser.candidates(moved)
            conflicts += await self.rebaser.rebase(moved, built)
        raise RootMoved("the bucket's root keeps moving", hint="it is tried again")

    def _put_back(self, snapshot: Snapshot) -> None:
        """Nothing of ``snapshot`` is at the Hub; the next batch is another one."""
        snapshot.release()
        self._batches.forget()

    async def _carry(
        self, snapshot: Snapshot, load: PushLoad, known: dict[FileVersion, Link]
    ) -> tuple[Mapping[Node, Link], Cid | None]:
        """Build and send a snapshot, and swap the root: the links of its nodes, and the Hub's root when it was another one. The
        links are none when another root turned up before everything could be built."""
        try:
            with load.scope:
                links = await self._send(snapshot, known)
            if load.scope.cancelled_caught:
                raise _Abandoned
        except FilesDamaged:
            raise
        except _REFUSALS as error:
            raise SwapRefused(error) from error
        except Corrupt as error:
            theirs = await self._remote.root()
            if theirs != snapshot.base:
                # The Hub may have collected what another client replaced. It need not be built on any more, either.
                return {}, theirs
            # Part of a file that was written in part is damaged at the Hub: that file waits, not the others.
            raise SwapRefused(error) from error
        known.update(built_files(snapshot, links))
        return links, await self._swap(snapshot.base, links[self._volume.root].cid)

    async def _snapshot(self, only: Collection[UnitPath] | None) -> Snapshot | None:
        """The next batch; all there is while anything is withheld, for what may wait is found in the whole only."""
        volume = self._volume
        if only is not None or self.withheld:
            return freeze(volume)
        try:
            return await volume.load(lambda: freeze(volume, self._batches.next()))
        except Corrupt:
            # A folder of the base cannot be read. In the whole it is found which changes need it.
            return freeze(volume)

    async def _let_go(self, snapshot: Snapshot, grown_bytes: int) -> None:
        """A push is at the Hub: let go of what it carried.

        Between batches the journal may stay as it is. It still makes what is here, from the base before the batches, and what is
        recorded meanwhile adds to that; the roots of the batches stand in it as proposed from here. It is written anew each time
        half of the backlog is gone: after every batch that would cost in all the square of the backlog.
        """
        volume = self._volume
        if not snapshot.whole:
            grown_bytes = snapshot.grown_bytes if volume.root.dirty else volume.push.grown_bytes
        volume.push.stored(grown_bytes)
        if self._batches.more:
            volume.push.wait_since(snapshot.since_ns)
            if not self._batches.halved():
                volume.pending.leave_garbage(0, snapshot.drafts_count)
                volume.arrive(volume.base)
                return
        volume.agree()
        await self.checkpoints.write()

    async def _send(self, snapshot: Snapshot, known: Mapping[FileVersion, Link]) -> Mapping[Node, Link]:
        async def make(emit: Emit) -> dict[Node, Link]:
            async def both(blocks: Sequence[Block]) -> None:
                # What was built is what will be read next: names at once, bytes as far as the cache has room.
                self._cache.put_many(blocks)
                await emit(blocks)

            return await build(snapshot, both, attributes=self._attributes, known=known)

        return await send_all(self._remote, self._upload, make, self.now)

    async def _swap(self, expected: Cid, root: Cid) -> Cid | None:
        """Swap the root; the Hub's root when it was another one than expected, else None."""
        if root == expected:
            theirs = await self._remote.root()
            return None if theirs == expected else theirs
        # Before the Hub hears of it: should a kill or a broken connection take the answer, the root is known as ours.
        self._volume.propose(root)
        for _ in range(SUPPLIES_MAX):
            try:
                await self._remote.swap(expected, root, self._upload)
            except _REFUSALS as error:
                raise SwapRefused(error) from error
            except RootMoved:
                theirs = await self._remote.root()
                # Our own swap may have come through before a connection broke.
                return None if theirs == root else theirs
            except BlocksMissing as error:
                try:
                    await supply(self._remote, self._cache, error, self._upload, self.now)
                except Corrupt as cause:
                    # What was moved or written in part needs blocks that the Hub has lost and that are not here either.
                    raise SwapRefused(cause) from error
            else:
                return None
        raise Unavailable("the Hub goes on missing blocks that were sent", hint="it is tried again")

    async def repaired(self, seen: Look) -> bool:
        """Whether the Hub forgot our base and was given it again. See `RollbackRepair.repaired`."""
        return await self._repair.repaired(seen, self._upload, self.now)

    # What the Hub refuses

    @property
    def permissions(self) -> Permissions | None:
        """What this user may do in the bucket; None when that is everything, or unknown."""
        return self._volume.tree.permissions

    def retry_withheld(self) -> None:
        """Roles or keys are others than before, or the user asks: what is withheld is tried again."""
        if self.withheld:
            self.withheld.retry()
            self._volume.push.changed(self._volume.now_ns())

    async def apply_permissions(self, seen: Look) -> None:
        """Let the roles that the Hub tells hold here. Raises what fetching needs."""
        if not seen.owner and self._volume.tree.permissions is None:
            return  # a bucket without an owner refuses nothing
        permissions = permissions_of(await self._me(), seen.owner, seen.roles)
        if permissions == self._volume.tree.permissions:
            return
        for invalidation in await apply_permissions(self._volume, permissions):
            self._notify(invalidation)
        self.retry_withheld()

    def _withhold_largest(self, error: BucketfsError) -> None:
        """What was pushed passes a limit of the Hub. Raises ``error`` when no file is to blame."""
        snapshot = freeze(self._volume)
        if snapshot is None:
            return
        # It is only looked at: the lengths and versions of its files stay in it.
        snapshot.release()
        if not self.withheld.leave_out_largest(snapshot, error):
            raise error
