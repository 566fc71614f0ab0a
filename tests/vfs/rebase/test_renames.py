"""A rename on one side that meets a change of the other: the change goes with the name (docs/semantics.md)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.memory_remote import lose_the_answer, nothing
from support.two_mounts import ended, remounted, sync, two
from support.world import ME, World

from bucketfs.errors import Unavailable
from bucketfs.vfs import EntryChanged, EntryGone, RenameFlags


async def a_folder(world: World) -> None:
    await world.mkdir("d")
    await world.mkdir("d/e")
    for name in ("a", "b", "e/c"):
        await world.write(f"d/{name}", name.encode())


RESTARTS = pytest.mark.parametrize("restart", [False, True], ids=["at once", "after a restart"])


@RESTARTS
async def test_what_was_renamed_here_takes_in_what_was_changed_there(tmp_path: Path, restart: bool) -> None:
    """What another client wrote is found under the new name."""
    there, here = await two(tmp_path, a_folder)
    await here.rename("d/a", "a2")
    await here.rename("d", "f")
    await here.write("f/e/c", b"ours")
    await there.write("d/a", b"new a")
    await there.write("d/b", b"new b")
    await there.write("d/e/new", b"n")
    await sync(there)
    if restart:
        here = await remounted(here)
    assert await ended(there, here) == {
        "a2": b"new a",
        "f": None,
        "f/b": b"new b",
        "f/e": None,
        "f/e/c": b"ours",
        "f/e/new": b"n",
    }


@RESTARTS
async def test_what_was_changed_here_goes_where_it_was_renamed_to_there(tmp_path: Path, restart: bool) -> None:
    """What was written here is found under the name that another client gave the file."""
    there, here = await two(tmp_path, a_folder)
    await here.write("d/e/c", b"ours")
    await here.write("d/e/more", b"more")
    await here.chmod("d/a", 0o600)
    await there.rename("d/a", "d/a2")
    await there.mkdir("deep")
    await there.mkdir("deep/er")
    await there.rename("d/e", "deep/er/e2")
    await sync(there)
    if restart:
        here = await remounted(here)
    assert await ended(there, here) == {
        "d": None,
        "d/a2": b"a",
        "d/b": b"b",
        "deep": None,
        "deep/er": None,
        "deep/er/e2": None,
        "deep/er/e2/c": b"ours",
        "deep/er/e2/more": b"more",
    }


async def test_inodes_and_open_files_go_along_and_the_kernel_hears_of_both_names(tmp_path: Path) -> None:
    """A program goes on with the file it has open when another client renames it."""
    there, here = await two(tmp_path, a_folder)
    await here.mkdir("to")
    await sync(here)
    await sync(there)
    inodes = {name: await here.inode(name) for name in ("d", "d/e", "d/e/c", "to")}
    handle = (await here.vfs.open(inodes["d/e/c"], os.O_RDWR, ME)).handle
    await here.vfs.files.write(handle, 0, b"C")
    await there.rename("d/e", "to/e2")
    await sync(there)
    here.told.clear()
    await sync(here)
    assert [await here.inode(name) for name in ("d", "to/e2", "to/e2/c")] == [inodes[name] for name in ("d", "d/e", "d/e/c")]
    moves = {one for one in here.told if isinstance(one, EntryChanged | EntryGone)}
    assert moves == {EntryChanged(inodes["d"], b"e"), EntryChanged(inodes["to"], b"e2")}
    await here.vfs.files.write(handle, 1, b"more")
    await here.vfs.files.flush(handle)
    await here.vfs.files.release(handle)
    tree = await ended(there, here)
    assert tree["to/e2/c"] == b"Cmore"
    assert "d/e" not in tree


async def test_an_open_file_that_nobody_has_written_to_goes_along_too(tmp_path: Path) -> None:
    """A program that is about to write meets the renamed file, not a copy."""
    there, here = await two(tmp_path, a_folder)
    handle = (await here.vfs.open(await here.inode("d/e/c"), os.O_RDWR, ME)).handle
    await there.rename("d", "moved")
    await sync(there)
    await sync(here)
    await here.vfs.files.write(handle, 0, b"later")
    await here.vfs.files.flush(handle)
    await here.vfs.files.release(handle)
    tree = await ended(there, here)
    assert tree["moved/e/c"] == b"later"
    assert "d" not in tree


async def test_a_file_saved_by_replacing_it_goes_where_its_name_went(tmp_path: Path) -> None:
    """As editors save: a new file is renamed over the old one."""
    there, here = await two(tmp_path, a_folder)
    await here.write("d/a.tmp", b"saved")
    await here.rename("d/a.tmp", "d/a")
    await there.rename("d/a", "d/a2")
    await sync(there)
    tree = await ended(there, here)
    assert tree["d/a2"] == b"saved"
    assert "d/a" not in tree


@RESTARTS
async def test_both_names_are_kept_when_both_renamed(tmp_path: Path, restart: bool) -> None:
    """A file that both sides renamed is not lost under either name."""
    there, here = await two(tmp_path, a_folder)
    await here.rename("d/a", "d/ours")
    await here.rename("d/e", "e-ours")
    await here.write("e-ours/c", b"changed")
    await there.rename("d/a", "d/theirs")
    await there.rename("d/e", "e-theirs")
    await sync(there)
    if restart:
        here = await remounted(here)
    assert await ended(there, here) == {
        "d": None,
        "d/b": b"b",
        "d/ours": b"a",
        "d/theirs": b"a",
        "e-ours": None,
        "e-ours/c": b"changed",
        "e-theirs": None,
        "e-theirs/c": b"e/c",
    }


@RESTARTS
async def test_the_same_rename_on_both_sides_is_one(tmp_path: Path, restart: bool) -> None:
    """The same rename on two machines makes no conflict."""
    there, here = await two(tmp_path, a_folder)
    for world in (here, there):
        await world.rename("d", "same")
    await here.write("same/a", b"ours")
    await there.write("same/b", b"theirs")
    await there.unlink("same/e/c")
    await sync(there)
    if restart:
        here = await remounted(here)
    assert await ended(there, here) == {"same": None, "same/a": b"ours", "same/b": b"theirs", "same/e": None}


@RESTARTS
async def test_each_folder_put_into_the_other_keeps_both(tmp_path: Path, restart: bool) -> None:
    """Folders that were moved into each other do not vanish in a ring."""

    async def prepare(world: World) -> None:
        for name in ("a", "b"):
            await world.mkdir(name)
            await world.write(f"{name}/file", name.encode())

    there, here = await two(tmp_path, prepare)
    await here.rename("a", "b/a")
    await there.rename("b", "a/b")
    await sync(there)
    if restart:
        here = await remounted(here)
    tree = await ended(there, here)
    assert {value for value in tree.values() if value is not None} == {b"a", b"b"}
    assert tree["a/b/file"] == b"b"
    assert tree["b/a/file"] == b"a"


async def test_what_stands_at_two_new_names_is_not_followed(tmp_path: Path) -> None:
    """A change is not put into the wrong one of two copies."""
    there, here = await two(tmp_path, a_folder)
    await there.mkdir("x")
    await there.mkdir("y")
    # The same bytes, times and modes: nobody can tell which of the two it was.
    when_ns = 1_600_000_000_000_000_000
    await here.utime("d/a", when_ns)
    await sync(here)
    await sync(there)
    for folder in ("x", "y"):
        await there.write(f"{folder}/a", b"a")
        await there.utime(f"{folder}/a", when_ns)
    await there.unlink("d/a")
    await here.write("d/a", b"ours")
    await sync(there)
    tree = await ended(there, here)
    assert (tree["d/a"], tree["x/a"], tree["y/a"]) == (b"ours", b"a", b"a")


async def test_a_name_that_both_claim_keeps_what_was_renamed_to_it_and_the_change(tmp_path: Path) -> None:
    """Renamed here to a name that was made there, and changed there under the old one."""
    there, here = await two(tmp_path, a_folder)
    await here.rename("d/a", "d/new")
    await there.write("d/new", b"another")
    await there.write("d/a", b"changed")
    await sync(there)
    await sync(here)
    await sync(there)
    tree = await there.tree()
    assert tree == await here.tree()
    assert {b"another", b"changed", b"a"} <= set(tree.values())
    assert tree["d/new"] == b"another"
    for world in (there, here):
        world.close()


@RESTARTS
async def test_a_rename_that_meets_its_own_lost_answer_stays(tmp_path: Path, restart: bool) -> None:
    """The Hub has what was pushed from here, and here it was renamed on: ours is the newer state."""
    there, here = await two(tmp_path, a_folder)
    await here.rename("d", "d1")
    await here.write("d1/a", b"ours")
    here.remote.after_swap = lose_the_answer
    with pytest.raises(Unavailable):
        await here.pusher().push()
    here.remote.after_swap = nothing
    await here.rename("d1", "d2")
    await here.rename("d2/b", "b2")
    if restart:
        here = await remounted(here)
    assert await ended(there, here) == {"b2": b"b", "d2": None, "d2/a": b"ours", "d2/e": None, "d2/e/c": b"e/c"}


async def test_the_hub_is_asked_about_renames_only_when_a_changed_thing_lost_its_name(tmp_path: Path) -> None:
    """Ordinary pushes of other clients cost no search for renames."""
    there, here = await two(tmp_path, a_folder)
    await here.tree()
    await here.write("d/a", b"ours")
    for number in range(50):
        await there.mkdir(f"far{number}")
        await there.write(f"far{number}/x", b"x")
    await there.write("d/b", b"theirs")
    await sync(there)
    here.source.fetched.clear()
    await sync(here)
    # The root, the folder that both changed in, and what was changed in it; none of the fifty folders.
    assert len(here.source.fetched) <= 4
    assert (await ended(there, here))["d/a"] == b"ours"


async def test_a_removed_folder_comes_back_with_what_was_changed_and_no_more(tmp_path: Path) -> None:
    """What another client changed survives `rm -r`, and the rest stays removed."""
    there, here = await two(tmp_path, a_folder)
    for name in ("a", "b", "e/c"):
        await here.unlink(f"d/{name}")
    await here.rmdir("d/e")
    await here.rmdir("d")
    await there.write("d/e/c", b"changed")
    await sync(there)
    await sync(here)
    here = await remounted(here)
    assert await ended(there, here) == {"d": None, "d/e": None, "d/e/c": b"changed"}


@RESTARTS
async def test_a_file_renamed_and_changed_here_and_changed_there_is_in_conflict_at_its_new_name(
    tmp_path: Path, restart: bool
) -> None:
    """The conflict is found where the user has the file now."""
    there, here = await two(tmp_path, a_folder)
    await here.rename("d/a", "d/a2")
    await here.write("d/a2", b"ours")
    await there.write("d/a", b"theirs")
    await sync(there)
    if restart:
        here = await remounted(here)
    tree = await ended(there, here)
    copy = next(path for path in tree if "(conflict " in path)
    assert copy.startswith("d/a2 (conflict ")
    assert tree == {"d": None, "d/a2": b"theirs", copy: b"ours", "d/b": b"b", "d/e": None, "d/e/c": b"e/c"}


@RESTARTS
async def test_a_folder_renamed_to_where_another_was_made_is_one_with_it(tmp_path: Path, restart: bool) -> None:
    """Two folders of one name become one, with the files of both."""
    there, here = await two(tmp_path, a_folder)
    await here.rename("d", "f")
    await there.mkdir("f")
    await there.mkdir("f/e")
    await there.write("f/e/theirs", b"t")
    await there.write("f/a", b"another a")
    await sync(there)
    if restart:
        here = await remounted(here)
    tree = await ended(there, here)
    copy = next(path for path in tree if "(conflict " in path)
    assert tree == {
        "f": None,
        "f/a": b"another a",
        copy: b"a",
        "f/b": b"b",
        "f/e": None,
        "f/e/c": b"e/c",
        "f/e/theirs": b"t",
    }


@RESTARTS
async def test_a_rename_out_of_a_folder_that_was_removed_here_is_followed(tmp_path: Path, restart: bool) -> None:
    """A file that was moved out before `rm -r` takes in the other side's change."""
    there, here = await two(tmp_path, a_folder)
    await here.rename("d/e/c", "saved")
    for name in ("a", "b"):
        await here.unlink(f"d/{name}")
    await here.rmdir("d/e")
    await here.rmdir("d")
    await there.write("d/e/c", b"changed")
    await sync(there)
    if restart:
        here = await remounted(here)
    assert await ended(there, here) == {"saved": b"changed"}


async def test_an_exchange_of_two_names_is_no_rename(tmp_path: Path) -> None:
    """Both names stand for something on both sides: what was changed at a name stays in conflict at it."""
    there, here = await two(tmp_path, a_folder)
    await there.rename("d/a", "d/b", RenameFlags.EXCHANGE)
    await here.write("d/a", b"ours")
    await sync(there)
    tree = await ended(there, here)
    assert tree["d/a"] == b"b"
    assert tree["d/b"] == b"a"
    assert [value for path, value in tree.items() if path.startswith("d/a (conflict ")] == [b"ours"]


async def test_a_file_that_is_open_here_goes_out_of_a_folder_that_was_removed_there(tmp_path: Path) -> None:
    """An open file goes along when another client moves it and removes its folder."""

    async def prepare(world: World) -> None:
        await world.mkdir("d")
        await world.mkdir("d/e")
        await world.write("d/e/f", b"old")
        await world.write("d/e/stays", b"stays")

    there, here = await two(tmp_path, prepare)
    moved, left = [await here.vfs.open(await here.inode(f"d/e/{name}"), os.O_RDWR, ME) for name in ("f", "stays")]
    await there.rename("d/e/f", "g")
    await there.unlink("d/e/stays")
    await there.rmdir("d/e")
    await there.rmdir("d")
    await sync(there)
    await sync(here)
    assert await here.tree() == {"g": b"old"}
    await here.vfs.files.write(moved.handle, 0, b"written")
    await here.vfs.files.flush(moved.handle)
    await here.vfs.files.release(moved.handle)
    assert await here.read("g") == b"written"
    await here.vfs.files.release(left.handle)
    assert await ended(there, here) == {"g": b"written"}


async def test_both_took_a_file_out_to_one_name_and_its_folder_was_removed_here(tmp_path: Path) -> None:
    """What the other has written to it since is no other file."""

    async def prepare(world: World) -> None:
        await world.mkdir("d")
        await world.write("d/f", b"old")

    there, here = await two(tmp_path, prepare)
    await here.rename("d/f", "g")
    await here.rmdir("d")
    await there.rename("d/f", "g")
    await there.write("g", b"written")
    await sync(there)
    assert await ended(there, here) == {"g": b"written"}
