"""ThreadDB's query language: from the JSON of a client to a `Query`, and whether an instance matches it. Pure.

A query is JSON: ``ands`` (criteria that all hold) or any of ``ors`` (queries), then ``sort``, ``seek``, ``skip`` and ``limit``.
Keys are matched without case, as Go's JSON does; all numbers are floats. Sorting happens before skip and limit, which no known
client can tell from the original's order on the queries it sends. An instance that lacks a field of a criterion, or has another
type there, makes the whole find fail, as in the original.
"""

from __future__ import annotations

import enum
import json
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from bucketfs.errors import InvalidArgument

QUERY_BYTES_MAX = 1 << 20
DEPTH_MAX = 16
CRITERIA_MAX = 1000

Instance = dict[str, Any]
Value = str | bool | float


class Operation(enum.IntEnum):
    """What a criterion asks, by its number in the protocol."""

    EQ = 0
    NE = 1
    GT = 2
    LT = 3
    GE = 4
    LE = 5


_HOLDS: dict[Operation, Callable[[Any, Any], bool]] = {
    Operation.EQ: operator.eq,
    Operation.NE: operator.ne,
    Operation.GT: operator.gt,
    Operation.LT: operator.lt,
    Operation.GE: operator.ge,
    Operation.LE: operator.le,
}


@dataclass(frozen=True, slots=True)
class Criterion:
    """A field at ``path`` (dots for nesting), compared with ``value``."""

    path: str
    operation: Operation
    value: Value

    def holds(self, instance: Instance) -> bool:
        """Raises InvalidArgument where the field is missing, or has another type."""
        actual = field_of(instance, self.path)
        if kind_of(actual) is not kind_of(self.value):
            raise InvalidArgument(f"{_MATCHING}: instance field {self.path} has another type")
        return _HOLDS[self.operation](actual, self.value)


@dataclass(frozen=True, slots=True)
class Query:
    """A query, checked. ``limit`` 0 is no limit."""

    ands: tuple[Criterion, ...] = ()
    ors: tuple[Query, ...] = ()
    sort_path: str = "_id"
    descending: bool = False
    seek: str = ""
    skip: int = 0
    limit: int = 0
    index: str = ""

    def matches(self, instance: Instance) -> bool:
        """Raises InvalidArgument as `Criterion.holds` does."""
        # Empty `ands` are true, also beside `ors`: that is how the original has it.
        return all(criterion.holds(instance) for criterion in self.ands) or any(
            inner.matches(instance) for inner in self.ors
        )

    @property
    def by_id(self) -> bool:
        """Whether the results are in the order of their ids."""
        return self.sort_path == "_id"


_MATCHING = "error when matching entry with query"


def parse_query(query_json: bytes) -> Query:
    """Raises InvalidArgument with the text for the client."""
    if len(query_json) > QUERY_BYTES_MAX:
        raise InvalidArgument("query is too large")
    try:
        found = json.loads(query_json or b"{}", parse_constant=_no_constant)
    except RecursionError as error:
        raise InvalidArgument("query is too deep") from error
    except InvalidArgument:
        raise
    except ValueError as error:
        raise InvalidArgument("query is not JSON") from error
    return _Parser().query(_folded(found, 0))


class _Parser:
    def __init__(self) -> None:
        self._criteria_left = CRITERIA_MAX

    def query(self, found: Any) -> Query:
        if not isinstance(found, dict):
            raise InvalidArgument("query is not a JSON object")
        ands, ors = _part(found, "ands", list) or [], _part(found, "ors", list) or []
        if any(not isinstance(inner, dict) for inner in (*ands, *ors)):
            raise InvalidArgument("invalid query: ands and ors are lists of objects")
        sort = _part(found, "sort", dict) or {}
        return Query(
            ands=tuple(self._criterion(inner) for inner in ands),
            ors=tuple(self.query(inner) for inner in ors),
            sort_path=_part(sort, "fieldpath", str) or "_id",
            descending=bool(sort.get("desc")),
            seek=_seek(found),
            skip=_count(found, "skip"),
            limit=_count(found, "limit"),
            index=_part(found, "index", str) or "",
        )

    def _criterion(self, found: dict[str, Any]) -> Criterion:
        self._criteria_left -= 1
        if self._criteria_left < 0:
            raise InvalidArgument(f"a query may have {CRITERIA_MAX} criteria")
        path, number = found.get("fieldpath"), found.get("operation") or 0
        if not isinstance(path, str) or isinstance(number, bool) or number not in set(Operation):
            raise InvalidArgument("invalid query: criterion")
        return Criterion(path, Operation(number), _value(found.get("value")))


def _value(found: Any) -> Value:
    kinds: dict[str, type | tuple[type, ...]] = {"string": str, "bool": bool, "float": (int, float)}
    given = [] if not isinstance(found, dict) else [kind for kind in kinds if found.get(kind) is not None]
    if len(given) != 1:
        raise InvalidArgument("invalid query: value type should describe exactly one type")
    value: Any = found[given[0]]
    if not isinstance(value, kinds[given[0]]) or (given[0] == "float" and isinstance(value, bool)):
        raise InvalidArgument("invalid query: value type should describe exactly one type")
    if isinstance(value, (int, float)) and not _is_double(value):
        raise InvalidArgument("invalid query: a number is too large")
    return cast("Value", value)


def is_storable(text: str) -> bool:
    """Whether a database column can hold a text, and an id can be like that: no NUL, no half of a surrogate pair."""
    return "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)


def _is_double(value: float) -> bool:
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def _no_constant(text: str) -> float:
    raise InvalidArgument(f"invalid query: {text} is no JSON")


def _seek(found: dict[str, Any]) -> str:
    seek: str = _part(found, "seek", str) or ""
    if not is_storable(seek):
        raise InvalidArgument("invalid query: seek")
    return seek


def _folded(value: Any, depth: int) -> Any:
    """Keys in lower case, all the way down."""
    if depth > 2 * DEPTH_MAX:
        raise InvalidArgument("query is too deep")
    if isinstance(value, dict):
        return {key.lower(): _folded(inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, list):
        return [_folded(inner, depth + 1) for inner in value]
    return value


def _part(found: dict[str, Any], name: str, kind: type) -> Any:
    value = found.get(name)
    if value is not None and not isinstance(value, kind):
        raise InvalidArgument(f"invalid query: {name}")
    return value


def _count(found: dict[str, Any], name: str) -> int:
    value = found.get(name) or 0
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 2**53:
        raise InvalidArgument(f"invalid query: {name}")
    return int(value)


def field_of(instance: Instance, path: str) -> Any:
    """The value at a path. Raises InvalidArgument where there is none."""
    value: Any = instance
    for name in path.split("."):
        if not isinstance(value, dict) or name not in value:
            raise InvalidArgument(f"{_MATCHING}: instance field {path} doesn't exist in type object")
        value = value[name]
    return value


def kind_of(value: Any) -> type | None:
    """Of a scalar: str, bool, or float for all numbers; ``None`` for anything else."""
    if isinstance(value, bool):
        return bool
    if isinstance(value, (int, float)):
        return float
    return str if isinstance(value, str) else None


def sort_value(instance: Instance, path: str) -> tuple[str, Any]:
    """What to sort an instance by: values of one type after another. Raises InvalidArgument where it cannot be sorted by."""
    try:
        value = field_of(instance, path)
    except InvalidArgument as error:
        raise InvalidArgument(SORT_FIELD) from error
    kind = kind_of(value)
    if kind is None:
        raise InvalidArgument(SORT_FIELD)
    return kind.__name__, value


SORT_FIELD = "sorting field doesn't correspond to instance type"
