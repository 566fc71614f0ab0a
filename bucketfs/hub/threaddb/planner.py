"""From a query to the scan that finds its instances: which index leaves the fewest, and in which order they come. Pure.

A scan may leave more than the query wants, never less: each instance is compared in full afterwards. A collection with a read
filter is scanned by id only, since the reader's instances may differ from those that the index was made of.
"""

from __future__ import annotations

from dataclasses import dataclass

from bucketfs.errors import InvalidArgument
from bucketfs.hub.db import CollectionRow, IndexCondition, IndexKind, Scan
from bucketfs.hub.threaddb.definition import kind_in_index
from bucketfs.hub.threaddb.query import Criterion, Operation, Query


@dataclass(frozen=True, slots=True)
class Plan:
    """``sorted``: the scan gives the order that the query wants. ``indexed``: paths that were looked up with values of one kind, so
    that instances without such a value, for which the query fails, have to be looked for."""

    scan: Scan
    sorted: bool
    indexed: tuple[tuple[str, IndexKind], ...] = ()


def plan(query: Query, collection: CollectionRow) -> Plan:
    """Raises InvalidArgument for an index that is not there."""
    if query.index and query.index != "_id" and query.index not in collection.indexes:
        raise InvalidArgument(f"index {query.index} not found")
    low, high = _id_bounds(query)
    by_id = Scan(id_low=low, id_high=high, descending=query.by_id and query.descending)
    if collection.read_filter or query.ors:
        return Plan(by_id, query.by_id)
    best = min(
        (criterion for criterion in query.ands if _narrows(criterion, collection)),
        key=lambda criterion: criterion.operation is not Operation.EQ,
        default=None,
    )
    if best is None:
        return Plan(by_id, query.by_id)
    condition = _condition(best)
    scan = Scan(condition, low, high, descending=query.by_id and query.descending)
    return Plan(scan, query.by_id, ((best.path, condition.kind),))


def _narrows(criterion: Criterion, collection: CollectionRow) -> bool:
    return criterion.path in collection.indexes and criterion.operation is not Operation.NE


def _condition(criterion: Criterion) -> IndexCondition:
    kind, value, operation = kind_in_index(criterion.value), criterion.value, criterion.operation
    low = value if operation in (Operation.EQ, Operation.GT, Operation.GE) else None
    high = value if operation in (Operation.EQ, Operation.LT, Operation.LE) else None
    return IndexCondition(criterion.path, kind, low, high)


def _id_bounds(query: Query) -> tuple[str | None, str | None]:
    """The ids that are wanted, at least and at most."""
    lows: list[str] = []
    highs: list[str] = []
    if query.seek:
        (highs if query.by_id and query.descending else lows).append(query.seek)
    for criterion in () if query.ors else query.ands:
        if criterion.path == "_id" and isinstance(criterion.value, str):
            if criterion.operation in (Operation.EQ, Operation.GT, Operation.GE):
                lows.append(criterion.value)
            if criterion.operation in (Operation.EQ, Operation.LT, Operation.LE):
                highs.append(criterion.value)
    return max(lows, default=None), min(highs, default=None)
