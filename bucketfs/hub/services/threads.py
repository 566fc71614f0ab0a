"""``threads.pb``: tokens, databases, and the ``buckets`` collection read-only, with news of its changes.

Buckets are written through their own services; user collections and transactions are not offered. ``threads.net.pb`` hands
out the same tokens and nothing else.
"""

from __future__ import annotations

import queue
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import bucketfs.hub.services.names as names
import bucketfs.hub.services.query as query
from bucketfs.dag import uvarint_encode
from bucketfs.errors import Exists, InvalidArgument, NotFound
from bucketfs.hub.context import BucketAction, BucketEvent, Hub
from bucketfs.hub.db import INSTANCE_NOT_FOUND, BucketRow, ThreadRow
from bucketfs.hub.rpc import THREADS, THREADS_NET, Code, Context, Service, Status
from bucketfs.hub.services.instance import COLLECTION, instance_json, instance_of
from bucketfs.hub.trees import visible
from bucketfs.keys import Identity, make_token, parse_public_key, parse_thread, public_key_text, verify_signature
from bucketfs.types import ThreadId
from bucketfs.wire import threads_net_pb2, threads_pb2

pb: Any = threads_pb2
CHALLENGE_BYTES = 32
CHALLENGE_TIMEOUT_S = 60.0
ACCOUNT_KEY = "this is the key of an account: ask with a session or account key of that account"
"""A former member who has seen the private key of an account gets no token with it. User group keys do not count: every user of an
app has them."""
ADMITTED_CHECK_S = 30.0
"""How often a listener asks whether its key is still valid. It learns at once of a key that ended through this process; other
processes over the same database send no notice."""
INSTANCE_BYTES_MAX = 3 << 20
"""Clients receive 4 MiB at most by default; a larger instance would break their stream."""


def service(hub: Hub) -> Service:
    """``threads.pb`` over this hub."""
    databases, tokens, collection = Databases(hub), Tokens(hub, threads_pb2), BucketsCollection(hub)
    return Service(
        THREADS,
        {
            "GetToken": tokens.get_token,
            "NewDB": databases.new,
            "GetDBInfo": databases.info,
            "DeleteDB": databases.delete,
            "Has": collection.has,
            "Find": collection.find,
            "FindByID": collection.find_by_id,
            "Listen": collection.listen,
        },
        waiting=frozenset({"GetToken", "Listen"}),
        unimplemented="is not offered by this hub: its one collection, buckets, is written through the bucket service",
    )


def net_service(hub: Hub) -> Service:
    """``threads.net.pb`` over this hub."""
    tokens = Tokens(hub, threads_net_pb2)
    return Service(
        THREADS_NET,
        {"GetToken": tokens.get_token},
        waiting=frozenset({"GetToken"}),
        unimplemented="is not offered by this hub: it has no peers",
    )


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens for users who sign a challenge. ``messages`` is the module with the messages of the service."""

    hub: Hub
    messages: Any
    timeout_s: float = CHALLENGE_TIMEOUT_S

    def get_token(self, requests: Iterator[Any], context: Context) -> Iterator[Any]:
        """Public key in, challenge out, signature in, token out. It is valid together with the keys of the account
        whose key or session came with this call.
        """
        first = next(requests, None)
        if first is None or not first.key:
            raise Status(Code.INVALID_ARGUMENT, "Key is required")
        try:
            raw = parse_public_key(first.key)
        except InvalidArgument as error:
            raise Status(Code.UNKNOWN, str(error)) from error
        challenge = secrets.token_bytes(CHALLENGE_BYTES)
        yield self.messages.GetTokenReply(challenge=challenge)
        second = _next_within(requests, self.timeout_s)
        if second is None or not second.signature:
            raise Status(Code.INVALID_ARGUMENT, "Signature is required")
        if not verify_signature(raw, challenge, second.signature):
            raise Status(Code.UNKNOWN, "bad signature")
        subject, owner = public_key_text(raw), context.call.payer
        if subject != context.call.account and self._is_account(subject):
            raise Status(Code.PERMISSION_DENIED, ACCOUNT_KEY)
        yield self.messages.GetTokenReply(token=make_token(self.hub.host_key, subject, time.time_ns(), owner))

    def _is_account(self, public_key: str) -> bool:
        try:
            self.hub.database.account(public_key)
        except NotFound:
            return False
        return True


def _next_within(requests: Iterator[Any], timeout_s: float) -> Any:
    """The next request, ``None`` at the end. Raises Status DEADLINE_EXCEEDED when none comes in time.

    A request iterator cannot be asked with a timeout, so a thread of its own asks; it ends with the call when its answer
    is not wanted any more.
    """
    answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(next(requests, None))
        except Status as error:
            answers.put(error)

    threading.Thread(target=ask, name="hub-challenge", daemon=True).start()
    try:
        answer = answers.get(timeout=timeout_s)
    except queue.Empty:
        raise Status(Code.DEADLINE_EXCEEDED, "Challenge deadline exceeded") from None
    if isinstance(answer, Status):
        raise answer
    return answer


@dataclass(frozen=True, slots=True)
class Databases:
    """Threads and their databases, which are one thing here."""

    hub: Hub

    def new(self, request: Any, context: Context) -> Any:
        call = context.call
        if any(collection.name != COLLECTION for collection in request.collections):
            raise Status(Code.UNIMPLEMENTED, "collections other than buckets are not offered by this hub")
        db_name = request.name or "unnamed"
        for name in (db_name, call.thread_name):
            if name and not names.is_thread_name(name):
                raise Status(Code.UNKNOWN, names.THREAD_NAME_TEXT)
        row = ThreadRow(
            id=parse_thread(request.dbID),
            owner=call.account,
            name=call.thread_name,
            db_name=db_name,
            api_key=call.api_key or "",
            is_db=True,
            key=_thread_key(request.key),
            created_at_ns=time.time_ns(),
            realm=call.realm,
        )
        try:
            self.hub.database.create_thread(row, self.hub.config.limits)
        except Exists as error:
            raise Status(Code.UNKNOWN, str(error)) from error
        return pb.NewDBReply()

    def info(self, request: Any, _context: Context) -> Any:
        row = self.hub.database.thread(parse_thread(request.dbID))
        return pb.GetDBInfoReply(addrs=[_address(self.hub.host_key, row.id)], key=row.key, name=row.db_name)

    def delete(self, request: Any, _context: Context) -> Any:
        try:
            self.hub.database.delete_thread(parse_thread(request.dbID))
        except Exists as error:
            raise Status(Code.FAILED_PRECONDITION, str(error)) from error
        return pb.DeleteDBReply()


@dataclass(frozen=True, slots=True)
class BucketsCollection:
    """The ``buckets`` collection of a thread, through the caller's read filter.

    The reader is the caller. Textile's Hub takes the holder of a session or account key for anonymous here, or for the user whom a
    token in the header names; so an account did not see its own private buckets, and saw those of users whose token it held.
    """

    hub: Hub

    def has(self, request: Any, _context: Context) -> Any:
        thread = self._thread(request.dbID, request.collectionName)
        known = {row.key for row in self.hub.database.buckets(thread)}
        return pb.HasReply(exists=all(key in known for key in request.instanceIDs))

    def find(self, request: Any, context: Context) -> Any:
        thread = self._thread(request.dbID, request.collectionName)
        reader = context.call.writer
        instances = [instance_of(visible(row, reader)) for row in self.hub.database.buckets(thread)]
        try:
            found = query.select(request.queryJSON, instances)
        except InvalidArgument as error:
            raise Status(Code.UNKNOWN, str(error)) from error
        return pb.FindReply(instances=[instance_json(instance) for instance in found])

    def find_by_id(self, request: Any, context: Context) -> Any:
        thread = self._thread(request.dbID, request.collectionName)
        reader = context.call.writer
        try:
            row = self.hub.database.bucket(thread, request.instanceID)
        except NotFound:
            raise Status(Code.UNKNOWN, INSTANCE_NOT_FOUND) from None
        return pb.FindByIDReply(instance=instance_json(instance_of(visible(row, reader))))

    def listen(self, request: Any, context: Context) -> Iterator[Any]:
        """Changes committed after the headers were sent, until the client leaves or the hub stops (UNAVAILABLE)."""
        thread = self._thread(request.dbID, COLLECTION)
        reader = context.call.writer
        wanted = _filter(request.filters)
        subscription = self.hub.events.subscribe(thread)
        try:
            if not context.on_end(subscription.close):
                return
            context.send_headers()
            for change in subscription.each(ADMITTED_CHECK_S):
                context.check_admitted()
                reply = self._reply(change, reader) if change is not None and wanted(change) else None
                if reply is not None:
                    yield reply
        finally:
            subscription.close()
        if context.is_active():
            raise Status(Code.UNAVAILABLE, "the hub is stopping")

    def _reply(self, change: BucketEvent, reader: str | None) -> Any:
        reply = pb.ListenReply(collectionName=COLLECTION, instanceID=change.key, action=change.action.value)
        if change.action is not BucketAction.DELETE:
            try:
                row = visible(self.hub.database.bucket(change.thread, change.key), reader)
            except NotFound:
                return None  # deleted since; that change comes next
            reply.instance = _bounded_json(row)
        return reply

    def _thread(self, data: bytes, collection: str) -> ThreadId:
        thread = self.hub.database.thread(parse_thread(data)).id
        if collection != COLLECTION:
            raise Status(Code.NOT_FOUND, "collection not found")
        return thread


def _filter(filters: Any) -> Callable[[BucketEvent], bool]:
    """Whether any filter lets a change through. Filters number actions one higher than replies do; 0 is all of them."""
    rules = [(one.collectionName, one.instanceID, one.action) for one in filters]

    def wanted(change: BucketEvent) -> bool:
        return not rules or any(
            collection in ("", COLLECTION) and key in ("", change.key) and action in (0, change.action.value + 1)
            for collection, key, action in rules
        )

    return wanted


def _bounded_json(row: BucketRow) -> bytes:
    """The instance, without the entries below the root when it would be too large for a client's default limit."""
    data = instance_json(instance_of(row))
    if len(data) <= INSTANCE_BYTES_MAX:
        return data
    return instance_json(instance_of(replace(row, entries={path: entry for path, entry in row.entries.items() if not path})))


def _thread_key(given: bytes) -> bytes:
    if not given:
        return secrets.token_bytes(64)
    if len(given) == 32:
        raise Status(Code.UNKNOWN, "thread read key is required")
    if len(given) != 64:
        raise Status(Code.INVALID_ARGUMENT, "invalid thread key")
    return given


def _address(host: Identity, thread: ThreadId) -> bytes:
    """The multiaddr ``/p2p/<peer id>/thread/<id>`` in binary: this hub has no libp2p transport to put before it."""
    peer = b"\x00\x24" + host.public_bytes  # a small public key is its own (identity) multihash, libp2p peer-ids spec
    return b"\xa5\x03" + bytes([len(peer)]) + peer + b"\x96\x03" + uvarint_encode(len(thread)) + thread
