"""ThreadDB's query language over instances. Pure.

A query is JSON: ``ands`` (criteria that all hold) or any of ``ors`` (queries), then ``sort``, ``seek``, ``skip`` and
``limit``. Keys are matched without case, as Go's JSON does; all numbers are floats. Sorting happens before skip and limit,
which no known client can tell from the original's order on the queries it sends.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Sequence
from typing import Any

from bucketfs.errors import InvalidArgument

QUERY_BYTES_MAX = 1 << 20
DEPTH_MAX = 16
_OPERATIONS: tuple[Callable[[Any, Any], bool], ...] = (
    operator.eq,
    operator.ne,
    operator.gt,
    operator.lt,
    operator.ge,
    operator.le,
)


def select(query_json: bytes, instances: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The instances a query asks for. Raises InvalidArgument with the text for the client."""
    query = _parse(query_json)
    found = sorted((one for one in instances if _matches(query, one)), key=lambda one: str(one["_id"]))
    sort = _part(query, "sort", dict) or {}
    path, descending = _part(sort, "fieldpath", str) or "_id", bool(sort.get("desc"))
    if path != "_id" or descending:
        try:
            found.sort(key=lambda one: _field(one, path), reverse=descending)
        except (TypeError, InvalidArgument) as error:
            raise InvalidArgument("sorting field doesn't correspond to instance type") from error
    seek = _part(query, "seek", str)
    if seek:
        found = [
            one for one in found if (str(one["_id"]) <= seek if descending and path == "_id" else str(one["_id"]) >= seek)
        ]
    skip, limit = _count(query, "skip"), _count(query, "limit")
    return found[skip : skip + limit] if limit else found[skip:]


def _parse(query_json: bytes) -> dict[str, Any]:
    if len(query_json) > QUERY_BYTES_MAX:
        raise InvalidArgument("query is too large")
    try:
        query = json.loads(query_json or b"{}")
    except (ValueError, RecursionError) as error:
        raise InvalidArgument("query is not JSON") from error
    if not isinstance(query, dict):
        raise InvalidArgument("query is not a JSON object")
    folded: dict[str, Any] = _folded(query, 0)
    return folded


def _folded(value: Any, depth: int) -> Any:
    """Keys in lower case, all the way down."""
    if depth > 2 * DEPTH_MAX:
        raise InvalidArgument("query is too deep")
    if isinstance(value, dict):
        return {key.lower(): _folded(inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, list):
        return [_folded(inner, depth + 1) for inner in value]
    return value


def _part(query: dict[str, Any], name: str, kind: type) -> Any:
    value = query.get(name)
    if value is not None and not isinstance(value, kind):
        raise InvalidArgument(f"invalid query: {name}")
    return value


def _count(query: dict[str, Any], name: str) -> int:
    value = query.get(name) or 0
    if not isinstance(value, (int, float)) or not 0 <= value < 2**53:
        raise InvalidArgument(f"invalid query: {name}")
    return int(value)


def _matches(query: dict[str, Any], instance: dict[str, Any]) -> bool:
    ands: list[Any] = _part(query, "ands", list) or []
    ors: list[Any] = _part(query, "ors", list) or []
    if any(not isinstance(inner, dict) for inner in (*ands, *ors)):
        raise InvalidArgument("invalid query: ands and ors are lists of objects")
    # Empty `ands` are true, also beside `ors`: that is how the original has it.
    if all(_holds(criterion, instance) for criterion in ands):
        return True
    return any(_matches(inner, instance) for inner in ors)


def _holds(criterion: dict[str, Any], instance: dict[str, Any]) -> bool:
    path, operation = criterion.get("fieldpath"), criterion.get("operation") or 0
    if not isinstance(path, str) or not isinstance(operation, int) or not 0 <= operation < len(_OPERATIONS):
        raise InvalidArgument("invalid query: criterion")
    wanted = _wanted(criterion.get("value"))
    actual = _field(instance, path)
    if isinstance(actual, bool) != isinstance(wanted, bool) or isinstance(actual, str) != isinstance(wanted, str):
        raise InvalidArgument(f"error when matching entry with query: instance field {path} has another type")
    try:
        return bool(_OPERATIONS[operation](actual, wanted))
    except TypeError as error:
        raise InvalidArgument(f"error when matching entry with query: instance field {path} has another type") from error


def _wanted(value: Any) -> Any:
    given = (
        []
        if not isinstance(value, dict)
        else [value[kind] for kind in ("string", "bool", "float") if value.get(kind) is not None]
    )
    if len(given) != 1:
        raise InvalidArgument("invalid query: value type should describe exactly one type")
    return given[0]


def _field(instance: dict[str, Any], path: str) -> Any:
    value: Any = instance
    for name in path.split("."):
        if not isinstance(value, dict) or name not in value:
            raise InvalidArgument(
                f"error when matching entry with query: instance field {path} doesn't exist in type object"
            )
        value = value[name]
    return value
