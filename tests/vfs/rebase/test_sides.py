"""What a rebase sees of the trees: right whatever the folders look like, little of what is equal, and not stopped by damage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from support.dict_source import DictSource
from support.memory_remote import MemoryRemote
from support.world import World

from bucketfs.dag import cid_of, drive, edit_directory
from bucketfs.sync import Pusher
from bucketfs.types import Cid, Link
from bucketfs.vfs.rebase.sides import TwoTrees
from bucketfs.vfs.tree.tree_reader import Wanted


def link_of(text: str) -> Link:
    data = text.encode()
    return Link(cid_of(data), len(data))


def directories(count: int, changes: dict[bytes, Link | None]) -> tuple[DictSource, Cid, Cid]:
    """Two states of a folder with ``count`` names, and all blocks of both."""
    blocks: dict[Cid, bytes] = {}

    def get(cids: Sequence[Cid]) -> dict[Cid, bytes]:
        return {cid: blocks[cid] for cid in cids}

    entries = {b"%06d %s" % (number, b"n" * 90): link_of(str(number)) for number in range(count)}
    old = drive(edit_directory(None, entries), get)
    blocks |= old.blocks
    new = drive(edit_directory(old.link.cid, changes), get)
    return DictSource({**blocks, **new.blocks}), old.link.cid, new.link.cid


@pytest.mark.parametrize("count", [3, 6000], ids=["plain", "sharded"])
async def test_the_names_that_differ(count: int) -> None:
    """A rebase sees every changed name, and reads little of what is equal."""
    first, last = b"%06d %s" % (0, b"n" * 90), b"%06d %s" % (count - 1, b"n" * 90)
    changes: dict[bytes, Link | None] = {first: None, last: link_of("other"), b"new": link_of("new")}
    source, old, new = directories(count, changes)
    trees = TwoTrees(source)
    with pytest.raises(Wanted):
        trees.changes(old, new)
    assert await trees.load(lambda: trees.changes(old, new)) == {
        first: (link_of("0"), None),
        last: (link_of(str(count - 1)), link_of("other")),
        b"new": (None, link_of("new")),
    }
    # Of a large folder what is equal is not looked at.
    assert sum(map(len, source.asked)) <= 20
    with pytest.raises(Wanted):
        trees.entries(new)
    assert len(await trees.load(lambda: trees.entries(new))) == count


async def test_a_file_that_is_damaged_at_the_hub_stops_no_rebase(tmp_path: Path) -> None:
    """Nobody can say what the Hub's version is; ours is kept, and everything else is merged as ever."""

    def pusher_of(world: World) -> Pusher:
        return world.pusher()

    remote = MemoryRemote()
    there = await World(tmp_path / "there", remote).open()
    await there.write("f", b"before")
    await pusher_of(there).push()
    here = await World(tmp_path / "here", remote).open()
    await here.write("f", b"ours")
    await here.write("beside", b"b")
    await there.write("f", b"theirs")
    await there.write("new", b"n")
    await pusher_of(there).push()
    del remote.store[(await there.volume.tree.base_tree.resolve(remote.at, [b"f"])).cid]
    done = await pusher_of(here).push()
    assert done is not None
    assert len(done.conflicts) == 1
    assert await here.read(done.conflicts[0]) == b"ours"
    assert await here.names() == sorted(["beside", "f", "new", done.conflicts[0]])
    for world in (there, here):
        world.close()
