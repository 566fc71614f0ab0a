"""Random changes that wait while somebody pushes over the tree they were made on, the Hub collects it, and no cache has it: what
comes of them is what would have come of them had nothing been lost."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import trio
from histories import paths, run_step
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from world import MemoryRemote, World

from bucketfs.dag import drive, reachable
from bucketfs.sync import Keeper, Pusher

Step = tuple[object, ...]

BEGINNING: tuple[Step, ...] = (
    ("mkdir", "a"),
    ("mkdir", "a/a"),
    ("mkdir", "a/b"),
    ("mkdir", "b"),
    ("write", "a/a/a", b"a/a/a"),
    ("write", "a/a/b", b"a/a/b"),
    ("write", "a/b/a", b"a/b/a"),
    ("write", "a/c", b"a/c"),
    ("write", "b/a", b"b/a"),
    ("write", "c", b"c"),
)

# Of so short a file all is in its root block, so that what was moved or written in part is here as well.
bodies = st.integers(0, 9).map(lambda number: b"%d" % number * 10)
steps = st.one_of(
    st.tuples(st.just("write"), paths, bodies, st.sampled_from([0, 3]), st.booleans()),
    st.tuples(st.just("write"), paths, bodies),
    st.tuples(st.just("mkdir"), paths),
    st.tuples(st.just("unlink"), paths),
    st.tuples(st.just("remove all of"), paths),
    st.tuples(st.just("rename"), paths, paths),
    st.tuples(st.just("chmod"), paths, st.sampled_from([0o600, 0o755])),
)
here = st.lists(steps, min_size=1, max_size=8)
there = st.lists(steps, min_size=1, max_size=6)


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(here, there, st.integers(0, 8))
@example([("rename", "c", "a/b/c"), ("write", "a/b/c", b"0" * 10, 0, False)], [("write", "c", b"0" * 10, 0, False)], 0)
@example([("write", "a/a/a", b"0" * 10, 0, False)], [("unlink", "c"), ("rename", "a", "c")], 0)
@example([("write", "a/a/a", b"0" * 10, 0, False)], [("write", "b/a", b"7"), ("rename", "a", "d")], 0)
def test_nothing_changes_by_the_loss(ours: list[Step], theirs: list[Step], kept_after: int) -> None:
    trio.run(compare, ours, theirs, kept_after)


async def compare(ours: Sequence[Step], theirs: Sequence[Step], kept_after: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        remote = MemoryRemote()
        world = await World(folder / "there", remote).open()
        for verb, *arguments in BEGINNING:
            assert await run_step(world, str(verb), tuple(arguments)) == 0
        await pusher(world).push()

        away = await World(folder / "here", remote).open()
        keeper = Keeper(away.volume, away.source)  # type: ignore[arg-type]
        for number, (verb, *arguments) in enumerate(ours):
            await run_step(away, str(verb), tuple(arguments))
            if number == kept_after:
                await keeper.round()
        await keeper.round()
        away.close()
        for verb, *arguments in theirs:
            await run_step(world, str(verb), tuple(arguments))
        await pusher(world).push()
        world.close()

        shutil.copytree(folder / "here", folder / "as it was")
        whole = await taken_in(folder / "as it was", remote, keep=True)
        lost = await taken_in(folder / "here", remote, keep=False)
        assert lost == whole


async def taken_in(folder: Path, remote: MemoryRemote, *, keep: bool) -> dict[str, object]:
    """What the Hub has in the end, when it begins with all that it ever had, or with what its root needs."""
    mine = MemoryRemote()
    mine.at = remote.at
    needed = set(drive(reachable(remote.at), lambda cids: {cid: remote.store[cid] for cid in cids}))
    mine.store = {cid: block for cid, block in remote.store.items() if keep or cid in needed}
    world = await World(folder, mine).open()
    assert world.complaints == []
    one = pusher(world)
    await one.push()
    if world.volume.base != mine.at:
        await one.follow(mine.at)
    assert one.aside.refused == {}
    world.close()
    reader = await World(folder.parent / f"reader {keep}", mine).open()
    found = await reader.tree(times=True)
    reader.close()
    return {re.sub(r"\(conflict [^)]*\)", "(conflict)", path): value for path, value in found.items()}


def pusher(world: World) -> Pusher:
    return Pusher(world.volume, world.remote, world.source, world.told.append)  # type: ignore[arg-type]
