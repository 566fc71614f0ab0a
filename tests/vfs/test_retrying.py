"""Changes below a folder whose block the Hub has lost, done later: never over what another client has done there meanwhile."""

from __future__ import annotations

import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from test_damage import heal, pusher, synced
from world import ME, MemoryRemote, World

from bucketfs.errors import Corrupt
from bucketfs.types import Cid
from bucketfs.vfs import AttributesChanged, EntryChanged

Act = Callable[[World], Awaitable[None]]


async def stuck(tmp_path: Path, ours: Act) -> tuple[World, World, Cid, bytes]:
    """A mount that came up while the folder d was lost, with changes below it in its journal; another that still knows d; and
    what was lost."""
    remote = MemoryRemote()
    there = await World(tmp_path / "there", remote).open()
    await there.mkdir("d")
    for name in "abc":
        await there.write(f"d/{name}", name.encode())
    await pusher(there).push()
    here = await World(tmp_path / "here", remote).open()
    await ours(here)
    here.close()
    cid = (await there.volume.base_tree.resolve(remote.at, [b"d"])).cid
    block = remote.store.pop(cid)
    shutil.rmtree(tmp_path / "here/journal/base", ignore_errors=True)
    here = await World(tmp_path / "here", remote).open()
    assert here.volume.stuck
    return here, there, cid, block


async def ended(tmp_path: Path, here: World) -> dict[str, object]:
    async with synced(here) as syncer:
        await syncer.settle()
    assert not here.volume.root.dirty and not here.volume.stuck
    here.close()
    fresh = await World(tmp_path / "fresh", here.remote).open()
    tree = await fresh.tree()
    fresh.close()
    return {path: content for path, content in tree.items() if content is not None}


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


async def anew(world: World) -> None:
    await world.unlink("d/a")
    await world.write("d/a", b"anew")


async def overwrite(world: World) -> None:
    await world.write("d/a", b"over")


async def nothing(world: World) -> None:
    pass


async def theirs(world: World) -> None:
    for name in ("a", "c", "new"):
        await world.write(f"d/{name}", b"theirs")
    await world.mkdir("d/e")
    await world.write("d/e/theirs", b"theirs")


async def folder_removed(world: World) -> None:
    for name in "abc":
        await world.unlink(f"d/{name}")
    await world.rmdir("d")


BASE = {"d/a": b"a", "d/b": b"b", "d/c": b"c"}
THEIRS = {"d/a": b"theirs", "d/b": b"b", "d/c": b"theirs", "d/new": b"theirs", "d/e/theirs": b"theirs"}
CASES: dict[str, tuple[Act, dict[str, bytes], dict[str, bytes], dict[str, bytes]]] = {
    # what is done here, what it makes of what there was, what of the other's, and what stands beside that
    "create": (create, BASE | {"d/new": b"ours"}, THEIRS, {"d/new": b"ours"}),
    "unlink": (unlink, {"d/b": b"b", "d/c": b"c"}, THEIRS, {}),
    "rename": (rename, {"d/a": b"a", "d/c": b"c", "d/new": b"b"}, THEIRS, {"d/new": b"b"}),
    "rename over": (rename_over, {"d/a": b"a", "d/c": b"b"}, THEIRS, {"d/c": b"b"}),
    "save": (save, BASE | {"d/a": b"saved"}, THEIRS, {"d/a": b"saved"}),
    "folder": (make_folder, BASE | {"d/e/in": b"ours"}, THEIRS | {"d/e/in": b"ours"}, {}),
    "anew": (anew, BASE | {"d/a": b"anew"}, THEIRS, {"d/a": b"anew"}),
    "overwrite": (overwrite, BASE | {"d/a": b"over"}, THEIRS, {"d/a": b"over"}),
}


def some(*names: str) -> list[object]:
    """These cases, and all others as wholes."""
    return [pytest.param(name, marks=() if name in names else pytest.mark.whole) for name in CASES]


@pytest.mark.parametrize("name", some("save", "rename over", "folder"))
async def test_it_is_done_when_the_block_is_back(tmp_path: Path, name: str) -> None:
    ours, expected, _, _ = CASES[name]
    here, there, cid, block = await stuck(tmp_path, ours)
    there.close()
    heal(here, cid, block)
    assert await ended(tmp_path, here) == expected


@pytest.mark.parametrize("back", [True, pytest.param(False, marks=pytest.mark.whole)])
@pytest.mark.parametrize("restart", [True, pytest.param(False, marks=pytest.mark.whole)])
@pytest.mark.parametrize("name", some("save", "unlink", "rename over", "overwrite"))
async def test_nothing_of_another_client_is_taken_away(tmp_path: Path, name: str, restart: bool, back: bool) -> None:
    ours, _, expected, beside = CASES[name]
    here, there, cid, block = await stuck(tmp_path, ours)
    await theirs(there)
    await pusher(there).push()
    there.close()
    await pusher(here).follow(here.remote.at)
    if back:
        here.remote.store[cid] = block
    if restart:
        here.close()
        here = await World(tmp_path / "here", here.remote).open()
        assert here.volume.stuck
    seen = await ended(tmp_path, here)
    copies = {conflict.copy: conflict.original for conflict in here.volume.conflicts}
    assert seen == {path: content for path, content in expected.items() if path != "d/b" or "rename" not in name} | {
        copy: beside[original] for copy, original in copies.items()
    }
    assert sorted(copies.values()) == sorted(beside)


@pytest.mark.parametrize("name", some("rename over", "overwrite"))
async def test_what_another_client_did_beside_is_no_conflict(tmp_path: Path, name: str) -> None:
    """The block is back in time to tell that nobody has touched these names."""
    ours, expected, _, _ = CASES[name]
    here, there, cid, block = await stuck(tmp_path, ours)
    await there.write("d/other", b"other")
    await pusher(there).push()
    there.close()
    here.remote.store[cid] = block
    await pusher(here).follow(here.remote.at)
    del here.remote.store[cid]
    seen = await ended(tmp_path, here)
    assert seen == expected | {"d/other": b"other"} and not len(here.volume.conflicts)


@pytest.mark.parametrize("name", ["save", "overwrite"])
async def test_what_was_made_here_survives_that_the_folder_is_gone(tmp_path: Path, name: str) -> None:
    ours, _, _, _ = CASES[name]
    here, there, _, _ = await stuck(tmp_path, ours)
    await folder_removed(there)
    await pusher(there).push()
    there.close()
    seen = await ended(tmp_path, here)
    assert list(seen.values()) == [{"save": b"saved", "overwrite": b"over"}[name]]


@pytest.mark.parametrize("removed", [False, True])
async def test_part_of_a_file_that_another_client_changed_goes_on_waiting(tmp_path: Path, removed: bool) -> None:
    async def partly(world: World) -> None:
        await world.write("d/a", b"X", offset=1, truncate=False)

    here, there, _, _ = await stuck(tmp_path, partly)
    await (there.unlink("d/a") if removed else there.write("d/a", b"theirs"))
    await pusher(there).push()
    there.close()
    async with synced(here) as syncer:
        await syncer.settle()
    assert here.volume.stuck
    if not removed:
        assert await here.read("d/a") == b"theirs"
        with pytest.raises(Corrupt, match="wait for blocks"):
            await here.write("d/a", b"Y", offset=1, truncate=False)
    await here.write("d/a", b"written anew")
    assert not here.volume.stuck
    assert (await ended(tmp_path, here))["d/a"] == b"written anew"


async def test_the_kernel_hears_what_appears(tmp_path: Path) -> None:
    here, there, cid, block = await stuck(tmp_path, anew)
    there.close()
    heal(here, cid, block)
    folder = await here.inode("d")
    known = await here.inode("d/a")
    here.told.clear()
    await pusher(here).retry()
    assert EntryChanged(folder, b"a") in here.told and AttributesChanged(folder) in here.told
    assert await here.inode("d/a") != known
    here.close()


async def test_a_file_that_the_kernel_knows_has_another_number_with_other_bytes(tmp_path: Path) -> None:
    """The kernel keeps the length of a file that it knows; who has it open goes on reading what it opened."""
    here, there, cid, block = await stuck(tmp_path, overwrite)
    there.close()
    heal(here, cid, block)
    known = await here.inode("d/a")
    await pusher(here).retry()
    assert await here.inode("d/a") != known and await here.read("d/a") == b"over"
    opened = await here.vfs.open(known, os.O_RDONLY, ME)
    assert await here.vfs.read(opened.handle, 0, 10) == b"a"
    here.close()


async def test_conflicts_elsewhere_are_settled_while_something_waits(tmp_path: Path) -> None:
    here, there, cid, block = await stuck(tmp_path, create)
    await there.write("f", b"theirs")
    await pusher(there).push()
    await here.write("f", b"ours")
    await here.write("g", b"ours")
    async with synced(here) as syncer:
        await syncer.settle()
        (conflict,) = here.volume.conflicts
        await pusher(there).follow(here.remote.at)
        await there.unlink(conflict.copy)
        await pusher(there).push()
        await syncer.settle()
        assert not len(here.volume.conflicts) and here.volume.stuck
    there.close()
    heal(here, cid, block)
    assert await ended(tmp_path, here) == BASE | {"d/new": b"ours", "f": b"theirs", "g": b"ours"}
