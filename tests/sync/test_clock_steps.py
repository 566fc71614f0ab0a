"""This machine's clock steps by hours, back and forward, while a bucket is mounted."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing
from support.memory_remote import MemoryRemote
from support.world import World

from bucketfs.sync import Pace, Scheduler
from bucketfs.vfs import BatchLimits

HOUR_NS = 3600 * 10**9
STEPS = [-5 * HOUR_NS, 5 * HOUR_NS]


class Wall:
    """A clock that goes with trio's and can be set."""

    def __init__(self) -> None:
        self.at_ns = 1_700_000_000_000_000_000

    def __call__(self) -> int:
        return self.at_ns + int(trio.current_time() * 1e9)


async def world_of(folder: Path, remote: MemoryRemote) -> tuple[World, Wall]:
    world, wall = World(folder, remote), Wall()
    world.clock = wall  # type: ignore[assignment]
    return await world.open(), wall


@pytest.fixture
def mock_clock() -> trio.testing.MockClock:
    """Time goes on when all have been idle for a while: long enough for a thread that works at the disk, as a rule."""
    return trio.testing.MockClock(autojump_threshold=0.03)


async def eventually(question: Callable[[], bool], limit_s: int = 1800) -> None:
    """In mock time: it may run ahead of a thread that is slow, but not by hours."""
    for _ in range(limit_s):
        if question():
            return
        await trio.sleep(1)
    raise AssertionError(f"not within {limit_s} s")


@asynccontextmanager
async def synced(world: World) -> AsyncGenerator[Scheduler, None]:
    pusher = world.pusher()
    scheduler = Scheduler(world.volume, world.remote, pusher, Pace(2, 30))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scheduler.run)
        yield scheduler
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("step_ns", STEPS)
async def test_a_push_is_not_put_off(tmp_path: Path, step_ns: int, mock_clock: trio.testing.MockClock) -> None:
    """Changes would wait for hours when the clock of this machine was set back."""
    remote = MemoryRemote()
    world, wall = await world_of(tmp_path, remote)
    async with synced(world):
        await world.write("before", b"1")
        wall.at_ns += step_ns
        await eventually(lambda: not world.volume.root.dirty)
        await world.write("after", b"2")
        await eventually(lambda: not world.volume.root.dirty)
        assert remote.swaps == 2
        # And one that is written to all the time goes out, too.
        await world.write("busy", b"3")
        wall.at_ns += step_ns
        for _ in range(1800):
            await world.write("busy", b"3", truncate=False)
            await trio.sleep(1)
            if remote.swaps > 2:
                break
        assert remote.swaps > 2
    world.close()


@pytest.mark.parametrize("step_ns", STEPS)
async def test_attempts_go_on_while_the_hub_is_away(
    tmp_path: Path, step_ns: int, mock_clock: trio.testing.MockClock
) -> None:
    """After a step of the clock a mount would stop trying to reach its Hub."""
    remote = MemoryRemote()
    world, wall = await world_of(tmp_path, remote)
    remote.away = True
    async with synced(world) as scheduler:
        await world.write("waits", b"1")
        await eventually(lambda: scheduler.failure is not None)
        wall.at_ns += step_ns
        remote.away = False
        await eventually(lambda: scheduler.failure is None and not world.volume.root.dirty)
    world.close()


@pytest.mark.parametrize("step_ns", STEPS)
async def test_times_order_batches_and_conflicts_stay_right(tmp_path: Path, step_ns: int) -> None:
    """A file that is written after a step back is older than one before it; all of it is kept, pushed, and told apart."""
    remote = MemoryRemote()
    here, there = await World(tmp_path / "here", remote).open(), await World(tmp_path / "there", remote).open()
    await here.mkdir("d")
    for number in range(12):
        here.clock.at_ns += step_ns if number == 6 else 0
        await here.write(f"d/f{number}", b"%d" % number)
        await here.write("both", b"here %d" % number)
    await here.rename("d/f3", "moved")
    tree = await here.stat_tree()
    here.close()
    here = await World(tmp_path / "here", remote).open()
    assert here.quarantined == [] and await here.stat_tree() == tree
    await there.write("both", b"there")
    await there.pusher().push()
    limits = BatchLimits(nodes=3)
    done = await here.pusher(limits=limits).push()
    assert done is not None and len(done.conflicts) == 1
    after = await here.stat_tree()
    assert after.pop("both")[0] == b"there"
    assert after.pop(done.conflicts[0]) == tree.pop("both")
    assert after == tree
    await there.pusher().rebaser.follow(remote.at)
    assert await there.stat_tree() == await here.stat_tree()
    here.close()
    there.close()
