"""The index of the block store: one SQLite file that knows where each block is and who holds on to it.

Tables (WAL mode; several processes may have the file open)::

    packs   id                                          one row per pack file; ids are never used again
    blocks  multihash -> pack, offset, size, stored_ns, damaged
                                                        pack 0: the bytes are row `offset` of `small`
    small   id -> data                                  blocks below the pack threshold
    uploads upload -> expires_ns                        pushes in progress
    leases  id -> upload, multihashes                   what they count on; each multihash behind one length byte

A block is found by its multihash alone: CIDs that differ in version or codec name the same bytes.

``stored_ns`` and ``expires_ns`` are wall-clock nanoseconds since 1970. ``damaged`` is set when a read found other bytes than
the name promises: the block then counts as missing, so that the next client that has it brings it back.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from bucketfs.hub.store.index_file import IndexFile

QUESTION_MAX = 1000
"""Multihashes asked for in one statement; SQLite allows 32,766 parameters."""

LEASE_BYTES_FREE = 1 << 20
"""What the lease of one upload may take before its rows are put together."""


@dataclass(frozen=True, slots=True)
class PackPlace:
    """Where the bytes of a block are: a range of a pack, or (pack 0) a row of ``small``."""

    pack: int
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class StoredBlock:
    """What the index knows of a block; ``data`` for a small one."""

    place: PackPlace
    damaged: bool
    data: bytes | None


class BlockIndex:
    """The tables of the index. Thread-safe, and several processes may use one file."""

    def __init__(self, path: Path, *, busy_timeout_s: float = 30) -> None:
        self._file = IndexFile(path, busy_timeout_s)

    def close(self) -> None:
        """See `IndexFile.close`."""
        self._file.close()

    # Questions

    def find(self, multihashes: Collection[bytes]) -> dict[bytes, StoredBlock]:
        """Those that are known, damaged ones too."""
        found: dict[bytes, StoredBlock] = {}
        for part in _parts(multihashes):
            marks = ",".join("?" * len(part))
            sql = (
                "SELECT b.multihash, b.pack, b.offset, b.size, b.damaged, s.data FROM blocks b"
                f" LEFT JOIN small s ON b.pack = 0 AND s.id = b.offset WHERE b.multihash IN ({marks})"
            )
            for multihash, pack, offset, size, damaged, row in self._file.read(sql, part):
                found[multihash] = StoredBlock(PackPlace(pack, offset, size), bool(damaged), row)
        return found

    def present(self, multihashes: Collection[bytes]) -> set[bytes]:
        """Those that are known and not damaged."""
        present: set[bytes] = set()
        for part in _parts(multihashes):
            marks = ",".join("?" * len(part))
            rows = self._file.read(f"SELECT multihash FROM blocks WHERE multihash IN ({marks}) AND damaged = 0", part)
            present.update(row[0] for row in rows)
        return present

    def multihashes(self) -> Iterator[list[tuple[bytes, int]]]:
        """Every block with its ``stored_ns``, in batches, in order; those that come and go meanwhile may or may not show."""
        last = b""
        while True:
            rows = self._file.read(
                "SELECT multihash, stored_ns FROM blocks WHERE multihash > ? ORDER BY multihash LIMIT 10000", (last,)
            )
            if not rows:
                return
            yield rows
            last = rows[-1][0]

    def pack_usage(self) -> dict[int, tuple[int, int]]:
        """Per pack: bytes that rows name, and where the last of them ends."""
        sql = "SELECT pack, sum(size), max(offset + size) FROM blocks WHERE pack > 0 GROUP BY pack"
        usage = {pack: (used, end) for pack, used, end in self._file.read(sql, ())}
        for (pack,) in self._file.read("SELECT id FROM packs", ()):
            usage.setdefault(pack, (0, 0))
        return usage

    def pack_end(self, pack: int) -> int:
        """Where the last block that a row places in this pack ends."""
        return int(self._file.read("SELECT coalesce(max(offset + size), 0) FROM blocks WHERE pack = ?", (pack,))[0][0])

    def in_pack(self, pack: int) -> list[tuple[bytes, PackPlace]]:
        """The blocks of a pack that are not damaged, in the order of the disk."""
        sql = "SELECT multihash, pack, offset, size FROM blocks WHERE pack = ? AND damaged = 0 ORDER BY offset"
        return [(name, PackPlace(number, offset, size)) for name, number, offset, size in self._file.read(sql, (pack,))]

    def totals(self) -> tuple[int, int, int]:
        """Blocks, their bytes, and how many blocks are damaged."""
        sql = "SELECT count(*), coalesce(sum(size), 0), coalesce(sum(damaged), 0) FROM blocks"
        count, size, damaged = self._file.read(sql, ())[0]
        return count, size, damaged

    def lease_count(self, now_ns: int) -> int:
        """Uploads that hold a lease."""
        return int(self._file.read("SELECT count(*) FROM uploads WHERE expires_ns > ?", (now_ns,))[0][0])

    # Changes without a sync

    def lease(self, upload: bytes, multihashes: Iterable[bytes], expires_ns: int) -> int | None:
        """The upload counts on these too, and on all it named before, until ``expires_ns``. The row that says so; none for none."""
        packed = pack_multihashes(multihashes)
        with self._file.quick("leasing blocks") as connection:
            if not packed:
                # Of an upload that holds nothing there is nothing to be noted.
                connection.execute("UPDATE uploads SET expires_ns = ? WHERE upload = ?", (expires_ns, upload))
                return None
            connection.execute("INSERT OR REPLACE INTO uploads VALUES (?, ?)", (upload, expires_ns))
            row = connection.execute("INSERT INTO leases (upload, multihashes) VALUES (?, ?)", (upload, packed)).lastrowid
            return _compacted(connection, upload, row)

    def take_back_lease(self, row: int | None) -> None:
        """What this row names was not stored after all."""
        with self._file.quick("releasing a lease") as connection:
            connection.execute("DELETE FROM leases WHERE id = ?", (row,))

    def release(self, upload: bytes, now_ns: int) -> None:
        """The upload needs its blocks no more. Expired leases go too."""
        with self._file.quick("releasing a lease") as connection:
            connection.execute("DELETE FROM leases WHERE upload = ?", (upload,))
            connection.execute("DELETE FROM uploads WHERE upload = ?", (upload,))
            for (expired,) in connection.execute("SELECT upload FROM uploads WHERE expires_ns <= ?", (now_ns,)).fetchall():
                connection.execute("DELETE FROM leases WHERE upload = ?", (expired,))
                connection.execute("DELETE FROM uploads WHERE upload = ?", (expired,))

    def mark_damaged(self, multihash: bytes, place: PackPlace) -> None:
        """The bytes at this place are not the block; unless it has moved meanwhile."""
        with self._file.quick("marking a damaged block") as connection:
            connection.execute(
                "UPDATE blocks SET damaged = 1 WHERE multihash = ? AND pack = ? AND offset = ?",
                (multihash, place.pack, place.offset),
            )

    # Changes that are durable when the call returns

    def writing(self) -> AbstractContextManager[sqlite3.Connection]:
        """A write transaction, durable once the block is left, undone when it raises. No other process writes meanwhile."""
        return self._file.durable()

    def new_pack(self) -> int:
        """A pack number that was never used."""
        with self.writing() as connection:
            number = connection.execute("INSERT INTO packs DEFAULT VALUES").lastrowid
        assert number is not None
        return number

    def add(self, large: Sequence[tuple[bytes, PackPlace]], small: Sequence[tuple[bytes, bytes]], now_ns: int) -> None:
        """Blocks that were stored: places in packs already synced, and bytes of small ones. Those already known stay put."""
        with self.writing() as connection:
            names = [name for name, _ in large] + [name for name, _ in small]
            known = self._known(connection, names)
            damaged = [name for name, is_damaged in known.items() if is_damaged]
            _delete(connection, damaged)
            sound = known.keys() - set(damaged)
            rows = [(name, at.pack, at.offset, at.size, now_ns) for name, at in large if name not in sound]
            bodies = [(name, data) for name, data in small if name not in sound]
            first = connection.execute("SELECT coalesce(max(id), 0) + 1 FROM small").fetchone()[0]
            connection.executemany("INSERT INTO small VALUES (?, ?)", enumerate((data for _, data in bodies), first))
            rows += [(name, 0, number, len(data), now_ns) for number, (name, data) in enumerate(bodies, first)]
            connection.executemany("INSERT INTO blocks VALUES (?, ?, ?, ?, ?, 0)", rows)

    def move(self, moves: Iterable[tuple[bytes, PackPlace, PackPlace]]) -> None:
        """Blocks that were copied, and the copies synced: multihash, where it was, where it is. One that went or moved stays so."""
        with self.writing() as connection:
            connection.executemany(
                "UPDATE blocks SET pack = ?, offset = ? WHERE multihash = ? AND pack = ? AND offset = ?",
                [(new.pack, new.offset, name, old.pack, old.offset) for name, old, new in moves],
            )

    def forget_pack(self, pack: int) -> None:
        """The file of this pack is gone."""
        with self.writing() as connection:
            connection.execute("DELETE FROM packs WHERE id = ?", (pack,))

    def tidy(self, now_ns: int) -> None:
        """Drops leases that have expired, and gives the room of deleted rows back to the disk."""
        with self.writing() as connection:
            connection.execute("DELETE FROM uploads WHERE expires_ns <= ?", (now_ns,))
            connection.execute("DELETE FROM leases WHERE upload NOT IN (SELECT upload FROM uploads)")
        self._file.give_room_back()

    @staticmethod
    def _known(connection: sqlite3.Connection, multihashes: Collection[bytes]) -> dict[bytes, bool]:
        known: dict[bytes, bool] = {}
        for part in _parts(multihashes):
            marks = ",".join("?" * len(part))
            rows = connection.execute(f"SELECT multihash, damaged FROM blocks WHERE multihash IN ({marks})", part)
            known.update((name, bool(damaged)) for name, damaged in rows)
        return known


def leased(connection: sqlite3.Connection, now_ns: int) -> set[bytes]:
    """Every multihash that some upload counts on, as this transaction sees it."""
    held: set[bytes] = set()
    rows = connection.execute("SELECT multihashes FROM leases JOIN uploads USING (upload) WHERE expires_ns > ?", (now_ns,))
    for (packed,) in rows:
        held.update(unpack_multihashes(packed))
    return held


def condemn_older(connection: sqlite3.Connection, multihashes: Iterable[bytes], stored_before_ns: int) -> list[bytes]:
    """Marks those that were stored before that time as damaged, so that from now on they are missing; which they were."""
    condemned: list[bytes] = []
    for part in _parts(list(multihashes)):
        older = f"multihash IN ({','.join('?' * len(part))}) AND stored_ns < ?"
        values = [*part, stored_before_ns]
        rows = connection.execute(f"SELECT multihash FROM blocks WHERE {older}", values).fetchall()
        connection.execute(f"UPDATE blocks SET damaged = 1 WHERE {older}", values)
        condemned += [name for (name,) in rows]
    return condemned


def delete_condemned(connection: sqlite3.Connection, multihashes: Iterable[bytes]) -> list[PackPlace]:
    """Deletes the rows of condemned blocks, but of those that were stored again meanwhile; where their bytes are."""
    places: list[PackPlace] = []
    for part in _parts(list(multihashes)):
        marks = ",".join("?" * len(part))
        rows = connection.execute(
            f"SELECT multihash, pack, offset, size FROM blocks WHERE multihash IN ({marks}) AND damaged = 1", part
        ).fetchall()
        _delete(connection, [name for name, *_ in rows])
        places += [PackPlace(pack, offset, size) for _, pack, offset, size in rows]
    return places


def _delete(connection: sqlite3.Connection, multihashes: Sequence[bytes]) -> None:
    for part in _parts(multihashes):
        marks = ",".join("?" * len(part))
        inner = f"SELECT offset FROM blocks WHERE pack = 0 AND multihash IN ({marks})"
        connection.execute(f"DELETE FROM small WHERE id IN ({inner})", part)
        connection.execute(f"DELETE FROM blocks WHERE multihash IN ({marks})", part)


def pack_multihashes(multihashes: Iterable[bytes]) -> bytes:
    """One value of the ``multihashes`` column."""
    return b"".join(bytes((len(one),)) + one for one in multihashes)


def unpack_multihashes(packed: bytes) -> list[bytes]:
    """The reverse."""
    found = []
    at = 0
    while at < len(packed):
        end = at + 1 + packed[at]
        found.append(packed[at + 1 : end])
        at = end
    return found


def _parts(multihashes: Collection[bytes]) -> Iterator[list[bytes]]:
    names = list(multihashes)
    for start in range(0, len(names), QUESTION_MAX):
        yield names[start : start + QUESTION_MAX]


def _compacted(connection: sqlite3.Connection, upload: bytes, row: int | None) -> int | None:
    """Puts the rows of an upload together when they may repeat one another: a client may name the same blocks in every call.

    Done when they are twice as large as the largest of them, which is what the last time left: so it costs no more than the
    rows did. The row that may be taken back is none then: what it names stays for the lease.
    """
    sql = "SELECT coalesce(max(length(multihashes)), 0), coalesce(sum(length(multihashes)), 0) FROM leases WHERE upload = ?"
    largest, total = connection.execute(sql, (upload,)).fetchone()
    if total < max(LEASE_BYTES_FREE, 2 * largest):
        return row
    names: set[bytes] = set()
    for (packed,) in connection.execute("SELECT multihashes FROM leases WHERE upload = ?", (upload,)):
        names.update(unpack_multihashes(packed))
    connection.execute("DELETE FROM leases WHERE upload = ?", (upload,))
    connection.execute("INSERT INTO leases (upload, multihashes) VALUES (?, ?)", (upload, pack_multihashes(names)))
    return None
