"""Blocks of the base that are lost at the Hub and here: changes made on them are quarantined and can be exported, all others go on,
and nothing is ever mixed up."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from support.memory_remote import MemoryRemote
from support.world import World

from bucketfs.dag import drive, reachable
from bucketfs.errors import Corrupt
from bucketfs.sync import BasePinner
from bucketfs.types import Cid

BIG = 700_000


async def pin(world: World) -> None:
    """Keep what the changes stand on, as a mount does a moment after each change."""
    await BasePinner(world.volume, world.source).round()


def collect(world: World) -> None:
    """The Hub forgets what its root does not need; and so do the cache and what is decoded of the base tree."""
    remote = world.remote
    needed = drive(reachable(remote.at), lambda cids: {cid: remote.store[cid] for cid in cids})
    remote.store = {cid: block for cid, block in remote.store.items() if cid in needed}
    world.source.forget()
    world.volume.tree.base_tree = type(world.volume.tree.base_tree)(world.source)


def damage_pin(world: World, block: bytes) -> None:
    """The disk spoils a block that is kept beside the journal."""
    for file in (world.folder / "journal/base").iterdir():
        file.write_bytes(file.read_bytes().replace(block, bytes(len(block))))


async def two(tmp_path: Path) -> tuple[World, World]:
    """Two mounts of a bucket with d/a, d/b, d/c, e/a and a large file."""
    remote = MemoryRemote()
    there = await World(tmp_path / "there", remote).open()
    await there.mkdir("d")
    await there.mkdir("e")
    for name in ("d/a", "d/b", "d/c", "e/a"):
        await there.write(name, name.encode())
    await there.write("big", b"b" * BIG)
    await there.pusher().push()
    return await World(tmp_path / "here", remote).open(), there


async def at_the_hub(world: World) -> dict[str, object]:
    """What another mount sees; host and time of conflict copies are left out of their names."""
    reader = await World(world.folder.parent / f"reader {world.remote.swaps}", world.remote).open()
    found = await reader.tree()
    reader.close()
    return {re.sub(r"\(conflict [^)]*\)", "(conflict)", path): value for path, value in found.items()}


async def pushed(world: World) -> dict[str, object]:
    """What the Hub has when all is pushed that can be."""
    one = world.pusher()
    await one.push()
    if world.volume.base != world.remote.at:
        await one.rebaser.follow(world.remote.at)
        await one.push()
    return await at_the_hub(world)


async def exported(world: World, folder: Path) -> dict[str, bytes]:
    """The files that the user gets, by their paths."""
    await world.journal.export_quarantine(str(folder))
    files = folder / "files"
    return {str(path.relative_to(files)): path.read_bytes() for path in sorted(files.rglob("*")) if path.is_file()}


async def change_here(here: World) -> None:
    await here.write("d/new", b"new")
    await here.write("d/a", b"ours")
    await here.unlink("d/b")
    await here.rename("e/a", "e/moved")


async def change_there(there: World) -> None:
    await there.write("d/c", b"theirs")
    await there.write("d/theirs", b"theirs")
    await there.write("e/theirs", b"theirs")
    await there.pusher().push()


THEIRS = {"d/c": b"theirs", "d/theirs": b"theirs", "e/theirs": b"theirs"}


async def test_a_mount_that_goes_on_goes_by_what_it_has_in_memory(tmp_path: Path) -> None:
    """Removals may be undone, and what was edited stands beside what is there: the folder is not known any more."""
    here, there = await two(tmp_path)
    before = await there.tree()
    await change_here(here)
    await change_there(there)
    collect(here)
    found = await pushed(here)
    # In memory it is known what d/a was.
    assert found == before | THEIRS | {"d/new": b"new", "d/a": b"ours", "e/moved": b"e/a"}
    assert not here.volume.root.dirty


async def test_changes_in_a_lost_folder_are_quarantined_and_all_others_go_out(tmp_path: Path) -> None:
    """Otherwise a user would lose what was written offline, or all of the bucket would wait for one lost folder."""
    here, there = await two(tmp_path)
    await change_here(here)
    await here.write("e/new", b"in another folder")
    await pin(here)
    lost = here.remote.store[(await here.volume.tree.base_tree.resolve(here.volume.base, [b"d"])).cid]
    await change_there(there)
    before = await there.tree()
    collect(here)
    damage_pin(here, lost)
    here.close()
    again = await World(here.folder, here.remote).open()
    assert sorted(again.quarantined) == ["d/a", "d/b", "d/new"]
    assert await pushed(again) == {path: value for path, value in before.items() if path != "e/a"} | {
        "e/new": b"in another folder",
        "e/moved": b"e/a",
    }
    assert not again.volume.root.dirty
    again.close()
    again = await World(here.folder, here.remote).open()
    assert again.quarantined == [] and len(again.journal.quarantine), "they are quarantined once, and kept"
    assert await exported(again, tmp_path / "out") == {"d/a": b"ours", "d/new": b"new"}
    assert " removed 'd/b'\n" in (tmp_path / "out/changes.txt").read_text()


async def test_a_lost_root_quarantines_all_changes_and_shows_what_the_hub_has(tmp_path: Path) -> None:
    """A bucket whose whole old tree is lost must not become one that cannot be opened any more."""
    here, there = await two(tmp_path)
    await change_here(here)
    here.volume.propose(there.remote.at)  # a push whose answer was lost
    await change_there(there)
    collect(here)
    here.close()
    again = await World(here.folder, here.remote).open()
    assert again.volume.push.proposed == frozenset(), "nothing of the Hub's may be taken for an older state of what is here"
    assert await again.tree() == await there.tree()
    assert await exported(again, tmp_path / "out") == {"d/a": b"ours", "d/new": b"new"}
    await again.write("later", b"later")
    again.close()
    again = await World(here.folder, here.remote).open()
    assert again.quarantined == [] and await again.read("later") == b"later"


async def test_with_nothing_waiting_a_lost_root_is_no_trouble(tmp_path: Path) -> None:
    """A mount that was not used for long opens again after the Hub has collected what it showed."""
    here, there = await two(tmp_path)
    await change_there(there)
    collect(here)
    here.close()
    again = await World(here.folder, here.remote).open()
    assert not len(again.journal.quarantine)
    assert await pushed(again) == await there.tree()


async def test_of_a_file_written_in_part_the_part_is_exported(tmp_path: Path) -> None:
    """The bytes that the user wrote are there, at their place, and the text says which are lost."""
    here, there = await two(tmp_path)
    await here.write("d/a", b"x", 2, truncate=False)
    await here.write("d/b", b"whole")
    await change_there(there)
    collect(here)
    here.close()
    again = await World(here.folder, here.remote).open()
    assert await exported(again, tmp_path / "out") == {"d/a": b"\0\0x", "d/b": b"whole"}
    assert "bytes 0 to 2 of 'd/a' are lost\n" in (tmp_path / "out/changes.txt").read_text()
    found = await pushed(again)
    assert (found["d/a"], found["d/b"]) == (b"d/a", b"d/b"), "nothing is mixed up with what the Hub has"


async def test_a_rename_there_is_followed_past_a_folder_that_is_lost(tmp_path: Path) -> None:
    """Nothing of e was changed here, so nothing of it is pinned; that it cannot be compared any more is no matter to d."""
    here, there = await two(tmp_path)
    await here.write("d/a", b"ours")
    await pin(here)
    await there.write("e/a", b"theirs")
    await there.rename("d", "elsewhere")
    await there.pusher().push()
    collect(here)
    here.close()
    again = await World(here.folder, here.remote).open()
    found = await pushed(again)
    assert "d" not in found and found["elsewhere/a"] == b"ours" and found["e/a"] == b"theirs"


async def test_a_folder_of_the_hubs_that_is_lost_does_stop_a_rebase(tmp_path: Path) -> None:
    """What is in it cannot be known, so nothing may be decided about it; all of it goes on when the Hub has the folder again."""
    here, there = await two(tmp_path)
    await here.write("d/new", b"new")
    await change_there(there)
    folder = (await there.volume.tree.base_tree.resolve(there.volume.base, [b"d"])).cid
    block = here.remote.store.pop(folder)
    with pytest.raises(Corrupt):
        await here.pusher().push()
    here.remote.store[folder] = block
    assert (await pushed(here))["d/new"] == b"new"


# Every kind of change, in a folder whose block is lost


Outcome = Callable[[World], Awaitable[None]]


async def create(world: World) -> None:
    await world.write("d/new", b"ours")


async def unlink(world: World) -> None:
    await world.unlink("d/a")


async def rename(world: World) -> None:
    await world.rename("d/b", "d/new")


async def rename_over(world: World) -> None:
    await world.rename("d/b", "d/c")


async def save(world: World) -> None:
    """As editors do."""
    await world.write("d/tmp", b"saved")
    await world.rename("d/tmp", "d/a")


async def make_folder(world: World) -> None:
    await world.mkdir("d/e")
    await world.write("d/e/in", b"ours")
    await world.symlink("d/e/link", "in")


async def anew(world: World) -> None:
    await world.unlink("d/a")
    await world.write("d/a", b"anew")


async def overwrite(world: World) -> None:
    await world.write("d/a", b"over")


async def made_and_removed(world: World) -> None:
    await world.write("d/new", b"ours")
    await world.unlink("d/new")


async def chmod(world: World) -> None:
    await world.chmod("d/a", 0o600)


async def moved_out(world: World) -> None:
    """The removal of the folder would take the file with it, were it done without the rename."""
    await world.rename("d/a", "kept")
    for name in "bc":
        await world.unlink(f"d/{name}")
    await world.rmdir("d")


ACTS: dict[str, tuple[Outcome, list[str], dict[str, bytes]]] = {
    # what is done here, which paths are quarantined, and which files are exported
    "create": (create, ["d/new"], {"d/new": b"ours"}),
    "unlink": (unlink, ["d/a"], {}),
    "rename": (rename, ["d/new"], {}),
    "rename over": (rename_over, ["d/c"], {}),
    "save": (save, ["d/tmp", "d/a"], {"d/a": b"saved"}),
    "folder": (make_folder, ["d/e", "d/e/in", "d/e/link"], {"d/e/in": b"ours"}),
    "anew": (anew, ["d/a"], {"d/a": b"anew"}),
    "overwrite": (overwrite, ["d/a"], {"d/a": b"over"}),
    "made and removed": (made_and_removed, ["d/new"], {}),
    "chmod": (chmod, ["d/a"], {}),
    "moved out": (moved_out, ["kept", "d/b", "d/c", "d"], {}),
}


async def quarantined(tmp_path: Path, ours: Outcome) -> tuple[World, World, Cid, bytes]:
    """A mount that came up while the folder d was lost, with changes below it in its journal; another that still knows d; and
    what was lost."""
    here, there = await two(tmp_path)
    await ours(here)
    await here.write("e/ours", b"goes out")
    here.close()
    cid = (await there.volume.tree.base_tree.resolve(here.remote.at, [b"d"])).cid
    block = here.remote.store.pop(cid)
    return await World(tmp_path / "here", here.remote).open(), there, cid, block


@pytest.mark.parametrize("name", ACTS)
async def test_a_change_made_on_a_lost_block_is_kept_and_never_applied(tmp_path: Path, name: str) -> None:
    """Not when another client changes the place, not when the Hub has the block again, and not after a restart: it would be mixed
    up with what is there by then. The user has it for as long as it is not exported."""
    ours, paths, files = ACTS[name]
    here, there, cid, block = await quarantined(tmp_path, ours)
    assert here.quarantined == paths and list(here.journal.quarantine.by_path()) == paths
    for path in ("d/a", "d/c", "d/new"):
        await there.write(path, b"theirs")
    await there.pusher().push()
    theirs = await there.tree()
    await here.pusher().rebaser.follow(here.remote.at)
    here.remote.store[cid] = block
    here.close()
    here = await World(tmp_path / "here", here.remote).open()
    assert list(here.journal.quarantine.by_path()) == paths
    assert await pushed(here) == theirs | {"e/ours": b"goes out"}
    assert not len(here.volume.pending.conflicts)
    assert await exported(here, tmp_path / "out") == files


@pytest.mark.parametrize("name", ACTS)
async def test_programs_go_on_at_once_where_a_change_is_quarantined(tmp_path: Path, name: str) -> None:
    """It holds up nothing, and what is done now is not taken for a part of it."""
    ours, paths, files = ACTS[name]
    here, there, cid, block = await quarantined(tmp_path, ours)
    here.remote.store[cid] = block
    here.close()
    # The Hub has the block again, and a program works where the change was.
    here = await World(tmp_path / "here", here.remote).open()
    await here.write("d/a", b"later")
    await here.rename("d", "elsewhere")
    await here.write("elsewhere/new", b"later, too")
    here.close()
    here = await World(tmp_path / "here", here.remote).open()
    assert list(here.journal.quarantine.by_path()) == paths
    found = await pushed(here)
    assert found["elsewhere/a"] == b"later" and found["elsewhere/new"] == b"later, too"
    assert await exported(here, tmp_path / "out") == files
    there.close()


async def test_an_edit_of_a_file_whose_root_block_is_lost_is_quarantined_alone(tmp_path: Path) -> None:
    """The folder is there, so all else in it is applied."""
    here, there = await two(tmp_path)
    await here.write("big", b"ours", 5, truncate=False)
    await here.chmod("big", 0o600)
    await here.write("beside", b"beside")
    here.close()
    cid = (await there.volume.tree.base_tree.resolve(here.remote.at, [b"big"])).cid
    block = here.remote.store.pop(cid)
    here = await World(tmp_path / "here", here.remote).open()
    assert here.quarantined == ["big"] and await here.read("beside") == b"beside"
    here.remote.store[cid] = block
    assert (await pushed(here))["big"] == b"b" * BIG
    found = await exported(here, tmp_path / "out")
    assert found["big"] == bytes(5) + b"ours" + bytes(BIG - 9)


# What a push needs


CONTESTED: dict[str, tuple[Outcome, Outcome]] = {
    "written in part here, replaced there": (
        lambda here: here.write("big", b"x", 300_000, truncate=False),
        lambda there: there.write("big", b"theirs"),
    ),
    "renamed here, removed there": (lambda here: here.rename("big", "moved"), lambda there: there.unlink("big")),
}


@pytest.mark.parametrize("remedy", ["removed", "written anew"])
@pytest.mark.parametrize("case", CONTESTED)
async def test_a_file_whose_bytes_are_lost_waits_alone(tmp_path: Path, case: str, remedy: str) -> None:
    """Only folders and the root blocks of files are pinned. What another client replaced, here written in part or moved, needs
    bytes that are lost: it waits with its reason, and everything else goes out, removals of whole folders, too."""
    ours, theirs = CONTESTED[case]
    here, there = await two(tmp_path)
    await ours(here)
    await here.write("d/new", b"new")
    await here.unlink("d/b")
    await here.unlink("e/a")
    await here.rmdir("e")
    await pin(here)
    await theirs(there)
    await there.write("d/c", b"theirs")
    await there.pusher().push()
    before = await there.tree()
    collect(here)
    here.close()
    again = await World(here.folder, here.remote).open()
    assert again.quarantined == []
    one = again.pusher()
    await one.push()
    (path,) = one.withheld.refused
    assert "big" in path or path == "moved"
    assert one.withheld.refused[path].startswith("it needs bytes that are lost: ")
    for gone in ("d/b", "e/a", "e"):
        del before[gone]
    reader = await World(tmp_path / "reader", here.remote).open()
    assert await reader.tree() == before | {"d/new": b"new"}
    # Changed in part once more it needs them still.
    await again.write(path, b"y", 5, truncate=False)
    await one.push()
    assert list(one.withheld.refused) == [path]
    if remedy == "removed":
        await again.unlink(path)
    else:
        await again.write(path, b"anew")
    # The user asks for nothing: the next push takes it.
    await one.push()
    assert one.withheld.refused == {} and not again.volume.root.dirty
    reader = await World(tmp_path / "later", here.remote).open()
    assert await reader.tree() == before | {"d/new": b"new"} | ({path: b"anew"} if remedy == "written anew" else {})


def lose_leaf(remote: MemoryRemote, data: bytes) -> None:
    """The Hub loses the block that holds ``data``."""
    (cid,) = [cid for cid, block in remote.store.items() if block == data]
    del remote.store[cid]


async def test_a_renamed_folder_with_one_lost_file_stays_at_the_hub(tmp_path: Path) -> None:
    """One block of one file is lost. The rename of its folder waits; all files of the folder would be gone at the Hub if the old
    name were removed meanwhile."""
    here, there = await two(tmp_path)
    await there.write("d/lost", b"1" * 262_144 + b"2" * 262_144)
    await there.pusher().push()
    await here.pusher().rebaser.follow(here.remote.at)
    before = await there.tree()
    await here.write("d/lost", b"ours", 5, truncate=False)
    await here.rename("d", "moved")
    await here.write("beside", b"beside")
    await pin(here)
    lose_leaf(here.remote, b"1" * 262_144)
    here.close()
    again = await World(here.folder, here.remote).open()
    one = again.pusher()
    await one.push()
    assert list(one.withheld.refused) == ["moved"]
    reader = await World(tmp_path / "reader", here.remote).open()
    assert set(await reader.names("d")) == {"a", "b", "c", "lost"}
    assert await reader.read("d/a") == before["d/a"]
    assert await reader.read("beside") == b"beside"


async def test_a_moved_file_with_a_lost_part_keeps_its_old_name_at_the_hub(tmp_path: Path) -> None:
    """What the Hub still has of a file must not go while the file waits here under its new name."""
    here, there = await two(tmp_path)
    await there.write("e/lost", b"1" * 262_144 + b"2" * 262_144)
    await there.pusher().push()
    await here.pusher().rebaser.follow(here.remote.at)
    await here.write("e/lost", b"ours", 5, truncate=False)
    await here.rename("e/lost", "moved")
    await here.unlink("e/a")
    await here.rmdir("e")
    await pin(here)
    lose_leaf(here.remote, b"1" * 262_144)
    here.close()
    again = await World(here.folder, here.remote).open()
    one = again.pusher()
    await one.push()
    assert list(one.withheld.refused) == ["moved"]
    reader = await World(tmp_path / "reader", here.remote).open()
    assert "lost" in await reader.names("e")
    await again.unlink("moved")
    one.retry_withheld()
    await one.push()
    reader = await World(tmp_path / "later", here.remote).open()
    assert "e" not in await reader.names("")
