"""A bucket that somebody else pushes to again and again: a push that lost the swap is quicker the next time, and whoever comes by a
name in the moment that it is rebased loses nothing."""

import os
import random
from pathlib import Path

import pytest
from support.memory_remote import MemoryRemote, nothing
from support.world import ME, World

from bucketfs.errors import Stale
from bucketfs.vfs import SetAttr

SIZE = 1_000_000


async def test_a_push_that_lost_the_swap_builds_only_what_changed_since(tmp_path: Path) -> None:
    """A busy bucket would never take a large push, because each lost swap would begin it from nothing."""
    remote = MemoryRemote()
    other = await World(tmp_path / "other", remote).open()
    world = await World(tmp_path / "world", remote).open()
    bodies = {name: random.Random(number).randbytes(SIZE) for number, name in enumerate("abcd")}
    for name, body in bodies.items():
        await world.write(name, body)
    lost = 0

    async def late() -> None:
        """The other one is quicker, three times; meanwhile one of the files here is written to and another's mode is changed."""
        nonlocal lost
        if lost < 3:
            lost += 1
            remote.before_swap = nothing
            await other.pusher().rebaser.follow(remote.at)
            await other.write(f"theirs {lost}", b"x")
            await other.pusher().push()
            remote.before_swap = late
            if lost == 2:
                bodies["a"] = b"changed" + bodies["a"][7:]
                await world.write("a", b"changed", truncate=False)
                await world.chmod("b", 0o600)

    remote.before_swap = late
    pusher = world.pusher()
    done = await pusher.push()
    assert done is not None and lost == 3 and done.conflicts == []
    # Four files, then the two that changed, and folders.
    assert 6 * SIZE < pusher.total.bytes_made < 6.1 * SIZE
    wanted = bodies | {f"theirs {number}": b"x" for number in (1, 2, 3)}
    assert await world.tree() == wanted
    await other.pusher().rebaser.follow(remote.at)
    assert await other.tree() == wanted
    for one in (world, other):
        one.close()


async def test_a_name_that_was_just_replaced_is_not_opened_for_writing(tmp_path: Path) -> None:
    """The kernel has not heard of the rebase yet and opens what the name was. What is written to that would be lost."""
    remote = MemoryRemote()
    other = await World(tmp_path / "other", remote).open()
    await other.mkdir("d")
    for name in ("log", "removed", "d/below"):
        await other.write(name, b"base")
    await other.pusher().push()
    world = await World(tmp_path / "world", remote).open()
    names = ("log", "removed", "d", "d/below")
    inodes = {name: await world.inode(name) for name in names}
    held = (await world.vfs.open(inodes["d/below"], os.O_RDONLY, ME)).handle
    await other.write("log", b"theirs")
    await other.unlink("removed")
    await other.unlink("d/below")
    await other.rmdir("d")
    await other.pusher().push()
    await world.pusher().rebaser.follow(remote.at)
    for name in ("log", "removed", "d/below"):
        for flags in (os.O_RDWR, os.O_WRONLY, os.O_RDONLY | os.O_TRUNC):
            with pytest.raises(Stale):
                await world.vfs.open(inodes[name], flags, ME)
        # Nothing is lost by looking, and the next look finds the new.
        handle = (await world.vfs.open(inodes[name], os.O_RDONLY, ME)).handle
        assert await world.vfs.files.read(handle, 0, 100) == b"base"
        await world.vfs.files.release(handle)
    for name in ("log", "removed", "d"):
        with pytest.raises(Stale):
            await world.vfs.setattr(inodes[name], SetAttr(mode=0o600), None, ME)
    with pytest.raises(Stale):
        await world.vfs.setattr(inodes["log"], SetAttr(size_bytes=0), None, ME)
    # Whoever has it open may do to it what can be done to any file that was unlinked.
    await world.vfs.setattr(inodes["d/below"], SetAttr(mode=0o600), None, ME)
    await world.vfs.files.release(held)
    assert await world.tree() == {"log": b"theirs"}
    handle = (await world.vfs.open(await world.inode("log"), os.O_RDWR, ME)).handle
    await world.vfs.files.write(handle, 0, b"ours")
    await world.vfs.files.release(handle)
    assert await world.read("log") == b"oursrs"
    for one in (world, other):
        one.close()
