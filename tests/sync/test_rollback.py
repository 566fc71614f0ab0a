"""A Hub that comes back with an older state than it had: what it lost is given to it again, and nothing is lost here."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import trio
from support.memory_remote import MemoryRemote
from support.world import World

from bucketfs.errors import BlocksMissing, Corrupt
from bucketfs.remote import Look
from bucketfs.sync import Pace, Scheduler
from bucketfs.types import Cid, UploadId

NAMED_MAX = 20


@dataclass
class RestorableRemote(MemoryRemote):
    """Tells when its root was swapped, each time later than before, and can be put back to what it was."""

    updated_at_ns: int = 1_700_000_000_000_000_000
    now_ns: int = 0

    async def look(self) -> Look:
        return replace(await super().look(), updated_at_ns=self.updated_at_ns)

    async def swap(self, expected: Cid, new: Cid, upload: UploadId) -> None:
        try:
            await super().swap(expected, new, upload)
        except BlocksMissing as error:
            # As the Hub does, which does not name all of many.
            raise BlocksMissing(cids=error.cids[:NAMED_MAX]) from error
        self.updated_at_ns = max(self.updated_at_ns + 1_000, self.now_ns)

    def saved(self) -> tuple[dict[Cid, bytes], Cid, int]:
        return dict(self.store), self.at, self.updated_at_ns

    def put_back(self, saved: tuple[dict[Cid, bytes], Cid, int]) -> None:
        """Restored from a copy."""
        store, self.at, self.updated_at_ns = saved
        self.store = dict(store)


@asynccontextmanager
async def synced(world: World) -> AsyncGenerator[Scheduler, None]:
    """The scheduler of a world, at work; it pushes when asked."""
    pusher = world.pusher()
    scheduler = Scheduler(world.volume, world.remote, pusher, Pace(1e9, 1e9))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scheduler.run)
        yield scheduler
        nursery.cancel_scope.cancel()


async def test_what_was_pushed_in_the_last_second_is_pushed_again(tmp_path: Path) -> None:
    """A Hub that lost its last second would take the newest changes from every mount."""
    remote = RestorableRemote()
    world = await World(tmp_path / "a", remote).open()
    async with synced(world) as scheduler:
        await world.write("old", b"old")
        await scheduler.drain()
        saved = remote.saved()
        await world.write("f", b"precious")
        await world.mkdir("d")
        await world.write("d/big", bytes(range(256)) * 4096)
        await scheduler.drain()
        wanted = await world.tree()
        remote.put_back(saved)
        await scheduler.drain()
        assert await world.tree() == wanted
        assert await (await World(tmp_path / "b", remote).open()).tree() == wanted
        # Once more, with something that waits, and it goes on from there.
        remote.put_back(saved)
        await world.write("g", b"waited")
        await scheduler.drain()
        assert await (await World(tmp_path / "c", remote).open()).tree() == wanted | {"g": b"waited"}


async def test_a_state_that_was_never_seen_here_is_older_all_the_same(tmp_path: Path) -> None:
    """Two pushes of another client between two looks from here; the Hub goes back to the first of them."""
    remote = RestorableRemote()
    world, other = await World(tmp_path / "a", remote).open(), await World(tmp_path / "b", remote).open()
    theirs = other.pusher()
    async with synced(world) as scheduler:
        await scheduler.drain()
        await other.write("one", b"1")
        await theirs.push()
        saved = remote.saved()
        await other.write("two", b"2")
        await theirs.push()
        await scheduler.drain()
        await world.tree()
        remote.put_back(saved)
        await scheduler.drain()
        assert await world.tree() == {"one": b"1", "two": b"2"}
    assert await (await World(tmp_path / "c", remote).open()).tree() == {"one": b"1", "two": b"2"}


async def test_it_went_back_while_nobody_was_mounted(tmp_path: Path) -> None:
    """A Hub that was restored while nothing was mounted would undo what this machine pushed last."""
    remote = RestorableRemote()
    world = await World(tmp_path / "a", remote).open()
    async with synced(world) as scheduler:
        await scheduler.drain()
        saved = remote.saved()
        await world.write("f", b"precious")
        await scheduler.drain()
    held = world.source
    world.close()
    remote.put_back(saved)
    world = World(tmp_path / "a", remote)
    world.source = held  # a cache on disk outlives the mount
    await world.open()
    async with synced(world) as scheduler:
        await scheduler.drain()
        assert await world.tree() == {"f": b"precious"}
    world.close()


async def test_another_client_that_puts_things_back_is_followed(tmp_path: Path) -> None:
    """The tree is the same as before, but the Hub's time is a later one."""
    remote = RestorableRemote()
    world, other = await World(tmp_path / "a", remote).open(), await World(tmp_path / "b", remote).open()
    theirs = other.pusher()
    async with synced(world) as scheduler:
        await scheduler.drain()
        before = remote.at
        await world.write("f", b"x")
        await scheduler.drain()
        await theirs.rebaser.follow(remote.at)
        remote.store[before]  # still there, so that this is no lapse of the store
        remote.at, remote.updated_at_ns = before, remote.updated_at_ns + 1_000
        await scheduler.drain()
        assert await world.tree() == {}


@pytest.mark.parametrize("away_s", [0, 7200])
async def test_what_is_collected_after_it_was_put_back_was_not_forgotten(tmp_path: Path, away_s: int) -> None:
    """A Hub that lacks a state which it showed not long ago was set back; one that showed it hours ago may have collected it."""
    remote = RestorableRemote()
    world, other = await World(tmp_path / "a", remote).open(), await World(tmp_path / "b", remote).open()
    async with synced(world) as scheduler, synced(other) as theirs:
        await world.write("f", b"f")
        await scheduler.drain()
        await world.write("wrong", b"wrong")
        await scheduler.drain()
        seen = dict(remote.store)
        await theirs.drain()
        await other.unlink("wrong")
        await theirs.drain()
        for cid in {world.volume.base} & seen.keys():
            del remote.store[cid]
        world.clock.at_ns += away_s * 10**9
        await scheduler.drain()
        assert await world.names() == (["f"] if away_s else ["f", "wrong"])


async def test_what_nobody_has_any_more_stays_shown_and_is_told(tmp_path: Path) -> None:
    """Where the lost blocks are nowhere the mount would show the old state without a word."""
    remote = RestorableRemote()
    world = await World(tmp_path / "a", remote).open()
    async with synced(world) as scheduler:
        await scheduler.drain()
        saved = remote.saved()
        await world.write("f", b"x" * 600_000)
        await world.write("g", b"small")
        await scheduler.drain()
        remote.put_back(saved)
        world.source.forget()
        with pytest.raises(Corrupt, match="went back"):
            await scheduler.drain()
        assert scheduler.failure is not None and world.volume.base != remote.at


async def test_who_may_not_write_follows(tmp_path: Path) -> None:
    """A mount of a reader, or one that is read-only, has nothing to give back."""
    for refuses in (True, False):
        remote = RestorableRemote()
        world, other = (
            await World(tmp_path / f"a{refuses}", remote).open(),
            await World(tmp_path / f"b{refuses}", remote).open(),
        )
        world.volume.read_only = not refuses
        async with synced(world) as scheduler:
            await scheduler.drain()
            saved = remote.saved()
            await other.write("f", b"x")
            await other.pusher().push()
            await scheduler.drain()
            assert await world.names() == ["f"]
            remote.put_back(saved)
            remote.refuses = refuses
            await scheduler.drain()
            assert await world.names() == []


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("behind", [False, True])
async def test_two_clients_after_one_step_back_end_equal_with_all_that_either_had(
    tmp_path: Path, first: int, waits: bool, behind: bool
) -> None:
    """One was in step with the newest state and one with a state between; something may wait on both; the Hub's clock went on, or
    went back with it."""
    remote = RestorableRemote()
    worlds = [await World(tmp_path / name, remote).open() for name in ("one", "two")]
    one, two = worlds
    async with synced(one) as of_one, synced(two) as of_two:
        await one.write("old", b"old")
        await one.mkdir("d")
        await of_one.drain()
        await of_two.drain()
        saved = remote.saved()
        await one.write("of one", b"1")
        await one.write("old", b"newer")
        await one.rename("d", "moved")
        await of_one.drain()
        await of_two.drain()
        await two.write("of two", b"2" * 300_000)
        await two.write("moved/below", b"below")
        await of_two.drain()
        # What the one never saw of the other it can still learn from it, through the Hub.
        wanted = await two.tree()
        if waits:
            await one.write("waits at one", b"w1")
            await two.write("waits at two", b"w2")
            wanted |= {"waits at one": b"w1", "waits at two": b"w2"}
        newest_ns = remote.updated_at_ns
        remote.put_back(saved)
        remote.now_ns = 0 if behind else newest_ns + 10**9
        syncers = [of_one, of_two]
        for scheduler in (syncers[first], syncers[1 - first], syncers[first], syncers[1 - first]):
            await scheduler.drain()
        assert await one.tree() == wanted
        assert await two.tree() == wanted
    assert await (await World(tmp_path / "fresh", remote).open()).tree() == wanted


@pytest.mark.parametrize("files", [1, 50])
async def test_two_clients_that_hold_half_of_the_bytes_each_give_the_hub_all_of_them(tmp_path: Path, files: int) -> None:
    """Each saw the names of what the other one wrote, and read none of it: neither could give the whole back by itself. A Hub names
    a part of what it lacks, which may be what the one that asks has not."""
    remote = RestorableRemote()
    one, two = [await World(tmp_path / name, remote).open() for name in ("one", "two")]
    async with synced(one) as of_one, synced(two) as of_two:
        await of_one.drain()
        await of_two.drain()
        saved = remote.saved()
        wanted: dict[str, bytes] = {}
        for world, scheduler, other in ((one, of_one, of_two), (two, of_two, of_one)):
            for number in range(files):
                name = f"{world is one} {number}"
                wanted[name] = name.encode() + b"x" * 300_000 * (number < 3)
                await world.write(name, wanted[name])
            await scheduler.drain()
            await other.drain()
        remote.put_back(saved)
        await one.write("waits", b"waits")
        with pytest.raises(Corrupt, match="went back"):
            await of_one.drain()
        await of_two.drain()
        await of_one.drain()
        await of_two.drain()
        wanted["waits"] = b"waits"
        assert await one.tree() == await two.tree() == wanted
