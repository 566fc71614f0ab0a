"""Shelters are asked before the source below, and `at_hand` asks no network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from support.dict_source import DictSource

from bucketfs.cache import BlockCache
from bucketfs.dag import cid_of
from bucketfs.errors import NotFound
from bucketfs.types import Cid

MEMORY = 1 << 20


def blocks(*numbers: int) -> dict[Cid, bytes]:
    return {cid_of(data): data for data in (b"%d" % number * 100 for number in numbers)}


ALL = list(blocks(1, 2, 3, 4))


class Kept:
    """A shelter in memory."""

    def __init__(self, held: dict[Cid, bytes]) -> None:
        self.held = held
        self.asked: list[Cid] = []

    def __contains__(self, cid: Cid) -> bool:
        return cid in self.held

    async def get_many(self, cids: Sequence[Cid]) -> dict[Cid, bytes]:
        self.asked += cids
        return {cid: self.held[cid] for cid in cids if cid in self.held}


class Lost(Kept):
    """A shelter that finds its blocks gone when they are read."""

    async def get_many(self, cids: Sequence[Cid]) -> dict[Cid, bytes]:
        return {}


async def test_shelters_are_asked_before_the_hub_and_in_turn() -> None:
    """The base of pending changes is read from the journal, though cache and Hub lost it."""
    below = DictSource(blocks(4))
    cache = BlockCache(below, None, MEMORY, 0)
    one, other = Kept(blocks(1, 2)), Kept(blocks(2, 3))
    cache.shelters += [one, other]
    assert await cache.get_many(ALL) == blocks(1, 2, 3, 4)
    assert (one.asked, other.asked, below.asked) == (ALL[:2], ALL[2:3], [tuple(ALL[3:])])
    assert await cache.get_many(ALL) == blocks(1, 2, 3, 4)
    assert len(one.asked) == 2, "what came from a shelter is in memory then"
    cache.shelters.clear()
    with pytest.raises(NotFound):
        await BlockCache(below, None, MEMORY, 0).get_many(ALL)


async def test_a_shelter_that_has_lost_a_block_leaves_it_to_the_hub() -> None:
    """A block that the journal lost is still fetched."""
    cache = BlockCache(DictSource(blocks(1)), None, MEMORY, 0)
    cache.shelters.append(Lost(blocks(1)))
    assert await cache.get_many(ALL[:1]) == blocks(1)


async def test_what_is_at_hand_is_what_memory_disk_and_shelters_have(tmp_path: Path) -> None:
    """Work that must not wait for a network gets all that is on this machine."""
    below = DictSource(blocks(1, 2, 3, 4))
    first = BlockCache(below, tmp_path / "cache", MEMORY, 1 << 24)
    await first.open()
    first.put_many(blocks(1).items())
    await first.aclose()
    cache = BlockCache(below, tmp_path / "cache", MEMORY, 1 << 24)
    await cache.open()
    cache.put_many(blocks(2).items())
    cache.shelters.append(Kept(blocks(3)))
    assert await cache.at_hand(ALL) == blocks(1, 2, 3)
    assert below.asked == []
    await cache.aclose()
