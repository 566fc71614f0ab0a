"""Random changes that wait while somebody pushes over the tree they were made on, the Hub collects it, and no cache has it: what
comes of them is what would have come of them had nothing been lost."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import trio
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from model.histories import paths, run_step
from support.memory_remote import MemoryRemote
from support.world import World

from bucketfs.dag import drive, reachable
from bucketfs.sync import BasePinner, Pusher

Step = tuple[object, ...]
Seen = tuple[object, int, int]
"""The bytes of a file (None for a folder), mode and mtime."""

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
@example([("rename", "a", "b/b")], [("remove all of", "a")], 0)
@example([("rename", "c", "a/b/c"), ("write", "a/b/c", b"0" * 10, 0, False)], [("write", "c", b"0" * 10, 0, False)], 0)
@example([("write", "a/a/a", b"0" * 10, 0, False)], [("unlink", "c"), ("rename", "a", "c")], 0)
@example([("write", "a/a/a", b"0" * 10, 0, False)], [("write", "b/a", b"7"), ("rename", "a", "d")], 0)
def test_nothing_changes_by_the_loss(ours: list[Step], theirs: list[Step], kept_after: int) -> None:
    """What becomes of offline work does not depend on whether the Hub has collected the old tree."""
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
        pinner = BasePinner(away.volume, away.source)
        for number, (verb, *arguments) in enumerate(ours):
            await run_step(away, str(verb), tuple(arguments))
            if number == kept_after:
                await pinner.round()
        await pinner.round()
        away.close()
        for verb, *arguments in theirs:
            await run_step(world, str(verb), tuple(arguments))
        await pusher(world).push()
        world.close()

        shutil.copytree(folder / "here", folder / "as it was")
        whole, refused = await taken_in(folder / "as it was", remote, keep=True)
        assert refused == []
        lost, refused = await taken_in(folder / "here", remote, keep=False)
        # Of a folder that was moved here and removed there the files are lost: it waits, and all else is as it would be, but for
        # folders that it may be in.
        assert all(whole[path][0] is None for path in refused), refused
        sure = {path: found for path, found in whole.items() if not any(f"{path}/".startswith(f"{at}/") for at in refused)}
        assert lost == sure or (refused and sure.items() <= lost.items())


async def taken_in(folder: Path, remote: MemoryRemote, *, keep: bool) -> tuple[dict[str, Seen], list[str]]:
    """What the Hub has in the end, and what it refuses, when it begins with all that it ever had, or with what its root needs."""
    mine = MemoryRemote()
    mine.at = remote.at
    needed = set(drive(reachable(remote.at), lambda cids: {cid: remote.store[cid] for cid in cids}))
    mine.store = {cid: block for cid, block in remote.store.items() if keep or cid in needed}
    world = await World(folder, mine).open()
    assert world.quarantined == []
    one = pusher(world)
    await one.push()
    if world.volume.base != mine.at:
        await one.rebaser.follow(mine.at)
    refused = list(one.withheld.refused)
    world.close()
    reader = await World(folder.parent / f"reader {keep}", mine).open()
    found = await reader.stat_tree()
    reader.close()
    return {plain(path): value for path, value in found.items()}, [plain(path) for path in refused]


def plain(path: str) -> str:
    return re.sub(r"\(conflict [^)]*\)", "(conflict)", path)


def pusher(world: World) -> Pusher:
    return world.pusher()
