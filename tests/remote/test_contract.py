"""One contract for the real Hub and for the one in memory: what every `Remote` promises.

The tests of vfs, sync, transfer and mirror run over the Hub in memory. What they show holds for a real Hub as far as the two keep
the same promises here.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio
from support.memory_remote import MemoryRemote

from bucketfs.cache import run_steps
from bucketfs.client import BucketsClient, Channel, Connection, Credentials, Endpoint, HubClient, connect
from bucketfs.dag import Built, cid_of, edit_directory
from bucketfs.errors import BlocksMissing, BucketfsError, Denied, InvalidArgument, NotFound, RootMoved, TimedOut, Unavailable
from bucketfs.hub import HubConfig, HubServer
from bucketfs.remote import NativeRemote, Remote
from bucketfs.roles import Role
from bucketfs.types import Cid, Link, UploadId

LOST = cid_of(b"nobody ever stored this")


@dataclass(frozen=True)
class Bucket:
    """One bucket, as its owner and a reader see it. ``remove`` takes it away, ``stop`` ends its Hub."""

    owner: Remote
    reader: Remote
    remove: Callable[[], Awaitable[None]]
    stop: Callable[[], Awaitable[None]]


async def in_memory() -> Bucket:
    owner = MemoryRemote()
    reader = MemoryRemote(owner.store, refuses=True)
    reader.at = owner.at

    async def remove() -> None:
        owner.gone = reader.gone = True

    async def stop() -> None:
        owner.away = reader.away = True

    return Bucket(owner, reader, remove, stop)


async def over_a_hub(folder: Path, stack: AsyncExitStack) -> Bucket:
    server = stack.enter_context(
        HubServer(HubConfig(data=folder / "hub", listen=f"unix:{folder}/hub.sock", auto_confirm=True))
    )
    endpoint = Endpoint.parse(server.address)

    async def signed_up(name: str) -> Connection:
        async with Channel(endpoint, Credentials) as channel:
            session = await HubClient(channel).signup(name, f"{name}@example.org")
        return await stack.enter_async_context(connect(endpoint, lambda: Credentials(session=session), timeout_s=5.0))

    ann, ben = await signed_up("ann"), await signed_up("ben")
    bucket = await ann.buckets.create("one")
    readers_key = (await ben.hub.account()).public_key
    await ann.buckets.set_roles(bucket.key, "", {readers_key: Role.READER})

    async def remove() -> None:
        await ann.buckets.remove(bucket.key)

    async def stop() -> None:
        await trio.to_thread.run_sync(server.stop)

    owner, reader = (
        NativeRemote(one.blocks, BucketsClient(one.channel, bucket.thread), bucket.thread, bucket.key) for one in (ann, ben)
    )
    return Bucket(owner, reader, remove, stop)


@pytest.fixture(params=["in memory", "over a Hub"])
async def bucket(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bucket]:
    async with AsyncExitStack() as stack:
        yield await (in_memory() if request.param == "in memory" else over_a_hub(tmp_path, stack))


@dataclass(frozen=True)
class _Blocks:
    """The blocks of a remote as a source of all that is asked for."""

    remote: Remote

    async def get(self, cid: Cid) -> bytes:
        return (await self.get_many([cid]))[cid]

    async def get_many(self, cids: Sequence[Cid]) -> dict[Cid, bytes]:
        return await self.remote.blocks(cids)

    def peek(self, cid: Cid) -> bytes | None:
        return None


def upload() -> UploadId:
    return UploadId(secrets.token_bytes(16))


async def put(remote: Remote, blocks: Iterable[tuple[Cid, bytes]], of: UploadId) -> None:
    async def batches() -> AsyncGenerator[Sequence[tuple[Cid, bytes]], None]:
        yield list(blocks)

    async with aclosing(batches()) as sent:
        await remote.put(sent, of)


async def edited(remote: Remote, root: Cid, **files: bytes) -> tuple[Built, dict[Cid, bytes]]:
    """The tree ``root`` with these files in it, not sent yet; with all blocks that are new."""
    blocks = {cid_of(data): data for data in files.values()}
    links = {name.encode(): Link(cid_of(data), len(data)) for name, data in files.items()}
    built = await run_steps(edit_directory(root, links), _Blocks(remote))
    return built, {**blocks, **built.blocks}


async def change(remote: Remote, **files: bytes) -> Cid:
    """A push of these files; the root that it made."""
    root, of = await remote.root(), upload()
    built, blocks = await edited(remote, root, **files)
    await put(remote, blocks.items(), of)
    await remote.swap(root, built.link.cid, of)
    return built.link.cid


async def test_a_bucket_has_a_root_whose_blocks_can_be_had(bucket: Bucket) -> None:
    """Nothing could be mounted otherwise."""
    root = await bucket.owner.root()
    assert (await bucket.owner.look()).root == root
    blocks = await bucket.owner.blocks([root])
    assert [cid_of(data, 0x70) for data in blocks.values()] == [root]


async def test_a_block_that_is_lacking_is_left_out(bucket: Bucket) -> None:
    """One lost block must not keep the others from a reader."""
    root = await bucket.owner.root()
    assert set(await bucket.owner.blocks([LOST, root])) == {root}
    assert await bucket.owner.blocks([]) == {}
    assert await bucket.owner.missing([LOST, root], upload()) == {LOST}


async def test_what_was_put_is_there(bucket: Bucket) -> None:
    """Also when it is put twice, as after a connection that broke."""
    data, of = b"some bytes", upload()
    for _ in range(2):
        await put(bucket.owner, [(cid_of(data), data)], of)
        assert await bucket.owner.missing([cid_of(data)], of) == set()
        assert await bucket.owner.blocks([cid_of(data)]) == {cid_of(data): data}


async def test_wrong_bytes_are_refused_and_not_stored(bucket: Bucket) -> None:
    """A block that a disk or a wire spoiled must never be served under the name of the right one."""
    of = upload()
    with pytest.raises(InvalidArgument):
        await put(bucket.owner, [(cid_of(b"right"), b"wrong")], of)
    assert await bucket.owner.missing([cid_of(b"right")], of) == {cid_of(b"right")}


async def test_a_push_is_seen_by_all(bucket: Bucket) -> None:
    """The root is another one at once, with all that is below it, and with a later time where times are told."""
    before = await bucket.owner.look()
    root = await change(bucket.owner, a=b"a", b=b"b")
    after = await bucket.owner.look()
    assert after.root == root != before.root
    assert after.updated_at_ns > before.updated_at_ns or after.updated_at_ns == before.updated_at_ns == 0
    assert set(await bucket.owner.blocks([cid_of(b"a"), cid_of(b"b")])) == {cid_of(b"a"), cid_of(b"b")}


async def test_a_root_is_swapped_only_from_the_one_that_is_there(bucket: Bucket) -> None:
    """Otherwise the push of one machine would take away what another one pushed meanwhile."""
    first = await bucket.owner.root()
    second = await change(bucket.owner, a=b"a")
    of = upload()
    third, blocks = await edited(bucket.owner, second, b=b"b")
    await put(bucket.owner, blocks.items(), of)
    for stale in (first, third.link.cid):
        with pytest.raises(RootMoved):
            await bucket.owner.swap(stale, third.link.cid, of)
        assert await bucket.owner.root() == second
    await bucket.owner.swap(second, third.link.cid, of)
    assert await bucket.owner.root() == third.link.cid


async def test_a_root_with_blocks_missing_is_refused_by_their_names(bucket: Bucket) -> None:
    """A half-sent tree must never be shown; the pusher sends what is named and asks again."""
    root, of = await bucket.owner.root(), upload()
    built, blocks = await edited(bucket.owner, root, a=b"a", b=b"b")
    sent: set[Cid] = set()
    rounds = 0
    while await bucket.owner.root() == root:
        rounds += 1
        try:
            await bucket.owner.swap(root, built.link.cid, of)
        except BlocksMissing as error:
            named = {Cid(cid) for cid in error.cids}
            assert named and named <= blocks.keys() - sent
            await put(bucket.owner, [(cid, blocks[cid]) for cid in named], of)
            sent |= named
    assert rounds == 3, "the root is missed first, and then what is below it"
    assert sent == blocks.keys()


async def test_what_the_old_root_had_is_not_sent_again(bucket: Bucket) -> None:
    """A rename of a folder with a million files is two blocks."""
    old = await change(bucket.owner, a=b"a")
    built, _ = await edited(bucket.owner, old)
    renamed = await run_steps(edit_directory(old, {b"a": None, b"renamed": Link(cid_of(b"a"), 1)}), _Blocks(bucket.owner))
    of = upload()
    await put(bucket.owner, renamed.blocks.items(), of)
    await bucket.owner.swap(old, renamed.link.cid, of)
    assert await bucket.owner.root() == renamed.link.cid != built.link.cid


async def test_of_pushes_at_the_same_time_one_wins(bucket: Bucket) -> None:
    """And each of the others hears that it did not, so that it can be made on the new root."""
    root = await bucket.owner.root()
    won: list[Cid] = []
    lost: list[Cid] = []

    async def push(number: int) -> None:
        of = upload()
        built, blocks = await edited(bucket.owner, root, same=b"same", **{f"f{number}": b"%d" % number})
        await put(bucket.owner, blocks.items(), of)
        try:
            await bucket.owner.swap(root, built.link.cid, of)
        except RootMoved:
            lost.append(built.link.cid)
        else:
            won.append(built.link.cid)

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(push, number)
    assert len(won) == 1 and len(lost) == 4
    assert await bucket.owner.root() == won[0]


async def test_a_reader_reads_and_may_not_write(bucket: Bucket) -> None:
    """What the owner shares for reading stays as it is."""
    root, of = await bucket.reader.root(), upload()
    assert root == await bucket.owner.root()
    assert set(await bucket.reader.blocks([root])) == {root}
    built, blocks = await edited(bucket.reader, root, a=b"a")
    await put(bucket.reader, blocks.items(), of)
    with pytest.raises(Denied):
        await bucket.reader.swap(root, built.link.cid, of)
    assert await bucket.owner.root() == root


async def test_a_bucket_that_is_gone_is_not_found(bucket: Bucket) -> None:
    """A mount keeps what waits for it, and says why it waits."""
    root, of = await bucket.owner.root(), upload()
    built, blocks = await edited(bucket.owner, root, a=b"a")
    await put(bucket.owner, blocks.items(), of)
    await bucket.remove()
    for ask in (bucket.owner.root, bucket.owner.look):
        with pytest.raises(NotFound):
            await ask()
    with pytest.raises(NotFound):
        await bucket.owner.swap(root, built.link.cid, of)


async def test_a_hub_that_is_away_is_unavailable(bucket: Bucket) -> None:
    """It is asked again later; no other error is taken for that."""
    root = await bucket.owner.root()
    await bucket.stop()
    calls: list[Callable[[], Awaitable[object]]] = [
        bucket.owner.root,
        bucket.owner.look,
        lambda: bucket.owner.blocks([root]),
        lambda: bucket.owner.missing([root], upload()),
        lambda: put(bucket.owner, [(cid_of(b"a"), b"a")], upload()),
        lambda: bucket.owner.swap(root, LOST, upload()),
    ]
    for call in calls:
        with pytest.raises(BucketfsError) as raised:
            await call()
        assert isinstance(raised.value, Unavailable | TimedOut)
