"""Random histories on two mounts of one bucket: they end equal, and no content is lost that nobody meant to lose."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import trio
from histories import bodies, limits, paths, run_step
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from world import MemoryRemote, World

from bucketfs.sync import Pusher
from bucketfs.vfs import Limits

steps = st.one_of(
    st.tuples(st.just("write"), paths, bodies, st.sampled_from([0, 0, 3]), st.booleans()),
    st.tuples(st.just("mkdir"), paths),
    st.tuples(st.just("unlink"), paths),
    st.tuples(st.just("rmdir"), paths),
    st.tuples(st.just("rename"), paths, paths),
    st.tuples(st.just("symlink"), paths),
    st.tuples(st.just("chmod"), paths, st.sampled_from([0o600, 0o755])),
    st.tuples(st.just("sync")),
    st.tuples(st.just("sync")),
    st.tuples(st.just("kill")),
)
histories = st.lists(st.tuples(st.integers(0, 1), steps), max_size=30)


async def sync(world: World, limits: Limits) -> None:
    """What `bucketfs sync` does: push what is dirty, then show what the Hub has."""
    pusher = Pusher(world.volume, world.remote, world.source, world.told.append, limits=limits)  # type: ignore[arg-type]
    await pusher.push()
    if world.volume.base != world.remote.at:
        await pusher.follow(world.remote.at)


def contents(tree: dict[str, object]) -> set[object]:
    return {value for value in tree.values() if isinstance(value, bytes) and value}


async def two(folder: Path, history: list[tuple[int, tuple[object, ...]]], limits: Limits) -> None:
    remote = MemoryRemote()
    worlds = [await World(folder / name, remote).open() for name in ("one", "two")]
    for index, (verb, *arguments) in history:
        world = worlds[index]
        if verb == "sync":
            before = contents(await world.tree())
            await sync(world, limits)
            # What this side held it either still holds, or the other side changed it knowing this side's pushed state.
            lost = before - contents(await world.tree())
            assert all(pushed_once(remote, content) for content in lost)
        elif verb == "kill":
            world.close()
            source = world.source
            worlds[index] = World(folder / ("one", "two")[index], remote)
            worlds[index].source = source
            await worlds[index].open()
            assert worlds[index].complaints == []
        else:
            await run_step(world, str(verb), tuple(arguments))
    for world in [*worlds, *worlds]:
        await sync(world, limits)
    one, other = [await world.tree(times=True) for world in worlds]
    assert one == other
    for world in worlds:
        assert not world.volume.root.dirty
        world.close()
    fresh = await World(folder / "fresh", remote).open()
    assert await fresh.tree(times=True) == one
    fresh.close()


def pushed_once(remote: MemoryRemote, content: object) -> bool:
    """Whether the Hub has a block with these bytes (inside, for small files): then someone saw it before it went."""
    assert isinstance(content, bytes)
    head = content[:262_144]
    return any(head in block for block in remote.store.values())


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(histories, limits)
def test_two_replicas_end_equal(history: list[tuple[int, tuple[object, ...]]], limits: Limits) -> None:
    folder = Path(tempfile.mkdtemp(prefix="bucketfs-model-"))
    try:
        trio.run(two, folder, history, limits)
    finally:
        shutil.rmtree(folder)
