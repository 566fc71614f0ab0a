"""What edits keep, what they cost, and the corners of attributes and paths."""

from __future__ import annotations

from typing import Any

import pytest
from support.store import Store
from support.unixfs import build_file, file_root

from bucketfs.dag import (
    DAG_PB,
    Change,
    FileTree,
    TreePath,
    UnixFs,
    UnixFsType,
    cid_of,
    codec_of,
    decode_pb,
    decode_unixfs,
    diff,
    drive,
    edit_directory,
    edit_tree,
    empty_directory,
    encode_unixfs,
    leaves,
    list_directory,
    lookup,
    new_blocks,
    node_info,
    reachable,
    resolve,
    symlink,
    with_attributes,
)
from bucketfs.dag.codec.nodes import build_node
from bucketfs.dag.files.read import read_file
from bucketfs.dag.steps import fetch, gather
from bucketfs.errors import NotADirectory, NotFound, Unavailable
from bucketfs.types import NO_ATTRIBUTES, Cid, Kind, Link, NodeAttributes

X = cid_of(b"x")
LINK = Link(X, 1)
PRIVATE = NodeAttributes(0o600, 1_700_000_000_123_456_789, 1000, 0)
MANY = {b"entry-%05d" % n: Link(cid_of(b"%d" % n), 5) for n in range(20_000)}


@pytest.fixture(scope="module")
def large() -> tuple[Link, dict[Cid, bytes]]:
    built = drive(edit_directory(None, MANY), lambda cids: {})
    return built.link, dict(built.blocks)


def test_owner_fields_are_ours() -> None:
    """Field 1000 is uid, 1001 is gid; both come after the specification's fields."""
    message = UnixFs(UnixFsType.DIRECTORY, uid=1000, gid=0)
    assert encode_unixfs(message).hex() == "0801" + "c03e" + "e807" + "c83e" + "00"
    assert decode_unixfs(encode_unixfs(message)) == message


def test_an_impossible_mtime_reads_as_none() -> None:
    """A file with a broken time by another writer is shown, not refused."""
    for mtime in ("1505000000", "08011500ca9a3b"):
        body = bytes.fromhex(mtime)
        assert decode_unixfs(b"\x08\x02\x18\x00\x42" + bytes((len(body),)) + body).mtime_ns is None
    assert decode_unixfs(bytes.fromhex("08021800420708011500000000")).mtime_ns == 1_000_000_000


def test_the_seconds_of_an_mtime_have_64_bits() -> None:
    """Times before 1970 and far ahead come back as they were set."""
    for seconds in (0, -1, 1 << 33, -(1 << 40), (1 << 63) - 1, -(1 << 63)):
        for nanoseconds in (0, 999_999_999):
            message = UnixFs(UnixFsType.FILE, mtime_ns=seconds * 10**9 + nanoseconds)
            assert decode_unixfs(encode_unixfs(message)) == message


def test_packed_sizes_are_read() -> None:
    """Files by writers that pack their sizes can be read."""
    assert decode_unixfs(bytes.fromhex("0802180322020102")).blocksizes == (1, 2)


def test_the_default_mode_is_no_attribute(store: Store) -> None:
    """A file with only a default mode is its raw leaf; a symlink's mode is never written."""
    assert build_file(b"x", NodeAttributes(0o644)).link == LINK
    tree = FileTree()
    tree.add_data(b"x")
    assert tree.finish(NodeAttributes(0o644)).link == LINK
    assert empty_directory(NodeAttributes(0o755)) == empty_directory()
    assert symlink(b"t", NodeAttributes(0o777)) == symlink(b"t")
    assert build_file(b"x", NodeAttributes(0o755)).link != LINK


def test_attributes_come_and_go(store: Store) -> None:
    """Only the root changes; the cumulative size stays right; without attributes the first form is back."""
    nothing_below = [build_file(b"hello"), build_file(b""), empty_directory(), symlink(b"t")]
    layered = build_file(b"hello world", chunk=3, width=2)
    sharded = store.run(edit_directory(None, {b"n%d" % n: LINK for n in range(50)}, threshold=0))
    store.blocks[X] = b"x"
    for built in (*nothing_below, layered, sharded):
        store.keep(built)
        before = node_info(built.link.cid, store.blocks[built.link.cid])
        changed = with_attributes(built.link.cid, store.blocks[built.link.cid], PRIVATE, built.link.tsize)
        assert len(changed.blocks) == 1
        store.keep(changed)
        after = node_info(changed.link.cid, store.blocks[changed.link.cid])
        mode = None if after.kind is Kind.SYMLINK else 0o600
        assert after.attributes == NodeAttributes(mode, PRIVATE.mtime_ns, 1000, 0)
        assert (after.kind, after.size_bytes, after.target) == (before.kind, before.size_bytes, before.target)
        assert store.run(resolve(changed.link.cid, ())) == changed.link
        same = with_attributes(changed.link.cid, store.blocks[changed.link.cid], PRIVATE, changed.link.tsize)
        assert (same.link, same.blocks) == (changed.link, {})
        back = with_attributes(changed.link.cid, store.blocks[changed.link.cid], NO_ATTRIBUTES, changed.link.tsize)
        assert back.link == built.link


def test_attributes_of_a_large_raw_leaf(store: Store) -> None:
    """A raw file larger than a leaf of ours keeps its block, below a node."""
    data = bytes(300_000)
    built = store.run(edit_tree(None, {(b"f",): store.keep(build_file(data, chunk=1 << 20))}, {(b"f",): PRIVATE}))
    link = store.find(store.keep(built).cid, b"f")
    assert store.run(read_file(link.cid)) == data
    assert max(map(len, built.blocks.values())) < 200
    assert node_info(link.cid, store.blocks[link.cid]).attributes == PRIVATE


def test_unknown_fields_are_kept(store: Store) -> None:
    """Unknown fields and the upper bits of mode survive edits, in files, directories and shards."""
    foreign = b"\xd8\x3e\x07"
    message = UnixFs(UnixFsType.DIRECTORY, mode=0o700, mode_extra=8, unknown=foreign)
    link, block = build_node(message, [])
    store.blocks[link.cid] = block
    plain = store.make(edit_directory(link.cid, {b"a": LINK}))
    grown = store.make(edit_directory(plain.cid, {b"n%d" % n: LINK for n in range(30)}, threshold=500))
    small = store.make(edit_directory(grown.cid, {b"n%d" % n: None for n in range(30)}, threshold=500))
    assert small == plain
    for link in (plain, grown):
        kept = decode_unixfs(decode_pb(store.blocks[link.cid]).data or b"")
        assert (kept.mode, kept.mode_extra, kept.unknown) == (0o700, 8, foreign)
    message = UnixFs(UnixFsType.FILE, data=b"x", filesize=1, unknown=foreign)
    link, block = build_node(message, [])
    rewritten = with_attributes(link.cid, block, PRIVATE, link.tsize)
    kept = decode_unixfs(decode_pb(rewritten.blocks[rewritten.link.cid]).data or b"")
    assert (kept.unknown, kept.mode, kept.data) == (foreign, 0o600, b"x")


def test_an_edit_without_effect_gives_the_same_directory(store: Store) -> None:
    """Also one that we would have written otherwise: version 0, or sharded although it is small."""
    for built in (
        store.run(edit_directory(None, {b"a": LINK}, cid_version=0)),
        store.run(edit_directory(None, {b"a": LINK}, threshold=0)),
    ):
        link = store.keep(built)
        again = store.run(edit_directory(link.cid, {b"a": LINK, b"b": None}))
        assert (again.link, again.blocks) == (link, {})


def test_a_directory_of_one_large_block(store: Store) -> None:
    """A Textile Hub never shards: its folders are listed and edited whatever their size, and sharded by the first edit."""
    plain = store.run(edit_directory(None, MANY, threshold=1 << 30))
    assert len(plain.blocks) == 1
    assert list(store.run(list_directory(store.keep(plain).cid)).entries) == sorted(MANY)
    edited = store.make(edit_directory(plain.link.cid, {b"x": LINK}))
    assert edited == store.make(edit_directory(None, {**MANY, b"x": LINK}))
    assert store.run(list_directory(edited.cid)).sharded


def test_what_edits_of_a_large_directory_cost(store: Store, large: Any) -> None:
    """A change in a folder of many names sends a few blocks, not the folder."""
    link, blocks = large
    store.blocks |= blocks
    for changes, most_asked, most_made in (
        ({b"another": LINK}, 3, 3),
        ({b"entry-00007": LINK}, 3, 3),
        ({b"entry-00007": None}, 110, 3),
    ):
        store.forget_questions()
        built = store.run(edit_directory(link.cid, changes))
        assert len(store.asked) <= most_asked
        assert len(built.blocks) <= most_made
        edited = store.keep(built)
        store.forget_questions()
        found = store.run(diff(link.cid, edited.cid))
        assert [change.path for change in found] == [tuple(changes)]
        assert len(store.asked) <= 8
        store.forget_questions()
        assert store.run(new_blocks(link.cid, edited.cid)) - {X} == built.blocks.keys()
        assert len(store.asked) <= 8


def test_blocks_that_stay_are_not_new_when_shards_come_and_go(store: Store) -> None:
    """Entries that other entries' removal brings up, or out of the shards, are known; what they link to is not walked."""
    inner = [store.make(edit_directory(None, {b"f": Link(cid_of(b"%d" % n), 1)})) for n in range(300)]
    entries = {b"n%d" % n: link for n, link in enumerate(inner)}
    full = store.make(edit_directory(None, entries, threshold=1000))
    for kept in (299, 250, 100, 30, 20, 2):
        removed = dict.fromkeys(list(entries)[kept:])
        built = store.run(edit_directory(full.cid, removed, threshold=1000))
        shrunk = store.keep(built)
        store.forget_questions()
        assert store.run(new_blocks(full.cid, shrunk.cid)) == built.blocks.keys()
        assert not {link.cid for link in inner} & set(store.asked)
        grown = store.run(new_blocks(shrunk.cid, full.cid))
        assert grown >= store.run(reachable(full.cid)) - store.run(reachable(shrunk.cid))


def test_a_moved_directory_is_not_walked(store: Store, large: Any) -> None:
    """`mv` of a large folder costs two directories, however much is in it."""
    link, blocks = large
    store.blocks |= blocks
    old = store.make(edit_tree(None, {(b"a", b"big"): link, (b"b", b"f"): LINK}))
    store.forget_questions()
    built = store.run(edit_tree(old.cid, {(b"a", b"big"): None, (b"b", b"moved"): link}))
    new = store.keep(built)
    assert len(set(store.asked)) == 3
    store.forget_questions()
    assert store.run(new_blocks(old.cid, new.cid)) == built.blocks.keys()
    assert store.run(diff(old.cid, new.cid)) == [
        Change((b"a", b"big"), link, None),
        Change((b"b", b"moved"), None, link),
    ]
    assert link.cid not in store.asked


def test_a_small_edit_of_a_large_file_costs_little(store: Store) -> None:
    """A changed block of a large file sends one leaf and the nodes above it."""
    parts = [(cid_of(b"%d" % n), 262144) for n in range(1000)]
    old = file_root(parts)
    parts[500] = (X, 262144)
    new = file_root(parts)
    store.keep(old)
    store.keep(new)
    found = store.run(new_blocks(old.link.cid, new.link.cid))
    assert found == {X} | (new.blocks.keys() - old.blocks.keys())
    assert len(found) == 3
    assert len(store.asked) == 4
    longer = file_root([*parts, (cid_of(b"tail"), 10)])
    store.keep(longer)
    assert len(store.run(new_blocks(new.link.cid, longer.link.cid))) == 3


def test_attributes_of_directories_in_a_diff(store: Store) -> None:
    """A chmod of a folder is seen by other mounts."""
    old = store.make(edit_tree(None, {(b"d", b"f"): LINK, (b"e",): LINK}))
    new = store.make(edit_tree(old.cid, {(b"d", b"g"): LINK}, {(b"d",): PRIVATE, (): PRIVATE}))
    found = store.run(diff(old.cid, new.cid))
    assert [(change.path, change.attributes_only) for change in found] == [
        ((), True),
        ((b"d",), True),
        ((b"d", b"g"), False),
    ]
    assert (found[0].old, found[0].new) == (old, new)
    assert found[2] == Change((b"d", b"g"), None, LINK)


def test_encoding_is_no_difference(store: Store) -> None:
    """Version, shards and cumulative sizes aside, the trees are the same."""
    entries = {b"n%d" % n: Link(X, n) for n in range(30)}
    v0 = store.make(edit_directory(None, entries, cid_version=0))
    sharded = store.make(edit_directory(None, dict.fromkeys(entries, LINK), threshold=0))
    assert store.run(diff(v0.cid, sharded.cid)) == []
    one = store.make(edit_directory(None, {b"d": v0}))
    qm = Cid(b"\x01\x70" + v0.cid)
    other = store.make(edit_directory(None, {b"d": Link(qm, v0.tsize)}))
    store.forget_questions()
    assert store.run(diff(one.cid, other.cid)) == []
    assert v0.cid not in store.asked and qm not in store.asked


def test_diff_of_roots_that_are_no_directories(store: Store) -> None:
    """Roots of any kind can be compared: nothing fails on an odd bucket."""
    store.blocks[X] = b"x"
    directory = store.make(edit_directory(None, {b"a": LINK}))
    inline = store.keep(build_file(b"hello", PRIVATE))
    assert store.run(diff(X, directory.cid)) == [Change((), LINK, directory)]
    assert store.run(diff(directory.cid, inline.cid)) == [Change((), directory, inline)]
    empty = store.keep(empty_directory())
    assert store.run(diff(empty.cid, directory.cid)) == [Change((b"a",), None, LINK)]


def test_edit_tree_in_its_corners(store: Store) -> None:
    """Edits of many paths at once do what the same edits one by one would."""
    tree = store.make(edit_tree(None, {(b"a", b"b", b"c"): LINK, (b"f",): LINK}))
    middle = store.find(tree.cid, b"a", b"b")
    # Nothing to do.
    nothing: list[dict[TreePath, Link | None]] = [
        {},
        {(b"x", b"y"): None},
        {(b"f", b"y", b"z"): None},
        {(b"a", b"b", b"c"): LINK},
    ]
    for changes in nothing:
        again = store.run(edit_tree(tree.cid, changes))
        assert (again.link, again.blocks) == (tree, {})
    # Directories that become empty stay.
    emptied = store.make(edit_tree(tree.cid, {(b"a", b"b", b"c"): None}))
    assert store.run(list_directory(store.find(emptied.cid, b"a", b"b").cid)).entries == {}
    # A directory is replaced, and changed inside, in one go; and the same from nothing.
    moved = store.make(edit_tree(tree.cid, {(b"a",): None, (b"n",): middle, (b"n", b"d"): LINK, (b"n", b"c"): None}))
    assert store.run(list_directory(store.find(moved.cid, b"n").cid)).entries == {b"d": LINK}
    anew = store.make(edit_tree(tree.cid, {(b"a",): None, (b"a", b"z"): LINK}))
    assert store.run(list_directory(store.find(anew.cid, b"a").cid)).entries == {b"z": LINK}
    # Attributes of any kind of node; nothing has none.
    store.blocks[X] = b"x"
    private = store.make(edit_tree(tree.cid, {}, {(b"f",): PRIVATE}))
    assert store.run(lookup(private.cid, b"f")) == build_file(b"x", PRIVATE).link
    missing: list[TreePath] = [(b"nothing",), (b"a", b"nothing", b"here")]
    for path in missing:
        with pytest.raises(NotFound):
            store.run(edit_tree(tree.cid, {}, {path: PRIVATE}))
    below_a_file: list[TreePath] = [(b"f", b"x"), (b"f", b"x", b"y")]
    for path in below_a_file:
        with pytest.raises(NotADirectory):
            store.run(edit_tree(tree.cid, {path: LINK}))
    assert store.make(edit_tree(tree.cid, {(): None})) == empty_directory().link
    assert store.make(edit_tree(None, {(): tree})) == tree
    assert store.make(edit_tree(None, {})) == empty_directory().link


def test_a_deep_tree(store: Store) -> None:
    """Deeper than Python's stack: nothing here recurses over directories."""
    path = (b"d",) * 3000
    tree = store.make(edit_tree(None, {(*path, b"f"): LINK}))
    assert store.run(resolve(tree.cid, (*path, b"f"))) == LINK
    other = store.make(edit_tree(tree.cid, {(*path, b"g"): LINK}))
    assert [change.path for change in store.run(diff(tree.cid, other.cid))] == [(*path, b"g")]
    assert len(store.run(new_blocks(tree.cid, other.cid))) == 3001
    assert len(store.run(reachable(other.cid))) == 3002


def test_many_paths_are_asked_for_together(store: Store) -> None:
    """One request for each level going down, whatever the number of directories."""
    tree = store.make(edit_tree(None, {(b"%d" % a, b"%d" % b, b"f"): LINK for a in range(10) for b in range(10)}))
    store.forget_questions()
    store.make(edit_tree(tree.cid, {(b"%d" % a, b"%d" % b, b"g"): LINK for a in range(10) for b in range(10)}))
    assert store.requests == 3


def test_identity_cids_are_never_asked_for(store: Store) -> None:
    """Neither as leaves nor as directories; they are in no list of blocks."""
    empty = empty_directory()
    block = empty.blocks[empty.link.cid]
    inline = Cid(b"\x01\x70\x00" + bytes((len(block),)) + block)
    file = Cid(b"\x01\x55\x00\x01x")
    tree = store.make(edit_tree(None, {(b"d",): Link(inline, 4), (b"d", b"f"): Link(file, 1), (b"e",): Link(inline, 4)}))
    entry = store.find(tree.cid, b"d", b"f")
    assert store.run(read_file(entry.cid)) == b"x"
    assert store.run(leaves(file))[0].inline == b"x"
    assert len(store.run(reachable(tree.cid))) == 2
    nothing = store.keep(empty_directory()).cid
    assert store.run(new_blocks(nothing, tree.cid)) == store.run(reachable(tree.cid))
    assert codec_of(inline) == DAG_PB


def test_an_error_of_the_source_comes_out(store: Store) -> None:
    """An unreachable Hub is reported as that, not as a broken tree."""

    def unavailable(cids: Any) -> Any:
        raise Unavailable("the Hub is away")

    empty = empty_directory().link.cid
    for steps in (list_directory(empty), gather([fetch([X]), fetch([X])]), reachable(empty)):
        with pytest.raises(Unavailable):
            drive(steps, unavailable)


def test_gathered_steps_share_their_questions(store: Store) -> None:
    """Many folders are read in a few requests: a slow line is waited for once."""
    store.blocks[X] = b"x"
    assert store.run(gather([fetch([X]), fetch([X]), fetch([])])) == [{X: b"x"}, {X: b"x"}, {}]
    assert store.asked == [X]
    assert store.run(gather([fetch([X])], {X: b"x"})) == [{X: b"x"}]
    assert store.requests == 1
