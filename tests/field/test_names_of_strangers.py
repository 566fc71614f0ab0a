"""A folder of somebody else's bucket has entries that no path can have: they are left out and told, and all else goes on.

Reported: after one such entry every `buck watch` of the bucket stood still, and the folder could not be listed.
"""

from __future__ import annotations

import os
from pathlib import Path

import grpc
import pytest
from support.bareclient import Caller
from support.bucketuser import BucketUser, raised
from support.home import Home
from support.hubprocess import developer
from support.keyring import sign_up
from support.planting import names_in, plant

from bucketfs.dag import DAG_PB, PbLink, PbNode, UnixFs, UnixFsType, cid_of, cid_text, decode_pb, encode_pb, encode_unixfs
from bucketfs.dag.dirs.hamt import name_hash
from bucketfs.types import Cid

BAD = {b"..": b"up", b".": b"here", b"a/b": b"slash", b"a\0b": b"nul", b"": b"empty", b"\xff": b"bytes", b"n" * 300: b"long"}


@pytest.fixture
def data(home: Home) -> Path:
    return home.root / "hub"


def filled(home: Home) -> None:
    """A bucket ``b`` with a folder ``d`` of two files."""
    folder = home.root / "source" / "d"
    folder.mkdir(parents=True)
    (folder / "one").write_text("one")
    (folder / "two").write_text("two")
    home.cli("buck", "create", "b")
    home.cli("buck", "push", home.root / "source", "b")


def test_pull_watch_and_mount(home: Home, data: Path) -> None:
    """One malformed name in a shared bucket would stop every pull, watch and mount of it, or be removed for its owner."""
    with developer(home):
        filled(home)
        plant(data, "b", b"d", BAD)
        pulled = home.root / "pulled"
        done = home.cli("buck", "pull", "b", pulled, check=False)
        assert done.returncode == 1
        assert done.stderr.count("left out: ") == len(BAD)
        assert sorted(path.name for path in pulled.rglob("*")) == ["d", "one", "two"]

        watched = home.root / "watched"
        watched.mkdir()
        done = home.cli("buck", "watch", "--once", watched, "b", check=False)
        assert (watched / "d" / "two").read_text() == "two"
        assert sorted(os.listdir(watched / "d")) == ["one", "two"]
        # Both directions go on, and what is not seen here is not taken for removed.
        (watched / "d" / "three").write_text("three")
        (watched / "d" / "one").unlink()
        home.cli("buck", "watch", "--once", watched, "b")
        assert set(names_in(data, "b", b"d")) == {*BAD, b"two", b"three"}

        mounted = home.mount("b")
        assert sorted(os.listdir(mounted.path / "d")) == ["three", "two"]
        mounted.expect(r"no path can have their names")
        (mounted.path / "d" / "four").write_text("four")
        (mounted.path / "d" / "two").rename(mounted.path / "two")
        mounted.sync()
        assert set(names_in(data, "b", b"d")) == {*BAD, b"three", b"four"}
        home.cli("buck", "watch", "--once", watched, "b", check=False)
        assert sorted(path.name for path in watched.rglob("*")) == ["d", "four", "three", "two"]
        # They go with their folder.
        for name in os.listdir(mounted.path / "d"):
            (mounted.path / "d" / name).unlink()
        (mounted.path / "d").rmdir()
        mounted.sync()
        mounted.umount()
        home.cli("buck", "watch", "--once", watched, "b")
        assert os.listdir(watched) == ["two"]


def node(links: list[PbLink], message: UnixFs) -> tuple[Cid, bytes]:
    block = encode_pb(PbNode(tuple(sorted(links, key=lambda link: link.name)), encode_unixfs(message)))
    return cid_of(block, DAG_PB), block


def bad_trees() -> list[dict[Cid, bytes]]:
    """Directories with one impossible entry, the top first: plain, below another, sharded, and with a name twice."""
    leaf = cid_of(b"x")
    trees = []
    for name in BAD:
        cid, block = node([PbLink(leaf, name, 1), PbLink(leaf, b"ok", 1)], UnixFs(UnixFsType.DIRECTORY))
        top, above = node([PbLink(cid, b"below", 1 + len(block))], UnixFs(UnixFsType.DIRECTORY))
        trees += [{cid: block, leaf: b"x"}, {top: above, cid: block, leaf: b"x"}]
    shard = UnixFs(UnixFsType.SHARD, hash_type=0x22, fanout=256)
    for name in (b"..", b"\xff"):
        trees.append(dict([node([PbLink(leaf, b"%02X" % (name_hash(name) >> 56) + name, 1)], shard), (leaf, b"x")]))
    misplaced = b"%02X" % ((name_hash(b"name") >> 56) ^ 1) + b"name"
    trees.append(dict([node([PbLink(leaf, misplaced, 1)], shard), (leaf, b"x")]))
    trees.append(
        dict([node([PbLink(leaf, b"twice", 1), PbLink(leaf, b"twice", 1)], UnixFs(UnixFsType.DIRECTORY)), (leaf, b"x")])
    )
    return trees


def test_a_hub_takes_none_in(home: Home) -> None:
    """By a swap, by SetPath at a path or as the whole bucket, by Create; public and private."""
    with developer(home) as address, grpc.insecure_channel(address) as channel:
        user = BucketUser.with_new_thread(sign_up(Caller(channel), "mallory"))
        key, private = user.create().root.key, user.create(private=True).root.key
        root = Cid(user.root_cid(key))
        old = decode_pb(user.get_blocks([root])[0].data)
        for tree in bad_trees():
            cid = next(iter(tree))
            user.put_blocks(tree)
            block = encode_pb(PbNode((*old.links, PbLink(cid, b"d", 1)), old.data))
            new = cid_of(block, DAG_PB)
            user.put_blocks({new: block})
            with pytest.raises(grpc.RpcError) as caught:
                user.swap(key, root, new)
            assert raised(caught.value)[0] == "INVALID_ARGUMENT", tree
            for bucket in (key, private):
                for path in ("d", "d/e", ""):
                    assert user.refused("SetPath", key=bucket, path=path, cid=cid_text(cid))[0] == "UNKNOWN", tree
            for is_private in (False, True):
                assert user.refused("Create", bootstrap_cid=cid_text(cid), private=is_private)[0] == "UNKNOWN", tree
        assert user.root_cid(key) == root
