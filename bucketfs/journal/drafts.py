"""Draft files: the bytes of files being written, one file per draft.

A draft lives at ``drafts/3f/000000000000023f`` (sharded by the low byte of its id, so that no folder grows large). Its
bytes are in the page cache when ``write`` returns, hence safe from a kill; they are safe from a power loss once a sync of
the journal, or of the draft, returned. Which drafts were written since is tracked here, and so are the checksums of their blocks
(see ``checksums``), against which every read is held.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from functools import partial

from bucketfs.disk import Disk, DiskFile, PathLike, Workers
from bucketfs.errors import BucketfsError, DiskFailed, NotFound, TooManyOpen
from bucketfs.journal.checked_io import Checked
from bucketfs.journal.checksums import Sums, Survey, records_of, survey
from bucketfs.journal.descriptors import Descriptors
from bucketfs.journal.draft_cuts import DraftCuts
from bucketfs.journal.extents import Interval
from bucketfs.journal.ops import Seal
from bucketfs.journal.quarantine import Quarantine
from bucketfs.journal.unsynced import SyncWork, Unsynced
from bucketfs.types import DraftId

_SHARD = re.compile("[0-9a-f]{2}")
_NAME = re.compile("[0-9a-f]{16}")


class Draft:
    """One draft file. ``read`` and ``write`` may be called from any thread; a reader sees what was written before."""

    __slots__ = ("_drafts", "id")

    def __init__(self, drafts: Drafts, draft: DraftId) -> None:
        self._drafts = drafts
        self.id = draft

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Writes all of ``data`` at ``offset`` bytes, into a draft that takes it, as a new one does. Does not await. NoSpace,
        DiskFailed: some of it may be there."""
        if not self.take(offset, data):
            raise RuntimeError(f"draft {self.id} takes no bytes at {offset}: sealed ones would change")

    def take(self, offset: int, data: bytes | memoryview) -> bool:
        """Writes all of ``data`` at ``offset`` bytes, unless that would change sealed bytes, or mix with damaged ones, or the file
        is being cut, or a quarantined change needs the draft: then nothing is written, and the bytes need a draft above this one.
        Does not await. NoSpace, DiskFailed: some of it may be there."""
        drafts = self._drafts
        if drafts.kept(self.id) or not drafts.cuts.grow(self.id, offset + len(data)):
            return False
        with drafts.borrow(self.id) as file:
            sums = drafts.sums(self.id)
            parts = drafts.checked.open_parts(self.id, file, sums, offset, data)
            if parts is None:
                return False
            try:
                for at, part in parts:
                    drafts.put(self.id, file, at, part)
            except BaseException:
                sums.forget(offset, len(data))
                raise
            for at, part in parts:
                sums.wrote(at, part)
        return True

    def read(self, offset: int, size: int) -> bytes:
        """The bytes at ``offset``; fewer than ``size`` only at the end of the draft. Does not await. Corrupt when they are not
        what was written. DiskFailed."""
        with self._drafts.borrow(self.id) as file:
            return self._drafts.checked.read(self.id, file, self._drafts.known.get(self.id) or _NO_SUMS, offset, size)

    def cut(self, size: int) -> None:
        """The bytes from ``size`` on are needed no more, until they are written anew. The file is cut behind the next
        checkpoint."""
        sums = self._drafts.known.get(self.id)
        if sums is not None and not self._drafts.kept(self.id):
            sums.cut(size)
            self._drafts.cuts.cut(self.id, size)

    def sealed_in(self, start: int, stop: int) -> bool:
        """Whether any of the bytes ``[start, stop)`` are sealed, or needed as they are by a quarantined change."""
        sums = self._drafts.known.get(self.id)
        return self._drafts.kept(self.id) or bool(sums and sums.sealed_in(start, stop - start))

    @property
    def size_bytes(self) -> int:
        """The length of the draft file."""
        with self._drafts.borrow(self.id) as file:
            return self._drafts.disk.size(file)

    async def fsync(self) -> None:
        """Returns when everything written before the call would survive a power loss (the bytes; not the records)."""
        await self._drafts.sync_one(self.id)

    def discard(self) -> None:
        """Nothing needs the draft any more. Its file goes now, or, while a record names it, with the segment that does."""
        self._drafts.discard(self.id)


class Drafts:
    """All drafts of one journal. ``named`` says whether a segment on disk names a draft. The folder is made for the first draft."""

    def __init__(
        self,
        disk: Disk,
        folder: PathLike,
        workers: Workers,
        named: Callable[[DraftId], bool],
        quarantine: Callable[[], Quarantine],
        descriptors: Descriptors,
    ) -> None:
        self.disk = disk
        self._folder = os.fspath(folder)
        self._workers = workers
        self._named = named
        self._quarantine = quarantine
        self._descriptors = descriptors
        self.checked = Checked(disk)
        self.known: dict[DraftId, Sums] = {}
        self.sealed_count = 0  # drafts that have sealed bytes
        self._written: set[DraftId] = set()  # since the last `sealable`
        self._shards: set[str] = set()
        self.unsynced = Unsynced(self._folder, self.path)
        self.cuts = DraftCuts()
        self.next_id = DraftId(1)

    # For the overlay

    def new(self) -> Draft:
        """A new, empty draft. Does not await. NoSpace, DiskFailed."""
        draft = self.next_id
        path = self.path(draft)
        self._make_shard(os.path.dirname(path))
        # Exclusively: a file of this number would be another draft's, and no number comes back (invariant 7).
        with self._descriptors.borrow(path, partial(self.disk.open, path, exclusive=True)):
            self.next_id = DraftId(draft + 1)
            self.known[draft] = Sums()
            self.unsynced.made(draft)
        return Draft(self, draft)

    def get(self, draft: DraftId) -> Draft:
        """A draft that a record names. NotFound when it was discarded or never was."""
        if draft not in self.known:
            raise NotFound(f"there is no draft {draft}")
        return Draft(self, draft)

    def __contains__(self, draft: DraftId) -> bool:
        return draft in self.known

    def __len__(self) -> int:
        return len(self.known)

    # For the journal: recovery

    def on_disk(self) -> dict[DraftId, int]:
        """Every draft file there is, and its size in bytes. Blocks."""
        found: dict[DraftId, int] = {}
        try:
            shards = self.disk.list_folder(self._folder)
        except NotFound:
            return found
        for shard in shards:
            if not _SHARD.fullmatch(shard):
                continue
            self._shards.add(f"{self._folder}/{shard}")
            for name in self.disk.list_folder(f"{self._folder}/{shard}"):
                if _NAME.fullmatch(name):
                    found[DraftId(int(name, 16))] = self.disk.file_size(f"{self._folder}/{shard}/{name}")
        return found

    def adopt(self, drafts: Iterable[DraftId], next_id: DraftId, seals: Mapping[DraftId, Sums]) -> None:
        """These are in use, with what is sealed of them."""
        for draft in drafts:
            self.known[draft] = sums = seals.get(draft) or Sums()
            self.sealed_count += sums.sealed
            self.unsynced.found(draft)
        self.next_id = max(self.next_id, next_id)

    # For the journal: syncing

    def perform_sync(self, work: SyncWork) -> dict[DraftId, BucketfsError]:
        """Does it. Blocks: for a thread. Returns the drafts that failed; a failing folder raises, and so does a used-up limit of
        open files, with which no fsync was tried."""
        failed: dict[DraftId, BucketfsError] = {}
        for draft, _ in work.drafts:
            try:
                with self.borrow(draft) as file:
                    self.disk.fsync(file)
            except TooManyOpen:
                raise
            except BucketfsError as error:
                if draft in self.known:  # else it was discarded meanwhile
                    failed[draft] = error
                    self.unsynced.fail(draft)
        for folder in work.folders:
            self.disk.fsync_folder(folder)
        return failed

    # For the journal: sealing

    def sealable(self, drafts: Iterable[DraftId]) -> list[DraftId]:
        """Those that are known, and that no fsync failed for. From now on it is noted which drafts are written."""
        # One seal at a time (`Sealer.busy`), or this would forget what was written while another looks.
        self._written.clear()
        return [draft for draft in drafts if draft in self.known and not self.unsynced.has_failed(draft)]

    def survey(self, extents: Mapping[DraftId, Sequence[Interval]], read_max: int) -> dict[DraftId, Survey]:
        """What can be sealed of drafts that are not written to. At most ``read_max`` bytes are read back for that, and no draft
        is a reason to fail. Blocks: for a thread."""
        found: dict[DraftId, Survey] = {}
        for draft, intervals in extents.items():
            sums = self.known.get(draft)
            if sums is None:
                continue
            try:
                with self.borrow(draft) as file:
                    found[draft] = survey(sums, intervals, partial(self.disk.pread, file), read_max)
            except BucketfsError:
                continue  # its next reader gets the error
            read_max -= found[draft].read_bytes
        return found

    def seals_of(self, draft: DraftId, surveyed: Survey) -> list[Seal]:
        """The records of what can be sealed; none when the draft was written or let go meanwhile."""
        if draft in self._written or draft not in self.known or self.unsynced.has_failed(draft):
            return []
        return list(records_of(draft, sorted(surveyed.found.items())))

    def seal(self, record: Seal) -> None:
        """The record is in the journal."""
        sums = self.known[record.draft]
        self.sealed_count += not sums.sealed
        sums.seal(record)

    def sealed(self, draft: DraftId) -> Iterator[Seal]:
        """The records that say again what is sealed of a draft."""
        sums = self.known.get(draft)
        return iter(()) if not sums else sums.seals(draft)

    # For the journal: forgetting

    def all(self) -> set[DraftId]:
        """Every draft this journal knows."""
        return set(self.known)

    def forget(self, drafts: Iterable[DraftId]) -> list[str]:
        """These are gone. Returns the paths that are left to unlink."""
        gone = [draft for draft in drafts if draft in self.known]
        for draft in gone:
            # Out of `known` first: from then on `_open` makes no new file in the place of the one that goes.
            self.sealed_count -= self.known.pop(draft).sealed
            self._let_go(draft)
        return [self.path(draft) for draft in gone]

    def begin_trim(self) -> list[tuple[DraftId, int]]:
        """See `DraftCuts.begin_trim`."""
        return self.cuts.begin_trim(self.known)

    def trim(self, work: Iterable[tuple[DraftId, int]]) -> None:
        """Make drafts shorter, as `DraftCuts.begin_trim` says. Blocks: for a thread. Raises DiskFailed."""
        for draft, size in work:
            if draft in self.known:
                with self.borrow(draft) as file:
                    if self.disk.size(file) > size:
                        self.disk.truncate(file, size)

    def path(self, draft: DraftId) -> str:
        """Where a draft's file is."""
        return f"{self._folder}/{draft & 0xFF:02x}/{draft:016x}"

    def close(self) -> None:
        """Closes all descriptors."""
        self._descriptors.close_below(self._folder)

    # For `Draft`

    def kept(self, draft: DraftId) -> bool:
        """Whether a quarantined change needs its bytes as they are."""
        return self._quarantine().needs(draft)

    def sums(self, draft: DraftId) -> Sums:
        """What is known of its blocks. NotFound when it was discarded."""
        sums = self.known.get(draft)
        if sums is None:
            raise NotFound(f"there is no draft {draft}")
        return sums

    def put(self, draft: DraftId, file: DiskFile, offset: int, data: memoryview) -> None:
        """Write, and count that. NoSpace, DiskFailed."""
        try:
            self.disk.pwrite(file, offset, data)
        finally:
            self.unsynced.wrote(draft)
            self._written.add(draft)

    async def sync_one(self, draft: DraftId) -> None:
        """As `Draft.fsync`."""
        work = self.unsynced.decide({draft})
        failed = await self._workers.run(self.perform_sync, work)
        self.unsynced.note(work, failed)
        for error in failed.values():
            raise DiskFailed(f"bytes of draft {draft} may not have reached the disk") from error

    def discard(self, draft: DraftId) -> None:
        """As `Draft.discard`."""
        if self._named(draft):
            self._let_go(draft)
            return
        for path in self.forget([draft]):
            with suppress(NotFound):
                self.disk.unlink(path)

    def _let_go(self, draft: DraftId) -> None:
        self.unsynced.forget(draft)
        self._descriptors.let_go(self.path(draft))

    def borrow(self, draft: DraftId) -> AbstractContextManager[DiskFile]:
        """Its open file, for the length of a with statement. NotFound when it was discarded."""
        return self._descriptors.borrow(self.path(draft), partial(self._open, draft))

    def _open(self, draft: DraftId) -> DiskFile:
        if draft not in self.known:
            raise NotFound(f"there is no draft {draft}")
        path = self.path(draft)
        self._make_shard(os.path.dirname(path))
        # Created if need be: a record without extents (a mere truncation) is right without the file, which a power loss may
        # have taken, and the next write goes on with the same draft.
        return self.disk.open(path, create=True)

    def _make_shard(self, shard: str) -> None:
        if shard not in self._shards:
            if not self._shards and self.disk.make_folder(self._folder):
                self.unsynced.folder_is_new = True
            if self.disk.make_folder(shard):
                self.unsynced.shard_is_new = True
            self._shards.add(shard)


_NO_SUMS = Sums()
"""Of a draft that was let go of while a reader is still at it. Nothing is added to it."""
