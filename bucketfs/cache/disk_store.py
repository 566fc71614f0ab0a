"""The disk tier's files and rows. Everything here blocks, and runs on worker threads.

::

    0/lock                            held by the process that uses this slot; another process takes the next number
    0/blocks/9f/1220…9f               a block of 16 KiB or more: the file is the block, its name the multihash in hex
    0/index.sqlite                    which blocks there are, and the bytes of the smaller ones

Files are faster for large blocks, rows for small ones (measured: 256 KiB as files 630 MB/s, as rows 129). Nothing is synced: what a
crash takes is fetched again, and what it spoils does not match its CID. One thread at a time may use the database (``open``,
``read_rows``, ``commit``, ``close``); files may be read from any thread and are written from one.

The user may delete the whole folder while we run. Then a read finds nothing, and the next write notices that the database file is
no longer the one that is open, and raises StoreLost.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence

from bucketfs.dag import multihash_of, verify
from bucketfs.disk import Disk, DiskFile, make_private_file, make_private_folder
from bucketfs.errors import BucketfsError, Busy, Corrupt, NoSpace, NotFound
from bucketfs.types import Cid

FILE_SIZE_MIN = 16 * 1024
SLOTS_MAX = 64
SCHEMA_VERSION = 1

Entry = tuple[bytes, int, int]
"""Key (the multihash), size in bytes, epoch of the last use."""

_SHARD = re.compile("[0-9a-f]{2}")
_NAME = re.compile("[0-9a-f]{4,}")

# entries: every block there is, small or large. Apart from the bytes, so that reading all of it at a start is quick.
# small: the bytes of the blocks below FILE_SIZE_MIN.
_SCHEMA = f"""
create table entries (key blob primary key, size integer not null, epoch integer not null) without rowid;
create table small (key blob primary key, data blob not null);
pragma user_version = {SCHEMA_VERSION};
"""


class StoreLost(Exception):
    """The folder was deleted or spoilt under us; ``open`` makes a new one."""


class DiskStore:
    """One slot of the cache folder. See the module for which method may run on which thread."""

    def __init__(self, disk: Disk, folder: str) -> None:
        self._disk = disk
        self._root = folder
        self._slot = ""
        self._lock: DiskFile | None = None
        self._database: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None

    # The database thread

    def open(self) -> list[Entry]:
        """Takes a slot and returns what is in it, least recently used first. StoreLost when the folder cannot be used."""
        self.close()
        try:
            make_private_folder(self._root)
            self._take_slot()
            make_private_folder(f"{self._slot}/blocks")
            try:
                self._open_database()
            except sqlite3.Error:
                # Spoilt by a crash, or of another version: a cache is not worth a repair.
                self._close_database()
                self._remove_database()
                self._open_database()
            return self._reconcile()
        except (OSError, sqlite3.Error, BucketfsError) as error:
            self.close()
            raise StoreLost(f"the cache folder {self._root} cannot be used: {error}") from error

    def read_rows(self, cids: Sequence[Cid]) -> tuple[dict[Cid, bytes], int]:
        """Those of the small blocks that are there and right, and how many are corrupt. StoreLost when the database is gone or
        spoilt."""
        with self._database_use() as database:
            query = "select data from small where key = ?"
            rows = [(cid, database.execute(query, (multihash_of(cid),)).fetchone()) for cid in cids]
        return _checked((cid, row[0]) for cid, row in rows if row is not None)

    def commit(
        self,
        put: Iterable[tuple[bytes, int, int, bytes | None]],
        epochs: Iterable[tuple[bytes, int]],
        drop: Collection[bytes],
    ) -> None:
        """Notes blocks that were stored (key, size, epoch, and the bytes when small), later uses, and blocks that are gone.
        StoreLost; NoSpace, and then nothing is noted."""
        with self._database_use() as database:
            self._still_there()
            with database:
                for key, size, epoch, data in put:
                    database.execute("insert or replace into entries values (?, ?, ?)", (key, size, epoch))
                    if data is not None:
                        database.execute("insert or replace into small values (?, ?)", (key, data))
                database.executemany("update entries set epoch = ? where key = ?", [(epoch, key) for key, epoch in epochs])
                database.executemany("delete from entries where key = ?", [(key,) for key in drop])
                database.executemany("delete from small where key = ?", [(key,) for key in drop])

    def close(self) -> None:
        """Gives the slot back."""
        self._close_database()
        if self._lock is not None:
            self._disk.close(self._lock)
            self._lock = None

    # Any thread

    def read_files(self, cids: Sequence[Cid]) -> tuple[dict[Cid, bytes], int]:
        """Those of the large blocks that are there and right, and how many are corrupt. Raises nothing."""

        def files() -> Iterator[tuple[Cid, bytes]]:
            for cid in cids:
                # Gone, unreadable, a bad sector: to a cache all of these are a miss.
                with contextlib.suppress(BucketfsError):
                    yield cid, self._disk.read_file(self._path(multihash_of(cid)))

        return _checked(files())

    # The writing thread

    def write_files(self, blocks: Sequence[tuple[bytes, bytes]]) -> int:
        """Stores large blocks (key, bytes), in order. Returns how many; fewer than all when the disk is full."""
        for count, (key, data) in enumerate(blocks):
            try:
                self._write_file(key, data)
            except NoSpace:
                return count
            except BucketfsError as error:
                raise StoreLost(f"cannot store a block in {self._slot}: {error}") from error
        return len(blocks)

    def remove_files(self, keys: Iterable[bytes]) -> None:
        """Removes large blocks, whether they are there or not."""
        for key in keys:
            with contextlib.suppress(BucketfsError):
                self._disk.unlink(self._path(key))

    # Inside

    def _write_file(self, key: bytes, data: bytes) -> None:
        aside, path = f"{self._slot}/blocks/new", self._path(key)
        file = self._disk.open(aside, create=True)
        try:
            # A write that met a full disk, or a kill, may have left a longer file. A new one is not truncated: ext4 takes that for
            # a file being replaced, and writes it to the disk at close (auto_da_alloc, ext4(5)).
            if self._disk.size(file):
                self._disk.truncate(file, 0)
            self._disk.pwrite(file, 0, data)
        finally:
            self._disk.close(file)
        try:
            self._disk.rename(aside, path)
        except NotFound:
            self._disk.make_folder(os.path.dirname(path))
            self._disk.rename(aside, path)

    def _path(self, key: bytes) -> str:
        name = key.hex()
        return f"{self._slot}/blocks/{name[-2:]}/{name}"

    def _take_slot(self) -> None:
        for number in range(SLOTS_MAX):
            slot = f"{self._root}/{number}"
            make_private_folder(slot)
            try:
                self._lock = self._disk.lock_file(f"{slot}/lock")
            except Busy:
                continue
            self._slot = slot
            return
        raise Busy(f"all {SLOTS_MAX} slots of {self._root} are in use")

    def _open_database(self) -> None:
        path = f"{self._slot}/index.sqlite"
        make_private_file(path)
        # The callers use it one at a time, but not always from the same thread of the pool.
        database = self._database = sqlite3.connect(path, check_same_thread=False, isolation_level="IMMEDIATE")
        # auto_vacuum first: it counts only before the first table. Without it the file never shrinks.
        database.executescript("pragma auto_vacuum = full; pragma journal_mode = wal; pragma synchronous = off;")
        (version,) = database.execute("pragma user_version").fetchone()
        if version == 0:
            database.executescript(_SCHEMA)
        elif version != SCHEMA_VERSION:
            raise sqlite3.DatabaseError(f"version {version}")
        database.execute("select key, size, epoch from entries limit 1").fetchone()
        database.execute("select key, data from small limit 1").fetchone()
        self._identity = _identity(path)

    def _close_database(self) -> None:
        if self._database is not None:
            # Closing may fail when the file is gone; nothing can be lost by that.
            with contextlib.suppress(sqlite3.Error):
                self._database.close()
            self._database = None
            self._identity = None

    def _remove_database(self) -> None:
        for name in ("index.sqlite", "index.sqlite-wal", "index.sqlite-shm"):
            with contextlib.suppress(NotFound):
                self._disk.unlink(f"{self._slot}/{name}")

    def _reconcile(self) -> list[Entry]:
        """Makes rows and files agree: a crash may have come between the two, or the user removed the database alone."""
        assert self._database is not None
        files = set(self._list_files())
        rows = list(self._database.execute("select key, size, epoch from entries order by epoch"))
        lost = [key for key, size, _ in rows if size >= FILE_SIZE_MIN and key not in files]
        found = files.difference(key for key, _, _ in rows)
        # Taken in as the oldest; whether they are whole shows when they are read.
        adopted = [(key, self._disk.file_size(self._path(key)), 0) for key in sorted(found)]
        if lost or adopted:
            self.commit([(key, size, epoch, None) for key, size, epoch in adopted], (), lost)
        gone = set(lost)
        return adopted + [row for row in rows if row[0] not in gone]

    def _list_files(self) -> Iterator[bytes]:
        for shard in self._disk.list_folder(f"{self._slot}/blocks"):
            if _SHARD.fullmatch(shard):
                for name in self._disk.list_folder(f"{self._slot}/blocks/{shard}"):
                    if _NAME.fullmatch(name) and len(name) % 2 == 0:
                        yield bytes.fromhex(name)

    @contextlib.contextmanager
    def _database_use(self) -> Iterator[sqlite3.Connection]:
        if self._database is None:
            raise StoreLost(f"the cache folder {self._root} is not open")
        try:
            yield self._database
        except sqlite3.Error as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
                raise NoSpace(f"cannot note blocks in {self._slot}: the disk is full") from error
            raise StoreLost(f"the cache's database in {self._slot} failed: {error}") from error

    def _still_there(self) -> None:
        if _identity(f"{self._slot}/index.sqlite") != self._identity:
            raise StoreLost(f"the cache folder {self._slot} was removed")


def _checked(blocks: Iterable[tuple[Cid, bytes]]) -> tuple[dict[Cid, bytes], int]:
    good: dict[Cid, bytes] = {}
    corrupt = 0
    for cid, data in blocks:
        try:
            verify(cid, data)
        except Corrupt:
            corrupt += 1
        else:
            good[cid] = data
    return good, corrupt


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
