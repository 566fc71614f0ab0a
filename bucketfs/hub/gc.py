"""Collecting blocks that nothing needs any more: mark from the roots, sweep the rest, close the gaps.

Safe beside servers, in this process or others. What keeps a block:

1. a bucket's root leads to it. Roots are read, walked, and read again inside each deleting transaction; if one is new, the
   transaction is given up and the new root walked first.
2. an upload has a lease on it. Who is about to make a root that needs a block leases it *before* asking whether it is here
   (blockstore.py, promise 4), and lets go *after* the root was saved. The lease is a write to the same index, so it is either
   seen by the deleting transaction or comes after it, and then the block is found missing.
3. it was stored less than the grace age ago.

When a tree cannot be walked to its end, because a node is damaged or missing, nothing is deleted at all: what lies below is not
known.

Deleting a block gives its room in the pack back to the disk (a hole, where the file system has such), also in a pack that a running
hub appends to. Two transactions do it. The first marks the block as damaged, which is to say missing. The second makes the hole and
deletes the row: should it fail, the row goes on saying that the bytes are not there; and until it is committed the row keeps every
process from writing to that range. So a collection makes room on a disk that has none: it begins with the hub's reserve and goes in
smaller steps when one does not fit.

A pack that is more than half holes is rewritten: its blocks are appended to another, synced, re-registered, and then the file goes.
Packs that a process appends to are left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field

import sqlalchemy as sa

from bucketfs.dag import multihash_of, reachable
from bucketfs.errors import BucketfsError, Corrupt, NoSpace
from bucketfs.hub.config import HubConfig
from bucketfs.hub.db import Accounting, Database
from bucketfs.hub.db import schema as tables
from bucketfs.hub.store import (
    BlockStore,
    PackPlace,
    PackWriter,
    blockindex,
    give_up_reserve,
    open_pack,
    pack_path,
    punch,
    take_reserve,
)
from bucketfs.hub.trees import PrivateTree, Scales, WorkingSet, bucket_size
from bucketfs.types import Cid

GRACE_S = 3600.0
DELETED_AT_ONCE = 2000
DELETED_AT_LEAST = 50
"""Deletions that must fit one transaction, about 400 KiB of the index's log, on a disk that is nearly full."""
MOVED_BYTES_AT_ONCE = 32 * 1024 * 1024

Roots = set[tuple[Cid, bytes | None]]
"""Root and, of a private bucket, its link key."""


@dataclass(slots=True)
class Collected:
    """What a collection did."""

    blocks_kept: int = 0
    blocks_deleted: int = 0
    bytes_deleted: int = 0
    packs_removed: int = 0
    bytes_moved: int = 0


def collect(config: HubConfig, grace_s: float = GRACE_S) -> Collected:
    """Collects in the stores of a hub, which may be running. Raises Corrupt when a bucket is damaged, NoSpace, DiskFailed."""
    give_up_reserve(config.data)
    try:
        return _collected(config, grace_s)
    finally:
        take_reserve(config.data)


def _collected(config: HubConfig, grace_s: float) -> Collected:
    database = Database(config.database_url or tables.sqlite_url(config.data))
    try:
        store = BlockStore(config.data / "blocks")
        try:
            done = GarbageCollector(store, lambda: _roots(database), grace_s=grace_s).run()
            scales = Scales(WorkingSet(store))
            Accounting(database).correct_usage(
                lambda root, link_key: bucket_size(store, root, link_key) if link_key else scales.weigh(root)
            )
            return done
        finally:
            store.close()
    finally:
        database.close()


def _roots(database: Database) -> Roots:
    with database.read() as connection:
        rows = connection.execute(sa.select(tables.buckets.c.root, tables.buckets.c.link_key).distinct())
        return {(Cid(row.root), row.link_key) for row in rows}


@dataclass(slots=True)
class GarbageCollector:
    """One run over one store. ``roots`` reads the roots of all buckets anew at each call."""

    store: BlockStore
    roots: Callable[[], Roots]
    grace_s: float = GRACE_S
    _walked: Roots = field(default_factory=set)
    # By CID and not by multihash: the same bytes may be a leaf here and a node with children there.
    _marked: set[Cid] = field(default_factory=set)
    _kept: set[bytes] = field(default_factory=set)
    _done: Collected = field(default_factory=Collected)

    def run(self) -> Collected:
        """Does all of it."""
        # The age is counted from before the first root is read: what is stored from now on is none of ours.
        stored_before_ns = self.store.now_ns() - int(self.grace_s * 1e9)
        self.mark(self.roots())
        for batch in self.store.index.multihashes():
            unmarked = [name for name, stored_ns in batch if stored_ns < stored_before_ns and name not in self._kept]
            for start in range(0, len(unmarked), DELETED_AT_ONCE):
                self._sweep_as_it_fits(unmarked[start : start + DELETED_AT_ONCE], stored_before_ns)
        self._close_gaps()
        self.store.index.tidy(self.store.now_ns())
        self._done.blocks_kept = self.store.index.totals()[0]
        return self._done

    def mark(self, roots: Roots) -> None:
        """Notes everything that these roots lead to. Raises Corrupt."""
        for root, link_key in roots - self._walked:
            blocks = WorkingSet(self.store)
            try:
                if link_key is None:
                    found = blocks.run(reachable(root, self._marked))
                else:
                    found = PrivateTree(blocks, link_key).reachable(root, self._marked)
            except BucketfsError as error:
                raise Corrupt(f"nothing was collected, because a bucket's tree cannot be read: {error}") from error
            self._marked |= found
            self._kept.update(map(multihash_of, found))
            self._walked.add((root, link_key))

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
            with self.store.index.writing() as connection:
                roots = self.roots()
                if roots <= self._walked:
                    held = blockindex.leased(connection, self.store.now_ns())
                    unneeded = [name for name in names if name not in self._kept and name not in held]
                    condemned = blockindex.condemn_older(connection, unneeded, stored_before_ns)
                    break
            # Walking may take long; other writers must not be locked out meanwhile.
            self.mark(roots)
        if condemned:
            self._delete(condemned)

    def _delete(self, condemned: list[bytes]) -> None:
        with self.store.index.writing() as connection, ExitStack() as stack:
            places = blockindex.delete_condemned(connection, condemned)
            packs: dict[int, int | None] = {}
            for place in places:
                if place.pack:
                    if place.pack not in packs:
                        packs[place.pack] = stack.enter_context(open_pack(self.store.folder, place.pack))
                    punch(packs[place.pack], place.offset, place.size)
        self._done.blocks_deleted += len(places)
        self._done.bytes_deleted += sum(place.size for place in places)

    def _close_gaps(self) -> None:
        self.store.give_up_pack()
        # Empty ones first: they make room for what has to move.
        for number, (used_bytes, _) in sorted(self.store.index.pack_usage().items(), key=lambda pack: pack[1]):
            path = pack_path(self.store.folder, number)
            try:
                on_disk = path.stat().st_size
            except FileNotFoundError:
                if not used_bytes:
                    self.store.index.forget_pack(number)
                continue
            if used_bytes * 2 > on_disk:
                continue
            source = PackWriter.adopt(path, number)
            if source is None:
                continue
            try:
                self._move_all(number)
                path.unlink()
                self.store.index.forget_pack(number)
                self.store.readers.prune(number)
                self._done.packs_removed += 1
            except NoSpace:
                return  # the holes were given back already; another time the rest is made dense
            finally:
                source.close()

    def _move_all(self, number: int) -> None:
        """Moves every sound block of a pack elsewhere. A damaged one keeps its row, which says so, and loses its bytes."""
        target: PackWriter | None = None
        try:
            for batch in _batches(self.store.index.in_pack(number)):
                target = target or self.store.begin_pack()
                self._move(batch, target)
        finally:
            if target is not None:
                target.close()

    def _move(self, batch: list[tuple[bytes, PackPlace]], target: PackWriter) -> None:
        sound: list[tuple[bytes, PackPlace, bytes]] = []
        for name, place in batch:
            data = self.store.read_checked(name, place)
            if data is not None:
                sound.append((name, place, data))
        offset = target.append([data for _, _, data in sound])
        target.sync()
        moves = []
        for name, place, data in sound:
            moves.append((name, place, PackPlace(target.number, offset, len(data))))
            offset += len(data)
        self.store.index.move(moves)
        self._done.bytes_moved += sum(place.size for _, _, place in moves)


def _batches(live: Iterable[tuple[bytes, PackPlace]]) -> Iterable[list[tuple[bytes, PackPlace]]]:
    batch: list[tuple[bytes, PackPlace]] = []
    size_bytes = 0
    for name, place in live:
        if batch and size_bytes + place.size > MOVED_BYTES_AT_ONCE:
            yield batch
            batch, size_bytes = [], 0
        batch.append((name, place))
        size_bytes += place.size
    if batch:
        yield batch
