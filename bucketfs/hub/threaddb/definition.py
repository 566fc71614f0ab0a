"""The definition of a collection: checked where a client gives it, parsed once where it is used."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

from bucketfs.errors import InvalidArgument
from bucketfs.hub.db import INDEXED_CHARS_MAX, CollectionRow, IndexKind, IndexValue
from bucketfs.hub.threaddb.json_schema import CollectionSchema
from bucketfs.hub.threaddb.query import Instance, field_of, kind_of
from bucketfs.types import ThreadId

NAME_TEXT = "name may only contain alphanumeric characters or non-consecutive hyphens, and cannot begin or end with a hyphen"
NOT_INDEXABLE = "value not indexable"
INDEXES_MAX = 32
NAME_CHARS_MAX = 256
PATH_BYTES_MAX = 256
"""Of an index: it is stored once for each instance."""
_NAME = re.compile(r"[A-Za-z0-9]+(?:[-][A-Za-z0-9]+)*")
_KINDS = {bool: IndexKind.BOOL, float: IndexKind.NUMBER, str: IndexKind.TEXT}


def check_name(name: str) -> None:
    """Raises InvalidArgument for a name that no thread, database or collection can have."""
    if len(name) > NAME_CHARS_MAX or not _NAME.fullmatch(name):
        raise InvalidArgument(NAME_TEXT)


def defined(
    thread: ThreadId, name: str, schema: bytes, indexes: Iterable[tuple[str, bool]], write_validator: str, read_filter: str
) -> CollectionRow:
    """The definition that a client gives. Raises InvalidArgument with the text for the client."""
    check_name(name)
    parsed = CollectionSchema.parse(schema)
    paths: dict[str, bool] = {}
    for path, unique in indexes:
        if path == "_id":
            raise InvalidArgument("cannot create custom index on _id")
        if len(path.encode()) > PATH_BYTES_MAX:
            raise InvalidArgument(f"the path of an index may have {PATH_BYTES_MAX} bytes")
        if parsed.kind_at(path) is None:
            raise InvalidArgument("collection schema does not contain path")
        if not parsed.indexable(path):
            raise InvalidArgument(NOT_INDEXABLE)
        paths[path] = unique
    if len(paths) > INDEXES_MAX:
        raise InvalidArgument(f"a collection may have {INDEXES_MAX} indexes")
    return CollectionRow(thread, name, schema, paths, write_validator, read_filter)


def schema_of(row: CollectionRow) -> CollectionSchema:
    """The schema of a collection, parsed once for many calls."""
    return _parsed(row.schema)


@lru_cache(256)
def _parsed(schema: bytes) -> CollectionSchema:
    return CollectionSchema.parse(schema)


def index_values(row: CollectionRow, instance: Instance) -> Mapping[str, IndexValue]:
    """What an instance has at the indexed paths. Raises InvalidArgument where that cannot be indexed."""
    return {path: _index_value(instance, path, unique=unique) for path, unique in row.indexes.items()}


def _index_value(instance: Instance, path: str, *, unique: bool) -> IndexValue:
    try:
        value = field_of(instance, path)
    except InvalidArgument:
        return IndexKind.MISSING, None
    kind = kind_of(value)
    if kind is None:
        return IndexKind.MISSING, None
    if isinstance(value, str) and ("\0" in value or (unique and len(value) > INDEXED_CHARS_MAX)):
        raise InvalidArgument(NOT_INDEXABLE)
    return _KINDS[kind], value


def kind_in_index(value: object) -> IndexKind:
    """Of the value of a criterion."""
    kind = kind_of(value)
    return IndexKind.MISSING if kind is None else _KINDS[kind]
