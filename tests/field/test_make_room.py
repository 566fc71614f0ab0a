"""A Hub whose disk is full: what is removed is removed, and after a collection there is room again."""

from __future__ import annotations

import secrets

import grpc
import pytest
from support.bareclient import Caller
from support.bucketuser import BucketUser, raised
from support.home import Home
from support.hubprocess import serving
from support.keyring import sign_up
from support.small_disk import small_disk

from bucketfs.dag import drive, edit_directory
from bucketfs.types import Cid

MIB = 1 << 20
PIECE = 4 * MIB


def test_removing_on_a_full_disk(home: Home) -> None:
    """By path, in public and private buckets, by a swap, and a whole bucket; far below what the Hub keeps free."""
    with small_disk(home.root / "hub", 64) as disk:
        with serving(home) as address, grpc.insecure_channel(address) as channel:
            user = BucketUser.with_new_thread(sign_up(Caller(channel), "ann"))
            public, private, other = (user.create(private=kind).root.key for kind in (False, True, False))
            for key in (public, private):
                user.push_paths(key, {f"d/f{number}": secrets.token_bytes(PIECE) for number in range(2)})
                user.push(key, "top", secrets.token_bytes(PIECE))
            user.push(other, "f", b"f")
            with pytest.raises(grpc.RpcError) as caught:
                for _ in range(16):
                    user.push(other, "f", secrets.token_bytes(PIECE))
            assert raised(caught.value) == ("UNAVAILABLE", "storing blocks: the disk of the hub is full")
            before = disk.free_bytes
            # Somebody else takes what the Hub kept free, but for what a removal needs.
            taken = disk.fill(3 * MIB)
            with pytest.raises(grpc.RpcError):
                user.push(other, "small", b"x")
            for key in (public, private):
                user.ask("RemovePath", key=key, path="d/f0")
                user.ask("RemovePath", key=key, path="top")
                assert user.names(key, "d") == ["f1"]
            user.ask("Remove", key=other)
            taken.unlink()
            # By a swap the client sends the new nodes first; there is room for them as long as half of what is kept free is.
            disk.fill(20 * MIB)
            root = Cid(user.root_cid(public))
            held = {root: user.get_blocks([root])[0].data}
            tree = drive(edit_directory(root, {b"d": None}), lambda cids: {cid: held[cid] for cid in cids})
            user.put_blocks(tree.blocks)
            user.swap(public, root, tree.link.cid)
            assert "d" not in user.names(public)
        (disk.folder / "somebody else's").unlink()
        done = home.cli("hub", "gc", "--data", disk.folder, "--grace", "0s")
        assert disk.free_bytes > before + 16 * MIB, done.stdout
        with serving(home) as address, grpc.insecure_channel(address) as channel:
            user = BucketUser.with_new_thread(sign_up(Caller(channel), "bob"))
            user.push(user.create().root.key, "f", secrets.token_bytes(PIECE))
