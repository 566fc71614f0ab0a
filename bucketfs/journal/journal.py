"""The journal of one bucket: segments of records, the drafts they name, and what makes both durable.

The door states the theory and the invariants; ``state`` says what a segment may become. Here decisions are plain functions
that change our state and return the work, and the work runs on one thread.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain

import trio

from bucketfs.disk import Disk, DiskFile, PathLike, Workers
from bucketfs.errors import BucketfsError, DiskFailed, NoSpace, NotFound, Stale, TooManyOpen
from bucketfs.journal.base_pins import PinnedBlocks
from bucketfs.journal.descriptors import Resources
from bucketfs.journal.drafts import Drafts
from bucketfs.journal.export import export_changes
from bucketfs.journal.extents import Interval
from bucketfs.journal.ops import Op, Record, SetContent
from bucketfs.journal.quarantine import Quarantine
from bucketfs.journal.record import Header
from bucketfs.journal.recovery import Recovery, find_segment, move_drafts_aside, recovery_of, segment_path
from bucketfs.journal.sealer import READ_BACK_BYTES, Sealer
from bucketfs.journal.segment import Segment, SegmentFiles
from bucketfs.journal.state import SegmentEvent, SegmentState
from bucketfs.journal.sync_rounds import SyncRounds
from bucketfs.journal.unsynced import SyncWork
from bucketfs.types import Cid, DraftId


@dataclass(frozen=True, slots=True)
class JournalFigures:
    """How much a journal holds. ``records`` and ``size_bytes`` are those of the newest segment, its head included."""

    records: int
    size_bytes: int
    unsynced_bytes: int
    segments: int
    drafts: int
    drafts_sealed: int
    reserve_bytes: int
    base_blocks: int
    base_bytes: int
    failed: bool


@dataclass(frozen=True, slots=True)
class _Work:
    """One sync: this much of this segment, after these drafts."""

    segment: Segment
    file: DiskFile
    size: int
    drafts: SyncWork


class Journal:
    """Use ``open``. All methods belong to the trio thread; those that are not ``async`` do not await."""

    recovered: Recovery
    quarantine: Quarantine
    drafts: Drafts
    pins: PinnedBlocks

    def __init__(self, disk: Disk, folder: str, resources: Resources) -> None:
        self._disk = disk
        self._folder = folder
        self._closed = False
        self._base: Cid | None = None  # of the first segment
        self._workers = Workers(2)  # one for a sync, one for what compact deletes meanwhile
        self._compacting = trio.Lock()
        self._segments: list[Segment] = []  # ascending; the last one is live
        self._older: list[int] = []  # numbers of segments of an earlier run that a newer one replaces
        self._number_max = 0
        self._first_new_draft = DraftId(1)
        self._durable = 0  # the newest segment known to survive a power loss
        self._rounds = SyncRounds(self._sync_round)
        self._reserve, descriptors = resources.reserve, resources.descriptors
        self._files = SegmentFiles(disk, folder, descriptors)
        self.quarantine = Quarantine()
        self.drafts = Drafts(disk, f"{folder}/drafts", self._workers, self._is_named, lambda: self.quarantine, descriptors)
        self.pins = PinnedBlocks(disk, f"{folder}/base")
        self._sealer = Sealer(self.drafts, lambda: self._newest, self._append)

    @classmethod
    def open(cls, disk: Disk, folder: PathLike, resources: Resources) -> Journal:
        """Opens the journal in ``folder``, which is made if its parent is there, and replays it into ``recovered``. The caller
        holds the lock of the mount, so no other process has it. Blocks: may run on a thread. Unsupported when a newer bucketfs
        wrote it; NoSpace; DiskFailed."""
        folder = os.fspath(folder)
        disk.make_folder(folder)
        journal = cls(disk, folder, resources)
        try:
            journal._recover()
        except BaseException:
            journal.close()
            raise
        return journal

    def begin(self, base: Cid) -> None:
        """Nothing waits here, and later records belong to ``base``. A journal gets its first segment with its first record, for a
        mount may have thousands of buckets. NoSpace, DiskFailed."""
        if self._segments:
            self.checkpoint(base, ())
        else:
            self._base = base

    # Appending

    def append(self, op: Op, *, frees_space: bool = False) -> None:
        """Records ``op`` with one write(2). When it returns, a kill cannot hurt the record; a power loss may, until ``sync``.
        Raises NoSpace or DiskFailed, and then nothing was recorded. ``frees_space`` lets the record use the reserve."""
        again = isinstance(op, SetContent) and op.draft not in self._live(frees_space).named
        self._append(op, frees_space=frees_space)
        if again and isinstance(op, SetContent):
            # What a former segment said of the draft's bytes holds still. Should there be no room for it, the next one says it.
            with suppress(BucketfsError):
                for record in self.drafts.sealed(op.draft):
                    self._append(record)

    def _append(self, op: Record, *, frees_space: bool = False) -> None:
        live = self._live(frees_space)
        while True:
            try:
                self._files.append(live, op)
                return
            except NoSpace:
                if not (frees_space and self._reserve.release()):
                    raise

    def checkpoint(self, base: Cid | None, ops: Iterable[Op]) -> None:
        """Begins a new segment whose head says ``base``, ``ops`` and what is quarantined; later appends go there. Does not await
        and does not sync.

        The older segment stays until ``compact``. May use the whole reserve. On NoSpace or DiskFailed nothing has changed. ``ops``
        is not held, as there may be a million: it is gone through as it is written, and again when there was no room at first.
        """
        if iter(ops) is ops:
            raise TypeError("the ops of a checkpoint may be asked for twice, and an iterator is empty by then")
        try:
            segment = self._write_segment(base, ops)
        except NoSpace:
            if not self._reserve.release(self._reserve.size_bytes):
                raise
            segment = self._write_segment(base, ops)
        newest = self._newest
        if newest is not None:
            newest.happens(SegmentEvent.SUPERSEDED)
        self._segments.append(segment)
        self.drafts.cuts.note_checkpoint()

    # Durability

    async def sync(self) -> None:
        """Returns when every record appended before the call, every earlier one, and the bytes of the drafts they name would
        survive a power loss. Calls that overlap share their fsyncs. Raises DiskFailed or NoSpace; then asking again does
        not help before the next ``checkpoint`` (or, for a draft's bytes, before the draft is replaced)."""
        await self._rounds.sync()

    async def seal(
        self, extents: Mapping[DraftId, Sequence[Interval]], *, read_back_bytes: int = READ_BACK_BYTES
    ) -> set[DraftId]:
        """Makes what ``extents`` name of some drafts durable, and gives it checksums that stand in the journal: from then on it
        never changes, and a read of it gives just that or Corrupt. For drafts that are not in use: one that is written
        meanwhile is left as it is. Of bytes whose sums are not known no more than ``read_back_bytes`` are read back; returns the
        drafts that are not through for that. Awaits the disk, and no other sync. Raises NoSpace, DiskFailed."""
        return await self._sealer.seal(extents, read_back_bytes)

    async def compact(self, keep: Iterable[DraftId] = ()) -> None:
        """Makes the newest segment durable, then deletes the older ones, and the drafts that no remaining record and not
        ``keep`` names. ``keep`` holds the drafts in use that were not recorded yet. Drafts found at the start and never
        named since are left for ``sweep``. Raises as ``sync`` does, with nothing deleted."""
        # Before the first await: the caller counted what is in use just now, and a draft that is begun while we wait, for the lock
        # or for the disk, is in neither the count nor a record yet.
        candidates = self.drafts.all().difference(keep)
        async with self._compacting:
            await self.sync()
            paths = self._decide_compaction(candidates)
            if paths:
                await self._workers.run(self._unlink_all, paths)
            await self._trim()
            self._reserve.fill()
            self._rest()

    async def _trim(self) -> None:
        """Give back what was cut off drafts before the segment that is durable now."""
        newest = self._newest
        if newest is None or newest.number > self._durable:
            return  # another checkpoint came meanwhile, and the older segment may name the bytes: the next one trims
        work = self.drafts.begin_trim()
        try:
            if work:
                await self._workers.run(self.drafts.trim, work)
        finally:
            self.drafts.cuts.end_trim()

    async def sweep(self, live: Iterable[DraftId] = ()) -> int:
        """Makes the newest segment durable, then removes the draft files of earlier runs that no record and not ``live`` names
        (a crash took their record), or puts them to what was set aside, if anything was. Returns how many."""
        live = set(live)
        # All drafts of this run are kept: what is in use now may not have been when the caller counted.
        await self.compact(self.drafts.all())
        async with self._compacting:
            first_new = self._first_new_draft
            on_disk = await self._workers.run(self.drafts.on_disk)
            orphans = [draft for draft in on_disk if draft < first_new and draft not in live and draft not in self.drafts]
            paths = [self.drafts.path(draft) for draft in orphans]
            if self.recovered.set_aside:
                await self._workers.run(move_drafts_aside, self._disk, self._folder, paths)
            elif paths:
                await self._workers.run(self._unlink_all, paths)
            return len(paths)

    # About itself

    async def export_quarantine(self, folder: str) -> int:
        """Write what is quarantined into ``folder`` (see `export_changes`); how many files that gave. It stays quarantined."""
        return await trio.to_thread.run_sync(export_changes, self._disk, self.drafts, self.quarantine, folder)

    def free_bytes(self) -> int:
        """How much the disk of this journal has room for. DiskFailed."""
        return self._disk.free_bytes(self._folder)

    def unneeded_bytes(self, keep: Set[DraftId]) -> int:
        """How long the drafts are that records name and ``keep`` does not: what the next checkpoint may free. Blocks."""
        return sum(self._disk.file_size(self.drafts.path(draft)) for draft in self.drafts.all() - keep)

    @property
    def failed(self) -> bool:
        """Whether the disk failed the newest segment, so that only a ``checkpoint`` helps."""
        return self._newest is not None and self._newest.state is SegmentState.FAILED

    def figures(self) -> JournalFigures:
        """How much there is now."""
        newest = self._newest
        return JournalFigures(
            records=newest.records if newest else 0,
            size_bytes=newest.size if newest else 0,
            unsynced_bytes=newest.size - newest.size_synced if newest else 0,
            segments=len(self._segments) + len(self._older),
            drafts=len(self.drafts),
            drafts_sealed=self.drafts.sealed_count,
            reserve_bytes=self._reserve.size_bytes,
            base_blocks=len(self.pins),
            base_bytes=self.pins.size_bytes,
            failed=self.failed,
        )

    def close(self) -> None:
        """Gives descriptors back. Syncs nothing. No ``sync`` or ``compact`` may be under way."""
        if self._rounds.running:
            raise RuntimeError(f"the journal in {self._folder} is closed during a sync")
        self.drafts.close()
        self.pins.close()
        for segment in self._segments:
            self._files.close(segment)
        self._segments.clear()
        self._closed = True

    async def aclose(self) -> None:
        """The same, once the ``sync`` or ``compact`` under way is over. Later calls raise Stale."""
        async with self._compacting, self._sealer.busy:
            await self._rounds.idle()
            self.close()

    # Inside

    @property
    def _newest(self) -> Segment | None:
        """The segment that takes appends; None before the first record. Raises Stale after `close`."""
        if self._closed:
            raise Stale(f"the journal in {self._folder} is closed: its bucket was taken off the mount")
        return self._segments[-1] if self._segments else None

    def _live(self, frees_space: bool) -> Segment:
        """The segment that takes appends, begun now if need be. Raises NoSpace, DiskFailed, and then there is none."""
        while self._newest is None:
            try:
                self._segments.append(self._write_segment(self._base, ()))
            except NoSpace:
                if not (frees_space and self._reserve.release()):
                    raise
        return self._segments[-1]

    def _rest(self) -> None:
        """Close what is durable, for a mount may have more journals than a process may have files. What is not durable stays open:
        the kernel tells a failed write-back only to descriptors that were open then."""
        newest = self._newest
        if newest is not None and not self._rounds.running and newest.at_rest:
            self._files.close(newest)

    def _is_named(self, draft: DraftId) -> bool:
        return any(draft in segment.named for segment in self._segments)

    def _recover(self) -> None:
        for name in ("lock", "reserve"):  # of a bucketfs that had them for each journal
            with suppress(NotFound):
                self._disk.unlink(f"{self._folder}/{name}")
        self.pins.open()
        found = find_segment(self._disk, self._folder)
        on_disk = self.drafts.on_disk()
        self.recovered = recovery_of(found, on_disk)
        self._number_max = found.number_max
        self._older = found.older
        self.quarantine = self.recovered.quarantine
        # Of a draft that lost later bytes the earlier records still count.
        backed = {op.draft for op in self.recovered.ops if isinstance(op, SetContent)}
        backed |= self.quarantine.drafts() & on_disk.keys()
        named = found.scanned.named
        header_next = found.scanned.header.next_draft if found.scanned.header else 1
        self._first_new_draft = DraftId(max([header_next, *(draft + 1 for draft in named | on_disk.keys())]))
        self.drafts.adopt(backed, self._first_new_draft, found.scanned.seals)
        if found.number:
            # size_synced stays 0: whether the last run had synced these bytes is not known.
            records, size = found.scanned.records, found.scanned.good_size
            self._segments.append(Segment(found.number, None, SegmentState.LIVE, records, size, 0, named))
            self._disk.fsync_folder(self._folder)
        self._reserve.fill()

    def _write_segment(self, base: Cid | None, ops: Iterable[Op]) -> Segment:
        # A number is used once, also by a head that could not be finished: its file may still be there.
        self._number_max += 1
        header = Header(self._number_max, base, self.drafts.next_id)
        return self._files.write(header, self._head(ops))

    def _head(self, ops: Iterable[Op]) -> Iterator[Record]:
        named: set[DraftId] = set()
        for op in chain(ops, self.quarantine.records()):
            if isinstance(op, SetContent):
                named.add(op.draft)
            yield op
        for draft in sorted(named):
            yield from self.drafts.sealed(draft)

    async def _sync_round(self) -> None:
        """One sync of everything there is now."""
        work = self._decide_round()
        if work is not None:
            outcome = await self._workers.run(self._perform_round, work)
            self._note_round(work, *outcome)

    def _decide_round(self) -> _Work | None:
        live = self._newest
        if live is None:
            return None
        if live.state is SegmentState.FAILED:
            raise DiskFailed(f"the journal in {self._folder} failed", hint="it needs a checkpoint to go on")
        drafts = self.drafts.unsynced.decide(live.named)
        if live.size == live.size_synced and not drafts:
            return None
        return _Work(live, self._files.file(live), live.size, drafts)

    def _perform_round(self, work: _Work) -> tuple[dict[DraftId, BucketfsError], BucketfsError | None]:
        # Drafts first, then the record that names them, then the name of the segment.
        try:
            failed = self.drafts.perform_sync(work.drafts)
            self._disk.fsync(work.file)
            if work.segment.number > self._durable:
                self._disk.fsync_folder(self._folder)
                if not self._durable:
                    self._disk.fsync_folder(os.path.dirname(self._folder))
        except BucketfsError as error:
            return {}, error
        return failed, None

    def _note_round(self, work: _Work, failed: dict[DraftId, BucketfsError], error: BucketfsError | None) -> None:
        segment = work.segment
        if error is not None:
            if not isinstance(error, TooManyOpen):  # else no fsync failed: the next round may succeed
                segment.happens(SegmentEvent.DISK_FAILED)
            raise error
        self.drafts.unsynced.note(work.drafts, failed)
        segment.size_synced = work.size
        self._durable = max(self._durable, segment.number)
        for draft, reason in failed.items():
            raise DiskFailed(f"bytes of draft {draft} may not have reached the disk") from reason

    def _decide_compaction(self, candidates: set[DraftId]) -> list[str]:
        """Drops what a durable newer segment replaces. Returns the paths to unlink."""
        old = [segment for segment in self._segments if segment.number < self._durable]
        self._segments = self._segments[len(old) :]
        paths = [segment_path(self._folder, number) for number in self._older]
        self._older = []
        for segment in old:
            segment.happens(SegmentEvent.DELETED)
            self._files.close(segment)
            paths.append(segment_path(self._folder, segment.number))
        unnamed = [draft for draft in candidates if not self._is_named(draft)]
        return paths + self.drafts.forget(unnamed)

    def _unlink_all(self, paths: list[str]) -> None:
        for path in paths:
            with suppress(NotFound):
                self._disk.unlink(path)
