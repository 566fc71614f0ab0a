"""Checksums of what waits here: which files get them, what writes do then, and what damage to a draft costs."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import trio
from support.memory_remote import MemoryRemote
from support.world import ME, World

from bucketfs.errors import Corrupt, NoSpace, Unavailable
from bucketfs.journal.checksums import BLOCK_SIZE
from bucketfs.sync import Pace, Pusher, Scheduler
from bucketfs.sync import scheduler as sync_module
from bucketfs.types import DraftId
from bucketfs.vfs import DraftDamaged, FileNode, queue_recovered, seal
from bucketfs.vfs.tree.file_io import LAYERS_MAX


async def world(tmp_path: Path, remote: MemoryRemote | None = None) -> World:
    return await World(tmp_path / "here", remote or MemoryRemote()).open()


async def again(at: World) -> World:
    """As after a kill."""
    at.close()
    return await World(at.folder, at.remote).open()


def pusher(at: World) -> Pusher:
    return at.pusher()


async def file(at: World, path: str) -> FileNode:
    node = at.volume.tree.registry[await at.inode(path)]
    assert isinstance(node, FileNode)
    return node


async def draft_of(at: World, path: str, layer: int = -1) -> Path:
    draft = (await file(at, path)).content.layers[layer].draft.id
    return at.folder / "journal/drafts" / f"{draft & 255:02x}" / f"{draft:016x}"


async def damage(at: World, path: str, where: int = 0, layer: int = -1) -> None:
    draft = await draft_of(at, path, layer)
    with draft.open("r+b") as held:
        held.seek(where)
        byte = held.read(1)
        held.seek(where)
        held.write(bytes([byte[0] ^ 1]))


async def at_the_hub(at: World) -> dict[str, object]:
    """What another client finds."""
    place = at.folder.parent / "another"
    another = await World(place, at.remote).open()
    found = await another.tree()
    another.close()
    shutil.rmtree(place)
    return found


def sealed_count(at: World) -> int:
    return at.journal.figures().drafts_sealed


async def test_closed_files_are_sealed_when_they_were_quiet(tmp_path: Path) -> None:
    """Bytes that wait for the Hub would have no checksum, and damage to them would be pushed."""
    here = await world(tmp_path)
    await here.write("closed", b"c" * 10)
    opened, _ = await here.vfs.create(*(await here._parent("open")), 0o644, os.O_WRONLY | os.O_CREAT, ME)
    await here.vfs.files.write(opened.handle, 0, b"o" * 10)
    await here.vfs.files.flush(opened.handle)
    await seal(here.volume, 3600)
    assert sealed_count(here) == 0, "both were changed just now"
    await seal(here.volume, 0)
    assert sealed_count(here) == 1
    await here.vfs.files.release(opened.handle)
    await seal(here.volume, 0)
    assert sealed_count(here) == 2
    records = here.journal.figures().records
    await seal(here.volume, 0)
    assert here.journal.figures().records == records and not here.volume.pending.unsealed


async def test_what_cannot_be_sealed_now_waits_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk would leave files without checksums for good."""
    here = await world(tmp_path)
    await here.write("f", b"f")

    async def full(extents: object) -> set[DraftId]:
        raise NoSpace("no space left")

    with monkeypatch.context() as patched:
        patched.setattr(here.journal, "seal", full)
        with pytest.raises(NoSpace):
            await seal(here.volume, 0)
    await seal(here.volume, 0)
    assert sealed_count(here) == 1


async def test_what_a_kill_left_is_sealed_by_the_next_run(tmp_path: Path) -> None:
    """Files that a kill left would never get checksums."""
    here = await world(tmp_path)
    await here.write("f", b"f" * (BLOCK_SIZE + 5))
    await here.write("sealed", b"s")
    here = await again(here)
    queue_recovered(here.volume)
    await seal(here.volume, 0)
    assert sealed_count(here) == 2
    here = await again(here)
    await damage(here, "f", BLOCK_SIZE + 1)
    with pytest.raises(DraftDamaged):
        await here.read("f")


async def test_writes_over_sealed_bytes_go_to_another_draft_and_appends_do_not(tmp_path: Path) -> None:
    """A write over sealed bytes would make their checksum wrong, and be taken for damage."""
    here = await world(tmp_path)
    await here.write("f", b"a" * 100)
    await seal(here.volume, 0)
    await here.write("f", b"b" * 50, 100, truncate=False)
    node = await file(here, "f")
    assert len(node.content.layers) == 1
    await here.write("f", b"c" * 10, 95, truncate=False)
    assert len(node.content.layers) == 2
    wanted = b"a" * 95 + b"c" * 10 + b"b" * 45
    assert await here.read("f") == wanted
    here = await again(here)
    assert await here.read("f") == wanted and here.quarantined == []
    queue_recovered(here.volume)
    await seal(here.volume, 0)
    await here.truncate("f", 97)
    await here.write("f", b"d", 99, truncate=False)
    wanted = b"a" * 95 + b"cc" + b"\0\0" + b"d"
    assert await here.read("f") == wanted
    here = await again(here)
    assert await here.read("f") == wanted
    await here.write("f", b"all anew")
    here = await again(here)
    assert await here.read("f") == b"all anew"
    await pusher(here).push()
    assert await here.read("f") == b"all anew" and here.journal.figures().drafts == 0


async def test_the_end_of_a_log_is_read_and_pushed_as_it_was_written_last(tmp_path: Path) -> None:
    """Whoever corrects the end of a file that was appended to would read the former end, and push it to the Hub."""
    here = await world(tmp_path)
    await here.write("log", b"a" * 100)
    await seal(here.volume, 0)
    await here.write("log", b"draft", 100, truncate=False)
    assert await here.read("log") == b"a" * 100 + b"draft"
    await here.write("log", b"final", 100, truncate=False)
    node = await file(here, "log")
    assert len(node.content.layers) == 1, "written behind the sealed bytes, into the same draft"
    assert await here.read("log") == b"a" * 100 + b"final"
    await pusher(here).push()
    assert await at_the_hub(here) == {"log": b"a" * 100 + b"final"}


async def test_layers_over_sealed_bytes_stay_few(tmp_path: Path) -> None:
    """A file that is edited again and again would be read ever slower."""
    here = await world(tmp_path)
    here.remote.away = True
    wanted = bytearray(b"-" * 3000)
    await here.write("f", bytes(wanted))
    for number in range(3 * LAYERS_MAX):
        at = number * 50 + 1
        wanted[at : at + 80] = bytes([number]) * 80
        await here.write("f", bytes([number]) * 80, at, truncate=False)
        await seal(here.volume, 0)
        with pytest.raises(Exception, match="away"):
            await pusher(here).push()
        assert await here.read("f") == wanted
    node = await file(here, "f")
    assert len(node.content.layers) <= LAYERS_MAX + 1
    await pusher(here).checkpoints.write()
    here.remote.away = False
    here = await again(here)
    assert await here.read("f") == wanted
    await pusher(here).push()
    assert await here.read("f") == wanted


async def test_a_file_that_is_written_anew_again_and_again_holds_one_draft(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is rewritten every minute would fill the disk with its former states."""
    here = await world(tmp_path)
    here.remote.away = True
    for number in range(4):
        await here.write("f", bytes([number]) * 1000)
        await seal(here.volume, 0)
        with pytest.raises(Exception, match="away"):
            await pusher(here).push()
    assert len((await file(here, "f")).content.layers) == 1
    assert await here.read("f") == bytes([3]) * 1000
    assert here.volume.pending.garbage_bytes == 3000
    await here.write("gone", b"gone" * 10)
    await here.unlink("gone")
    here.vfs.forget([(inode, node.lookups) for inode, node in here.volume.tree.registry.items()])
    assert here.volume.pending.garbage_bytes == 3040
    monkeypatch.setattr(sync_module, "GARBAGE_BYTES_MAX", 3000)
    scheduler = Scheduler(here.volume, here.remote, pusher(here), Pace(1e9, 1e9))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scheduler.run)
        with pytest.raises(Unavailable):
            await scheduler.drain()
        while here.journal.figures().drafts > 1:
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    assert here.volume.pending.garbage_bytes == 0
    assert await here.read("f") == bytes([3]) * 1000


async def test_damage_is_an_error_of_the_file_until_it_is_mended(tmp_path: Path) -> None:
    """Damaged bytes would be read as if they were right."""
    here = await world(tmp_path)
    ways = ["patched", "truncated", "renamed over", "removed"]
    for name in ways:
        await here.write(name, b"x" * 1000)
    await here.write("sound", b"s" * 1000)
    await seal(here.volume, 0)
    for name in ways:
        await damage(here, name, 500)
        with pytest.raises(DraftDamaged, match=name) as caught:
            await here.read(name)
        assert isinstance(caught.value, Corrupt) and "write the file again" in caught.value.hint
    assert await here.read("sound") == b"s" * 1000
    # What is written is kept; what was damaged does not become right by that.
    await here.write("patched", b"y" * 10, 0, truncate=False)
    with pytest.raises(DraftDamaged):
        await here.read("patched")
    await here.write("patched", b"y" * 1000, 0, truncate=False)
    await here.write("truncated", b"t")
    await here.write("new", b"new")
    await here.rename("new", "renamed over")
    await here.unlink("removed")
    wanted = {"patched": b"y" * 1000, "truncated": b"t", "renamed over": b"new", "sound": b"s" * 1000}
    assert await here.tree() == wanted
    await pusher(here).push()
    assert await at_the_hub(here) == wanted


async def test_a_push_goes_without_what_is_damaged(tmp_path: Path) -> None:
    """One damaged file would keep all others from the Hub."""
    remote = MemoryRemote()
    here = await world(tmp_path, remote)
    await here.write("old", b"the good copy")
    await here.write("taken", b"moved and edited")
    await here.write("goes", b"goes")
    push = pusher(here)
    await push.push()
    await here.write("old", b"a later state")
    await here.mkdir("new")
    await here.mkdir("new/deep")
    for name in ("new/one", "new/deep/two", "new/deep/large", "three"):
        await here.write(name, name.encode() * 100_000)
    await here.rename("taken", "new/moved")
    await here.write("new/moved", b"M", 0, truncate=False)
    await here.unlink("goes")
    await seal(here.volume, 0)
    hit = {"old", "new/deep/two", "new/deep/large", "new/moved"}
    for name in hit:
        await damage(here, name)
    await push.push()
    assert set(push.withheld.damaged) == hit and not push.withheld.refused
    assert all(path in reason for path, reason in push.withheld.damaged.items())

    found = await at_the_hub(here)
    assert found.pop("old") == b"the good copy"
    # What was moved to a place that waits is still at the old one, and so nothing is taken away.
    assert found.pop("taken") == b"moved and edited"
    assert found.pop("goes") == b"goes"
    assert found == {"new": None, "new/deep": None, "new/one": b"new/one" * 100_000, "three": b"three" * 100_000}

    # Nothing else is pushed for its sake, and what is written anew goes out by itself.
    swaps = remote.swaps
    assert await push.push() is None and remote.swaps == swaps
    here = await again(here)
    push = pusher(here)
    await push.push()
    assert set(push.withheld.damaged) == hit
    await here.write("old", b"written anew")
    await here.write("new/moved", b"anew, too")
    await here.unlink("new/deep/two")
    await push.push()
    assert set(push.withheld.damaged) == {"new/deep/large"}
    found = await at_the_hub(here)
    assert found["old"] == b"written anew" and found["new/moved"] == b"anew, too"
    assert found.keys() == {"old", "new", "new/deep", "new/one", "new/moved", "three"}
    await here.write("new/deep/large", b"mended")
    await push.push()
    assert not push.withheld.damaged and not here.volume.root.dirty
    assert await at_the_hub(here) == await here.tree()


async def test_a_damaged_file_and_another_client(tmp_path: Path) -> None:
    """Both made the same files; one is damaged here. The others are no conflicts, and what the Hub has of it is kept."""
    remote = MemoryRemote()
    here, there = await world(tmp_path, remote), await World(tmp_path / "there", remote).open()
    for at in (there, here):
        await at.mkdir("d")
        for name in ("a", "b"):
            await at.write(f"d/{name}", name.encode() * 1000)
            await at.utime(f"d/{name}", 10**18)
    await seal(here.volume, 0)
    await damage(here, "d/b")
    await pusher(there).push()
    push = pusher(here)
    await push.push()
    names = await here.names("d")
    assert names[0] == "a" and len(names) == 3 and names[1].startswith("b"), names
    assert await here.read("d/b") == b"b" * 1000, "the Hub's"
    (copy,) = push.withheld.damaged
    assert copy.startswith("d/b (conflict")


async def test_sync_says_what_waits_for_damage(tmp_path: Path) -> None:
    """A user who runs sync would be told that all is at the Hub although a damaged file is not."""
    here = await world(tmp_path)
    await here.write("f", b"f" * 100)
    await here.write("g", b"g" * 100)
    await seal(here.volume, 0)
    await damage(here, "f")
    scheduler = Scheduler(here.volume, here.remote, pusher(here), Pace(1e9, 1e9))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scheduler.run)
        with pytest.raises(Corrupt, match=r"'f'.*damaged on this disk"):
            await scheduler.drain()
        assert set(scheduler.withheld.damaged) == {"f"} and scheduler.failure is None
        scheduler.retry_now()  # as when the Hub is back, between the attempt and whoever asked for it
        assert set(scheduler.withheld.damaged) == {"f"}
        await here.write("f", b"anew")
        await scheduler.drain()
        assert not scheduler.withheld.damaged
        nursery.cancel_scope.cancel()
