"""A key is invalidated, or a session ended, while a stream runs with it: the stream ends too.

Reported: a ``Put`` that had begun stored whatever came, for as long as it came.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from support.bareclient import Caller
from support.bucketuser import BLOCKS, BUCKETS, BucketUser, bl, pb, raised
from support.keyring import HUB, invalidate, make_key, sign_up
from support.waiting import eventually

from bucketfs.dag import cid_of
from bucketfs.hub import HubConfig, HubServer
from bucketfs.hub.rpc import admission
from bucketfs.hub.rpc import dispatch as rpc
from bucketfs.wire import hub_pb2

INVALID = ("NOT_FOUND", "API key not found or is invalid")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    monkeypatch.setattr(rpc, "ADMITTED_EVERY_S", 0.0)
    config = HubConfig(data=tmp_path / "hub", listen="127.0.0.1:0", auto_confirm=True, gateway_listen="")
    with HubServer(config) as server:
        yield server


@pytest.fixture
def bare(hub: HubServer) -> Iterator[Caller]:
    with grpc.insecure_channel(hub.address) as channel:
        yield Caller(channel)


class Sending:
    """A stream of requests that stays open."""

    def __init__(self, caller: Caller, service: str, method: str) -> None:
        self._outgoing: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.call = caller.start(service, method, iter(self._outgoing.get, None), timeout_s=60)

    def __call__(self, message: Any) -> None:
        self._outgoing.put(message)

    def finished(self) -> Any:
        self._outgoing.put(None)
        return self.call.result()

    def refused(self) -> tuple[str, str]:
        try:
            with pytest.raises(grpc.RpcError) as caught:
                self.call.result() if hasattr(self.call, "result") else list(self.call)
        finally:
            self._outgoing.put(None)
        return raised(caught.value)


def put(data: bytes) -> Any:
    return bl.PutRequest(blocks=[bl.Block(cid=cid_of(data), data=data)])


def ends(hub: HubServer, caller: Caller, end: Callable[[], Any]) -> tuple[str, str]:
    """How a ``Put`` ends whose rights end after its first block; its second is not stored."""
    sending = Sending(caller, BLOCKS, "Put")
    sending(put(b"before"))
    eventually(lambda: bool(hub.hub.blockstore.get_many([cid_of(b"before")])), "the first block is there")
    end()
    sending(put(b"after"))
    answer = sending.refused()
    assert not hub.hub.blockstore.get_many([cid_of(b"after")])
    return answer


def test_a_put_ends_with_its_key(hub: HubServer, bare: Caller) -> None:
    """A stolen key that was invalidated could go on storing blocks for as long as its upload runs."""
    ann = sign_up(bare, "ann")
    key = make_key(ann)
    assert ends(hub, bare.using(**key.headers()), lambda: invalidate(ann, key)) == INVALID


def test_a_put_that_says_nothing_ends_too(hub: HubServer, bare: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """An idle upload would hold its place at the Hub for ever after its key was invalidated, or take another key's upload
    with it."""
    monkeypatch.setattr(admission, "ASK_EVERY_S", 0.1)
    ann = sign_up(bare, "ann")
    key = make_key(ann)
    held, other = (Sending(bare.using(**one.headers()), BLOCKS, "Put") for one in (key, make_key(ann)))
    held(put(b"before"))
    other(put(b"another"))
    eventually(lambda: len(hub.hub.blockstore.get_many([cid_of(b"before"), cid_of(b"another")])) == 2, "both run")
    invalidate(ann, key)
    assert held.refused()[0] == "CANCELLED"
    assert other.finished().blocks_stored == 1


def test_a_put_ends_with_its_session(hub: HubServer, bare: Caller) -> None:
    """After signing out, an upload of that session could go on storing blocks."""
    ann = sign_up(bare, "ann")
    assert ends(hub, ann, lambda: ann.call(HUB, "Signout", hub_pb2.SignoutRequest())) == (
        "UNAUTHENTICATED",
        "Invalid session",
    )


def test_a_push_and_a_pull_end_with_their_key(hub: HubServer, bare: Caller) -> None:
    """A stolen key that was invalidated could still finish reading a large file, or leave a new one in the bucket."""
    ann = sign_up(bare, "ann")
    key = make_key(ann)
    user = BucketUser.with_new_thread(bare.using(**key.headers()))
    bucket = user.create().root.key
    user.push(bucket, "big", bytes(8 << 20))
    pulling = user.caller.start(BUCKETS, "PullPath", pb.PullPathRequest(key=bucket, path="big"), timeout_s=60)
    next(pulling)
    sending = Sending(user.caller, BUCKETS, "PushPath")
    sending(pb.PushPathRequest(header=pb.PushPathRequest.Header(key=bucket, path="late")))
    sending(pb.PushPathRequest(chunk=b"be"))
    gate = hub._gate
    assert gate is not None
    eventually(lambda: len(gate._streams.places._open) == 2, "both are let in")
    invalidate(ann, key)
    sending(pb.PushPathRequest(chunk=b"fore"))
    assert sending.refused() == INVALID
    with pytest.raises(grpc.RpcError) as caught:
        list(pulling)
    assert raised(caught.value) == INVALID
    assert user.beside(ann).names(bucket) == [".textileseed", "big"]
