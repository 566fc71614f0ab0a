"""The ``buckets`` collection of a thread, through the caller's read filter.

Who reads is who calls. The original takes the holder of a session or account key for a reader without roles here, or for the
user that a token in the header names; so an account did not see its own private buckets, and saw those of any user whose token
it held. Buckets are written through their own service, which has the blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from bucketfs.errors import NotFound
from bucketfs.hub.context import Hub
from bucketfs.hub.db import INSTANCE_NOT_FOUND, BucketRow, PathEntry
from bucketfs.hub.rpc import Code, Status, answered
from bucketfs.hub.services.threads.instance import instance_json, instance_of
from bucketfs.hub.threaddb import Instance, select
from bucketfs.hub.trees import visible
from bucketfs.types import ThreadId

INSTANCE_BYTES_MAX = 3 << 20
"""Clients receive 4 MiB at most by default; a larger instance would break their stream."""
WRITTEN_ELSEWHERE = "instances of the collection buckets are written through the bucket service"


@dataclass(frozen=True, slots=True)
class BucketsCollection:
    """Reads it."""

    hub: Hub

    def has(self, thread: ThreadId, ids: Sequence[str]) -> bool:
        known = {row.key for row in self.hub.database.buckets(thread)}
        return all(key in known for key in ids)

    def find(self, thread: ThreadId, query_json: bytes, reader: str | None) -> list[Instance]:
        """Raises InvalidArgument with the text for the client."""
        return select(query_json, [instance_of(visible(row, reader)) for row in self.hub.database.buckets(thread)])

    def find_by_id(self, thread: ThreadId, key: str, reader: str | None) -> bytes:
        with answered(NotFound, Code.UNKNOWN, INSTANCE_NOT_FOUND):
            row = self.hub.database.bucket(thread, key)
        return instance_json(instance_of(visible(row, reader)))

    def shown(self, thread: ThreadId, key: str, reader: str | None) -> bytes:
        """The instance, without the entries below the root when it would be too large for a client's default limit. Raises
        NotFound."""
        row = visible(self.hub.database.bucket(thread, key), reader)
        data = instance_json(instance_of(row))
        if len(data) <= INSTANCE_BYTES_MAX:
            return data
        return instance_json(instance_of(_root_only(row)))


def refuse_write() -> Any:
    """Raises Status."""
    raise Status(Code.UNIMPLEMENTED, WRITTEN_ELSEWHERE)


def _root_only(row: BucketRow) -> BucketRow:
    entries: dict[str, PathEntry] = {path: entry for path, entry in row.entries.items() if not path}
    return replace(row, entries=entries)
