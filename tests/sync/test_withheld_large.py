"""A Hub with a limit: the files that pass it wait here, the largest first, and nothing else does."""

from __future__ import annotations

from collections.abc import AsyncIterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.world import World
from sync.test_withheld import StrictRemote

from bucketfs.client import PutResult
from bucketfs.dag import block_links
from bucketfs.errors import OverQuota
from bucketfs.types import Cid, UploadId
from bucketfs.vfs import StorageLimit

KIB = 1 << 10


@dataclass
class LimitedRemote(StrictRemote):
    """Takes roots of so many bytes; with ``pledges``, it does not even store more than these."""

    limit_bytes: int = 1 << 40
    pledges: bool = False

    async def put(self, batches: AsyncIterable[Sequence[tuple[Cid, bytes]]], upload: UploadId) -> PutResult:
        counts = await super().put(batches, upload)
        if self.pledges and sum(map(len, self.store.values())) > self.limit_bytes:
            raise OverQuota("quota exhausted")
        return counts

    async def swap(self, expected: Cid, new: Cid, upload: UploadId) -> None:
        found: set[Cid] = set()
        waiting = [new]
        while waiting:
            cid = waiting.pop()
            if cid not in found:
                found.add(cid)
                waiting += block_links(cid, self.store[cid])
        if sum(len(self.store[cid]) for cid in found) > self.limit_bytes:
            raise OverQuota("quota exhausted")
        await super().swap(expected, new, upload)


async def test_the_large_file_waits_also_in_a_new_folder(tmp_path: Path) -> None:
    """One file over the limit would keep the whole new folder that it is in from the Hub."""
    remote = LimitedRemote(limit_bytes=100 * KIB)
    world = await World(tmp_path, remote).open()
    await world.write("a", b"a")
    await world.mkdir("d")
    await world.write("d/large", bytes(range(256)) * 600)
    await world.write("d/b", b"b")
    pusher = world.pusher()
    await pusher.push()
    assert remote.paths() == {"a", "d", "d/b"}
    assert pusher.withheld.refused == {"d/large": "quota exhausted"}
    assert await world.read("d/large") == bytes(range(256)) * 600
    # Others go on, and it is not tried with each of them.
    swaps = remote.swaps
    await world.write("d/c", b"c")
    await pusher.push()
    assert (remote.swaps, list(pusher.withheld.large)) == (swaps + 1, ["d/large"])
    # Made shorter, it goes; so it does when there is room.
    await world.write("d/large", b"short")
    await pusher.push()
    assert not world.volume.root.dirty and pusher.withheld.refused == {}
    await world.write("large", bytes(200 * KIB))
    await pusher.push()
    remote.limit_bytes *= 10
    pusher.retry_withheld()
    await pusher.push()
    assert not world.volume.root.dirty and "large" in remote.paths()
    world.close()


async def test_an_overwritten_file_keeps_what_the_hub_has(tmp_path: Path) -> None:
    """A file that grew over the limit would vanish for others instead of staying as it was."""
    remote = LimitedRemote()
    world = await World(tmp_path, remote).open()
    await world.write("a", b"old")
    pusher = world.pusher()
    await pusher.push()
    remote.limit_bytes = 50 * KIB
    await world.write("a", bytes(range(256)) * 400)
    await world.write("b", b"b")
    await pusher.push()
    assert (remote.paths(), list(pusher.withheld.large)) == ({"a", "b"}, ["a"])
    # It waits over a kill, too.
    world.close()
    again = await World(tmp_path, remote).open()
    assert await again.read("a") == bytes(range(256)) * 400
    pusher = again.pusher()
    await pusher.push()
    assert list(pusher.withheld.large) == ["a"]
    again.close()


async def test_as_many_as_fit_go(tmp_path: Path) -> None:
    """With little room at the Hub nothing would be pushed although most of it fits."""
    remote = LimitedRemote(limit_bytes=300 * KIB)
    world = await World(tmp_path, remote).open()
    for number in range(20):
        await world.write(f"f{number}", bytes([number]) * (number + 1) * 10 * KIB)
    pusher = world.pusher()
    await pusher.push()
    waits = sorted(pusher.withheld.large, key=lambda name: int(name[1:]))
    # The largest wait, and half of the room is used at least.
    assert waits == [f"f{number}" for number in range(20 - len(waits), 20)]
    assert remote.paths() == {f"f{number}" for number in range(20)} - set(waits)
    assert len(remote.paths()) >= 4
    world.close()


async def test_what_does_not_fit_is_not_sent(tmp_path: Path) -> None:
    """Bytes that the Hub cannot link would be sent again and again, and fill the room of those that fit."""
    remote = LimitedRemote(limit_bytes=100 * KIB, pledges=True)
    world = await World(tmp_path, remote).open()
    room = StorageLimit("bucket 'b'", 100 * KIB, 0, 0)
    await world.write("a", b"a" * 30 * KIB)
    await world.write("large", bytes(200 * KIB))
    await world.write("b", b"b" * 30 * KIB)
    # The limit is heard of only now.
    world.volume.push.limits = (room,)
    room.grown_bytes = world.volume.push.grown_bytes
    pusher = world.pusher()
    await pusher.push()
    assert remote.paths() == {"a", "b"} and remote.bytes_put < 70 * KIB
    assert list(pusher.withheld.large) == ["large"]
    assert pusher.withheld.room_wanted_bytes is not None and pusher.withheld.room_wanted_bytes > 200 * KIB
    assert world.volume.push.grown_bytes == 200 * KIB
    await world.unlink("large")
    await pusher.push()
    assert not world.volume.root.dirty and pusher.withheld.room_wanted_bytes is None
    world.close()


async def test_a_limit_that_no_file_is_to_blame_for(tmp_path: Path) -> None:
    """A limit that no single file passes would hold up a mount without a word of it."""
    remote = LimitedRemote(limit_bytes=1)
    world = await World(tmp_path, remote).open()
    await world.mkdir("d")
    with pytest.raises(OverQuota):
        await world.pusher().push()
    assert world.volume.root.dirty
    world.close()
