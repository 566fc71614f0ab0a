"""What another client pushed meets what was changed here: nothing that was acknowledged is lost."""

import os
import socket
from pathlib import Path

import pytest
from support.memory_remote import MemoryRemote, lose_the_answer, nothing
from support.world import ME, World

from bucketfs.errors import Unavailable
from bucketfs.sync import Pusher
from bucketfs.types import ROOT_INODE, FileHandle, Kind
from bucketfs.vfs import BatchLimits, SetAttr

HOUR_NS = 3600 * 10**9


async def push(world: World) -> None:
    await world.pusher().push()


async def test_a_file_renamed_during_a_push_that_meets_its_own_lost_answer_stays(tmp_path: Path) -> None:
    """A lost answer of the Hub does not undo a rename."""
    remote = MemoryRemote()
    other = await World(tmp_path / "other", remote).open()
    world = await World(tmp_path / "world", remote).open()
    await world.mkdir("d")
    await world.mkdir("d/e")
    await world.write("d/e/f", b"precious")

    async def renamed_meanwhile() -> None:
        remote.before_swap = nothing
        await world.rename("d/e/f", "d/e/g")

    remote.after_swap = lose_the_answer
    with pytest.raises(Unavailable):
        await push(world)
    remote.after_swap = nothing
    await other.pusher().rebaser.follow(remote.at)
    await other.write("another", b"o")
    await push(other)
    remote.before_swap = renamed_meanwhile
    await push(world)
    wanted = {"another": b"o", "d": None, "d/e": None, "d/e/g": b"precious"}
    assert await world.tree() == wanted
    await other.pusher().rebaser.follow(remote.at)
    assert await other.tree() == wanted
    for one in (world, other):
        one.close()


async def test_a_chmod_of_a_folder_elsewhere_is_not_undone_by_a_file_made_in_it_here(tmp_path: Path) -> None:
    """A file made here does not undo a chmod of its folder."""
    remote = MemoryRemote()
    other = await World(tmp_path / "other", remote).open()
    for name in ("theirs", "ours"):
        await other.mkdir(name)
        await other.write(f"{name}/x", b"x")
    await push(other)
    world = await World(tmp_path / "world", remote).open()
    world.clock.at_ns += HOUR_NS  # of two who changed one field, the later one counts
    await world.write("theirs/mine", b"m")
    await world.write("ours/mine", b"m")
    await world.chmod("ours", 0o750)
    await other.chmod("theirs", 0o700)
    await other.chmod("ours", 0o700)
    await push(other)
    await push(world)
    await other.pusher().rebaser.follow(remote.at)
    for one in (world, other):
        modes = {path: value[1] for path, value in (await one.stat_tree()).items()}
        assert (modes["theirs"], modes["ours"]) == (0o700, 0o750)
        one.close()


# A file that is open for writing when the Hub's side changes or removes it


async def two(folder: Path) -> tuple[World, World]:
    """Two mounts of a bucket with ``log`` and ``d/e/deep``, both of them known to the second one's kernel."""
    remote = MemoryRemote()
    other = await World(folder / "other", remote).open()
    await other.mkdir("d")
    await other.mkdir("d/e")
    await other.write("d/e/deep", b"deep\n")
    await other.write("d/e/beside", b"beside\n")
    await other.write("log", b"base\n")
    await push(other)
    return other, await World(folder / "world", remote).open()


async def opened(world: World, path: str, flags: int = os.O_RDWR) -> FileHandle:
    return (await world.vfs.open(await world.inode(path), flags, ME)).handle


async def closed(world: World, handle: FileHandle) -> None:
    await world.vfs.files.flush(handle)
    await world.vfs.files.release(handle)


def copies_in(tree: dict[str, object]) -> dict[str, object]:
    return {path: value for path, value in tree.items() if f"(conflict {socket.gethostname()[:64]} " in path}


async def follow_from(world: World, other: World) -> None:
    await push(other)
    await world.pusher().rebaser.follow(world.remote.at)


async def test_what_is_written_to_an_open_file_after_the_hub_changed_it_becomes_a_conflict_copy(tmp_path: Path) -> None:
    """A program that holds a file open does not overwrite what another client wrote."""
    other, world = await two(tmp_path)
    handle = await opened(world, "log")
    await other.write("log", b"remote\n")
    await follow_from(world, other)
    assert copies_in(await world.tree()) == {}
    assert await world.vfs.files.read(handle, 0, 100) == b"base\n"
    await world.vfs.files.write(handle, 5, b"mine\n")
    await world.vfs.files.fsync(handle, False)
    world.close()
    # It was acknowledged, so it outlives a kill.
    world = await World(tmp_path / "world", world.remote).open()
    assert world.quarantined == []
    tree = await world.tree()
    assert list(copies_in(tree).values()) == [b"base\nmine\n"] and tree["log"] == b"remote\n"
    await push(world)
    await other.pusher().rebaser.follow(world.remote.at)
    assert await other.tree() == tree
    for one in (world, other):
        one.close()


async def test_the_copy_is_counted_once_it_is_written_and_keeps_its_inode(tmp_path: Path) -> None:
    """A program sees the file it has open stay the same file."""
    other, world = await two(tmp_path)
    inode = await world.inode("log")
    handle = await opened(world, "log")
    await other.write("log", b"remote\n")
    await follow_from(world, other)
    await world.vfs.files.write(handle, 0, b"1")
    await world.vfs.files.write(handle, 1, b"2")
    done = await world.pusher().push()
    (copy,) = copies_in(await world.tree())
    assert done is not None and [conflict.copy for conflict in world.volume.pending.conflicts] == [copy]
    assert await world.inode(copy) == inode != await world.inode("log")
    await world.vfs.files.write(handle, 2, b"3")
    await closed(world, handle)
    again = await world.pusher().push()
    assert again is not None and len(world.volume.pending.conflicts) == 1
    assert await world.read(copy) == b"123e\n"
    for one in (world, other):
        one.close()


async def test_a_new_file_that_is_still_empty_when_the_hub_has_one_of_its_name_is_kept(tmp_path: Path) -> None:
    """A file that was just created is not taken from its program."""
    other, world = await two(tmp_path)
    new, _ = await world.vfs.create(ROOT_INODE, b"f", 0o640, os.O_RDWR | os.O_CREAT, ME)
    await other.write("f", b"remote\n")
    await push(other)
    await push(world)
    await world.vfs.files.write(new.handle, 0, b"mine")
    await closed(world, new.handle)
    await push(world)
    tree = await world.tree()
    assert list(copies_in(tree).values()) == [b"mine"] and tree["f"] == b"remote\n"
    for one in (world, other):
        one.close()


async def test_what_is_written_to_an_open_file_that_the_hub_removed_brings_it_back(tmp_path: Path) -> None:
    """A write to an open file survives its removal elsewhere."""
    other, world = await two(tmp_path)
    handle = await opened(world, "log")
    await other.unlink("log")
    await follow_from(world, other)
    assert "log" not in await world.names()
    await world.vfs.files.write(handle, 5, b"mine\n")
    await closed(world, handle)
    await push(world)
    await other.pusher().rebaser.follow(world.remote.at)
    assert await other.read("log") == b"base\nmine\n"
    for one in (world, other):
        one.close()


async def test_an_open_file_that_is_closed_unwritten_leaves_nothing(tmp_path: Path) -> None:
    """A reader does not bring a removed file back."""
    other, world = await two(tmp_path)
    handle = await opened(world, "log")
    inode = await world.inode("log")
    await other.write("log", b"remote\n")
    await follow_from(world, other)
    await world.vfs.files.write(handle, 0, b"")
    await closed(world, handle)
    world.vfs.forget([(inode, 10)])
    assert inode not in world.vfs.registry and world.volume.tree.evicted == {}
    assert not world.volume.root.dirty
    assert await world.tree() == await other.tree()
    for one in (world, other):
        one.close()


async def test_a_cut_counts_as_a_write(tmp_path: Path) -> None:
    """A truncation is an edit: it is not lost to a removal elsewhere."""
    other, world = await two(tmp_path)
    inode = await world.inode("log")
    handle = await opened(world, "log")
    await other.write("log", b"remote\n")
    await follow_from(world, other)
    await world.vfs.setattr(inode, SetAttr(size_bytes=2), handle, ME)
    await closed(world, handle)
    await push(world)
    assert list(copies_in(await world.tree()).values()) == [b"ba"]
    for one in (world, other):
        one.close()


@pytest.mark.parametrize("at_once", [True, False])
async def test_an_open_file_below_a_removed_folder_brings_back_the_folders_and_no_more(
    tmp_path: Path, at_once: bool
) -> None:
    """Whether the file goes with its folder or before it."""
    other, world = await two(tmp_path)
    handle = await opened(world, "d/e/deep")
    await world.inode("d/e/beside")
    await other.unlink("d/e/deep")
    if not at_once:
        await follow_from(world, other)
    await other.unlink("d/e/beside")
    await other.rmdir("d/e")
    await other.rmdir("d")
    await follow_from(world, other)
    assert await world.names() == ["log"]
    await world.vfs.files.write(handle, 0, b"D")
    await closed(world, handle)
    await push(world)
    await other.pusher().rebaser.follow(world.remote.at)
    assert await other.tree() == {"d": None, "d/e": None, "d/e/deep": b"Deep\n", "log": b"base\n"}
    world.vfs.forget([(inode, 100) for inode in list(world.vfs.registry) if inode != ROOT_INODE])
    assert world.volume.tree.evicted == {}
    for one in (world, other):
        one.close()


async def test_an_open_file_comes_home_to_the_folder_that_has_the_name_now(tmp_path: Path) -> None:
    """What is written to an open file is found under the path that it had."""
    other, world = await two(tmp_path)
    handle = await opened(world, "d/e/deep")
    for name in ("deep", "beside"):
        await other.unlink(f"d/e/{name}")
    await other.rmdir("d/e")
    await other.rmdir("d")
    await follow_from(world, other)
    await world.mkdir("d")
    await world.write("d/e", b"no folder any more")
    await world.vfs.files.write(handle, 0, b"D")
    await closed(world, handle)
    await push(world)
    tree = await world.tree()
    found = copies_in(tree)
    assert sorted(found.values(), key=repr) == sorted([None, b"Deep\n"], key=repr) and tree["d/e"] == b"no folder any more"
    assert (await world.vfs.getattr(await world.inode(min(found)))).kind is Kind.DIRECTORY
    for one in (world, other):
        one.close()


# Equal bytes


@pytest.mark.parametrize("nodes", [1 << 30, 4], ids=["whole", "in batches"])
async def test_equal_bytes_with_other_times_and_modes_are_one_file(tmp_path: Path, nodes: int) -> None:
    """Two machines are given the same tree by a copy that keeps no times."""
    remote = MemoryRemote()
    one, two = [await World(tmp_path / name, remote).open() for name in ("one", "two")]
    two.clock.at_ns += HOUR_NS
    for world, mode in ((one, 0o644), (two, 0o600)):
        await world.mkdir("d")
        for number in range(20):
            await world.write(f"d/f{number}", b"same %d" % number * (1 + number * 5000))
            await world.chmod(f"d/f{number}", mode)
        await world.symlink("d/link", "target")
    for world in (one, two):
        pusher = Pusher(
            world.volume,
            world.remote,
            world.source,
            world.told.append,
            limits=BatchLimits(nodes, 1 << 50),
        )
        done = await pusher.push()
        assert done is not None
        assert done.conflicts == []
    tree = await two.stat_tree()
    assert len(tree) == 22
    # The later one's times and modes count, for both made all of it.
    assert all(mode == 0o600 for path, (_, mode, _) in tree.items() if path.startswith("d/f"))
    await one.pusher().rebaser.follow(remote.at)
    assert await one.stat_tree() == tree
    for world in (one, two):
        world.close()
