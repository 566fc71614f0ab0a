"""A rebase of an overlay and a merge of three trees are one set of rules: from the same histories they make the same tree.

Without renames, that is: of these an overlay knows more than trees do.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import trio
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from model.histories import paths, run_step
from support.memory_remote import MemoryRemote
from support.outcomes import COPY
from support.world import World

from bucketfs.dag import drive, merge_trees
from bucketfs.types import Cid
from bucketfs.vfs import conflict_name

HOUR_NS = 3600 * 10**9

Step = tuple[str, *tuple[object, ...]]
texts = st.sampled_from([b"", b"one", b"two", b"three" * 2000])
steps = st.one_of(
    st.tuples(st.just("write"), paths, texts),
    st.tuples(st.just("write"), paths, texts),
    st.tuples(st.just("mkdir"), paths),
    st.tuples(st.just("unlink"), paths),
    st.tuples(st.just("rmdir"), paths),
    st.tuples(st.just("remove all of"), paths),
    st.tuples(st.just("symlink"), paths),
    st.tuples(st.just("chmod"), paths, st.sampled_from([0o600, 0o644, 0o755])),
    st.tuples(st.just("utimens"), paths, st.sampled_from([1_000_000_000, 2_000_000_000_000_000_000])),
)
histories = st.lists(steps, max_size=14)

BEGINNING: tuple[Step, ...] = (
    ("mkdir", "a"),
    ("mkdir", "a/a"),
    ("mkdir", "b"),
    ("write", "a/a/a", b"one"),
    ("write", "a/a/b", b"two"),
    ("write", "a/b", b"one"),
    ("symlink", "a/c"),
    ("write", "b/a", b"two"),
    ("write", "c", b"one"),
)
"""So that there is something to disagree about."""


async def push(world: World) -> Cid:
    await world.pusher().push()
    return world.remote.at


async def play(world: World, history: Sequence[Step]) -> None:
    for verb, *arguments in history:
        await run_step(world, verb, tuple(arguments))


async def both(folder: Path, before: Sequence[Step], ours: Sequence[Step], theirs: Sequence[Step], restart: bool) -> None:
    remote = MemoryRemote()
    there = await World(folder / "there", remote).open()
    await play(there, [*BEGINNING, *before])
    base = await push(there)
    # The same is done here twice: once to be rebased, once to be pushed as if nobody else were there.
    apart = MemoryRemote()
    apart.store.update(remote.store)
    apart.at = base
    here, alone = await World(folder / "here", remote).open(), await World(folder / "alone", apart).open()
    for world in (here, alone):
        world.clock.at_ns += HOUR_NS
        await play(world, ours)
    await play(there, theirs)
    their_root, our_root = await push(there), await push(alone)
    if restart:
        here.close()
        here = await World(folder / "here", remote).open()
    rebased = await push(here)
    blocks = remote.store | apart.store

    def name(original: bytes, taken: object) -> bytes:
        return conflict_name(original, "host", "2026-11-21 143005", taken)  # type: ignore[arg-type]

    merged = drive(merge_trees(base, our_root, their_root, name), lambda cids: {cid: blocks[cid] for cid in cids})
    blocks |= merged.blocks
    assert await shown(folder / "merged", blocks, merged.link.cid) == await shown(folder / "rebased", blocks, rebased)
    for world in (there, here, alone):
        world.close()


async def shown(folder: Path, blocks: dict[Cid, bytes], root: Cid) -> list[tuple[str, object]]:
    """A tree as a mount shows it, the names of conflict copies without host and time."""
    remote = MemoryRemote()
    remote.store, remote.at = blocks, root
    world = await World(folder, remote).open()
    tree = await world.stat_tree()
    world.close()
    return sorted((COPY.sub("~", path), value) for path, value in tree.items())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(histories, histories, histories, st.booleans())
@example([("chmod", "a", 0o600)], [("chmod", "a", 0o600)], [("remove all of", "a"), ("write", "a", b"")], False)
@example([("chmod", "a/b", 0o600)], [("chmod", "a/b", 0o600)], [("remove all of", "a"), ("write", "a", b"")], True)
def test_a_rebase_makes_what_a_merge_makes(before: list[Step], ours: list[Step], theirs: list[Step], restart: bool) -> None:
    """A mount and a mirror come to the same tree from the same changes."""
    folder = Path(tempfile.mkdtemp(prefix="bucketfs-model-"))
    try:
        trio.run(both, folder, before, ours, theirs, restart)
    finally:
        shutil.rmtree(folder)
