"""A power loss that keeps records and forgets bytes: what an fsync acknowledged is here, what a push has sent stays at the Hub."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from support.memory_remote import MemoryRemote
from support.world import ME, World
from vfs.snapshot.test_batches import RecordingRemote

from bucketfs.errors import Unavailable
from bucketfs.types import FileHandle

Act = Callable[[World], Awaitable[None]]


def cut_drafts(world: World, size: int = 0) -> None:
    """The disk kept at most so many bytes of each draft."""
    for draft in (world.folder / "journal/drafts").rglob("*"):
        if draft.is_file() and draft.stat().st_size > size:
            os.truncate(draft, size)


async def begin(world: World, path: str) -> FileHandle:
    opened, _ = await world.vfs.create(*(await world._parent(path)), 0o644, os.O_WRONLY | os.O_CREAT, ME)
    return opened.handle


async def append(world: World, handle: FileHandle, offset: int, data: bytes) -> None:
    await world.vfs.files.write(handle, offset, data)
    await world.vfs.files.flush(handle)


async def test_bytes_before_an_fsync_are_there_when_later_ones_of_the_draft_are_lost(tmp_path: Path) -> None:
    """A power loss takes what was not synced, and nothing else of the file."""
    world = await World(tmp_path / "here", MemoryRemote()).open()
    handle = await begin(world, "log")
    await append(world, handle, 0, b"synced ")
    await world.vfs.files.fsync(handle, False)
    await append(world, handle, 7, b"and lost")
    world.close()
    cut_drafts(world, 7)
    world = await World(tmp_path / "here", world.remote).open()
    assert world.quarantined == [] and await world.read("log") == b"synced "
    # What is written now counts, whatever the lost record claimed of the same draft.
    handle = await begin(world, "log")
    await append(world, handle, 7, b"new")
    await world.vfs.files.fsync(handle, False)
    world.close()
    world = await World(tmp_path / "here", world.remote).open()
    assert await world.read("log") == b"synced new"
    await world.pusher().push()
    world.close()


async def sent_and_lost(tmp_path: Path, made: Act, then: Act, kept: int = 0) -> World:
    """A mount after a power loss: what ``made`` did is at the Hub by a push whose answer is lost, what ``then`` did is in the
    journal, and of each draft the disk kept ``kept`` bytes."""
    remote = RecordingRemote()
    world = await World(tmp_path / "here", remote).open()
    await world.mkdir("d")
    await world.write("d/old", b"old bytes")
    await world.pusher().push()
    remote.roots.clear()
    await made(world)
    remote.away_after, remote.lost = 0, True
    with pytest.raises(Unavailable):
        await world.pusher().push()
    await then(world)
    world.close()
    remote.away, remote.away_after = False, None
    cut_drafts(world, kept)
    return await World(tmp_path / "here", remote).open()


async def ended(tmp_path: Path, world: World) -> dict[str, object]:
    await world.pusher().push()
    assert not world.volume.root.dirty and not world.volume.push.truncated
    seen = await world.tree()
    world.close()
    fresh = await World(tmp_path / "fresh", world.remote).open()
    assert await fresh.tree() == seen
    fresh.close()
    return seen


async def nothing(world: World) -> None:
    pass


async def make(world: World) -> None:
    await world.mkdir("new")
    await world.write("new/f", b"sent")


async def overwrite(world: World) -> None:
    await world.write("d/old", b"overwritten")


async def two_records(world: World) -> None:
    handle = await begin(world, "two")
    await append(world, handle, 0, b"first ")
    await append(world, handle, 6, b"second")
    await world.vfs.files.release(handle)


async def rename(world: World) -> None:
    await world.rename("new/f", "elsewhere")


async def rename_folder(world: World) -> None:
    await world.rename("new", "d/moved")


async def rename_over(world: World) -> None:
    await world.rename("new/f", "d/old")


async def chmod(world: World) -> None:
    await world.chmod("d/old", 0o600)


async def remove(world: World) -> None:
    await world.unlink("new/f")


BASE = {"d": None, "d/old": b"old bytes"}


@pytest.mark.parametrize("checkpoint", [False, True])
@pytest.mark.parametrize(
    "made, then, expected",
    [
        (make, nothing, BASE | {"new": None, "new/f": b"sent"}),
        (make, rename, BASE | {"new": None, "elsewhere": b"sent"}),
        (make, rename_folder, BASE | {"d/moved": None, "d/moved/f": b"sent"}),
        (make, rename_over, {"d": None, "d/old": b"sent", "new": None}),
        (make, remove, BASE | {"new": None}),
        (overwrite, nothing, {"d": None, "d/old": b"overwritten"}),
        (overwrite, chmod, {"d": None, "d/old": b"overwritten"}),
    ],
)
async def test_what_was_sent_stays_whatever_its_name_is_now(
    tmp_path: Path, made: Act, then: Act, expected: dict[str, object], checkpoint: bool
) -> None:
    """Bytes that reached the Hub are not overwritten with what the power loss left here."""
    world = await sent_and_lost(tmp_path, made, then)
    if checkpoint:
        world.close()
        world = await World(tmp_path / "here", world.remote).open()
    seen = await ended(tmp_path, world)
    assert seen == expected


async def test_the_mode_given_after_it_was_sent_stays_too(tmp_path: Path) -> None:
    """A chmod that was recorded outlives the loss of the bytes."""
    world = await sent_and_lost(tmp_path, overwrite, chmod)
    await world.pusher().push()
    fresh = await World(tmp_path / "fresh", world.remote).open()
    tree = await fresh.stat_tree()
    assert tree["d/old"][:2] == (b"overwritten", 0o600)
    fresh.close()
    world.close()


async def test_part_of_what_was_sent_does_not_take_its_place(tmp_path: Path) -> None:
    """It may be what was synced since: so it stands beside."""
    world = await sent_and_lost(tmp_path, two_records, nothing, kept=6)
    assert await world.read("two") == b"first "
    seen = await ended(tmp_path, world)
    (copy,) = set(seen) - set(BASE) - {"two"}
    assert copy.startswith("two (conflict ") and (seen["two"], seen[copy]) == (b"first second", b"first ")


async def test_part_of_what_was_sent_and_renamed(tmp_path: Path) -> None:
    """What is left here stands beside the Hub's version, whatever it is called."""

    async def moved(world: World) -> None:
        await world.rename("two", "d/renamed")

    world = await sent_and_lost(tmp_path, two_records, moved, kept=6)
    seen = await ended(tmp_path, world)
    (copy,) = set(seen) - set(BASE) - {"d/renamed"}
    assert copy.startswith("d/renamed (conflict ") and (seen["d/renamed"], seen[copy]) == (b"first second", b"first ")


async def test_what_is_lost_of_what_was_written_after_it_was_sent_is_no_conflict(tmp_path: Path) -> None:
    """A file is not doubled for bytes that are gone anyway."""

    async def more(world: World) -> None:
        handle = await begin(world, "two")
        await append(world, handle, 12, b" third")
        await world.vfs.files.fsync(handle, False)
        await append(world, handle, 18, b" fourth")
        await world.vfs.files.release(handle)

    world = await sent_and_lost(tmp_path, two_records, more, kept=18)
    assert await ended(tmp_path, world) == BASE | {"two": b"first second third"}


async def test_a_file_that_is_open_when_it_is_given_back(tmp_path: Path) -> None:
    """Who writes to it meanwhile goes on with what was left here, and neither version is lost."""
    world = await sent_and_lost(tmp_path, make, nothing)
    handle = await begin(world, "new/f")
    await world.pusher().push()
    assert await world.read("new/f") == b"sent"
    await append(world, handle, 0, b"written")
    await world.vfs.files.release(handle)
    seen = await ended(tmp_path, world)
    (copy,) = set(seen) - set(BASE) - {"new", "new/f"}
    assert (seen["new/f"], seen[copy]) == (b"sent", b"written")
