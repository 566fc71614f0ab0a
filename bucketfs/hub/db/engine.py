"""A hub's database: an engine and its two kinds of transaction, for reading and for writing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import sqlalchemy as sa

import bucketfs.hub.db.schema as tables
from bucketfs.errors import Exists, Unsupported

DUPLICATE_KEY = "E11000 duplicate key error"
"""Clients of this protocol look for this text when a name is taken."""


class Database:
    """Used from any thread. Tables of an older layout are brought to ours; raises Unsupported for a newer one."""

    def __init__(self, url: str | sa.URL) -> None:
        self._engine = tables.open_engine(url)
        self._local = self._engine.dialect.name == "sqlite"
        # Writes re-check what they rely on in the UPDATE itself (compare-and-swap), which needs no more than READ COMMITTED.
        self._writer = self._engine.execution_options(
            **({"bucketfs_write": True} if self._local else {"isolation_level": "READ COMMITTED"})
        )
        # SQLite has one writer anyway; waiting here is fair and quiet, waiting there is polling.
        self._one_writer = threading.Lock()
        with self.write() as connection:
            found = connection.execute(sa.select(tables.settings.c.value).where(tables.settings.c.name == "schema")).scalar()
            version = int(found) if found is not None else None
            if version is None:
                values = {"name": "schema", "value": str(tables.SCHEMA_VERSION).encode()}
                connection.execute(tables.settings.insert().values(values))
                return
            if not 1 <= version <= tables.SCHEMA_VERSION:
                raise Unsupported(
                    f"the hub's database has layout {version}, this program knows {tables.SCHEMA_VERSION}",
                    hint="use the version of bucketfs that made it, or a newer one",
                )
            for older in range(version, tables.SCHEMA_VERSION):
                for statement in tables.UPGRADES[older]:
                    connection.exec_driver_sql(statement)
            if version != tables.SCHEMA_VERSION:
                where = tables.settings.c.name == "schema"
                value = str(tables.SCHEMA_VERSION).encode()
                connection.execute(tables.settings.update().where(where).values(value=value))

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A transaction that sees one moment of the database. It must not write."""
        with self._engine.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A transaction that is committed, durably, when the block ends, and undone when it raises."""
        alone: AbstractContextManager[object] = self._one_writer if self._local else nullcontext()
        try:
            with alone, self._writer.begin() as connection:
                yield connection
        except sa.exc.IntegrityError as error:
            # Two processes passed the same check at the same moment; the constraint stopped the later one.
            raise Exists(DUPLICATE_KEY) from error

    def close(self) -> None:
        """Closes every connection."""
        self._engine.dispose()
