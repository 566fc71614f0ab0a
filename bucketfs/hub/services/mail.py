"""Mailboxes (``api.usersd.pb``): messages between users, sealed and signed by the sender's client.

A mailbox is a database of the user called ``hubmail`` with the collections ``inbox`` and ``sentbox``, so that it can be listened
to. The Hub writes into it; a message is in both boxes under one id, or in none. What is in the bodies the Hub cannot read. The
collections have functions that show them to their owner only: by the protocol anyone who knows a thread reaches its collections.
"""

from __future__ import annotations

import base64
import json
import secrets
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from bucketfs.errors import Exists, InvalidArgument, NotFound, OverQuota
from bucketfs.hub.context import EventAction, Hub
from bucketfs.hub.db import CollectionRow, ThreadRow
from bucketfs.hub.rpc import Code, Context, Status, answered
from bucketfs.hub.threaddb import CreateAct, DeleteAct, Instance, SaveAct, defined, new_id
from bucketfs.keys import parse_public_key, public_key_text, verify_signature
from bucketfs.types import ThreadId
from bucketfs.wire import users_pb2 as pb

MAILBOX = "hubmail"
INBOX, SENTBOX = "inbox", "sentbox"
LISTED_DEFAULT, LISTED_MAX = 100, 10_000
BODY_BYTES_MAX = 1 << 20
SENT_MAX, SENT_S = 120, 60.0
"""How many messages one user may send in so many seconds."""
_TEXTS = {name: {"type": "string"} for name in ("_id", "from", "to", "body", "signature")}
_NUMBERS = {name: {"type": "number"} for name in ("created_at", "read_at")}
_INDEXES = {INBOX: ("from", "to", "created_at", "read_at"), SENTBOX: ("from", "to", "created_at")}


@dataclass(frozen=True, slots=True)
class Mail:
    """The methods."""

    hub: Hub
    pace: SendingPace

    def setup(self, _request: Any, context: Context) -> Any:
        """``SetupMailbox``: makes the mailbox, unless there is one."""
        caller = context.call
        try:
            thread = self._mailbox(caller.account, caller.realm).id
        except NotFound:
            thread = self._make(context)
        return pb.SetupMailboxResponse(mailbox_id=thread)

    def send(self, request: Any, context: Context) -> Any:
        """``SendMessage``: into the recipient's inbox and the sender's sentbox."""
        caller = context.call
        sender = caller.writer or caller.account
        _check_signatures(request, sender)
        with answered(InvalidArgument, Code.FAILED_PRECONDITION, "Invalid public key"):
            recipient = public_key_text(parse_public_key(request.to))
        if max(len(request.to_body), len(request.from_body)) > BODY_BYTES_MAX:
            raise Status(Code.INVALID_ARGUMENT, f"a message may have {BODY_BYTES_MAX} bytes")
        self.pace.check(caller.holder)
        now_ns = time.time_ns()
        message_id = new_id(now_ns)
        message: Instance = {"_id": message_id, "from": sender, "to": recipient, "created_at": now_ns}
        with _missing_mail():
            own, other = self._mailbox(caller.account, caller.realm), self._mailbox(recipient, caller.realm)
            received = {**message, **_sealed(request.to_body, request.to_signature), "read_at": 0}
            self._write(other, INBOX, CreateAct(received))
            try:
                self._write(own, SENTBOX, CreateAct({**message, **_sealed(request.from_body, request.from_signature)}))
            except BaseException:
                self._write(other, INBOX, DeleteAct(message_id))
                raise
        return pb.SendMessageResponse(id=message_id, created_at=now_ns)

    def list_inbox(self, request: Any, context: Context) -> Any:
        """``ListInboxMessages``."""
        status = request.status
        ands = []
        if status in (pb.ListInboxMessagesRequest.STATUS_READ, pb.ListInboxMessagesRequest.STATUS_UNREAD):
            operation = 2 if status == pb.ListInboxMessagesRequest.STATUS_READ else 0
            ands = [{"fieldPath": "read_at", "operation": operation, "value": {"float": 0}}]
        return pb.ListInboxMessagesResponse(messages=self._listed(INBOX, request, context, ands))

    def list_sentbox(self, request: Any, context: Context) -> Any:
        """``ListSentboxMessages``."""
        return pb.ListSentboxMessagesResponse(messages=self._listed(SENTBOX, request, context, []))

    def read(self, request: Any, context: Context) -> Any:
        """``ReadInboxMessage``: marks a message as read now."""
        with _missing_mail():
            mailbox = self._mailbox(context.call.account, context.call.realm)
            collection = self._collection(mailbox, INBOX)
        with answered(NotFound, Code.UNKNOWN):
            found = self.hub.threaddb.find_by_id(collection, request.id, None)
        read_at_ns = time.time_ns()
        self._write(mailbox, INBOX, SaveAct({**found, "read_at": read_at_ns}))
        return pb.ReadInboxMessageResponse(read_at=read_at_ns)

    def delete_received(self, request: Any, context: Context) -> Any:
        """``DeleteInboxMessage``."""
        self._delete(INBOX, request.id, context)
        return pb.DeleteInboxMessageResponse()

    def delete_sent(self, request: Any, context: Context) -> Any:
        """``DeleteSentboxMessage``."""
        self._delete(SENTBOX, request.id, context)
        return pb.DeleteSentboxMessageResponse()

    def _delete(self, box: str, message: str, context: Context) -> None:
        with _missing_mail():
            self._write(self._mailbox(context.call.account, context.call.realm), box, DeleteAct(message))

    def _listed(self, box: str, request: Any, context: Context, ands: list[Any]) -> list[Any]:
        query = {
            "ands": ands,
            "sort": {"fieldPath": "_id", "desc": not request.ascending},
            "seek": request.seek,
            "limit": min(request.limit, LISTED_MAX) if request.limit > 0 else LISTED_DEFAULT,
        }
        with _missing_mail():
            collection = self._collection(self._mailbox(context.call.account, context.call.realm), box)
        found = self.hub.threaddb.find(collection, json.dumps(query).encode(), None)
        return [_message(one) for one in found]

    def _mailbox(self, account: str, realm: str) -> ThreadRow:
        return self.hub.database.thread_named(account, MAILBOX, realm)

    def _collection(self, mailbox: ThreadRow, box: str) -> CollectionRow:
        """A box as the Hub itself uses it: without the functions that keep others out."""
        return replace(self.hub.database.instances.collection(mailbox.id, box), write_validator="", read_filter="")

    def _write(self, mailbox: ThreadRow, box: str, act: CreateAct | SaveAct | DeleteAct) -> None:
        _, done = self.hub.threaddb.write(mailbox.id, self._collection(mailbox, box), [act], None, own=True)
        for one in done:
            action = EventAction.SAVE
            if one.before is None or one.after is None:
                action = EventAction.DELETE if one.after is None else EventAction.CREATE
            self.hub.events.publish(mailbox.id, one.id, action, box)

    def _make(self, context: Context) -> ThreadId:
        caller = context.call
        row = ThreadRow(
            id=ThreadId(b"\x01\x55" + secrets.token_bytes(32)),
            owner=caller.account,
            name=MAILBOX,
            db_name=MAILBOX,
            api_key=caller.api_key or "",
            is_db=True,
            key=secrets.token_bytes(64),
            created_at_ns=time.time_ns(),
            realm=caller.realm,
        )
        try:
            self.hub.database.create_thread(row, self.hub.config.limits)
        except Exists:
            return self._mailbox(caller.account, caller.realm).id  # another call was quicker
        for box, paths in _INDEXES.items():
            self.hub.database.instances.create_collection(_box(row.id, box, paths, caller.writer or caller.account))
        return row.id


@dataclass(slots=True)
class SendingPace:
    """How fast users may send. Thread-safe."""

    clock_s: Callable[[], float] = time.monotonic
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _sent: dict[str, deque[float]] = field(default_factory=lambda: defaultdict(deque))

    def check(self, sender: str) -> None:
        """One more message. Raises OverQuota."""
        now_s = self.clock_s()
        with self._lock:
            for other in [one for one, times in self._sent.items() if times and times[-1] <= now_s - SENT_S]:
                del self._sent[other]
            times = self._sent[sender]
            while times and times[0] <= now_s - SENT_S:
                times.popleft()
            if len(times) >= SENT_MAX:
                raise OverQuota(f"too many messages: at most {SENT_MAX} in {SENT_S:.0f} s")
            times.append(now_s)


def _box(thread: ThreadId, name: str, paths: tuple[str, ...], owner: str) -> CollectionRow:
    properties = _TEXTS | (_NUMBERS if name == INBOX else {"created_at": _NUMBERS["created_at"]})
    mine = json.dumps(owner)
    return defined(
        thread,
        name,
        json.dumps({"type": "object", "properties": properties}).encode(),
        [(path, False) for path in paths],
        f"return writer === {mine}",
        f"return reader === {mine} ? instance : null",
    )


def _check_signatures(request: Any, sender: str) -> None:
    try:
        raw = parse_public_key(sender)
    except InvalidArgument:
        raw = b""
    pairs = ((request.to_body, request.to_signature), (request.from_body, request.from_signature))
    if not raw or not all(verify_signature(raw, body, signature) for body, signature in pairs):
        raise Status(Code.UNAUTHENTICATED, "Bad message signature")


@contextmanager
def _missing_mail() -> Iterator[None]:
    with answered(NotFound, Code.FAILED_PRECONDITION, "mail not found"):
        yield


def _sealed(body: bytes, signature: bytes) -> Instance:
    return {"body": base64.b64encode(body).decode(), "signature": base64.b64encode(signature).decode()}


def _message(found: Instance) -> Any:
    message = pb.Message(
        id=found["_id"],
        to=found["to"],
        body=base64.b64decode(found["body"]),
        signature=base64.b64decode(found["signature"]),
        created_at=int(found["created_at"]),
        read_at=int(found.get("read_at", 0)),
    )
    setattr(message, "from", found["from"])  # a keyword of Python
    return message
