"""Mailboxes over real gRPC: who may send what to whom, what is kept, and that no one else sees or changes it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from support.bareclient import Caller
from support.keyring import get_token

from bucketfs.errors import OverQuota
from bucketfs.hub import HubServer
from bucketfs.hub.services.mail import SENT_MAX, SENT_S, SendingPace
from bucketfs.keys import Identity
from bucketfs.wire import hub_pb2, threads_pb2, users_pb2

pb: Any = users_pb2
th: Any = threads_pb2
USERS, THREADS, HUB = "api.usersd.pb.APIService", "threads.pb.API", "api.hubd.pb.APIService"


class MailUser:
    """A user of an app with an identity of its own."""

    def __init__(self, caller: Caller, key: Any) -> None:
        self.identity = Identity.generate()
        beside = caller.using(x_textile_api_key=key.key)
        self.caller = beside.using(authorization=f"bearer {get_token(beside, self.identity)}")

    @property
    def name(self) -> str:
        return self.identity.public_key

    def ask(self, method: str, **fields: Any) -> Any:
        return self.caller.call(USERS, method, getattr(pb, f"{method}Request")(**fields))

    def refused(self, method: str, **fields: Any) -> tuple[str, str]:
        found: tuple[str, str] = self.caller.refused(USERS, method, getattr(pb, f"{method}Request")(**fields))
        return found

    def letter(self, to: str, body: bytes = b"sealed") -> dict[str, Any]:
        signature = self.identity.sign(body)
        return {"to": to, "to_body": body, "to_signature": signature, "from_body": body, "from_signature": signature}

    def inbox(self, **fields: Any) -> list[Any]:
        return list(self.ask("ListInboxMessages", **fields).messages)


@pytest.fixture
def users(alice: Caller, caller: Caller) -> tuple[MailUser, MailUser]:
    """Two users of one app, with mailboxes."""
    key = alice.call(HUB, "CreateKey", hub_pb2.CreateKeyRequest(type="KEY_TYPE_USER")).key_info
    both = MailUser(caller, key), MailUser(caller, key)
    for one in both:
        one.ask("SetupMailbox")
    return both


def test_a_message_is_in_both_boxes(users: tuple[MailUser, MailUser]) -> None:
    """The recipient finds it, unread, and the sender finds a copy under the same id."""
    ann, bob = users
    sent = ann.ask("SendMessage", **ann.letter(bob.name))
    (got,) = bob.inbox()
    assert (got.id, getattr(got, "from"), got.to, got.body) == (sent.id, ann.name, bob.name, b"sealed")
    assert (got.created_at, got.read_at) == (sent.created_at, 0)
    (copy,) = ann.ask("ListSentboxMessages").messages
    assert (copy.id, copy.signature) == (sent.id, ann.identity.sign(b"sealed"))
    assert ann.inbox() == []
    read = bob.ask("ReadInboxMessage", id=sent.id).read_at
    assert bob.inbox()[0].read_at == read > sent.created_at
    assert bob.refused("ReadInboxMessage", id="none") == ("UNKNOWN", "instance not found")
    bob.ask("DeleteInboxMessage", id=sent.id)
    bob.ask("DeleteInboxMessage", id=sent.id)
    assert bob.inbox() == [] and len(ann.ask("ListSentboxMessages").messages) == 1


def test_pages_and_states(users: tuple[MailUser, MailUser]) -> None:
    """A long mailbox is read a page at a time, and by what is new."""
    ann, bob = users
    ids = [ann.ask("SendMessage", **ann.letter(bob.name, str(number).encode())).id for number in range(5)]
    assert ids == sorted(ids)
    assert [one.id for one in bob.inbox()] == ids[::-1]
    assert [one.id for one in bob.inbox(ascending=True, limit=2)] == ids[:2]
    assert [one.id for one in bob.inbox(ascending=True, limit=2, seek=ids[2])] == ids[2:4]
    assert [one.id for one in bob.inbox(limit=2, seek=ids[2])] == [ids[2], ids[1]]
    bob.ask("ReadInboxMessage", id=ids[3])
    assert [one.id for one in bob.inbox(status="STATUS_READ")] == [ids[3]]
    assert len(bob.inbox(status="STATUS_UNREAD")) == 4
    assert len(bob.inbox(status="STATUS_ALL")) == 5


def test_what_is_refused(users: tuple[MailUser, MailUser], alice: Caller, caller: Caller) -> None:
    """A message in another's name, to no one, or without a mailbox is refused, and nothing of it is kept."""
    ann, bob = users
    forged = bob.letter(bob.name)
    assert ann.refused("SendMessage", **forged) == ("UNAUTHENTICATED", "Bad message signature")
    half = ann.letter(bob.name) | {"from_signature": b"x"}
    assert ann.refused("SendMessage", **half) == ("UNAUTHENTICATED", "Bad message signature")
    assert ann.refused("SendMessage", **ann.letter("nonsense")) == ("FAILED_PRECONDITION", "Invalid public key")
    nobody = Identity.generate().public_key
    assert ann.refused("SendMessage", **ann.letter(nobody)) == ("FAILED_PRECONDITION", "mail not found")
    large = ann.letter(bob.name, bytes((1 << 20) + 1))
    assert ann.refused("SendMessage", **large)[0] == "INVALID_ARGUMENT"
    key = alice.call(HUB, "CreateKey", hub_pb2.CreateKeyRequest(type="KEY_TYPE_USER")).key_info
    without = MailUser(caller, key)
    for method in ("ListInboxMessages", "ListSentboxMessages", "DeleteInboxMessage", "ReadInboxMessage"):
        assert without.refused(method) == ("FAILED_PRECONDITION", "mail not found")
    assert without.refused("SendMessage", **without.letter(bob.name)) == ("FAILED_PRECONDITION", "mail not found")
    assert bob.inbox() == [] and len(ann.ask("ListSentboxMessages").messages) == 0


def test_a_mailbox_is_made_once(users: tuple[MailUser, MailUser]) -> None:
    """Asking again gives the same one, with what is in it."""
    ann, bob = users
    ann.ask("SendMessage", **ann.letter(bob.name))
    first, second = (bob.ask("SetupMailbox").mailbox_id for _ in range(2))
    assert first == second and len(bob.inbox()) == 1
    assert [(one.name, one.is_db) for one in bob.ask("ListThreads").list] == [("hubmail", True)]


def test_another_user_neither_reads_nor_changes_a_mailbox(users: tuple[MailUser, MailUser]) -> None:
    """By the protocol anyone who knows a thread reaches its collections; those of a mailbox show nothing and take nothing."""
    ann, bob = users
    box = bob.ask("SetupMailbox").mailbox_id
    sent = ann.ask("SendMessage", **ann.letter(bob.name)).id

    def find(who: MailUser) -> list[Any]:
        request = th.FindRequest(dbID=box, collectionName="inbox", queryJSON=b"{}")
        return [json.loads(one) for one in who.caller.call(THREADS, "Find", request).instances]

    assert [one["_id"] for one in find(bob)] == [sent]
    assert find(ann) == []
    for method, fields in (
        ("Delete", {"instanceIDs": [sent]}),
        ("Save", {"instances": [json.dumps({"_id": sent}).encode()]}),
    ):
        request = getattr(th, f"{method}Request")(dbID=box, collectionName="inbox", **fields)
        assert ann.caller.refused(THREADS, method, request) == ("UNKNOWN", "app denied net record body")
    assert len(bob.inbox()) == 1


def test_a_new_message_is_heard(users: tuple[MailUser, MailUser]) -> None:
    """A program that listens to its inbox hears of arrival, reading and removal, and a stranger hears nothing."""
    ann, bob = users
    box = bob.ask("SetupMailbox").mailbox_id
    filters = [th.ListenRequest.Filter(collectionName="inbox")]
    stream = bob.caller.start(THREADS, "Listen", th.ListenRequest(dbID=box, filters=filters), timeout_s=60)
    stream.initial_metadata()
    sent = ann.ask("SendMessage", **ann.letter(bob.name)).id
    first = next(stream)
    assert (first.action, first.instanceID, json.loads(first.instance)["read_at"]) == (0, sent, 0)
    bob.ask("ReadInboxMessage", id=sent)
    assert next(stream).action == 1
    bob.ask("DeleteInboxMessage", id=sent)
    assert next(stream).action == 2
    stream.cancel()


def test_mail_counts_and_is_not_sent_without_end(start_hub: Callable[..., HubServer], dial: Callable[[str], Caller]) -> None:
    """A stranger's messages must fill neither the disk of the Hub nor a mailbox in a minute."""
    caller = dial(start_hub(account_bytes_max=100_000).address)
    session = caller.call(HUB, "Signup", hub_pb2.SignupRequest(username="a", email="a@b.c")).session
    key = caller.using(x_textile_session=session).call(HUB, "CreateKey", hub_pb2.CreateKeyRequest(type="KEY_TYPE_USER"))
    ann, bob = MailUser(caller, key.key_info), MailUser(caller, key.key_info)
    for one in (ann, bob):
        one.ask("SetupMailbox")
    assert ann.refused("SendMessage", **ann.letter(bob.name, bytes(60_000)))[0] == "RESOURCE_EXHAUSTED"
    assert bob.inbox() == [] and len(ann.ask("ListSentboxMessages").messages) == 0
    now_s = [0.0]
    pace = SendingPace(lambda: now_s[0])
    for _ in range(SENT_MAX):
        pace.check("ann")
    with pytest.raises(OverQuota):
        pace.check("ann")
    pace.check("bob")
    now_s[0] = SENT_S + 1
    pace.check("ann")
