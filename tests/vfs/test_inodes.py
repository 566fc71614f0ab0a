"""Inode numbers over a kill: one number stands for one thing, whatever of the table had been written."""

import shutil
from pathlib import Path

from world import MemoryRemote, World

from bucketfs.sync import Pusher
from bucketfs.types import ROOT_INODE, Inode
from bucketfs.vfs import InodeNumbers


async def pushed_files(folder: Path, remote: MemoryRemote, names: list[str]) -> None:
    world = await World(folder, remote).open()
    for name in names:
        await world.write(name, name.encode())
    assert await Pusher(world.volume, remote, world.source, world.told.append).push() is not None  # type: ignore[arg-type]
    world.close()


async def killed(world: World, folder: Path) -> World:
    """The mount that comes up after a kill: what it finds on the disk is what is there now."""
    shutil.copytree(world.folder, folder)
    again = World(folder, world.remote)
    await again.open()
    world.close()
    assert again.complaints == []
    return again


async def assert_every_number_is_one_thing(world: World, names: list[str]) -> None:
    numbers = [await world.inode(name) for name in names]
    assert len(set(numbers)) == len(numbers)
    assert ROOT_INODE not in numbers
    for name, number in zip(names, numbers, strict=True):
        assert world.vfs.registry[number].name == name.encode()
    assert await world.names() == sorted(names)


async def test_a_base_file_met_during_replay_does_not_take_the_number_of_a_later_record(tmp_path: Path) -> None:
    remote = MemoryRemote()
    await pushed_files(tmp_path / "maker", remote, ["a", "b", "c", "d"])
    world = await World(tmp_path / "one", remote).open()
    # In this order: numbers for a to d, then new files; renames of base files lie between their records.
    for number, name in enumerate("abcd"):
        await world.write(f"new {number}", b"x")
        await world.rename(name, f"moved {name}")
    again = await killed(world, tmp_path / "two")
    wanted = [*(f"new {number}" for number in range(4)), *(f"moved {name}" for name in "abcd")]
    await assert_every_number_is_one_thing(again, wanted)
    again.close()


async def test_a_name_that_was_taken_over_does_not_lend_its_number_to_its_predecessor(tmp_path: Path) -> None:
    remote = MemoryRemote()
    await pushed_files(tmp_path / "maker", remote, ["a"])
    world = await World(tmp_path / "one", remote).open()
    await world.rename("a", "b")
    await world.write("a", b"another")
    world.numbers.flush()
    again = await killed(world, tmp_path / "two")
    await assert_every_number_is_one_thing(again, ["a", "b"])
    assert await again.read("a") == b"another" and await again.read("b") == b"a"
    again.close()


def test_no_number_is_given_out_twice_although_none_was_written(tmp_path: Path) -> None:
    first = InodeNumbers(tmp_path / "inodes.db")
    given = {first.fresh() for _ in range(10_000)}
    killed_at = tmp_path / "after"
    killed_at.mkdir()
    for file in tmp_path.glob("inodes.db*"):
        shutil.copy(file, killed_at)
    second = InodeNumbers(killed_at / "inodes.db")
    assert given.isdisjoint(second.fresh() for _ in range(10_000))
    first.close()
    second.close()


def test_a_clean_end_wastes_no_number(tmp_path: Path) -> None:
    first = InodeNumbers(tmp_path / "inodes.db")
    last = max(first.fresh() for _ in range(10))
    first.close()
    second = InodeNumbers(tmp_path / "inodes.db")
    assert second.fresh() == Inode(last + 1)
    second.close()
