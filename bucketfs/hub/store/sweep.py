"""Sweeping a disk block store: what is not needed is deleted, its room given back, and packs full of holes are rewritten.

Deleting a block gives its room in the pack back to the disk (a hole, where the file system has such), also in a pack that a
running Hub appends to. Two transactions do it. The first marks the block as damaged, which is to say missing. The second makes
the hole and deletes the row: should it fail, the row still says that the bytes are not there; and until it is committed the row
keeps every process from writing to that range. So a sweep makes room on a disk that has none; it goes in smaller steps when one
does not fit.

A pack that is more than half holes is rewritten: its blocks are appended to another, synced, re-registered, and then the file is
removed. Packs that a process appends to are left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bucketfs.dag import verify
from bucketfs.errors import Corrupt, NoSpace
from bucketfs.hub.store.block_store import Collected, Marks
from bucketfs.hub.store.blockindex import BlockIndex, PackPlace, condemn_older, delete_condemned, leased
from bucketfs.hub.store.group_commit import GroupCommit
from bucketfs.hub.store.packs import PackReaders, PackWriter, open_pack, pack_path, punch
from bucketfs.types import Cid

DELETED_AT_ONCE = 2000
DELETED_AT_LEAST = 50
"""Deletions that must fit one transaction, about 400 KiB of the index's log, on a disk that is nearly full."""
MOVED_BYTES_AT_ONCE = 32 * 1024 * 1024


@dataclass(slots=True)
class Sweep:
    """One run over one store."""

    folder: Path
    index: BlockIndex
    readers: PackReaders
    commit: GroupCommit
    marks: Marks
    now_ns: Callable[[], int]
    _done: Collected = field(default_factory=Collected)

    def run(self, grace_s: float) -> Collected:
        """Does all of it. Raises Corrupt before anything is deleted, NoSpace, DiskFailed."""
        # The age is counted from before the first root is read: a block stored from now on may belong to a root not yet read.
        stored_before_ns = self.now_ns() - int(grace_s * 1e9)
        self.marks.update()
        for batch in self.index.multihashes():
            unmarked = [name for name, stored_ns in batch if stored_ns < stored_before_ns and not self.marks.hold(name)]
            for start in range(0, len(unmarked), DELETED_AT_ONCE):
                self._sweep_as_it_fits(unmarked[start : start + DELETED_AT_ONCE], stored_before_ns)
        self._close_gaps()
        self.index.tidy(self.now_ns())
        self._done.blocks_kept = self.index.totals()[0]
        return self._done

    def _sweep_as_it_fits(self, names: list[bytes], stored_before_ns: int) -> None:
        try:
            self._sweep(names, stored_before_ns)
        except NoSpace:
            if len(names) <= DELETED_AT_LEAST:
                raise
            middle = len(names) // 2
            for half in (names[:middle], names[middle:]):
                self._sweep_as_it_fits(half, stored_before_ns)

    def _sweep(self, names: list[bytes], stored_before_ns: int) -> None:
        while True:
            with self.index.writing() as connection:
                # Inside the transaction: an upload leases what it counts on in this very file before it asks for the last time
                # whether that is here, and releases it after its root was saved. So each block of a new root is either leased,
                # or below a root that `are_current` sees, or deleted and then reported missing.
                if self.marks.are_current():
                    held = leased(connection, self.now_ns())
                    unneeded = [name for name in names if not self.marks.hold(name) and name not in held]
                    condemned = condemn_older(connection, unneeded, stored_before_ns)
                    break
            # Walking may take long, so it is not done while the transaction keeps all writers waiting.
            self.marks.update()
        if condemned:
            self._delete(condemned)

    def _delete(self, condemned: list[bytes]) -> None:
        with self.index.writing() as connection, ExitStack() as stack:
            locations = delete_condemned(connection, condemned)
            packs: dict[int, int | None] = {}
            for at in locations:
                if at.pack:
                    if at.pack not in packs:
                        packs[at.pack] = stack.enter_context(open_pack(self.folder, at.pack))
                    punch(packs[at.pack], at.offset, at.size)
        self._done.blocks_deleted += len(locations)
        self._done.bytes_deleted += sum(at.size for at in locations)

    def _close_gaps(self) -> None:
        self.commit.give_up_pack()
        # Empty ones first: they make room for what has to move.
        for number, (used_bytes, _) in sorted(self.index.pack_usage().items(), key=lambda pack: pack[1]):
            path = pack_path(self.folder, number)
            try:
                on_disk = path.stat().st_size
            except FileNotFoundError:
                if not used_bytes:
                    self.index.forget_pack(number)
                continue
            if used_bytes * 2 > on_disk:
                continue
            source = PackWriter.adopt(path, number)
            if source is None:
                continue
            try:
                self._move_all(number)
                path.unlink()
                self.index.forget_pack(number)
                self.readers.prune(number)
                self._done.packs_removed += 1
            except NoSpace:
                return  # the holes were given back already; the rest is made dense another time
            finally:
                source.close()

    def _move_all(self, number: int) -> None:
        """Moves every sound block of a pack elsewhere. A damaged one keeps its row, which says so, and loses its bytes."""
        target: PackWriter | None = None
        try:
            for batch in _batches(self.index.in_pack(number)):
                target = target or self.commit.begin_pack()
                self._move(batch, target)
        finally:
            if target is not None:
                target.close()

    def _move(self, batch: list[tuple[bytes, PackPlace]], target: PackWriter) -> None:
        sound = [(name, at, data) for name, at in batch if (data := self._read_sound(name, at)) is not None]
        offset = target.append([data for _, _, data in sound])
        target.sync()
        moves = []
        for name, at, data in sound:
            moves.append((name, at, PackPlace(target.number, offset, len(data))))
            offset += len(data)
        self.index.move(moves)
        self._done.bytes_moved += sum(at.size for _, _, at in moves)

    def _read_sound(self, multihash: bytes, at: PackPlace) -> bytes | None:
        """The bytes at a location; ``None`` (and marked) when they are not the block that belongs there."""
        data = self.readers.read(at.pack, at.offset, at.size)
        try:
            verify(Cid(b"\x01\x55" + multihash), data)
        except Corrupt:
            self.index.mark_damaged(multihash, at)
            return None
        return data


def _batches(live: Iterable[tuple[bytes, PackPlace]]) -> Iterator[list[tuple[bytes, PackPlace]]]:
    batch: list[tuple[bytes, PackPlace]] = []
    size_bytes = 0
    for name, at in live:
        if batch and size_bytes + at.size > MOVED_BYTES_AT_ONCE:
            yield batch
            batch, size_bytes = [], 0
        batch.append((name, at))
        size_bytes += at.size
    if batch:
        yield batch
