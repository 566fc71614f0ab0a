"""What a rebase asks of its source: a few requests for each level of folders, however many folders there are, and each once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from support.memory_remote import MemoryRemote
from support.world import World

from bucketfs.types import Cid
from bucketfs.vfs import BaseTree, rebase_onto

PER_LEVEL = 3
"""The names that differ, shard by shard at the most; what stands at them; and the shards of a folder that is looked at whole."""


async def requests_of_a_rebase(world: World) -> list[tuple[Cid, ...]]:
    """The Hub's root comes in; what the source was asked for meanwhile."""
    world.source.asked.clear()
    await rebase_onto(world.volume, world.remote.at, {}, host="here", when="2026-11-21 143005")
    asked = list(world.source.asked)
    await world.pusher().checkpoints.write()
    return asked


async def both_changed(tmp_path: Path, folders: Sequence[str], *, memory_bytes: int | None = None) -> list[tuple[Cid, ...]]:
    """In each of ``folders`` each side changes a file of its own, makes one, and removes one; both change one alike."""
    remote = MemoryRemote()
    there = await World(tmp_path / "there", remote).open()
    for folder in folders:
        await there.mkdir(folder)
        for name in ("ours", "theirs", "both", "gone"):
            await there.write(f"{folder}/{name}", f"{folder} {name}".encode())
    await there.pusher().push()
    here = await World(tmp_path / "here", remote).open()
    for folder in folders:
        await there.write(f"{folder}/theirs", b"changed there")
        await there.chmod(f"{folder}/both", 0o600)
        await there.unlink(f"{folder}/gone")
        await here.write(f"{folder}/ours", b"changed here")
        await here.write(f"{folder}/both", b"changed here, too")
        await here.write(f"{folder}/new", b"n")
    await there.pusher().push()
    if memory_bytes is not None:
        here.volume.tree.base_tree = BaseTree(here.source, memory_bytes=memory_bytes)
    asked = await requests_of_a_rebase(here)
    await here.pusher().push()
    await there.pusher().rebaser.follow(remote.at)
    tree = await there.stat_tree()
    assert tree == await here.stat_tree()
    for folder in folders:
        assert tree[f"{folder}/both"][:2] == (b"changed here, too", 0o600)
        assert f"{folder}/gone" not in tree
    for world in (there, here):
        world.close()
    return asked


@pytest.mark.parametrize("count", [1, 10, 100])
async def test_requests_do_not_grow_with_the_number_of_folders(tmp_path: Path, count: int) -> None:
    """A rebase over a slow line takes a few round trips, however many folders changed."""
    asked = await both_changed(tmp_path, [f"d{number}" for number in range(count)])
    # The root is one level, the folders another, what is in them a third.
    assert len(asked) <= 3 * PER_LEVEL + 3 * count * 7 // 256


async def test_nothing_is_asked_for_twice(tmp_path: Path) -> None:
    """A rebase downloads no block again and again."""
    asked = await both_changed(tmp_path, [f"d{number}" for number in range(40)])
    every = [cid for cids in asked for cid in cids]
    # A folder is looked into, and it is looked at for its mode: of its two states, twice at the most.
    assert max(every.count(cid) for cid in set(every)) <= 2


async def test_more_folders_than_the_mount_keeps_in_memory_make_no_difference(tmp_path: Path) -> None:
    """A rebase larger than the memory for decoded folders does not start over."""
    folders = [f"d{number}" for number in range(30)]
    asked: list[int] = []
    for name, memory_bytes in (("roomy", None), ("tight", 1)):
        (tmp_path / name).mkdir()
        asked.append(len(await both_changed(tmp_path / name, folders, memory_bytes=memory_bytes)))
    roomy, tight = asked
    assert tight == roomy


@pytest.mark.parametrize("depth", [5, 20, 60])
async def test_requests_grow_with_the_depth_and_no_faster(tmp_path: Path, depth: int) -> None:
    """Deep trees cost a few round trips for each level."""
    folders = ["/".join(f"d{level}" for level in range(count)) for count in range(1, depth + 1)]
    asked = await both_changed(tmp_path, folders)
    assert len(asked) <= PER_LEVEL * (depth + 2)
