"""The clients against the real Hub: accounts, threads, buckets by path, blocks by CID."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from functools import partial

import pytest
from support.unixfs import build_file, file_root

from bucketfs.client import (
    Channel,
    Connection,
    Credentials,
    Endpoint,
    HubClient,
    InstanceAction,
    connect,
    find_bucket,
    find_or_create_bucket,
)
from bucketfs.dag import cid_of, drive, edit_directory
from bucketfs.errors import (
    BlocksMissing,
    BucketfsError,
    Denied,
    Exists,
    InvalidArgument,
    NotEmpty,
    NotFound,
    NotPermitted,
    RootMoved,
    Unauthenticated,
)
from bucketfs.hub import HubServer
from bucketfs.keys import Identity, KeyType, cid_of_root_path, fresh_thread, root_path
from bucketfs.roles import Role
from bucketfs.types import BucketKey, Cid, Link, UploadId
from bucketfs.wire import buckets_pb2

UPLOAD = UploadId(bytes(range(16)))


async def batches(*blocks: tuple[Cid, bytes]) -> AsyncIterator[Sequence[tuple[Cid, bytes]]]:
    for block in blocks:
        yield [block]


async def push_file(connection: Connection, key: BucketKey, path: str, *data: bytes, root: Cid | None = None) -> Cid:
    """Stores a file by path, as the clients of a Textile Hub do; returns the bucket's new root."""
    service = buckets_pb2.DESCRIPTOR.services_by_name["APIService"]
    head = buckets_pb2.PushPathRequest.Header(key=key, path=path, root=root_path(root) if root else "")
    stream = connection.channel.stream_both(service, "PushPath", lambda reply: reply.event, thread=connection.thread)
    async with stream as dialogue:
        await dialogue.send(buckets_pb2.PushPathRequest(header=head))
        for piece in data:
            await dialogue.send(buckets_pb2.PushPathRequest(chunk=piece))
        dialogue.finish()
        events = [event async for event in dialogue]
    return cid_of_root_path(events[-1].root.path)


async def edited(connection: Connection, root: Cid, name: bytes, link: Link) -> Cid:
    """The root with one more entry, its blocks stored."""
    tree = await connection.blocks.get([root])
    built = drive(edit_directory(root, {name: link}), lambda cids: {cid: tree[cid] for cid in cids})
    await connection.blocks.put(batches(*built.blocks.items()), UPLOAD)
    return built.link.cid


# Accounts and threads


async def test_accounts(hub: HubServer, connection: Connection) -> None:
    """An account and its organizations can be made and seen."""
    account = await connection.hub.account()
    assert (account.username, account.email) == ("alice", "alice@example.org")
    assert (await connection.hub.identity()).public_key == account.public_key
    with pytest.raises(Exists):
        await connection.hub.signup("alice", "other@example.org")
    org = await connection.hub.create_org("My awesome org!")
    assert org.slug == "My-awesome-org"
    assert [found.slug for found in await connection.hub.orgs()] == [org.slug]
    assert org.members[0].role == "owner"


async def test_keys(hub: HubServer, developer: Credentials, connection: Connection) -> None:
    """Keys work while they are valid, secure ones only with their signature."""
    other = await connection.hub.create_key(KeyType.ACCOUNT, secure=False)
    assert not other.secure
    endpoint = Endpoint.parse(hub.address)
    async with Channel(endpoint, lambda: Credentials(api_key=other.key)) as channel:
        assert (await HubClient(channel).account()).username == "alice"
    await connection.hub.invalidate_key(other.key)
    assert {key.key: key.valid for key in await connection.hub.keys()}[other.key] is False
    for wrong in (
        Credentials(),
        Credentials(api_key=other.key),
        Credentials(session="bnosuch"),
        replace(developer, api_secret=""),
        replace(developer, api_secret=other.secret),
    ):
        async with Channel(endpoint, partial(replace, wrong)) as channel:
            with pytest.raises(Unauthenticated):
                await HubClient(channel).keys()


async def test_every_client_finds_the_same_thread(hub: HubServer, developer: Credentials) -> None:
    """Two machines of one account find the same buckets."""
    endpoint = Endpoint.parse(hub.address)
    found = []
    for _ in range(2):
        async with connect(endpoint, lambda: developer) as connection:
            found.append(connection.thread)
            assert [(entry.name, entry.is_db) for entry in await connection.users.threads()] == [("buckets", True)]
    assert found[0] == found[1]
    given = fresh_thread()
    for _ in range(2):
        async with connect(endpoint, lambda: developer, thread=given, thread_name="other") as connection:
            assert connection.thread == given
    async with connect(endpoint, lambda: developer) as connection:
        with pytest.raises(Exists):
            await connection.threads.create(fresh_thread(), "Buckets")
        await connection.buckets.create("b")
        with pytest.raises(NotEmpty):
            await connection.threads.delete(connection.thread)
        await connection.threads.delete(given)


async def test_a_user_brings_an_identity_and_gets_a_token(hub: HubServer, connection: Connection) -> None:
    """A user of an application works in a space of their own."""
    key = await connection.hub.create_key(KeyType.USER, secure=True)
    user = Identity.generate()
    credentials = Credentials(api_key=key.key, api_secret=key.secret, identity=user.private_key)
    async with connect(Endpoint.parse(hub.address), lambda: credentials) as theirs:
        assert theirs.thread != connection.thread
        made = await theirs.buckets.create("mine")
        assert made.owner == user.public_key
        with pytest.raises(Denied):
            await type(theirs.buckets)(theirs.channel, connection.thread).list()


# Buckets by path


async def test_buckets(connection: Connection) -> None:
    """Buckets are made, found by name or key, and removed."""
    buckets = connection.buckets
    assert await buckets.list() == []
    made = await buckets.create("one")
    assert not made.private
    assert await buckets.list() == [made] == [await buckets.root(made.key)]
    assert made.thread == connection.thread
    assert made.key in (await buckets.links(made.key)).url
    assert await find_bucket(buckets, "one") == await find_bucket(buckets, made.key) == made
    assert await find_bucket(buckets, "two") is None
    assert (await find_or_create_bucket(buckets, "one")).key == made.key
    private = await find_or_create_bucket(buckets, "secret", private=True)
    assert private.private
    await buckets.remove(made.key)
    with pytest.raises(NotFound):
        await buckets.root(made.key)
    with pytest.raises(NotFound):
        await buckets.root(BucketKey("bafzbeinothere"))


@pytest.mark.parametrize("private", [False, True])
async def test_files_by_path(connection: Connection, private: bool) -> None:
    """Files of a bucket are read, moved and removed by path, in private buckets too."""
    buckets = connection.buckets
    key = (await buckets.create("one", private=private)).key
    data = os.urandom(600_000)
    pushed = await push_file(connection, key, "dir/file.bin", data[:1000], b"", data[1000:])
    assert pushed == (await buckets.root(key)).root
    if not private:
        (item, _), link = await buckets.list_path(key, "dir/file.bin"), build_file(data).link
        assert (item.cid, item.tsize) == (link.cid, link.tsize)
    assert b"".join([chunk async for chunk in buckets.pull_path(key, "dir/file.bin")]) == data
    assert [chunk async for chunk in buckets.pull_path(key, ".textileseed")]
    item, info = await buckets.list_path(key)
    assert [child.name for child in item.items] == [".textileseed", "dir"]
    assert item.items[1].is_directory
    assert info.root == pushed
    for act in (buckets.list_path(key, "nowhere"), buckets.links(key, "no/where"), buckets.remove_path(key, "nowhere")):
        with pytest.raises(NotFound):
            await act
    await buckets.move_path(key, "dir/file.bin", "dir/file.bin.old")
    await buckets.move_path(key, "dir", "other")
    item, _ = await buckets.list_path(key, "other")
    assert [child.name for child in item.items] == ["file.bin.old"]
    with pytest.raises(RootMoved):
        await buckets.remove_path(key, "other", root=pushed)
    with pytest.raises(RootMoved):
        await push_file(connection, key, "x", b"x", root=pushed)
    root = await buckets.remove_path(key, "other", root=(await buckets.root(key)).root)
    assert root == (await buckets.root(key)).root
    with pytest.raises(NotPermitted):
        await push_file(connection, key, "a/.textileseed", b"x")


async def test_roles(connection: Connection) -> None:
    """A role that was granted is shown, and one for a key that is none is refused."""
    buckets = connection.buckets
    key = (await buckets.create("one")).key
    await push_file(connection, key, "sub/a", b"hello")
    friend = Identity.generate().public_key
    await buckets.set_roles(key, "sub", {friend: Role.WRITER})
    details = await buckets.details(key)
    assert details.paths["sub"].roles[friend] is Role.WRITER
    assert details.paths["sub/a"].updated_at_ns > 0
    with pytest.raises(BucketfsError):
        await buckets.set_roles(key, "sub", {"nobody": Role.READER})


async def test_listening(connection: Connection) -> None:
    """A change made elsewhere is heard."""
    key = (await connection.buckets.create("one")).key
    other = (await connection.buckets.create("other")).key
    async with connection.threads.listen(connection.thread, "buckets", key) as changes:
        assert await changes.begun()
        for bucket in (other, key):
            await push_file(connection, bucket, "a", b"content")
        change = await changes.receive()
    assert change is not None
    assert (change.instance_id, change.action) == (key, InstanceAction.SAVE)


# Blocks by CID


async def test_blocks(connection: Connection) -> None:
    """Blocks come back as they were sent, and only missing ones are asked for."""
    blocks = connection.blocks
    assert await blocks.offered()
    data = [os.urandom(size) for size in (1, 1000, 262_144, 1_000_000, 2_000_000)]
    named = [(cid_of(block), block) for block in data]
    cids = [cid for cid, _ in named]
    assert await blocks.missing(cids, UPLOAD) == set(cids)
    counts = await blocks.put(batches(*named, named[0]), UPLOAD)
    assert counts.blocks_received >= 5
    assert counts.blocks_stored == 5
    assert counts.bytes_stored == sum(map(len, data))
    assert await blocks.missing(cids, UPLOAD) == set()
    absent = cid_of(b"absent")
    assert await blocks.get([absent, *cids, cids[0]]) == dict(named)
    assert [cid async for cid, _ in blocks.get_each([*cids, absent])] == [*cids, absent]
    with pytest.raises(InvalidArgument):
        await blocks.put(batches((cids[0], b"something else")), UPLOAD)


async def test_thousands_of_blocks_in_few_calls(connection: Connection) -> None:
    """A large push is no call per block."""
    named = [(cid_of(block), block) for block in (b"%d" % number for number in range(3000))]
    await connection.blocks.put(batches(*named), UPLOAD)
    assert await connection.blocks.get([cid for cid, _ in named]) == dict(named)
    calls = {key.rpartition("/")[2]: count for key, count in connection.channel.counts.items() if "Blocks" in key}
    assert calls == {"Put": 1, "Get": 3}


async def test_swap_root(connection: Connection) -> None:
    """A push of blocks shows as the new tree, unless another client was first."""
    blocks = connection.blocks
    info = await connection.buckets.create("one")
    content = build_file(b"hello")
    await blocks.put(batches(*content.blocks.items()), UPLOAD)
    new = await edited(connection, info.root, b"file", content.link)
    assert await blocks.swap_root(info.thread, info.key, info.root, new, UPLOAD) == new
    assert b"".join([chunk async for chunk in connection.buckets.pull_path(info.key, "file")]) == b"hello"
    assert [(found.key, found.root) for found in (await blocks.holdings()).buckets] == [(info.key, new)]
    with pytest.raises(RootMoved):
        await blocks.swap_root(info.thread, info.key, info.root, new, UPLOAD)
    with pytest.raises(NotFound):
        await blocks.swap_root(info.thread, BucketKey("bafzbeinothere"), info.root, new, UPLOAD)


async def test_a_swap_names_the_blocks_that_are_missing(connection: Connection) -> None:
    """A push is never accepted without its blocks, and learns which are missing."""
    info = await connection.buckets.create("one")
    lacking = [cid_of(b"one" * 100_000), cid_of(b"two" * 100_000)]
    file = file_root([(cid, 262_144) for cid in lacking])
    await connection.blocks.put(batches(*file.blocks.items()), UPLOAD)
    new = await edited(connection, info.root, b"file", file.link)
    with pytest.raises(BlocksMissing) as caught:
        await connection.blocks.swap_root(info.thread, info.key, info.root, new, UPLOAD)
    assert set(caught.value.cids) == set(lacking)
