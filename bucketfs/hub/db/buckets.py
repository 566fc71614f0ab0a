"""Buckets and threads of a Hub in SQL, one short transaction per method.

``HubDatabase`` may be used from any thread, and any number of processes may share one database. Methods block for the disk.
They raise the errors named at each; a database that fails raises SQLAlchemy's own, which no service handles: the call ends with
INTERNAL. Buckets and threads live here, accounts in accounts.py; every method is reached through ``HubDatabase``.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import sqlalchemy as sa
from cachetools import LRUCache

import bucketfs.hub.db.schema as tables
from bucketfs.errors import Exists, NotFound, RootMoved
from bucketfs.hub.config import NO_LIMITS, AccountLimits
from bucketfs.hub.db.accounts import AccountTable, KeyTable
from bucketfs.hub.db.engine import DUPLICATE_KEY, Database
from bucketfs.hub.db.instances import InstanceTable, delete_instances_of
from bucketfs.hub.db.models import AccountUsage, BucketRow, PathEntry, ThreadRow
from bucketfs.hub.db.usage import Accounting, charge, payer_of
from bucketfs.types import BucketKey, Cid, ThreadId

INSTANCE_NOT_FOUND = "instance not found"
THREAD_NOT_FOUND = "thread not found"
_PATHS_CACHED_MAX = 200_000


class BucketTable:
    """Buckets and their path entries."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._cache_lock = threading.Lock()
        # bucket -> revision and path entries, weighed by their number: most calls want one entry of an unchanged bucket. One
        # revision of each: those before would only be in the way, for days.
        self._cache: LRUCache[str, tuple[int, Mapping[str, PathEntry]]] = LRUCache(
            _PATHS_CACHED_MAX, getsizeof=lambda known: len(known[1]) + 1
        )

    def bucket(self, thread: ThreadId, key: str) -> BucketRow:
        """The bucket ``key`` of ``thread``. Raises NotFound ``instance not found``."""
        with self._db.read() as connection:
            found = connection.execute(_of_bucket(thread, key)).one_or_none()
            if found is None:
                raise NotFound(INSTANCE_NOT_FOUND)
            return self._row(connection, found)

    def bucket_with_key(self, key: str) -> BucketRow:
        """The bucket ``key``, whatever its thread: keys are unique. Raises NotFound ``instance not found``."""
        found = self._many(sa.select(tables.buckets).where(tables.buckets.c.key == key))
        if not found:
            raise NotFound(INSTANCE_NOT_FOUND)
        return found[0]

    def buckets(self, thread: ThreadId) -> list[BucketRow]:
        """Every bucket of a thread, by key."""
        return self._many(sa.select(tables.buckets).where(tables.buckets.c.thread == thread))

    def buckets_of(self, account: str, realm: str = "") -> list[BucketRow]:
        """Every bucket in the threads that ``account`` owns (of a user: in one realm), by key."""
        own = sa.select(tables.threads.c.id).where(tables.threads.c.owner == account, *_in_realm(realm))
        return self._many(sa.select(tables.buckets).where(tables.buckets.c.thread.in_(own)))

    def create_bucket(self, row: BucketRow, limits: AccountLimits = NO_LIMITS) -> BucketRow:
        """Stores a new bucket.

        Raises Exists when the key is taken, NotFound when the thread is gone, OverQuota when its payer may have no more.
        """
        with self._db.write() as connection:
            # Asked in the same transaction: a thread that was just deleted must not keep a bucket.
            payer = payer_of(connection, row.thread)
            if payer is None:
                raise NotFound(THREAD_NOT_FOUND)
            if (
                connection.execute(sa.select(tables.buckets.c.key).where(tables.buckets.c.key == row.key)).first()
                is not None
            ):
                raise Exists("can't create already existing instance")
            charge(connection, payer, AccountUsage(buckets=1, bytes=row.size_bytes), limits)
            values = {column.name: getattr(row, column.name) for column in tables.buckets.columns}
            connection.execute(tables.buckets.insert().values(values))
            _save_paths(connection, row.key, {}, row.entries)
        return row

    def save_bucket(self, row: BucketRow, expected_root: Cid, limits: AccountLimits = NO_LIMITS) -> BucketRow:
        """Stores a changed bucket and returns it as stored (``revision`` one higher).

        Raises RootMoved when the stored root is not ``expected_root`` or the bucket was saved since ``row`` was read,
        NotFound ``instance not found`` when it is gone, OverQuota when it grew and its payer may have no more. All of the row
        and its paths are saved, or nothing.
        """
        with self._db.write() as connection:
            columns = tables.buckets.c
            found = connection.execute(_of_bucket(row.thread, row.key)).one_or_none()
            if found is None:
                raise NotFound(INSTANCE_NOT_FOUND)
            if found.root != expected_root or found.revision != row.revision:
                raise RootMoved(f"bucket {row.key} was changed in between")
            before = self._row(connection, found).entries
            values = {
                "owner": row.owner,
                "name": row.name,
                "version": row.version,
                "link_key": row.link_key,
                "root": row.root,
                "updated_at_ns": row.updated_at_ns,
                "revision": row.revision + 1,
                "size_bytes": row.size_bytes,
            }
            # The conditions again: on a database with several writers the row may have changed since the select above.
            where = (columns.key == row.key, columns.root == expected_root, columns.revision == row.revision)
            if connection.execute(tables.buckets.update().where(*where).values(values)).rowcount != 1:
                raise RootMoved(f"bucket {row.key} was changed in between")
            _save_paths(connection, row.key, before, row.entries)
            self._charge(connection, found, row.size_bytes, limits)
        # Remembered only now: a commit that failed must not leave its entries under a revision that another save will take.
        saved = replace(row, revision=row.revision + 1, entries=MappingProxyType(dict(row.entries)))
        self._remember(saved)
        return saved

    def delete_bucket(self, key: str) -> None:
        """Deletes a bucket and its path entries. Raises NotFound ``instance not found``."""
        with self._db.write() as connection:
            mine = tables.buckets.c.key == key
            found = connection.execute(sa.select(tables.buckets).where(mine)).one_or_none()
            if found is None or connection.execute(tables.buckets.delete().where(mine)).rowcount != 1:
                raise NotFound(INSTANCE_NOT_FOUND)
            connection.execute(tables.paths.delete().where(tables.paths.c.bucket == key))
            self._charge(connection, found, 0, NO_LIMITS, gone=1)
        with self._cache_lock:
            self._cache.pop(key, None)

    def _charge(self, connection: sa.Connection, before: Any, size_bytes: int, limits: AccountLimits, gone: int = 0) -> None:
        """The payer of a bucket has it with another size, or no more."""
        payer = payer_of(connection, before.thread)
        if payer is not None:
            charge(connection, payer, AccountUsage(0, -gone, size_bytes - max(before.size_bytes, 0)), limits)

    def _many(self, query: sa.Select[Any]) -> list[BucketRow]:
        with self._db.read() as connection:
            return [self._row(connection, found) for found in connection.execute(query.order_by(tables.buckets.c.key)).all()]

    def _row(self, connection: sa.Connection, found: Any) -> BucketRow:
        with self._cache_lock:
            revision, entries = self._cache.get(found.key, (-1, {}))
        if revision != found.revision:
            rows = connection.execute(sa.select(tables.paths).where(tables.paths.c.bucket == found.key))
            entries = MappingProxyType({row.path: _entry(row) for row in rows})
        row = BucketRow(
            key=BucketKey(found.key),
            thread=ThreadId(found.thread),
            owner=found.owner,
            name=found.name,
            version=found.version,
            link_key=found.link_key,
            root=Cid(found.root),
            entries=entries,
            created_at_ns=found.created_at_ns,
            updated_at_ns=found.updated_at_ns,
            revision=found.revision,
            size_bytes=max(found.size_bytes, 0),
        )
        self._remember(row)
        return row

    def _remember(self, row: BucketRow) -> None:
        with self._cache_lock:
            known, _ = self._cache.get(row.key, (-1, {}))
            # Another thread may have read an older one just before it was saved anew.
            if row.revision >= known:
                self._cache.pop(row.key, None)
                if len(row.entries) < _PATHS_CACHED_MAX:
                    self._cache[row.key] = row.revision, row.entries


class ThreadTable:
    """Threads and who owns them."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def create_thread(self, row: ThreadRow, limits: AccountLimits = NO_LIMITS) -> None:
        """Stores a new thread.

        Raises Exists with the text clients look for when the owner has the name already (compared without case), Exists
        ``db already exists`` when anyone has the id, OverQuota when its payer may have no more.
        """
        columns = tables.threads.c
        folded = row.name.casefold() or None
        with self._db.write() as connection:
            same = connection.execute(sa.select(columns.owner).where(columns.id == row.id)).one_or_none()
            if same is not None:
                raise Exists(f"{DUPLICATE_KEY}: thread" if same.owner == row.owner else "db already exists")
            named = sa.select(columns.id).where(
                columns.owner == row.owner, columns.realm == row.realm, columns.name_folded == folded
            )
            if folded is not None and connection.execute(named).first() is not None:
                raise Exists(f"{DUPLICATE_KEY}: thread name")
            charge(connection, row.payer, AccountUsage(threads=1), limits)
            names = ("id", "owner", "name", "db_name", "api_key", "is_db", "key", "created_at_ns", "realm")
            values = {name: getattr(row, name) for name in names}
            connection.execute(tables.threads.insert().values(name_folded=folded, **values))

    def thread(self, thread: ThreadId) -> ThreadRow:
        """The thread. Raises NotFound ``thread not found``."""
        with self._db.read() as connection:
            found = connection.execute(sa.select(tables.threads).where(tables.threads.c.id == thread)).one_or_none()
        if found is None:
            raise NotFound(THREAD_NOT_FOUND)
        return _thread(found)

    def thread_named(self, owner: str, name: str, realm: str = "") -> ThreadRow:
        """The thread of ``owner`` with exactly this name, as ``threads_of``. Raises NotFound ``Thread not found``."""
        columns = tables.threads.c
        query = (
            sa.select(tables.threads)
            .where(columns.owner == owner, columns.name == name, *_in_realm(realm))
            .order_by(columns.realm, columns.created_at_ns)
        )
        with self._db.read() as connection:
            found = connection.execute(query).first()
        if found is None:
            raise NotFound("Thread not found")
        return _thread(found)

    def threads_of(self, owner: str, realm: str = "") -> list[ThreadRow]:
        """Every thread of an account, or those of a user in one realm; oldest first."""
        columns = tables.threads.c
        query = (
            sa.select(tables.threads)
            .where(columns.owner == owner, *_in_realm(realm))
            .order_by(columns.created_at_ns, columns.id)
        )
        with self._db.read() as connection:
            return [_thread(found) for found in connection.execute(query)]

    def delete_thread(self, thread: ThreadId) -> None:
        """Deletes a thread without buckets. Raises NotFound ``thread not found``, Exists when a bucket is left in it."""
        with self._db.write() as connection:
            left = sa.select(sa.func.count()).where(tables.buckets.c.thread == thread)
            if connection.execute(left).scalar_one():
                raise Exists("DB not empty (delete buckets first)")
            delete_instances_of(connection, thread)
            payer = payer_of(connection, thread)
            if payer is not None:
                charge(connection, payer, AccountUsage(threads=-1))
            if connection.execute(tables.threads.delete().where(tables.threads.c.id == thread)).rowcount != 1:
                raise NotFound(THREAD_NOT_FOUND)


def _in_realm(realm: str) -> tuple[sa.ColumnElement[bool], ...]:
    return (tables.threads.c.realm == realm,) if realm else ()


def _of_bucket(thread: ThreadId, key: str) -> sa.Select[Any]:
    return sa.select(tables.buckets).where(tables.buckets.c.key == key, tables.buckets.c.thread == thread)


def _save_paths(
    connection: sa.Connection, bucket: str, before: Mapping[str, PathEntry], after: Mapping[str, PathEntry]
) -> None:
    columns = tables.paths.c
    gone = [path for path, entry in before.items() if after.get(path) != entry]
    for start in range(0, len(gone), 500):
        connection.execute(
            tables.paths.delete().where(columns.bucket == bucket, columns.path.in_(gone[start : start + 500]))
        )
    changed = [
        {
            "bucket": bucket,
            "path": path,
            "key": entry.key,
            "roles": json.dumps(dict(entry.roles)),
            "updated_at_ns": entry.updated_at_ns,
        }
        for path, entry in after.items()
        if before.get(path) != entry
    ]
    if changed:
        connection.execute(tables.paths.insert(), changed)


def _entry(found: Any) -> PathEntry:
    return PathEntry(found.key, MappingProxyType(json.loads(found.roles)), found.updated_at_ns)


def _thread(found: Any) -> ThreadRow:
    return ThreadRow(
        id=ThreadId(found.id),
        owner=found.owner,
        name=found.name,
        db_name=found.db_name,
        api_key=found.api_key,
        is_db=found.is_db,
        key=found.key,
        created_at_ns=found.created_at_ns,
        realm=found.realm,
    )


class HubDatabase(BucketTable, ThreadTable, AccountTable, KeyTable, Accounting):
    """Everything a hub remembers besides blocks."""

    def __init__(self, url: str | sa.URL) -> None:
        database = Database(url)
        BucketTable.__init__(self, database)
        ThreadTable.__init__(self, database)
        AccountTable.__init__(self, database)
        KeyTable.__init__(self, database)
        Accounting.__init__(self, database)
        self.instances = InstanceTable(database)

    def host_seed(self) -> bytes:
        """The seed of the host key, made on first use and the same ever after."""
        fresh = secrets.token_bytes(32)
        name = tables.settings.c.name
        with self._db.write() as connection:
            found = connection.execute(sa.select(tables.settings.c.value).where(name == "host_seed")).scalar()
            if found is None:
                connection.execute(tables.settings.insert().values(name="host_seed", value=fresh))
            return bytes(found) if found is not None else fresh

    def close(self) -> None:
        """Closes the database. No method may be called afterwards."""
        self._db.close()
