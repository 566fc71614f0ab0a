"""Many calls at once, and calls that never get on: nobody keeps others out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2_grpc
from support.bareclient import Caller
from support.bucketuser import BLOCKS, BUCKETS, BucketUser, raised
from support.keyring import USER, as_user, make_key, sign_up
from support.waiting import eventually

from bucketfs.hub import HubConfig, HubServer
from bucketfs.hub.db import AccountKind
from bucketfs.hub.rpc import admission
from bucketfs.hub.rpc import dispatch as rpc
from bucketfs.hub.rpc.admission import Admission, OpenCall
from bucketfs.hub.rpc.fair_queue import FairQueue
from bucketfs.hub.rpc.service import NOBODY, Call
from bucketfs.hub.rpc.status import Status
from bucketfs.keys import Identity
from bucketfs.wire import buckets_pb2, hub_pb2, threads_pb2, users_pb2

HUB = "api.hubd.pb.APIService"
USERS = "api.usersd.pb.APIService"
THREADS = "threads.pb.API"
TOO_MANY = "too many calls at once: "


@pytest.fixture
def small(start_hub: Callable[..., HubServer]) -> HubServer:
    """A hub with few places, so that few calls fill it."""
    return start_hub(workers=2, singles_max=8, streams_max=8, waiters_max=8)


@pytest.fixture
def bare(small: HubServer, dial: Callable[[str], Caller]) -> Caller:
    return dial(small.address)


class Silent:
    """Streams that were opened and say nothing. Each waits in the hub from the moment it is made."""

    def __init__(self, hub: HubServer) -> None:
        self._hub = hub
        self._stack = ExitStack()
        self._over = threading.Event()

    def __enter__(self) -> Silent:
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._stack.close()

    def open(self, caller: Caller, service: str, method: str) -> Any:
        def nothing() -> Iterator[Any]:
            self._over.wait(60)
            yield from ()

        call = caller.start(service, method, nothing(), timeout_s=60)
        self._stack.callback(call.cancel)
        return call


def taken(hub: HubServer, kind: str) -> int:
    gate = hub._gate
    assert gate is not None
    return len(getattr(gate, kind).places._open)


def works(caller: Caller) -> bool:
    """A single call and streams both ways."""
    user = BucketUser.with_new_thread(caller)
    key = user.create().root.key
    user.push(key, "f", b"content")
    user.put_blocks({})
    return user.pull(key, "f") == b"content" and user.get_blocks([user.root_cid(key)]) != []


def ended(call: Any) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        list(call) if not hasattr(call, "result") else call.result()
    return raised(caught.value)


@pytest.mark.parametrize(("service", "method"), [(BLOCKS, "Put"), (BUCKETS, "PushPath"), (BUCKETS, "PushPaths")])
def test_silent_streams_of_one_account_leave_room_for_others(
    small: HubServer, bare: Caller, service: str, method: str
) -> None:
    """One client with hanging uploads would keep all others from the Hub."""
    alice, bob = sign_up(bare, "alice"), sign_up(bare, "bob")
    thread = BucketUser.with_new_thread(alice)
    with Silent(small) as silent:
        for _ in range(4):
            silent.open(thread.caller, service, method)
        eventually(lambda: taken(small, "_streams") == 4, "the places are not as they should be")
        refused = ended(silent.open(thread.caller, service, method))
        assert refused == ("RESOURCE_EXHAUSTED", TOO_MANY + "one account may have 4 of this hub's 8 open")
        assert works(bob)
        alice.call(USERS, "ListThreads", users_pb2.ListThreadsRequest())
    eventually(lambda: taken(small, "_streams") == 0, "the places are not as they should be")
    assert works(alice)


def test_readers_that_stop_reading_leave_room_for_others(
    small: HubServer, bare: Caller, dial: Callable[[str], Caller]
) -> None:
    """One client that stops reading would keep all others from the Hub."""
    alice, bob = sign_up(bare, "alice"), sign_up(bare, "bob")
    user = BucketUser.with_new_thread(alice)
    key = user.create().root.key
    user.push(key, "big", bytes(8 << 20))
    slow = user.beside(dial(small.address).using(**user.caller.headers))
    request = buckets_pb2.PullPathRequest(key=key, path="big")
    calls = [slow.caller.start(BUCKETS, "PullPath", request, timeout_s=60) for _ in range(4)]
    for call in calls:
        next(call)
    with pytest.raises(grpc.RpcError) as caught:
        user.pull(key, "big")
    assert raised(caught.value)[1].startswith(TOO_MANY)
    assert works(bob)
    for call in calls:
        call.cancel()
    eventually(lambda: taken(small, "_streams") == 0, "the places are not as they should be")
    assert len(user.pull(key, "big")) == 8 << 20


def test_listeners_and_challenges_have_places_of_their_own(small: HubServer, bare: Caller) -> None:
    """Mounts that wait for news would take the places of uploads."""
    alice, bob = sign_up(bare, "alice"), sign_up(bare, "bob")
    user = BucketUser.with_new_thread(alice)
    request = threads_pb2.ListenRequest(dbID=user.thread)
    listeners = [alice.start(THREADS, "Listen", request, timeout_s=60) for _ in range(4)]
    for listener in listeners:
        listener.initial_metadata()
    assert ended(alice.start(THREADS, "Listen", request)) == (
        "RESOURCE_EXHAUSTED",
        TOO_MANY + "one account may have 4 of this hub's 8 open",
    )
    assert works(alice)
    theirs = BucketUser.with_new_thread(bob)
    other = bob.start(THREADS, "Listen", threads_pb2.ListenRequest(dbID=theirs.thread))
    other.initial_metadata()
    for listener in (*listeners, other):
        listener.cancel()


def test_the_users_of_one_key_leave_room_for_others(small: HubServer, bare: Caller) -> None:
    """The users of one app together would keep all others from the Hub."""
    app = bare.using(**make_key(sign_up(bare, "ann"), USER).headers())
    bob = sign_up(bare, "bob")
    with Silent(small) as silent:
        users = [as_user(app, Identity.generate()) for _ in range(4)]
        for user in users[:3]:
            for _ in range(2):
                silent.open(user, BLOCKS, "Put")
        eventually(lambda: taken(small, "_streams") == 6, "the places are not as they should be")
        assert ended(silent.open(users[3], BLOCKS, "Put")) == (
            "RESOURCE_EXHAUSTED",
            TOO_MANY + "the users of one key owner may have 6 of this hub's 8 open",
        )
        assert works(bob)


def test_nobody_holds_a_thread_without_being_let_in(small: HubServer, bare: Caller) -> None:
    """Calls that send headers and then nothing, of a kind that takes one message, and whose key is junk."""
    with Silent(small) as silent:
        junk = bare.using(x_textile_api_key="bjunk")
        for caller in (bare, junk):
            for _ in range(30):
                call = _headers_only(caller, USERS, "ListThreads")
                with pytest.raises(grpc.RpcError) as caught:
                    call.result(timeout=20)
                assert caught.value.code().name in ("UNAUTHENTICATED", "NOT_FOUND")
        assert silent
    # What needs no account is open to a quarter of the places.
    waiting = [_headers_only(bare, HUB, "IsUsernameAvailable") for _ in range(6)]
    eventually(lambda: taken(small, "singles") == 2, "the places are not as they should be")
    assert works(sign_up(bare, "alice"))
    for call in waiting:
        call.cancel()


def _headers_only(caller: Caller, service: str, method: str) -> Any:
    over = threading.Event()

    def nothing() -> Iterator[bytes]:
        over.wait(20)
        yield from ()

    call = caller.channel.stream_unary(f"/{service}/{method}").future(
        nothing(), metadata=tuple(caller.headers.items()), timeout=20
    )
    call.add_done_callback(lambda _call: over.set())
    return call


def test_a_single_message_that_does_not_come(small: HubServer, bare: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that opens calls and sends nothing would hold them for ever."""
    monkeypatch.setattr(admission, "MESSAGE_S", 0.1)
    alice = sign_up(bare, "alice")
    calls = [_headers_only(alice, USERS, "ListThreads") for _ in range(4)]
    for call in calls:
        with pytest.raises(grpc.RpcError) as caught:
            call.result(timeout=20)
        assert caught.value.code() in (grpc.StatusCode.CANCELLED, grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert works(alice)


def test_who_stands_still_goes_where_places_are_scarce(
    small: HubServer, bare: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Idle calls would keep working clients out of a Hub that is full."""
    monkeypatch.setattr(admission, "IDLE_S", 0.1)
    alice, bob, carol = (sign_up(bare, name) for name in ("alice", "bob", "carol"))
    with Silent(small) as silent:
        first = [silent.open(alice, BLOCKS, "Put") for _ in range(4)]
        eventually(lambda: taken(small, "_streams") == 4, "the places are not as they should be")
        # Half full: they may stay.
        assert not first[0].done() and works(carol)
        calls = first + [silent.open(bob, BLOCKS, "Put") for _ in range(4)]
        eventually(lambda: any(call.done() for call in calls), "the places are not as they should be")
        eventually(lambda: taken(small, "_streams") < 8, "the places are not as they should be")
        assert works(carol)


def test_reflection_and_health_are_open_and_in_nobodys_way(small: HubServer, bare: Caller) -> None:
    """Health checks without a key would fail, or hanging ones would keep users out."""
    over = threading.Event()

    def nothing() -> Iterator[Any]:
        over.wait(60)
        yield from ()

    stub = reflection_pb2_grpc.ServerReflectionStub(bare.channel)
    calls = [stub.ServerReflectionInfo(nothing()) for _ in range(60)]
    checks = [_headers_only(bare, "grpc.health.v1.Health", "Check") for _ in range(60)]
    assert works(sign_up(bare, "alice"))
    over.set()
    for call in (*calls, *checks):
        call.cancel()


def test_slow_calls_of_one_account_leave_turns_for_others(
    start_hub: Callable[..., HubServer], dial: Callable[[str], Caller], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One account with slow calls would make all others wait."""
    hub = start_hub(workers=4, singles_max=16)
    alice, bob = (sign_up(dial(hub.address), name) for name in ("alice", "bob"))
    may_go_on = threading.Event()
    at_work: list[tuple[str, ...]] = []
    quick = hub.hub.database.threads_of

    def slow(*who: str) -> Any:
        at_work.append(who)
        may_go_on.wait(60)
        return quick(*who)

    contexts: list[rpc.GrpcContext] = []

    class Noted(rpc.GrpcContext):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            contexts.append(self)

    monkeypatch.setattr(hub.hub.database, "threads_of", slow)
    monkeypatch.setattr(rpc, "GrpcContext", Noted)

    def ask(count: int) -> list[Any]:
        return [alice.start(USERS, "ListThreads", users_pb2.ListThreadsRequest(), timeout_s=60) for _ in range(count)]

    try:
        # Calls of one moment come in any order, so those that get a turn are begun before.
        calls = ask(2)
        eventually(lambda: len(at_work) == 2 and taken(hub, "singles") == 0, "two are at work")
        calls += ask(5)
        eventually(lambda: taken(hub, "singles") == 5, "five wait for their turn")
        assert works(bob), "two turns are left"
        assert len(at_work) == 2
        # One more than half of the places, threads included, is refused and waits for nothing.
        more = ask(4)
        eventually(lambda: any(call.done() for call in more), "the eleventh is refused")
        refused = [ended(call) for call in more if call.done()]
        assert refused == [("RESOURCE_EXHAUSTED", TOO_MANY + "one account may have 8 of this hub's 16 open")]
        # Those whose client has gone are not answered.
        for call in calls[2:] + more:
            call.cancel()
        eventually(lambda: sum(context.is_active() for context in contexts) == 2, "the hub knows that they have gone")
    finally:
        may_go_on.set()
    assert [list(call.result().list) for call in calls[:2]] == [[], []]
    eventually(lambda: taken(hub, "singles") == 0, "all are done")
    assert len(at_work) == 2
    assert works(alice)


def test_turns_go_to_who_has_the_least() -> None:
    """An account with many calls would get all turns, and one with a single call none."""
    places = FairQueue(8)
    got: list[str] = []
    over = threading.Semaphore(0)

    def wants(name: str, count: int) -> list[threading.Thread]:
        def take() -> None:
            with places.taken(Call(account=name)):
                got.append(name)
                over.acquire()

        threads = [threading.Thread(target=take, daemon=True) for _ in range(count)]
        for thread in threads:
            thread.start()
        return threads

    waiting = wants("a", 8)
    eventually(lambda: got == ["a"] * 4, "half for one who is alone")
    waiting += wants("b", 8)
    eventually(lambda: got[4:] == ["b"] * 2, "half of what is left")
    waiting += wants("c", 8)
    eventually(lambda: got[6:] == ["c"], "and so on")
    waiting += wants("", 2)
    eventually(lambda: got[7:] == [""], "the last one for who is nobody yet")
    over.release(100)
    for thread in waiting:
        thread.join(30)
    assert sorted(got) == sorted(["a"] * 8 + ["b"] * 8 + ["c"] * 8 + [""] * 2)
    assert (places._free, places._waiting, +places._by_account, +places._by_payer) == (8, {}, {}, {})


def test_many_single_calls_at_once_all_succeed(start_hub: Callable[..., HubServer], dial: Callable[[str], Caller]) -> None:
    """A client that starts with many calls at once would be refused some of them."""
    alice = sign_up(dial(start_hub().address), "alice")
    calls = [alice.start(HUB, "GetSessionInfo", hub_pb2.GetSessionInfoRequest(), timeout_s=60) for _ in range(200)]
    assert {call.result().username for call in calls} == {"alice"}


def test_a_call_without_its_message(bare: Caller) -> None:
    """A malformed call would be answered as a bug of the Hub."""
    alice = sign_up(bare, "alice")
    call = alice.channel.stream_unary(f"/{USERS}/ListThreads")
    with pytest.raises(grpc.RpcError) as caught:
        call(iter(()), metadata=tuple(alice.headers.items()), timeout=20)
    assert raised(caught.value) == ("INVALID_ARGUMENT", "the request is missing")


def test_the_numbers_of_the_page() -> None:
    """docs/protocol.md tells how much room there is."""
    page = " ".join((Path(__file__).parents[2] / "docs/protocol.md").read_text().split())
    config = HubConfig(data=Path())
    assert f"({config.singles_max}; {admission.MESSAGE_S:.0f} s each)" in page
    assert f"streams of blocks and files ({config.streams_max})" in page
    assert f"listeners, challenges and confirmations ({config.waiters_max:,})" in page
    assert f"Of single calls {config.workers} are at work" in page and f"({config.workers // 2} at most)" in page
    assert f"Messages have at most {config.message_bytes_max >> 20} MiB" in page
    assert admission.IDLE_S == 60 and "stood still for a minute are ended" in page
    assert "begins with `too many calls at once`" in page and admission.TOO_MANY == "too many calls at once"


def test_seats_are_given_back() -> None:
    """Places would leak away with each call, until the Hub refuses everyone."""
    places = Admission(4)
    call = Call(account="a", account_kind=AccountKind.DEVELOPER)

    def open_call() -> OpenCall:
        return OpenCall(lambda: None, single=False)

    def sit(_number: int) -> str:
        try:
            with places.taken(call, open_call()):
                return "sat"
        except Status as status:
            return status.text

    with ThreadPoolExecutor(8) as pool:
        assert "sat" in set(pool.map(sit, range(500)))
    with places.taken(call, open_call()), places.taken(call, open_call()), places.taken(NOBODY, open_call()):
        for other in (call, NOBODY):
            with pytest.raises(Status, match=TOO_MANY), places.taken(other, open_call()):
                pass
        full, others = places.taken(Call(account="b"), open_call()), places.taken(Call(account="c"), open_call())
        with full, pytest.raises(Status, match="all 4 places"), others:
            pass
    assert (places._open, +places._by_account, +places._by_payer) == (set(), {}, {})
