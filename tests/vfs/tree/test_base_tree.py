"""What is known of a tree goes with the tree: a folder that changes every second does not fill the memory with what it was."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from support.memory_remote import MemoryRemote
from support.world import World

from bucketfs.types import Cid
from bucketfs.vfs import rebase_onto
from bucketfs.vfs.tree.base_tree import WINDOW_BYTES
from bucketfs.vfs.tree.tree_reader import Wanted

ROUNDS = 8


async def named_by_the_base(world: World) -> set[Cid]:
    """The root blocks of the root, a folder and a file, once all of it was looked at as `ls -l` and `cat` do."""
    base_tree, at = world.volume.tree.base_tree, world.volume.base
    found = {at}
    assert await world.read("folder/file") != await world.read("folder/still")
    for name in (b"folder", b"file"):
        at = (await base_tree.resolve(at, [name])).cid
        found.add(at)
    return found


def known(world: World, cids: set[Cid]) -> set[Cid]:
    base_tree = world.volume.tree.base_tree
    return {cid for cid in cids if base_tree.known_directory(cid) is not None or base_tree.known_info(cid) is not None}


async def test_what_the_base_names_no_longer_is_not_kept_in_memory(tmp_path: Path) -> None:
    """A mount of a folder that changes every second would need more memory with each change, until it is killed."""
    remote = MemoryRemote()
    there = await World(tmp_path / "there", remote).open()
    await there.mkdir("folder")
    await there.write("folder/file", b"at first")
    await there.write("folder/still", b"unchanged")
    await there.chmod("folder/still", 0o600)
    await there.pusher().push()
    here = await World(tmp_path / "here", remote).open()
    worlds = (there, here)
    former: set[Cid] = set()
    for number in range(ROUNDS):
        for world in worlds:
            former |= await named_by_the_base(world)
        # The one pushes, the other hears of it.
        writer, reader = worlds[number % 2], worlds[1 - number % 2]
        await writer.write("folder/file", b"change %d " % number * 1000)
        await writer.chmod("folder/file", 0o640)
        await writer.pusher().push()
        await rebase_onto(reader.volume, remote.at, {}, host="here", when="2026-11-22 083000")
        await reader.pusher().checkpoints.write()
    assert len(former) == 3 * ROUNDS
    for world in worlds:
        now = await named_by_the_base(world)
        assert len(known(world, now)) >= 2, "the folders were just looked at"
        assert known(world, former) == set()
        assert await world.read("folder/file") == b"change %d " % (ROUNDS - 1) * 1000
    # What did not change stays known.
    still = (await here.volume.tree.base_tree.resolve(here.volume.base, [b"folder", b"still"])).cid
    assert known(here, {still}) == {still}
    for world in worlds:
        world.close()


async def test_nor_is_what_was_removed(tmp_path: Path) -> None:
    """Removing a million files would not give their memory back while the mount runs."""
    remote = MemoryRemote()
    there = await World(tmp_path / "there", remote).open()
    names = [f"file {number}" for number in range(ROUNDS)]
    for name in names:
        await there.write(name, name.encode() * 1000)
        await there.chmod(name, 0o600)
    await there.pusher().push()
    here = await World(tmp_path / "here", remote).open()
    listed = {(await here.volume.tree.base_tree.resolve(here.volume.base, [name.encode()])).cid for name in names}
    for name in names:
        await here.read(name)
    assert known(here, listed) == listed
    for name in names:
        inode = await here.inode(name)
        await here.unlink(name)
        # The kernel holds on to it until now.
        here.vfs.forget([(inode, 1000)])
    assert known(here, listed) == set()
    await here.pusher().push()
    assert await here.names() == []
    for world in (there, here):
        world.close()


async def test_nor_is_the_index_of_a_large_file_as_it_was(tmp_path: Path) -> None:
    """A log that is appended to and pushed all day would keep the index of each of its former states in memory."""
    world = await World(tmp_path / "here", MemoryRemote()).open()
    base_tree = world.volume.tree.base_tree
    former: list[Cid] = []
    await world.write("log", b"0")
    # A hole has leaves as other bytes have.
    await world.truncate("log", WINDOW_BYTES + 1)
    for number in range(3):
        await world.write("log", b"%d" % number, truncate=False)
        await world.pusher().push()
        cid = (await base_tree.resolve(world.volume.base, [b"log"])).cid
        assert len(await base_tree.load(partial(base_tree.leaves, cid, 0, WINDOW_BYTES + 1))) == 175
        former.append(cid)
    world.source.forget()
    for cid in former[:-1]:
        for window in (0, 1):
            with pytest.raises(Wanted):
                base_tree.leaves(cid, window * WINDOW_BYTES, window * WINDOW_BYTES + 1)
    world.close()
