"""Inode numbers over a kill: one number stands for one thing, whatever of the table had been written."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from support.memory_remote import MemoryRemote
from support.unixfs import build_file
from support.world import World

from bucketfs.dag import drive, edit_directory
from bucketfs.types import NO_ATTRIBUTES, ROOT_INODE, Inode, Link
from bucketfs.vfs import Attr, InodeNumbers


async def pushed_files(folder: Path, remote: MemoryRemote, names: list[str]) -> None:
    world = await World(folder, remote).open()
    for name in names:
        await world.write(name, name.encode())
    assert await world.pusher().push() is not None
    world.close()


async def killed(world: World, folder: Path) -> World:
    """The mount that comes up after a kill: what it finds on the disk is what is there now."""
    shutil.copytree(world.folder, folder)
    again = World(folder, world.remote)
    await again.open()
    world.close()
    assert again.quarantined == []
    return again


async def assert_every_number_is_one_thing(world: World, names: list[str]) -> None:
    numbers = [await world.inode(name) for name in names]
    assert len(set(numbers)) == len(numbers)
    assert ROOT_INODE not in numbers
    for name, number in zip(names, numbers, strict=True):
        assert world.vfs.registry[number].name == name.encode()
    assert await world.names() == sorted(names)


async def test_a_base_file_met_during_replay_does_not_take_the_number_of_a_later_record(tmp_path: Path) -> None:
    """After a kill two files would have one number, and the kernel would show the bytes of one for the other."""
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
    """After a kill a replaced file would be taken for the one that replaced it."""
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
    """After a kill a new file would get a number that a backup tool knows as another file."""
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
    """Each restart would skip thousands of numbers."""
    first = InodeNumbers(tmp_path / "inodes.db")
    last = max(first.fresh() for _ in range(10))
    first.close()
    second = InodeNumbers(tmp_path / "inodes.db")
    assert second.fresh() == Inode(last + 1)
    second.close()


# What stands at a place may be another thing since it was last seen


async def seen_and_forgotten(world: World, path: str) -> Attr:
    attr = await world.vfs.getattr(await world.inode(path))
    world.vfs.forget([(attr.inode, 100)])
    assert attr.inode not in world.vfs.registry
    return attr


async def test_other_bytes_of_the_same_length_and_mtime_are_known_by_number_and_ctime(tmp_path: Path) -> None:
    """rsync or a backup would skip a file that another client has changed while nothing was mounted."""
    remote = MemoryRemote()
    other = await World(tmp_path / "other", remote).open()
    await other.mkdir("d")
    await other.write("d/f", b"v1")
    await other.write("d/same", b"s")
    await other.pusher().push()
    world = await World(tmp_path / "world", remote).open()
    before = {path: await seen_and_forgotten(world, path) for path in ("d/f", "d/same", "d")}
    await other.write("d/f", b"v2")
    await other.utime("d/f", before["d/f"].mtime_ns)
    await other.pusher().push()
    await world.pusher().rebaser.follow(remote.at)
    after = {path: await seen_and_forgotten(world, path) for path in ("d/f", "d/same", "d")}
    assert after["d/same"] == before["d/same"] and after["d"].inode == before["d"].inode
    assert (after["d/f"].mtime_ns, after["d/f"].size_bytes) == (before["d/f"].mtime_ns, 2)
    assert after["d/f"].inode != before["d/f"].inode and after["d/f"].ctime_ns > before["d/f"].ctime_ns
    assert await seen_and_forgotten(world, "d/f") == after["d/f"]
    for one in (world, other):
        one.close()


async def test_other_bytes_without_an_mtime_get_the_time_that_the_hub_says(tmp_path: Path) -> None:
    """A file that another client replaced would show a time of before its change."""
    remote = MemoryRemote()
    world = await World(tmp_path / "world", remote).open()

    async def set_plainly(body: bytes) -> None:
        file = build_file(body, NO_ATTRIBUTES)
        remote.store.update(file.blocks)
        link = Link(file.link.cid, file.link.tsize)
        tree = drive(edit_directory(remote.at, {b"f": link}), lambda cids: {cid: remote.store[cid] for cid in cids})
        remote.store.update(tree.blocks)
        remote.at = tree.link.cid
        await world.pusher().rebaser.follow(remote.at)

    world.volume.tree.learn_times(1_000_000_000_000, {})
    await set_plainly(b"v1")
    before = await seen_and_forgotten(world, "f")
    world.volume.tree.learn_times(9_000_000_000_000, {"f": 9_000_000_000_000})
    await set_plainly(b"v2")
    after = await seen_and_forgotten(world, "f")
    assert (before.mtime_ns, after.mtime_ns) == (1_000_000_000_000, 9_000_000_000_000)
    world.close()


async def test_a_push_a_rename_and_a_restart_leave_a_number_as_it_is(tmp_path: Path) -> None:
    """A backup would copy files again that were only pushed, or renamed."""
    remote = MemoryRemote()
    world = await World(tmp_path / "one", remote).open()
    await world.mkdir("d")
    await world.write("d/f", b"1")
    await world.symlink("d/link", "f")
    first = {path: await world.inode(path) for path in ("d", "d/f", "d/link")}
    await world.pusher().push()
    assert {path: (await seen_and_forgotten(world, path)).inode for path in reversed(first)} == dict(reversed(first.items()))
    await world.write("d/f", b"22")
    await world.pusher().push()
    assert (await seen_and_forgotten(world, "d/f")).inode == first["d/f"]
    await world.rename("d/f", "moved")
    await world.pusher().push()
    attr = await seen_and_forgotten(world, "moved")
    world.close()
    again = await World(tmp_path / "one", remote).open()
    assert attr.inode == first["d/f"] and await seen_and_forgotten(again, "moved") == attr
    assert (await again.inode("d/link"), await again.inode("d")) == (first["d/link"], first["d"])
    again.close()


def test_a_table_of_before_is_begun_anew_and_gives_no_number_twice(tmp_path: Path) -> None:
    """After an upgrade old rows of the table would be taken for what they do not say."""
    file = tmp_path / "inodes.db"
    with closing(sqlite3.connect(file)) as database:
        database.executescript(
            "create table inode (inode integer primary key, parent integer not null, name blob not null,"
            " ctime_ns integer not null, fallback_ns integer not null);"
            "create unique index inode_place on inode (parent, name);"
            "create table mark (id integer primary key check (id = 1), next integer not null);"
            "insert into inode values (70, 1, x'61', 5, 5); insert into mark values (1, 5000);"
        )
    numbers = InodeNumbers(file)
    assert numbers.at(ROOT_INODE, b"a") is None
    assert numbers.fresh() >= 5000
    numbers.close()
