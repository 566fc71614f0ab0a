"""Changes whose base is lost at the Hub and here: they hold up nothing else, and as much of them as can be is taken in."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from world import MemoryRemote, World

from bucketfs.dag import drive, reachable
from bucketfs.errors import Corrupt
from bucketfs.sync import Keeper, Pusher

BIG = 700_000


def pusher(world: World) -> Pusher:
    return Pusher(world.volume, world.remote, world.source, world.told.append)  # type: ignore[arg-type]


def collect(world: World) -> None:
    """The Hub forgets what its root does not need; and so do a cache and what the base tree has decoded."""
    remote = world.remote
    needed = drive(reachable(remote.at), lambda cids: {cid: remote.store[cid] for cid in cids})
    remote.store = {cid: block for cid, block in remote.store.items() if cid in needed}
    world.source.forget()
    world.volume.base_tree = type(world.volume.base_tree)(world.source)


async def two(tmp_path: Path) -> tuple[World, World]:
    """Two mounts of a bucket with d/a, d/b, d/c, e/a and a large file."""
    remote = MemoryRemote()
    there = await World(tmp_path / "there", remote).open()
    await there.mkdir("d")
    await there.mkdir("e")
    for name in ("d/a", "d/b", "d/c", "e/a"):
        await there.write(name, name.encode())
    await there.write("big", b"b" * BIG)
    await pusher(there).push()
    return await World(tmp_path / "here", remote).open(), there


async def taken_in(world: World) -> dict[str, object]:
    """What the Hub has when all is pushed that can be."""
    one = pusher(world)
    await one.push()
    if world.volume.base != world.remote.at:
        await one.follow(world.remote.at)
        await one.push()
    reader = await World(world.folder.parent / f"reader {world.remote.swaps}", world.remote).open()
    found = await reader.tree()
    reader.close()
    return {re.sub(r"\(conflict [^)]*\)", "(conflict)", path): value for path, value in found.items()}


async def change_here(here: World) -> None:
    await here.write("d/new", b"new")
    await here.write("d/a", b"ours")
    await here.unlink("d/b")
    await here.rename("e/a", "e/moved")


async def change_there(there: World) -> None:
    await there.write("d/c", b"theirs")
    await there.write("d/theirs", b"theirs")
    await there.write("e/theirs", b"theirs")
    await pusher(there).push()


async def test_a_mount_that_goes_on_goes_by_what_it_has_in_memory(tmp_path: Path) -> None:
    """Removals may be undone, and what was edited stands beside what is there: the folder is not known any more."""
    here, there = await two(tmp_path)
    before = await there.tree()
    await change_here(here)
    await change_there(there)
    collect(here)
    found = await taken_in(here)
    assert found == before | {
        "d/new": b"new",
        "d/a": b"ours",  # in memory it is known what it was
        "d/c": b"theirs",
        "d/theirs": b"theirs",
        "e/theirs": b"theirs",
        "e/moved": b"e/a",
    }
    assert not here.volume.root.dirty


async def test_a_start_takes_lost_folders_for_empty(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    here, there = await two(tmp_path)
    before = await there.tree()
    await change_here(here)
    await change_there(there)
    collect(here)
    here.close()
    again = await World(here.folder, here.remote).open()
    assert sorted(line.split(":")[0] for line in again.complaints) == ["Remove 'd/b'", "Rename ''"]
    found = await taken_in(again)
    assert found == before | {
        "d/new": b"new",
        "d/a (conflict)": b"ours",
        "d/c": b"theirs",
        "d/theirs": b"theirs",
        "e/theirs": b"theirs",
    }
    assert "nobody has 1 of the folders any more" in caplog.text
    assert again.volume.base_tree.lost == set()
    assert not again.volume.root.dirty


async def test_with_nothing_waiting_a_lost_root_is_no_trouble(tmp_path: Path) -> None:
    here, there = await two(tmp_path)
    await change_there(there)
    collect(here)
    here.close()
    again = await World(here.folder, here.remote).open()
    assert await taken_in(again) == await there.tree()


async def test_part_of_a_file_that_is_lost_is_told_apart(tmp_path: Path) -> None:
    here, there = await two(tmp_path)
    await here.write("d/a", b"x", 2, truncate=False)
    await here.write("d/b", b"whole")
    await change_there(there)
    collect(here)
    here.close()
    again = await World(here.folder, here.remote).open()
    assert [op.path for op in again.volume.partless] == ["d/a"]
    assert again.complaints == ["SetContent 'd/a': it was written in part, and nobody has the rest any more"]
    found = await taken_in(again)
    assert found["d/a"] == b"d/a" and found["d/b (conflict)"] == b"whole"


async def test_a_rename_there_is_followed_past_a_folder_that_is_lost(tmp_path: Path) -> None:
    """Nobody touched e here, so nothing of it was kept; that it cannot be compared any more is no matter to d."""
    here, there = await two(tmp_path)
    await here.write("d/a", b"ours")
    await Keeper(here.volume, here.source).round()  # type: ignore[arg-type]
    await there.write("e/a", b"theirs")
    await there.rename("d", "elsewhere")
    await pusher(there).push()
    collect(here)
    here.close()
    again = await World(here.folder, here.remote).open()
    found = await taken_in(again)
    assert "d" not in found and found["elsewhere/a"] == b"ours" and found["e/a"] == b"theirs"


async def test_what_the_hub_still_names_is_damaged_and_not_lost(tmp_path: Path) -> None:
    """It may be mended, so changes of it wait."""
    here, there = await two(tmp_path)
    folder = (await there.volume.base_tree.resolve(there.volume.base, [b"d"])).cid
    await here.write("d/new", b"new")
    here.close()
    await there.write("e/theirs", b"theirs")
    await pusher(there).push()
    block = here.remote.store.pop(folder)
    here.source.forget()
    again = await World(here.folder, here.remote).open()
    assert [type(op).__name__ for op in again.volume.stuck] == ["Create", "SetContent"]
    again.close()
    again.remote.store[folder] = block
    mended = await World(here.folder, here.remote).open()
    assert (await taken_in(mended))["d/new"] == b"new"


async def test_a_folder_of_the_hubs_that_is_lost_does_stop_a_rebase(tmp_path: Path) -> None:
    here, there = await two(tmp_path)
    await here.write("d/new", b"new")
    await change_there(there)
    folder = (await there.volume.base_tree.resolve(there.volume.base, [b"d"])).cid
    block = here.remote.store.pop(folder)
    with pytest.raises(Corrupt):
        await pusher(here).push()
    here.remote.store[folder] = block
    assert (await taken_in(here))["d/new"] == b"new"


Edit = Callable[[World], Awaitable[None]]

CONTESTED: dict[str, tuple[Edit, Edit]] = {
    "written in part here, replaced there": (
        lambda here: here.write("big", b"x", 300_000, truncate=False),
        lambda there: there.write("big", b"theirs"),
    ),
    "renamed here, removed there": (lambda here: here.rename("big", "moved"), lambda there: there.unlink("big")),
}


@pytest.mark.parametrize("remedy", ["removed", "written anew"])
@pytest.mark.parametrize("case", CONTESTED)
async def test_a_file_whose_bytes_are_lost_waits_alone(tmp_path: Path, case: str, remedy: str) -> None:
    """Only folders and the roots of files are kept. What somebody else replaced, here written in part or moved, needs bytes that
    nobody has: it is refused with its reason, and everything else goes out, removals too."""
    ours, theirs = CONTESTED[case]
    here, there = await two(tmp_path)
    await ours(here)
    await here.write("d/new", b"new")
    await here.unlink("d/b")
    await Keeper(here.volume, here.source).round()  # type: ignore[arg-type]
    await theirs(there)
    await change_there(there)
    before = await there.tree()
    collect(here)
    here.close()
    again = await World(here.folder, here.remote).open()
    assert again.complaints == []
    one = pusher(again)
    await one.push()
    (path,) = one.aside.refused
    assert "big" in path or path == "moved"
    assert one.aside.refused[path].startswith("it needs bytes that are lost: ")
    reader = await World(tmp_path / "reader", here.remote).open()
    del before["d/b"]
    assert await reader.tree() == before | {"d/new": b"new"}
    if remedy == "removed":
        await again.unlink(path)
    else:
        await again.write(path, b"anew")
    one.forgive()
    await one.push()
    assert one.aside.refused == {} and not again.volume.root.dirty
    reader = await World(tmp_path / "later", here.remote).open()
    assert await reader.tree() == before | {"d/new": b"new"} | ({path: b"anew"} if remedy == "written anew" else {})
