"""What the journal holds is what a restart brings back: found by somebody who tried to break it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import pytest
import trio
from support.memory_remote import MemoryRemote, lose_the_answer, nothing
from support.world import ME, World

from bucketfs.errors import NoSpace, NotFound, Unavailable
from bucketfs.sync import Pace, Scheduler
from bucketfs.types import ROOT_INODE, Inode
from bucketfs.vfs import RenameFlags, SetAttr


def no_space(*_: object, **__: object) -> NoReturn:
    raise NoSpace("the disk is full")


async def two_with_a_folder_that_went(tmp_path: Path) -> tuple[World, Inode]:
    """A mount that still knows the inode of a folder that another one removed."""
    remote = MemoryRemote()
    one = await World(tmp_path / "one", remote).open()
    await one.mkdir("d")
    await one.write("d/README", b"in d")
    await one.write("README", b"top")
    await one.pusher().push()
    two = await World(tmp_path / "two", remote).open()
    folder = await two.inode("d")
    await two.inode("d/README")
    await one.unlink("d/README")
    await one.rmdir("d")
    await one.pusher().push()
    await two.pusher().rebaser.follow(remote.at)
    one.close()
    return two, folder


async def test_what_is_done_in_a_folder_that_went_touches_nothing_else(tmp_path: Path) -> None:
    """A write in a folder that another client removed would, after a restart, hit what has its path now."""
    two, folder = await two_with_a_folder_that_went(tmp_path)
    with pytest.raises(NotFound):
        await two.vfs.unlink(folder, b"README", ME)
    with pytest.raises(NotFound):
        await two.vfs.rename(folder, b"README", ROOT_INODE, b"saved", RenameFlags.NONE, ME)
    two.close()
    again = await World(tmp_path / "two", two.remote).open()
    assert await again.tree() == {"README": b"top"}
    again.close()


async def test_a_rename_carries_what_was_written_and_not_closed(tmp_path: Path) -> None:
    """A program that writes a file and renames it over the old one would, after a kill, have an empty file."""
    world = await World(tmp_path, MemoryRemote()).open()
    await world.write("f", b"old")
    opened, _ = await world.vfs.create(ROOT_INODE, b"f.tmp", 0o644, os.O_RDWR | os.O_CREAT, ME)
    await world.vfs.files.write(opened.handle, 0, b"new")
    await world.rename("f.tmp", "f")
    world.close()
    again = await World(tmp_path, world.remote).open()
    assert await again.tree() == {"f": b"new"}
    again.close()


async def test_nothing_is_recorded_on_a_base_that_the_journal_does_not_have(tmp_path: Path) -> None:
    """Changes made after a rebase on a full disk would, after a restart, be applied to another tree."""
    remote = MemoryRemote()
    one = await World(tmp_path / "one", remote).open()
    two = await World(tmp_path / "two", remote).open()
    await one.mkdir("d")
    await one.write("d/x", b"x")
    await one.pusher().push()
    checkpoint, two.journal.checkpoint = two.journal.checkpoint, no_space  # type: ignore[method-assign]
    with pytest.raises(NoSpace):
        await two.pusher().rebaser.follow(remote.at)
    two.journal.checkpoint = checkpoint  # type: ignore[method-assign]
    with pytest.raises(NoSpace):
        await two.write("d/new", b"refused")
    await two.pusher().checkpoints.write()
    await two.write("d/new", b"acknowledged")
    two.close()
    again = await World(tmp_path / "two", remote).open()
    assert again.quarantined == []
    assert (await again.tree())["d/new"] == b"acknowledged"
    again.close()
    one.close()


async def test_a_truncate_without_room_for_its_record_changes_nothing(tmp_path: Path) -> None:
    """A cut that was refused would be seen, and be undone by a restart."""
    world = await World(tmp_path, MemoryRemote()).open()
    await world.write("f", b"S" * 100)
    append, world.journal.append = world.journal.append, no_space  # type: ignore[method-assign]
    with pytest.raises(NoSpace):
        await world.truncate("f", 10)
    world.journal.append = append  # type: ignore[method-assign]
    await world.write("f", b"new", offset=50, truncate=False)
    before = await world.read("f")
    assert before == b"S" * 50 + b"new" + b"S" * 47
    world.close()
    again = await World(tmp_path, world.remote).open()
    assert await again.read("f") == before
    again.close()


async def test_a_checkpoint_keeps_what_was_proposed(tmp_path: Path) -> None:
    """After a restart a mount would not know its own push, and make conflicts with it."""
    remote = MemoryRemote()
    world = await World(tmp_path, remote).open()
    await world.write("f", b"1")
    await world.write("g", b"g")
    await world.pusher().push()
    await world.write("f", b"2")
    await world.write("g", b"g2")
    remote.after_swap = lose_the_answer
    with pytest.raises(Unavailable):
        await world.pusher().push()
    remote.after_swap = nothing
    await world.pusher().checkpoints.write()
    world.close()
    again = await World(tmp_path, remote).open()
    await again.write("f", b"3")
    await again.unlink("g")
    done = await again.pusher().push()
    assert done is not None and done.conflicts == []
    assert await again.tree() == {"f": b"3"}
    again.close()


async def test_an_open_file_does_not_keep_a_failed_journal_from_beginning_anew(tmp_path: Path) -> None:
    """After an error of the disk a mount would refuse all changes as long as any file is open."""
    world = await World(tmp_path, MemoryRemote()).open()
    opened, _ = await world.vfs.create(ROOT_INODE, b"log", 0o644, os.O_RDWR | os.O_CREAT, ME)
    await world.vfs.files.write(opened.handle, 0, b"line")
    append, world.journal.append = world.journal.append, no_space  # type: ignore[method-assign]
    await world.pusher().checkpoints.write()
    world.journal.append = append  # type: ignore[method-assign]
    world.close()
    again = await World(tmp_path, world.remote).open()
    assert await again.tree() == {"log": b"line"}
    again.close()


async def test_a_journal_that_cannot_be_tidied_does_not_end_the_syncer(tmp_path: Path) -> None:
    """A full disk would end the syncing of a bucket until the next mount."""
    remote = MemoryRemote()
    world = await World(tmp_path, remote).open()
    await world.write("f", b"1")
    remote.away = True
    scheduler = Scheduler(world.volume, remote, world.pusher(), Pace())
    world.volume.pending.garbage_drafts = 1_000_000
    checkpoint, world.journal.checkpoint = world.journal.checkpoint, no_space  # type: ignore[method-assign]
    async with trio.open_nursery() as nursery:
        await nursery.start(scheduler.run)
        with pytest.raises(Unavailable):
            await scheduler.drain()
        remote.away = False
        world.journal.checkpoint = checkpoint  # type: ignore[method-assign]
        await scheduler.drain()
        nursery.cancel_scope.cancel()
    assert not world.volume.root.dirty
    world.close()


async def test_that_nobody_owns_a_file_any_more_outlives_a_kill(tmp_path: Path) -> None:
    """Two made the same file, and the other side gave it to somebody: with equal times it has no owner of its own."""
    remote = MemoryRemote()
    there, here = [await World(tmp_path / name, remote).open() for name in ("there", "here")]
    for world, owner in ((there, SetAttr(uid=1234, gid=1234)), (here, SetAttr(mode=0o600))):
        await world.write("f", b"same")
        await world.mkdir("d")
        for path in ("f", "d"):
            await world.vfs.setattr(await world.inode(path), owner, None, ME)
            await world.utime(path, 1_000_000_000)
    await there.pusher().push()
    pusher = here.pusher()
    await pusher.rebaser.follow(remote.at)
    for restart in (False, True):
        if restart:
            here.close()
            here = await World(tmp_path / "here", remote).open()
            assert here.quarantined == []
        for path in ("f", "d"):
            attr = await here.vfs.getattr(await here.inode(path))
            assert (attr.uid, attr.gid, attr.mode) == (1000, 1000, 0o600), (path, restart)
    await here.pusher().push()
    here.close()
    there.close()
    fresh = await World(tmp_path / "fresh", remote).open()
    attr = await fresh.vfs.getattr(await fresh.inode("f"))
    assert (attr.uid, attr.gid, attr.mode) == (1000, 1000, 0o600)
    fresh.close()
