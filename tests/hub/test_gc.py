"""The collector: what a bucket or an upload needs stays, the rest goes, also beside a running hub."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest
from support.bucketuser import BucketUser
from support.unixfs import build_file

from bucketfs.dag import cid_from_text, cid_of, drive, edit_tree, multihash_of, reachable
from bucketfs.errors import Corrupt
from bucketfs.hub import HubServer
from bucketfs.hub.gc import RootMarks, Roots, collect
from bucketfs.hub.store.disk_store import DiskBlockStore
from bucketfs.hub.store.packs import pack_path
from bucketfs.types import Cid, Link

LARGE = 65_536


@pytest.fixture
def user(alice: Any) -> BucketUser:
    return BucketUser.with_new_thread(alice)


class Clock:
    """Wall-clock nanoseconds that a test moves."""

    def __init__(self) -> None:
        self.now = 10**18

    def __call__(self) -> int:
        return self.now

    def pass_s(self, seconds: float) -> None:
        self.now += int(seconds * 1e9)


def blocks_of(count: int, size: int) -> dict[Cid, bytes]:
    bodies = [os.urandom(size) for _ in range(count)]
    return {cid_of(body): body for body in bodies}


def a_tree(files: int, size: int) -> tuple[Cid, dict[Cid, bytes]]:
    blocks: dict[Cid, bytes] = {}
    links: dict[tuple[bytes, ...], Link | None] = {}
    for index in range(files):
        built = build_file(os.urandom(size))
        blocks |= built.blocks
        links[(b"d", str(index).encode())] = built.link
    tree = drive(edit_tree(None, links), lambda cids: {cid: blocks[cid] for cid in cids})
    return tree.link.cid, blocks | dict(tree.blocks)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Any:
    store = DiskBlockStore(tmp_path / "blocks", now_ns=clock)
    yield store
    store.close()


def test_mark_and_sweep(store: DiskBlockStore, clock: Clock) -> None:
    """The collector would delete blocks of a bucket or of a push in progress, or leave all garbage."""
    root, needed = a_tree(5, 200_000)
    garbage = blocks_of(6, LARGE) | blocks_of(6, 300)
    store.put_many(needed)
    store.put_many(garbage)
    roots: Roots = {(root, None)}
    clock.pass_s(60)
    done = store.collect(RootMarks(store, lambda: roots), grace_s=3600)
    assert done.blocks_deleted == 0, "young blocks may belong to a push in progress"
    clock.pass_s(7200)
    done = store.collect(RootMarks(store, lambda: roots), grace_s=3600)
    assert (done.blocks_deleted, done.bytes_deleted) == (12, sum(map(len, garbage.values())))
    assert store.missing(list(garbage)) == list(garbage)
    assert store.get_many(list(needed)) == needed
    assert done.blocks_kept == len(needed) == store.figures().blocks
    done = store.collect(RootMarks(store, lambda: set()), grace_s=0)
    assert store.figures().blocks == 0 and store.figures().pack_bytes == 0


def test_leases_protect(store: DiskBlockStore, clock: Clock) -> None:
    """The collector would delete the blocks of a slow push before its root is set."""
    asked, put, loose = (blocks_of(3, 500) for _ in range(3))
    store.put_many(asked | loose)
    clock.pass_s(10_000)
    assert store.missing(list(asked), b"asking") == []
    store.put_many(put, upload=b"putting")
    store.collect(RootMarks(store, lambda: set()), grace_s=0)
    assert store.missing([*asked, *put, *loose]) == list(loose)
    store.release(b"putting")
    clock.pass_s(1)
    store.collect(RootMarks(store, lambda: set()), grace_s=0)
    assert store.missing([*asked, *put]) == list(put)
    clock.pass_s(4000)
    store.collect(RootMarks(store, lambda: set()), grace_s=0)
    assert store.missing(list(asked)) == list(asked), "a lease ends"


def test_a_root_that_comes_while_sweeping_is_walked(store: DiskBlockStore, clock: Clock) -> None:
    """A bucket pushed while the collector runs would lose its blocks."""
    root, needed = a_tree(4, 1000)
    garbage = blocks_of(3, 100)
    store.put_many(needed | garbage)
    store.release(b"")
    clock.pass_s(10_000)
    asked = 0

    def roots() -> Roots:
        nonlocal asked
        asked += 1
        return {(root, None)} if asked > 1 else set()

    done = store.collect(RootMarks(store, roots), grace_s=60)
    assert done.blocks_deleted == 3
    assert store.get_many(list(needed)) == needed


def test_the_same_bytes_as_leaf_and_as_node(store: DiskBlockStore, clock: Clock) -> None:
    """A file that holds the bytes of a directory's node must not hide what that directory leads to."""
    inner, needed = a_tree(2, 1000)
    copy = build_file(needed[inner])
    assert multihash_of(copy.link.cid) == multihash_of(inner)
    links: dict[tuple[bytes, ...], Link | None] = {(b"a copy",): copy.link, (b"z",): Link(inner, 1)}
    outer = drive(edit_tree(None, links), lambda cids: {cid: needed[cid] for cid in cids})
    store.put_many(needed | dict(outer.blocks))
    clock.pass_s(10_000)
    store.collect(RootMarks(store, lambda: {(copy.link.cid, None), (outer.link.cid, None)}), grace_s=0)
    assert store.missing(list(needed)) == []


def test_nothing_is_deleted_when_a_tree_cannot_be_walked(store: DiskBlockStore, clock: Clock) -> None:
    """One damaged folder would cost the user everything below it, for good."""
    root, needed = a_tree(3, 1000)
    directory = next(cid for cid in needed if cid != root and cid[1] == 0x70)
    garbage = blocks_of(3, 100)
    store.put_many({cid: data for cid, data in needed.items() if cid != directory} | garbage)
    clock.pass_s(10_000)
    with pytest.raises(Corrupt, match="nothing was collected"):
        store.collect(RootMarks(store, lambda: {(root, None)}), grace_s=0)
    assert store.missing(list(garbage)) == []


def test_packs_with_holes_are_rewritten(tmp_path: Path, clock: Clock) -> None:
    """Deleted blocks would keep their room on the disk, or readers would fail while packs are rewritten."""
    store = DiskBlockStore(tmp_path, now_ns=clock, pack_bytes_max=10 * LARGE)
    root, needed = a_tree(2, LARGE)
    garbage = blocks_of(17, LARGE)
    for cid, data in list(garbage.items())[:8]:
        store.put_many({cid: data})
    store.put_many(needed)
    for cid, data in list(garbage.items())[8:]:
        store.put_many({cid: data})
    assert store.figures().packs == 2
    assert store.get_many(list(needed)) == needed
    other = DiskBlockStore(tmp_path, now_ns=clock)
    assert other.get_many(list(needed)) == needed
    clock.pass_s(10_000)
    done = store.collect(RootMarks(store, lambda: {(root, None)}), grace_s=0)
    assert done.packs_removed >= 1 and done.bytes_moved == 2 * LARGE
    assert store.figures().pack_bytes == 2 * LARGE
    assert not pack_path(tmp_path, 1).exists()
    assert store.get_many(list(needed)) == needed
    assert other.get_many(list(needed)) == needed, "a reader with the old pack open goes on"
    store.close()
    other.close()


def test_a_pack_in_use_elsewhere_is_left_alone(tmp_path: Path, clock: Clock) -> None:
    """The collector would remove a file that the running Hub is writing to."""
    writing, collecting = DiskBlockStore(tmp_path, now_ns=clock), DiskBlockStore(tmp_path, now_ns=clock)
    garbage = blocks_of(4, LARGE)
    writing.put_many(garbage)
    clock.pass_s(10_000)
    done = collecting.collect(RootMarks(collecting, lambda: set()), grace_s=0)
    assert (done.blocks_deleted, done.packs_removed) == (4, 0)
    more = blocks_of(2, LARGE)
    writing.put_many(more)
    assert collecting.get_many(list(more)) == more
    writing.close()
    collecting.close()


def test_damage_does_not_spread(tmp_path: Path, clock: Clock) -> None:
    """Rewriting a pack would give a damaged block a new, valid checksum."""
    store = DiskBlockStore(tmp_path, now_ns=clock)
    root, needed = a_tree(3, LARGE)
    garbage = blocks_of(20, LARGE)
    store.put_many(needed)
    store.put_many(garbage)
    leaf = next(cid for cid in needed if cid[1] == 0x55)
    place = store.index.find([multihash_of(leaf)])[multihash_of(leaf)].place
    with open(pack_path(tmp_path, place.pack), "r+b") as pack:
        pack.seek(place.offset)
        pack.write(b"rot")
    clock.pass_s(10_000)
    store.collect(RootMarks(store, lambda: {(root, None)}), grace_s=0)
    with pytest.raises(Corrupt):
        store.get(leaf)
    assert store.missing(list(needed)) == [leaf]
    store.put_many(needed)
    assert store.get_many(list(needed)) == needed
    store.close()


# Beside a hub


def test_buckets_of_every_kind_survive(user: BucketUser, hub_server: HubServer) -> None:
    """The collector would delete blocks of private buckets, whose trees are encrypted."""
    content = bytes(index % 251 for index in range(601_545))
    open_key, secret_key = user.create().root.key, user.create(private=True).root.key
    for key in (open_key, secret_key):
        user.push_paths(key, {"a/b": content, "a/c": b"1", "gone": os.urandom(100_000)})
        user.ask("RemovePath", key=key, path="gone")
    before = hub_server.hub.blockstore.figures()
    done = collect(hub_server.config, grace_s=0)
    assert done.blocks_deleted > 2 and done.bytes_deleted > 200_000
    assert hub_server.hub.blockstore.figures().blocks == before.blocks - done.blocks_deleted
    for key in (open_key, secret_key):
        assert user.pull(key, "a/b") == content and user.pull(key, "a/c") == b"1"
        assert user.names(key) == [".textileseed", "a"]
    blocks = {Cid(user.root_cid(open_key))} | set(
        drive(
            reachable(cid_from_text(user.root(open_key).path.removeprefix("/ipfs/"))),
            lambda cids: hub_server.hub.blockstore.get_many(cids),
        )
    )
    assert hub_server.hub.blockstore.missing(list(blocks)) == []


def test_pushes_beside_a_collector_that_never_rests(user: BucketUser, hub_server: HubServer) -> None:
    """No grace at all: only leases and roots keep what is being pushed."""
    key, swapped = user.create().root.key, user.create().root.key
    stop = threading.Event()
    failures: list[BaseException] = []

    def sweep() -> None:
        while not stop.is_set():
            try:
                collect(hub_server.config, grace_s=0)
            except BaseException as error:
                failures.append(error)
                return

    sweeping = threading.Thread(target=sweep)
    sweeping.start()
    try:
        contents = {}
        for index in range(25):
            # The same content comes and goes, so that what is garbage now is needed again at once.
            data = bytes([index % 3]) * 70_000
            user.push(key, f"d/{index % 4}", data)
            contents[f"d/{index % 4}"] = data
            if index % 5 == 4:
                user.ask("RemovePath", key=key, path=f"d/{index % 4}")
                del contents[f"d/{index % 4}"]
            _push_natively(user, swapped, f"f{index % 3}", data, b"upload %d" % index)
        user.push_paths(key, {f"many/{index}": bytes([index]) * 5000 for index in range(40)})
    finally:
        stop.set()
        sweeping.join()
    assert failures == []
    for path, data in contents.items():
        assert user.pull(key, path) == data
    for index in range(40):
        assert user.pull(key, f"many/{index}") == bytes([index]) * 5000
    assert [item.size for item in user.listing(swapped).items] == [32, 70_000, 70_000, 70_000]
    for name in ("f0", "f1", "f2"):
        assert len(user.pull(swapped, name)) == 70_000


def _push_natively(user: BucketUser, key: str, name: str, data: bytes, upload: bytes) -> None:
    base = Cid(user.root_cid(key))
    file = build_file(data)
    tree = drive(
        edit_tree(base, {(name.encode(),): file.link}),
        lambda cids: {Cid(block.cid): block.data for block in user.get_blocks(cids)},
    )
    made = {**file.blocks, **tree.blocks}
    lacking = set(user.missing(made, upload))
    user.put_blocks({cid: data for cid, data in made.items() if cid in lacking}, upload)
    user.swap(key, base, tree.link.cid, upload)
