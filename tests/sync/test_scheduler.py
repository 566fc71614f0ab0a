"""What somebody else pushes is shown at once, also under changes of one's own, which wait for their own time."""

from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import asynccontextmanager
from pathlib import Path

import trio
from support.memory_remote import MemoryRemote
from support.world import World

from bucketfs.sync import Pace, Scheduler
from bucketfs.types import Cid

LONG_S = 10_000.0


@asynccontextmanager
async def synced(world: World, pace: Pace) -> AsyncGenerator[Scheduler, None]:
    pusher = world.pusher()
    scheduler = Scheduler(world.volume, world.remote, pusher, pace)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scheduler.run)
        yield scheduler
        nursery.cancel_scope.cancel()


async def eventually(what: Callable[[], bool]) -> None:
    for _ in range(12_000):
        if what():
            return
        await trio.sleep(0.005)
    raise AssertionError("it does not come")


async def test_what_came_is_shown_and_what_is_dirty_waits_for_its_time(tmp_path: Path) -> None:
    """Two mounts that are written to all the time would otherwise answer each other's pushes with theirs, without end."""
    remote = MemoryRemote()
    here, there = await World(tmp_path / "here", remote).open(), await World(tmp_path / "there", remote).open()
    waits = Pace(LONG_S, LONG_S)
    async with synced(here, waits) as ours, synced(there, waits) as theirs:
        await here.write("mine", b"mine")
        for number in range(3):
            await there.write("theirs", b"%d" % number)
            await theirs.drain()
            swaps = remote.swaps
            ours.root_moved()
            await eventually(lambda: here.volume.base == remote.at)
            assert await here.tree() == {"mine": b"mine", "theirs": b"%d" % number}
            assert remote.swaps == swaps and here.volume.root.dirty
        await ours.drain()
        assert remote.swaps == swaps + 1 and not here.volume.root.dirty
    for world in (here, there):
        world.close()


async def test_equal_changes_on_both_sides_are_no_conflict_when_they_come(tmp_path: Path) -> None:
    """Two machines that were given the same files would get a conflict copy of each."""
    remote = MemoryRemote()
    here, there = await World(tmp_path / "here", remote).open(), await World(tmp_path / "there", remote).open()
    waits = Pace(LONG_S, LONG_S)
    async with synced(here, waits) as ours, synced(there, waits) as theirs:
        for world in (here, there):
            await world.mkdir("d")
            await world.write("d/same", b"equal bytes" * 1000)
            await world.write("d/differs", world.folder.name.encode())
        await theirs.drain()
        ours.root_moved()
        await eventually(lambda: here.volume.base == remote.at)
        await ours.drain()
    tree = await here.tree()
    assert tree["d/same"] == b"equal bytes" * 1000 and tree["d/differs"] == b"there"
    assert [path for path in tree if "conflict" in path and "same" in path] == []
    assert len([path for path in tree if "differs (conflict" in path]) == 1
    for world in (here, there):
        world.close()


async def test_many_folders_changed_on_both_sides_are_compared_in_few_requests(tmp_path: Path) -> None:
    """To follow a bucket with many changed folders would take a round trip for each of them."""
    remote = MemoryRemote()
    there = await World(tmp_path / "there", remote).open()
    for number in range(60):
        await there.mkdir(f"d{number}")
        await there.write(f"d{number}/old", b"old")
    async with synced(there, Pace(LONG_S, LONG_S)) as theirs:
        await theirs.drain()
        here = await World(tmp_path / "here", remote).open()
        for number in range(60):
            await here.write(f"d{number}/mine", b"m")
            await there.write(f"d{number}/theirs", b"t")
        await theirs.drain()
    calls: list[int] = []
    true_blocks = remote.blocks

    async def blocks(cids: Collection[Cid]) -> dict[Cid, bytes]:
        calls.append(len(cids))
        return await true_blocks(cids)

    remote.blocks = blocks  # type: ignore[method-assign]
    pusher = here.pusher()
    await pusher.rebaser.follow(remote.at)
    assert len(calls) < 10, calls
    assert sorted(await here.names("d7")) == ["mine", "old", "theirs"]
    for world in (here, there):
        world.close()
