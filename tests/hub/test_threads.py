"""Threads through a real server: tokens, databases, reading the buckets collection, news of changes."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from typing import Any

import grpc
import pytest

from bucketfs.dag import cid_of, cid_text, multibase_encode
from bucketfs.errors import InvalidArgument
from bucketfs.hub import HubServer
from bucketfs.hub.context.events import PENDING_MAX, EventAction, InstanceEvents
from bucketfs.hub.db.models import BucketRow, PathEntry
from bucketfs.hub.services.threads.tokens import Tokens
from bucketfs.hub.threaddb import select
from bucketfs.keys import Identity, fresh_bucket_key, make_link_token, make_token, token_subject
from bucketfs.types import BucketKey, ThreadId
from bucketfs.wire import hub_pb2, threads_net_pb2, threads_pb2, users_pb2

pb: Any = threads_pb2
THREADS = "threads.pb.API"
THREADS_NET = "threads.net.pb.API"
USERS = "api.usersd.pb.APIService"
HUB = "api.hubd.pb.APIService"
RAW_ID = bytes.fromhex("0155") + bytes(range(32))
OTHER_ID = bytes.fromhex("0155") + bytes(32)
ROOT = cid_of(b"root")


def user_key(developer: Any, caller: Any) -> Any:
    made = developer.call(HUB, "CreateKey", hub_pb2.CreateKeyRequest(type=hub_pb2.KEY_TYPE_USER)).key_info
    return caller.using(x_textile_api_key=made.key)


def talk(caller: Any, service: str, messages: Any) -> Generator[Any, Any, None]:
    """A conversation: ``send(message)`` returns the next reply; ``send(None)`` half-closes."""
    outgoing: queue.SimpleQueue[Any] = queue.SimpleQueue()
    replies = caller.start(service, "GetToken", iter(outgoing.get, None))
    message = yield
    while True:
        outgoing.put(message)
        message = yield next(replies, None)


def get_token(caller: Any, identity: Identity, service: str = THREADS, messages: Any = threads_pb2) -> str:
    talking = talk(caller, service, messages)
    next(talking)
    challenge = talking.send(messages.GetTokenRequest(key=identity.public_key)).challenge
    assert len(challenge) == 32
    token: str = talking.send(messages.GetTokenRequest(signature=identity.sign(challenge))).token
    assert talking.send(None) is None
    return token


@pytest.mark.parametrize(("service", "messages"), [(THREADS, threads_pb2), (THREADS_NET, threads_net_pb2)])
def test_get_token(caller: Any, alice: Any, hub_server: HubServer, service: str, messages: Any) -> None:
    """The user of an app would get no token, or one for another user."""
    identity = Identity.generate()
    users = user_key(alice, caller)
    token = get_token(users, identity, service, messages)
    owner = multibase_encode(alice.call(HUB, "GetSessionInfo", hub_pb2.GetSessionInfoRequest()).key)
    assert token_subject(hub_server.hub.host_key, token, owner) == identity.public_key
    user = users.using(authorization=f"bearer {token}")
    assert list(user.call(USERS, "ListThreads", users_pb2.ListThreadsRequest()).list) == []


def refused_token(caller: Any, *messages: Any) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        caller.call(THREADS, "GetToken", iter(messages))
    return caught.value.code().name, caught.value.details()


def test_get_token_refuses(alice: Any, caller: Any) -> None:
    """Anyone could get a token for a public key that is not theirs."""
    key = Identity.generate().public_key
    assert refused_token(caller)[0] == "UNAUTHENTICATED"
    assert refused_token(alice) == ("INVALID_ARGUMENT", "Key is required")
    assert refused_token(alice, pb.GetTokenRequest(key="bad"))[0] == "UNKNOWN"
    assert refused_token(alice, pb.GetTokenRequest(key=key)) == ("INVALID_ARGUMENT", "Signature is required")
    wrong = refused_token(alice, pb.GetTokenRequest(key=key), pb.GetTokenRequest(signature=bytes(64)))
    assert wrong == ("UNKNOWN", "bad signature")


def test_a_challenge_has_a_deadline(hub_server: HubServer) -> None:
    """A client that never answers would hold a place at the Hub for ever."""
    talking = Tokens(hub_server.hub, threads_pb2, timeout_s=0.05)
    over = threading.Event()

    def requests() -> Iterator[Any]:
        yield pb.GetTokenRequest(key=Identity.generate().public_key)
        over.wait(20)

    replies = talking.get_token(requests(), None)  # type: ignore[arg-type]
    assert next(replies).challenge
    with pytest.raises(Exception, match="Challenge deadline exceeded"):
        next(replies)
    over.set()


def new_db(caller: Any, thread: bytes, name: str = "", **fields: Any) -> None:
    caller.using(x_textile_thread_name=name).call(THREADS, "NewDB", pb.NewDBRequest(dbID=thread, name=name, **fields))


def refused_db(caller: Any, thread: bytes, name: str = "", **fields: Any) -> tuple[str, str]:
    request = pb.NewDBRequest(dbID=thread, **{"name": name, **fields})
    code, text = caller.using(x_textile_thread_name=name).refused(THREADS, "NewDB", request)
    return code, text


def test_databases(alice: Any, bob: Any, hub_server: HubServer) -> None:
    """A thread could not be found again, or could be opened or deleted by a stranger."""
    new_db(alice, RAW_ID, "buckets")
    info = alice.call(THREADS, "GetDBInfo", pb.GetDBInfoRequest(dbID=RAW_ID))
    assert (info.name, len(info.key)) == ("buckets", 64)
    assert info.addrs[0].endswith(RAW_ID)
    assert hub_server.hub.host_key.public_bytes in info.addrs[0]
    found = alice.call(USERS, "GetThread", users_pb2.GetThreadRequest(name="buckets"))
    assert (found.id, found.name, found.is_db) == (RAW_ID, "buckets", True)
    assert [one.id for one in alice.call(USERS, "ListThreads", users_pb2.ListThreadsRequest()).list] == [RAW_ID]
    missing = ("NOT_FOUND", "Thread not found")
    assert alice.refused(USERS, "GetThread", users_pb2.GetThreadRequest(name="Buckets")) == missing
    assert bob.refused(USERS, "GetThread", users_pb2.GetThreadRequest(name="buckets")) == missing
    stranger = ("PERMISSION_DENIED", "User does not own thread")
    assert bob.refused(THREADS, "GetDBInfo", pb.GetDBInfoRequest(dbID=RAW_ID)) == stranger
    assert bob.refused(THREADS, "DeleteDB", pb.DeleteDBRequest(dbID=RAW_ID)) == stranger
    alice.call(THREADS, "DeleteDB", pb.DeleteDBRequest(dbID=RAW_ID))
    assert alice.refused(THREADS, "GetDBInfo", pb.GetDBInfoRequest(dbID=RAW_ID)) == stranger
    new_db(bob, RAW_ID, "buckets")


def test_names_of_databases(alice: Any, bob: Any) -> None:
    """A name would lead to two threads, or a stranger could take over a thread by its ID."""
    new_db(alice, RAW_ID, "my-thread")
    for thread, name in ((OTHER_ID, "My-Thread"), (RAW_ID, "other")):
        code, text = refused_db(alice, thread, name)
        assert code == "UNKNOWN"
        assert "E11000 duplicate key error" in text
    assert refused_db(bob, RAW_ID, "mine") == ("UNKNOWN", "db already exists")
    new_db(bob, OTHER_ID, "my-thread")
    for bad in ("a b", "-a", "a--b", "a_b"):
        code, text = refused_db(alice, bytes.fromhex("0155") + bytes(31) + b"x", bad)
        assert (code, text.startswith("name may only contain")) == ("UNKNOWN", True)
    for number in range(3):
        new_db(alice, RAW_ID + bytes([number]))


def test_bad_databases(alice: Any) -> None:
    """A thread without a usable key would be made, which no Textile client can open."""
    assert refused_db(alice, b"junk") == ("INVALID_ARGUMENT", "invalid thread ID")
    assert refused_db(alice, RAW_ID, key=bytes(32)) == ("UNKNOWN", "thread read key is required")
    assert refused_db(alice, RAW_ID, key=bytes(5)) == ("INVALID_ARGUMENT", "invalid thread key")
    own = pb.CollectionConfig(name="mine")
    assert refused_db(alice, RAW_ID, collections=[own]) == ("UNKNOWN", "the collection schema is not JSON")
    new_db(alice, RAW_ID, key=bytes(64))
    assert alice.call(THREADS, "GetDBInfo", pb.GetDBInfoRequest(dbID=RAW_ID)).key == bytes(64)


def test_threads_per_owner_are_limited(start_hub: Callable[..., HubServer], dial: Callable[[str], Any]) -> None:
    """One account could fill the database with threads."""
    caller = dial(start_hub(threads_per_owner_max=2).address)
    session = caller.call(HUB, "Signup", hub_pb2.SignupRequest(username="a", email="a@b.c")).session
    alice = caller.using(x_textile_session=session)
    new_db(alice, RAW_ID)
    new_db(alice, OTHER_ID)
    assert refused_db(alice, RAW_ID + b"x") == ("RESOURCE_EXHAUSTED", "number of threads per owner exceeds quota")


def test_what_is_not_offered(alice: Any) -> None:
    """A Textile client would take a write into a collection for stored."""
    assert alice.refused(THREADS, "ListDBs", pb.ListDBsRequest()) == ("PERMISSION_DENIED", "Method is not accessible")
    code, text = alice.refused(THREADS, "NewDBFromAddr", pb.NewDBFromAddrRequest(addr=b"x"))
    assert (code, text.startswith("NewDBFromAddr is not offered by this hub")) == ("UNIMPLEMENTED", True)
    new_db(alice, RAW_ID)
    for collection, method in (("buckets", "Save"), ("buckets", "Create")):
        request = getattr(pb, f"{method}Request")(dbID=RAW_ID, collectionName=collection)
        code, text = alice.refused(THREADS, method, request)
        assert (code, "bucket service" in text) == ("UNIMPLEMENTED", True)


@pytest.fixture
def bucket(alice: Any, hub_server: HubServer) -> BucketRow:
    """A private bucket of alice, with one path that everybody may read."""
    new_db(alice, RAW_ID, "buckets")
    owner = hub_server.hub.database.account_named("alice").account
    paths = {"": PathEntry(None, {owner: 3}, 5), "open": PathEntry(b"file key", {"*": 1}, 5), "it's": PathEntry(b"k", {}, 5)}
    key = fresh_bucket_key()
    row = BucketRow(key, ThreadId(RAW_ID), owner, "photos", 1, b"link key", ROOT, paths, 4, 5)
    return hub_server.hub.database.create_bucket(row)


def find_by_id(caller: Any, key: str, collection: str = "buckets", thread: bytes = RAW_ID) -> Any:
    request = pb.FindByIDRequest(dbID=thread, collectionName=collection, instanceID=key)
    return json.loads(caller.call(THREADS, "FindByID", request).instance)


def test_instances(alice: Any, bob: Any, bucket: BucketRow) -> None:
    """Textile clients, which read buckets from the collection, could not open them; or would see paths that are not theirs."""
    assert find_by_id(alice, bucket.key) == {
        "_id": bucket.key,
        "owner": bucket.owner,
        "name": "photos",
        "version": 1,
        "key": "bGluayBrZXk=",
        "path": f"/ipfs/{cid_text(ROOT)}",
        "metadata": {
            "": {"roles": {bucket.owner: 3}, "updated_at": 5},
            "it's": {"key": "aw==", "roles": {}, "updated_at": 5},
            "open": {"key": "ZmlsZSBrZXk=", "roles": {"*": 1}, "updated_at": 5},
        },
        "archives": {"current": {"cid": "", "deals": []}, "history": []},
        "created_at": 4,
        "updated_at": 5,
        "_mod": 5,
    }
    assert set(find_by_id(bob, bucket.key)["metadata"]) == {"open"}


def test_a_token_never_says_who_reads_beside_a_session(alice: Any, hub_server: HubServer, bucket: BucketRow) -> None:
    """Who holds another user's token could read that user's keys beside a session of their own."""
    host = hub_server.hub.host_key
    own = make_token(host, Identity.generate().public_key, 0, bucket.owner)
    assert set(find_by_id(alice.using(authorization=f"bearer {own}"), bucket.key)["metadata"]) == {"", "it's", "open"}
    request = pb.FindByIDRequest(dbID=RAW_ID, collectionName="buckets", instanceID=bucket.key)
    for forged in (
        make_token(Identity.generate(), bucket.owner, 0, bucket.owner),
        make_token(host, bucket.owner, 0, Identity.generate().public_key),
        make_token(host, bucket.owner, 0),
        make_link_token(host, bucket.owner, bucket.key, "", 0),
    ):
        refused = alice.using(authorization=f"bearer {forged}").refused(THREADS, "FindByID", request)
        assert refused == ("UNKNOWN", "invalid thread token")
    refused = alice.using(authorization="bearer junk").refused(THREADS, "FindByID", request)
    assert refused == ("UNKNOWN", "thread token not found")


def test_what_is_not_found(alice: Any, bucket: BucketRow) -> None:
    """A Textile client would not recognize that an instance is missing."""

    def refused(**fields: Any) -> tuple[str, str]:
        request = pb.FindByIDRequest(**{"dbID": RAW_ID, "collectionName": "buckets", "instanceID": "x", **fields})
        code, text = alice.refused(THREADS, "FindByID", request)
        return code, text

    assert refused() == ("UNKNOWN", "instance not found")
    assert refused(dbID=OTHER_ID) == ("NOT_FOUND", "thread not found")
    assert refused(dbID=b"junk") == ("INVALID_ARGUMENT", "invalid thread ID")
    assert refused(collectionName="mine") == ("NOT_FOUND", "collection not found")

    def has(*keys: str) -> bool:
        request = pb.HasRequest(dbID=RAW_ID, collectionName="buckets", instanceIDs=keys)
        return bool(alice.call(THREADS, "Has", request).exists)

    assert has(bucket.key)
    assert not has(bucket.key, "x")


def test_find(alice: Any, bucket: BucketRow) -> None:
    """Textile clients could not find a bucket by its name."""

    def names(query_json: bytes) -> list[str]:
        request = pb.FindRequest(dbID=RAW_ID, collectionName="buckets", queryJSON=query_json)
        return [json.loads(one)["name"] for one in alice.call(THREADS, "Find", request).instances]

    assert names(b"{}") == ["photos"]
    assert names(b'{"ands":[{"fieldPath":"name","operation":0,"value":{"string":"photos"}}]}') == ["photos"]
    assert names(b'{"Ands":[{"FieldPath":"version","Operation":2,"Value":{"Float":1}}],"Ors":null}') == []
    request = pb.FindRequest(dbID=RAW_ID, collectionName="buckets", queryJSON=b"[]")
    assert alice.refused(THREADS, "Find", request)[0] == "UNKNOWN"


def test_a_database_with_buckets_stays(alice: Any, bucket: BucketRow) -> None:
    """Deleting a thread or an account would take all buckets in it."""
    full = alice.refused(THREADS, "DeleteDB", pb.DeleteDBRequest(dbID=RAW_ID))
    assert full == ("FAILED_PRECONDITION", "DB not empty (delete buckets first)")
    full = alice.refused(HUB, "DestroyAccount", hub_pb2.DestroyAccountRequest())
    assert full == ("FAILED_PRECONDITION", "Account not empty (delete buckets first)")


class Listener:
    """A ``Listen`` that has been registered by the hub."""

    def __init__(self, caller: Any, *filters: Any, thread: bytes = RAW_ID) -> None:
        self.stream = caller.start(THREADS, "Listen", pb.ListenRequest(dbID=thread, filters=filters), timeout_s=60)
        self.stream.initial_metadata()

    def next(self) -> tuple[int, str, Any]:
        reply = next(self.stream)
        assert reply.collectionName == "buckets"
        return reply.action, reply.instanceID, json.loads(reply.instance) if reply.instance else None


def test_listening(alice: Any, bob: Any, hub_server: HubServer, bucket: BucketRow) -> None:
    """Other machines would not hear of a change, or strangers would hear of paths that are not theirs."""
    hub = hub_server.hub
    mine, others = Listener(alice), Listener(bob)
    only_deletes = Listener(alice, pb.ListenRequest.Filter(action=pb.ListenRequest.Filter.DELETE))
    elsewhere = Listener(alice, pb.ListenRequest.Filter(collectionName="mine"), pb.ListenRequest.Filter(instanceID="x"))
    saved = hub.database.save_bucket(replace(bucket, root=cid_of(b"new"), updated_at_ns=6), ROOT)
    hub.events.publish(saved.thread, saved.key, EventAction.SAVE)
    for listener, visible in ((mine, {"", "open", "it's"}), (others, {"open"})):
        action, key, instance = listener.next()
        assert (action, key, instance["path"]) == (1, bucket.key, f"/ipfs/{cid_text(cid_of(b'new'))}")
        assert set(instance["metadata"]) == visible
    hub.database.delete_bucket(bucket.key)
    hub.events.publish(bucket.thread, bucket.key, EventAction.DELETE)
    assert mine.next() == only_deletes.next() == (2, bucket.key, None)
    hub.events.publish(bucket.thread, BucketKey("x"), EventAction.DELETE)
    assert elsewhere.next() == (2, "x", None)
    for listener in (mine, others, only_deletes, elsewhere):
        listener.stream.cancel()
    with pytest.raises(grpc.RpcError):
        Listener(alice, thread=OTHER_ID).next()


def test_many_listeners_leave_the_workers_free(start_hub: Callable[..., HubServer], dial: Callable[[str], Any]) -> None:
    """Forty mounts that wait for news would stop the Hub, or it could not be stopped."""
    server = start_hub(workers=2)
    caller = dial(server.address)
    session = caller.call(HUB, "Signup", hub_pb2.SignupRequest(username="a", email="a@b.c")).session
    alice = caller.using(x_textile_session=session)
    new_db(alice, RAW_ID)
    listeners = [Listener(alice) for _ in range(40)]
    assert server.hub.events.listeners() == 40
    assert alice.call(HUB, "GetSessionInfo", hub_pb2.GetSessionInfoRequest()).username == "a"
    for listener in listeners[:39]:
        listener.stream.cancel()
    server.stop(5)
    with pytest.raises(grpc.RpcError) as caught:
        listeners[39].next()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert server.hub.events.listeners() == 0


def test_large_instances_are_cut(alice: Any, hub_server: HubServer, bucket: BucketRow) -> None:
    """Listeners of a bucket with very many paths would lose their stream, because the message is too large."""
    listener = Listener(alice)
    many = {**bucket.entries, **{f"{'long-name' * 10}/{n}": PathEntry(None, {}, n) for n in range(30_000)}}
    hub_server.hub.database.save_bucket(replace(bucket, entries=many), ROOT)
    hub_server.hub.events.publish(bucket.thread, bucket.key, EventAction.SAVE)
    assert set(listener.next()[2]["metadata"]) == {""}
    listener.stream.cancel()


def test_saves_nobody_picked_up_melt_into_one() -> None:
    """A slow listener would fill the Hub's memory, or miss that a bucket was removed."""
    feed, thread = InstanceEvents(), ThreadId(b"t")
    subscription = feed.subscribe(thread)
    one, two = BucketKey("one"), BucketKey("two")
    for key, action in (
        (one, EventAction.CREATE),
        (one, EventAction.SAVE),
        (two, EventAction.SAVE),
        (two, EventAction.SAVE),
        (one, EventAction.DELETE),
        (one, EventAction.SAVE),
    ):
        feed.publish(thread, key, action)
    feed.publish(ThreadId(b"other"), one, EventAction.SAVE)
    news = iter(subscription)
    expected = [
        (one, EventAction.CREATE),
        (two, EventAction.SAVE),
        (one, EventAction.DELETE),
        (one, EventAction.SAVE),
    ]
    assert [(change.key, change.action) for change in (next(news) for _ in expected)] == expected
    subscription.close()
    assert list(news) == []
    assert feed.listeners() == 0


def test_what_is_pending_is_bounded() -> None:
    """A listener that stands still would fill the Hub's memory."""
    feed, thread = InstanceEvents(), ThreadId(b"t")
    subscription = feed.subscribe(thread)
    for number in range(PENDING_MAX + 5):
        feed.publish(thread, BucketKey(str(number)), EventAction.DELETE)
    assert next(iter(subscription)).key == "5"
    feed.close()
    assert list(feed.subscribe(thread)) == []


INSTANCES = [{"_id": str(n), "n": n, "name": name, "deep": {"flag": n % 2 == 0}} for n, name in enumerate("cab")]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, "012"),
        ({"ands": None, "ors": None, "limit": 0}, "012"),
        ({"sort": {"fieldPath": "name"}}, "120"),
        ({"sort": {"fieldPath": "name", "desc": True}}, "021"),
        ({"sort": {"fieldPath": "_id", "desc": True}, "seek": "1"}, "10"),
        ({"seek": "1"}, "12"),
        ({"skip": 1, "limit": 1}, "1"),
        ({"ands": [{"fieldPath": "n", "operation": 4, "value": {"float": 1}}]}, "12"),
        ({"ands": [{"fieldPath": "deep.flag", "value": {"bool": True}}]}, "02"),
        ({"ands": [{"fieldPath": "name", "operation": 1, "value": {"string": "a"}}]}, "02"),
        (
            {
                "ands": [{"fieldPath": "n", "value": {"float": 0}}],
                "ors": [{"ands": [{"fieldPath": "n", "value": {"float": 2}}]}],
            },
            "02",
        ),
    ],
)
def test_queries(asked: dict[str, Any], found: str) -> None:
    """Textile clients would get other instances, or in another order, than they asked for."""
    assert "".join(one["_id"] for one in select(json.dumps(asked).encode(), INSTANCES)) == found


@pytest.mark.parametrize(
    "asked",
    [
        b"no json",
        b"[" * 100_000,
        b'{"a":' * 40 + b"1" + b"}" * 40,
        b'{"ands": 3}',
        b'{"ands": [3]}',
        b'{"limit": -1}',
        b'{"limit": "x"}',
        b'{"ands": [{"fieldPath": "none", "value": {"string": "a"}}]}',
        b'{"ands": [{"fieldPath": "n", "value": {"string": "a"}}]}',
        b'{"ands": [{"fieldPath": "deep", "operation": 2, "value": {"float": 1}}]}',
        b'{"ands": [{"fieldPath": "n", "value": {}}]}',
        b'{"ands": [{"fieldPath": "n", "value": {"float": 1, "bool": true}}]}',
        b'{"ands": [{"fieldPath": "n", "operation": 9, "value": {"float": 1}}]}',
        b'{"ors": [' * 1000 + b"{}" + b"]}" * 1000,
        b'{"ands": ['
        + b'{"fieldPath": "n", "value": {"float": 1}},' * 1001
        + b'{"fieldPath": "n", "value": {"float": 1}}]}',
        b'{"sort": {"fieldPath": "none"}}',
        b'{"sort": {"fieldPath": "deep"}}',
    ],
)
def test_queries_that_make_no_sense(asked: bytes) -> None:
    """A malformed query would crash the call, or return everything."""
    with pytest.raises(InvalidArgument):
        select(asked, INSTANCES)
