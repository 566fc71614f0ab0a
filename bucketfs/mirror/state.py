"""What a mirror remembers between its rounds: the tree it agreed on with the Hub, and which local status stood for what.

One SQLite file per folder, bucket and account; every change of it is one transaction, so that a kill at any instant leaves an
earlier state and no mixture. An earlier one costs hashing, never bytes.

Table ``seen``: a local status (kind, inode, size, mode, mtime, ctime) at a place (folder and name, relative to the top), and the
link of the bucket that it stands for; of a folder, the attributes. As long as the status is the same, so is the link: that
spares hashing, and it is how a file that another client made without mtime stays as that client made it. ``fresh``: the file
was so young when it was looked at that a later write may have left its status the same. ``crossed``: it is a mount point.

Table ``block``: the nodes of the agreed tree (folders, and the root nodes of files, which hold the bytes of small ones): the old
tree is needed to tell who changed what, and a Hub may have collected it as garbage meanwhile.

Table ``unfinished``: what is being done to single paths (`unfinished`), from before the first step to after the last.

Table ``meta``: who and what is mirrored, and the `Position`.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bucketfs.dag import BATCH_MAX, DAG_PB, block_links, cid_from_text, cid_text, codec_of, node_info
from bucketfs.disk import Disk, make_private_file
from bucketfs.errors import Corrupt, DiskFailed, NoSpace, NotFound
from bucketfs.transfer import LocalEntry, Names
from bucketfs.types import NO_ATTRIBUTES, Cid, Kind, Link, NodeAttributes

VERSION = 1

SCHEMA = """
create table if not exists meta (key text primary key, value text not null) without rowid;
create table if not exists seen (
  folder blob not null, name blob not null,
  kind text not null, inode integer not null, size integer not null, mode integer not null,
  mtime_ns integer not null, ctime_ns integer not null,
  cid blob, tsize integer, attributes text,
  fresh integer not null, crossed integer not null,
  primary key (folder, name)
) without rowid;
create index if not exists seen_inode on seen (inode);
create index if not exists seen_cid on seen (cid);
create table if not exists unfinished (
  folder blob not null, name blob not null, said text not null,
  primary key (folder, name)
) without rowid;
create table if not exists block (cid blob primary key, data blob not null) without rowid;
"""

INODE_SHIFT = 1 << 63
"""Inode numbers have 64 bits and no sign, SQLite's integers have one."""


@dataclass(frozen=True, slots=True)
class SeenEntry:
    """A local status and what it stands for: a file or symlink for a link, a folder for attributes."""

    entry: LocalEntry
    link: Link | None = None
    attributes: NodeAttributes = NO_ATTRIBUTES
    fresh: bool = False
    crossed: bool = False

    def is_still(self, entry: LocalEntry | None) -> bool:
        """Whether a status is this one. Devices are renumbered by a reboot; they do not count."""
        return entry is not None and _status(entry) == _status(self.entry)

    def vouches_for(self, entry: LocalEntry | None) -> bool:
        """Whether what stands there is certainly what was seen."""
        return not self.fresh and self.is_still(entry)


def _status(entry: LocalEntry) -> tuple[object, ...]:
    return (entry.kind, entry.inode, entry.size_bytes, entry.mode, entry.mtime_ns, entry.ctime_ns)


@dataclass(frozen=True, slots=True)
class Attempt:
    """A swap that was about to be tried and may have been done: the folder's tree it was made from, the new root, and which
    paths went to which conflict copies."""

    ours: Cid
    merged: Cid
    conflicts: tuple[tuple[Names, Names], ...] = ()


@dataclass(frozen=True, slots=True)
class Position:
    """Where a mirror is. ``base``: a tree that the folder had and that the Hub's tree took in; None before the first round.
    ``applying``: a tree of the Hub that the folder is on the way to. ``attempt``: the swap whose end is not known."""

    base: Cid | None = None
    applying: Cid | None = None
    attempt: Attempt | None = None


class MirrorState:
    """All methods block, shortly. One task uses it at a time. Raises DiskFailed, NoSpace."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = threading.Lock()
        with self._ours():
            make_private_file(file)
            self._database = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
            # Synced before each transaction returns: the state must not be ahead of the files, which are synced before it.
            self._database.execute("pragma journal_mode = wal")
            self._database.execute("pragma synchronous = full")
            self._database.executescript(SCHEMA)
        stored = self.fact("version")
        if stored is None:
            self.note_fact("version", str(VERSION))
        elif stored != str(VERSION):
            self.close()
            raise DiskFailed(
                f"{file} was written by another version of bucketfs ({stored})",
                hint="begin anew with --anew, or use that version",
            )

    def close(self) -> None:
        """Ends a transaction that is open as if it had not begun."""
        self._database.close()

    @contextlib.contextmanager
    def _ours(self) -> Iterator[None]:
        try:
            with self._lock:
                yield
        except sqlite3.Error as error:
            if "full" in str(error):
                raise NoSpace(f"writing {self._file}: {error}") from error
            raise DiskFailed(f"{self._file}: {error}", hint="begin anew with --anew if that lasts") from error

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """What is written inside is there as a whole, or, after an error, not at all."""
        self.begin()
        try:
            yield
        except BaseException:
            self.rollback()
            raise
        self.commit()

    def begin(self) -> None:
        """Begins a transaction."""
        self._run("begin immediate")

    def commit(self) -> None:
        """Ends the transaction; what it wrote is on the disk."""
        self._run("commit")

    def rollback(self) -> None:
        """Ends the transaction, if there is one, as if it had not begun."""
        with self._ours():
            if self._database.in_transaction:
                self._database.execute("rollback")

    def _rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        with self._ours():
            return self._database.execute(query, values).fetchall()

    def _run(self, statement: str, *values: object) -> None:
        with self._ours():
            self._database.execute(statement, values)

    def _seen(self, condition: str, *values: object) -> list[tuple[Names, SeenEntry]]:
        rows = self._rows(f"select {_COLUMNS} from seen where {condition}", *values)
        return [(_names_of(row[0], row[1]), _decode_seen(row)) for row in rows]

    # Facts

    def fact(self, key: str) -> str | None:
        """A fact by its name."""
        rows = self._rows("select value from meta where key = ?", key)
        return str(rows[0][0]) if rows else None

    def note_fact(self, key: str, value: str) -> None:
        """Notes a fact."""
        self._run("insert or replace into meta values (?, ?)", key, value)

    @property
    def position(self) -> Position:
        """Where the mirror is."""
        stored = json.loads(self.fact("position") or "{}")
        attempt = stored.get("attempt")
        if attempt is not None:
            copies = tuple((_decode_path(path), _decode_path(copy)) for path, copy in attempt["conflicts"])
            attempt = Attempt(cid_from_text(attempt["ours"]), cid_from_text(attempt["merged"]), copies)
        base, applying = (None if stored.get(key) is None else cid_from_text(stored[key]) for key in ("base", "applying"))
        return Position(base, applying, attempt)

    @position.setter
    def position(self, position: Position) -> None:
        stored: dict[str, object] = {
            "base": position.base and cid_text(position.base),
            "applying": position.applying and cid_text(position.applying),
        }
        if position.attempt is not None:
            stored["attempt"] = {
                "ours": cid_text(position.attempt.ours),
                "merged": cid_text(position.attempt.merged),
                "conflicts": [[_encode_path(path) for path in pair] for pair in position.attempt.conflicts],
            }
        self.note_fact("position", json.dumps(stored))

    # What was seen

    def seen(self, folder: Names) -> dict[bytes, SeenEntry]:
        """What was seen in a folder, by name."""
        return {seen.entry.name: seen for _, seen in self._seen("folder = ?", _key(folder))}

    def seen_at(self, path: Names) -> SeenEntry | None:
        """What was seen at a path."""
        return next((seen for _, seen in self._seen("folder = ? and name = ?", *_place(path))), None)

    def same_inode(self, entry: LocalEntry) -> SeenEntry | None:
        """What this very status was seen to stand for at another place: a file keeps it when a folder above it is moved."""
        found = self._seen("inode = ?", entry.inode - INODE_SHIFT)
        return next((seen for _, seen in found if seen.is_still(entry) and seen.link is not None), None)

    def places_of(self, cid: Cid) -> list[tuple[Names, SeenEntry]]:
        """Where content of this link was seen."""
        return self._seen("cid = ? limit 8", cid)

    def some_seen(self) -> dict[bytes, SeenEntry]:
        """Some of what was seen directly in the top folder."""
        return {seen.entry.name: seen for _, seen in self._seen("folder = x'' and name != x'' limit 100")}

    def note(self, path: Names, seen: SeenEntry) -> None:
        """Notes what was seen at a path; nothing is unfinished there then."""
        entry, attributes = seen.entry, seen.attributes
        row = (
            *_place(path),
            (entry.kind or Kind.FILE).value,
            entry.inode - INODE_SHIFT,
            entry.size_bytes,
            entry.mode,
            _figure(entry.mtime_ns),
            _figure(entry.ctime_ns),
            None if seen.link is None else seen.link.cid,
            None if seen.link is None else seen.link.tsize,
            json.dumps([attributes.mode, attributes.mtime_ns, attributes.uid, attributes.gid]),
            int(seen.fresh),
            int(seen.crossed),
        )
        self._run(f"insert or replace into seen values ({_marks(row)})", *row)
        self.forget_unfinished(path)

    def forget(self, path: Names) -> None:
        """Forgets what was seen at a path and below it."""
        below = _key(path)
        self._run("delete from seen where folder = ? and name = ?", *_place(path))
        # "0" is the byte after "/": all keys that begin with this path and a slash.
        self._run("delete from seen where folder = ? or (folder > ? and folder < ?)", below, below + b"/", below + b"0")

    # What is unfinished

    def unfinished(self) -> list[tuple[Names, str]]:
        """What was begun at paths and not noted to be done."""
        rows = self._rows("select folder, name, said from unfinished")
        return [(_names_of(folder, name), stored) for folder, name, stored in rows]

    def note_unfinished(self, path: Names, stored: str) -> None:
        """Something is begun at a path."""
        self._run("insert or replace into unfinished values (?, ?, ?)", *_place(path), stored)

    def forget_unfinished(self, path: Names) -> None:
        """Nothing is unfinished at a path."""
        self._run("delete from unfinished where folder = ? and name = ?", *_place(path))

    # Blocks

    def blocks(self, cids: Collection[Cid]) -> dict[Cid, bytes]:
        """Those of these blocks that are here."""
        found: dict[Cid, bytes] = {}
        wanted = list(cids)
        for start in range(0, len(wanted), BATCH_MAX):
            batch = wanted[start : start + BATCH_MAX]
            found |= {Cid(c): data for c, data in self._rows(f"select * from block where cid in ({_marks(batch)})", *batch)}
        return found

    def keep(self, blocks: Iterable[tuple[Cid, bytes]]) -> None:
        """Keeps blocks."""
        with self._ours():
            self._database.executemany("insert or ignore into block values (?, ?)", blocks)

    def sweep(self) -> None:
        """Forgets blocks that the position does not need, when there may be as many of them as of others."""
        ((count,),) = self._rows("select count(*) from block")
        if count < 2 * int(self.fact("blocks_kept") or "0") + 1000:
            return
        position = self.position
        roots = [position.base, position.applying]
        if position.attempt is not None:
            roots += [position.attempt.ours, position.attempt.merged]
        live = self._live([root for root in roots if root is not None])
        with self.together():
            self._run("create temp table if not exists live (cid blob primary key) without rowid")
            self._run("delete from live")
            with self._ours():
                self._database.executemany("insert into live values (?)", ((cid,) for cid in live))
            self._run("delete from block where cid not in (select cid from live)")
            self._run("delete from live")
            self.note_fact("blocks_kept", str(len(live)))

    def _live(self, roots: Collection[Cid]) -> set[Cid]:
        live: set[Cid] = set(roots)
        waiting = list(live)
        while waiting:
            batch = waiting[-BATCH_MAX:]
            del waiting[-BATCH_MAX:]
            for cid, data in self.blocks(batch).items():
                with contextlib.suppress(Corrupt):  # a file that another client put together wrongly
                    if node_info(cid, data).kind is Kind.DIRECTORY:
                        below = {child for child in block_links(cid, data) if codec_of(child) == DAG_PB} - live
                        live |= below
                        waiting += below
        return live


_COLUMNS = "folder, name, kind, inode, size, mode, mtime_ns, ctime_ns, cid, tsize, attributes, fresh, crossed"


def _decode_seen(row: tuple[Any, ...]) -> SeenEntry:
    _, name, kind, inode, size, mode, mtime_ns, ctime_ns, cid, tsize, attributes, fresh, crossed = row
    entry = LocalEntry(name, Kind(kind), size, mode, int(mtime_ns), int(ctime_ns), inode + INODE_SHIFT, 0)
    link = None if cid is None else Link(Cid(cid), tsize)
    return SeenEntry(entry, link, NodeAttributes(*json.loads(attributes)), bool(fresh), bool(crossed))


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))


def _figure(time_ns: int) -> int | bytes:
    """As SQLite takes it: its integers have 64 bits, of a time in nanoseconds only the seconds have. In a blob, for a column of
    integers makes a rounded number of a text."""
    return time_ns if -(1 << 63) <= time_ns < 1 << 63 else b"%d" % time_ns


def _key(folder: Names) -> bytes:
    return b"/".join(folder)


def _place(path: Names) -> tuple[bytes, bytes]:
    """The top folder itself has the empty name in it."""
    return (_key(path[:-1]), path[-1]) if path else (b"", b"")


def _names_of(key: bytes, name: bytes) -> Names:
    """The path of a row: what `_place` made a key of."""
    return (*(key.split(b"/") if key else ()), name) if name else ()


def _encode_path(path: Names) -> list[str]:
    return [name.hex() for name in path]


def _decode_path(stored: Iterable[str]) -> Names:
    return tuple(bytes.fromhex(name) for name in stored)


def forget_state(disk: Disk, file: Path) -> None:
    """Throws a state away, so that the next round begins anew."""
    for name in (file.name, f"{file.name}-wal", f"{file.name}-shm"):
        with contextlib.suppress(NotFound):
            disk.unlink(file.with_name(name))
