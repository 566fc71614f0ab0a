"""Files of the bucket written into the watched folder, each noted before its first step, and what a round has done there."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import trio

from bucketfs.dag import FILE_MODE_DEFAULT, RAW, cid_of, codec_of
from bucketfs.errors import BucketfsError
from bucketfs.mirror.block_source import MirrorSource
from bucketfs.mirror.large_files import LargeFiles
from bucketfs.mirror.refusals import Refusals
from bucketfs.mirror.state import MirrorState, SeenEntry
from bucketfs.mirror.unfinished import AttributeChange, Placing, note_all
from bucketfs.mirror.watched_folder import CHANGED, WatchedFolder
from bucketfs.transfer import (
    ONE_FILE,
    AsideFile,
    BucketFile,
    Figures,
    LocalEntry,
    LocalWriter,
    Names,
    Skipped,
    path_text,
)
from bucketfs.types import Cid, Kind, NodeAttributes

BEFORE_NS = 2 * 10**9
"""A file without mtime gets one so long ago, so that any write after it moves it, however coarse the clock is."""


@dataclass(slots=True)
class Applied:
    """What was done here, and what was left, by path and reason."""

    written: int = 0
    removed: int = 0
    left: list[Skipped] = field(default_factory=list)
    impossible: list[Skipped] = field(default_factory=list)
    """What no disk can have. Unlike what was left, it is not tried again."""
    changing: bool = False
    """Whether something was left because it changed: another round is due soon."""
    arriving: int = 0
    """How many large files are fetched in the background."""


@dataclass(eq=False)
class ApplyRecord:
    """What was done in the folder, and what of it the state does not say yet."""

    state: MirrorState
    source: MirrorSource

    def __post_init__(self) -> None:
        self.applied = Applied()
        self.written: list[tuple[Names, SeenEntry]] = []
        self.gone: list[Names] = []

    def leave(self, path: Names, reason: str) -> None:
        """A path stays as it is."""
        self.applied.left.append(Skipped(path_text(path), reason))
        self.applied.changing |= reason == CHANGED

    def flush(self) -> None:
        """Blocks. What was written and removed becomes what was seen."""
        if self.written or self.gone:
            written, self.written = self.written, []
            gone, self.gone = self.gone, []
            with self.state.together():
                self.source.flush()
                # In this order: a name may be both.
                for path in gone:
                    self.state.forget(path)
                for path, seen in written:
                    self.state.note(path, seen)


@dataclass(eq=False)
class MirrorWriter:
    """Writes files, as far as their places are as the scan saw them."""

    folder: WatchedFolder
    source: MirrorSource
    figures: Figures
    record: ApplyRecord
    large: LargeFiles
    refusals: Refusals

    def __post_init__(self) -> None:
        self._fs = self.folder.fs
        self._state = self.folder.state
        self._mtime_ns = self.folder.now_ns() // 10**9 * 10**9 - BEFORE_NS
        # A tree leaves default modes out, so without one means just that, and not what the umask would make of it: else the
        # next write here would send the umask of this machine to all others.
        self._writer = LocalWriter(
            self.folder.fs,
            self.source,
            self.figures,
            FILE_MODE_DEFAULT,
            temporaries=self.folder.temporaries,
            preserve=self.folder.preserve,
            durable=True,
            allowed=self._may_replace,
            placing=self._placing,
            wrote=self._wrote,
            finish=self._finished,
        )

    def is_due(self, file: BucketFile) -> bool:
        """Whether a file is to be written now: what was refused before is tried now and then only."""
        reason = self.refusals.reason(file.path, file.link.cid, self.folder.now_ns())
        if reason:
            self.record.leave(file.path, reason)
        return not reason

    async def write(self, files: Sequence[BucketFile]) -> None:
        """Writes files. Raises what the Hub and a full disk raise."""
        await self._writer.small([file for file in files if file.is_small], self._refuse, self._leaves_here)
        self.record.flush()
        for file in files:
            if not file.is_small:
                await self._write_large(file)

    async def _write_large(self, file: BucketFile) -> None:
        copy_from = None
        if file.link.cid not in self.large.arriving:
            if await trio.to_thread.run_sync(self._only_attributes, file):
                return
            copy_from = await trio.to_thread.run_sync(self.folder.copy_of, file)
        try:
            if not self.large.fetches(file, copy_from):
                await self._writer.large(file, copy_from)
            elif (aside := self._arrived(file, copy_from)) is not None:
                await trio.to_thread.run_sync(self._writer.arrived, file, aside)
        except ONE_FILE as error:
            self._refuse(file, str(error))
        self.record.flush()

    def _arrived(self, file: BucketFile, copy_from: bytes | None) -> AsideFile | None:
        try:
            return self.large.arrived(file, copy_from)
        except BucketfsError as error:
            # Also a full disk, or a block that the Hub lost: what is small goes on.
            self._refuse(file, str(error))
            return None

    def _refuse(self, file: BucketFile, reason: str) -> None:
        self.refusals.note(file.path, file.link.cid, reason, self.folder.now_ns())
        self.record.leave(file.path, reason)

    def _only_attributes(self, file: BucketFile) -> bool:
        """In a thread: whether the content is here already, and only mode or times had to be set."""
        here, seen = self.folder.look(file.path), self._state.seen_at(file.path)
        if here is None or here.kind is not Kind.FILE or here.size_bytes != file.size_bytes:
            return False
        if seen is None or not seen.vouches_for(here):
            return False
        try:
            if self._fs.cid_of(file.where, file.attributes) != file.link.cid or not self._may_replace(file):
                return False
            wanted = self._finished(file.attributes)
            mode = self.folder.preserve.mode(FILE_MODE_DEFAULT if wanted.mode is None else wanted.mode)
            mtimes_ns = (here.mtime_ns, here.mtime_ns if wanted.mtime_ns is None else wanted.mtime_ns)
            modes, wanted = (here.mode, mode), replace(wanted, mode=mode)
            what = AttributeChange(here.inode, here.size_bytes, modes, mtimes_ns, wanted, file.link)
            # Before the first step: a kill between mode and mtime must not look like a change of the user's.
            note_all(self._state, [(file.path, what)])
            self._fs.set_attributes(file.where, wanted, mode, self.folder.preserve)
            after = self.folder.look(file.path)
        except BucketfsError:
            return False
        if after is not None and after.inode == here.inode:
            self._wrote(file, after)
        return True

    def _leaves_here(self, batch: Sequence[BucketFile]) -> dict[Cid, bytes]:
        """In a thread: the bytes of those small files that stand here under another name."""
        # What the batch before has written may be the same content.
        self.record.flush()
        found: dict[Cid, bytes] = {}
        for file in batch:
            if file.block is None or codec_of(file.block) != RAW:
                continue
            where = self.folder.copy_of(file)
            if where is not None:
                with suppress(BucketfsError):
                    # What cannot be read, or is not it any more, is fetched.
                    leaf = self._fs.first_leaf(where)
                    if cid_of(leaf) == file.block:
                        found[file.block] = leaf
        return found

    def _may_replace(self, file: BucketFile) -> bool:
        as_seen = self.folder.is_as_seen(file.path)
        if not as_seen:
            self.record.leave(file.path, CHANGED)
        return as_seen

    def _placing(self, found: list[tuple[BucketFile, LocalEntry]]) -> None:
        note_all(
            self._state,
            [(f.path, Placing(e.inode, e.size_bytes, e.mode, e.mtime_ns, f.link)) for f, e in found],
        )

    def _wrote(self, file: BucketFile, entry: LocalEntry) -> None:
        self.record.applied.written += 1
        shown = entry.shows_mtime(self._finished(file.attributes).mtime_ns) and entry.size_bytes == file.size_bytes
        if file.kind is Kind.SYMLINK or shown:
            self.record.written.append((file.path, SeenEntry(entry, file.link)))

    def _finished(self, attributes: NodeAttributes) -> NodeAttributes:
        return attributes if attributes.mtime_ns is not None else replace(attributes, mtime_ns=self._mtime_ns)
