"""gRPC against trio: answers, errors, deadlines, cancellation and back-pressure, over a real server."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import trio
from support.waiting import eventually

from bucketfs.client import Channel, Credentials, Endpoint
from bucketfs.client.channel import STREAMS_MAX
from bucketfs.errors import Corrupt, InvalidArgument, NotFound, RootMoved, TimedOut, Unavailable, Unsupported
from bucketfs.hub import HubConfig
from bucketfs.types import ThreadId
from bucketfs.wire import blocks_pb2, buckets_pb2

BUCKETS = buckets_pb2.DESCRIPTOR.services_by_name["APIService"]
BLOCKS = blocks_pb2.DESCRIPTOR.services_by_name["Blocks"]
ROOT = "api.bucketsd.pb.APIService/Root"
THREAD = ThreadId(bytes([1, 0x55]) + bytes(32))


def root_reply(request: Any, _context: grpc.ServicerContext) -> Any:
    return buckets_pb2.RootResponse(root=buckets_pb2.Root(key=request.key))


def chunk(reply: Any) -> bytes:
    data: bytes = reply.chunk
    return data


async def test_unary(tiny_hub: Any) -> None:
    """A call carries the credentials and the thread, and comes back with the reply."""
    tiny_hub.serve(BUCKETS, Root=root_reply)
    async with tiny_hub.channel(Credentials(api_key="bkey", token="jwt")) as channel:
        request = buckets_pb2.RootRequest(key="one")
        reply = await channel.unary(BUCKETS, "Root", request, thread=THREAD)
        assert reply.root.key == "one"
        assert channel.counts == {ROOT: 1}
    headers = tiny_hub.metadata[0]
    assert headers["x-textile-api-key"] == "bkey"
    assert headers["authorization"] == "bearer jwt"
    assert headers["x-textile-thread"].startswith("bafk")


async def test_many_unary_calls_at_once_without_threads(tiny_hub: Any) -> None:
    """A thousand waiting calls do not take the threads that the disk needs."""
    tiny_hub.serve(BUCKETS, Root=root_reply)
    seen: set[str] = set()
    async with tiny_hub.channel() as channel:

        async def call(key: str) -> None:
            seen.add((await channel.unary(BUCKETS, "Root", buckets_pb2.RootRequest(key=key))).root.key)

        async with trio.open_nursery() as nursery:
            for number in range(200):
                nursery.start_soon(call, str(number))
        assert channel.counts[ROOT] == 200
        assert channel._limiter.borrowed_tokens == 0
    assert len(seen) == 200


async def test_credentials_are_asked_on_each_call(tiny_hub: Any) -> None:
    """A key that is replaced while a mount runs is used by its next call."""
    tiny_hub.serve(BUCKETS, Root=root_reply)
    keys = iter(["old", "new"])
    async with Channel(Endpoint.parse(tiny_hub.address), lambda: Credentials(api_key=next(keys))) as channel:
        for _ in range(2):
            await channel.unary(BUCKETS, "Root", buckets_pb2.RootRequest())
    assert [headers["x-textile-api-key"] for headers in tiny_hub.metadata] == ["old", "new"]


async def test_errors(tiny_hub: Any) -> None:
    """What gRPC raises is never seen outside of the channel."""

    def fail(request: Any, context: grpc.ServicerContext) -> Any:
        context.abort(*answers[request.key])

    answers = {
        "moved": (grpc.StatusCode.FAILED_PRECONDITION, "update is non-fast-forward"),
        "gone": (grpc.StatusCode.UNKNOWN, "instance not found"),
        "odd": (grpc.StatusCode.INVALID_ARGUMENT, "two\nlines"),
    }
    tiny_hub.serve(BUCKETS, Root=fail)
    async with tiny_hub.channel() as channel:
        for key, kind in (("moved", RootMoved), ("gone", NotFound), ("odd", InvalidArgument)):
            with pytest.raises(kind) as caught:
                await channel.unary(BUCKETS, "Root", buckets_pb2.RootRequest(key=key))
            assert "\n" not in str(caught.value)
            assert caught.value.__cause__ is not None
        with pytest.raises(Unsupported):
            await channel.unary(BUCKETS, "List", buckets_pb2.ListRequest())


async def test_a_hub_that_is_not_running() -> None:
    """A Hub that is not running is Unavailable, with the address in the message."""
    async with Channel(Endpoint.parse("unix:/nowhere/at/all"), Credentials) as channel:
        with pytest.raises(Unavailable) as caught:
            await channel.unary(BUCKETS, "Root", buckets_pb2.RootRequest())
        assert "/nowhere/at/all" in str(caught.value)
        assert caught.value.hint
    with pytest.raises(Unavailable):
        await channel.unary(BUCKETS, "Root", buckets_pb2.RootRequest())


async def test_a_slow_answer_is_not_waited_for(tiny_hub: Any) -> None:
    """A Hub that hangs costs the time limit, not for ever."""
    let_go = threading.Event()

    def wait(request: Any, context: grpc.ServicerContext) -> Any:
        let_go.wait(10)
        return buckets_pb2.RootResponse()

    def stall(request: Any, context: grpc.ServicerContext) -> Any:
        yield buckets_pb2.PullPathResponse(chunk=b"first")
        let_go.wait(10)

    tiny_hub.serve(BUCKETS, Root=wait, PullPath=stall)
    async with tiny_hub.channel() as channel:
        with pytest.raises(TimedOut):
            await channel.unary(BUCKETS, "Root", buckets_pb2.RootRequest(), timeout_s=0.1)
        request = buckets_pb2.PullPathRequest()
        async with channel.stream_out(BUCKETS, "PullPath", request, chunk, timeout_s=0.1) as replies:
            assert await replies.receive() == b"first"
            with pytest.raises(TimedOut):
                await replies.receive()
        let_go.set()


async def test_cancelling_closes_the_call(tiny_hub: Any) -> None:
    """A program that is interrupted leaves no call running at the Hub."""
    entered, ended = threading.Event(), threading.Event()

    def wait(request: Any, context: grpc.ServicerContext) -> Any:
        context.add_callback(ended.set)
        entered.set()
        ended.wait(10)
        return buckets_pb2.RootResponse()

    def endless(request: Any, context: grpc.ServicerContext) -> Any:
        context.add_callback(ended.set)
        while context.is_active():
            yield buckets_pb2.PullPathResponse(chunk=bytes(1000))

    tiny_hub.serve(BUCKETS, Root=wait, PullPath=endless)
    async with tiny_hub.channel(timeout_s=60) as channel:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(channel.unary, BUCKETS, "Root", buckets_pb2.RootRequest())
            assert await trio.to_thread.run_sync(entered.wait, 5)
            nursery.cancel_scope.cancel()
        assert await trio.to_thread.run_sync(ended.wait, 5)
        ended.clear()
        async with channel.stream_out(BUCKETS, "PullPath", buckets_pb2.PullPathRequest(), chunk) as replies:
            assert await replies.receive() == bytes(1000)
        assert await trio.to_thread.run_sync(ended.wait, 5)


async def test_a_stream_waits_for_its_place_and_gives_it_back(tiny_hub: Any) -> None:
    # An account has half of a hub's places, and many mounts may be one account's.
    """Many reads at once do not run into the limit of open streams at a Hub."""
    assert HubConfig(data=Path()).streams_max // 4 >= STREAMS_MAX
    let_go = threading.Event()
    entered: list[str] = []

    def stall(request: Any, context: grpc.ServicerContext) -> Any:
        entered.append(request.key)
        yield buckets_pb2.PullPathResponse(chunk=b"first")
        let_go.wait(10)

    tiny_hub.serve(BUCKETS, PullPath=stall)
    async with tiny_hub.channel(timeout_s=60) as channel, trio.open_nursery() as nursery:
        channel._places.total_tokens = 2

        async def pull(key: str) -> None:
            async with channel.stream_out(BUCKETS, "PullPath", buckets_pb2.PullPathRequest(key=key), chunk) as replies:
                assert [reply async for reply in replies] == [b"first"]

        for key in "abc":
            nursery.start_soon(pull, key)
        await trio.to_thread.run_sync(
            lambda: eventually(lambda: len(entered) == 2 and channel._places.statistics().tasks_waiting == 1, "two are open")
        )
        let_go.set()
    assert sorted(entered) == ["a", "b", "c"]
    assert channel._places.borrowed_tokens == 0
    # A closed channel begins no call, and holds no place for it.
    with pytest.raises(Unavailable):
        async with channel.stream_out(BUCKETS, "PullPath", buckets_pb2.PullPathRequest(), chunk):
            pass
    assert channel._places.borrowed_tokens == 0


async def test_replies_come_in_order_and_bundled(tiny_hub: Any) -> None:
    """Content of a file comes in order, however its messages were taken together."""

    def count(request: Any, context: grpc.ServicerContext) -> Any:
        for number in range(100):
            yield buckets_pb2.PullPathResponse(chunk=bytes([number]))

    tiny_hub.serve(BUCKETS, PullPath=count)
    async with tiny_hub.channel() as channel:
        for bundle in (1, 32, 1000):
            request = buckets_pb2.PullPathRequest()
            async with channel.stream_out(BUCKETS, "PullPath", request, chunk, bundle=bundle) as replies:
                assert b"".join([data async for data in replies]) == bytes(range(100))
                assert await replies.receive() is None


async def test_an_error_after_replies(tiny_hub: Any) -> None:
    """A read that fails in its middle fails, and does not end early as if the file were shorter."""

    def cut(request: Any, context: grpc.ServicerContext) -> Any:
        yield buckets_pb2.PullPathResponse(chunk=b"a")
        context.abort(grpc.StatusCode.UNKNOWN, "message corrupt or incorrect password")

    tiny_hub.serve(BUCKETS, PullPath=cut)
    async with (
        tiny_hub.channel() as channel,
        channel.stream_out(BUCKETS, "PullPath", buckets_pb2.PullPathRequest(), chunk) as replies,
    ):
        assert await replies.receive() == b"a"
        with pytest.raises(Corrupt):
            await replies.receive()


async def test_what_converting_raises_is_raised(tiny_hub: Any) -> None:
    """A corrupt block found on the worker thread fails the read."""

    def one(request: Any, context: grpc.ServicerContext) -> Any:
        yield buckets_pb2.PullPathResponse(chunk=b"a")

    def refuse(reply: Any) -> bytes:
        raise Corrupt("not what it should be")

    tiny_hub.serve(BUCKETS, PullPath=one)
    async with (
        tiny_hub.channel() as channel,
        channel.stream_out(BUCKETS, "PullPath", buckets_pb2.PullPathRequest(), refuse) as replies,
    ):
        with pytest.raises(Corrupt):
            await replies.receive()


class Store:
    """A Put that keeps what it got, and says whether the stream came to its end."""

    def __init__(self) -> None:
        self.got: list[int] = []
        self.complete = False
        self.over = threading.Event()
        self.begun = threading.Event()
        self.gate = threading.Event()
        self.gate.set()
        self.refuse_after = 1 << 30

    def put(self, requests: Any, context: grpc.ServicerContext) -> Any:
        if not context.add_callback(self.over.set):
            self.over.set()
        for request in requests:
            self.begun.set()
            self.gate.wait(10)
            self.got.append(sum(len(block.data) for block in request.blocks))
            if len(self.got) >= self.refuse_after:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not what its CID says")
        # The end of the requests is seen a moment before the cancellation that caused it.
        self.complete = not self.over.wait(0.5)
        return blocks_pb2.PutReply(blocks_received=len(self.got))


def message(size_bytes: int = 10) -> Any:
    return blocks_pb2.PutRequest(blocks=[blocks_pb2.Block(cid=b"c", data=bytes(size_bytes))])


async def test_stream_in(tiny_hub: Any) -> None:
    """An upload sends all its messages and gets the one reply."""
    store = Store()
    tiny_hub.serve(BLOCKS, Put=store.put)

    async def requests() -> AsyncIterator[Any]:
        for _ in range(50):
            yield message()

    async with tiny_hub.channel() as channel:
        reply = await channel.stream_in(BLOCKS, "Put", requests())
    assert reply.blocks_received == 50
    assert store.complete


async def test_stream_in_ended_by_the_hub(tiny_hub: Any) -> None:
    """An upload that the Hub refuses early stops sending and says why."""
    store = Store()
    store.refuse_after = 3
    tiny_hub.serve(BLOCKS, Put=store.put)
    closed = []

    async def endless() -> AsyncIterator[Any]:
        try:
            while True:
                yield message()
        finally:
            closed.append(True)

    async with tiny_hub.channel() as channel:
        with pytest.raises(InvalidArgument):
            await channel.stream_in(BLOCKS, "Put", endless())
    assert closed


async def test_a_failing_source_never_ends_the_stream_in_good_order(tiny_hub: Any) -> None:
    """A half-close would make the Hub store what was cut off."""
    store = Store()
    tiny_hub.serve(BLOCKS, Put=store.put)

    async def broken() -> AsyncIterator[Any]:
        yield message()
        await trio.to_thread.run_sync(store.begun.wait, 5)
        raise ZeroDivisionError

    async with tiny_hub.channel() as channel:
        with pytest.raises(ZeroDivisionError):
            await channel.stream_in(BLOCKS, "Put", broken())
        assert await trio.to_thread.run_sync(store.over.wait, 5)
    assert not store.complete


async def test_a_cancelled_source_never_ends_the_stream_in_good_order(tiny_hub: Any) -> None:
    """A push that is interrupted is not stored half as if it were whole."""
    store = Store()
    tiny_hub.serve(BLOCKS, Put=store.put)

    async def hanging() -> AsyncIterator[Any]:
        yield message()
        await trio.to_thread.run_sync(store.begun.wait, 5)
        scope.cancel()
        await trio.sleep_forever()

    async with tiny_hub.channel() as channel:
        with trio.CancelScope() as scope:
            await channel.stream_in(BLOCKS, "Put", hanging())
        assert await trio.to_thread.run_sync(store.over.wait, 5)
    assert not store.complete


async def test_a_slow_hub_holds_the_sender_back(tiny_hub: Any) -> None:
    """An upload over a slow link does not fill the memory."""
    store = Store()
    store.gate.clear()
    tiny_hub.serve(BLOCKS, Put=store.put)
    made = 0

    async def requests() -> AsyncIterator[Any]:
        nonlocal made
        for _ in range(200):
            made += 1
            yield message(1 << 20)

    async with tiny_hub.channel(timeout_s=0.5) as channel:
        with pytest.raises(TimedOut):
            await channel.stream_in(BLOCKS, "Put", requests())
    store.gate.set()
    assert made < 20


async def test_dialogue(tiny_hub: Any) -> None:
    """Requests and replies in turn, as a token is got."""

    def echo(requests: Any, context: grpc.ServicerContext) -> Any:
        for request in requests:
            event = buckets_pb2.PushPathResponse.Event(bytes=len(request.chunk))
            yield buckets_pb2.PushPathResponse(event=event)

    def size(reply: Any) -> int:
        return int(reply.event.bytes)

    tiny_hub.serve(BUCKETS, PushPath=echo)
    async with (
        tiny_hub.channel() as channel,
        channel.stream_both(BUCKETS, "PushPath", size) as dialogue,
    ):
        for length in (3, 5):
            assert await dialogue.send(buckets_pb2.PushPathRequest(chunk=bytes(length)))
            assert await dialogue.receive() == length
        dialogue.finish()
        assert await dialogue.receive() is None
        assert not await dialogue.send(buckets_pb2.PushPathRequest())


async def test_a_dialogue_left_early_is_cancelled(tiny_hub: Any) -> None:
    """A dialogue that is left early keeps nothing open at the Hub."""
    ended: list[bool] = []
    over = threading.Event()

    def listen(requests: Any, context: grpc.ServicerContext) -> Any:
        context.add_callback(over.set)
        yield buckets_pb2.PushPathResponse()
        for _ in requests:
            pass
        ended.append(not over.wait(0.5))

    tiny_hub.serve(BUCKETS, PushPath=listen)
    async with tiny_hub.channel() as channel:
        with pytest.raises(ZeroDivisionError):
            async with channel.stream_both(BUCKETS, "PushPath", lambda reply: reply) as dialogue:
                await dialogue.receive()
                raise ZeroDivisionError
        assert await trio.to_thread.run_sync(over.wait, 5)
    assert True not in ended
