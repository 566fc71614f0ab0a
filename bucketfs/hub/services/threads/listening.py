"""``Listen``: the changes of a database as they are committed, through the caller's read filter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from bucketfs.errors import NotFound
from bucketfs.hub.context import BUCKETS_COLLECTION, EventAction, Hub, InstanceEvent
from bucketfs.hub.rpc import Code, Context, Status
from bucketfs.hub.services.threads.buckets_collection import INSTANCE_BYTES_MAX, BucketsCollection
from bucketfs.hub.threaddb import ScriptFailed, instance_text
from bucketfs.keys import parse_thread
from bucketfs.wire import threads_pb2

pb: Any = threads_pb2

READMIT_EVERY_S = 30.0
"""How often a listener asks whether its key still counts. Of one that ended through this process it learns at once; another process
over the same database announces nothing here."""


@dataclass(frozen=True, slots=True)
class Listening:
    """The method."""

    hub: Hub
    buckets: BucketsCollection

    def listen(self, request: Any, context: Context) -> Iterator[Any]:
        """Changes committed after the headers were sent, until the client leaves or the Hub stops (UNAVAILABLE)."""
        thread = self.hub.database.thread(parse_thread(request.dbID)).id
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

    def _reply(self, event: InstanceEvent, reader: str | None) -> Any:
        reply = pb.ListenReply(collectionName=event.collection, instanceID=event.key, action=event.action.value)
        if event.action is not EventAction.DELETE:
            try:
                reply.instance = self._instance(event, reader)
            except (NotFound, ScriptFailed):
                return None  # deleted since (that event comes next), or not for this reader
        return reply

    def _instance(self, event: InstanceEvent, reader: str | None) -> bytes:
        if event.collection == BUCKETS_COLLECTION:
            return self.buckets.shown(event.thread, event.key, reader)
        collection = self.hub.database.instances.collection(event.thread, event.collection)
        data = instance_text(self.hub.threaddb.find_by_id(collection, event.key, reader)).encode()
        # One that is too large is named only; the client asks for it.
        return data if len(data) <= INSTANCE_BYTES_MAX else b""


def _filter(filters: Any) -> Callable[[InstanceEvent], bool]:
    """Whether any filter lets an event through. Filters number actions one higher than replies do; 0 is all of them."""
    rules = [(one.collectionName, one.instanceID, one.action) for one in filters]

    def wanted(event: InstanceEvent) -> bool:
        return not rules or any(
            collection in ("", event.collection) and key in ("", event.key) and action in (0, event.action.value + 1)
            for collection, key, action in rules
        )

    return wanted
