"""Blocks by CID over a real socket: reading, writing, and the swap that makes a push visible."""

from __future__ import annotations

import os
from typing import Any

import grpc
import pytest
from support.bucketuser import BLOCKS, BucketUser, bl, raised
from support.unixfs import build_file

from bucketfs.dag import (
    DAG_PB,
    PbLink,
    PbNode,
    cid_from_text,
    cid_of,
    drive,
    edit_directory,
    edit_tree,
    empty_directory,
    encode_pb,
    node_info,
    reachable,
)
from bucketfs.hub import HubServer
from bucketfs.types import Cid, Link, NodeAttributes

NON_FAST_FORWARD = ("FAILED_PRECONDITION", "update is non-fast-forward")


class Tree:
    """A client's own blocks: builds new roots over those of a hub."""

    def __init__(self, user: BucketUser, key: str) -> None:
        self.user, self.key = user, key
        self.base = Cid(user.root_cid(key))
        self.made: dict[Cid, bytes] = {}
        self.root = self.base

    def get(self, cids: Any) -> dict[Cid, bytes]:
        wanted = [cid for cid in cids if cid not in self.made]
        return {cid: self.made[cid] for cid in cids if cid in self.made} | {
            Cid(block.cid): block.data for block in (self.user.get_blocks(wanted) if wanted else [])
        }

    def put(self, path: str, data: bytes | None, attributes: NodeAttributes | None = None) -> Tree:
        link: Link | None = None
        if data is not None:
            built = build_file(data, attributes or NodeAttributes())
            self.made |= built.blocks
            link = built.link
        return self.put_link(path, link)

    def put_link(self, path: str, link: Link | None) -> Tree:
        tree = drive(edit_tree(self.root, {tuple(path.encode().split(b"/")): link}), self.get)
        self.made |= tree.blocks
        self.root = tree.link.cid
        return self

    def needed(self) -> dict[Cid, bytes]:
        below = drive(reachable(self.root), self.get)
        return {cid: data for cid, data in self.made.items() if cid in below}

    def send(self, upload: bytes = b"") -> Any:
        return self.user.put_blocks(dict(self.needed()), upload)

    def swap(self, upload: bytes = b"") -> Any:
        return self.user.swap(self.key, self.base, self.root, upload)

    def swap_all(self) -> Any:
        """Send and swap."""
        self.send()
        return self.swap()

    def refused(self) -> tuple[str, str]:
        with pytest.raises(grpc.RpcError) as caught:
            self.swap()
        return raised(caught.value)


@pytest.fixture
def user(alice: Any) -> BucketUser:
    return BucketUser.with_new_thread(alice)


@pytest.fixture
def key(user: BucketUser) -> str:
    made: str = user.create("one").root.key
    return made


def blocks_of(count: int, size: int) -> dict[Cid, bytes]:
    bodies = [os.urandom(size) for _ in range(count)]
    return {cid_of(body): body for body in bodies}


# Reading and writing


def test_put_get_missing(user: BucketUser) -> None:
    """A push would send blocks that the Hub has, or leave out some that it lacks."""
    blocks = blocks_of(20, 262_144) | blocks_of(200, 700)
    assert user.missing(blocks) == list(blocks)
    counts = user.put_blocks(dict(blocks), b"u" * 16)
    total = sum(map(len, blocks.values()))
    assert (counts.blocks_received, counts.blocks_stored) == (220, 220)
    assert (counts.bytes_received, counts.bytes_stored) == (total, total)
    assert user.missing(blocks, b"u" * 16) == []
    again = user.put_blocks(dict(blocks))
    assert (again.blocks_received, again.blocks_stored, again.bytes_stored) == (220, 0, 0)
    assert {block.cid: block.data for block in user.get_blocks(blocks)} == blocks


def test_get_keeps_the_order_and_bundles(user: BucketUser) -> None:
    """A client would get blocks under the wrong names, or messages larger than it accepts."""
    blocks = blocks_of(12, 262_144) | blocks_of(30, 100)
    user.put_blocks(dict(blocks))
    absent = cid_of(b"nobody has this")
    asked = [*reversed(blocks), absent, next(iter(blocks)), Cid(b"\x01\x55\x00\x02hi")]
    replies = user.blocks("Get", bl.GetRequest(cids=asked))
    got = [block for reply in replies for block in reply.blocks]
    assert [block.cid for block in got] == asked
    assert [block.missing for block in got] == [cid == absent for cid in asked]
    assert got[-1].data == b"hi" and got[-2].data == next(iter(blocks.values()))
    sizes = [reply.ByteSize() for reply in replies]
    assert max(sizes) < 1_100_000 and len(replies) <= 5


def test_many_small_blocks_come_in_few_messages(user: BucketUser) -> None:
    """Opening a folder with thousands of small files would take thousands of messages."""
    blocks = blocks_of(3000, 50)
    user.put_blocks(dict(blocks))
    assert len(user.blocks("Get", bl.GetRequest(cids=list(blocks)))) == 1


def test_a_message_is_stored_whole_or_not_at_all(user: BucketUser) -> None:
    """A client would not know which blocks of a failed message are stored."""
    good, late = blocks_of(3, 1000), blocks_of(3, 1000)
    wrong = cid_of(b"what it should be")
    messages = [
        [bl.Block(cid=cid, data=data) for cid, data in good.items()],
        [*(bl.Block(cid=cid, data=data) for cid, data in late.items()), bl.Block(cid=wrong, data=b"what it is")],
    ]
    with pytest.raises(grpc.RpcError) as caught:
        user.blocks("Put", iter([bl.PutRequest(blocks=blocks) for blocks in messages]))
    assert raised(caught.value)[0] == "INVALID_ARGUMENT"
    assert set(user.missing([*good, *late, wrong])) == {*late, wrong}


@pytest.mark.parametrize(
    ("cid", "data"),
    [
        (cid_of(b"x" * 2_097_153), b"x" * 2_097_153),
        (cid_of(b"{}", 0x0129), b"{}"),
        (cid_of(b"\xff\xff", DAG_PB), b"\xff\xff"),
        (b"nonsense", b""),
        (b"", b""),
    ],
    ids=["too large", "dag-json", "no dag-pb", "no cid", "empty cid"],
)
def test_blocks_that_have_no_place_in_a_bucket(user: BucketUser, cid: bytes, data: bytes) -> None:
    """Anyone could store blocks at the Hub that no client can read, or that are too large to be sent."""
    with pytest.raises(grpc.RpcError) as caught:
        user.put_blocks({Cid(cid): data})
    assert raised(caught.value)[0] == "INVALID_ARGUMENT"


def test_a_damaged_block_is_told_and_mended(user: BucketUser, hub_server: HubServer) -> None:
    """Damage on the Hub's disk would be passed on as good content, or stay after the bytes are sent again."""
    blocks = blocks_of(2, 100_000)
    user.put_blocks(dict(blocks))
    pack = next((hub_server.config.data / "blocks").glob("*.pack"))
    with open(pack, "r+b") as file:
        file.seek(pack.stat().st_size - 50)
        file.write(b"rot")
    with pytest.raises(grpc.RpcError) as caught:
        user.get_blocks(blocks)
    assert raised(caught.value)[0] == "DATA_LOSS"
    assert len(user.missing(blocks)) == 1
    user.put_blocks(dict(blocks))
    assert {block.cid: block.data for block in user.get_blocks(blocks)} == blocks


def test_credentials_are_needed(caller: Any) -> None:
    """Strangers could read blocks without a key."""
    for method, request in (("Get", bl.GetRequest()), ("Missing", bl.MissingRequest()), ("Roots", bl.RootsRequest())):
        with pytest.raises(grpc.RpcError) as caught:
            caller.call(BLOCKS, method, request)
        assert raised(caught.value)[0] == "UNAUTHENTICATED"


# Trees


def test_get_tree(user: BucketUser, key: str) -> None:
    """A client would get blocks in an order, or to a depth, that it did not ask for, and show folders as empty."""
    big = bytes(600_000)
    user.push_paths(key, {"a/b/c": b"1", "a/big": big, "f": b"2", "g/h": b"3"})
    root = user.root_cid(key)
    a, b, g = (cid_bytes(user, key, path) for path in ("a", "a/b", "g"))
    big_cid = cid_bytes(user, key, "a/big")

    def tree(cid: bytes, depth: int) -> list[bytes]:
        replies = user.blocks("GetTree", bl.GetTreeRequest(cid=cid, depth=depth))
        found = [block for reply in replies for block in reply.blocks]
        for block in found:
            assert not block.missing and cid_of(block.data, DAG_PB if block.cid[1] == 0x70 else 0x55) == block.cid
        return [block.cid for block in found]

    assert tree(root, 0) == [root]
    assert tree(root, 1) == [root, a, g]
    assert set(tree(root, 2)) == {root, a, g, b, big_cid}
    assert tree(root, 2)[:3] == [root, a, g]
    assert set(tree(root, 9)) == {root, a, g, b, big_cid}
    assert tree(big_cid, 3) == [big_cid]
    assert tree(cid_bytes(user, key, "f"), 1) == [cid_bytes(user, key, "f")]
    replies = user.blocks("GetTree", bl.GetTreeRequest(cid=cid_of(b"absent"), depth=1))
    assert [(block.cid, block.missing) for block in replies[0].blocks] == [(cid_of(b"absent"), True)]
    with pytest.raises(grpc.RpcError) as caught:
        user.blocks("GetTree", bl.GetTreeRequest(cid=root, depth=-1))
    assert raised(caught.value)[0] == "INVALID_ARGUMENT"


def test_get_tree_of_a_sharded_directory(user: BucketUser, key: str) -> None:
    """A folder with thousands of files could not be listed, or would lose entries with the next push."""
    links = {f"file with a longish name {index:05}".encode(): build_file(b"same").link for index in range(6000)}
    built = drive(edit_directory(None, links), lambda _cids: {})
    assert len(built.blocks) > 100
    user.put_blocks({**built.blocks, **build_file(b"same").blocks})
    replies = user.blocks("GetTree", bl.GetTreeRequest(cid=built.link.cid, depth=1))
    assert {block.cid for reply in replies for block in reply.blocks} == set(built.blocks)
    tree = Tree(user, key).put_link("many", built.link)
    tree.send()
    tree.swap()
    assert user.listing(key, "many").items_count == 6000
    assert {item.name: item.items_count for item in user.listing(key).items}["many"] == 6000
    user.push(key, "many/one more", b"x")
    assert user.listing(key, "many").items_count == 6001


def cid_bytes(user: BucketUser, key: str, path: str) -> bytes:

    return cid_from_text(user.listing(key, path).cid)


# Swapping


def test_a_push(user: BucketUser, key: str) -> None:
    """A push would not be seen by path clients, or would make the bucket's table of paths grow with each file."""
    upload = b"p" * 16
    tree = Tree(user, key).put("dir/file", b"x" * 600_000).put("dir/other", b"y")
    missing = user.missing(tree.needed(), upload)
    assert set(missing) == set(tree.needed())
    tree.send(upload)
    before = user.root(key)
    reply = tree.swap(upload)
    assert reply.root == tree.root == user.root_cid(key)
    after = user.root(key)
    assert reply.updated_at == after.updated_at > before.updated_at
    assert user.pull(key, "dir/file") == b"x" * 600_000
    assert user.names(key) == [".textileseed", "dir"]
    assert set(after.path_metadata) == {"", ".textileseed"}, "no entry per pushed file"


def test_swapping_from_a_root_that_moved(user: BucketUser, key: str) -> None:
    """Of two machines that push at once one would silently undo what the other pushed."""
    tree = Tree(user, key).put("a", b"1")
    tree.send()
    user.push(key, "b", b"2")
    assert tree.refused() == NON_FAST_FORWARD
    tree = Tree(user, key).put("a", b"1")
    tree.send()
    tree.swap()
    assert tree.refused() == NON_FAST_FORWARD
    assert user.names(key) == [".textileseed", "a", "b"]
    same = user.swap(key, user.root_cid(key), user.root_cid(key))
    assert same.root == user.root_cid(key) and same.updated_at == user.root(key).updated_at


def missing_named_in(error: Any) -> set[bytes]:
    """The CIDs that the trailer of a refused swap names."""
    trailers = dict(error.trailing_metadata())
    return set(bl.MissingBlocks.FromString(trailers["bucketfs-missing-bin"]).cids)


def test_missing_blocks_are_named(user: BucketUser, key: str) -> None:
    """A push that lost some blocks would succeed with holes, or would send everything again."""
    tree = Tree(user, key).put("a/big", os.urandom(600_000)).put("a/b/small", b"1")
    needed = tree.needed()

    def named() -> set[bytes]:
        with pytest.raises(grpc.RpcError) as caught:
            tree.swap()
        assert caught.value.code().name == "NOT_FOUND"
        return missing_named_in(caught.value)

    assert named() == {tree.root}
    rounds = 0
    while True:
        lacking = named() if user.missing(needed) else set()
        if not lacking:
            break
        assert lacking <= set(user.missing(needed))
        user.put_blocks({Cid(cid): needed[Cid(cid)] for cid in lacking})
        rounds += 1
    assert rounds <= 4, "a round per level of the tree, not per block"
    tree.swap()
    assert user.pull(key, "a/b/small") == b"1"


def test_a_missing_raw_leaf_is_noticed(user: BucketUser, key: str) -> None:
    """A file whose bytes never arrived would be part of the bucket."""
    tree = Tree(user, key).put("f", b"a leaf that is not sent")
    leaf = cid_of(b"a leaf that is not sent")
    user.put_blocks({cid: data for cid, data in tree.needed().items() if cid != leaf})
    assert tree.refused()[0] == "NOT_FOUND"
    user.put_blocks({leaf: b"a leaf that is not sent"})
    tree.swap()


def test_many_missing_blocks_fit_in_the_trailer(user: BucketUser, key: str) -> None:
    """A push that lacks very many blocks would fail with an error from which no client can go on."""
    tree = Tree(user, key)
    for index in range(150):
        tree.put(f"f{index}", f"content {index}".encode())
    user.put_blocks({tree.root: tree.made[tree.root]})
    with pytest.raises(grpc.RpcError) as caught:
        tree.swap()
    code, text = raised(caught.value)
    assert code == "NOT_FOUND" and text.startswith("150 blocks")
    # Not all of them: a gRPC client drops trailers of more than 8 KiB.
    named = missing_named_in(caught.value)
    assert len(named) == 100 and named <= set(user.missing(tree.needed()))


def test_what_the_hub_holds_elsewhere_need_not_be_sent(user: BucketUser, key: str) -> None:
    """Copying a folder from one bucket to another would send all of its bytes again."""
    user.push(key, "old/file", b"z" * 600_000)
    other = user.create("two").root.key
    tree = Tree(user, other)
    tree.put_link("taken", Link(Cid(cid_bytes(user, key, "old")), user.listing(key, "old").size))
    assert len(tree.needed()) == 1
    tree.send()
    tree.swap()
    assert user.pull(other, "taken/file") == b"z" * 600_000


def test_roots_that_are_no_trees(user: BucketUser, key: str) -> None:
    """A client could make a bucket whose root no client can open."""
    file = build_file(bytes(600_000))
    raw = build_file(b"raw")
    strange = encode_pb(PbNode((PbLink(cid_of(b"{}", 0x0129), b"json", 2),), b"\x08\x01"))
    blocks = {**file.blocks, **raw.blocks, cid_of(strange, DAG_PB): strange}
    user.put_blocks(blocks)
    expected = user.root_cid(key)
    for new in (file.link.cid, raw.link.cid, cid_of(strange, DAG_PB)):
        with pytest.raises(grpc.RpcError) as caught:
            user.swap(key, expected, new)
        assert raised(caught.value)[0] == "INVALID_ARGUMENT"


def test_the_seed_stays(user: BucketUser, key: str) -> None:
    """A push could remove the seed, the file that Textile clients expect in each bucket and that makes its root unique."""
    tree = Tree(user, key).put(".textileseed", None)
    tree.send()
    assert tree.refused() == ("PERMISSION_DENIED", "paths containing .textileseed are not allowed")
    empty = empty_directory()
    user.put_blocks(dict(empty.blocks))
    with pytest.raises(grpc.RpcError):
        user.swap(key, user.root_cid(key), empty.link.cid)


def test_attributes_survive_both_ways(user: BucketUser, key: str) -> None:
    """A push by path keeps the attributes of nodes it does not touch, and of the directories it does."""
    attributes = NodeAttributes(mode=0o640, mtime_ns=1_700_000_000_123_456_789)
    tree = Tree(user, key).put("d/f", b"with attributes", attributes)
    folder = drive(edit_directory(None, {}, attributes), lambda _cids: {})
    tree.made |= folder.blocks
    tree.put_link("e", folder.link)
    tree.send()
    tree.swap()
    file_cid = cid_bytes(user, key, "d/f")
    user.push(key, "e/new", b"1")
    user.push(key, "d/g", b"2")
    assert cid_bytes(user, key, "d/f") == file_cid

    (block,) = user.get_blocks([cid_bytes(user, key, "e")])
    assert node_info(Cid(block.cid), block.data).attributes == attributes
    user.ask("MovePath", key=key, from_path="e", to_path="moved")
    (block,) = user.get_blocks([cid_bytes(user, key, "moved")])
    assert node_info(Cid(block.cid), block.data).attributes == attributes
    assert user.pull(key, "d/f") == b"with attributes"


# Rights


def public_key(caller: Any) -> str:
    owner: str = BucketUser.with_new_thread(caller).create().root.owner
    return owner


def test_rights_are_asked_on_every_path(user: BucketUser, key: str, bob: Any) -> None:
    """A guest could change, add or remove paths that are not shared with them, hidden among those that are."""
    tree = Tree(user, key).put("shared/old", b"1").put("shared/sub/old", b"1").put("own", b"1")
    tree.send()
    tree.swap()
    other = user.beside(bob)

    def denied(tree: Tree) -> None:
        tree.send()
        code, text = tree.refused()
        assert code == "PERMISSION_DENIED" and "permission denied" in text

    denied(Tree(other, key).put("shared/old", b"2"))
    user.ask("PushPathAccessRoles", key=key, path="shared", roles={public_key(bob): 2})
    allowed = Tree(other, key).put("shared/old", b"2").put("shared/sub/old", b"2")
    allowed.send()
    allowed.swap()
    assert (user.pull(key, "shared/old"), user.pull(key, "shared/sub/old")) == (b"2", b"2")
    denied(Tree(other, key).put("own", b"2"))
    denied(Tree(other, key).put("shared/old", b"3").put("own", b"2"))
    denied(Tree(other, key).put("shared/new", b"3"))
    denied(Tree(other, key).put("shared/old", None))
    denied(Tree(other, key).put("shared/sub", b"a file in place of a folder"))
    denied(Tree(other, key).put("shared/old", None).put("shared/old/x", b"a folder in place of a file"))
    user.ask("PushPathAccessRoles", key=key, path="shared", roles={public_key(bob): 3})
    removed = Tree(other, key).put("shared/sub", None)
    removed.send()
    removed.swap()
    assert user.names(key, "shared") == ["old"]


def test_entries_follow_the_tree(user: BucketUser, key: str) -> None:
    """Roles and times of a removed file would apply to a new one of the same name."""
    user.push_paths(key, {"d/a": b"1", "d/b": b"1", "e/c": b"1", "keep": b"1"})
    before = user.root(key).path_metadata
    tree = Tree(user, key).put("d/a", b"2").put("d/b", None).put("e", b"now a file").put("new", b"1")
    tree.send()
    tree.swap()
    after = user.root(key).path_metadata
    assert set(after) == {"", ".textileseed", "d/a", "e", "keep", "new"}
    assert after["d/a"].updated_at == after["e"].updated_at == after["new"].updated_at > before["d/a"].updated_at
    assert after["keep"] == before["keep"] and after[""] == before[""]


def shown(user: BucketUser, key: str, path: str) -> int:
    """What a path client is told of when a path changed."""
    return int(user.listing(key, path).metadata.updated_at)


def test_a_path_client_sees_what_a_swap_changed(user: BucketUser, key: str) -> None:
    """Clients that compare times would miss files that a push changed, or take all files for changed."""
    user.push_paths(key, {"by/path": b"1", "keep": b"1"})
    kept = shown(user, key, "keep")
    Tree(user, key).put("by/path", b"2").put("one", b"1").put("new/folder/file", b"1").swap_all()
    at = user.root(key).updated_at
    assert shown(user, key, "by/path") == shown(user, key, "one") == shown(user, key, "new/folder/file") == at
    assert shown(user, key, "keep") == kept
    one = shown(user, key, "one")
    Tree(user, key).put("new/folder/file", b"2").swap_all()
    assert (shown(user, key, "one"), shown(user, key, "new/folder/file")) == (one, user.root(key).updated_at)
    # Of very many files each has no entry of its own, and none looks older than it is.
    tree = Tree(user, key).put("many/7", b"1")
    for number in range(260):
        tree.put(f"f{number}", b"1")
    tree.swap_all()
    at = user.root(key).updated_at
    assert shown(user, key, "many/7") == shown(user, key, "f7") == at
    assert len(user.root(key).path_metadata) <= 256
    assert shown(user, key, "keep") == kept and shown(user, key, "by/path") < at


def test_roots(user: BucketUser, key: str, alice: Any, bob: Any) -> None:
    """A mount of all buckets would miss some, or show those of another account."""
    second = BucketUser.with_new_thread(alice)
    other = second.create("two", private=True).root.key
    found = {one.key: one for one in alice.call(BLOCKS, "Roots", bl.RootsRequest()).buckets}
    assert set(found) == {key, other}
    assert (found[key].root, found[key].thread, found[key].name) == (user.root_cid(key), user.thread, "one")
    assert (found[key].private, found[other].private) == (False, True)
    assert found[key].owner == user.root(key).owner
    assert found[key].updated_at == user.root(key).updated_at
    assert list(bob.call(BLOCKS, "Roots", bl.RootsRequest()).buckets) == []


def test_a_change_is_announced(user: BucketUser, key: str, hub_server: HubServer) -> None:
    """Other machines would see a change only when they ask the next time."""
    news = hub_server.hub.events.subscribe(user.thread)  # type: ignore[arg-type]
    tree = Tree(user, key).put("a", b"1")
    tree.send()
    tree.swap()
    assert next(iter(news)).key == key
    user.push(key, "b", b"2")
    assert next(iter(news)).key == key
    news.close()
