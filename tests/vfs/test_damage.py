"""A Hub that lost blocks, or has wrong ones: what is damaged says so, and nothing else is the worse for it."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing
from world import ME, MemoryRemote, World

from bucketfs.dag import cid_of, drive, edit_directory
from bucketfs.errors import Corrupt
from bucketfs.sync import Pace, Pusher, Syncer
from bucketfs.types import Cid, Link
from bucketfs.vfs.tree.base_tree import DAMAGED_S

BIG = 300_000


def pusher(world: World) -> Pusher:
    return Pusher(world.volume, world.remote, world.source, world.told.append)  # type: ignore[arg-type]


async def bucket(tmp_path: Path) -> tuple[World, Cid, bytes]:
    """A mount with nothing cached of a bucket of d/a, d/b, d/c; the root block of d/b is lost, and here it is."""
    remote = MemoryRemote()
    maker = await World(tmp_path / "maker", remote).open()
    await maker.mkdir("d")
    for name in "abc":
        await maker.write(f"d/{name}", name.encode() * BIG)
    await pusher(maker).push()
    cid = (await maker.volume.base_tree.resolve(remote.at, [b"d", b"b"])).cid
    maker.close()
    here = await World(tmp_path / "here", remote).open()
    return here, cid, remote.store.pop(cid)


async def test_damaged_root_block_is_listed_and_cannot_be_read(tmp_path: Path) -> None:
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
    here, _, _ = await bucket(tmp_path)
    await here.rename("d/b", "moved")
    assert await here.names() == ["d", "moved"]
    await here.write("moved", b"anew")
    here.close()
    here = await World(tmp_path / "here", here.remote).open()
    assert here.complaints == []
    assert await here.read("moved") == b"anew"
    await here.unlink("moved")
    await pusher(here).push()
    there = await World(tmp_path / "there", here.remote).open()
    assert sorted(await there.tree()) == ["d", "d/a", "d/c"]


async def test_damaged_root_block_that_comes_back_is_shown_again(tmp_path: Path) -> None:
    here, cid, block = await bucket(tmp_path)
    damaged = (await here.vfs.lookup(await here.inode("d"), b"b")).inode
    here.remote.store[cid] = block
    here.monotonic_s += DAMAGED_S
    assert await here.read("d/b") == b"b" * BIG
    assert await here.inode("d/b") != damaged
    with pytest.raises(Corrupt):
        old = await here.vfs.open(damaged, os.O_RDONLY, ME)
        await here.vfs.read(old.handle, 0, 10)


async def test_replay_with_a_lost_base_block_keeps_what_it_cannot_do(tmp_path: Path) -> None:
    here, cid, block = await bucket(tmp_path)
    remote = here.remote
    remote.store[cid] = block
    await here.chmod("d/b", 0o600)
    await here.write("d/b", b"ours", 5, truncate=False)
    await here.write("mine", b"mine")
    here.close()
    del remote.store[cid]

    broken = await World(tmp_path / "here", remote).open()
    assert [line.split(":")[0] for line in broken.complaints] == [
        "SetAttributes 'd/b' waits for the Hub to have its blocks again",
        "SetContent 'd/b' waits for the Hub to have its blocks again",
    ]
    assert await broken.read("mine") == b"mine"
    assert await broken.names("d") == ["a", "b", "c"]
    await broken.write("d/new", b"new")
    await pusher(broken).checkpoint()
    broken.close()

    remote.store[cid] = block
    again = await World(tmp_path / "here", remote).open()
    assert again.complaints == []
    assert await again.read("d/b") == b"b" * 5 + b"ours" + b"b" * (BIG - 9)
    assert (await again.vfs.getattr(await again.inode("d/b"))).mode == 0o600
    assert await again.read("d/new") == b"new"


async def stuck(tmp_path: Path) -> tuple[World, Cid, bytes]:
    """A mount that came up while the root block of d/b was lost, with an edit and a chmod of d/b in its journal."""
    here, cid, block = await bucket(tmp_path)
    here.remote.store[cid] = block
    await here.write("d/b", b"ours", 5, truncate=False)
    await here.chmod("d/b", 0o600)
    here.close()
    del here.remote.store[cid]
    broken = await World(tmp_path / "here", here.remote).open()
    assert len(broken.volume.stuck) == 2
    return broken, cid, block


def heal(world: World, cid: Cid, block: bytes) -> None:
    world.remote.store[cid] = block
    world.monotonic_s += DAMAGED_S


@asynccontextmanager
async def synced(world: World) -> AsyncGenerator[Syncer, None]:
    syncer = Syncer(world.volume, world.remote, world.source, pusher(world), Pace(1e9, 1e9))  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(syncer.run)
        yield syncer
        nursery.cancel_scope.cancel()


async def test_what_is_stuck_is_done_and_pushed_when_the_hub_has_the_block_again(tmp_path: Path) -> None:
    here, cid, block = await stuck(tmp_path)
    async with synced(here) as syncer:
        await syncer.settle()
        assert len(here.volume.stuck) == 2
        heal(here, cid, block)
        await syncer.settle()
    assert here.volume.stuck == [] and not here.volume.root.dirty
    here.close()
    there = await World(tmp_path / "there", here.remote).open()
    assert await there.read("d/b") == b"b" * 5 + b"ours" + b"b" * (BIG - 9)
    assert (await there.vfs.getattr(await there.inode("d/b"))).mode == 0o600
    there.close()


async def test_what_is_stuck_is_tried_every_hour(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    here, cid, block = await stuck(tmp_path)
    async with synced(here):
        await trio.sleep(1800)
        heal(here, cid, block)
        assert here.volume.stuck
        await trio.sleep(1801)
        assert not here.volume.stuck
    assert await here.read("d/b") == b"b" * 5 + b"ours" + b"b" * (BIG - 9)
    here.close()


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("act", ["unlink", "anew", "rename over", "rename", "rename the folder"])
async def test_what_a_program_does_meanwhile_is_never_mixed_up_with_what_is_stuck(
    tmp_path: Path, act: str, restart: bool
) -> None:
    here, cid, block = await stuck(tmp_path)
    ours = b"b" * 5 + b"ours" + b"b" * (BIG - 9)
    with pytest.raises(Corrupt):
        await here.write("d/b", b"x", 5, truncate=False)
    names, place, expected = ["a", "b", "c"], "d/b", b"anew"
    if act == "unlink":
        await here.unlink("d/b")
        await here.write("d/b", b"anew")
    elif act == "anew":
        await here.write("d/b", b"anew")
    elif act == "rename over":
        await here.write("d/new", b"anew")
        await here.rename("d/new", "d/b")
    elif act == "rename":
        await here.rename("d/b", "d/moved")
        names, place, expected = ["a", "c", "moved"], "d/moved", ours
    else:
        await here.rename("d", "e")
        place, expected = "e/b", ours
    if restart:
        here.close()
        here = await World(tmp_path / "here", here.remote).open()
        assert (await here.read(place) if expected != ours else expected) == expected
    heal(here, cid, block)
    await pusher(here).retry()
    assert here.volume.stuck == []
    assert await here.names(place.split("/")[0]) == names
    assert await here.read(place) == expected
    await pusher(here).push()
    there = await World(tmp_path / "there", here.remote).open()
    assert await there.read(place) == expected
    there.close()
    here.close()


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("act", ["written anew", "removed", "folder removed", "another file"])
async def test_what_is_stuck_is_never_mixed_up_with_what_another_client_does(
    tmp_path: Path, act: str, restart: bool
) -> None:
    """Neither lost: the edit waits for the bytes that it was made to, beside what is there now or where they were."""
    here, cid, block = await stuck(tmp_path)
    ours = b"b" * 5 + b"ours" + b"b" * (BIG - 9)
    here.remote.store[cid] = block
    there = await World(tmp_path / "there", here.remote).open()
    expected = {"d/a": b"a" * BIG, "d/b": b"theirs" * 1000, "d/c": b"c" * BIG}
    if act == "written anew":
        await there.write("d/b", expected["d/b"])
    elif act == "another file":
        await there.write("d/c", b"changed")
        expected |= {"d/b": ours, "d/c": b"changed"}
    else:
        for name in "abc" if act == "folder removed" else "b":
            await there.unlink(f"d/{name}")
        expected["d/b"] = ours
        if act == "folder removed":
            await there.rmdir("d")
            expected = {"b": ours}
    await pusher(there).push()
    there.close()
    del here.remote.store[cid]
    await pusher(here).follow(here.remote.at)
    if restart:
        here.close()
        here = await World(tmp_path / "here", here.remote).open()
        assert here.volume.stuck
    heal(here, cid, block)
    await pusher(here).retry()
    assert here.volume.stuck == []
    copies = {conflict.copy: conflict.original for conflict in here.volume.conflicts}
    assert list(copies.values()) == (["d/b"] if act == "written anew" else [])
    expected |= dict.fromkeys(copies, ours)
    await pusher(here).push()
    here.close()
    fresh = await World(tmp_path / "fresh", here.remote).open()
    assert {path: content for path, content in (await fresh.tree()).items() if content is not None} == expected
    fresh.close()


async def test_a_healed_file_is_not_written_to_before_what_is_stuck_is_in_it(tmp_path: Path) -> None:
    here, cid, block = await stuck(tmp_path)
    heal(here, cid, block)
    with pytest.raises(Corrupt, match="wait for blocks that the Hub has lost"):
        await here.write("d/b", b"x", 5, truncate=False)
    with pytest.raises(Corrupt):
        await here.truncate("d/b", 3)
    await pusher(here).retry()
    with pytest.raises(Corrupt):  # the next to open it is told of the write that was lost
        await here.read("d/b")
    await here.write("d/b", b"x", 5, truncate=False)
    assert (await here.read("d/b"))[:10] == b"b" * 5 + b"xurs" + b"b"
    here.close()


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
    await pusher(here).push()
    folder = await here.volume.base_tree.resolve(remote.at, [b"d"])
    remote.store[cid] = block
    inner = drive(edit_directory(folder.cid, {b"odd": Link(cid, len(block))}), remote._get)
    remote.store.update(inner.blocks)
    outer = drive(edit_directory(remote.at, {b"d": inner.link, b"file": Link(cid, len(block))}), remote._get)
    remote.store.update(outer.blocks)
    remote.at = outer.link.cid
    await here.write("file", b"ours")
    await pusher(here).push()
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
    await pusher(here).push()
    remote = here.remote
    there = await World(tmp_path / "there", remote).open()
    await here.write("file", b"ours")
    await there.rename("file", "moved")
    await there.write("d/new", b"new")
    await pusher(there).push()
    lost = (await there.volume.base_tree.resolve(remote.at, [b"d"])).cid
    there.close()
    here.source.forget()
    del remote.store[lost]
    await pusher(here).follow(remote.at)
    assert await here.names() == ["d", "file", "moved"]
    assert (await here.read("file"), await here.read("moved")) == (b"ours", b"old")
    here.close()
