"""A folder without a mount, kept the same as a bucket: one round at a time.

A round looks at the Hub's root, scans the folder into a tree (*ours*), sends what of it the Hub lacks, merges base, ours and theirs
(`bucketfs.dag.merge`), swaps the root to the merged tree if it is another, and brings the folder to it.

Its state is told by three trees (`Position`):

* *base* is always a tree that this folder had and that the Hub's root took in, so merging against it takes no change for a removal,
on neither side. It becomes ours at the moment the Hub has ours, not earlier. * *applying* is the tree the folder is on the way
to. A round that finds it there was left in the middle. What was begun at single paths is finished before the scan
(`unfinished`); how far the round came is seen by that: where the folder shows what applying has, that is agreed (`_agreed`),
and so is what was removed on the way to it. * *attempt* is a swap whose reply did not arrive. The next look at the root tells
whether it was done, or the conflict copies in it do.

So a kill at any instant costs the work since, and nothing else. A changed file that is replaced or removed is held by `Applier`'s
rule; what the scan cannot see is held by `Scanner`'s; a folder that is not the one it was is not touched, and nor is the bucket.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from bucketfs.cache import run_steps
from bucketfs.dag import Change, Merge, diff, edit_tree, list_directory, merge_trees, resolve, same_node
from bucketfs.errors import BlocksMissing, BucketfsError, OverQuota, RootMoved
from bucketfs.mirror.apply import Applier
from bucketfs.mirror.block_source import MirrorSource
from bucketfs.mirror.file_writer import Applied
from bucketfs.mirror.large_files import LargeFiles
from bucketfs.mirror.refusals import OverLimit, Refusals
from bucketfs.mirror.rollback_check import decode_agreed
from bucketfs.mirror.scan import FolderScan, Scanner
from bucketfs.mirror.state import Attempt, Position
from bucketfs.mirror.unfinished import finish_all
from bucketfs.mirror.watched_folder import WatchedFolder
from bucketfs.remote import Look, Remote, kinds_of, send_all
from bucketfs.transfer import (
    Figures,
    Names,
    Progress,
    Skipped,
    path_text,
    unwatched,
)
from bucketfs.types import Cid, Kind, Link, NodeAttributes, UploadId

ATTEMPTS_MAX = 6

ConflictName = Callable[[bytes, Callable[[bytes], bool]], bytes]


@dataclass(slots=True)
class Round:
    """What a round did. ``pushed`` counts the names that changed at the Hub, with all below each as one. ``soon``: something was
    changing meanwhile, another round is due."""

    figures: Figures = field(default_factory=Figures)
    pushed: int = 0
    applied: Applied = field(default_factory=Applied)
    conflicts: list[str] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    root: Cid | None = None
    soon: bool = False
    sending: int = 0
    """How many large files are sent beside the rounds; ``applied`` says how many are fetched."""
    went_back: bool = False
    """The Hub showed an older state, and what it lost was given to it again."""

    @property
    def did_something(self) -> bool:
        """Whether the Hub or the folder is not as before."""
        return bool(self.pushed or self.applied.written or self.applied.removed)


@dataclass(eq=False)
class Mirror:
    """The mirror of a folder, whose state is this task's alone. ``hub_ahead_ns``: by how much the Hub's clock is ahead of ours,
    as far as that is known."""

    remote: Remote
    folder: WatchedFolder
    conflict_name: ConflictName
    progress: Progress = unwatched
    hub_ahead_ns: Callable[[], int] = lambda: 0

    def __post_init__(self) -> None:
        self._state = self.folder.state
        self._source = MirrorSource(self.remote, self._state)
        self._reread = False
        self._refusals = Refusals()
        self._unsent = Refusals()
        self._over = OverLimit()
        self._large = LargeFiles(self.remote, self.folder, self.progress)
        # The same for all rounds until one succeeds: what one has sent, the Hub keeps for the next.
        self._upload = UploadId(secrets.token_bytes(16))

    async def round(self) -> Round:
        """One round, begun again while the root moves, and without the largest files while it would pass a limit of the Hub. Raises
        what the Remote raises (the next round goes on from there), Refused and NotFound when the folder is not the one that was
        mirrored, NoSpace, DiskFailed."""
        attempt = 0
        self._over.begin()
        while True:
            try:
                done = await self._once()
            except (RootMoved, BlocksMissing) as error:
                # Of what we took for sent, the Hub may have lost something: all of it is offered now.
                self._reread |= isinstance(error, BlocksMissing)
                attempt += 1
                if attempt == ATTEMPTS_MAX:
                    raise
            except OverQuota as error:
                # Each time fewer files are left.
                if not self._over.leave_out_largest(str(error), self.folder.now_ns()):
                    raise
            else:
                self._reread = False
                self._upload = UploadId(secrets.token_bytes(16))
                return done

    async def carry(self, finished: Callable[[], None] = lambda: None) -> None:
        """Carries large files beside the rounds, until cancelled; without it the rounds do. ``finished`` is told when another round
        is due. Each begins where the last round left it, and ends when its file is gone, or another, on the side it comes from."""
        await self._large.run(finished)

    @property
    def carrying(self) -> bool:
        """Whether a large file is on its way."""
        return self._large.busy

    async def gather(self) -> None:
        """Returns when a round can take what was carried."""
        await self._large.gather()

    async def _once(self) -> Round:
        done = Round(Figures(progress=self.progress))
        await trio.to_thread.run_sync(self.folder.check)
        await trio.to_thread.run_sync(self.folder.temporaries.clear_dead, self.folder.top)
        await trio.to_thread.run_sync(finish_all, self.folder)
        seen = await self.remote.look()
        theirs = seen.root
        await self._settle(theirs)
        done.went_back = await self._went_back(seen)
        self._large.begin_round()
        scanned = await self._scan(theirs, done)
        done.sending = self._large.departing.end_round()
        await trio.to_thread.run_sync(self.folder.check)
        base = await self._agreed(scanned.root)
        merged = await run_steps(merge_trees(base, scanned.root, theirs, self.conflict_name), self._source)
        await self._push(base, scanned.root, theirs, merged, done, self._large.upload or self._upload)
        await self._apply(scanned, merged.link.cid, done)
        self._agree(seen, merged.link.cid)
        done.root = merged.link.cid
        done.conflicts = [path_text(conflict.copy) for conflict in merged.conflicts]
        done.skipped = [*scanned.skipped, *done.applied.impossible]
        done.soon = bool(scanned.unsettled) or done.applied.changing
        await trio.to_thread.run_sync(self._state.sweep)
        return done

    async def _settle(self, theirs: Cid) -> None:
        """Finds out what became of a swap whose reply did not arrive."""
        position = self._state.position
        attempt = position.attempt
        if attempt is None:
            return
        if same_node(theirs, attempt.merged):
            self._record(Position(attempt.ours, attempt.merged))
            return
        # Another client may have changed the tree on after the swap. That it was done is seen by our conflict copies, whose names
        # no other machine makes; what they are copies of is safe there then, and must not become a conflict again.
        edits: dict[Names, Link | None] = {}
        for path, copy in attempt.conflicts:
            there = await run_steps(resolve(theirs, copy), self._source)
            made = await run_steps(resolve(attempt.merged, copy), self._source)
            if there is not None and made is not None and there.cid == made.cid:
                edits[path] = await run_steps(resolve(attempt.ours, path), self._source)
        base = await self._edited(position.base, edits) if edits else position.base
        self._record(Position(base, position.applying))

    async def _went_back(self, seen: Look) -> bool:
        """Whether the Hub shows an older state than the one agreed on; the base is such then that nothing newer is lost."""
        agreed = decode_agreed(self._state.fact("agreed"))
        now_ns = self.folder.now_ns()
        if not agreed.is_older(seen) and not (
            agreed.root is not None
            and agreed.may_ask(seen, now_ns, now_ns + self.hub_ahead_ns())
            and await self.remote.missing([agreed.root], self._upload)
        ):
            return False
        position = self._state.position
        # A folder that is on the way to a tree does not have all of the roots before it.
        base = seen.root if seen.root in agreed.history.left and position.applying is None else None
        self._record(Position(base))
        self._reread = True
        return True

    def _agree(self, seen: Look, new: Cid) -> None:
        agreed = decode_agreed(self._state.fact("agreed"))
        before = agreed.encode()
        if agreed.root != new or not agreed.history.time_ns:
            agreed.agree(seen, new, self.folder.now_ns())
        if agreed.encode() != before:
            self._state.note_fact("agreed", agreed.encode())

    async def _scan(self, theirs: Cid, done: Round) -> FolderScan:
        """The folder's tree; all of it is at the Hub then."""
        self._over.scan()
        base = self._state.position.base
        scanner = Scanner(
            self.folder,
            self._source,
            done.figures,
            large=self._large,
            refusals=self._unsent,
            over=self._over,
            reread=self._reread,
        )
        above = (await run_steps(list_directory(base or theirs), self._source)).attributes
        self._state.begin()
        try:
            scanned = await send_all(
                self.remote, self._upload, lambda emit: scanner.run(base, above, emit), done.figures.sent
            )
            self._source.flush()
            # Only now, when all has arrived: what is noted as seen counts as sent from here on.
            self._state.commit()
        finally:
            self._state.rollback()
        return scanned

    async def _agreed(self, ours: Cid) -> Cid | None:
        """The base, with what an earlier round has already brought into the folder."""
        position = self._state.position
        if position.applying is None:
            return position.base
        edits: dict[Names, Link | None] = {}
        attributes: dict[Names, NodeAttributes] = {}
        for change in await run_steps(diff(ours, position.applying), self._source):
            before = None if position.base is None else await run_steps(resolve(position.base, change.path), self._source)
            if not change.attributes_only:
                edits |= await self._on_the_way(change, before)
            elif before is not None:
                try:
                    attributes[change.path] = (await run_steps(list_directory(before.cid), self._source)).attributes
                except BucketfsError:
                    # A file stood there: then the folder itself is new on both sides.
                    continue
        base = await self._edited(position.applying, edits, attributes)
        self._record(Position(base))
        return base

    async def _on_the_way(self, change: Change, before: Link | None) -> dict[Names, Link | None]:
        """What counts as agreed at a path where the folder (the change's old side) does not show what applying has: what was
        there before, without what we removed of it. Were that taken for a removal of the user's, it would be sent to all others
        if the Hub's tree has it again by now."""
        path, kind_wanted = change.path, await self._kind(change.new)
        if before is None or await self._kind(before) is kind_wanted:
            return {path: before}
        if change.old is None:
            # Of another kind: the old one is removed before the new one is made.
            return {path: None}
        if {await self._kind(change.old), await self._kind(before)} != {Kind.DIRECTORY}:
            return {path: before}
        inside = await run_steps(diff(before.cid, change.old.cid), self._source)
        return {path: before} | {(*path, *each.path): None for each in inside if each.new is None}

    async def _kind(self, link: Link | None) -> Kind | None:
        return None if link is None else (await kinds_of(self._source, {link: link}))[link]

    async def _edited(
        self, root: Cid | None, edits: dict[Names, Link | None], attributes: dict[Names, NodeAttributes] | None = None
    ) -> Cid:
        built = await run_steps(edit_tree(root, edits, attributes), self._source)
        self._source.keep(built.blocks.items())
        return built.link.cid

    async def _push(self, base: Cid | None, ours: Cid, theirs: Cid, merged: Merge, done: Round, upload: UploadId) -> None:
        """Makes the merged tree the root, if it is not; from then on base is ours."""
        new = merged.link.cid
        self._source.keep(merged.blocks.items())
        if not same_node(new, theirs):
            # That the top folder's time moved is no news.
            done.pushed = sum(bool(change.path) for change in await run_steps(diff(theirs, new), self._source))
            blocks = list(merged.blocks.items())
            await send_all(self.remote, self._upload, lambda emit: emit(blocks), done.figures.sent)
            conflicts = tuple(
                (conflict.path, conflict.copy) for conflict in merged.conflicts if conflict.side.name == "OURS"
            )
            # Before the swap, whose reply may be lost.
            self._record(Position(base, None, Attempt(ours, new, conflicts)))
            await self.remote.swap(theirs, new, upload)
        # Before the first file is written: a round that finds the folder half-way must not take that for the user's doing.
        self._record(Position(ours, None if same_node(ours, new) else new))

    async def _apply(self, scanned: FolderScan, new: Cid, done: Round) -> None:
        if same_node(scanned.root, new):
            self._large.arriving.end_round()
            return
        applier = Applier(self.folder, self._source, scanned.held, done.figures, large=self._large, refusals=self._refusals)
        done.applied = applier.applied
        await applier.run(scanned.root, new)
        # What was written where our folder is no longer (its disk is gone) must not count as being in it.
        await trio.to_thread.run_sync(self.folder.check)
        if not done.applied.left and not done.applied.arriving:
            self._record(Position(new))

    def _record(self, position: Position) -> None:
        """Notes where we are, with the blocks that this needs. On the disk when it returns."""
        if position != self._state.position:
            with self._state.together():
                self._source.flush()
                self._state.position = position
