"""The life of API keys: made, used, replaced, invalidated; and each way in which one may fail, told apart."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from support.bareclient import Caller
from support.bucketuser import BucketUser, raised
from support.keyring import USER, ApiKey, as_user, get_token, invalidate, make_key

from bucketfs.hub import HubServer
from bucketfs.hub.db.buckets import HubDatabase
from bucketfs.hub.db.schema import sqlite_url
from bucketfs.keys import Identity, make_token
from bucketfs.wire import blocks_pb2, hub_pb2, threads_pb2, users_pb2

HUB = "api.hubd.pb.APIService"
USERS = "api.usersd.pb.APIService"
THREADS = "threads.pb.API"
BLOCKS = "bucketfs.v1.Blocks"
GONE = ("NOT_FOUND", "API key not found or is invalid")
NO_SIGNATURE = ("UNAUTHENTICATED", "API key signature required")
BAD_SIGNATURE = ("UNAUTHENTICATED", "Bad API key signature")


def with_key(bare: Caller, key: ApiKey) -> Caller:
    return bare.using(**key.headers())


def refusal(caller: Caller) -> tuple[tuple[str, str], str]:
    """How a harmless call ends: code and text, and the detail beside them."""
    with pytest.raises(grpc.RpcError) as caught:
        caller.call(USERS, "ListThreads", users_pb2.ListThreadsRequest())
    trailers = dict(caught.value.trailing_metadata())
    return raised(caught.value), trailers.get("bucketfs-detail", "")


def date(seconds_from_now: float) -> str:
    moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds_from_now)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def test_each_failure_is_told_apart(caller: Caller, alice: Caller) -> None:
    """A user whose key is refused would not learn whether key, signature or clock is wrong."""
    key, dead = make_key(alice), make_key(alice)
    invalidate(alice, dead)
    good = key.headers()

    def said(**headers: str) -> tuple[tuple[str, str], str]:
        return refusal(caller.using(**{**good, **headers}))

    assert refusal(caller) == (("UNAUTHENTICATED", "Session or API key required"), "")
    assert said(x_textile_api_key="bunknown") == (GONE, "no such API key on this hub")
    assert refusal(with_key(caller, dead)) == (GONE, "this API key was invalidated")
    assert said(x_textile_api_sig="") == (NO_SIGNATURE, "x-textile-api-sig is missing")
    assert said(x_textile_api_sig_msg="") == (NO_SIGNATURE, "x-textile-api-sig-msg is missing")
    assert said(x_textile_api_sig="?no") == (NO_SIGNATURE, "x-textile-api-sig is not multibase")
    assert said(x_textile_api_sig="bme") == (BAD_SIGNATURE, "the signature is not the secret's over this date")
    assert refusal(caller.using(**key.headers("tomorrow"))) == (BAD_SIGNATURE, "what was signed is no RFC 3339 date")
    expired = refusal(caller.using(**key.headers(date(-90))))
    assert expired[0] == BAD_SIGNATURE
    seconds = int(expired[1].removeprefix("the signed date passed ").removesuffix(" s ago by this hub's clock"))
    assert 89 <= seconds <= 100
    # Without the secret one is not told whether the date was good.
    assert said(x_textile_api_sig_msg=date(-90)) == (BAD_SIGNATURE, "the signature is not the secret's over this date")
    caller.using(**key.headers(date(30))).call(USERS, "ListThreads", users_pb2.ListThreadsRequest())


def test_an_expired_signature_tells_the_hubs_clock(caller: Caller, alice: Caller) -> None:
    """A user with a wrong clock would not learn by how much it is wrong."""
    with pytest.raises(grpc.RpcError) as caught:
        caller.using(**make_key(alice).headers(date(-5))).call(USERS, "ListThreads", users_pb2.ListThreadsRequest())
    told = datetime.datetime.fromisoformat(dict(caught.value.trailing_metadata())["bucketfs-time"])
    assert abs(told - datetime.datetime.now(datetime.UTC)) < datetime.timedelta(seconds=20)


def test_an_invalidated_key_fails_at_once_and_everywhere(caller: Caller, alice: Caller) -> None:
    """A stolen key that was invalidated would still open some calls."""
    key = make_key(alice)
    user = BucketUser.with_new_thread(with_key(caller, key))
    bucket = user.create().root.key
    invalidate(alice, key)
    assert user.refused("Root", key=bucket) == GONE
    for call in (
        lambda: user.push(bucket, "f", b"x"),
        lambda: user.pull(bucket, "f"),
        lambda: user.push_paths(bucket, {"f": b"x"}),
        lambda: user.put_blocks({}),
        lambda: user.blocks("Roots", blocks_pb2.RootsRequest()),
        lambda: list(user.caller.call(THREADS, "Listen", threads_pb2.ListenRequest(dbID=user.thread))),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            call()
        assert raised(caught.value) == GONE
    assert BucketUser(alice, user.thread).root(bucket), "the session goes on"


def listening(caller: Caller, thread: bytes) -> Any:
    """A Listen that is known to be running."""
    stream = caller.start(THREADS, "Listen", threads_pb2.ListenRequest(dbID=thread))
    stream.initial_metadata()
    return stream


def ending(stream: Any) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        list(stream)
    return raised(caught.value)


def test_a_running_listener_ends_with_its_key(caller: Caller, alice: Caller) -> None:
    """Who holds a stolen key would hear of all changes after it was invalidated."""
    key, other = make_key(alice), make_key(alice)
    user = BucketUser.with_new_thread(alice)
    ended, goes_on = (listening(with_key(caller, one), user.thread) for one in (key, other))
    invalidate(alice, key)
    assert ending(ended) == GONE
    bucket = user.create().root.key
    assert next(goes_on).instanceID == bucket
    goes_on.cancel()


def test_a_running_listener_ends_with_its_session(caller: Caller, alice: Caller) -> None:
    """A session would hear of all changes after it was signed out."""
    again = caller.call(HUB, "Signin", hub_pb2.SigninRequest(username_or_email="alice"))
    thread = BucketUser.with_new_thread(alice).thread
    stream = listening(caller.using(x_textile_session=again.session), thread)
    caller.using(x_textile_session=again.session).call(HUB, "Signout", hub_pb2.SignoutRequest())
    assert ending(stream) == ("UNAUTHENTICATED", "Invalid session")


def test_a_listener_finds_out_what_another_process_ended(
    caller: Caller, alice: Caller, hub_server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same where another process, as the command line, invalidated the key."""
    monkeypatch.setattr("bucketfs.hub.services.threads.listening.READMIT_EVERY_S", 0.05)
    key = make_key(alice)
    stream = listening(with_key(caller, key), BucketUser.with_new_thread(alice).thread)
    beside = HubDatabase(sqlite_url(hub_server.config.data))
    beside.invalidate_key(key.key, hub_server.hub.database.key(key.key).owner)
    beside.close()
    assert ending(stream) == GONE


@pytest.mark.parametrize("as_org", [False, True])
def test_users_keep_access_when_a_key_is_replaced(caller: Caller, alice: Caller, bob: Caller, as_org: bool) -> None:
    """The users of an app would lose their files when its key is replaced, or another developer would get them."""
    owner = alice
    if as_org:
        slug = alice.call(HUB, "CreateOrg", hub_pb2.CreateOrgRequest(name="acme")).org_info.slug
        owner = alice.using(x_textile_org=slug)
    identity = Identity.generate()
    old = make_key(owner, USER)
    first = BucketUser.with_new_thread(as_user(with_key(caller, old), identity))
    bucket = first.create("mine", private=True).root.key
    first.push(bucket, "f", b"content")

    new = make_key(owner, USER)
    invalidate(owner, old)
    second = first.beside(as_user(with_key(caller, new), identity))
    assert second.pull(bucket, "f") == b"content"
    second.push(bucket, "f", b"changed")
    assert [root.key for root in second.ask("List").roots] == [bucket]
    assert [thread.id for thread in threads(second.caller)] == [first.thread]
    assert [one.key for one in second.blocks("Roots", blocks_pb2.RootsRequest()).buckets] == [bucket]
    # Under the key of another owner the same identity is another user.
    stranger = first.beside(as_user(with_key(caller, make_key(bob, USER)), identity))
    assert stranger.refused("List") == ("PERMISSION_DENIED", "Bad API key")
    assert stranger.refused("PullPath", key=bucket, path="f") == ("PERMISSION_DENIED", "Bad API key")
    assert threads(stranger.caller) == []
    assert list(stranger.caller.using(x_textile_thread="").call(BLOCKS, "Roots", blocks_pb2.RootsRequest()).buckets) == []
    for method in ("Listen", "Find"):
        request = getattr(threads_pb2, f"{method}Request")(dbID=first.thread)
        refused = stranger.caller.using(x_textile_thread="").refused(THREADS, method, request)
        assert refused == ("PERMISSION_DENIED", "Bad API key")
    # And may call a thread by the same name.
    for client in (second.caller, stranger.caller):
        named = client.using(x_textile_thread="", x_textile_thread_name="buckets")
        named.call(THREADS, "NewDB", threads_pb2.NewDBRequest(dbID=b"\x01\x55" + Identity.generate().seed))
        found = client.using(x_textile_thread="").call(USERS, "GetThread", users_pb2.GetThreadRequest(name="buckets"))
        assert found.name == "buckets"


def threads(caller: Caller) -> list[Any]:
    listed = caller.using(x_textile_thread="").call(USERS, "ListThreads", users_pb2.ListThreadsRequest())
    return list(listed.list)


def test_a_user_group_key_never_reaches_what_its_owner_made(caller: Caller, alice: Caller, hub_server: HubServer) -> None:
    """The users of an app could read the developer's own buckets."""
    user = BucketUser.with_new_thread(alice)
    bucket = user.create("mine", private=True).root.key
    user.push(bucket, "f", b"content")
    account = Identity.from_bytes(alice.call(HUB, "GetIdentity", hub_pb2.GetIdentityRequest()).identity)
    app = with_key(caller, make_key(alice, USER))
    with pytest.raises(grpc.RpcError) as caught:
        get_token(app, account)
    assert raised(caught.value)[0] == "PERMISSION_DENIED"
    # Even with a token of the owner, had they one.
    token = make_token(hub_server.hub.host_key, account.public_key, 0, account.public_key)
    through = user.beside(app.using(authorization=f"bearer {token}"))
    for method, fields in (("List", {}), ("Root", {"key": bucket}), ("PullPath", {"key": bucket, "path": "f"})):
        assert through.refused(method, **fields) == ("PERMISSION_DENIED", "Bad API key")
    with pytest.raises(grpc.RpcError) as caught:
        through.push(bucket, "f", b"changed")
    assert raised(caught.value) == ("PERMISSION_DENIED", "Bad API key")
    assert threads(through.caller) == []


def test_insecure_keys_are_warned_of(
    caller: Caller,
    alice: Caller,
    hub_server: HubServer,
    start_hub: Callable[..., HubServer],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An operator would not learn that keys exist that work without a secret, or would find them in the log."""
    with caplog.at_level(logging.WARNING):
        make_key(alice)
        assert not caplog.records
        key = make_key(alice, secure=False)
    assert "alice makes a key that needs no signature" in caplog.text
    caplog.clear()
    hub_server.stop()
    with caplog.at_level(logging.WARNING):
        start_hub()
    assert "1 keys of this hub need no signature" in caplog.text
    assert key.key not in caplog.text


def test_the_maker_of_an_insecure_key_is_told(alice: Caller) -> None:
    """A user would not learn that the new key works for anyone who sees it."""
    call = alice.start(HUB, "CreateKey", hub_pb2.CreateKeyRequest(secure=False))
    assert call.result().key_info.valid
    assert "needs no signature" in dict(call.trailing_metadata())["bucketfs-warning"]


def test_insecure_keys_can_be_refused(
    start_hub: Callable[..., HubServer], dial: Callable[[str], Caller], alice: Caller, hub_server: HubServer, caller: Caller
) -> None:
    """An operator could not close the Hub to keys that work without a secret."""
    key, users = make_key(alice, secure=False), make_key(alice, USER, secure=False)
    assert threads(caller.using(x_textile_api_key=key.key)) == []
    hub_server.stop()
    strict = dial(start_hub(refuse_insecure_keys=True).address)
    for one in (key, users):
        refused = refusal(strict.using(x_textile_api_key=one.key))
        assert refused == (NO_SIGNATURE, "this hub refuses keys that need no signature: make a secure one")
    session = strict.using(**alice.headers)
    code, text = session.refused(HUB, "CreateKey", hub_pb2.CreateKeyRequest(secure=False))
    assert (code, text.partition(":")[0]) == ("FAILED_PRECONDITION", "this hub refuses keys that need no signature")
    assert threads(with_key(strict, make_key(session))) == []
