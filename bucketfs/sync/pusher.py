"""One push: picture → blocks → root swap → the overlay rests on the new root. A large backlog goes in slices.

If another root turned up at the Hub, the overlay is rebased onto it first and the push tried again; what was built tells the
rebase which changes are equal on both sides.

If the Hub refuses a push for want of rights, the roles say which paths are to blame, and where they do not, halves of it are tried
until it is known. What is to blame stays here, dirty and in the journal, and is tried again when roles or keys change; the rest
goes out. So it is with a file that the disk here has damaged: it waits until it is written anew, and the Hub keeps what it has.
Files that pass a limit of the Hub wait, too, the largest first.
"""

from __future__ import annotations

import logging
import secrets
import socket
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import trio

from bucketfs.cache import BlockCache
from bucketfs.dag import cid_text
from bucketfs.errors import (
    BlocksMissing,
    BucketfsError,
    Corrupt,
    Denied,
    InvalidArgument,
    NameInvalid,
    NameTooLong,
    NotFound,
    OverQuota,
    RootMoved,
    TooLarge,
    Unavailable,
)
from bucketfs.ops import Op
from bucketfs.remote import Block, Emit, Look, Remote, Sent, send_all
from bucketfs.sync.elsewhere import built_elsewhere
from bucketfs.sync.partial_push import Place, part_pushed, parts_of, why_not
from bucketfs.sync.push_size import Load
from bucketfs.sync.rollback import Restorer, supply
from bucketfs.sync.set_aside import Aside
from bucketfs.sync.tree_builder import BuiltFile, FilesDamaged, build, built_files
from bucketfs.types import Cid, DraftId, Link, UploadId
from bucketfs.vfs import (
    BuiltNode,
    FileNode,
    Invalidation,
    Limits,
    Node,
    Permissions,
    Picture,
    Slices,
    Volume,
    apply_permissions,
    built_of,
    draft_ids,
    freeze,
    overlay_ops,
    permissions_of,
    rebase_onto,
    thaw,
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

REFUSALS_MAX = 5
ATTEMPTS_MAX = 200
"""How many pushes may be spent to find out which of many changes are refused."""


_REFUSALS = (Denied, OverQuota, InvalidArgument, NameInvalid, NameTooLong, TooLarge)
"""What a Hub says of something in what is pushed: it says so again however often it is tried, and does not mean the rest."""


class _Abandoned(Exception):
    """Most of what a push had to carry was removed while it ran."""


class _SwapRefused(Exception):
    """Some path of what was to be pushed cannot go: the Hub refuses it, or blocks that it stands on are lost."""

    def __init__(self, error: BucketfsError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True, slots=True)
class _Head:
    """What a journal has to say of a volume: made as it is asked for, since a large backlog would be a large list."""

    volume: Volume

    def __iter__(self) -> Iterator[Op]:
        yield from overlay_ops(self.volume)
        yield from self.volume.push.records(self.volume.now_ns())


async def _unknown() -> str:
    return ""


@dataclass(slots=True)
class Pushed:
    """What a push did."""

    root: Cid
    sent: Sent
    conflicts: list[str] = field(default_factory=list)


class Pusher:
    """Pushes and rebases of one volume. One at a time: the caller is a single task."""

    def __init__(
        self,
        volume: Volume,
        remote: Remote,
        cache: BlockCache,
        notify: Callable[[Invalidation], None],
        *,
        attributes: bool = True,
        me: Callable[[], Awaitable[str]] = _unknown,
        limits: Limits | None = None,
    ) -> None:
        """``me`` tells the public key that the Hub knows this user by, or an empty text. ``limits`` is how much one root brings."""
        self._volume = volume
        self._remote = remote
        self._cache = cache
        self._notify = notify
        self._attributes = attributes
        self._me = me
        self._slices = Slices(volume, limits or Limits())
        self._restorer = Restorer(volume, remote, cache)
        self.aside = Aside(volume.key)
        self._attempts_left = 0
        self._upload = UploadId(secrets.token_bytes(16))
        self._load: Load | None = None
        self._moving = trio.Lock()
        self.now = Sent()
        self.total = Sent()
        volume.listen(file_gone=self._gone)

    async def push(self) -> Pushed | None:
        """Push everything that is dirty now but what the Hub refuses; None when that is nothing. Raises what stands in the way,
        with all still dirty."""
        done: list[Pushed] = []
        await self._catch_up()
        self._slices = self._slices.anew()
        refusals = 0
        while refusals < REFUSALS_MAX:
            try:
                await self._push(None, done)
                while self._slices.more:
                    await self._push(None, done)
            except _SwapRefused as refused:
                self._slices.forget()
                if isinstance(refused.error, OverQuota):
                    # Each time fewer files are left.
                    self._make_room(refused.error)
                else:
                    refusals += 1
                    await self._set_aside(refused.error, done)
            else:
                if not done:
                    return None
                sent = Sent()
                for one in done:
                    sent.add(one.sent)
                return Pushed(done[-1].root, sent, [path for one in done for path in one.conflicts])
        raise Denied("the Hub refuses changes and does not say which", hint="it is tried again")

    async def _push(self, only: Collection[Place] | None, done: list[Pushed]) -> None:
        """Push the next slice of what is dirty, or ``only`` some of it; what was done is added to ``done``."""
        conflicts: list[str] = []
        # Whoever lost the swap to another push is quicker the next time: what did not change meanwhile is at the Hub already.
        known: dict[Node, BuiltFile] = {}
        abandoned = 0
        for _ in range(MOVES_MAX):
            picture = await self._picture(only)
            if picture is None:
                self.aside.clear()
                return
            if only is None and self.aside.fit(picture, self._volume.push.free_bytes):
                thaw(picture)
                self._slices.forget()
                continue
            grown_bytes = self._volume.push.grown_bytes
            self.now = Sent()
            load = self._load = Load(picture, may_drop=abandoned < ABANDONED_MAX)
            try:
                part = await self.aside.cut(picture, only)
                links: Mapping[Node, Link] = {}
                moved = None
                if part.picture is not None:
                    links, moved = await self._carry(part.picture, known)
            except _Abandoned:
                abandoned += 1
                thaw(picture)
                self._slices.forget()
                continue
            except FilesDamaged as error:
                thaw(picture)
                self._slices.forget()
                self.aside.damage(error)
                continue
            except BaseException:
                thaw(picture)
                raise
            finally:
                self._load = None
                load.over.set()
                if load.garbage_bytes:
                    self._volume.pending.leave_garbage(load.garbage_bytes)
                self.total.add(self.now)
            if moved is None:
                part_pushed(picture, part, links, partly=only is not None)
                if part.picture is not None:
                    self._volume.base_moved(picture.base)
                    self._upload = UploadId(secrets.token_bytes(16))
                    done.append(Pushed(self._volume.base, self.now, conflicts))
                    self.aside.took()
                    # What is left out has not grown at the Hub.
                    await self._settle(picture, grown_bytes - picture.grown_bytes + part.picture.grown_bytes)
                return
            thaw(picture)
            self._slices.forget()
            if await self.restored(await self._remote.look()):
                continue
            built = built_of(part.picture, links) if part.picture is not None and links else {}
            if not picture.whole or self.aside.files_count:
                built = without_folders(built) | await built_elsewhere(self._volume, moved, self._cache, self._attributes)
            conflicts += await self._rebase(moved, built)
        raise RootMoved("the bucket's root keeps moving", hint="it is tried again")

    async def _carry(self, picture: Picture, known: dict[Node, BuiltFile]) -> tuple[Mapping[Node, Link], Cid | None]:
        """Build and send a picture, and swap the root: the links of its nodes, and the Hub's root when it was another one. The
        links are none when another root turned up before everything could be built."""
        try:
            assert self._load is not None, "a picture that is pushed is loaded"
            with self._load.scope:
                links = await self._send(picture, known)
            if self._load.scope.cancelled_caught:
                raise _Abandoned
        except FilesDamaged:
            raise
        except _REFUSALS as error:
            raise _SwapRefused(error) from error
        except Corrupt as error:
            theirs = await self._remote.root()
            if theirs != picture.base:
                # What somebody has replaced the Hub may have collected. It need not be built on any more, either.
                return {}, theirs
            # Part of a file that was written in part is damaged at the Hub: that file waits, not the others.
            raise _SwapRefused(error) from error
        known.update(built_files(picture, links))
        return links, await self._swap(picture.base, links[self._volume.root].cid)

    async def _picture(self, only: Collection[Place] | None) -> Picture | None:
        """The next slice; all there is while anything is refused, for what may wait is found in the whole only."""
        volume = self._volume
        if only is not None or self.aside:
            return freeze(volume)
        try:
            return await volume.load(lambda: freeze(volume, self._slices.next()))
        except Corrupt:
            # A folder of the base cannot be read. The whole finds out who waits for that.
            return freeze(volume)

    async def _settle(self, picture: Picture, grown_bytes: int) -> None:
        """A push is at the Hub: let go of what it carried.

        Between slices the journal may stay as it is. It still makes what is here, from the base before the slices, and what is
        recorded meanwhile adds to that; the roots of the slices stand in it as proposed from here. It is written anew each time
        half of the backlog is gone: after every slice that would cost in all the square of the backlog.
        """
        volume = self._volume
        if not picture.whole:
            grown_bytes = picture.grown_bytes if volume.root.dirty else volume.push.grown_bytes
        volume.push.stored(grown_bytes)
        if self._slices.more:
            volume.push.wait_since(picture.since_ns)
            if not self._slices.halved():
                volume.pending.leave_garbage(0, picture.drafts_count)
                volume.arrive(volume.base)
                return
        volume.agree()
        await self.checkpoint()

    # What the Hub refuses

    @property
    def rights(self) -> Permissions | None:
        """What this user may do in the bucket; None when that is everything, or unknown."""
        return self._volume.tree.permissions

    def forgive(self) -> None:
        """Roles or keys are others than before, or somebody asks: what waits by itself is tried again."""
        if self.aside:
            self.aside.forgive()
            self._volume.push.changed(self._volume.now_ns())

    async def learn(self, seen: Look) -> None:
        """Let the roles that the Hub tells hold here. Raises what fetching needs."""
        rights = permissions_of(await self._me(), seen.owner, seen.roles)
        if rights == self._volume.tree.permissions:
            return
        for invalidation in await apply_permissions(self._volume, rights):
            self._notify(invalidation)
        self.forgive()

    def _make_room(self, error: BucketfsError) -> None:
        """What was pushed passes a limit of the Hub. Raises ``error`` when no file is to blame."""
        picture = freeze(self._volume)
        if picture is None:
            return
        thaw(picture)
        if not self.aside.leave_out_largest(picture, error):
            raise error

    async def _set_aside(self, error: BucketfsError, done: list[Pushed]) -> None:
        """Find what the Hub refuses of all that is dirty now, and keep it out of the next pushes."""
        await self.learn(await self._remote.look())
        picture = freeze(self._volume)
        if picture is None:
            return
        try:
            parts = await parts_of(picture)
        finally:
            thaw(picture)
        blamed = {place: why_not(self._volume.tree.permissions, place, unit) for place, unit in parts.units.items()}
        blamed = {place: reason for place, reason in blamed.items() if reason and place not in self.aside}
        if blamed:
            for place, reason in blamed.items():
                self.aside.refuse(place, reason, minor=parts.units[place].minor)
            return
        self._attempts_left = ATTEMPTS_MAX
        await self._sift([place for place in parts.units if place not in self.aside], error, done)

    async def _sift(self, places: Sequence[Place], error: BucketfsError, done: list[Pushed]) -> None:
        """One or more of ``places`` are refused: push them by halves, to find which. Past a number of attempts all that is
        still in doubt is taken for refused."""
        if len(places) == 1 or self._attempts_left <= 0:
            self.aside.refuse_all(places, error)
            return
        middle = len(places) // 2
        for half in (places[:middle], places[middle:]):
            self._attempts_left -= 1
            try:
                await self._push(set(half), done)
            except _SwapRefused as refused:
                await self._sift(half, refused.error, done)

    async def restored(self, seen: Look) -> bool:
        """Whether the Hub forgot our base and was given it again. See `Restorer.restored`."""
        return await self._restorer.restored(seen, self._upload, self.now)

    async def _catch_up(self) -> None:
        """A push in slices was killed: rest on the newest root of it that the Hub took, so that what was done here after that slice
        and what another client did meet at the right base. Raises Unavailable, TimedOut."""
        volume = self._volume
        still, root = volume.push.proposed, volume.push.take_arrived()
        if root is None or root == volume.base:
            return
        volume.push.propose(root)
        try:
            await self._rebase(root, {}, still=still)
        except (Corrupt, NotFound) as error:
            log.info("%s: the last push is compared from its beginning: %s", volume.key, error)
        except BaseException:
            volume.push.put_back_arrived(root)
            raise

    async def follow(self, root: Cid) -> None:
        """The Hub's root is ``root``: show it, under what is dirty here."""
        await self._catch_up()
        volume = self._volume
        if root == volume.base:
            return
        if volume.push.since_ns is not None:
            await self._rebase(root, await built_elsewhere(self._volume, root, self._cache, self._attributes))
            return
        # What the Hub refuses stays dirty and does not ask for a push.
        await self._rebase(root, {})
        if volume.root.dirty:
            # It may stand elsewhere now, beside what came.
            volume.push.changed(volume.now_ns())

    async def _send(self, picture: Picture, known: Mapping[Node, BuiltFile]) -> Mapping[Node, Link]:
        async def make(emit: Emit) -> dict[Node, Link]:
            async def both(blocks: Sequence[Block]) -> None:
                # What was built is what will be read next: names at once, bytes as far as the cache has room.
                self._cache.put_many(blocks)
                await emit(blocks)

            return await build(picture, both, attributes=self._attributes, known=known)

        return await send_all(self._remote, self._upload, make, self.now)

    async def _swap(self, expected: Cid, root: Cid) -> Cid | None:
        """Swap the root; the Hub's root when it was another one than expected, else None."""
        if root == expected:
            theirs = await self._remote.root()
            return None if theirs == expected else theirs
        self._volume.propose(root)
        for _ in range(SUPPLIES_MAX):
            try:
                await self._remote.swap(expected, root, self._upload)
            except _REFUSALS as error:
                raise _SwapRefused(error) from error
            except RootMoved:
                theirs = await self._remote.root()
                # Our own swap may have come through before a connection broke.
                return None if theirs == root else theirs
            except BlocksMissing as error:
                try:
                    await supply(self._remote, self._cache, error, self._upload, self.now)
                except Corrupt as cause:
                    # What was moved or written in part stands on blocks that the Hub has lost and nobody here holds.
                    raise _SwapRefused(cause) from error
            else:
                return None
        raise Unavailable("the Hub goes on missing blocks that were sent", hint="it is tried again")

    async def _rebase(self, root: Cid, built: Mapping[Node, BuiltNode], *, still: frozenset[Cid] = frozenset()) -> list[str]:
        """``still`` are roots proposed from here that the Hub may turn out to have after ``root``."""
        async with self._moving:
            return await self._move(root, built, still)

    async def _move(self, root: Cid, built: Mapping[Node, BuiltNode], still: frozenset[Cid]) -> list[str]:
        volume = self._volume
        when = datetime.now().astimezone().strftime("%Y-%m-%d %H%M%S")
        host, mine, old = socket.gethostname(), root in volume.push.proposed, volume.base
        done = await rebase_onto(volume, root, built, host=host, when=when, mine=mine)
        for invalidation in done.invalidations:
            self._notify(invalidation)
        for conflict in done.conflicts:
            log.info(
                "both sides changed %r: %s is kept as %r",
                conflict.original,
                "ours" if conflict.ours else "the Hub's",
                conflict.copy,
            )
        if done.lost_count and volume.root.dirty:
            log.warning(
                "%s: nobody has %d of the folders any more that changes here were made on: what was made or written here stands, "
                "beside what others made of it; what was removed here may be back",
                volume.key,
                done.lost_count,
            )
        log.debug("rebased onto %s", cid_text(root))
        volume.base_moved(old)
        volume.agree(still)
        volume.owe_checkpoint()
        await self.checkpoint()
        return [conflict.copy for conflict in done.conflicts]

    async def checkpoint(self) -> None:
        """Begin a new journal segment with what is still dirty, and let go of what it replaces."""
        volume = self._volume
        # Of what was pushed the journal says nothing from here on.
        volume.tree.numbers.flush()
        garbage_bytes, needed = volume.pending.garbage_bytes, draft_ids(volume)
        kept = self._read_by_push() - needed
        volume.journal.checkpoint(volume.base, _Head(volume))
        volume.checkpointed()
        try:
            await volume.journal.settle(needed | kept)
        except BaseException:
            volume.pending.leave_garbage(garbage_bytes)
            raise
        if kept and self._load is not None:
            # The push reads some of it. It is counted again when that is over.
            self._load.garbage_bytes += garbage_bytes

    async def give_back(self) -> None:
        """A checkpoint for the room that it frees. Any task may call it, also during a push: that keeps the drafts that it has to
        read, or, where files among them were removed since, is given up and begun anew. Waits while the base moves. Raises NoSpace,
        DiskFailed."""
        load = self._load
        if load is not None and load.give_up():
            await load.over.wait()
        async with self._moving:
            await self.checkpoint()

    def _read_by_push(self) -> set[DraftId]:
        return set() if self._load is None else self._load.drafts()

    def _gone(self, node: FileNode) -> None:
        if self._load is not None:
            self._load.gone(node)
