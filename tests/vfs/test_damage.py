"""A Hub that lost blocks, or has wrong ones: what is damaged says so, and nothing else is the worse for it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from world import ME, MemoryRemote, World

from bucketfs.errors import Corrupt
from bucketfs.sync import Pusher
from bucketfs.types import Cid
from bucketfs.vfs import lens as lens_module

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
    cid = (await maker.volume.lens.resolve(remote.at, [b"d", b"b"])).cid
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


async def test_damaged_root_block_that_comes_back_is_shown_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lens_module, "DAMAGED_S", 0.2)
    here, cid, block = await bucket(tmp_path)
    damaged = (await here.vfs.lookup(await here.inode("d"), b"b")).inode
    here.remote.store[cid] = block
    lens = here.volume.lens
    lens._damaged.clear()  # the time is over
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
    assert [line.split(":")[0] for line in broken.complaints] == ["SetAttributes 'd/b' waits for the next start"]
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
