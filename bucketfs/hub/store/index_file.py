"""The SQLite file of the block index: connections, transactions, and the version of its layout.

Some connections read, one commits durably, one commits without a sync.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bucketfs.disk import make_private_file
from bucketfs.errors import BucketfsError, DiskFailed, NoSpace, Unavailable, Unsupported
from bucketfs.hub.store.in_use import InUse

APPLICATION_ID = 0x6266_7362  # "bfsb"
FORMAT = 1

_TABLES = """
CREATE TABLE packs (id INTEGER PRIMARY KEY AUTOINCREMENT);
CREATE TABLE blocks (
    multihash BLOB PRIMARY KEY,
    pack      INTEGER NOT NULL,
    offset    INTEGER NOT NULL,
    size      INTEGER NOT NULL,
    stored_ns INTEGER NOT NULL,
    damaged   INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE small (id INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE uploads (upload BLOB PRIMARY KEY, expires_ns INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE leases (
    id          INTEGER PRIMARY KEY,
    upload      BLOB NOT NULL,
    multihashes BLOB NOT NULL
);
CREATE INDEX leases_upload ON leases (upload);
"""


def sql_error(error: sqlite3.Error, what: str) -> BucketfsError:
    """An error of SQLite as one of ours."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return NoSpace(f"{what}: the disk of the hub is full")
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Unavailable(f"{what}: the index of the block store is busy")
    return DiskFailed(f"{what}: {error}")


class IndexFile:
    """Thread-safe; several processes may have the file open."""

    def __init__(self, path: Path, busy_timeout_s: float) -> None:
        self._path = path
        self._busy_timeout_s = busy_timeout_s
        self._all_lock = threading.Lock()
        self._all: list[sqlite3.Connection] = []
        self._idle: list[sqlite3.Connection] = []
        self._inside = InUse("the block store")
        # One writer at a time is SQLite's rule for all processes. In ours it is a lock, for SQLite waits by polling.
        self._write_lock = threading.Lock()
        make_private_file(path)
        self._durable = self._connect("FULL")
        self._make_tables()
        # A lease need not survive a power cut (the upload it guards does not either), so it does not pay for a sync.
        self._quick = self._connect("NORMAL")

    def close(self) -> None:
        """Closes every connection, once no thread is inside another method; later calls raise Unavailable. Connections that
        a thread does not let go of are left for the end of the process."""
        if self._inside.shut(self._busy_timeout_s):
            return
        with self._all_lock:
            for connection in self._all:
                connection.close()
            self._all.clear()
            self._idle.clear()

    def read(self, sql: str, parameters: Sequence[object]) -> list[tuple[Any, ...]]:
        """The rows of a question."""
        with self._inside.enter():
            # Borrowed, not one per thread: threads of streams come and go, and would leave theirs behind.
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = self._connect("NORMAL")
            try:
                return connection.execute(sql, parameters).fetchall()
            except sqlite3.Error as error:
                raise sql_error(error, "reading the index of the block store") from error
            finally:
                self._idle.append(connection)

    @contextmanager
    def durable(self) -> Iterator[sqlite3.Connection]:
        """A write transaction, durable once the block is left, undone when it raises. No other process writes meanwhile."""
        with self._inside.enter(), self._write_lock, _transaction(self._durable, "writing the index"):
            yield self._durable

    @contextmanager
    def quick(self, what: str) -> Iterator[sqlite3.Connection]:
        """A write transaction that a power cut may undo; ``what`` it does, for errors."""
        with self._inside.enter(), self._write_lock, _transaction(self._quick, what):
            yield self._quick

    def give_room_back(self) -> None:
        """Give the room of deleted rows, and of the log, back to the disk."""
        with self._inside.enter(), self._write_lock:
            try:
                self._durable.execute("PRAGMA incremental_vacuum").fetchall()
                self._durable.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            except sqlite3.Error as error:
                raise sql_error(error, "tidying the index") from error

    def _connect(self, synchronous: str) -> sqlite3.Connection:
        try:
            connection = sqlite3.connect(
                self._path, timeout=self._busy_timeout_s, isolation_level=None, check_same_thread=False
            )
            for pragma in (
                "page_size = 8192",
                "auto_vacuum = INCREMENTAL",
                "journal_mode = WAL",
                f"synchronous = {synchronous}",
            ):
                connection.execute(f"PRAGMA {pragma}")
        except sqlite3.Error as error:
            raise sql_error(error, "opening the index of the block store") from error
        with self._all_lock:
            self._all.append(connection)
        return connection

    def _make_tables(self) -> None:
        with self.durable() as connection:
            found = connection.execute("PRAGMA application_id").fetchone()[0]
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if found == APPLICATION_ID and version == FORMAT:
                return
            if found or version:
                raise Unsupported(
                    f"{self._path} is not a block store of format {FORMAT}", hint="a newer bucketfs may have made it"
                )
            for statement in _TABLES.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {FORMAT}")


@contextmanager
def _transaction(connection: sqlite3.Connection, what: str) -> Iterator[None]:
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.Error as error:
        raise sql_error(error, what) from error
    try:
        yield
        connection.execute("COMMIT")
    except BaseException as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        if isinstance(error, sqlite3.Error):
            raise sql_error(error, what) from error
        raise
