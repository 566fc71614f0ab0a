"""The list of conflicts: what is on it, what becomes of it, and how one is settled."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support.memory_remote import MemoryRemote
from support.world import ME, World

from bucketfs.errors import IsADirectory, NotFound
from bucketfs.journal.ops import Conflict
from bucketfs.sync import Pace, Scheduler
from bucketfs.vfs import EntryChanged, EntryGone, Invalidation, Keep, RenameFlags


@dataclass
class Two:
    """Two mounts of one bucket. ``first`` pushed its version of ``d/note`` before ``second`` could."""

    remote: MemoryRemote
    first: World
    second: World
    folder: Path
    syncers: dict[World, Scheduler] = field(default_factory=dict)

    async def round(self, world: World) -> None:
        """One round of the task that keeps a volume and its bucket the same."""
        scheduler = self.syncers.get(world)
        if scheduler is None:
            pusher = world.pusher()
            scheduler = Scheduler(world.volume, self.remote, pusher, Pace(0, 0))
            self.syncers[world] = scheduler
        scheduler.root_moved()
        await scheduler._round()

    async def again(self) -> None:
        """The second mount is killed and comes back."""
        self.second.close()
        self.second = await World(self.folder / "second", self.remote).open()
        assert self.second.quarantined == []

    @property
    def listed(self) -> list[Conflict]:
        return list(self.second.volume.pending.conflicts)

    async def resolve(self, keep: Keep) -> None:
        (conflict,) = self.listed
        await self.second.vfs.resolve(self.second.volume, conflict, keep)


@asynccontextmanager
async def conflict(folder: Path) -> AsyncGenerator[Two, None]:
    remote = MemoryRemote()
    first = await World(folder / "first", remote).open()
    await first.mkdir("d")
    await first.write("d/note", b"base")
    two = Two(remote, first, first, folder)
    await two.round(first)
    two.second = await World(folder / "second", remote).open()
    await first.write("d/note", b"first")
    await two.second.write("d/note", b"second")
    await two.round(first)
    await two.round(two.second)
    assert len(two.listed) == 1
    yield two
    for world in (first, two.second):
        world.close()


async def test_what_the_list_says(tmp_path: Path) -> None:
    """The list of conflicts names both versions and whose they are."""
    async with conflict(tmp_path) as two:
        (item,) = two.listed
        assert item.original == "d/note" and item.ours
        assert await two.second.read(item.copy) == b"second"
        # The root it met is the one that the first mount pushed, and not what came of the conflict.
        assert item.root in two.remote.store and item.root != two.remote.at
        assert len(two.first.volume.pending.conflicts) == 0


async def test_it_outlives_kills_and_is_never_doubled(tmp_path: Path) -> None:
    """A conflict is still listed after a kill, and only once."""
    async with conflict(tmp_path) as two:
        before = two.listed
        for _ in range(2):
            await two.again()
            assert two.listed == before
            await two.round(two.second)
            assert two.listed == before
        await two.second.write("other", b"x")
        await two.again()
        await two.round(two.second)
        assert two.listed == before


async def test_a_kill_right_after_the_copy_was_made(tmp_path: Path) -> None:
    """Between the checkpoint that holds the copy and the push that would take it to the Hub."""
    async with conflict(tmp_path) as two:
        await two.second.write("d/note", b"second again")
        await two.first.write("d/more", b"x")
        await two.first.write("d/note", b"first again")
        await two.round(two.first)
        pusher = two.second.pusher()
        await pusher.rebaser.follow(two.remote.at)
        assert len(two.listed) == 2
        before = two.listed
        await two.again()
        assert two.listed == before
        assert [await two.second.read(item.copy) for item in two.listed] == [b"second", b"second again"]


async def test_a_kill_before_the_checkpoint_makes_the_conflict_once(tmp_path: Path) -> None:
    """A kill in the middle of a rebase leaves one copy, not two."""
    async with conflict(tmp_path) as two:
        await two.second.write("new", b"second")
        await two.first.write("new", b"first")
        await two.round(two.first)
        pusher = two.second.pusher()
        two.second.volume.journal.checkpoint = None  # type: ignore[assignment, method-assign]
        with pytest.raises(TypeError):
            await pusher.rebaser.follow(two.remote.at)
        await two.again()
        assert len(two.listed) == 1, "the overlay stands on the old base again, where nothing had met"
        await two.round(two.second)
        assert [item.original for item in two.listed] == ["d/note", "new"]
        assert len([name for name in await two.second.names() if name.startswith("new (conflict")]) == 1


@pytest.mark.parametrize("killed", [False, True])
async def test_what_is_done_here_settles_or_moves_it(tmp_path: Path, killed: bool) -> None:
    """A conflict follows renames and goes when one version is removed."""
    async with conflict(tmp_path) as two:
        (item,) = two.listed
        name = item.copy.rpartition("/")[2]

        async def maybe_killed() -> None:
            if killed:
                await two.again()

        await two.second.rename("d", "e")
        await two.second.mkdir("d")
        await two.second.rename("d", "e", RenameFlags.EXCHANGE)
        await two.second.rename("d", "f")
        await maybe_killed()
        (moved,) = two.listed
        assert (moved.copy, moved.original, moved.root) == (f"f/{name}", "f/note", item.root)
        assert await two.second.read(moved.copy) == b"second"
        await two.second.rename("f/note", "f/notes")
        await maybe_killed()
        assert two.listed == [moved], "what has the name is not the copy"
        await two.second.rename(moved.copy, "mine")
        await maybe_killed()
        assert two.listed == []


async def test_a_copy_that_is_removed_or_replaced_is_settled(tmp_path: Path) -> None:
    """`rm` of a conflict copy takes it off the list."""
    async with conflict(tmp_path) as two:
        (item,) = two.listed
        await two.second.unlink(item.copy)
        assert two.listed == []
    (tmp_path / "replaced").mkdir()
    async with conflict(tmp_path / "replaced") as two:
        (item,) = two.listed
        await two.second.write("d/.saving", b"edited")
        await two.second.rename("d/.saving", item.copy)
        assert two.listed == [item], "an editor saved it"
        await two.second.rename("d/note", item.copy, RenameFlags.EXCHANGE)
        assert two.listed == []
    (tmp_path / "chosen").mkdir()
    async with conflict(tmp_path / "chosen") as two:
        (item,) = two.listed
        await two.second.rename("d/note", item.copy)
        assert two.listed == []


async def test_what_another_client_does_to_the_copy(tmp_path: Path) -> None:
    """A conflict that was resolved on another machine is resolved here, too."""
    async with conflict(tmp_path) as two:
        (item,) = two.listed
        name = item.copy.rpartition("/")[2]
        await two.round(two.first)
        await two.first.rename("d", "renamed")
        await two.round(two.first)
        await two.round(two.second)
        (moved,) = two.listed
        assert (moved.copy, moved.original) == (f"renamed/{name}", "renamed/note")
        await two.again()
        assert two.listed == [moved]
        await two.first.write(moved.copy, b"edited elsewhere")
        await two.round(two.first)
        await two.round(two.second)
        assert two.listed == [moved]
        await two.first.unlink(moved.copy)
        await two.round(two.first)
        await two.round(two.second)
        assert two.listed == []


async def test_a_copy_that_went_while_nobody_looked(tmp_path: Path) -> None:
    """A copy that is gone after a restart is not listed for ever."""
    async with conflict(tmp_path) as two:
        (item,) = two.listed
        await two.round(two.first)
        await two.first.unlink(item.copy)
        await two.round(two.first)
        await two.again()
        assert two.listed == [item]
        await two.round(two.second)
        assert two.listed == []


@pytest.mark.parametrize("keep", Keep)
async def test_settling(tmp_path: Path, keep: Keep) -> None:
    """`conflicts keep` leaves the version that was chosen, under the old name."""
    async with conflict(tmp_path) as two:
        (item,) = two.listed
        parent = await two.second.inode("d")
        copy, original = item.copy.rpartition("/")[2].encode(), b"note"
        inode = await two.second.inode(item.copy)
        two.second.told.clear()
        two.remote.away = True  # which settling never asks
        await two.resolve(keep)
        assert two.listed == []
        kept = {Keep.MINE: b"second", Keep.THEIRS: b"first", Keep.BOTH: b"first"}[keep]
        told: dict[Keep, set[Invalidation]] = {
            Keep.MINE: {EntryChanged(parent, copy), EntryChanged(parent, original)},
            Keep.THEIRS: {EntryGone(parent, copy, inode)},
            Keep.BOTH: set(),
        }
        assert told[keep] <= set(two.second.told)
        two.remote.away = False
        await two.again()
        assert two.listed == []
        for world in (two.second, two.first):
            await two.round(world)
            assert await world.read("d/note") == kept
            assert (item.copy in await world.tree()) == (keep is Keep.BOTH)


async def test_settling_never_takes_the_last_version(tmp_path: Path) -> None:
    """Resolving a conflict never removes both versions."""
    async with conflict(tmp_path) as two:
        await two.second.unlink("d/note")
        with pytest.raises(NotFound, match="all that is left"):
            await two.resolve(Keep.THEIRS)
        assert len(two.listed) == 1
        await two.second.mkdir("d/note")
        with pytest.raises(IsADirectory):
            await two.resolve(Keep.MINE)
        await two.second.rmdir("d/note")
        await two.resolve(Keep.MINE)
        assert await two.second.tree("d") == {"d/note": b"second"}


async def test_what_is_written_to_an_open_file_that_the_hub_replaced(tmp_path: Path) -> None:
    """The copy is made by the write, not by a rebase; it is on the list from then on, over a kill and a push."""
    async with conflict(tmp_path) as two:
        opened = await two.second.vfs.open(await two.second.inode("d/note"), os.O_RDWR, ME)
        await two.first.write("d/note", b"first again")
        await two.round(two.first)
        await two.round(two.second)
        assert len(two.listed) == 1
        await two.second.vfs.files.write(opened.handle, 0, b"FIRST")
        await two.second.vfs.files.flush(opened.handle)
        assert [item.original for item in two.listed] == ["d/note", "d/note"]
        before = two.listed
        await two.again()
        assert two.listed == before and await two.second.read(before[1].copy) == b"FIRST"
        await two.round(two.second)
        assert two.listed == before
