"""Going through the instances of a collection in SQL: by id, by a condition on an indexed path, or in the order of one.

Rows come in batches, each read in a transaction of its own that starts after the last id: who takes long with one batch (a slow
client, the function of a stranger) holds no connection meanwhile. So an instance that is written during a scan may be among its
rows or not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from itertools import islice
from typing import Any

import sqlalchemy as sa

import bucketfs.hub.db.schema as tables
from bucketfs.hub.db.instance_rows import IndexCondition, IndexKind, InstanceRow, Scan, indexed_value

Connect = Callable[[], AbstractContextManager[sa.Connection]]
"""A transaction for one batch."""

BODIES_FIRST, BODIES_MAX = 16, 128
"""Instances of a batch, which may have megabytes each."""
IDS_FIRST, IDS_MAX = 256, 1 << 16
"""Each batch of ids that match a range goes through all entries of the range, so batches grow."""
_SCALARS = (IndexKind.BOOL, IndexKind.NUMBER, IndexKind.TEXT)


def scanned(connect: Connect, collection: int, wanted: Scan) -> Iterator[InstanceRow]:
    """The instances that a scan leaves, in its order."""
    if wanted.order_path:
        return _fetched(connect, collection, _in_order_of_values(connect, collection, wanted))
    if wanted.condition is not None:
        return _fetched(connect, collection, _matching(connect, collection, wanted, wanted.condition))
    return _by_id(connect, collection, wanted)


def kinds_at(connection: sa.Connection, collection: int, path: str) -> set[IndexKind]:
    """What the instances of a collection have at an indexed path."""
    index = tables.index_entries.c
    mine = (index.collection == collection, index.path == path)
    probes = {kind: sa.select(index.id).where(*mine, index.kind == int(kind)).limit(1) for kind in IndexKind}
    return {kind for kind, probe in probes.items() if connection.execute(probe).first() is not None}


def _by_id(connect: Connect, collection: int, wanted: Scan) -> Iterator[InstanceRow]:
    columns = tables.instances.c
    query = sa.select(columns.id, columns.body, columns.mod_ns).where(columns.collection == collection)
    for rows in _batches(connect, query, columns.id, wanted, BODIES_FIRST, BODIES_MAX):
        yield from (InstanceRow(row.id, row.body, row.mod_ns) for row in rows)


def _matching(connect: Connect, collection: int, wanted: Scan, condition: IndexCondition) -> Iterator[str]:
    """The ids that a condition leaves, in their order."""
    index = tables.index_entries.c
    query = sa.select(index.id).where(*_entries(collection, condition))
    for rows in _batches(connect, query, index.id, wanted, IDS_FIRST, IDS_MAX):
        yield from (row.id for row in rows)


def _in_order_of_values(connect: Connect, collection: int, wanted: Scan) -> Iterator[str]:
    """Ids in the order of the values at ``order_path``; those of one value in their own order, whatever the direction."""
    conditions = [wanted.condition] if wanted.condition else [IndexCondition(wanted.order_path, kind) for kind in _SCALARS]
    upwards = Scan(id_low=wanted.id_low, id_high=wanted.id_high)
    for condition in reversed(conditions) if wanted.descending else conditions:
        for value in _values(connect, collection, condition, descending=wanted.descending):
            one = IndexCondition(condition.path, condition.kind, value, value)
            yield from _matching(connect, collection, upwards, one)


def _values(connect: Connect, collection: int, condition: IndexCondition, *, descending: bool) -> Iterator[float | str]:
    """The values that a condition leaves, each once."""
    column = _column(condition.kind)
    query = sa.select(column).where(*_entries(collection, condition)).limit(1)
    query = query.order_by(column.desc() if descending else column)
    beyond: list[sa.ColumnElement[bool]] = []
    while True:
        with connect() as connection:
            value = connection.execute(query.where(*beyond)).scalar()
        if value is None:
            return
        yield value
        beyond = [column < value if descending else column > value]


def _batches(
    connect: Connect, query: sa.Select[Any], column: Any, wanted: Scan, first: int, most: int
) -> Iterator[list[Any]]:
    """The rows of a query in the order of their ids, within the bounds of a scan."""
    if wanted.id_low is not None:
        query = query.where(column >= wanted.id_low)
    if wanted.id_high is not None:
        query = query.where(column <= wanted.id_high)
    query = query.order_by(column.desc() if wanted.descending else column)
    beyond: list[sa.ColumnElement[bool]] = []
    count = first
    while True:
        with connect() as connection:
            rows: list[Any] = list(connection.execute(query.where(*beyond).limit(count)))
        yield rows
        if len(rows) < count:
            return
        last = rows[-1].id
        beyond = [column < last if wanted.descending else column > last]
        count = min(2 * count, most)


def _fetched(connect: Connect, collection: int, ids: Iterable[str]) -> Iterator[InstanceRow]:
    """The instances of these ids, in their order. One that was deleted meanwhile is left out."""
    columns, left, count = tables.instances.c, iter(ids), BODIES_FIRST
    while batch := list(islice(left, count)):
        query = sa.select(columns.id, columns.body, columns.mod_ns).where(
            columns.collection == collection, columns.id.in_(batch)
        )
        with connect() as connection:
            found = {row.id: InstanceRow(row.id, row.body, row.mod_ns) for row in connection.execute(query)}
        yield from (found[one] for one in batch if one in found)
        count = min(2 * count, BODIES_MAX)


def _entries(collection: int, condition: IndexCondition) -> list[sa.ColumnElement[bool]]:
    index, column = tables.index_entries.c, _column(condition.kind)
    found = [index.collection == collection, index.path == condition.path, index.kind == int(condition.kind)]
    low, high = indexed_value(condition.low), indexed_value(condition.high)
    if low is not None and low == high:
        return [*found, column == low]
    if low is not None:
        found.append(column >= low)
    if high is not None:
        found.append(column <= high)
    return found


def _column(kind: IndexKind) -> Any:
    return tables.index_entries.c.text if kind is IndexKind.TEXT else tables.index_entries.c.number
