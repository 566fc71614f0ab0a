"""A block store on the disk of one machine: large blocks in pack files, small ones in the rows of a SQLite index.

A block of 16 KiB or more goes to a pack, a smaller one becomes a row (measured: as rows large blocks are five times slower, as
files small ones are). A batch costs one sync of the pack and one of the index, however many blocks it has, and streams that finish
together share them. Each process appends to a pack of its own, so several may open one folder.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from bucketfs.dag import DAG_PB, codec_of, identity_block, multihash_of, verify
from bucketfs.disk import make_private_folder
from bucketfs.errors import BucketfsError, Corrupt, NoSpace, NotFound
from bucketfs.hub.store.block_store import LEASE_S, Blocks, Collected, Marks, StoredCounts, StoreFigures, UploadCheck
from bucketfs.hub.store.blockindex import BlockIndex, StoredBlock
from bucketfs.hub.store.group_commit import Batch, GroupCommit
from bucketfs.hub.store.packs import PackReaders, disk_error
from bucketfs.hub.store.sweep import Sweep
from bucketfs.types import Cid

PACK_BYTES_MAX = 512 * 1024 * 1024
RESERVE_BYTES = 32 * 1024 * 1024
"""Room on the disk that contents of files never take, so that nodes, the index and the database can still be written: what removes
something from a bucket is new nodes, too."""
NODES_RESERVE_BYTES = RESERVE_BYTES // 2
"""What nodes that clients send leave of it. What the hub itself writes to make a bucket smaller may take all there is."""
ITERATED_AT_ONCE = 128
"""Places that ``iterate`` looks up in one question. The bytes of small blocks come with the answer."""


class DiskBlockStore:
    """A `BlockStore` in a folder."""

    def __init__(
        self,
        folder: Path,
        *,
        now_ns: Callable[[], int] = time.time_ns,
        pack_bytes_max: int = PACK_BYTES_MAX,
        reserve_bytes: int = RESERVE_BYTES,
        nodes_reserve_bytes: int = NODES_RESERVE_BYTES,
        lease_s: float = LEASE_S,
        make_scratch: Callable[[], object] = lambda: None,
    ) -> None:
        """Opens or makes the store in ``folder``. ``make_scratch`` is called before each change, to have some room for it on a disk
        that has none. Raises NoSpace, DiskFailed, Unsupported (a newer format)."""
        make_private_folder(folder)
        self.folder = folder
        self.now_ns = now_ns
        self.index = BlockIndex(folder / "index.sqlite")
        self.readers = PackReaders(folder)
        self._reserve_bytes = reserve_bytes
        self._nodes_reserve_bytes = min(reserve_bytes, nodes_reserve_bytes)
        self._make_scratch = make_scratch
        self._lease_ns = int(lease_s * 1e9)
        self._commit = GroupCommit(folder, self.index, pack_bytes_max, now_ns, self.readers.prune_removed)

    def close(self) -> None:
        try:
            self._commit.flush()
        finally:
            self._commit.give_up_pack()
            self.readers.close()
            self.index.close()

    # Reading

    def get(self, cid: Cid) -> bytes:
        found = self.get_many((cid,))
        if cid not in found:
            raise NotFound("the hub does not hold a block that was asked for")
        return found[cid]

    def get_many(self, cids: Collection[Cid]) -> dict[Cid, bytes]:
        found: dict[Cid, bytes] = {}
        wanted: dict[bytes, list[Cid]] = {}
        for cid in cids:
            inline = identity_block(cid)
            if inline is not None:
                found[cid] = inline
            else:
                wanted.setdefault(multihash_of(cid), []).append(cid)
        places = self._look_up(wanted)
        for multihash, at in places.items():
            same = wanted[multihash]
            data = self._bytes_at(same[0], multihash, at)
            if data is not None:
                found.update((cid, data) for cid in same)
        return found

    def iterate(self, cids: Sequence[Cid]) -> Iterator[tuple[Cid, bytes | None]]:
        for start in range(0, len(cids), ITERATED_AT_ONCE):
            part = cids[start : start + ITERATED_AT_ONCE]
            places = self._look_up({multihash_of(cid) for cid in part})
            for cid in part:
                data = identity_block(cid)
                multihash = multihash_of(cid)
                if data is None and multihash in places:
                    data = self._bytes_at(cid, multihash, places[multihash])
                yield cid, data

    def missing(self, cids: Collection[Cid], upload: bytes = b"") -> list[Cid]:
        wanted = {cid: multihash_of(cid) for cid in cids if identity_block(cid) is None}
        present = self._present(set(wanted.values()))
        if upload:
            # Only what is here is leased: anyone can make up names of what is not. The lease is written before the last look
            # (promise 4): what the collector deletes in between is then reported missing.
            self.lease(upload, present)
            present = self._present(present)
        return [cid for cid, multihash in wanted.items() if multihash not in present]

    def lengths(self, cids: Collection[Cid]) -> dict[Cid, int]:
        inline = {cid: len(data) for cid in cids if (data := identity_block(cid)) is not None}
        names = {cid: multihash_of(cid) for cid in cids if cid not in inline}
        found = self._look_up(set(names.values()))
        return inline | {cid: found[name].place.size for cid, name in names.items() if name in found}

    def _look_up(self, names: Collection[bytes]) -> dict[bytes, StoredBlock]:
        # Pending first: a batch that becomes durable in between is then found in the index, never in neither.
        found = self._commit.find(names)
        found.update(self.index.find([name for name in names if name not in found]))
        return found

    def _present(self, names: set[bytes]) -> set[bytes]:
        pending = self._commit.holds(names)
        return self.index.present(names - pending) | pending

    def _bytes_at(self, cid: Cid, multihash: bytes, found: StoredBlock) -> bytes | None:
        """Reads and checks. ``None`` when the collector took the block away meanwhile; Corrupt when its pack is gone."""
        if found.damaged:
            raise Corrupt(
                "a block of the hub is damaged on its disk", hint="it is mended when a client that has it pushes it again"
            )
        data = found.data
        if data is None:
            try:
                data = self.readers.read(found.place.pack, found.place.offset, found.place.size)
            except NotFound:
                # Packs are removed only after their live blocks moved: look again where it is now.
                again = self.index.find((multihash,)).get(multihash)
                if again is None:
                    return None
                if again.place != found.place:
                    return self._bytes_at(cid, multihash, again)
                data = b""
        try:
            if len(data) != found.place.size:
                raise Corrupt(f"{len(data)} bytes where {found.place.size} were stored")
            verify(cid, data)
        except Corrupt as error:
            if multihash not in self.index.find((multihash,)):
                return None  # collected meanwhile, and its room given back
            self.index.mark_damaged(multihash, found.place)
            raise Corrupt("a block of the hub is damaged on its disk") from error
        return data

    # Writing

    def receive(self, upload: bytes = b"", admission: UploadCheck | None = None) -> DiskBlockWriter:
        return DiskBlockWriter(self, upload, admission)

    def put_many(
        self, blocks: Blocks, *, upload: bytes = b"", verified: bool = False, makes_room: bool = False
    ) -> StoredCounts:
        with self.receive(upload) as writer:
            counts = writer.put(blocks, verified=verified, makes_room=makes_room)
            writer.finish()
        return counts

    def lease(self, upload: bytes, multihashes: Iterable[bytes]) -> int | None:
        """These, and all that the upload named before, are kept for another lease time. The row of the index that says so."""
        self._make_scratch()
        return self.index.lease(upload, multihashes, self.now_ns() + self._lease_ns)

    def release(self, upload: bytes) -> None:
        self.index.release(upload, self.now_ns())

    def collect(self, marks: Marks, grace_s: float) -> Collected:
        return Sweep(self.folder, self.index, self.readers, self._commit, marks, self.now_ns).run(grace_s)

    def figures(self) -> StoreFigures:
        blocks, size_bytes, damaged = self.index.totals()
        sizes = [path.stat().st_size for path in self.folder.glob("*.pack")]
        return StoreFigures(blocks, size_bytes, damaged, len(sizes), sum(sizes), self.index.lease_count(self.now_ns()))

    def add(self, blocks: Mapping[bytes, bytes], reserve_bytes: int) -> tuple[list[Batch], int, int]:
        """See `GroupCommit.add`; ``reserve_bytes`` stay free on the disk."""
        return self._commit.add(blocks, lambda size_bytes: self.check_room(size_bytes, reserve_bytes))

    def flush(self, batch: Batch | None = None) -> None:
        """See `GroupCommit.flush`."""
        self._commit.flush(batch)

    def reserve_for(self, cids: Iterable[Cid], *, makes_room: bool = False) -> int:
        """How much must stay free when these blocks are stored."""
        if makes_room:
            return 0
        are_nodes = all(codec_of(cid) == DAG_PB for cid in cids)
        return self._nodes_reserve_bytes if are_nodes else self._reserve_bytes

    def check_room(self, size_bytes: int, reserve_bytes: int | None = None) -> None:
        """Raises NoSpace when that many bytes more do not fit on the disk beside what is kept free, DiskFailed."""
        try:
            disk = os.statvfs(self.folder)
        except OSError as error:
            raise disk_error(error, "asking for the room of the disk") from error
        if disk.f_bavail * disk.f_frsize < size_bytes + (self._reserve_bytes if reserve_bytes is None else reserve_bytes):
            raise NoSpace("storing blocks: the disk of the hub is full")


class DiskBlockWriter:
    """A `BlockWriter`."""

    def __init__(self, store: DiskBlockStore, upload: bytes, admission: UploadCheck | None = None) -> None:
        self._store = store
        self._admission = admission
        # Without an upload of the client's the blocks need a lease as well, until a root holds them or the grace age does.
        self._upload = upload or secrets.token_bytes(16)
        self._batches: list[Batch] = []

    def __enter__(self) -> DiskBlockWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._batches.clear()

    def put(self, blocks: Blocks, *, verified: bool = False, makes_room: bool = False) -> StoredCounts:
        pairs = list(blocks.items() if isinstance(blocks, Mapping) else blocks)
        if not verified:
            for cid, data in pairs:
                verify(cid, data)
        new = self._admitted(pairs)
        try:
            batches, stored, stored_bytes = self._leased(pairs, makes_room)
        except BucketfsError:
            if self._admission is not None:
                self._admission.take_back(new)
            raise
        self._batches.extend(batch for batch in batches if not any(batch is known for known in self._batches))
        return StoredCounts(len(pairs), stored, sum(len(data) for _, data in pairs), stored_bytes)

    def _admitted(self, pairs: Sequence[tuple[Cid, bytes]]) -> Mapping[Cid, int]:
        """Those of the blocks that are not here, by their lengths, once they are admitted."""
        if self._admission is None:
            return {}
        absent = set(self._store.missing([cid for cid, _ in pairs]))
        new = {cid: len(data) for cid, data in pairs if cid in absent}
        self._admission.admit(new)
        return new

    def _leased(self, pairs: Sequence[tuple[Cid, bytes]], makes_room: bool) -> tuple[list[Batch], int, int]:
        named = {multihash_of(cid): data for cid, data in pairs if identity_block(cid) is None}
        # Before the store is asked what it has: see promise 4.
        row = self._store.lease(self._upload, named)
        try:
            return self._store.add(named, self._store.reserve_for((cid for cid, _ in pairs), makes_room=makes_room))
        except BucketfsError:
            # What was not stored must not stay in the index as if it were.
            self._store.index.take_back_lease(row)
            raise

    def finish(self) -> None:
        for batch in self._batches:
            self._store.flush(batch)
        self._batches.clear()
