"""Collections of databases and their instances in SQL, with the rows that indexes are looked up in.

Which instances a query wants is decided above (``threaddb``); here stands how they are stored, and which of them one condition on
an index leaves. Methods may be called from any thread and block for the disk.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import islice
from typing import Any

import sqlalchemy as sa

import bucketfs.hub.db.schema as tables
from bucketfs.errors import Exists, InvalidArgument, NotFound, OverQuota, Unavailable
from bucketfs.hub.config import AccountLimits
from bucketfs.hub.db.engine import Database
from bucketfs.hub.db.instance_rows import (
    CollectionRow,
    IndexKind,
    IndexValue,
    InstanceRow,
    Scan,
    StoredChange,
    indexed_value,
)
from bucketfs.hub.db.instance_scan import kinds_at, scanned
from bucketfs.hub.db.models import AccountUsage
from bucketfs.hub.db.usage import charge, payer_of
from bucketfs.types import ThreadId

COLLECTION_NOT_FOUND = "collection not found"
COLLECTION_EXISTS = "collection already registered"
UNIQUE_VIOLATION = "unique constraint violation"
COLLECTIONS_MAX = 1000
"""Of one database."""
_AT_ONCE = 500


class InstanceTable:
    """All collections of a Hub."""

    def __init__(self, database: Database) -> None:
        self._db = database

    # Definitions

    def create_collection(self, row: CollectionRow) -> None:
        """Raises Exists ``collection already registered``, NotFound for the thread, OverQuota."""
        columns = tables.collections.c
        with self._db.write() as connection:
            if payer_of(connection, row.thread) is None:
                raise NotFound("thread not found")
            mine = columns.thread == row.thread
            if connection.execute(sa.select(columns.id).where(mine, columns.name == row.name)).first() is not None:
                raise Exists(COLLECTION_EXISTS)
            count = connection.execute(sa.select(sa.func.count()).select_from(tables.collections).where(mine)).scalar_one()
            if count >= COLLECTIONS_MAX:
                raise OverQuota(f"a database may have {COLLECTIONS_MAX} collections")
            values = {"thread": row.thread, "name": row.name, "size_bytes": 0, **_definition(row)}
            connection.execute(tables.collections.insert().values(values))

    def update_collection(
        self, row: CollectionRow, values_of: Callable[[CollectionRow, InstanceRow], Mapping[str, IndexValue]]
    ) -> None:
        """Replaces the definition of the collection of this name and makes the indexes that are new; ``values_of`` says
        what an instance has at the indexed paths of a definition.

        Raises NotFound, InvalidArgument when a unique index cannot be made, OverQuota, and what ``values_of`` raises.
        """
        columns, index = tables.collections.c, tables.index_entries.c
        with self._db.write() as connection:
            old = self._collection(connection, row.thread, row.name)
            # Before any instance is read: who writes by the old definition is through now, or finds the new one.
            _hold(connection, old)
            connection.execute(tables.collections.update().where(columns.id == old.id).values(_definition(row)))
            fresh = {path: unique for path, unique in row.indexes.items() if old.indexes.get(path) is not unique}
            kept = [path for path in row.indexes if path not in fresh]
            connection.execute(tables.index_entries.delete().where(index.collection == old.id, index.path.not_in(kept)))
            if fresh:
                _make_indexes(connection, replace(row, id=old.id, indexes=fresh), values_of)

    def delete_collection(self, thread: ThreadId, name: str) -> None:
        """Deletes a collection with its instances. Raises NotFound ``collection not found``."""
        with self._db.write() as connection:
            row = self._collection(connection, thread, name)
            _delete_collections(connection, thread, [row.id])

    def collection(self, thread: ThreadId, name: str) -> CollectionRow:
        """Raises NotFound ``collection not found``."""
        with self._db.read() as connection:
            return self._collection(connection, thread, name)

    def collections(self, thread: ThreadId) -> list[CollectionRow]:
        """All of a database, by name."""
        columns = tables.collections.c
        query = sa.select(tables.collections).where(columns.thread == thread).order_by(columns.name)
        with self._db.read() as connection:
            return [_row(found) for found in connection.execute(query)]

    def _collection(self, connection: sa.Connection, thread: ThreadId, name: str) -> CollectionRow:
        columns = tables.collections.c
        query = sa.select(tables.collections).where(columns.thread == thread, columns.name == name)
        found = connection.execute(query).one_or_none()
        if found is None:
            raise NotFound(COLLECTION_NOT_FOUND)
        return _row(found)

    # Instances

    def instances(self, collection: CollectionRow, ids: Sequence[str]) -> dict[str, InstanceRow]:
        """Those of the instances that are there, by id."""
        columns = tables.instances.c
        found: dict[str, InstanceRow] = {}
        asked = [one for one in ids if "\0" not in one]  # no id has one, and PostgreSQL refuses to be asked
        with self._db.read() as connection:
            for start in range(0, len(asked), _AT_ONCE):
                query = sa.select(columns.id, columns.body, columns.mod_ns).where(
                    columns.collection == collection.id, columns.id.in_(asked[start : start + _AT_ONCE])
                )
                found |= {row.id: InstanceRow(row.id, row.body, row.mod_ns) for row in connection.execute(query)}
        return found

    def scan(self, collection: CollectionRow, wanted: Scan) -> Iterator[InstanceRow]:
        """The instances of a collection one by one; few of them are in memory, and no connection is held in between."""
        return scanned(self._db.read, collection.id, wanted)

    def kinds_at(self, collection: CollectionRow, path: str) -> set[IndexKind]:
        """What the instances of a collection have at an indexed path."""
        with self._db.read() as connection:
            return kinds_at(connection, collection.id, path)

    def apply(self, thread: ThreadId, changes: Sequence[StoredChange], limits: AccountLimits) -> None:
        """Stores all changes or none: one change at most of each instance. The caller has the turn to write to this database.

        Raises Exists ``unique constraint violation``, NotFound when the thread or a collection is gone, Unavailable when the
        definition of one is another by now, OverQuota.
        """
        with self._db.write() as connection:
            payer = payer_of(connection, thread)
            if payer is None:
                raise NotFound("thread not found")
            grown = 0
            by_collection: dict[int, list[StoredChange]] = {}
            for change in changes:
                by_collection.setdefault(change.collection.id, []).append(change)
            for mine in by_collection.values():
                collection = mine[0].collection
                _hold(connection, collection)
                for start in range(0, len(mine), _AT_ONCE):
                    grown += _store(connection, collection.id, mine[start : start + _AT_ONCE])
            for change in changes:
                if change.body is not None:
                    _check_unique(connection, change)
            charge(connection, payer, AccountUsage(bytes=grown), limits)


def _store(connection: sa.Connection, collection: int, changes: Sequence[StoredChange]) -> int:
    """Some changes of one collection. By how many bytes it grew."""
    columns, index, counts = tables.instances.c, tables.index_entries.c, tables.collections.c
    ids = [change.id for change in changes]
    mine = (columns.collection == collection, columns.id.in_(ids))
    before = {row.id: row.body for row in connection.execute(sa.select(columns.id, columns.body).where(*mine))}
    connection.execute(tables.index_entries.delete().where(index.collection == collection, index.id.in_(ids)))
    connection.execute(tables.instances.delete().where(*mine))
    kept = [change for change in changes if change.body is not None]
    if kept:
        rows = [{"collection": collection, "id": one.id, "body": one.body, "mod_ns": one.mod_ns} for one in kept]
        connection.execute(tables.instances.insert(), rows)
    entries = [_entry(collection, path, value, one.id) for one in kept for path, value in one.values.items()]
    if entries:
        connection.execute(tables.index_entries.insert(), entries)
    grown = sum(len((change.body or "").encode()) for change in changes) - sum(
        len(body.encode()) for body in before.values()
    )
    update = tables.collections.update().where(counts.id == collection)
    connection.execute(update.values(size_bytes=counts.size_bytes + grown))
    return grown


def _hold(connection: sa.Connection, collection: CollectionRow) -> None:
    """Keeps a definition as it is until the transaction ends: the indexes that it names are those that are written. Raises
    NotFound, and Unavailable when they are others by now."""
    columns = tables.collections.c
    mine = columns.id == collection.id
    # An UPDATE of nothing locks the row, on every database.
    if connection.execute(tables.collections.update().where(mine).values(size_bytes=columns.size_bytes)).rowcount != 1:
        raise NotFound(COLLECTION_NOT_FOUND)
    now = _row(connection.execute(sa.select(tables.collections).where(mine)).one())
    if (now.thread, now.name, now.indexes) != (collection.thread, collection.name, collection.indexes):
        raise Unavailable("the collection was changed meanwhile", hint="try again")


def _make_indexes(
    connection: sa.Connection,
    row: CollectionRow,
    values_of: Callable[[CollectionRow, InstanceRow], Mapping[str, IndexValue]],
) -> None:
    """Entries of all instances for the indexes of ``row``."""
    rows = scanned(lambda: nullcontext(connection), row.id, Scan())
    while batch := list(islice(rows, _AT_ONCE)):
        entries = [_entry(row.id, path, value, one.id) for one in batch for path, value in values_of(row, one).items()]
        connection.execute(tables.index_entries.insert(), entries)
    for path in (path for path, unique in row.indexes.items() if unique):
        _check_no_value_twice(connection, row.id, path)


def _check_no_value_twice(connection: sa.Connection, collection: int, path: str) -> None:
    index = tables.index_entries.c
    mine = (index.collection == collection, index.path == path, index.kind != int(IndexKind.MISSING))
    twice = sa.select(index.kind).where(*mine).group_by(index.kind, index.number, index.text).having(sa.func.count() > 1)
    if connection.execute(twice.limit(1)).first() is not None:
        raise InvalidArgument("can't create unique index (duplicate instances exist)")


def delete_instances_of(connection: sa.Connection, thread: ThreadId) -> None:
    """Deletes all collections of a thread that goes."""
    columns = tables.collections.c
    _delete_collections(
        connection, thread, connection.execute(sa.select(columns.id).where(columns.thread == thread)).scalars().all()
    )


def _delete_collections(connection: sa.Connection, thread: ThreadId, ids: Sequence[int]) -> None:
    columns = tables.collections.c
    size = connection.execute(sa.select(sa.func.sum(columns.size_bytes)).where(columns.id.in_(ids))).scalar() or 0
    connection.execute(tables.index_entries.delete().where(tables.index_entries.c.collection.in_(ids)))
    connection.execute(tables.instances.delete().where(tables.instances.c.collection.in_(ids)))
    connection.execute(tables.collections.delete().where(columns.id.in_(ids)))
    payer = payer_of(connection, thread)
    if payer is not None:
        charge(connection, payer, AccountUsage(bytes=-int(size)))


def _definition(row: CollectionRow) -> dict[str, Any]:
    return {
        "schema": row.schema,
        "indexes": json.dumps(list(row.indexes.items())),
        "write_validator": row.write_validator,
        "read_filter": row.read_filter,
    }


def _row(found: Any) -> CollectionRow:
    return CollectionRow(
        thread=ThreadId(found.thread),
        name=found.name,
        schema=found.schema,
        indexes=dict(json.loads(found.indexes)),
        write_validator=found.write_validator,
        read_filter=found.read_filter,
        id=found.id,
    )


def _entry(collection: int, path: str, value: IndexValue, instance: str) -> dict[str, Any]:
    kind, found = value
    stored = {"text" if isinstance(found, str) else "number": indexed_value(found)}
    return {
        "collection": collection,
        "path": path,
        "kind": int(kind),
        "number": None,
        "text": None,
        "id": instance,
        **stored,
    }


def _check_unique(connection: sa.Connection, change: StoredChange) -> None:
    index = tables.index_entries.c
    for path, unique in change.collection.indexes.items():
        kind, value = change.values[path]
        if not unique or kind is IndexKind.MISSING:
            continue
        same = (index.text if isinstance(value, str) else index.number) == indexed_value(value)
        query = sa.select(index.id).where(
            index.collection == change.collection.id,
            index.path == path,
            index.kind == int(kind),
            same,
            index.id != change.id,
        )
        if connection.execute(query.limit(1)).first() is not None:
            raise Exists(UNIQUE_VIOLATION)
