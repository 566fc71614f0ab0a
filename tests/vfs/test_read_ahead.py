"""That a file read in order is asked for ahead, over a link whose time is virtual and whose width is shared by all fetches."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import trio
import trio.testing
from support.memory_remote import MemoryRemote
from support.unixfs import build_file
from support.world import ME, World

from bucketfs.cache import BlockCache
from bucketfs.dag import LEAF_SIZE, drive, edit_directory
from bucketfs.types import Cid
from bucketfs.vfs.readahead import WINDOW_BYTES_MAX

LATENCY_S = 0.03
BYTES_PER_S = 100_000_000
FILE_BYTES = 64 << 20
READ_BYTES = 1 << 20


@dataclass
class SlowLink:
    """A Source at the end of a link: an answer begins after the latency, and only one comes in at a time. ``in_flight_bytes_max``
    is the most that was asked for and not there yet."""

    store: dict[Cid, bytes]
    in_flight_bytes: int = 0
    in_flight_bytes_max: int = 0
    _width: trio.Lock = field(default_factory=trio.Lock)

    async def get(self, cid: Cid) -> bytes:
        return (await self.get_many([cid]))[cid]

    async def get_many(self, cids: Sequence[Cid]) -> dict[Cid, bytes]:
        found = {cid: self.store[cid] for cid in cids}
        size_bytes = sum(map(len, found.values()))
        self.in_flight_bytes += size_bytes
        self.in_flight_bytes_max = max(self.in_flight_bytes_max, self.in_flight_bytes)
        await trio.sleep(LATENCY_S)
        async with self._width:
            await trio.sleep(size_bytes / BYTES_PER_S)
        self.in_flight_bytes -= size_bytes
        return found

    def peek(self, cid: Cid) -> bytes | None:
        return None


async def test_a_file_read_in_order_fills_the_link(
    tmp_path: Path, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """A program that reads a file in order would wait a round trip for each piece, however wide the link is."""
    remote = MemoryRemote()
    # Each leaf is another one, so that no block comes twice.
    data = b"".join(number.to_bytes(LEAF_SIZE, "big") for number in range(FILE_BYTES // LEAF_SIZE))
    built = build_file(data)
    remote.store.update(built.blocks)
    above = drive(edit_directory(remote.at, {b"big": built.link}), lambda cids: {cid: remote.store[cid] for cid in cids})
    remote.store.update(above.blocks)
    remote.at = above.link.cid

    link = SlowLink(remote.store)
    world = World(tmp_path, remote)
    world.source = BlockCache(link, None, 2 * FILE_BYTES, 0)  # type: ignore[assignment]
    await world.open()
    await nursery.start(world.vfs.run)
    opened = await world.vfs.open(await world.inode("big"), os.O_RDONLY, ME)
    for offset in range(0, len(data), READ_BYTES):
        assert await world.vfs.files.read(opened.handle, offset, READ_BYTES) == data[offset : offset + READ_BYTES]
    # Enough is asked for ahead to cover the latency many times over, and never more than the window.
    assert LATENCY_S * BYTES_PER_S < link.in_flight_bytes_max <= WINDOW_BYTES_MAX + READ_BYTES
    await world.vfs.files.release(opened.handle)
    nursery.cancel_scope.cancel()
    world.close()
