"""Collections of databases and their instances in SQL, with the rows that indexes are looked up in.

Which instances a query wants is decided above (``threaddb``); here stands how they are stored, and which of them one condition on
an index leaves. Methods may be called from any thread and block for the disk.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

import bucketfs.hub.db.schema as tables
from bucketfs.errors import Exists, NotFound, OverQuota
from bucketfs.hub.config import AccountLimits
from bucketfs.hub.db.engine import Database
from bucketfs.hub.db.models import AccountUsage
from bucketfs.hub.db.usage import charge, payer_of
from bucketfs.types import ThreadId

COLLECTION_NOT_FOUND = "collection not found"
COLLECTION_EXISTS = "collection already registered"
UNIQUE_VIOLATION = "unique constraint violation"
INDEXED_CHARS_MAX = 1024
"""Of a longer text the index has so many characters; what it leaves is compared in full."""
COLLECTIONS_MAX = 1000
"""Of one database."""
_FETCHED_AT_ONCE = 256


class IndexKind(enum.IntEnum):
    """What stands at an indexed path of an instance."""

    MISSING = 0
    """Nothing, or something that is no scalar."""
    BOOL = 1
    NUMBER = 2
    TEXT = 3


@dataclass(frozen=True, slots=True)
class CollectionRow:
    """The definition of a collection. ``schema`` is JSON, ``indexes`` maps paths to whether they are unique."""

    thread: ThreadId
    name: str
    schema: bytes
    indexes: Mapping[str, bool]
    write_validator: str = ""
    read_filter: str = ""
    id: int = 0


@dataclass(frozen=True, slots=True)
class InstanceRow:
    """One instance as it is stored."""

    id: str
    body: str
    mod_ns: int


@dataclass(frozen=True, slots=True)
class IndexCondition:
    """What the value at an indexed path must be, at least: ``low`` ≤ value ≤ ``high``, each if given. Instances beyond may be left,
    never too few."""

    path: str
    kind: IndexKind
    low: float | str | None = None
    high: float | str | None = None


@dataclass(frozen=True, slots=True)
class Scan:
    """Which instances of a collection to go through, and in which order: by id, or by an indexed path and then by id."""

    condition: IndexCondition | None = None
    id_low: str | None = None
    id_high: str | None = None
    order_path: str = ""
    order_kind: IndexKind = IndexKind.MISSING
    descending: bool = False


IndexValue = tuple[IndexKind, float | str | None]
"""The kind of what stands at an indexed path, and the value."""


@dataclass(frozen=True, slots=True)
class StoredChange:
    """An instance as it is to be stored, with the values of the indexed paths; ``body`` None removes it."""

    collection: CollectionRow
    id: str
    body: str | None
    mod_ns: int
    values: Mapping[str, IndexValue]


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

    def update_collection(self, row: CollectionRow, entries: Mapping[str, Sequence[tuple[str, IndexValue]]]) -> None:
        """Replaces the definition of the collection with the id of ``row``. ``entries`` are those of its new indexes, by path.
        Raises NotFound."""
        columns, index = tables.collections.c, tables.index_entries.c
        with self._db.write() as connection:
            if (
                connection.execute(tables.collections.update().where(columns.id == row.id).values(_definition(row))).rowcount
                != 1
            ):
                raise NotFound(COLLECTION_NOT_FOUND)
            kept = [path for path in row.indexes if path not in entries]
            connection.execute(tables.index_entries.delete().where(index.collection == row.id, index.path.not_in(kept)))
            for path, found in entries.items():
                rows = [_entry(row.id, path, value, instance) for instance, value in found]
                for start in range(0, len(rows), 1000):
                    connection.execute(tables.index_entries.insert(), rows[start : start + 1000])

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
        with self._db.read() as connection:
            for start in range(0, len(ids), 500):
                query = sa.select(columns.id, columns.body, columns.mod_ns).where(
                    columns.collection == collection.id, columns.id.in_(ids[start : start + 500])
                )
                found |= {row.id: InstanceRow(row.id, row.body, row.mod_ns) for row in connection.execute(query)}
        return found

    @contextmanager
    def scan(self, collection: CollectionRow, wanted: Scan) -> Iterator[Iterator[InstanceRow]]:
        """The instances of a collection one by one, as they are at one moment. Few of them are in memory."""
        with self._db.read() as connection:
            streaming = connection.execution_options(yield_per=_FETCHED_AT_ONCE)
            rows = streaming.execute(_scanned(collection.id, wanted))
            yield (InstanceRow(row.id, row.body, row.mod_ns) for row in rows)

    def has_other_kind(self, collection: CollectionRow, path: str, kind: IndexKind) -> bool:
        """Whether any instance has nothing, or a value of another kind, at an indexed path."""
        index = tables.index_entries.c
        mine = (index.collection == collection.id, index.path == path)
        with self._db.read() as connection:
            return any(
                connection.execute(sa.select(index.id).where(*mine, index.kind == other).limit(1)).first() is not None
                for other in IndexKind
                if other is not kind
            )

    def apply(self, thread: ThreadId, changes: Sequence[StoredChange], limits: AccountLimits) -> None:
        """Stores all changes or none: one change at most of each instance. The caller has the turn to write to this database.

        Raises Exists ``unique constraint violation``, NotFound when the thread or a collection is gone, OverQuota.
        """
        with self._db.write() as connection:
            payer = payer_of(connection, thread)
            if payer is None:
                raise NotFound("thread not found")
            grown = 0
            for change in changes:
                grown += self._apply(connection, change)
            for change in changes:
                if change.body is not None:
                    _check_unique(connection, change)
            charge(connection, payer, AccountUsage(bytes=grown), limits)

    def _apply(self, connection: sa.Connection, change: StoredChange) -> int:
        """By how many bytes the collection grew."""
        columns, index, collection = tables.instances.c, tables.index_entries.c, change.collection.id
        mine = (columns.collection == collection, columns.id == change.id)
        before = connection.execute(sa.select(columns.body).where(*mine)).scalar_one_or_none()
        connection.execute(tables.index_entries.delete().where(index.collection == collection, index.id == change.id))
        if change.body is None:
            connection.execute(tables.instances.delete().where(*mine))
        else:
            values = {"body": change.body, "mod_ns": change.mod_ns}
            if before is None:
                connection.execute(tables.instances.insert().values(collection=collection, id=change.id, **values))
            else:
                connection.execute(tables.instances.update().where(*mine).values(values))
            rows = [_entry(collection, path, value, change.id) for path, value in change.values.items()]
            if rows:
                connection.execute(tables.index_entries.insert(), rows)
        grown = len((change.body or "").encode()) - len((before or "").encode())
        counts = tables.collections.c
        update = tables.collections.update().where(counts.id == collection).values(size_bytes=counts.size_bytes + grown)
        if connection.execute(update).rowcount != 1:
            raise NotFound(COLLECTION_NOT_FOUND)
        return grown


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


def indexed_text(value: str) -> str:
    """A text as the index has it. What no database column holds is replaced."""
    return value[:INDEXED_CHARS_MAX].encode("utf-8", "replace").decode().replace("\0", "\ufffd")


def _entry(collection: int, path: str, value: IndexValue, instance: str) -> dict[str, Any]:
    kind, found = value
    text = indexed_text(found) if isinstance(found, str) else None
    number = None if isinstance(found, str) or found is None else float(found)
    return {"collection": collection, "path": path, "kind": int(kind), "number": number, "text": text, "id": instance}


def _check_unique(connection: sa.Connection, change: StoredChange) -> None:
    index = tables.index_entries.c
    for path, unique in change.collection.indexes.items():
        kind, value = change.values[path]
        if not unique or kind is IndexKind.MISSING:
            continue
        same = index.text == indexed_text(value) if isinstance(value, str) else index.number == value
        query = sa.select(index.id).where(
            index.collection == change.collection.id,
            index.path == path,
            index.kind == int(kind),
            same,
            index.id != change.id,
        )
        if connection.execute(query.limit(1)).first() is not None:
            raise Exists(UNIQUE_VIOLATION)


def _scanned(collection: int, wanted: Scan) -> sa.Select[Any]:
    columns, index = tables.instances.c, tables.index_entries.c
    query = sa.select(columns.id, columns.body, columns.mod_ns).where(columns.collection == collection)
    if wanted.id_low is not None:
        query = query.where(columns.id >= wanted.id_low)
    if wanted.id_high is not None:
        query = query.where(columns.id <= wanted.id_high)
    path, kind = wanted.order_path, wanted.order_kind
    if wanted.condition is not None:
        path, kind = wanted.condition.path, wanted.condition.kind
    if not path:
        return query.order_by(columns.id.desc() if wanted.descending else columns.id)
    same = sa.and_(index.collection == columns.collection, index.id == columns.id)
    query = query.join(tables.index_entries, same)
    value = index.text if kind is IndexKind.TEXT else index.number
    query = query.where(index.collection == collection, index.path == path, index.kind == int(kind))
    if wanted.condition is not None:
        for bound, holds in ((wanted.condition.low, value.__ge__), (wanted.condition.high, value.__le__)):
            if bound is not None:
                query = query.where(holds(indexed_text(bound) if isinstance(bound, str) else float(bound)))
    order = [value, index.id] if wanted.order_path else [index.id]
    return query.order_by(*(column.desc() if wanted.descending else column for column in order))
