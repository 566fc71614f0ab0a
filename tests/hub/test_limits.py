"""Limits of accounts and buckets: every way in is refused past them, and what is left can be asked for."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.bareclient import Caller
from support.bucketuser import BLOCKS, BUCKETS, BucketUser, pb, raised
from support.keyring import USER, as_user, make_key, sign_up
from support.planting import bucket_by_key
from support.unixfs import build_file

from bucketfs.dag import (
    DAG_PB,
    LEAF_SIZE,
    PbNode,
    UnixFs,
    UnixFsType,
    cid_of,
    drive,
    edit_directory,
    encode_pb,
    encode_unixfs,
)
from bucketfs.errors import BucketfsError, OverQuota
from bucketfs.hub import HubConfig, HubServer, collect
from bucketfs.hub.config import AccountLimits
from bucketfs.hub.db.buckets import HubDatabase
from bucketfs.hub.db.models import AccountUsage, BucketRow, PathEntry, ThreadRow
from bucketfs.hub.db.schema import sqlite_url
from bucketfs.hub.store.upload_quota import UploadQuota
from bucketfs.hub.trees.private import PrivateTree
from bucketfs.hub.trees.working_set import WorkingSet
from bucketfs.keys import Identity
from bucketfs.types import BucketKey, Cid, ThreadId
from bucketfs.wire import blocks_pb2, threads_pb2

LIMIT = 200_000
BUCKET_LIMIT = 150_000
THREADS = "threads.pb.API"


@pytest.fixture
def server(start_hub: Callable[..., HubServer]) -> HubServer:
    return start_hub(
        threads_per_owner_max=2, buckets_per_owner_max=3, account_bytes_max=LIMIT, bucket_bytes_max=BUCKET_LIMIT
    )


def picked(held: Mapping[Cid, bytes], cids: Sequence[Cid]) -> dict[Cid, bytes]:
    return {cid: held[cid] for cid in cids}


@pytest.fixture
def bare(server: HubServer, dial: Callable[[str], Caller]) -> Caller:
    return dial(server.address)


@pytest.fixture
def dora(bare: Caller) -> Caller:
    return sign_up(bare, "dora")


def file_node(content: bytes) -> bytes:
    """A node with the content of a file in it."""
    return encode_pb(PbNode((), encode_unixfs(UnixFs(UnixFsType.FILE, data=content, filesize=len(content)))))


def left(user: BucketUser) -> Any:
    return user.blocks("Roots", blocks_pb2.RootsRequest())


def refused(call: Callable[[], Any], start: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    code, text = raised(caught.value)
    assert (code, text[: len(start)]) == ("RESOURCE_EXHAUSTED", start)


STORAGE = "storage quota exhausted: "


def test_bytes_every_way_in(dora: Caller) -> None:
    """One kind of call would let an account store more than its limit."""
    user = BucketUser.with_new_thread(dora)
    full, other = user.create("full").root.key, user.create("other").root.key
    user.push(full, "big", bytes(140_000))
    big = user.listing(full, "big").cid
    before = left(user)
    for call in (
        lambda: user.push(full, "more", bytes(20_000)),  # too large a bucket
        lambda: user.push(other, "more", bytes(80_000)),  # too much for the account
        lambda: user.push(other, "huge", bytes(3 << 20)),  # seen while it streams
        lambda: user.push_paths(other, {"a": bytes(40_000), "b": bytes(40_000)}),
        lambda: user.push_paths(other, {"a": bytes(3 << 20)}),
        lambda: user.ask("SetPath", key=other, path="copy", cid=big),
        lambda: user.create("third", bootstrap_cid=user.root(full).path),
        lambda: user.create("third", bootstrap_cid=user.root(full).path, private=True),
        lambda: user.put_blocks({cid_of(data): data for data in (bytes([n]) * 60_000 for n in range(4))}),
        lambda: user.put_blocks({cid_of(data, DAG_PB): data for data in (file_node(bytes([n]) * 60_000) for n in range(4))}),
    ):
        refused(call, STORAGE)
    after = left(user)
    assert {bucket.key: bucket.root for bucket in after.buckets} == {bucket.key: bucket.root for bucket in before.buckets}
    assert after.bytes_used == before.bytes_used


def test_a_swap_is_counted_too(dora: Caller) -> None:
    """A push of a tree would pass the limit that single files are held to."""
    user = BucketUser.with_new_thread(dora)
    one, two = user.create("one").root.key, user.create("two").root.key
    user.push(one, "f", bytes(120_000))
    root = user.root_cid(two)
    made = build_file(b"x" * 90_000)
    held = {root: user.get_blocks([root])[0].data}
    grown = drive(edit_directory(Cid(root), {b"g": made.link}), lambda cids: {cid: held[cid] for cid in cids})
    user.put_blocks({**made.blocks, **grown.blocks}, b"upload")
    refused(lambda: user.swap(two, root, grown.link.cid, b"upload"), STORAGE)
    user.ask("RemovePath", key=one, path="f")
    user.swap(two, root, grown.link.cid, b"upload")
    assert left(user).bytes_used == sum(total_size(user, key) for key in (one, two))


def total_size(user: BucketUser, key: str) -> int:
    """Of a public bucket, as it is listed."""
    return int(user.listing(key).size)


def test_shrinking_is_always_allowed(server: HubServer, start_hub: Any, dial: Any, dora: Caller) -> None:
    """An account over its limit could not even remove files."""
    user = BucketUser.with_new_thread(dora)
    key = user.create().root.key
    user.push_paths(key, {"a": bytes(50_000), "b": b"y" * 50_000})
    server.stop()
    # The limit came down below what is there.
    tight = dial(start_hub(account_bytes_max=60_000).address)
    user = user.beside(tight.using(**dora.headers))
    assert left(user).bytes_used > left(user).bytes_limit == 60_000
    refused(lambda: user.push(key, "c", b"z" * 100), STORAGE)
    user.ask("RemovePath", key=key, path="a")
    user.push(key, "c", b"z" * 100)


def test_threads_and_buckets(dora: Caller) -> None:
    """An account could make any number of threads and buckets, or not make one after it removed one."""
    user = BucketUser.with_new_thread(dora)
    BucketUser.with_new_thread(dora)
    refused(lambda: BucketUser.with_new_thread(dora), "number of threads per owner exceeds quota")
    keys = [user.create().root.key for _ in range(3)]
    refused(user.create, "number of buckets per owner exceeds quota")
    user.ask("Remove", key=keys[0])
    user.create()
    told = left(user)
    assert (told.threads_used, told.threads_limit, told.buckets_used, told.buckets_limit) == (2, 2, 3, 3)
    assert (told.bytes_limit, told.bucket_bytes_limit) == (LIMIT, BUCKET_LIMIT)


def test_users_count_against_the_owner_of_their_key(bare: Caller, dora: Caller) -> None:
    """A developer could store without limit through made-up users, or one app's users would use another's room."""
    key = make_key(dora, USER)
    one, two = (BucketUser.with_new_thread(as_user(bare.using(**key.headers()), Identity.generate())) for _ in range(2))
    refused(lambda: BucketUser.with_new_thread(dora), "number of threads per owner exceeds quota")
    first, second = one.create().root.key, two.create().root.key
    one.push(first, "f", bytes(120_000))
    refused(lambda: two.push(second, "f", b"x" * 120_000), STORAGE)
    of_owner = BucketUser(dora, one.thread).caller.using(x_textile_thread="")
    told = of_owner.call(BLOCKS, "Roots", blocks_pb2.RootsRequest())
    assert (told.bytes_used, told.buckets_used, told.threads_used) == (left(two).bytes_used, 2, 2)
    assert list(told.buckets) == [], "counted, not shown"
    # Another owner's users have that owner's room.
    otto = make_key(sign_up(bare, "otto"), USER)
    elsewhere = BucketUser.with_new_thread(as_user(bare.using(**otto.headers()), Identity.generate()))
    elsewhere.push(elsewhere.create().root.key, "f", b"x" * 120_000)


def test_what_is_gone_is_given_back(server: HubServer, dora: Caller) -> None:
    """Removed files would still count, until the account is full of nothing."""
    user = BucketUser.with_new_thread(dora)
    key = user.create(private=True).root.key
    empty = left(user).bytes_used

    def right() -> int:
        """Counted from what is stored."""
        row = bucket_by_key(server.hub.database, key)
        store = server.hub.blockstore
        below = PrivateTree(WorkingSet(store), row.link_key or b"").reachable(row.root)
        return sum(len(store.get(cid)) for cid in below)

    assert empty == right()
    user.push(key, "d/e/f", bytes(100_000))
    assert 100_000 < left(user).bytes_used == right()
    user.ask("PushPathAccessRoles", key=key, path="d", roles={"*": 1})
    assert left(user).bytes_used == right()
    user.ask("MovePath", key=key, from_path="d/e", to_path="g")
    assert left(user).bytes_used == right()
    refused(lambda: user.push(key, "more", bytes(60_000)), STORAGE)
    for path in ("g", "d"):
        user.ask("RemovePath", key=key, path=path)
    assert left(user).bytes_used == right() == empty
    user.ask("Remove", key=key)
    user.caller.call(THREADS, "DeleteDB", threads_pb2.DeleteDBRequest(dbID=user.thread))
    told = dora.call(BLOCKS, "Roots", blocks_pb2.RootsRequest())
    assert (told.bytes_used, told.buckets_used, told.threads_used) == (0, 0, 0)


def test_the_collector_counts_anew(server: HubServer, dora: Caller) -> None:
    """A count that went wrong once would stay wrong, and refuse pushes for ever."""
    user = BucketUser.with_new_thread(dora)
    user.push(user.create().root.key, "f", bytes(1000))
    right = left(user).bytes_used
    with server.hub.database._db.write() as connection:
        connection.exec_driver_sql("UPDATE usage SET bytes = 77, threads = 0")
        connection.exec_driver_sql("UPDATE buckets SET size_bytes = 5")
    assert left(user).bytes_used == 77
    collect(HubConfig(data=server.config.data))
    assert (left(user).bytes_used, left(user).threads_used) == (right, 1)


def leaf(number: int) -> Cid:
    return cid_of(b"leaf %d" % number)


def inner(number: int) -> Cid:
    return cid_of(b"node %d" % number, DAG_PB)


def test_pledges() -> None:
    """An account could fill the disk with blocks that no bucket needs."""
    now = [0.0]
    pledges = UploadQuota(100, now_s=lambda: now[0])
    pledges.add("a", b"1", {leaf(1): 60})
    pledges.add("b", b"1", {leaf(1): 60})
    with pytest.raises(OverQuota):
        pledges.add("a", b"2", {leaf(2): 60})
    pledges.redeem("a", b"1", [leaf(1)])
    pledges.add("a", b"2", {leaf(3): 40})
    now[0] = 4000.0
    pledges.add("a", b"3", {leaf(4): 100})
    UploadQuota(0).add("a", b"1", {leaf(1): 1 << 31})
    # Nodes by themselves; what was refused counts for nothing.
    pledges = UploadQuota(100)
    pledges.add("a", b"1", {leaf(1): 90, inner(1): 90})
    for more in ({leaf(2): 20}, {inner(2): 20}, {leaf(3): 10, inner(3): 20}):
        with pytest.raises(OverQuota):
            pledges.add("a", b"2", more)
    pledges.add("a", b"2", {leaf(2): 10, inner(2): 10})


def test_very_many_tiny_blocks_take_no_other_accounts_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """One account with millions of tiny blocks would lift the limit of the others."""
    monkeypatch.setattr("bucketfs.hub.store.upload_quota.ACCOUNT_NAMES_MAX", 2)
    monkeypatch.setattr("bucketfs.hub.store.upload_quota.NAMES_MAX", 3)
    pledges = UploadQuota(100)
    pledges.add("flood", b"1", {leaf(number): 1 for number in range(10)})
    pledges.add("b", b"1", {leaf(20): 90})
    pledges.redeem("b", b"1", [leaf(20)])
    pledges.add("b", b"2", {leaf(21): 90})


def test_a_pledge_is_redeemed_by_what_it_was_made_for() -> None:
    """Not by a root that leads to something else, nor by one that leads to it for the second time, nor by making many uploads."""
    now = [0.0]
    pledges = UploadQuota(100, now_s=lambda: now[0])
    pledges.add("a", b"1", {leaf(1): 50, leaf(2): 50})
    for cids in ([], [leaf(3), inner(1)], [leaf(1)], [leaf(1)]):
        pledges.redeem("a", b"1", cids)
    pledges.redeem("a", b"2", [leaf(2)])
    with pytest.raises(OverQuota):
        pledges.add("a", b"1", {leaf(4): 51})
    for number in range(3000):
        pledges.add("a", b"upload %d" % number, {inner(number): 0})
    with pytest.raises(OverQuota):
        pledges.add("a", b"1", {leaf(4): 51})
    # Whose lease is renewed, his pledge is too.
    now[0] = 3000.0
    pledges.add("a", b"late", {leaf(5): 50})
    now[0] = 6000.0
    pledges.renew("a", b"late")
    now[0] = 9000.0
    with pytest.raises(OverQuota):
        pledges.add("a", b"1", {leaf(4): 51})
    now[0] = 9601.0
    pledges.add("a", b"1", {leaf(4): 100})


def test_a_trivial_swap_leaves_the_pledge(server: HubServer, dora: Caller) -> None:
    """An upload of which the new root holds next to nothing, again and again: no more is stored than the account may have."""
    user = BucketUser.with_new_thread(dora)
    key = user.create().root.key
    sent = 0
    for number in range(6):
        base = Cid(user.root_cid(key))
        held = {base: user.get_blocks([base])[0].data}
        note = build_file(b"note %d" % number)
        tree = drive(edit_directory(base, {b"note": note.link}), functools.partial(picked, held))
        garbage = {cid_of(data): data for data in (bytes([number, part]) * 30_000 for part in range(2))}
        try:
            user.put_blocks({**garbage, **note.blocks, **tree.blocks}, b"upload")
        except grpc.RpcError as error:
            assert raised(error)[0] == "RESOURCE_EXHAUSTED"
            break
        sent += sum(map(len, garbage.values()))
        user.swap(key, base, tree.link.cid, b"upload")
    assert 0 < sent <= LIMIT
    assert server.hub.blockstore.figures().bytes < 2 * LIMIT


def test_content_that_is_never_linked_is_pledged_too(server: HubServer, dora: Caller) -> None:
    """Files whose push breaks off: what came stays for an hour, and the next ones must fit beside it."""
    user = BucketUser.with_new_thread(dora)
    key = user.create().root.key

    def broken(number: int) -> Iterator[Any]:
        """One file that is complete and one that never ends."""
        yield pb.PushPathsRequest(header=pb.PushPathsRequest.Header(key=key))
        yield pb.PushPathsRequest(chunk=pb.PushPathsRequest.Chunk(path="whole", data=b"w"))
        yield pb.PushPathsRequest(chunk=pb.PushPathsRequest.Chunk(path="whole"))
        data = bytes([number]) * LEAF_SIZE
        yield pb.PushPathsRequest(chunk=pb.PushPathsRequest.Chunk(path="part", data=data))

    for number in range(5):
        with pytest.raises(grpc.RpcError):
            list(user.caller.call(BUCKETS, "PushPaths", broken(number)))
    assert user.pull(key, "whole") == b"w"
    assert server.hub.blockstore.figures().bytes < LIMIT


# The running count against counting


@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("thread"), st.integers(0, 3), st.sampled_from(["", "app"])),
            st.tuples(st.just("bucket"), st.integers(0, 3), st.integers(0, 3), st.integers(0, 60)),
            st.tuples(st.just("save"), st.integers(0, 3), st.integers(0, 60)),
            st.tuples(st.just("remove"), st.integers(0, 3)),
            st.tuples(st.just("forget"), st.integers(0, 3)),
        ),
        max_size=25,
    )
)
@settings(max_examples=60, deadline=None)
def test_the_running_count_is_the_sum(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[Any, ...]]) -> None:
    """After some sequence of changes an account would have less room than it paid for, or more."""
    database = HubDatabase(sqlite_url(tmp_path_factory.mktemp("usage")))
    limits = AccountLimits(threads=3, buckets=3, bytes=100)
    for what, number, *rest in steps:
        thread = ThreadId(b"\x01\x55%d" % number)
        try:
            if what == "thread":
                database.create_thread(ThreadRow(thread, "user", "", "", "", True, b"", 1, rest[0]), limits)
            elif what == "bucket":
                where = ThreadId(b"\x01\x55%d" % rest[0])
                row = BucketRow(BucketKey(str(number)), where, "", "", 1, None, Cid(b"r"), {}, 1, 1, size_bytes=rest[1])
                database.create_bucket(row, limits)
            elif what == "save":
                row = bucket_by_key(database, str(number))
                database.save_bucket(replace(row, size_bytes=rest[0]), row.root, limits)
            elif what == "remove":
                database.delete_bucket(str(number))
            else:
                database.delete_thread(thread)
        except BucketfsError:
            continue
    for account, realm in (("user", ""), ("app", "app")):
        owned = {row.id for row in database.threads_of("user") if row.payer == account}
        buckets = [row for row in database.buckets_of("user") if row.thread in owned]
        assert {row.realm for row in database.threads_of("user") if row.id in owned} <= {realm}
        size_bytes = sum(row.size_bytes for row in buckets)
        assert database.usage(account) == AccountUsage(len(owned), len(buckets), size_bytes)
        assert len(owned) <= 3 and len(buckets) <= 3 and size_bytes <= 100
    database.close()


# Databases of before


def test_a_database_of_the_first_layout_is_upgraded(server: HubServer, start_hub: Any, dial: Any, dora: Caller) -> None:
    """After an upgrade the Hub would not start, or would forget what accounts use."""
    user = BucketUser.with_new_thread(dora)
    key = user.create().root.key
    user.push(key, "f", bytes(1000))
    right = left(user).bytes_used
    users = make_key(dora, USER)
    app = BucketUser.with_new_thread(as_user(dora.using(x_textile_session="", **users.headers()), Identity.generate()))
    with server.hub.database._db.write() as connection:
        for statement in (
            "DROP INDEX threads_owner_realm_name",
            "ALTER TABLE threads DROP COLUMN realm",
            "CREATE UNIQUE INDEX threads_owner_name ON threads (owner, name_folded)",
            "ALTER TABLE buckets DROP COLUMN size_bytes",
            "DROP TABLE usage",
            "UPDATE settings SET value = X'31' WHERE name = 'schema'",
        ):
            connection.exec_driver_sql(statement)
    server.stop()
    again: HubServer = start_hub()
    user = user.beside(dial(again.address).using(**dora.headers))
    assert (left(user).bytes_used, left(user).buckets_used, left(user).threads_used) == (right, 1, 2)
    assert again.hub.database.thread(ThreadId(app.thread)).payer == again.hub.database.thread(ThreadId(user.thread)).owner
    assert user.pull(key, "f") == bytes(1000)


def test_of_each_bucket_one_revision_is_remembered(database: HubDatabase) -> None:
    """A Hub that runs for months: what it knows by heart grows with its buckets, not with their changes."""
    thread = ThreadId(b"\x01\x55t")
    database.create_thread(ThreadRow(thread, "user", "", "", "", True, b"", 1, ""), AccountLimits())
    row = BucketRow(BucketKey("b"), thread, "", "", 1, None, Cid(b"r"), {}, 1, 1)
    database.create_bucket(row, AccountLimits())
    first = bucket_by_key(database, "b")
    for number in range(50):
        row = bucket_by_key(database, "b")
        saved = database.save_bucket(replace(row, entries={f"p{number}": PathEntry()}), row.root)
        assert bucket_by_key(database, "b").entries.keys() == saved.entries.keys() == {f"p{number}"}
    assert len(database._cache) == 1 and database._cache.currsize == 2
    # Who read an older one brings it back to nobody.
    database._remember(first)
    assert bucket_by_key(database, "b").entries.keys() == {"p49"}
    database.delete_bucket("b")
    assert len(database._cache) == 0
