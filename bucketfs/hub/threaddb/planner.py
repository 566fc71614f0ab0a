"""From a query to the scan that finds its instances: which index leaves the fewest, and in which order they come. Pure.

A scan may leave more than the query wants, never less: each instance is compared in full afterwards. A collection with a read
filter is scanned by id only, since the reader's instances may differ from those that the index was made of.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from bucketfs.errors import InvalidArgument
from bucketfs.hub.db import CollectionRow, IndexCondition, IndexKind, Scan
from bucketfs.hub.threaddb.definition import kind_in_index
from bucketfs.hub.threaddb.query import Operation, Query, is_storable


@dataclass(frozen=True, slots=True)
class Plan:
    """``sorted``: the scan gives the order that the query wants. ``indexed``: paths that were looked up with values of one kind, so
    that instances without such a value, for which the query fails, have to be looked for."""

    scan: Scan
    sorted: bool
    indexed: tuple[tuple[str, IndexKind], ...] = ()


ORDERED_MAX = 1000
"""Results that are read in the order of an index, which takes a look-up for each value. More are sorted in memory."""


def plan(query: Query, collection: CollectionRow, *, in_order_of_values: bool = True) -> Plan:
    """Raises InvalidArgument for an index that is not there."""
    if query.index and query.index != "_id" and query.index not in collection.indexes:
        raise InvalidArgument(f"index {query.index} not found")
    low, high = _id_bounds(query)
    by_id = Scan(id_low=low, id_high=high, descending=query.by_id and query.descending)
    if collection.read_filter or query.ors:
        return Plan(by_id, query.by_id)
    if in_order_of_values and _reads_in_order(query, collection):
        condition = _condition(query.sort_path, query)
        scan = Scan(condition, low, high, order_path=query.sort_path, descending=query.descending)
        return Plan(scan, True, _looked_up(condition))
    conditions = [found for path in collection.indexes if (found := _condition(path, query)) is not None]
    # One value leaves less than a range does, and two bounds less than one.
    best = min(conditions, key=lambda one: (one.low != one.high, one.low is None or one.high is None), default=None)
    return Plan(replace(by_id, condition=best), query.by_id, _looked_up(best))


def _reads_in_order(query: Query, collection: CollectionRow) -> bool:
    """Whether the first entries of the index of the sorted field are the results."""
    wanted = query.skip + query.limit if query.limit else ORDERED_MAX + 1
    others = any(criterion.path not in (query.sort_path, "_id") for criterion in query.ands)
    return query.sort_path in collection.indexes and wanted <= ORDERED_MAX and not others


def _looked_up(condition: IndexCondition | None) -> tuple[tuple[str, IndexKind], ...]:
    return () if condition is None else ((condition.path, condition.kind),)


def _condition(path: str, query: Query) -> IndexCondition | None:
    """What all criteria on a path leave together; ``None`` where there are none that an index can tell, or they contradict."""
    mine = [one for one in query.ands if one.path == path and one.operation is not Operation.NE]
    kinds = {kind_in_index(one.value) for one in mine}
    if len(kinds) != 1:
        return None
    lows: list[Any] = [one.value for one in mine if one.operation in (Operation.EQ, Operation.GT, Operation.GE)]
    highs: list[Any] = [one.value for one in mine if one.operation in (Operation.EQ, Operation.LT, Operation.LE)]
    return IndexCondition(path, kinds.pop(), max(lows, default=None), min(highs, default=None))


def _id_bounds(query: Query) -> tuple[str | None, str | None]:
    """The ids that are wanted, at least and at most."""
    lows: list[str] = []
    highs: list[str] = []
    if query.seek:
        (highs if query.by_id and query.descending else lows).append(query.seek)
    for criterion in () if query.ors else query.ands:
        if criterion.path == "_id" and isinstance(criterion.value, str):
            if not is_storable(criterion.value):
                continue  # no id is like that; instances are compared with it afterwards
            if criterion.operation in (Operation.EQ, Operation.GT, Operation.GE):
                lows.append(criterion.value)
            if criterion.operation in (Operation.EQ, Operation.LT, Operation.LE):
                highs.append(criterion.value)
    return max(lows, default=None), min(highs, default=None)
