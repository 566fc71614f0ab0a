"""Trees deeper, files larger and failures more often than anybody would plan for."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterable, Sequence
from pathlib import Path

import pytest
from support.memory_remote import MemoryRemote
from support.unixfs import build_file
from support.world import ME, World

from bucketfs.client import PutResult
from bucketfs.dag import LEAF_SIZE
from bucketfs.errors import TooLarge, Unavailable
from bucketfs.types import ROOT_INODE, Cid, FileHandle, Inode, UploadId
from bucketfs.vfs import FileNode
from bucketfs.vfs.tree.file_io import SIZE_MAX

DEPTH = 1100
"""More folders in each other than Python has frames; a path of 2,200 bytes, which Linux allows."""


async def dig(world: World, depth: int = DEPTH) -> Inode:
    """So many folders, each in the one before; the inode of the last."""
    at = ROOT_INODE
    for _ in range(depth):
        at = (await world.vfs.mkdir(at, b"a", 0o755, ME)).inode
    return at


async def descend(world: World, depth: int = DEPTH) -> Inode:
    at = ROOT_INODE
    for _ in range(depth):
        at = (await world.vfs.lookup(at, b"a")).inode
    return at


async def make(world: World, folder: Inode, name: bytes, data: bytes) -> None:
    opened, _ = await world.vfs.create(folder, name, 0o644, os.O_RDWR | os.O_CREAT, ME)
    await world.vfs.files.write(opened.handle, 0, data)
    await world.vfs.files.release(opened.handle)


async def test_deep_tree_is_pushed(tmp_path: Path) -> None:
    """A path with more folders than Python has frames would end the push, and nothing would reach the Hub any
    more."""
    remote = MemoryRemote()
    here = await World(tmp_path / "here", remote).open()
    await make(here, await dig(here), b"f", b"deep down")
    assert sum(1 for _ in here.volume.tree.dirty_nodes()) == DEPTH + 2
    await here.pusher().push()
    assert not here.volume.root.dirty
    there = await World(tmp_path / "there", remote).open()
    assert (await there.vfs.lookup(await descend(there), b"f")).size_bytes == len(b"deep down")
    assert sum(1 for _ in there.volume.root.walk()) == DEPTH + 1


async def test_deep_tree_survives_a_checkpoint_and_a_kill(tmp_path: Path) -> None:
    """A very deep path would keep the journal from being written or replayed."""
    here = await World(tmp_path / "here", MemoryRemote()).open()
    await make(here, await dig(here), b"f", b"deep down")
    await here.pusher().checkpoints.write()
    here.close()
    again = await World(tmp_path / "here", here.remote).open()
    assert again.quarantined == []
    assert (await again.vfs.lookup(await descend(again), b"f")).size_bytes == len(b"deep down")


async def test_deep_tree_is_rebased(tmp_path: Path) -> None:
    """A very deep path would keep changes of other clients from being shown."""
    remote = MemoryRemote()
    here = await World(tmp_path / "here", remote).open()
    last = await dig(here, 600)
    await here.pusher().push()
    there = await World(tmp_path / "there", remote).open()
    await make(there, await descend(there, 600), b"theirs", b"theirs")
    await make(here, last, b"ours", b"ours!")
    await here.pusher().push()
    await there.pusher().push()
    await here.pusher().rebaser.follow(remote.at)
    for world in (here, there):
        at = await descend(world, 600)
        assert (await world.vfs.lookup(at, b"ours")).size_bytes == 5
        assert (await world.vfs.lookup(at, b"theirs")).size_bytes == 6


async def interrupted(world: World, handle: FileHandle, node: FileNode, times: int, line: bytes) -> None:
    """So many pushes that fail, with a line appended during each."""
    true = world.remote.put

    async def put(batches: AsyncIterable[Sequence[tuple[Cid, bytes]]], upload: UploadId) -> PutResult:
        await world.vfs.files.write(handle, node.content.size_bytes, line)
        raise Unavailable("cut off")

    world.remote.put = put  # type: ignore[method-assign]
    one = world.pusher()
    for _ in range(times):
        with pytest.raises(Unavailable):
            await one.push()
    world.remote.put = true  # type: ignore[method-assign]


async def test_layers_of_failed_pushes_do_not_pile_up(tmp_path: Path) -> None:
    """A log that is appended to while the Hub refuses pushes would be read ever slower."""
    here = await World(tmp_path / "here", MemoryRemote()).open()
    await here.write("log", b"x" * 1000)
    await here.pusher().push()
    node = here.volume.root.children[b"log"]
    assert isinstance(node, FileNode)
    handle = (await here.vfs.open(node.inode, os.O_RDWR, ME)).handle
    await here.vfs.files.write(handle, 10, b"first")
    await interrupted(here, handle, node, 40, b"line\n")
    await here.truncate("log", 1100)  # a cut in the topmost layer: what lay above it must not come back
    await interrupted(here, handle, node, 40, b"more\n")
    assert len(node.content.layers) <= 18
    body = b"x" * 10 + b"first" + b"x" * 985 + b"line\n" * 20 + b"more\n" * 40
    assert await here.read("log") == body
    await here.vfs.files.flush(handle)
    here.close()  # without a checkpoint: the records still name the drafts that were copied away

    again = await World(tmp_path / "here", here.remote).open()
    assert await again.read("log") == body
    await again.write("log", b"last", 0, truncate=False)
    await again.pusher().checkpoints.write()
    again.close()

    last = await World(tmp_path / "here", here.remote).open()
    assert await last.read("log") == b"last" + body[4:]
    await last.pusher().push()
    there = await World(tmp_path / "there", here.remote).open()
    assert await there.read("log") == b"last" + body[4:]


async def test_sparse_file_of_the_greatest_size_is_pushed_in_no_time(tmp_path: Path) -> None:
    """A sparse file of terabytes would keep the push busy for days."""
    here = await World(tmp_path / "here", MemoryRemote()).open()
    await here.write("disk.img", b"x")
    with pytest.raises(TooLarge):
        await here.truncate("disk.img", 1 << 50)
    await here.truncate("disk.img", SIZE_MAX)
    with pytest.raises(TooLarge):
        await here.write("disk.img", b"x", SIZE_MAX, truncate=False)
    with pytest.raises(TooLarge):  # the next to open it is told of the write that was lost
        await here.read("disk.img")
    await here.write("disk.img", b"middle", 5 << 40, truncate=False)
    begin_s = time.thread_time()
    await here.pusher().push()
    assert time.thread_time() - begin_s < 5  # measured: 0.04 s
    there = await World(tmp_path / "there", here.remote).open()
    inode = await there.inode("disk.img")
    assert (await there.vfs.getattr(inode)).size_bytes == SIZE_MAX
    handle = (await there.vfs.open(inode, os.O_RDWR, ME)).handle
    for offset, data in ((0, b"x\0"), (5 << 40, b"middle\0"), (SIZE_MAX - 2, b"\0\0")):
        assert await there.vfs.files.read(handle, offset, len(data)) == data


@pytest.mark.parametrize("leaves", [2, 174, 175, 348, 400])
async def test_large_files_are_built_as_from_their_bytes(tmp_path: Path, leaves: int) -> None:
    """Runs of holes and of kept leaves, and what is written into them, give the tree that all the bytes at once give."""
    here = await World(tmp_path / "here", MemoryRemote()).open()
    size = leaves * LEAF_SIZE - 7
    bytes_now = bytearray(size)
    await here.write("f", b"")
    await here.truncate("f", size)
    for places in ((), (0, size - 3), (LEAF_SIZE - 1, size // 2), (LEAF_SIZE,)):
        for place in places:
            await here.write("f", b"abc", place, truncate=False)
            bytes_now[place : place + 3] = b"abc"
        await here.pusher().push()
        link = await here.volume.tree.base_tree.resolve(here.remote.at, [b"f"])
        attributes = here.volume.root.children[b"f"].attributes
        assert link == build_file(bytes(bytes_now), attributes).link
