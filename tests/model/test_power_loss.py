"""Random histories on two mounts of one bucket with power losses: of drafts that were not synced only some of the bytes are left.

What an fsync acknowledged is there, what the Hub had got stays there unless somebody dismissed it (see `test_two_replicas`), and
all end equal.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import pytest
import trio
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from model.histories import paths, run_step
from model.test_two_replicas import BEGINNING, OFFSETS, SIZES, Replica, Step, steps
from support.memory_remote import MemoryRemote
from support.world import ME, World

from bucketfs.types import Kind
from bucketfs.vfs import BatchLimits

ends = st.sampled_from([0, 3, 5000])
writes = st.tuples(st.just("write"), paths, st.sampled_from(SIZES), st.sampled_from(OFFSETS), st.booleans())
any_step = steps.map(tuple)  # as one of those below, and not as each of what it is one of
more = st.one_of(
    any_step,
    writes,
    st.tuples(st.just("fsync")),
    st.tuples(st.just("power loss"), ends),
    st.tuples(st.just("sent and lost"), writes, any_step, ends),
    st.tuples(st.just("sent and lost"), writes, any_step, ends),
)
histories = st.lists(st.tuples(st.integers(0, 1), more), max_size=15)


def whole(contents: set[bytes]) -> set[bytes]:
    """Those that tell which step wrote them, and nothing else."""
    return {content for content in contents if len(content) >= 3}


async def fsync(world: World) -> set[bytes]:
    """Sync one file, and so everything; what that promises."""
    for path, value in (await world.tree()).items():
        inode = await world.inode(path)
        if value is not None and (await world.vfs.getattr(inode)).kind is Kind.FILE:
            opened = await world.vfs.open(inode, os.O_RDONLY, ME)
            await world.vfs.files.fsync(opened.handle, False)
            await world.vfs.files.release(opened.handle)
            break
    else:
        await world.journal.sync()
    return {value for value in (await world.tree()).values() if isinstance(value, bytes)}


async def lose_power(replica: Replica, kept_bytes: int) -> None:
    """The disk kept the records, and of drafts that were not synced so many bytes."""
    drafts = replica.world.journal.drafts
    unsynced = [drafts.path(draft) for draft in drafts.unsynced._writes]
    source, clock, told = replica.world.source, replica.world.clock, replica.world.remote
    replica.world.close()
    cut(unsynced, kept_bytes)
    replica.world = World(replica.world.folder, told)
    replica.world.source, replica.world.clock = source, clock
    await replica.world.open()
    assert replica.world.quarantined == []


def cut(drafts: Sequence[str], kept_bytes: int) -> None:
    """Leave at most so many bytes of each."""
    for draft in map(Path, drafts):
        if draft.exists() and draft.stat().st_size > kept_bytes:
            os.truncate(draft, kept_bytes)


async def at_the_hub(folder: Path, remote: MemoryRemote) -> set[bytes]:
    world = await World(folder, remote).open()
    found = {value for value in (await world.tree()).values() if isinstance(value, bytes)}
    world.close()
    shutil.rmtree(folder)
    return found


async def play(folder: Path, limits: BatchLimits, history: Sequence[tuple[int, Step]]) -> None:
    remote = MemoryRemote()
    replicas = [Replica(await World(folder / str(index), remote).open(), index, limits) for index in range(2)]
    for verb, path in BEGINNING:
        await run_step(replicas[0].world, verb, (path, path.encode()) if verb == "write" else (path,))
    for replica in replicas:
        await replica.sync()
    kept = await at_the_hub(folder / "looked", remote)
    dismissed: set[bytes] = set()
    for replica in replicas:
        replica.world.clock.at_ns += replica.index
    for number, (index, (verb, *arguments)) in enumerate(_flat(history)):
        replica = replicas[index]
        replica.steps_count = 1_000  # how many copies there may be is no matter here
        replica.agreed = None
        replica.own_roots.clear()
        if verb == "sync":
            await replica.sync()
        elif verb == "sync while the Hub is away":
            await replica.sync_in_vain(lost=False)
        elif verb == "sync whose answer is lost":
            await replica.sync_in_vain(lost=True)
        elif verb == "kill":
            await replica.kill()
        elif verb == "fsync":
            kept |= await fsync(replica.world)
        elif verb == "power loss":
            await lose_power(replica, int(str(arguments[0])))
        else:
            if verb == "write":
                arguments[1] = (b"%02d;" % number * 100_000)[: int(str(arguments[1]))]
            before = await replica.contents()
            await run_step(replica.world, str(verb), tuple(arguments))
            dismissed |= before - await replica.contents()
        if str(verb).startswith("sync"):
            kept |= await at_the_hub(folder / "looked", remote)
    for replica in [*replicas, *replicas, *replicas]:
        replica.steps_count, replica.agreed = 1_000, None
        replica.own_roots.clear()
        await replica.sync()
    trees = [await replica.world.stat_tree() for replica in replicas]
    assert trees[0] == trees[1]
    assert whole(kept) - dismissed - await replicas[0].contents() == set()
    for replica in replicas:
        assert not replica.world.volume.root.dirty and not replica.world.volume.push.truncated
        replica.world.close()
    fresh = await World(folder / "fresh", remote).open()
    assert await fresh.stat_tree() == trees[0]
    fresh.close()


def _flat(history: Sequence[tuple[int, Step]]) -> Iterator[tuple[int, Step]]:
    """What the Hub has and the journal does not know that it has, before a power loss, is what this is about."""
    for index, step in history:
        if step[0] == "sent and lost":
            _, *parts = step
            before, after, kept_bytes = parts
            lost = "sync whose answer is lost"
            for one in (before, (lost,), after, ("power loss", kept_bytes)):
                yield index, cast(Step, one)
        else:
            yield index, step


def run(limits: BatchLimits, history: Sequence[tuple[int, Step]]) -> None:
    folder = Path(tempfile.mkdtemp(prefix="bucketfs-model-"))
    try:
        trio.run(play, folder, limits, history)
    finally:
        shutil.rmtree(folder)


limits = st.sampled_from([BatchLimits(), BatchLimits(nodes=2)])


EMPTIED_SINCE: list[tuple[int, Step]] = [
    (0, ("sent and lost", ("write", "c", 3, 0, False), ("mkdir", "d"), 0)),
    (0, ("write", "c", 0, 0, True)),
]


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(limits, histories)
@example(BatchLimits(), EMPTIED_SINCE)
def test_a_power_loss_takes_nothing_that_was_synced_or_sent(limits: BatchLimits, history: list[tuple[int, Step]]) -> None:
    """A power cut would lose a file that fsync had acknowledged, or undo at the Hub what had arrived there, or leave two
    machines different."""
    run(limits, history)


@pytest.mark.whole
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(limits, histories)
def test_many_power_losses(limits: BatchLimits, history: list[tuple[int, Step]]) -> None:
    """The same for many more histories: a rare order of writes, syncs and power cuts would lose data."""
    run(limits, history)
