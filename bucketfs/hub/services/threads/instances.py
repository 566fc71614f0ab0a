"""Instances of the collections of a database, one call at a time (``threads.pb``): each write is one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bucketfs.errors import Denied, Exists, InvalidArgument, NotFound, TooLarge
from bucketfs.hub.context import BUCKETS_COLLECTION, EventAction, Hub
from bucketfs.hub.db import INSTANCE_NOT_FOUND, CollectionRow
from bucketfs.hub.rpc import Code, Context, Status
from bucketfs.hub.services.threads.buckets_collection import BucketsCollection, refuse_write
from bucketfs.hub.services.threads.instance import instance_json
from bucketfs.hub.threaddb import Act, Committed, CreateAct, DeleteAct, Instance, SaveAct, parse_instance
from bucketfs.keys import parse_thread
from bucketfs.types import ThreadId
from bucketfs.wire import threads_pb2

pb: Any = threads_pb2


@dataclass(frozen=True, slots=True)
class Instances:
    """The methods, and what transactions share with them."""

    hub: Hub
    buckets: BucketsCollection

    # One call

    def create(self, request: Any, context: Context) -> Any:
        acts = self._write(request, context, (CreateAct(one) for one in parsed(request.instances)))
        return pb.CreateReply(instanceIDs=created_ids(acts))

    def save(self, request: Any, context: Context) -> Any:
        self._write(request, context, (SaveAct(one) for one in parsed(request.instances)))
        return pb.SaveReply()

    def delete(self, request: Any, context: Context) -> Any:
        self._write(request, context, (DeleteAct(one) for one in request.instanceIDs))
        return pb.DeleteReply()

    def verify(self, request: Any, context: Context) -> Any:
        collection = self.collection(self.thread(request.dbID), request.collectionName)
        with told():
            self.verify_in(collection, request, context.call.writer)
        return pb.VerifyReply()

    def has(self, request: Any, context: Context) -> Any:
        thread = self.thread(request.dbID)
        with told():
            exists = self.has_in(thread, request.collectionName, request.instanceIDs, context.call.writer)
        return pb.HasReply(exists=exists)

    def find(self, request: Any, context: Context) -> Any:
        thread = self.thread(request.dbID)
        with told():
            found = self.find_in(thread, request.collectionName, request.queryJSON, context.call.writer)
        return pb.FindReply(instances=[instance_json(one) for one in found])

    def find_by_id(self, request: Any, context: Context) -> Any:
        thread = self.thread(request.dbID)
        with told():
            found = self.find_by_id_in(thread, request.collectionName, request.instanceID, context.call.writer)
        return pb.FindByIDReply(instance=found)

    def _write(self, request: Any, context: Context, acts: Iterable[Act]) -> Sequence[Act]:
        thread = self.thread(request.dbID)
        collection = self.collection(thread, request.collectionName)
        context.check_active()
        with told():
            prepared, done = self.hub.threaddb.write(thread, collection, acts, context.call.writer)
        self.publish(thread, done)
        return prepared

    # Also in a transaction

    def thread(self, data: bytes) -> ThreadId:
        return self.hub.database.thread(parse_thread(data)).id

    def collection(self, thread: ThreadId, name: str) -> CollectionRow:
        """A collection to write to. Raises NotFound, Status for buckets."""
        if name == BUCKETS_COLLECTION:
            refuse_write()
        return self.hub.database.instances.collection(thread, name)

    def has_in(self, thread: ThreadId, name: str, ids: Sequence[str], reader: str | None) -> bool:
        if name == BUCKETS_COLLECTION:
            return self.buckets.has(thread, ids)
        seen = self.hub.threaddb.seen(self.collection(thread, name), list(ids), reader)
        return all(one in seen for one in ids)

    def find_in(self, thread: ThreadId, name: str, query_json: bytes, reader: str | None) -> list[Instance]:
        if name == BUCKETS_COLLECTION:
            return self.buckets.find(thread, query_json, reader)
        return self.hub.threaddb.find(self.collection(thread, name), query_json, reader)

    def find_by_id_in(self, thread: ThreadId, name: str, instance_id: str, reader: str | None) -> bytes:
        if name == BUCKETS_COLLECTION:
            return self.buckets.find_by_id(thread, instance_id, reader)
        return instance_json(self.hub.threaddb.find_by_id(self.collection(thread, name), instance_id, reader))

    def verify_in(self, collection: CollectionRow, request: Any, writer: str | None) -> None:
        self.hub.threaddb.verify(collection, (SaveAct(one) for one in parsed(request.instances)), writer)

    def publish(self, thread: ThreadId, done: Iterable[Committed]) -> None:
        """Tell listeners what was committed."""
        for one in done:
            action = EventAction.SAVE
            if one.before is None or one.after is None:
                action = EventAction.DELETE if one.after is None else EventAction.CREATE
            self.hub.events.publish(thread, one.id, action, one.collection.name)


def parsed(instances: Iterable[bytes]) -> Iterator[Instance]:
    """Raises InvalidArgument."""
    return (parse_instance(data) for data in instances)


def created_ids(acts: Iterable[Act]) -> list[str]:
    return [act.instance["_id"] for act in acts if isinstance(act, CreateAct)]


@contextmanager
def told() -> Iterator[None]:
    """Ends a call as the original does: nearly everything is UNKNOWN with its text, which clients compare."""
    try:
        yield
    except NotFound as error:
        raise Status(Code.UNKNOWN if str(error) == INSTANCE_NOT_FOUND else Code.NOT_FOUND, str(error)) from error
    except (InvalidArgument, Denied, Exists) as error:
        raise Status(Code.UNKNOWN, str(error)) from error
    except TooLarge as error:
        raise Status(Code.RESOURCE_EXHAUSTED, str(error)) from error
