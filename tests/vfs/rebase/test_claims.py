"""Renames that are not followed, because more than one thing claims the name or the change: whatever was there is kept."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.memory_remote import lose_the_answer, nothing
from support.two_mounts import ended, sync, two
from support.world import ME, World

from bucketfs.errors import Corrupt, Unavailable

WHEN_NS = 1_600_000_000_000_000_000


async def folder_and_file(world: World) -> None:
    await world.mkdir("d")
    await world.write("d/in", b"in")
    await world.write("f", b"old")


async def push_whose_answer_is_lost(world: World) -> None:
    remote = world.remote

    async def lost() -> None:
        remote.away = True
        await lose_the_answer()

    remote.after_swap = lost
    with pytest.raises(Unavailable):
        await sync(world)
    remote.after_swap, remote.away = nothing, False


async def test_what_is_made_at_a_name_that_a_push_with_a_lost_answer_freed_is_another_thing(tmp_path: Path) -> None:
    """A new file is not mistaken for the one that a push has removed."""
    there, here = await two(tmp_path, folder_and_file)
    await here.rename("f", "f2")
    await here.rename("d", "d2")
    await push_whose_answer_is_lost(here)
    await sync(there)
    await there.write("f", b"new")
    await there.mkdir("d")
    await there.write("d/other", b"other")
    await sync(there)
    tree = await ended(there, here)
    assert tree == {"d": None, "d/other": b"other", "d2": None, "d2/in": b"in", "f": b"new", "f2": b"old"}


async def test_a_copy_of_the_other_side_under_the_name_of_a_rename_here_loses_no_edit(tmp_path: Path) -> None:
    """A copy with all its times is the very same thing; nobody knows that it was not moved."""

    async def one_folder(world: World) -> None:
        await world.mkdir("d")
        await world.write("d/in", b"in")
        await world.utime("d/in", WHEN_NS)
        await world.utime("d", WHEN_NS)

    there, here = await two(tmp_path, one_folder)
    await here.rename("d", "d2")
    await there.mkdir("d2")
    await there.write("d2/in", b"in")
    await there.utime("d2/in", WHEN_NS)
    await there.utime("d2", WHEN_NS)
    await there.write("d/in", b"edited")
    await sync(there)
    assert await ended(there, here) == {"d": None, "d/in": b"edited", "d2": None, "d2/in": b"in"}


async def test_of_equal_files_in_two_removed_folders_both_changes_survive(tmp_path: Path) -> None:
    """One of them was moved out of its folder, and nobody can tell which."""

    async def two_folders(world: World) -> None:
        for folder in ("a", "b"):
            await world.mkdir(folder)
            await world.write(f"{folder}/in", b"same")
            await world.utime(f"{folder}/in", WHEN_NS)

    there, here = await two(tmp_path, two_folders)
    await here.rename("a/in", "saved")
    await here.unlink("b/in")
    await here.rmdir("a")
    await here.rmdir("b")
    await there.write("a/in", b"one")
    await there.write("b/in", b"two")
    await sync(there)
    tree = await ended(there, here)
    assert tree == {"a": None, "a/in": b"one", "b": None, "b/in": b"two", "saved": b"same"}


async def test_a_rename_there_over_a_file_that_is_open_here_leaves_both(tmp_path: Path) -> None:
    """The open file has the same bytes, so it stays what it is; what was changed here cannot take its name."""

    async def two_files(world: World) -> None:
        await world.write("f", b"same")
        await world.write("g", b"same")

    there, here = await two(tmp_path, two_files)
    await here.write("g", b"changed")
    opened = await here.vfs.open(await here.inode("f"), os.O_RDWR, ME)
    await there.rename("g", "f")
    await sync(there)
    await sync(here)
    await here.vfs.files.write(opened.handle, 0, b"written")
    await here.vfs.files.flush(opened.handle)
    await here.vfs.files.release(opened.handle)
    assert await ended(there, here) == {"f": b"written", "g": b"changed"}


async def test_a_root_that_cannot_be_read_is_an_error_and_changes_nothing(tmp_path: Path) -> None:
    """A damaged root at the Hub leaves the mount as it is, with an error that says so."""
    there, here = await two(tmp_path, folder_and_file)
    await there.write("f", b"new")
    await sync(there)
    root = there.remote.store.pop(there.remote.at)
    with pytest.raises(Corrupt):
        await here.pusher().rebaser.follow(here.remote.at)
    assert await here.read("f") == b"old"
    there.remote.store[there.remote.at] = root
    assert (await ended(there, here))["f"] == b"new"
