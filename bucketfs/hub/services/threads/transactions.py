"""Transactions of ThreadDB: a stream of requests, each answered before the next; what it wrote is committed at its end.

Reads see the database as it is before the transaction, so writes of its own are not among them (hub-protocol section 11.4). An
operation that fails is told in its answer, and the stream goes on; a commit that fails ends the stream with its error.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from bucketfs.errors import BucketfsError, InvalidArgument
from bucketfs.hub.context import BUCKETS_COLLECTION, Hub
from bucketfs.hub.db import CollectionRow
from bucketfs.hub.rpc import Code, Context, Status, check_realm
from bucketfs.hub.services.threads.instance import instance_json
from bucketfs.hub.services.threads.instances import Instances, created_ids, parsed, told
from bucketfs.hub.threaddb import Act, CreateAct, DeleteAct, SaveAct
from bucketfs.types import ThreadId
from bucketfs.wire import threads_pb2

pb: Any = threads_pb2

ACTS_MAX = 100_000
"""Of one transaction: all are in memory until it ends."""
DISCARDED = "can't commit discarded/committed txn"


@dataclass(frozen=True, slots=True)
class Transactions:
    """``ReadTransaction`` and ``WriteTransaction``."""

    hub: Hub
    instances: Instances

    def read(self, requests: Iterator[Any], context: Context) -> Iterator[Any]:
        thread, name = self._start(requests, context, "Read")
        for request in requests:
            yield pb.ReadTransactionReply(**self._read(thread, name, request, context))

    def write(self, requests: Iterator[Any], context: Context) -> Iterator[Any]:
        thread, name = self._start(requests, context, "Write")
        turn = self.hub.threaddb.turns.begin(thread)
        try:
            running = _Running(self.instances, thread, name, context)
            for request in requests:
                yield running.answer(request)
            # The end of the requests is the client's half-close: a stream that was cut raised an error instead.
            context.check_active()
            if running.discarded:
                raise Status(Code.UNKNOWN, DISCARDED)
            with told():
                done = self.hub.threaddb.commit(turn, running.acts, context.call.writer)
        finally:
            self.hub.threaddb.turns.end(turn)
        self.instances.publish(thread, done)

    def _start(self, requests: Iterator[Any], context: Context, kind: str) -> tuple[ThreadId, str]:
        first = next(requests, None)
        if first is None or not first.HasField("startTransactionRequest"):
            raise Status(Code.UNKNOWN, f"no {kind}TransactionRequest type set")
        start = first.startTransactionRequest
        thread = self.instances.thread(start.dbID)
        check_realm(self.hub.database, context.call, thread)
        if start.collectionName != BUCKETS_COLLECTION:
            self.hub.database.instances.collection(thread, start.collectionName)
        return thread, start.collectionName

    def _read(self, thread: ThreadId, name: str, request: Any, context: Context) -> dict[str, Any]:
        return _read_answer(self.instances, thread, name, request, context) or _no_operation()


@dataclass(slots=True)
class _Running:
    """One write transaction. ``acts`` are to be committed."""

    instances: Instances
    thread: ThreadId
    name: str
    context: Context
    acts: list[tuple[CollectionRow, Act]] = field(default_factory=list)
    discarded: bool = False

    def answer(self, request: Any) -> Any:
        """The reply to one operation."""
        if request.HasField("discardRequest"):
            self.discarded = True
            return pb.WriteTransactionReply(discardReply=pb.DiscardReply())
        found = _read_answer(self.instances, self.thread, self.name, request, self.context)
        return pb.WriteTransactionReply(**(found or self._written(request)))

    def _written(self, request: Any) -> dict[str, Any]:
        kind = request.WhichOneof("option")
        if kind == "createRequest":
            acts, error = self._add(lambda: [CreateAct(one) for one in parsed(request.createRequest.instances)])
            return {"createReply": pb.CreateReply(instanceIDs=created_ids(acts), transactionError=error)}
        if kind == "saveRequest":
            _, error = self._add(lambda: [SaveAct(one) for one in parsed(request.saveRequest.instances)])
            return {"saveReply": pb.SaveReply(transactionError=error)}
        if kind == "deleteRequest":
            _, error = self._add(lambda: [DeleteAct(one) for one in request.deleteRequest.instanceIDs])
            return {"deleteReply": pb.DeleteReply(transactionError=error)}
        if kind == "verifyRequest":
            return {"verifyReply": pb.VerifyReply(transactionError=self._verified(request.verifyRequest))}
        return _no_operation()

    def _add(self, acts_of: Any) -> tuple[list[Act], str]:
        """Acts that are to be committed with the others, or the error of one of them."""
        try:
            collection = self.instances.collection(self.thread, self.name)
            acts = self.instances.hub.threaddb.prepared(collection, acts_of())
            if len(self.acts) + len(acts) > ACTS_MAX:
                raise InvalidArgument(f"a transaction may have {ACTS_MAX} changes")
        except BucketfsError as error:
            return [], str(error)
        self.acts += [(collection, act) for act in acts]
        return acts, ""

    def _verified(self, request: Any) -> str:
        try:
            self.instances.verify_in(self.instances.collection(self.thread, self.name), request, self.context.call.writer)
        except BucketfsError as error:
            return str(error)
        return ""


def _read_answer(instances: Instances, thread: ThreadId, name: str, request: Any, context: Context) -> dict[str, Any] | None:
    """The reply to a read; ``None`` for anything else. Raises NotFound for a collection that is not there."""
    kind, reader = request.WhichOneof("option"), context.call.writer
    if kind not in ("hasRequest", "findRequest", "findByIDRequest"):
        return None
    reply, error = _REPLIES[kind](), ""
    try:
        if kind == "hasRequest":
            reply.exists = instances.has_in(thread, name, request.hasRequest.instanceIDs, reader)
        elif kind == "findRequest":
            found = instances.find_in(thread, name, request.findRequest.queryJSON, reader)
            reply.instances.extend(instance_json(one) for one in found)
        else:
            reply.instance = instances.find_by_id_in(thread, name, request.findByIDRequest.instanceID, reader)
    except BucketfsError as failed:
        error = str(failed)
    except Status as failed:
        error = failed.text
    reply.transactionError = error
    return {kind.replace("Request", "Reply"): reply}


_REPLIES = {"hasRequest": pb.HasReply, "findRequest": pb.FindReply, "findByIDRequest": pb.FindByIDReply}


def _no_operation() -> dict[str, Any]:
    raise Status(Code.INVALID_ARGUMENT, "the request names no operation")
