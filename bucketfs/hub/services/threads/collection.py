"""The ``buckets`` collection of a thread, through the caller's read filter.

Who reads is who calls. The original takes the holder of a session or account key for a reader without roles here, or for the
user that a token in the header names; so an account did not see its own private buckets, and saw those of any user whose token
it held."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from bucketfs.errors import InvalidArgument, NotFound
from bucketfs.hub.context import BucketAction, BucketEvent, Hub
from bucketfs.hub.db import INSTANCE_NOT_FOUND, BucketRow, PathEntry
from bucketfs.hub.rpc import Code, Context, Status, answered
from bucketfs.hub.services.threads import query
from bucketfs.hub.services.threads.instance import COLLECTION, instance_json, instance_of
from bucketfs.hub.trees import visible
from bucketfs.keys import parse_thread
from bucketfs.types import ThreadId
from bucketfs.wire import threads_pb2

pb: Any = threads_pb2

READMIT_EVERY_S = 30.0
"""How often a listener asks whether its key still counts. Of one that ended through this process it learns at once; another process
over the same database announces nothing here."""
INSTANCE_BYTES_MAX = 3 << 20
"""Clients receive 4 MiB at most by default; a larger instance would break their stream."""


@dataclass(frozen=True, slots=True)
class BucketsCollection:
    """``Has``, ``Find``, ``FindByID``, ``Listen``."""

    hub: Hub

    def has(self, request: Any, _context: Context) -> Any:
        known = {row.key for row in self._rows(request)}
        return pb.HasReply(exists=all(key in known for key in request.instanceIDs))

    def find(self, request: Any, context: Context) -> Any:
        instances = [instance_of(visible(row, context.call.writer)) for row in self._rows(request)]
        with answered(InvalidArgument, Code.UNKNOWN):
            found = query.select(request.queryJSON, instances)
        return pb.FindReply(instances=[instance_json(instance) for instance in found])

    def find_by_id(self, request: Any, context: Context) -> Any:
        thread = self._thread(request.dbID, request.collectionName)
        with answered(NotFound, Code.UNKNOWN, INSTANCE_NOT_FOUND):
            row = self.hub.database.bucket(thread, request.instanceID)
        return pb.FindByIDReply(instance=instance_json(instance_of(visible(row, context.call.writer))))

    def listen(self, request: Any, context: Context) -> Iterator[Any]:
        """Changes committed after the headers were sent, until the client leaves or the Hub stops (UNAVAILABLE)."""
        thread = self._thread(request.dbID, COLLECTION)
        wanted = _filter(request.filters)
        subscription = self.hub.events.subscribe(thread)
        try:
            if not context.on_end(subscription.close):
                return
            context.send_headers()
            for event in subscription.each(READMIT_EVERY_S):
                context.check_admitted()
                reply = self._reply(event, context.call.writer) if event is not None and wanted(event) else None
                if reply is not None:
                    yield reply
        finally:
            subscription.close()
        if context.is_active():
            raise Status(Code.UNAVAILABLE, "the hub is stopping")

    def _reply(self, event: BucketEvent, reader: str | None) -> Any:
        reply = pb.ListenReply(collectionName=COLLECTION, instanceID=event.key, action=event.action.value)
        if event.action is not BucketAction.DELETE:
            try:
                row = visible(self.hub.database.bucket(event.thread, event.key), reader)
            except NotFound:
                return None  # deleted since; that event comes next
            reply.instance = _bounded_json(row)
        return reply

    def _rows(self, request: Any) -> list[BucketRow]:
        return self.hub.database.buckets(self._thread(request.dbID, request.collectionName))

    def _thread(self, data: bytes, collection: str) -> ThreadId:
        thread = self.hub.database.thread(parse_thread(data)).id
        if collection != COLLECTION:
            raise Status(Code.NOT_FOUND, "collection not found")
        return thread


def _filter(filters: Any) -> Callable[[BucketEvent], bool]:
    """Whether any filter lets an event through. Filters number actions one higher than replies do; 0 is all of them."""
    rules = [(one.collectionName, one.instanceID, one.action) for one in filters]

    def wanted(event: BucketEvent) -> bool:
        return not rules or any(
            collection in ("", COLLECTION) and key in ("", event.key) and action in (0, event.action.value + 1)
            for collection, key, action in rules
        )

    return wanted


def _bounded_json(row: BucketRow) -> bytes:
    """The instance, without the entries below the root when it would be too large for a client's default limit."""
    data = instance_json(instance_of(row))
    if len(data) <= INSTANCE_BYTES_MAX:
        return data
    root_only: dict[str, PathEntry] = {path: entry for path, entry in row.entries.items() if not path}
    return instance_json(instance_of(replace(row, entries=root_only)))
