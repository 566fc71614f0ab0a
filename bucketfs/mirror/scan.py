"""The watched folder as a tree of the bucket: what is unchanged since it was seen is neither read nor built again.

The walk goes depth first with a stack of its own, and memory is bounded by the largest folder. A folder is built as an edit of the
one in the base, so that what did not change keeps the form another client gave it, and what the local status has no word for
(owners, unknown fields) stays as it was.

What cannot be told is *held*: it stays in the tree as the base has it, and nothing is done to it here. So it is with what may
not be read, what is neither file, folder nor symlink, a file that changed while it was read, and a folder that was a mount
point and is none now: that something cannot be seen must never look as if it had been removed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import trio

from bucketfs.cache import run_steps
from bucketfs.dag import DAG_PB, Built, codec_of, edit_directory, list_directory, node_info
from bucketfs.errors import BucketfsError, InvalidArgument, NameInvalid, NameTooLong, NotFound
from bucketfs.mirror.block_source import MirrorSource, Recorded
from bucketfs.mirror.large_files import Outgoing
from bucketfs.mirror.refusals import Over, Refusals
from bucketfs.mirror.state import MirrorState, Seen
from bucketfs.names import SEED, check_name
from bucketfs.transfer import (
    SEED_IS_TAKEN,
    Asides,
    BuiltSmall,
    Emit,
    Figures,
    LocalEntry,
    Names,
    Plan,
    Progress,
    Rights,
    Skipped,
    build_batch,
    is_small,
    path_text,
    small_batches,
    stream_large,
)
from bucketfs.transfer import local_fs as folder
from bucketfs.types import NO_ATTRIBUTES, Cid, Kind, Link, NodeAttributes

FRESH_NS = 100_000_000
"""Clocks of file systems go in steps of up to some hundredths of a second: of a file that was written so shortly before it was
looked at, the next look does not believe that an unchanged status means unchanged bytes."""
FRESH_COARSE_NS = 2_100_000_000
"""The same where times are of whole seconds (FAT: of two)."""
NOT_CARRIED = "neither file, folder nor symlink"


@dataclass(slots=True)
class Scanned:
    """What a scan found: the tree, what is held, and how many files were changing while they were read."""

    root: Cid
    held: set[Names] = field(default_factory=set)
    unsettled: list[Names] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


@dataclass(eq=False, slots=True)
class _Folder:
    """A local folder on the stack of the walk, and the base's folder at its place."""

    entry: LocalEntry
    where: bytes
    path: Names
    base: Cid | None
    attributes: NodeAttributes = NO_ATTRIBUTES
    existing: Mapping[bytes, Link] = field(default_factory=dict)
    changes: dict[bytes, Link | None] = field(default_factory=dict)
    waiting: list[_Folder] = field(default_factory=list)


class Scanner:
    """One walk over the folder ``top``. What it sees goes into ``state``, whose transaction is the caller's: it must not be
    committed before all that was emitted has arrived. With ``reread`` every file is read and offered."""

    def __init__(
        self,
        top: bytes,
        state: MirrorState,
        source: MirrorSource,
        figures: Figures,
        progress: Progress,
        *,
        asides: Asides,
        rights: Rights,
        outgoing: Outgoing,
        refusals: Refusals,
        over: Over,
        reread: bool = False,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._asides = asides
        self._rights = rights
        self._outgoing = outgoing
        self._refusals = refusals
        self._over = over
        self._top = top
        self._state = state
        self._source = source
        self._figures = figures
        self._progress = progress
        self._reread = reread
        self._now_ns = now_ns
        self._scanned = Scanned(Cid(b""))
        self._gone: list[Names] = []
        self._device = 0

    async def run(self, base: Cid | None, above: NodeAttributes, emit: Emit) -> Scanned:
        """The tree, as an edit of ``base``; ``above`` is what the bucket's root itself carries. Raises NotFound or Denied when the
        folder itself cannot be read."""
        self._emit = emit
        entry = await trio.to_thread.run_sync(folder.look, self._top)
        if entry is None:
            raise NotFound(f"no such folder: {os.fsdecode(self._top)}")
        self._device = entry.device
        stack = [_Folder(entry, self._top, (), base, above)]
        await self._open(stack[0])
        while True:
            current = stack[-1]
            if current.waiting:
                child = current.waiting.pop()
                stack.append(child)
                try:
                    await self._open(child)
                except folder.ONE_PATH as error:
                    stack.pop()
                    self._hold(current, child.entry.name, str(error))
                continue
            link = await self._close(current)
            stack.pop()
            if not stack:
                for path in self._gone:
                    self._state.forget(path)
                self._scanned.root = link.cid
                return self._scanned
            self._set(stack[-1], current.entry.name, link)

    # Folders

    async def _open(self, at: _Folder) -> None:
        """Reads the folder and the base's, takes in the files, and notes the folders for later."""
        if at.base is not None:
            recorded = Recorded(self._source)
            directory = await run_steps(list_directory(at.base), recorded)
            at.existing, at.attributes = directory.entries, directory.attributes
            if self._reread:
                await self._emit(list(recorded.blocks.items()))
        entries, seen = await trio.to_thread.run_sync(self._look, at)
        await self._take_files(at, [entry for entry in entries if entry.kind is not Kind.DIRECTORY], seen)
        folders = [entry for entry in entries if entry.kind is Kind.DIRECTORY]
        bases = await self._folders_of(at, folders)
        for entry in reversed(folders):
            at.waiting.append(
                _Folder(entry, os.path.join(at.where, entry.name), (*at.path, entry.name), bases.get(entry.name))
            )

    def _look(self, at: _Folder) -> tuple[list[LocalEntry], dict[bytes, Seen]]:
        """In a thread: what is in the folder that a bucket can have, and what was seen there before. What is gone is noted."""
        entries = folder.scan(at.where)
        now = folder.look(at.where)
        if at.path and not (now is not None and _same_place(now, at.entry) and folder.is_below(self._top, at.path)):
            # A link in its place, say: what was found may be somebody else's, and what was not is not removed.
            raise NotFound("it was replaced while it was looked at")
        seen = self._state.seen(at.path)
        carried = [entry for entry in entries if self._is_carried(at, entry, seen.get(entry.name))]
        here = {entry.name for entry in entries} | ({SEED} if not at.path else set())
        for name in seen.keys() - {entry.name for entry in carried}:
            if name and (*at.path, name) not in self._scanned.held:
                # Not before the end: what was moved is found by it at its new place.
                self._gone.append((*at.path, name))
        for name in at.existing.keys() - here:
            at.changes[name] = None
        return carried, seen

    def _is_carried(self, at: _Folder, entry: LocalEntry, seen: Seen | None) -> bool:
        if self._asides.made(entry.name):
            return False
        if not at.path and entry.name == SEED:
            if not folder.is_seed(os.path.join(at.where, SEED), at.existing.get(SEED)):
                self._scanned.skipped.append(Skipped(path_text((SEED,)), SEED_IS_TAKEN))
            return False
        reason = "" if entry.kind is not None else NOT_CARRIED
        try:
            check_name(entry.name)
        except (NameInvalid, NameTooLong) as error:
            reason = str(error)
        if entry.kind is Kind.DIRECTORY and seen is not None and seen.crossed and entry.device == self._device:
            reason = "something was mounted here before and is not now"
        reason = reason or self._over.reason((*at.path, entry.name), entry, self._now_ns())
        if reason:
            self._hold(at, entry.name, reason)
        return not reason

    def _hold(self, at: _Folder, name: bytes, reason: str) -> None:
        """Leaves a name as the base has it."""
        at.changes.pop(name, None)
        self._scanned.held.add((*at.path, name))
        self._scanned.skipped.append(Skipped(path_text((*at.path, name)), reason))

    async def _folders_of(self, at: _Folder, folders: Sequence[LocalEntry]) -> dict[bytes, Cid]:
        """The base's folders where there are local ones."""
        links = {entry.name: at.existing[entry.name].cid for entry in folders if entry.name in at.existing}
        nodes = {name: cid for name, cid in links.items() if codec_of(cid) == DAG_PB}
        blocks = await self._source.get_many(list(nodes.values())) if nodes else {}
        return {name: cid for name, cid in nodes.items() if node_info(cid, blocks[cid]).kind is Kind.DIRECTORY}

    async def _close(self, at: _Folder) -> Link:
        seen = self._state.seen_at(at.path)
        if seen is not None and seen.entry.kind is Kind.DIRECTORY and _same_folder(seen.entry, at.entry):
            wanted = seen.attributes
        else:
            mode = at.entry.mode
            if at.attributes.mode is not None and self._rights.mode(at.attributes.mode, at.entry) == mode:
                # It lacks only what is not given to it here.
                mode = at.attributes.mode
            wanted = replace(at.attributes, mode=mode, mtime_ns=at.entry.mtime_ns)
        if not at.path:
            # Who may enter the watched folder on this machine is no matter of the bucket's; nor is, the first time, since when.
            wanted = at.attributes if at.base is None else replace(wanted, mode=at.attributes.mode)
        built = await run_steps(edit_directory(at.base, at.changes, wanted), self._source)
        if built.link.cid != at.base:
            self._source.keep(built.blocks.items())
            await self._emit(list(built.blocks.items()))
        crossed = at.entry.device != self._device
        self._state.note(at.path, Seen(at.entry, attributes=wanted, crossed=crossed))
        self._figures.folders += 1
        return built.link

    def _set(self, at: _Folder, name: bytes, link: Link) -> None:
        if at.existing.get(name) != link:
            at.changes[name] = link

    # Files

    async def _take_files(self, at: _Folder, entries: Sequence[LocalEntry], seen: Mapping[bytes, Seen]) -> None:
        changed: list[LocalEntry] = []
        for entry in entries:
            known = seen.get(entry.name)
            if known is None or not known.is_still(entry):
                known = self._state.same_inode(entry)
            if known is None or known.link is None or known.fresh or self._reread:
                self._over.brings((*at.path, entry.name), entry, entry.size_bytes)
                changed.append(entry)
                continue
            if at.existing.get(entry.name) != known.link:
                self._over.brings((*at.path, entry.name), entry, entry.size_bytes)
            if known is not seen.get(entry.name):
                self._state.note((*at.path, entry.name), replace(known, entry=entry))
            self._count(entry)
            self._figures.unchanged += 1
            self._set(at, entry.name, known.link)
        plans = await self._plans(at, changed)
        for batch in small_batches([entry for entry in changed if is_small(entry)]):
            await self._take_small(at, [plans[entry.name] for entry in batch], seen)
        for entry in changed:
            if not is_small(entry):
                await self._take_large(at, plans[entry.name], seen)

    async def _plans(self, at: _Folder, entries: Sequence[LocalEntry]) -> dict[bytes, Plan]:
        """Changed files with the attributes they shall have: what the status says, over what the base has besides."""
        links = {entry.name: at.existing[entry.name].cid for entry in entries if entry.name in at.existing}
        nodes = [cid for cid in links.values() if codec_of(cid) == DAG_PB]
        blocks = await self._source.get_many(nodes) if nodes else {}
        plans: dict[bytes, Plan] = {}
        for entry in entries:
            cid = links.get(entry.name)
            before = node_info(cid, blocks[cid]).attributes if cid is not None and cid in blocks else NO_ATTRIBUTES
            wanted = replace(before, mode=entry.mode, mtime_ns=entry.mtime_ns)
            plans[entry.name] = Plan(entry, os.path.join(at.where, entry.name), wanted)
        return plans

    async def _take_small(self, at: _Folder, plans: Sequence[Plan], seen: Mapping[bytes, Seen]) -> None:
        results = await trio.to_thread.run_sync(_build_settled, plans)
        for plan, (result, settled) in zip(plans, results, strict=True):
            if not settled or result is None:
                self._unsettled(at, plan.entry.name)
                continue
            if isinstance(result, BucketfsError):
                self._hold(at, plan.entry.name, str(result))
                continue
            built, blocks = result
            self._source.keep(blocks)
            link = await self._done(at, plan, built.link, seen)
            if self._reread or at.existing.get(plan.entry.name) != link:
                await self._emit(blocks)
        self._progress(self._figures)

    async def _take_large(self, at: _Folder, plan: Plan, seen: Mapping[bytes, Seen]) -> None:
        self._figures.path = path_text((*at.path, plan.entry.name))
        try:
            built = await self._sent_large(at, plan)
        except NotFound:
            self._unsettled(at, plan.entry.name)
            return
        except folder.ONE_PATH as error:
            self._hold(at, plan.entry.name, str(error))
            return
        if built is None:
            return
        if not await trio.to_thread.run_sync(_is_settled, plan):
            self._unsettled(at, plan.entry.name)
            return
        self._source.keep((cid, data) for cid, data in built.blocks.items() if cid == built.link.cid)
        await self._done(at, plan, built.link, seen)

    async def _sent_large(self, at: _Folder, plan: Plan) -> Built | None:
        """A large file that is at the Hub, or goes there with this scan; None when it is held, because it is sent beside the
        rounds, or could not be sent."""
        if self._reread or not self._outgoing.goes_beside(plan):
            return await stream_large(plan, self._emit, self._figures, self._progress)
        name = plan.entry.name
        path = (*at.path, name)
        reason = self._refusals.reason(path, plan, self._now_ns())
        if not reason:
            try:
                built = self._outgoing.take(plan)
            except folder.ONE_PATH:
                raise
            except BucketfsError as error:
                # What the Hub refuses of one file is no reason to send no other.
                reason = str(error)
                self._refusals.note(path, plan, reason, self._now_ns())
            else:
                if built is None:
                    at.changes.pop(name, None)
                    self._scanned.held.add(path)
                return built
        self._hold(at, name, reason)
        return None

    async def _done(self, at: _Folder, plan: Plan, link: Link, seen: Mapping[bytes, Seen]) -> Link:
        """Notes a file that was read, and takes it into the folder; the link it stands for."""
        entry = plan.entry
        known = seen.get(entry.name)
        if known is not None and known.link is not None and known.is_still(entry) and not known.fresh:
            # It was read only to be offered again. What another client had put together otherwise, and the Hub lost, is as we do
            # it from now on.
            if known.link.cid == link.cid or await self._source.at_hub(known.link.cid):
                link = known.link
        elif known is not None and known.entry.kind is Kind.DIRECTORY:
            self._state.forget((*at.path, entry.name))
        self._state.note((*at.path, entry.name), Seen(entry, link, fresh=self._is_fresh(entry)))
        self._count(entry)
        self._set(at, entry.name, link)
        return link

    def _is_fresh(self, entry: LocalEntry) -> bool:
        step_ns = FRESH_NS if entry.mtime_ns % 10**9 else FRESH_COARSE_NS
        return abs(self._now_ns() - entry.mtime_ns) < step_ns

    def _unsettled(self, at: _Folder, name: bytes) -> None:
        """A file changed while it was read: it stays as it was, and nothing of it is said before it rests."""
        at.changes.pop(name, None)
        path = (*at.path, name)
        self._state.forget(path)
        self._scanned.held.add(path)
        self._scanned.unsettled.append(path)

    def _count(self, entry: LocalEntry) -> None:
        if entry.kind is Kind.SYMLINK:
            self._figures.symlinks += 1
        else:
            self._figures.files += 1


def _same_place(one: LocalEntry, other: LocalEntry) -> bool:
    return (one.kind, one.device, one.inode) == (other.kind, other.device, other.inode)


def _same_folder(seen: LocalEntry, entry: LocalEntry) -> bool:
    return (seen.inode, seen.mode, seen.mtime_ns) == (entry.inode, entry.mode, entry.mtime_ns)


def _build_settled(plans: Sequence[Plan]) -> list[tuple[BuiltSmall, bool]]:
    """In a thread: small files, and whether each was the same all the time."""
    results: list[tuple[BuiltSmall, bool]] = []
    for plan in plans:
        try:
            (result,) = build_batch([plan])
        except InvalidArgument as error:
            # One bad sector, or a link put in the place of a file just now, is no reason to carry nothing at all.
            result = error
        results.append((result, isinstance(result, BucketfsError) or _is_settled(plan)))
    return results


def _is_settled(plan: Plan) -> bool:
    try:
        return Seen(plan.entry).is_still(folder.look(plan.where, plan.entry.name))
    except folder.ONE_PATH:
        return False
