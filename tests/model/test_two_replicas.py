"""Random histories on two or three mounts of one bucket, pushed whole or in batches, with restarts, a Hub that is away, and answers
that are lost.

They end equal, no content is lost that nobody meant to lose, and no conflict copy is made where there was no conflict.

The model of "meant to lose": every content that is written is like no other. A content is *dismissed* by a step (a write over it,
an unlink, a rename over it) of somebody in whose tree it was before the step and is not after it. What was never dismissed is in
the tree that all end with. A sync dismisses nothing.

The model of "a conflict": a copy is made when a push meets what others pushed since this mount last agreed with the Hub, and
each copy is of a name that this mount changed since. So there are none when nobody else pushed, and never more than the steps
that were done here since, twice (a rename changes two names).
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from model.histories import paths, run_step
from support.memory_remote import MemoryRemote
from support.world import World

from bucketfs.errors import BucketfsError, Unavailable
from bucketfs.sync import Pusher
from bucketfs.types import Cid, UploadId
from bucketfs.vfs import BatchLimits

SIZES = (0, 3, 8, 8, 8, 5000, 300_000)
"""Three bytes tell which step wrote it."""

OFFSETS = (0, 0, 3)
MODES = (0o600, 0o644, 0o755)
TIMES = (1_000_000_000, 2_000_000_000_000_000_000)

steps = st.one_of(
    st.tuples(st.just("write"), paths, st.sampled_from(SIZES), st.sampled_from(OFFSETS), st.booleans()),
    st.tuples(st.just("mkdir"), paths),
    st.tuples(st.just("unlink"), paths),
    st.tuples(st.just("rmdir"), paths),
    st.tuples(st.just("remove all of"), paths),
    st.tuples(st.just("rename"), paths, paths),
    st.tuples(st.just("rename"), paths, paths),
    st.tuples(st.just("symlink"), paths),
    st.tuples(st.just("chmod"), paths, st.sampled_from(MODES)),
    st.tuples(st.just("utimens"), paths, st.sampled_from(TIMES)),
    st.tuples(st.just("sync")),
    st.tuples(st.just("sync")),
    st.tuples(st.just("sync while the Hub is away")),
    st.tuples(st.just("sync whose answer is lost")),
    st.tuples(st.just("kill")),
)
Step = tuple[str, *tuple[object, ...]]
histories = st.lists(st.tuples(st.integers(0, 2), steps), max_size=30)

BEGINNING: tuple[tuple[str, ...], ...] = (
    ("mkdir", "a"),
    ("mkdir", "a/a"),
    ("mkdir", "b"),
    ("write", "a/a/a"),
    ("write", "a/a/b"),
    ("write", "a/b"),
    ("symlink", "a/c"),
    ("write", "b/a"),
    ("write", "c"),
)
"""What all have to begin with, so that there is something to disagree about; each file holds its path."""


@dataclass
class Replica:
    """One mount, and what the models need to know of it."""

    world: World
    index: int
    limits: BatchLimits
    steps_count: int = 0
    """Since it last agreed with the Hub."""
    agreed: Cid | None = None
    own_roots: set[Cid] = field(default_factory=set)

    async def contents(self) -> set[bytes]:
        return {value for value in (await self.world.tree()).values() if isinstance(value, bytes) and value}

    async def sync(self) -> None:
        """What `bucketfs sync` does: push what is dirty, then show what the Hub has."""
        world = self.world
        alone = world.remote.at == self.agreed or world.remote.at in self.own_roots
        before = {conflict.copy for conflict in world.volume.pending.conflicts}
        pusher = Pusher(
            world.volume,
            world.remote,
            world.source,
            world.told.append,
            limits=self.limits,
        )
        await pusher.push()
        if world.volume.base != world.remote.at:
            await pusher.rebaser.follow(world.remote.at)
        made = {conflict.copy for conflict in world.volume.pending.conflicts} - before
        assert len(made) <= (0 if alone else 2 * self.steps_count), f"copies without a conflict: {made}"
        self.agreed, self.steps_count = world.remote.at, 0
        self.own_roots.clear()

    async def sync_in_vain(self, *, lost: bool) -> None:
        """A sync in which the Hub is away; or in which it is for everything after the first swap, so that its answer is lost."""
        remote = self.world.remote
        true_swap = remote.swap

        async def swap(expected: Cid, new: Cid, upload: UploadId) -> None:
            await true_swap(expected, new, upload)
            self.own_roots.add(new)
            remote.away = True
            raise Unavailable("the answer is lost")

        remote.away = not lost
        if lost:
            remote.swap = swap  # type: ignore[method-assign]
        try:
            await self.sync()
        except BucketfsError:
            pass  # which is what it is about; whatever it has done is still to be said
        finally:
            remote.away = False
            remote.swap = true_swap  # type: ignore[method-assign]

    async def kill(self) -> None:
        world = self.world
        world.close()
        self.world = World(world.folder, world.remote)
        self.world.source = world.source
        self.world.clock = world.clock
        await self.world.open()
        assert self.world.quarantined == []


async def play(folder: Path, count: int, limits: BatchLimits, history: Sequence[tuple[int, Step]]) -> None:
    remote = MemoryRemote()
    replicas = [Replica(await World(folder / str(index), remote).open(), index, limits) for index in range(count)]
    for verb, path in BEGINNING:
        await run_step(replicas[0].world, verb, (path, path.encode()) if verb == "write" else (path,))
    for replica in replicas:
        await replica.sync()
    written = await replicas[0].contents()
    dismissed: set[bytes] = set()
    for replica in replicas:
        replica.agreed = remote.at
        replica.world.clock.at_ns += replica.index
    for number, (index, (verb, *arguments)) in enumerate(history):
        replica = replicas[index % count]
        if verb == "sync":
            await replica.sync()
        elif verb == "sync while the Hub is away":
            await replica.sync_in_vain(lost=False)
        elif verb == "sync whose answer is lost":
            await replica.sync_in_vain(lost=True)
        elif verb == "kill":
            await replica.kill()
        else:
            if verb == "write":
                name, size, offset, truncate = arguments
                arguments = [name, (b"%02d;" % number * 100_000)[: int(str(size))], offset, truncate]
            before = await replica.contents()
            await run_step(replica.world, verb, tuple(arguments))
            after = await replica.contents()
            replica.steps_count += 1
            written |= after - before
            dismissed |= before - after
    for replica in [*replicas, *replicas, *replicas]:
        await replica.sync()
    trees = [await replica.world.stat_tree() for replica in replicas]
    assert all(tree == trees[0] for tree in trees)
    lost = written - dismissed - await replicas[0].contents()
    assert lost == set()
    for replica in replicas:
        assert not replica.world.volume.root.dirty
        replica.world.close()
    fresh = await World(folder / "fresh", remote).open()
    assert await fresh.stat_tree() == trees[0]
    fresh.close()


def run(count: int, limits: BatchLimits, history: Sequence[tuple[int, Step]]) -> None:
    folder = Path(tempfile.mkdtemp(prefix="bucketfs-model-"))
    try:
        trio.run(play, folder, count, limits, history)
    finally:
        shutil.rmtree(folder)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from([2, 2, 3]), st.sampled_from([BatchLimits(), BatchLimits(nodes=2)]), histories)
def test_replicas_end_equal(count: int, limits: BatchLimits, history: list[tuple[int, Step]]) -> None:
    """Two mounts that changed the same bucket end with equal trees."""
    run(count, limits, history)
