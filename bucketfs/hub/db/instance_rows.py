"""What collections and instances are in the Hub's database: the rows, the values of indexes, and what a scan may ask for."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from bucketfs.types import ThreadId

INDEXED_CHARS_MAX = 300
"""Of a longer text the index has so many characters; what it leaves is compared in full. PostgreSQL's indexes take 2,704 bytes of
path, text and id."""


class IndexKind(enum.IntEnum):
    """What stands at an indexed path of an instance."""

    MISSING = 0
    """Nothing, or something that is no scalar."""
    BOOL = 1
    NUMBER = 2
    TEXT = 3


@dataclass(frozen=True, slots=True)
class CollectionRow:
    """The definition of a collection. ``schema`` is JSON, ``indexes`` maps paths to whether they are unique."""

    thread: ThreadId
    name: str
    schema: bytes
    indexes: Mapping[str, bool]
    write_validator: str = ""
    read_filter: str = ""
    id: int = 0


@dataclass(frozen=True, slots=True)
class InstanceRow:
    """One instance as it is stored."""

    id: str
    body: str
    mod_ns: int


@dataclass(frozen=True, slots=True)
class IndexCondition:
    """What the value at an indexed path must be, at least: ``low`` ≤ value ≤ ``high``, each if given. Instances beyond may be left,
    never too few."""

    path: str
    kind: IndexKind
    low: float | str | None = None
    high: float | str | None = None


@dataclass(frozen=True, slots=True)
class Scan:
    """Which instances of a collection to go through, and in which order: by id, or by an indexed path and then by id."""

    condition: IndexCondition | None = None
    id_low: str | None = None
    id_high: str | None = None
    order_path: str = ""
    descending: bool = False


IndexValue = tuple[IndexKind, float | str | None]
"""The kind of what stands at an indexed path, and the value."""


@dataclass(frozen=True, slots=True)
class StoredChange:
    """An instance as it is to be stored, with the values of the indexed paths; ``body`` None removes it."""

    collection: CollectionRow
    id: str
    body: str | None
    mod_ns: int
    values: Mapping[str, IndexValue]


def indexed_value(value: float | str | None) -> float | str | None:
    """A value as the index has it: a double, or the beginning of a text. What no database column holds is replaced."""
    if isinstance(value, str):
        return value[:INDEXED_CHARS_MAX].encode("utf-8", "replace").decode().replace("\0", "\ufffd")
    return None if value is None else float(value)
