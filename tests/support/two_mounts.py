"""Two mounts of one bucket, without a kernel: what a test does in both, and what both show in the end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from support.memory_remote import MemoryRemote
from support.world import World

Step = Callable[[World], Awaitable[None]]


async def sync(world: World) -> None:
    await world.pusher().push()
    if world.volume.base != world.remote.at:
        await world.pusher().rebaser.follow(world.remote.at)


async def remounted(world: World) -> World:
    """Killed, and mounted anew with what was in the journal."""
    world.close()
    fresh = await World(world.folder, world.remote).open()
    assert fresh.quarantined == []
    return fresh


async def two(folder: Path, prepare: Step) -> tuple[World, World]:
    """Two mounts that agree."""
    remote = MemoryRemote()
    there = await World(folder / "there", remote).open()
    await prepare(there)
    await sync(there)
    here = await World(folder / "here", remote).open()
    here.clock.at_ns += 1
    return there, here


async def ended(there: World, here: World) -> dict[str, object]:
    """What both show when all is said, and nothing is left to be said."""
    for world in (here, there):
        await sync(world)
    tree = await here.stat_tree()
    assert await there.stat_tree() == tree
    assert not here.volume.root.dirty
    assert not there.volume.root.dirty
    for world in (there, here):
        world.close()
    return {path: value[0] for path, value in tree.items()}
