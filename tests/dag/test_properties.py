"""Properties against small references: the same result whatever the history, and the same as a naive computation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.store import Store
from support.unixfs import build_file, file_root

from bucketfs.dag import (
    DAG_PB,
    LEAF_SIZE,
    Change,
    FileTree,
    UnixFs,
    UnixFsType,
    cid_from_text,
    cid_of,
    cid_text,
    codec_of,
    decode_pb,
    decode_unixfs,
    diff,
    edit_directory,
    edit_tree,
    empty_directory,
    encode_pb,
    encode_unixfs,
    leaf_data,
    leaves,
    list_directory,
    lookup,
    multibase_decode,
    multibase_encode,
    new_blocks,
    node_info,
    reachable,
    resolve,
    uvarint_encode,
)
from bucketfs.dag.codec import base58_decode, base58_encode, uvarint_decode
from bucketfs.dag.codec.nodes import build_node
from bucketfs.dag.files.read import read_file
from bucketfs.errors import BucketfsError, Corrupt, InvalidArgument
from bucketfs.types import Cid, Link, NodeAttributes

relaxed = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])

NAMES = st.integers(0, 400).map(lambda n: b"n%d" % n)
LINKS = st.integers(0, 5).map(lambda n: Link(cid_of(b"%d" % n), n))
CHANGES = st.dictionaries(NAMES, st.none() | LINKS, max_size=60)
FULL = {b"n%d" % n: Link(cid_of(b"x"), 1) for n in range(400)}


@relaxed
@given(history=st.lists(CHANGES, max_size=8), threshold=st.sampled_from([0, 900, 2000, 10**6]))
@example(history=[FULL, dict.fromkeys(list(FULL)[10:])], threshold=900)
@example(history=[FULL, {name: None for name in FULL if name != b"n77"}], threshold=0)
@example(history=[FULL, dict.fromkeys(FULL)], threshold=0)
def test_a_directory_depends_on_its_entries_only(
    new_store: type[Store], history: list[dict[bytes, Link | None]], threshold: int
) -> None:
    """Any history of edits ends at the CID of a directory that is built at once."""
    store = new_store()
    entries: dict[bytes, Link] = {}
    cid: Cid | None = None
    for changes in history:
        link = store.make(edit_directory(cid, changes, threshold=threshold))
        cid = link.cid
        entries |= {name: link for name, link in changes.items() if link is not None}
        for name in [name for name, link in changes.items() if link is None]:
            entries.pop(name, None)
        fresh = new_store()
        assert fresh.make(edit_directory(None, entries, threshold=threshold)) == link
        listed = store.run(list_directory(cid))
        assert dict(listed.entries) == entries
        assert list(listed.entries) == sorted(entries)
        estimate = sum(len(name) + len(link.cid) for name, link in entries.items())
        assert listed.sharded == (estimate > threshold)
        for name in list(entries)[:3]:
            assert store.run(lookup(cid, name)) == entries[name]
        assert store.run(lookup(cid, b"absent")) is None


@relaxed
@given(changes=CHANGES)
@example(changes={b"n5": None})
def test_an_edit_costs_what_it_changes(new_store: type[Store], changes: dict[bytes, Link | None]) -> None:
    """Only shards on the way to the changes are asked for, unless the directory may have to become plain again."""
    store = new_store()
    root = store.make(edit_directory(None, FULL, threshold=0))
    store.forget_questions()
    built = store.run(edit_directory(root.cid, changes, threshold=5000))
    removed = sum(1 for name, link in changes.items() if link is None and name in FULL)
    added = sum(1 for name, link in changes.items() if link is not None and name not in FULL)
    if removed <= added:
        assert len(store.asked) <= 1 + 2 * len(changes)
    everything = store.run(reachable(store.keep(built).cid))
    assert built.blocks.keys() <= everything | {built.link.cid}


TREES = st.recursive(
    st.integers(0, 3),
    lambda children: (
        st.dictionaries(st.sampled_from([b"a", b"b", b"c", b"d"]), children, max_size=4)
        | st.dictionaries(NAMES, st.integers(0, 3), min_size=20, max_size=40)
    ),
    max_leaves=30,
)
DIRECTORIES = st.dictionaries(st.sampled_from([b"a", b"b", b"c", b"d"]), TREES, max_size=4)
THRESHOLD = 700
"""Directories of some twenty entries are sharded in these tests."""

Tree = dict[bytes, Any]


def flat(tree: Tree, path: tuple[bytes, ...] = ()) -> dict[tuple[bytes, ...], Any]:
    """Every file of a tree by its path, and an empty dict for each empty directory."""
    found: dict[tuple[bytes, ...], Any] = {}
    for name, child in tree.items():
        if isinstance(child, dict) and child:
            found |= flat(child, (*path, name))
        else:
            found[(*path, name)] = child
    return found


def make_tree(store: Store, tree: Tree) -> Link:
    """Build a tree directory by directory, from below."""
    entries = {name: make_entry(store, child) for name, child in tree.items()}
    return store.make(edit_directory(None, entries, threshold=THRESHOLD))


def make_entry(store: Store, child: Any) -> Link:
    """Files 0 and 1 are raw; 2 and 3 are dag-pb nodes, which look like directories from outside."""
    if isinstance(child, dict):
        return make_tree(store, child)
    attributes = NodeAttributes(0o600) if child > 1 else NodeAttributes()
    return store.keep(build_file(b"content %d" % child, attributes))


def naive_diff(old: Any, new: Any, path: tuple[bytes, ...] = ()) -> list[tuple[tuple[bytes, ...], Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            found
            for name in sorted(old.keys() | new.keys())
            for found in naive_diff(old.get(name), new.get(name), (*path, name))
        ]
    return [] if old == new else [(path, old, new)]


@relaxed
@given(old=DIRECTORIES, new=DIRECTORIES)
def test_diff_is_the_naive_diff(new_store: type[Store], old: Tree, new: Tree) -> None:
    """Other mounts hear of every change, and of nothing else."""
    store = new_store()
    old_root, new_root = make_tree(store, old), make_tree(store, new)
    expected = [
        Change(
            path,
            None if before is None else make_entry(store, before),
            None if after is None else make_entry(store, after),
        )
        for path, before, after in naive_diff(old, new)
    ]
    assert store.run(diff(old_root.cid, new_root.cid)) == sorted(expected, key=lambda change: change.path)
    if old == new:
        store.forget_questions()
        assert store.run(diff(old_root.cid, new_root.cid)) == []
        assert store.requests == 0


@relaxed
@given(old=DIRECTORIES, new=DIRECTORIES)
def test_applying_a_diff_gives_the_new_tree(new_store: type[Store], old: Tree, new: Tree) -> None:
    """Editing many paths at once equals building from below."""
    store = new_store()
    old_root, new_root = make_tree(store, old), make_tree(store, new)
    changes = {change.path: change.new for change in store.run(diff(old_root.cid, new_root.cid))}
    assert store.make(edit_tree(old_root.cid, changes, threshold=THRESHOLD)) == new_root


@relaxed
@given(old=DIRECTORIES, new=DIRECTORIES)
def test_new_blocks_are_those_that_the_old_tree_lacks(new_store: type[Store], old: Tree, new: Tree) -> None:
    """A push sends what is new; the Hub checks that nothing lacks."""
    store = new_store()
    old_root, new_root = make_tree(store, old), make_tree(store, new)
    before, after = store.run(reachable(old_root.cid)), store.run(reachable(new_root.cid))
    found = store.run(new_blocks(old_root.cid, new_root.cid))
    assert after - before <= found <= after
    assert store.run(reachable(new_root.cid, before)) == after - before
    assert store.run(new_blocks(new_root.cid, new_root.cid)) == set()


@relaxed
@given(
    tree=DIRECTORIES,
    paths=st.dictionaries(
        st.lists(st.sampled_from([b"a", b"b", b"c"]), min_size=1, max_size=4).map(tuple),
        st.none() | st.integers(0, 3) | DIRECTORIES,
        max_size=6,
    ),
)
def test_editing_many_paths_is_editing_them_one_by_one(
    new_store: type[Store], tree: Tree, paths: Mapping[tuple[bytes, ...], Any]
) -> None:
    """A change is applied before those below it; a file in the way of something that is set refuses all of it."""
    store = new_store()
    root = make_tree(store, tree)
    changes = {path: None if child is None else make_entry(store, child) for path, child in paths.items()}
    expected: Tree | None = clone(tree)
    for path in sorted(paths, key=len):
        expected = None if expected is None else put(expected, path, clone(paths[path]))
    try:
        built = store.run(edit_tree(root.cid, changes, threshold=THRESHOLD))
    except BucketfsError:
        assert expected is None
        return
    assert expected is not None
    assert store.keep(built) == make_tree(store, expected)


def clone(tree: Any) -> Any:
    return {name: clone(child) for name, child in tree.items()} if isinstance(tree, dict) else tree


def put(tree: Tree, path: tuple[bytes, ...], child: Any) -> Tree | None:
    """The tree with a child at a path, None when a file is in the way of setting it."""
    at = tree
    for name in path[:-1]:
        below = at.get(name)
        if below is None and child is None:
            return tree
        if below is None:
            below = at[name] = {}
        if not isinstance(below, dict):
            return None if child is not None else tree
        at = below
    if child is None:
        at.pop(path[-1], None)
    else:
        at[path[-1]] = child
    return tree


@relaxed
@given(
    data=st.binary(max_size=400),
    chunk=st.integers(1, 40),
    width=st.integers(2, 6),
    raw_leaves=st.booleans(),
    start=st.integers(0, 420),
    size=st.integers(0, 420),
)
def test_a_file_is_read_as_it_was_built(
    new_store: type[Store], data: bytes, chunk: int, width: int, raw_leaves: bool, start: int, size: int
) -> None:
    """Any range of any file reads as it was written."""
    store = new_store()
    built = build_file(data, chunk=chunk, width=width, raw_leaves=raw_leaves)
    store.keep(built)
    assert store.run(read_file(built.link.cid)) == data
    assert node_info(built.link.cid, store.blocks[built.link.cid]).size_bytes == len(data)
    assert store.run(resolve(built.link.cid, ())) == built.link
    found = store.run(leaves(built.link.cid, start, start + size))
    if size:
        assert joined(store, found)[max(0, start - found[0].offset) if found else 0 :][:size] == data[start : start + size]
    assert all(leaf.offset < start + size and leaf.offset + leaf.size > start for leaf in found)
    if raw_leaves and data:
        every = store.run(leaves(built.link.cid))
        assert file_root([(leaf.cid, leaf.size) for leaf in every], width=width).link == built.link


@pytest.mark.parametrize("leaves_count", [0, 1, 2, 174, 175])
@pytest.mark.parametrize("attributes", [NodeAttributes(), NodeAttributes(mode=0o600, mtime_ns=5)])
def test_a_file_given_leaf_by_leaf_is_the_file_built_as_a_whole(leaves_count: int, attributes: NodeAttributes) -> None:
    """Otherwise the same bytes would get another CID by each way to push them, and everything would be sent anew."""
    tree = FileTree()
    blocks: dict[Cid, bytes] = {}
    data = b""
    for number in range(leaves_count):
        leaf = bytes([number]) * (LEAF_SIZE if number + 1 < leaves_count else 7)
        data += leaf
        tree.add_data(leaf)
        if leaves_count > 1:
            blocks |= tree.take_blocks()
    built = tree.finish(attributes)
    whole = build_file(data, attributes)
    assert built.link == whole.link
    assert blocks | dict(built.blocks) == whole.blocks


def joined(store: Store, found: list[Any]) -> bytes:
    return b"".join(
        leaf.inline if leaf.inline is not None else leaf_data(leaf.cid, store.blocks[leaf.cid], leaf.size) for leaf in found
    )


LAYOUTS = st.recursive(st.binary(max_size=6), lambda parts: st.tuples(st.binary(max_size=4), st.lists(parts, max_size=4)))


@relaxed
@given(layout=LAYOUTS, identity=st.booleans(), start=st.integers(0, 30), size=st.integers(1, 30))
def test_any_layout_is_read(new_store: type[Store], layout: Any, identity: bool, start: int, size: int) -> None:
    """Bytes beside links, leaves of any kind and size at any depth, identity CIDs."""
    store = new_store()
    link, data = make_layout(store, layout, identity)
    assert store.run(read_file(link.cid)) == data
    found = store.run(leaves(link.cid, start, start + size))
    skipped = start - found[0].offset if found else 0
    assert joined(store, found)[max(0, skipped) :][:size] == data[start : start + size]


def make_layout(store: Store, layout: Any, identity: bool) -> tuple[Link, bytes]:
    if isinstance(layout, bytes):
        if identity and len(layout) % 2:
            return Link(Cid(b"\x01\x55\x00" + bytes((len(layout),)) + layout), len(layout)), layout
        if len(layout) % 3 == 0:
            legacy = UnixFs(UnixFsType.RAW, data=layout, filesize=len(layout))
            link, block = build_node(legacy, [])
            store.blocks[link.cid] = block
            return link, layout
        store.blocks[cid_of(layout)] = layout
        return Link(cid_of(layout), len(layout)), layout
    own, children = layout
    made = [make_layout(store, child, identity) for child in children]
    data = own + b"".join(child for _, child in made)
    message = UnixFs(UnixFsType.FILE, data=own, filesize=len(data), blocksizes=tuple(len(child) for _, child in made))
    link, block = build_node(message, [(link.cid, b"", link.tsize) for link, _ in made])
    store.blocks[link.cid] = block
    return link, data


MESSAGES = st.builds(
    UnixFs,
    type=st.sampled_from([UnixFsType.FILE, UnixFsType.DIRECTORY, UnixFsType.SHARD, UnixFsType.RAW]),
    data=st.binary(max_size=20),
    filesize=st.none() | st.integers(0, 2**62),
    blocksizes=st.lists(st.integers(0, 2**50) | st.just(262144), max_size=5).map(tuple),
    mode=st.none() | st.integers(0, 0o7777).filter(lambda mode: mode not in (0o644, 0o755)),
    mtime_ns=st.none() | st.integers(-(2**63), 2**63 - 1),
    uid=st.none() | st.integers(0, 2**32 - 1),
    gid=st.none() | st.integers(0, 2**32 - 1),
    unknown=st.sampled_from([b"", b"\x48\x05", b"\xd2\x3e\x01x", b"\x4d\x01\x02\x03\x04\xd8\x3e\x01"]),
)


@relaxed
@given(message=MESSAGES)
def test_a_message_is_read_as_it_was_written(message: UnixFs) -> None:
    """Attributes and foreign fields come back as they were."""
    assert decode_unixfs(encode_unixfs(message)) == message


@relaxed
@given(data=st.binary(max_size=60), cut=st.integers(0, 200), byte=st.integers(0, 255))
def test_broken_blocks_are_refused_and_nothing_else_happens(data: bytes, cut: int, byte: int) -> None:
    """Random damage is reported as damage and crashes nothing."""
    links = [(cid_of(data), b"name", 3), (cid_of(b"", DAG_PB, 0), b"n", 2**40)]
    good = build_node(UnixFs(UnixFsType.DIRECTORY, mtime_ns=5), links)[1]
    broken = good[:cut] + bytes((byte,)) + good[cut + 1 :]
    for block in (data, good[:cut], broken):
        for read in (decode_pb, decode_unixfs, lambda block: node_info(cid_of(b"", DAG_PB), block)):
            try:
                read(block)
            except Corrupt:
                continue
    node = decode_pb(good)
    assert encode_pb(node) == good


@relaxed
@given(data=st.binary(max_size=60), base=st.sampled_from("bBfFkKzmu"))
def test_texts_of_bytes(data: bytes, base: str) -> None:
    """Every text of a CID or key decodes to the very bytes, or is refused."""
    text = multibase_encode(data, base)
    assert multibase_decode(text) == data
    assert base58_decode(base58_encode(data)) == data
    cid = cid_of(data)
    assert cid_from_text(multibase_encode(cid, base)) == cid
    assert cid_from_text(cid_text(cid_of(data, DAG_PB, 0))) == cid_of(data, DAG_PB, 0)


@relaxed
@given(number=st.integers(0, 2**63 - 1), before=st.binary(max_size=3))
def test_varints(number: int, before: bytes) -> None:
    """Numbers on the wire have one spelling."""
    encoded = uvarint_encode(number)
    assert uvarint_decode(before + encoded + b"x", len(before)) == (number, len(before) + len(encoded))
    with pytest.raises(InvalidArgument):
        uvarint_decode(encoded[:-1])


def test_an_empty_directory_is_the_one_everybody_knows(store: Store) -> None:
    """The empty folder has the CID that all other IPFS programs give it."""
    link = store.make(edit_directory(None, {}))
    assert link == empty_directory().link
    assert cid_text(link.cid) == "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"
    assert codec_of(link.cid) == DAG_PB
