"""The engine of ThreadDB over a SQLite file, with one collection, and a count of what SQLite does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from bucketfs.hub.config import NO_LIMITS
from bucketfs.hub.db import AccountKind, AccountRow, CollectionRow, HubDatabase, ThreadRow, sqlite_url
from bucketfs.hub.threaddb import CreateAct, Instance, Scripts, ThreadDb, defined
from bucketfs.types import ThreadId

THREAD = ThreadId(bytes.fromhex("0155") + bytes(32))
STEPS_AT_ONCE = 100


@dataclass
class Work:
    """What was done: instances that were parsed, and instructions of SQLite's machine."""

    rows: int = 0
    steps: int = 0


class Engine:
    """One database with the collection ``things``."""

    def __init__(self, folder: Path) -> None:
        self.database = HubDatabase(sqlite_url(folder))
        self.sql = sa.create_engine(sqlite_url(folder))
        self.scripts = Scripts()
        self.threaddb = ThreadDb(self.database, self.scripts, NO_LIMITS)
        self.table = self.database.instances
        account = AccountRow("a", AccountKind.DEVELOPER, "a", "", "a@b.c", b"", 1)
        self.database.create_account(account)
        row = ThreadRow(
            id=THREAD, owner="a", name="", db_name="", api_key="", is_db=True, key=b"", created_at_ns=1, realm=""
        )
        self.database.create_thread(row, NO_LIMITS)

    @property
    def collection(self) -> CollectionRow:
        return self.table.collection(THREAD, "things")

    def define(self, **indexes: bool) -> None:
        """Make the collection; ``indexes`` says of paths whether they are unique."""
        self.table.create_collection(definition(indexes))

    def redefine(self, **indexes: bool) -> None:
        self.threaddb.redefine(definition(indexes))

    def redefine_elsewhere(self, **indexes: bool) -> None:
        """As another process over the same database does, which does not know whose turn it is here."""
        ThreadDb(self.database, self.scripts, NO_LIMITS).redefine(definition(indexes))

    def create(self, *instances: Instance) -> None:
        self.threaddb.write(THREAD, self.collection, [CreateAct(one) for one in instances], None)

    def find(self, **query: Any) -> list[Instance]:
        return self.threaddb.find(self.collection, json.dumps(query).encode(), None)

    @contextmanager
    def counting(self) -> Iterator[Work]:
        """What this engine does meanwhile, from SQLite and from the rows that come back."""
        work = Work()

        def count_steps() -> None:
            work.steps += STEPS_AT_ONCE

        def listen(_dbapi: Any, connection_record: Any, _proxy: Any) -> None:
            connection_record.driver_connection.set_progress_handler(count_steps, STEPS_AT_ONCE)

        def count_rows(_connection: Any, cursor: Any, _statement: Any, _parameters: Any, _context: Any, _many: Any) -> None:
            def counted(_cursor: Any, row: Any) -> Any:
                work.rows += 1
                return row

            cursor.row_factory = counted

        sa.event.listen(sa.Pool, "checkout", listen)
        sa.event.listen(sa.Engine, "before_cursor_execute", count_rows)
        try:
            yield work
        finally:
            sa.event.remove(sa.Pool, "checkout", listen)
            sa.event.remove(sa.Engine, "before_cursor_execute", count_rows)

    def close(self) -> None:
        self.threaddb.close()
        self.sql.dispose()
        self.database.close()


def definition(indexes: dict[str, bool]) -> CollectionRow:
    """``things`` with these indexes; the schema describes their paths."""
    kinds = {"n": "number", "even": "boolean"}
    schema = {"properties": {path: {"type": kinds.get(path, "string")} for path in indexes}}
    return defined(THREAD, "things", json.dumps(schema).encode(), indexes.items(), "", "")


@contextmanager
def opened(folder: Path) -> Iterator[Engine]:
    engine = Engine(folder)
    try:
        yield engine
    finally:
        engine.close()
