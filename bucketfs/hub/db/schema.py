"""The tables of a Hub's database, explained where each is made, and how a database is opened.

Times are nanoseconds since 1970. Public keys are their multibase text. Nothing here depends on SQLite except
``open_engine``.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, MetaData, Table, Text

from bucketfs.disk import make_private_file
from bucketfs.errors import Usage
from bucketfs.hub.config import Address

SCHEMA_VERSION = 3
_tables = MetaData()

# One row per fact about the hub itself: `schema` (the version of these tables) and `host_seed` (the ed25519 seed of the host
# key that signs tokens; it lives here so that every process over one database signs with the same key).
settings = Table("settings", _tables, Column("name", Text, primary_key=True), Column("value", LargeBinary, nullable=False))

# Developers and orgs. `username` is shown with its case, unique without it: `username_folded`. An org's is its slug. Orgs
# have no email, hence NULL there. `seed` is the account's private key: the protocol has the hub keep it.
accounts = Table(
    "accounts",
    _tables,
    Column("account", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("username", Text, nullable=False),
    Column("username_folded", Text, nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("email", Text),
    Column("email_folded", Text, unique=True),
    Column("seed", LargeBinary, nullable=False),
    Column("token", Text, nullable=False),
    Column("created_at_ns", BigInteger, nullable=False),
)

# Who is in which org, as `owner` or `member`.
members = Table(
    "members",
    _tables,
    Column("org", Text, primary_key=True),
    Column("member", Text, primary_key=True, index=True),
    Column("role", Text, nullable=False),
    Column("created_at_ns", BigInteger, nullable=False),
)

# Sessions by the SHA-256 of their text: a stolen copy of the table opens no session. The texts are random, so no salt is
# needed.
sessions = Table(
    "sessions",
    _tables,
    Column("session_hash", LargeBinary, primary_key=True),
    Column("user", Text, nullable=False, index=True),
    Column("expires_at_ns", BigInteger, nullable=False),
)

# API keys. The secret must be kept as it is: it is the key of an HMAC, and ListKeys shows it. An invalidated key stays
# listed.
keys = Table(
    "keys",
    _tables,
    Column("key", Text, primary_key=True),
    Column("secret", Text, nullable=False),
    Column("owner", Text, nullable=False, index=True),
    Column("type", Integer, nullable=False),
    Column("secure", Boolean, nullable=False),
    Column("valid", Boolean, nullable=False),
    Column("created_at_ns", BigInteger, nullable=False),
)

# Invitations to orgs, by the SHA-256 of their token. `accepted` waits for a sign-up with that email.
invites = Table(
    "invites",
    _tables,
    Column("token_hash", LargeBinary, primary_key=True),
    Column("org", Text, nullable=False, index=True),
    Column("sender", Text, nullable=False),
    Column("email_folded", Text, nullable=False, index=True),
    Column("accepted", Boolean, nullable=False),
    Column("expires_at_ns", BigInteger, nullable=False),
)

# Threads, each with its one owner. `realm` is the owner of the user group key that it was made with, empty for an account's own
# (rows.ThreadRow). `name_folded` is NULL for a nameless thread (an owner may have many) and unique per owner and realm
# otherwise. `key` is the service key and the read key, which GetDBInfo tells.
threads = Table(
    "threads",
    _tables,
    Column("id", LargeBinary, primary_key=True),
    Column("owner", Text, nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("name_folded", Text),
    Column("db_name", Text, nullable=False),
    Column("api_key", Text, nullable=False),
    Column("is_db", Boolean, nullable=False),
    Column("key", LargeBinary, nullable=False),
    Column("created_at_ns", BigInteger, nullable=False),
    Column("realm", Text, nullable=False, server_default=""),
    Index("threads_owner_realm_name", "owner", "realm", "name_folded", unique=True),
)

# Buckets. `root` is the binary CID of the current tree; `revision` counts saves and is what a compare-and-swap is made on.
# `size_bytes` is the cumulative size of the tree, -1 where it was never counted.
buckets = Table(
    "buckets",
    _tables,
    Column("key", Text, primary_key=True),
    Column("thread", LargeBinary, nullable=False, index=True),
    Column("owner", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("link_key", LargeBinary),
    Column("root", LargeBinary, nullable=False),
    Column("created_at_ns", BigInteger, nullable=False),
    Column("updated_at_ns", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("size_bytes", BigInteger, nullable=False, server_default="-1"),
)

# What each account has, its users' things included: running counts, kept by the transactions that change them, so that asking
# for what is left costs one row. The collector counts anew.
usage = Table(
    "usage",
    _tables,
    Column("account", Text, primary_key=True),
    Column("threads", BigInteger, nullable=False),
    Column("buckets", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
)

# What a bucket knows about single paths (rows.PathEntry); `roles` is JSON text. A table of its own, because a bucket may
# have an entry per file and a push changes a few of them.
paths = Table(
    "paths",
    _tables,
    Column("bucket", Text, primary_key=True),
    Column("path", Text, primary_key=True),
    Column("key", LargeBinary),
    Column("roles", Text, nullable=False),
    Column("updated_at_ns", BigInteger, nullable=False),
)

# Text that compares as its UTF-8 bytes do, as ids of instances must. SQLite's does by itself.
_BYTES_IN_ORDER = Text().with_variant(Text(collation="C"), "postgresql")

# Collections of databases, which are threads. `schema` is what the client gave, `indexes` JSON: [[path, unique], …].
# `size_bytes` is what the bodies of all instances take, a running count like those in `usage`.
collections = Table(
    "collections",
    _tables,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("thread", LargeBinary, nullable=False),
    Column("name", Text, nullable=False),
    Column("schema", LargeBinary, nullable=False),
    Column("indexes", Text, nullable=False),
    Column("write_validator", Text, nullable=False),
    Column("read_filter", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Index("collections_thread_name", "thread", "name", unique=True),
)

# Instances. `body` is their JSON without `_mod`, which is `mod_ns`.
instances = Table(
    "instances",
    _tables,
    Column("collection", Integer, primary_key=True, autoincrement=False),
    Column("id", _BYTES_IN_ORDER, primary_key=True),
    Column("body", Text, nullable=False),
    Column("mod_ns", BigInteger, nullable=False),
)

# One row for each instance and index of its collection: the value of the field, in `number` (bools, too) or, cut to some length, in
# `text`; `kind` is one of `instances.IndexKind`. ADR 10 says why the values stand here and not in an index over the JSON.
index_entries = Table(
    "index_entries",
    _tables,
    Column("collection", Integer, nullable=False),
    Column("path", Text, nullable=False),
    Column("kind", Integer, nullable=False),
    Column("number", sa.Double),
    Column("text", _BYTES_IN_ORDER),
    Column("id", _BYTES_IN_ORDER, nullable=False),
    Index("index_entries_number", "collection", "path", "kind", "number", "id"),
    Index("index_entries_text", "collection", "path", "kind", "text", "id"),
    Index("index_entries_id", "collection", "id"),
)


# Layout n to n + 1. The tables that are new in a layout are made by `open_engine`.
UPGRADES: dict[int, tuple[str, ...]] = {
    1: (
        "ALTER TABLE threads ADD COLUMN realm TEXT NOT NULL DEFAULT ''",
        # A user's thread has a user group key (type 2); one that an account made has none, or an account key.
        "UPDATE threads SET realm = (SELECT owner FROM keys WHERE keys.key = threads.api_key)"
        " WHERE api_key IN (SELECT key FROM keys WHERE type = 2)",
        "DROP INDEX threads_owner_name",
        "CREATE UNIQUE INDEX threads_owner_realm_name ON threads (owner, realm, name_folded)",
        "ALTER TABLE buckets ADD COLUMN size_bytes BIGINT NOT NULL DEFAULT -1",
    ),
    2: (),
}


def sqlite_url(folder: Path) -> sa.URL:
    """The default database in a hub's data folder."""
    # Not as a text: the path may have bytes that no URL holds.
    return sa.URL.create("sqlite", database=str(folder / "hub.sqlite"))


def open_engine(url: str | sa.URL) -> sa.Engine:
    """An engine on ``url`` with the tables made. A SQLite file is made with mode 0600 before anything is written to it.

    Raises SQLAlchemy's errors, OSError when the file cannot be made, and Usage where secrets would cross a network in clear text.
    """
    parsed = sa.make_url(url)
    # At DEBUG the engine logs the rows of every answer, and they hold secrets. (Parameters it hides when told so, below.)
    engine_log = logging.getLogger("sqlalchemy.engine")
    if engine_log.getEffectiveLevel() < logging.INFO:
        engine_log.setLevel(logging.INFO)
    _check_transport(parsed)
    # Parameters are secrets often enough; without them an error of the database may be logged.
    if parsed.get_backend_name() != "sqlite":
        # A bucket and its path entries are read by two statements and must be of one moment.
        engine = sa.create_engine(parsed, pool_pre_ping=True, isolation_level="REPEATABLE READ", hide_parameters=True)
        _tables.create_all(engine)
        return engine
    if not parsed.database or parsed.database == ":memory:":
        raise ValueError("a hub's SQLite database must be a file")
    make_private_file(parsed.database)
    # A root change wakes every listener of its thread at once, and each reads the bucket: they queue for these connections.
    engine = sa.create_engine(
        parsed, connect_args={"timeout": 30.0}, hide_parameters=True, pool_size=16, max_overflow=0, pool_timeout=60.0
    )
    sa.event.listen(engine, "connect", _sqlite_connected)
    sa.event.listen(engine, "begin", _sqlite_begin)
    with engine.execution_options(bucketfs_write=True).begin() as connection:
        _tables.create_all(connection)
    return engine


def _check_transport(url: sa.URL) -> None:
    """PostgreSQL's clients go on in clear text with a server (or an impostor) that offers no encryption, unless the
    mode says otherwise. A host may be named in the query, too, and there may be several."""
    if url.get_backend_name() != "postgresql":
        return
    mode = _words(url, "sslmode") or [os.environ.get("PGSSLMODE", "")]
    if not set(mode) & {"", "allow", "prefer"}:
        return
    hosts = [url.host or "", *_words(url, "host"), *_words(url, "hostaddr")]
    elsewhere = [host for host in hosts if host and not host.startswith("/") and not Address(host).local]
    if elsewhere:
        raise Usage(
            f"the connection to the database at {elsewhere[0]} may not be encrypted, and it carries every secret of the hub",
            hint="add ?sslmode=verify-full to serve.database, or ?sslmode=disable if that network is your own",
        )


def _words(url: sa.URL, name: str) -> list[str]:
    """What the query of a URL says under a name: once or several times, each perhaps a list."""
    return [word for said in url.normalized_query.get(name, ()) for word in said.split(",")]


def _sqlite_connected(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves, see below
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "busy_timeout = 30000"):
        connection.execute(f"PRAGMA {pragma}").close()


def _sqlite_begin(connection: sa.Connection) -> None:
    # A transaction that reads first and writes later fails at once when another wrote in between, whatever the busy timeout
    # is; so writers take the write lock at the beginning.
    write = connection.get_execution_options().get("bucketfs_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
