"""Inode numbers and ctimes that outlive the mount, so that backup tools see an unchanged file as unchanged.

A small SQLite table says which number stood at which place (number of the parent, name) when it was last seen, and the
attributes that UnixFS has no field for. It is a convenience, not the truth: when the table is lost every file gets a new number
and no byte is in danger.

Most rows are written some seconds behind. What a program was told of something clean is written before the answer (`urge`,
`write_urgent`), because no journal has it, and what a checkpoint of the journal lets go of is written before that (`flush`): a
kill changes neither a number nor a time.

Table ``inode``: ``parent`` and ``name`` are the place; ``ctime_ns`` and ``atime_ns`` as stat shows them; ``fallback_ns`` is the
mtime shown for a node that carries none; ``print`` tells whether the same DAG still stands there (see `print_of`). A table of
before there was that column is begun anew; ``atime_ns`` and ``held_bytes`` (see `Number`) are null in rows that are older than they
are. A time beyond 64 bits is a blob of decimal digits.

Table ``mark``: no number from ``next`` on was ever given out. It is written ahead, so that a number which a kill kept out of the
other table, and which a journal may name, is not given to something else.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import trio

from bucketfs.disk import make_private_file
from bucketfs.errors import DiskFailed
from bucketfs.types import Inode, Kind, Link

log = logging.getLogger(__name__)

FLUSH_EVERY_S = 5.0

AHEAD = 4096
"""So many numbers are given out between two writes of the mark."""

ROWS_PER_TRANSACTION = 1000
"""A look-up waits for one transaction at most; a thousand rows take about ten milliseconds."""

SCHEMA = """
create table if not exists inode (
  inode integer primary key,
  parent integer not null,
  name blob not null,
  ctime_ns integer not null,
  fallback_ns integer not null,
  print blob not null,
  atime_ns integer,
  held_bytes integer
);
create unique index if not exists inode_place on inode (parent, name);
create table if not exists mark (id integer primary key check (id = 1), next integer not null);
"""

INSERT = """
insert or replace into inode (inode, parent, name, ctime_ns, fallback_ns, print, atime_ns, held_bytes)
values (?, ?, ?, ?, ?, ?, ?, ?)
"""

SQL_INTEGER_MAX = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Number:
    """What the table knows of one place."""

    inode: Inode
    ctime_ns: int
    fallback_ns: int
    print: bytes = b""
    atime_ns: int | None = None
    """None: the mtime."""
    held_bytes: int | None = None
    """How much of a file's base is no hole. None: as its root block lets guess."""


def print_of(kind: Kind, link: Link | None) -> bytes:
    """What of a node is compared when it is looked up again: eight bytes of a hash of its CID, so that a program that knows a
    file by number and times learns that it is another one. All directories have the same, for they keep their numbers
    whatever happens inside them; what no link stands for yet has none."""
    if kind is Kind.DIRECTORY:
        return b"/"
    return b"" if link is None else blake2b(link.cid, digest_size=8).digest()


Place = tuple[Inode, bytes]

Row = tuple[Inode, tuple[Place, Number] | None]
"""What becomes of the row of a number; None: it goes."""


def _row(inode: Inode, place: Place, number: Number) -> tuple[object, ...]:
    atime_ns = None if number.atime_ns is None else _stored(number.atime_ns)
    times = _stored(number.ctime_ns), _stored(number.fallback_ns)
    return inode, *place, *times, number.print, atime_ns, number.held_bytes


def _stored(time_ns: int) -> int | bytes:
    """As SQLite takes it. A blob, because a column of integers would make a rounded float of a text of digits."""
    return time_ns if -SQL_INTEGER_MAX <= time_ns <= SQL_INTEGER_MAX else b"%d" % time_ns


class InodeNumbers:
    """The numbers of one mount. All methods but `flush` and `run` are immediate; used from one thread."""

    def __init__(self, file: Path | None) -> None:
        """``file`` is the table's place; ``None`` keeps the numbers in memory only. A damaged table is begun anew."""
        self._file = file
        self._lock = threading.Lock()
        self._pending: dict[Inode, tuple[Place, Number] | None] = {}
        self._writing: dict[Inode, tuple[Place, Number] | None] = {}
        self._places: dict[Place, Number | None] = {}
        self._claimed: set[Inode] = set()
        self._urgent: set[Inode] = set()
        self._written_past: set[Inode] = set()
        """Rows that were written past those that a thread is about to write."""
        self._database = self._open()
        highest = self._database.execute("select max(inode) from inode").fetchone()[0] or 1
        mark = self._database.execute("select max(next) from mark").fetchone()[0] or 2
        self._next = max(int(highest) + 1, int(mark))
        self._mark = self._next

    def _open(self) -> sqlite3.Connection:
        for attempt in (1, 2):
            try:
                if self._file is not None:
                    make_private_file(self._file)
                database = sqlite3.connect(self._file or ":memory:", check_same_thread=False, isolation_level=None)
                # A power cut may cost the table, which is a convenience; an fsync for each stat would cost every stat.
                database.executescript("pragma journal_mode=wal; pragma synchronous=off;")
                columns = [row[1] for row in database.execute("pragma table_info(inode)")]
                if columns and "print" not in columns:
                    database.execute("drop table inode")
                for column in ("atime_ns", "held_bytes"):
                    if "print" in columns and column not in columns:
                        database.execute(f"alter table inode add column {column} integer")
                database.executescript(SCHEMA)
                database.execute("select count(*) from inode where inode < 0").fetchone()
            except sqlite3.DatabaseError as error:
                if attempt == 2 or self._file is None:
                    raise DiskFailed(f"cannot open the inode table {self._file}: {error}") from error
                for suffix in ("", "-wal", "-shm"):
                    Path(f"{self._file}{suffix}").unlink(missing_ok=True)
            else:
                return database
        raise AssertionError("unreachable: the second attempt returns or raises")

    def fresh(self) -> Inode:
        """A number that was never given out."""
        if self._next >= self._mark:
            self._mark = self._next + AHEAD
            # On a full disk numbers may come twice after a kill; `claim` keeps them from those that a journal names.
            with suppress(sqlite3.Error):
                self._write_mark(self._mark)
        inode = Inode(self._next)
        self._next += 1
        return inode

    def reserve(self, inode: Inode) -> None:
        """Never give out ``inode`` again: the journal names it."""
        self._next = max(self._next, inode + 1)

    def claim(self, inodes: Iterable[Inode]) -> None:
        """The journal names these: never give one out, nor find it at the place of a row, before its own op brings it.

        The table runs ahead of the journal's beginning: a name whose file was replaced has the number of the new file there,
        and a replay that meets the old file first must not give it that number.
        """
        for inode in inodes:
            self.reserve(inode)
            self._claimed.add(inode)

    def at(self, parent: Inode, name: bytes) -> Number | None:
        """The number that stood at a place, if any."""
        place = (parent, name)
        if place in self._places:
            return self._places[place]
        # Shared with the thread that writes behind: SQLite would let the two into one transaction, for they use one
        # connection.
        with self._lock:
            row = self._database.execute(
                "select inode, ctime_ns, fallback_ns, print, atime_ns, held_bytes from inode where parent = ? and name = ?",
                place,
            ).fetchone()
        # What is pending of a number is newer than its row: it may stand elsewhere by now, or nowhere.
        if row is None or any(Inode(row[0]) in taken for taken in (self._pending, self._writing, self._claimed)):
            return None
        atime_ns = None if row[4] is None else int(row[4])
        return Number(Inode(row[0]), int(row[1]), int(row[2]), row[3], atime_ns, row[5])

    def keep(self, parent: Inode, name: bytes, number: Number) -> None:
        """Remember that ``number`` stands at a place now (and nowhere else)."""
        # Its op has brought it: from here on it is a number like any other.
        self._claimed.discard(number.inode)
        self._forget_place(number.inode)
        self._pending[number.inode] = ((parent, name), number)
        self._places[parent, name] = number

    def drop(self, inode: Inode, parent: Inode, name: bytes) -> None:
        """Nothing stands at the place any more."""
        self._forget_place(inode)
        self._pending[inode] = None
        self._places[parent, name] = None

    def _forget_place(self, inode: Inode) -> None:
        for generation in (self._writing, self._pending):
            held = generation.get(inode)
            if held is not None and (known := self._places.get(held[0])) is not None and known.inode == inode:
                self._places[held[0]] = None

    def _write_mark(self, mark: int) -> None:
        with self._lock:
            self._database.execute("insert or replace into mark values (1, ?)", (mark,))

    def urge(self, inode: Inode) -> None:
        """What is pending of a number is to be written by the next `write_urgent`."""
        self._urgent.add(inode)

    def write_urgent(self) -> None:
        """Write what was urged. On a full disk it waits with the others."""
        if not self._urgent:
            return
        urgent, self._urgent = self._urgent, set()
        self._write_past([(inode, self._pending[inode]) for inode in urgent if inode in self._pending])

    def flush(self) -> None:
        """Write what is pending, now; some microseconds for each row. On a full disk it goes on waiting."""
        if self._write_past([*({**self._writing, **self._pending}).items()]):
            self._pending = {}
            self._taken()

    def _write_past(self, rows: Sequence[Row]) -> bool:
        self._written_past.update(inode for inode, _ in rows)
        try:
            self._write(rows)
        except sqlite3.Error as error:
            log.debug("numbers of files wait for room: %s", error)
            return False
        return True

    def _take(self) -> list[Row]:
        self._writing, self._pending = self._pending, {}
        self._written_past.clear()
        return list(self._writing.items())

    def _write_behind(self, rows: Sequence[Row]) -> None:
        """In a thread: what is older than what was written meanwhile is left out."""
        self._write(rows, self._written_past)

    def _write(self, items: Sequence[Row], but: Collection[Inode] = ()) -> None:
        for start in range(0, len(items), ROWS_PER_TRANSACTION):
            with self._lock:
                # Chosen under the lock: rows that are written past these are noted before the lock is taken for them, so an
                # older row is either left out here or written before the newer one.
                chunk = [item for item in items[start : start + ROWS_PER_TRANSACTION] if item[0] not in but]
                self._database.execute("begin")
                try:
                    self._database.executemany("delete from inode where inode = ?", [(inode,) for inode, _ in chunk])
                    self._database.executemany(INSERT, [_row(inode, *held) for inode, held in chunk if held is not None])
                except BaseException:
                    self._database.execute("rollback")
                    raise
                self._database.execute("commit")

    def _taken(self) -> None:
        # Places whose rows are written are looked up in the table from now on, so memory does not grow with the tree.
        self._writing = {}
        self._places = {held[0]: held[1] for held in self._pending.values() if held is not None}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write pending rows behind, until cancelled; the last ones at the end. A full disk costs numbers, nothing else."""
        task_status.started()
        try:
            while True:
                await trio.sleep(FLUSH_EVERY_S)
                if self._pending:
                    rows = self._take()
                    try:
                        await trio.to_thread.run_sync(self._write_behind, rows)
                    except sqlite3.Error:
                        # The numbers stay right in memory; they are tried again with the next change.
                        self._pending = {**self._writing, **self._pending}
                        self._writing = {}
                    else:
                        self._taken()
        finally:
            self.close()

    def close(self) -> None:
        """Write what is pending and let go of the file."""
        try:
            self._write([*({**self._writing, **self._pending}).items()])
            self._write_mark(self._next)
        except sqlite3.Error as error:
            log.info("the numbers of the files that were seen last cannot be kept: %s", error)
        finally:
            self._database.close()
