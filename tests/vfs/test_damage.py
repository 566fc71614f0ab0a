"""A Hub that lost blocks, or has wrong ones: what is damaged says so, and nothing else is the worse for it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.memory_remote import MemoryRemote
from support.world import ME, World

from bucketfs.dag import cid_of, drive, edit_directory
from bucketfs.errors import BucketfsError, Corrupt
from bucketfs.types import Cid, Link
from bucketfs.vfs.tree.base_tree import DAMAGED_S

BIG = 300_000


async def bucket(tmp_path: Path) -> tuple[World, Cid, bytes]:
    """A mount with nothing cached of a bucket of d/a, d/b, d/c; the root block of d/b is lost, and here it is."""
    remote = MemoryRemote()
    maker = await World(tmp_path / "maker", remote).open()
    await maker.mkdir("d")
    for name in "abc":
        await maker.write(f"d/{name}", name.encode() * BIG)
    await maker.pusher().push()
    cid = (await maker.volume.tree.base_tree.resolve(remote.at, [b"d", b"b"])).cid
    maker.close()
    here = await World(tmp_path / "here", remote).open()
    return here, cid, remote.store.pop(cid)


async def test_damaged_root_block_is_listed_and_cannot_be_read(tmp_path: Path) -> None:
    """The folder can be used, and the file is an I/O error instead of wrong bytes."""
    here, _, _ = await bucket(tmp_path)
    assert await here.names("d") == ["a", "b", "c"]
    assert await here.read("d/a") == b"a" * BIG
    with pytest.raises(Corrupt):
        await here.read("d/b")
    with pytest.raises(Corrupt):
        await here.write("d/b", b"x", 5, truncate=False)
    with pytest.raises(Corrupt):
        await here.chmod("d/b", 0o600)
    assert not here.volume.root.dirty


async def test_damaged_root_block_can_be_unlinked_moved_and_written_anew(tmp_path: Path) -> None:
    """The user can get rid of the damage, or put a good file in its place."""
    here, _, _ = await bucket(tmp_path)
    await here.rename("d/b", "moved")
    assert await here.names() == ["d", "moved"]
    await here.write("moved", b"anew")
    here.close()
    here = await World(tmp_path / "here", here.remote).open()
    assert here.quarantined == []
    assert await here.read("moved") == b"anew"
    await here.unlink("moved")
    await here.pusher().push()
    there = await World(tmp_path / "there", here.remote).open()
    assert sorted(await there.tree()) == ["d", "d/a", "d/c"]


async def test_damaged_root_block_that_comes_back_is_shown_again(tmp_path: Path) -> None:
    """A Hub that was mended needs no remount."""
    here, cid, block = await bucket(tmp_path)
    damaged = (await here.vfs.lookup(await here.inode("d"), b"b")).inode
    here.remote.store[cid] = block
    here.monotonic_s += DAMAGED_S
    assert await here.read("d/b") == b"b" * BIG
    assert await here.inode("d/b") != damaged
    with pytest.raises(Corrupt):
        old = await here.vfs.open(damaged, os.O_RDONLY, ME)
        await here.vfs.files.read(old.handle, 0, 10)


@pytest.mark.parametrize(
    "cid, block",
    [
        (Cid(b"\x01\x70\x00\x02\xff\xff"), b""),
        (Cid(b"\x01\x71\x00\x01\xa0"), b""),
        (cid_of(b"\xff\xfe", 0x70), b"\xff\xfe"),
        (cid_of(b"\xa0", 0x71), b"\xa0"),
    ],
    ids=["inline and no node", "inline and of another codec", "no node", "of another codec"],
)
async def test_a_link_to_what_is_no_file_is_listed_and_keeps_nothing_else_from_being_seen(
    tmp_path: Path, cid: Cid, block: bytes
) -> None:
    """Its block is right, so it comes and is kept: only what it says is nothing that a tree can hold."""
    here = await World(tmp_path / "here", remote := MemoryRemote()).open()
    await here.write("file", b"old")
    await here.mkdir("d")
    await here.write("d/file", b"d")
    await here.pusher().push()
    folder = await here.volume.tree.base_tree.resolve(remote.at, [b"d"])
    remote.store[cid] = block
    inner = drive(edit_directory(folder.cid, {b"odd": Link(cid, len(block))}), remote._get)
    remote.store.update(inner.blocks)
    outer = drive(edit_directory(remote.at, {b"d": inner.link, b"file": Link(cid, len(block))}), remote._get)
    remote.store.update(outer.blocks)
    remote.at = outer.link.cid
    await here.write("file", b"ours")
    await here.pusher().push()
    assert await here.names("d") == ["file", "odd"]
    names = await here.names()
    assert names[:2] == ["d", "file"]
    assert await here.read(names[2]) == b"ours"
    for path in ("d/odd", "file"):
        with pytest.raises(Corrupt):
            await here.read(path)
        await here.unlink(path)
    here.close()


async def test_a_folder_that_is_lost_keeps_no_rename_from_being_dealt_with(tmp_path: Path) -> None:
    """To find where something went, trees are compared as a whole; when they cannot be, both names are kept."""
    here, _, _ = await bucket(tmp_path)
    await here.write("file", b"old")
    await here.pusher().push()
    remote = here.remote
    there = await World(tmp_path / "there", remote).open()
    await here.write("file", b"ours")
    await there.rename("file", "moved")
    await there.write("d/new", b"new")
    await there.pusher().push()
    lost = (await there.volume.tree.base_tree.resolve(remote.at, [b"d"])).cid
    there.close()
    here.source.forget()
    del remote.store[lost]
    await here.pusher().rebaser.follow(remote.at)
    assert await here.names() == ["d", "file", "moved"]
    assert (await here.read("file"), await here.read("moved")) == (b"ours", b"old")
    here.close()


async def test_a_write_to_an_open_file_whose_folder_is_lost_gets_an_error_or_goes_on(tmp_path: Path) -> None:
    """What a program writes must end in an error that it can read, not in a fault of the mount."""
    here, _, block = await bucket(tmp_path)
    cid = (await here.volume.tree.base_tree.resolve(here.remote.at, [b"d"])).cid
    here.remote.store[cid_of(block, 0x70)] = block
    opened = await here.vfs.open(await here.inode("d/b"), os.O_RDWR, ME)
    del here.remote.store[cid]
    here.source.forget()
    here.volume.tree.base_tree = type(here.volume.tree.base_tree)(here.source)
    try:
        await here.vfs.files.write(opened.handle, 5, b"x")
        await here.vfs.files.flush(opened.handle)
    except BucketfsError as error:
        assert isinstance(error, Corrupt)
    await here.vfs.files.release(opened.handle)
