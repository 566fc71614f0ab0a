"""The watched folder as a tree of the bucket: what is unchanged since it was seen is neither read nor built again.

A folder is built as an edit of the one in the base, so that what did not change keeps the form another client gave it, and what the
local status has no word for (owners, unknown fields) stays as it was.

What cannot be told is *held*: it stays in the tree as the base has it, and nothing is done to it here. So it is with what may
not be read, what is neither file, folder nor symlink, a file that changed while it was read, and a folder that was a mount
point and is none now: that something cannot be seen must never look as if it had been removed.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace

import trio

from bucketfs.dag import RAW, codec_of, node_info
from bucketfs.errors import BucketfsError, NameInvalid, NameTooLong, NotFound
from bucketfs.mirror.block_source import MirrorSource
from bucketfs.mirror.large_files import LargeFiles
from bucketfs.mirror.refusals import OverLimit, Refusals
from bucketfs.mirror.state import SeenEntry
from bucketfs.mirror.watched_folder import WatchedFolder
from bucketfs.names import SEED, check_name
from bucketfs.remote import Done, Emit, Outcome, TreeBuilder
from bucketfs.transfer import (
    NOT_CARRIED,
    ONE_PATH,
    SEED_IS_TAKEN,
    Figures,
    LocalEntry,
    LocalFile,
    Names,
    Skipped,
    WalkedFolder,
    path_text,
    walk,
)
from bucketfs.types import NO_ATTRIBUTES, Cid, Link, NodeAttributes

FRESH_NS = 100_000_000
"""Clocks of file systems go in steps of up to some hundredths of a second: of a file that was written so shortly before it was
looked at, the next look does not believe that an unchanged status means unchanged bytes."""
FRESH_COARSE_NS = 2_100_000_000
"""The same where times are of whole seconds (FAT: of two)."""


@dataclass(slots=True)
class FolderScan:
    """What a scan found: the tree, what is held, and which files were changing while they were read."""

    root: Cid
    held: set[Names] = field(default_factory=set)
    unsettled: list[Names] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)


class Unsettled(BucketfsError):
    """A file changed while it was read: what was read may be a mixture."""


@dataclass(frozen=True, slots=True)
class _SettledFile:
    """A file whose bytes count only if it was the same all the time (a `FileSource`)."""

    file: LocalFile

    @property
    def size_bytes(self) -> int:
        return self.file.size_bytes

    @property
    def attributes(self) -> NodeAttributes:
        return self.file.attributes

    def target(self) -> bytes | None:
        target = self.file.target()
        if target is not None:
            self._check()
        return target

    def parts(self) -> Generator[bytes]:
        read_bytes = 0
        for leaf in self.file.parts():
            read_bytes += len(leaf)
            if read_bytes > self.size_bytes:
                raise Unsettled("it grows")
            yield leaf
        self._check()

    def is_settled(self) -> bool:
        """Whether it is still as the scan saw it."""
        try:
            return SeenEntry(self.file.entry).is_still(self.file.fs.look(self.file.where))
        except ONE_PATH:
            return False

    def _check(self) -> None:
        if not self.is_settled():
            raise Unsettled("it changes")


@dataclass(eq=False)
class Scanner:
    """One walk over the folder, by the `WalkRules` of a mirror. What it sees goes into the state, whose transaction is the
    caller's: it must not be committed before all that was emitted has arrived. With ``reread`` every file is read and
    offered."""

    folder: WatchedFolder
    source: MirrorSource
    figures: Figures
    large: LargeFiles
    refusals: Refusals
    over: OverLimit
    reread: bool = False

    def __post_init__(self) -> None:
        self._fs = self.folder.fs
        self._state = self.folder.state
        self._found = FolderScan(Cid(b""))
        self._gone: list[Names] = []
        self._seen: dict[bytes, SeenEntry] = {}
        """What was seen in the folder that is being looked at."""
        self._device = 0

    async def run(self, base: Cid | None, above: NodeAttributes, emit: Emit) -> FolderScan:
        """The tree, as an edit of ``base``; ``above`` is what the bucket's root itself carries. Raises NotFound or Denied when the
        folder itself cannot be read."""
        self._emit = emit
        self._builder = TreeBuilder(self.source, emit, self.figures.bytes_were_done)
        entry = await trio.to_thread.run_sync(self.folder.look, ())
        if entry is None:
            raise NotFound(f"no such folder: {os.fsdecode(self.folder.top)}")
        self._device = entry.device
        # The blocks of the base's folders are offered, too: the Hub may have lost some.
        self.source.recorded = {} if self.reread else None
        try:
            self._found.root = (await walk(WalkedFolder(entry, self.folder.top, (), base, above), self, self.source)).cid
        finally:
            self.source.recorded = None
        for path in self._gone:
            self._state.forget(path)
        return self._found

    # The rules of the walk

    async def entries(self, at: WalkedFolder) -> list[LocalEntry]:
        """What is in the folder that a bucket can have. What is gone is noted."""
        if self.source.recorded:
            blocks, self.source.recorded = self.source.recorded, {}
            await self._emit(list(blocks.items()))
        return await trio.to_thread.run_sync(self._look, at)

    def _look(self, at: WalkedFolder) -> list[LocalEntry]:
        """In a thread."""
        entries = self._fs.scan(at.where)
        now = self.folder.look(at.path)
        if at.path and not (now is not None and _same_place(now, at.entry) and self.folder.is_inside(at.path)):
            # A link in its place, say: what was found may belong elsewhere, and what was not is not removed.
            raise NotFound("it was replaced while it was looked at")
        seen = self._state.seen(at.path)
        carried = [entry for entry in entries if self._is_carried(at, entry, seen.get(entry.name))]
        here = {entry.name for entry in entries} | ({SEED} if not at.path else set())
        for name in seen.keys() - {entry.name for entry in carried}:
            if name and (*at.path, name) not in self._found.held:
                # Forgotten at the end only: what was moved is found by it at its new place.
                self._gone.append((*at.path, name))
        for name in at.existing.keys() - here:
            at.changes[name] = None
        self._seen = seen
        return carried

    def _is_carried(self, at: WalkedFolder, entry: LocalEntry, seen: SeenEntry | None) -> bool:
        if self.folder.temporaries.is_temporary(entry.name):
            return False
        if not at.path and entry.name == SEED:
            if not self._fs.is_seed(os.path.join(at.where, SEED), at.existing.get(SEED)):
                self._found.skipped.append(Skipped(path_text((SEED,)), SEED_IS_TAKEN))
            return False
        reason = "" if entry.kind is not None else NOT_CARRIED
        try:
            check_name(entry.name)
        except (NameInvalid, NameTooLong) as error:
            reason = str(error)
        if entry.is_directory and seen is not None and seen.crossed and entry.device == self._device:
            reason = "something was mounted here before and is not now"
        reason = reason or self.over.reason((*at.path, entry.name), entry, self.folder.now_ns())
        if reason:
            self._hold(at, entry.name, reason)
        return not reason

    def unreadable(self, at: WalkedFolder, child: WalkedFolder, error: BucketfsError) -> None:
        """The folder stays as the base has it."""
        self._hold(at, child.entry.name, str(error))

    def _hold(self, at: WalkedFolder, name: bytes, reason: str) -> None:
        """Leaves a name as the base has it."""
        at.changes.pop(name, None)
        self._found.held.add((*at.path, name))
        self._found.skipped.append(Skipped(path_text((*at.path, name)), reason))

    async def close(self, at: WalkedFolder) -> Link:
        """The folder as an edit of the base's, with the attributes that it has here."""
        seen = self._state.seen_at(at.path)
        if seen is not None and seen.entry.is_directory and _same_folder(seen.entry, at.entry):
            wanted = seen.attributes
        else:
            mode = at.entry.mode
            if at.attributes.mode is not None and self.folder.preserve.mode(at.attributes.mode, at.entry) == mode:
                # It lacks only what is not given to it here.
                mode = at.attributes.mode
            wanted = replace(at.attributes, mode=mode, mtime_ns=at.entry.mtime_ns)
        if not at.path:
            # The mode of the watched folder itself belongs to this machine, not to the bucket; so does, the first time, its mtime.
            wanted = at.attributes if at.base is None else replace(wanted, mode=at.attributes.mode)
        built = await self._builder.directory(at.base, at.changes, wanted)
        if built.link.cid != at.base:
            self.source.keep(built.blocks.items())
            await self._emit(list(built.blocks.items()))
        crossed = at.entry.device != self._device
        self._state.note(at.path, SeenEntry(at.entry, attributes=wanted, crossed=crossed))
        self.figures.folders += 1
        return built.link

    # Files

    async def files(self, at: WalkedFolder, entries: Sequence[LocalEntry]) -> None:
        """Takes over what is as it was seen, and reads the rest."""
        seen, self._seen = self._seen, {}
        changed: list[LocalEntry] = []
        for entry in entries:
            path, known = (*at.path, entry.name), seen.get(entry.name)
            if known is None or not known.is_still(entry):
                known = self._state.same_inode(entry)
            if known is None or known.link is None or known.fresh or self.reread:
                self.over.brings(path, entry, entry.size_bytes)
                changed.append(entry)
                continue
            if at.existing.get(entry.name) != known.link:
                self.over.brings(path, entry, entry.size_bytes)
            if known is not seen.get(entry.name):
                self._state.note(path, replace(known, entry=entry))
            self.figures.count(entry.kind)
            self.figures.unchanged += 1
            at.set(entry.name, known.link)

        async def done(settled: _SettledFile, outcome: Outcome) -> bool:
            return await self._done(at, settled.file, outcome, seen.get(settled.file.entry.name))

        files = await self._files(at, changed)
        await self._builder.files([_SettledFile(file) for file in files if file.is_small], done)
        for file in files:
            if not file.is_small:
                await self._take_large(at, file, done)

    async def _files(self, at: WalkedFolder, entries: Sequence[LocalEntry]) -> list[LocalFile]:
        """Changed files with the attributes they shall have: what the status says, over what the base has besides."""
        links = {entry.name: at.existing[entry.name].cid for entry in entries if entry.name in at.existing}
        nodes = [cid for cid in links.values() if codec_of(cid) != RAW]
        blocks = await self.source.get_many(nodes) if nodes else {}
        files: list[LocalFile] = []
        for entry in entries:
            cid = links.get(entry.name)
            before = node_info(cid, blocks[cid]).attributes if cid in blocks else NO_ATTRIBUTES
            here = entry.attributes
            wanted = replace(before, mode=here.mode, mtime_ns=here.mtime_ns)
            files.append(LocalFile(self._fs, entry, os.path.join(at.where, entry.name), wanted))
        return files

    async def _take_large(self, at: WalkedFolder, file: LocalFile, done: Done[_SettledFile]) -> None:
        self.figures.path = path_text((*at.path, file.entry.name))
        settled = _SettledFile(file)
        if self.reread or not self.large.sends(file):
            await self._builder.files([settled], done)
            return
        path, now_ns = (*at.path, file.entry.name), self.folder.now_ns()
        reason = self.refusals.reason(path, file, now_ns)
        if reason:
            self._hold(at, file.entry.name, reason)
            return
        try:
            built = self.large.departed(file)
        except NotFound:
            self._unsettled(at, file.entry.name)
        except ONE_PATH as error:
            self._hold(at, file.entry.name, str(error))
        except BucketfsError as error:
            # What the Hub refuses of one file is no reason to send no other.
            self.refusals.note(path, file, str(error), now_ns)
            self._hold(at, file.entry.name, str(error))
        else:
            if built is None:
                at.changes.pop(file.entry.name, None)
                self._found.held.add(path)
            elif await trio.to_thread.run_sync(settled.is_settled):
                await done(settled, built)
            else:
                self._unsettled(at, file.entry.name)

    async def _done(self, at: WalkedFolder, file: LocalFile, outcome: Outcome, seen: SeenEntry | None) -> bool:
        """Takes a file that was read into the folder; whether its blocks are wanted at the Hub."""
        entry = file.entry
        if isinstance(outcome, Unsettled) or (not file.is_small and isinstance(outcome, NotFound)):
            self._unsettled(at, entry.name)
            return False
        if isinstance(outcome, BucketfsError):
            # Also a bad sector, or a link that took the place of a file just now: no reason to carry nothing at all.
            self._hold(at, entry.name, str(outcome))
            return False
        link = outcome.link
        if file.is_small:
            self.source.keep(outcome.blocks.items())
        else:
            self.source.keep((cid, data) for cid, data in outcome.blocks.items() if cid == link.cid)
        if seen is not None and seen.link is not None and seen.vouches_for(entry):
            # It was read only to be offered again. What another client had put together otherwise, and the Hub lost, is as we do
            # it from now on.
            if seen.link.cid == link.cid or await self.source.at_hub(seen.link.cid):
                link = seen.link
        elif seen is not None and seen.entry.is_directory:
            self._state.forget((*at.path, entry.name))
        self._state.note((*at.path, entry.name), SeenEntry(entry, link, fresh=self._is_fresh(entry)))
        self.figures.count(entry.kind)
        at.set(entry.name, link)
        return self.reread or at.existing.get(entry.name) != link

    def _is_fresh(self, entry: LocalEntry) -> bool:
        step_ns = FRESH_NS if entry.mtime_ns % 10**9 else FRESH_COARSE_NS
        return abs(self.folder.now_ns() - entry.mtime_ns) < step_ns

    def _unsettled(self, at: WalkedFolder, name: bytes) -> None:
        """A file changed while it was read: the base's version stays in the tree until the file is at rest."""
        at.changes.pop(name, None)
        path = (*at.path, name)
        self._state.forget(path)
        self._found.held.add(path)
        self._found.unsettled.append(path)


def _same_place(one: LocalEntry, other: LocalEntry) -> bool:
    return (one.kind, one.device, one.inode) == (other.kind, other.device, other.inode)


def _same_folder(seen: LocalEntry, entry: LocalEntry) -> bool:
    return (seen.inode, seen.mode, seen.mtime_ns) == (entry.inode, entry.mode, entry.mtime_ns)
