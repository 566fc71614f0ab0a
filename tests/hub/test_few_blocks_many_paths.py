"""Trees of few blocks that unfold into more paths than any machine could visit: each call costs what the blocks cost.

Every directory here stands in the one above twice, forty levels deep. That a call comes back at all is the proof.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import grpc
import pytest
from support.bareclient import Caller
from support.bucketuser import BucketUser, bl, raised
from support.keyring import USER, as_user, make_key, sign_up

from bucketfs.dag import cid_of, cid_text, drive, edit_directory, multibase_encode
from bucketfs.hub import HubServer, collect
from bucketfs.keys import Identity
from bucketfs.types import Cid, Link
from bucketfs.wire import hub_pb2

HUB = "api.hubd.pb.APIService"
LEVELS = 40


@dataclass
class Lattice:
    """Directories that name the one below twice, over one file."""

    content: bytes = b"x"
    cid_version: int = 1
    levels: int = LEVELS
    blocks: dict[Cid, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        leaf = cid_of(self.content)
        self.blocks[leaf] = self.content
        self.link = Link(leaf, len(self.content))
        for _ in range(self.levels):
            steps = edit_directory(None, {b"a": self.link, b"b": self.link}, cid_version=self.cid_version)
            built = drive(steps, lambda cids: {})
            self.blocks |= built.blocks
            self.link = built.link


def with_entry(user: BucketUser, key: str, name: bytes, lattice: Lattice) -> Cid:
    """Sends a root of the bucket that has the lattice at a name."""
    base = Cid(user.root_cid(key))
    held = {base: user.get_blocks([base])[0].data}
    tree = drive(edit_directory(base, {name: lattice.link}), lambda cids: {cid: held[cid] for cid in cids})
    user.put_blocks({**lattice.blocks, **tree.blocks})
    return tree.link.cid


def set_entry(user: BucketUser, key: str, name: bytes, lattice: Lattice) -> None:
    base = user.root_cid(key)
    user.swap(key, base, with_entry(user, key, name, lattice))


@pytest.fixture
def user(alice: Caller) -> BucketUser:
    return BucketUser.with_new_thread(alice)


@pytest.mark.parametrize("after", [Lattice(cid_version=0), Lattice(b"y"), Lattice(b"y", cid_version=0)])
def test_a_swap_between_two_of_them(user: BucketUser, after: Lattice) -> None:
    """They differ in their encoding only, or in the one file at the bottom, which is at 2^40 paths."""
    key = user.create().root.key
    set_entry(user, key, b"l", Lattice())
    set_entry(user, key, b"l", after)
    assert user.listing(key, "l/a/b/a").cid


def test_rights_are_asked_without_unfolding(user: BucketUser, bob: Caller) -> None:
    """Of one who may write in a folder: what he changes there is fine, and outside of it nothing is, however deep."""
    key = user.create().root.key
    set_entry(user, key, b"l", Lattice())
    set_entry(user, key, b"m", Lattice())
    name = multibase_encode(bob.call(HUB, "GetSessionInfo", hub_pb2.GetSessionInfoRequest()).key)
    user.ask("PushPathAccessRoles", key=key, path="l", roles={name: 2})
    user.ask("PushPathAccessRoles", key=key, path="m/a/b/a", roles={name: 2})
    his = user.beside(bob)
    set_entry(his, key, b"l", Lattice(b"y"))
    for entry, lattice in ((b"m", Lattice(b"y")), (b"l", Lattice(b"z", levels=LEVELS - 1)), (b"new", Lattice(b"y"))):
        with pytest.raises(grpc.RpcError) as caught:
            set_entry(his, key, entry, lattice)
        assert "permission denied" in raised(caught.value)[1]
    deepest = "m" + "/a" * LEVELS
    user.ask("PushPathAccessRoles", key=key, path=deepest, roles={name: 2})
    before = user.root(key).path_metadata
    set_entry(user, key, b"m", Lattice(b"y"))
    after = user.root(key).path_metadata
    assert after[deepest].updated_at > before[deepest].updated_at
    assert after["m/a/b/a"].updated_at == after[deepest].updated_at, "too many files below it changed to have entries"
    user.ask("RemovePath", key=key, path="m/a/b")
    assert "m/a/b/a" not in user.root(key).path_metadata


def test_get_tree_gives_each_block_once(user: BucketUser) -> None:
    """A tree of forty blocks would keep the Hub busy for ever and fill a client's memory."""
    lattice = Lattice()
    user.put_blocks(dict(lattice.blocks))
    replies = user.blocks("GetTree", bl.GetTreeRequest(cid=lattice.link.cid, depth=32))
    given = [block.cid for reply in replies for block in reply.blocks]
    assert len(given) == len(set(given)) == 33


def test_a_wide_one_is_walked_once(user: BucketUser) -> None:
    """130 directories, each of which names all below it."""
    links: dict[bytes, Link] = {}
    blocks: dict[Cid, bytes] = {}
    for number in range(130):
        built = drive(edit_directory(None, dict(links)), lambda cids: {})
        blocks |= built.blocks
        links[b"%03d" % number] = Link(built.link.cid, 0)
    user.put_blocks(blocks)
    top = links[b"129"].cid
    for _ in range(3):
        replies = user.blocks("GetTree", bl.GetTreeRequest(cid=top, depth=5))
        assert sum(len(reply.blocks) for reply in replies) == 130


@pytest.mark.parametrize("levels", [LEVELS, 20])
def test_a_private_bucket_takes_none_of_it(user: BucketUser, hub_server: HubServer, levels: int) -> None:
    """There each path has blocks of its own. Refused before any is made."""
    lattice = Lattice(levels=levels)
    user.put_blocks(dict(lattice.blocks))
    key = user.create(private=True).root.key
    before = hub_server.hub.blockstore.figures().bytes
    for method, fields in (
        ("Create", {"private": True, "bootstrap_cid": cid_text(lattice.link.cid)}),
        ("SetPath", {"key": key, "path": "l", "cid": cid_text(lattice.link.cid)}),
    ):
        code, text = user.refused(method, **fields)
        assert "again and again" in text, (code, text)
    assert hub_server.hub.blockstore.figures().bytes == before


def test_what_a_private_bucket_takes_is_paid_before_it_is_made(
    start_hub: Callable[..., HubServer], dial: Callable[[str], Caller]
) -> None:
    """A file of 1 MiB at 512 paths."""
    server = start_hub(account_bytes_max=4 << 20)
    user = BucketUser.with_new_thread(sign_up(dial(server.address), "mallory"))
    lattice = Lattice(bytes(1 << 20), levels=9)
    user.put_blocks(dict(lattice.blocks))
    key = user.create(private=True).root.key
    before = server.hub.blockstore.figures().bytes
    for method, fields in (
        ("Create", {"private": True, "bootstrap_cid": cid_text(lattice.link.cid)}),
        ("SetPath", {"key": key, "path": "l", "cid": cid_text(lattice.link.cid)}),
    ):
        assert user.refused(method, **fields)[0] == "RESOURCE_EXHAUSTED"
    assert server.hub.blockstore.figures().bytes == before


def test_looking_removing_and_collecting(user: BucketUser, hub_server: HubServer) -> None:
    """Such a tree could not be listed, moved, removed or collected, and would stop the Hub."""
    key = user.create().root.key
    set_entry(user, key, b"l", Lattice())
    assert user.names(key, "l/b/b/b") == ["a", "b"]
    assert user.pull(key, "l" + "/a" * LEVELS) == b"x"
    user.ask("MovePath", key=key, from_path="l", to_path="m")
    user.push_paths(key, {"m/a/new": b"new"})
    user.ask("RemovePath", key=key, path="m/b")
    done = collect(hub_server.config, 0)
    assert done.blocks_kept > LEVELS
    user.ask("RemovePath", key=key, path="m")


def test_a_message_full_of_slashes_is_no_path(user: BucketUser, bob: Caller) -> None:
    """A stranger could keep the Hub busy with one path of millions of parts."""
    key = user.create().root.key
    user.ask("PushPathAccessRoles", key=key, path="", roles={"*": 0})
    stranger = user.beside(bob)
    path = "a/" * 2_000_000
    for method in ("ListPath", "Links", "PullPathAccessRoles", "PullPath"):
        assert stranger.refused(method, key=key, path=path)[0] == "INVALID_ARGUMENT", method


def test_an_app_with_many_of_them_leaves_others_their_turn(
    user: BucketUser, caller: Caller, alice: Caller, bob: Caller
) -> None:
    """The users of one app could stop the Hub for all others by a few small trees."""
    app = caller.using(**make_key(bob, USER).headers())
    for _ in range(2):
        one = BucketUser.with_new_thread(as_user(app, Identity.generate()))
        key = one.create().root.key
        set_entry(one, key, b"l", Lattice())
        for number in range(4):
            set_entry(one, key, b"l", Lattice(b"%d" % number, cid_version=number % 2))
    assert user.create().root.key
