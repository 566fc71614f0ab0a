"""What each account has, in SQL: running counts that the transactions keep which change them, and their correction.

A user's threads and buckets count against the owner of the user group key. Limits are looked at where the counts change, in
one conditional UPDATE, so that two pushes at once cannot both take the last free bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import sqlalchemy as sa

import bucketfs.hub.db.schema as tables
from bucketfs.errors import Corrupt, NotFound, OverQuota
from bucketfs.hub.config import NO_LIMITS, AccountLimits
from bucketfs.hub.db.engine import Database
from bucketfs.hub.db.models import AccountUsage
from bucketfs.types import Cid, ThreadId

STORAGE = "storage quota exhausted"
"""How a refusal for want of bytes begins: clients look for it."""
_FIELDS = ("threads", "buckets", "bytes")


class Accounting:
    """The counts of a hub. Thread-safe; any number of processes may share one database."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def usage(self, account: str) -> AccountUsage:
        """What an account has. One row is read."""
        with self._db.read() as connection:
            return _usage(connection, account) or AccountUsage()

    def correct_usage(self, size_of: Callable[[Cid, bytes | None], int], *, all_buckets: bool = True) -> None:
        """Counts anew: the size of every bucket (or of those never counted) by ``size_of`` its root and link key,
        and then every account's things. Buckets whose root ``size_of`` cannot read (Corrupt, NotFound) keep the size they had.
        """
        columns = tables.buckets.c
        query = sa.select(columns.key, columns.root, columns.link_key, columns.size_bytes)
        with self._db.read() as connection:
            rows = connection.execute(query if all_buckets else query.where(columns.size_bytes < 0)).all()
        found = {}
        for row in rows:
            try:
                size_bytes = size_of(Cid(row.root), row.link_key)
            except (Corrupt, NotFound):
                continue
            if size_bytes != row.size_bytes:
                found[row.key, row.root] = size_bytes
        if not found and not all_buckets:
            return
        with self._db.write() as connection:
            for (key, root), size_bytes in found.items():
                # A bucket that was changed meanwhile was counted with the change.
                where = (columns.key == key, columns.root == root)
                connection.execute(tables.buckets.update().where(*where).values(size_bytes=size_bytes))
            _count_anew(connection)


def payer_of(connection: sa.Connection, thread: ThreadId) -> str | None:
    """The account that a thread counts against; ``None`` when there is no such thread."""
    columns = tables.threads.c
    found = connection.execute(sa.select(columns.realm, columns.owner).where(columns.id == thread)).one_or_none()
    return None if found is None else found.realm or found.owner


def charge(connection: sa.Connection, account: str, change: AccountUsage, limits: AccountLimits = NO_LIMITS) -> None:
    """Adds (or, negative, takes away). Raises OverQuota when what grows would pass its limit: shrinking is always allowed."""
    counts = tables.usage.c
    grown = [(name, getattr(change, name), getattr(limits, name)) for name in _FIELDS]
    fits = [counts[name] + more <= most for name, more, most in grown if more > 0 and most]
    values = {name: counts[name] + more for name, more, _ in grown if more}
    if not values:
        return
    if connection.execute(tables.usage.update().where(counts.account == account, *fits).values(values)).rowcount == 1:
        return
    had = _usage(connection, account)
    refuse_growth(had or AccountUsage(), change, limits)
    if had is None:
        connection.execute(tables.usage.insert().values(account=account, **{name: more for name, more, _ in grown}))


def refuse_growth(had: AccountUsage, change: AccountUsage, limits: AccountLimits) -> None:
    """Raises OverQuota, with the reason, when an account that has ``had`` may not have ``change`` more."""
    if limits.threads and 0 < change.threads > limits.threads - had.threads:
        raise OverQuota("number of threads per owner exceeds quota")
    if limits.buckets and 0 < change.buckets > limits.buckets - had.buckets:
        raise OverQuota(f"number of buckets per owner exceeds quota: the account has {had.buckets} of {limits.buckets}")
    if limits.bytes and 0 < change.bytes > limits.bytes - had.bytes:
        raise OverQuota(
            f"{STORAGE}: the account has {had.bytes} of {limits.bytes} bytes, and {change.bytes} more do not fit"
        )


def _usage(connection: sa.Connection, account: str) -> AccountUsage | None:
    counts = tables.usage.c
    found = connection.execute(sa.select(tables.usage).where(counts.account == account)).one_or_none()
    return None if found is None else AccountUsage(found.threads, found.buckets, found.bytes)


def _count_anew(connection: sa.Connection) -> None:
    threads, buckets, usage = tables.threads.c, tables.buckets.c, tables.usage.c
    # A later charge waits for this lock and adds to the new count; an earlier one has committed and is counted.
    known = set(connection.execute(sa.select(usage.account).with_for_update()).scalars())
    payer = sa.case((threads.realm != "", threads.realm), else_=threads.owner)
    size = sa.case((buckets.size_bytes > 0, buckets.size_bytes), else_=0)
    by_thread = sa.select(payer.label("account"), sa.func.count().label("n")).group_by(payer)
    by_bucket = (
        sa.select(payer.label("account"), sa.func.count().label("n"), sa.func.sum(size).label("size"))
        .select_from(tables.buckets.join(tables.threads, buckets.thread == threads.id))
        .group_by(payer)
    )
    in_instances = (
        sa.select(payer.label("account"), sa.func.sum(tables.collections.c.size_bytes).label("size"))
        .select_from(tables.collections.join(tables.threads, tables.collections.c.thread == threads.id))
        .group_by(payer)
    )
    counted = {row.account: AccountUsage(threads=row.n) for row in connection.execute(by_thread)}
    for row in connection.execute(by_bucket):
        counted[row.account] = AccountUsage(counted[row.account].threads, row.n, int(row.size))
    for row in connection.execute(in_instances):
        had = counted[row.account]
        counted[row.account] = replace(had, bytes=had.bytes + int(row.size))
    for account in known | counted.keys():
        count = counted.get(account, AccountUsage())
        values = {"threads": count.threads, "buckets": count.buckets, "bytes": count.bytes}
        if account in known:
            connection.execute(tables.usage.update().where(usage.account == account).values(values))
        else:
            connection.execute(tables.usage.insert().values(account=account, **values))
