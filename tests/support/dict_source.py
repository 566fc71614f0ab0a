"""A block source over a dict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from bucketfs.errors import NotFound
from bucketfs.types import Cid


class DictSource:
    """The blocks of a mapping, and how they were asked for."""

    def __init__(self, blocks: Mapping[Cid, bytes] | Iterable[tuple[Cid, bytes]] = ()) -> None:
        self.blocks: dict[Cid, bytes] = dict(blocks)
        self.asked: list[tuple[Cid, ...]] = []

    async def get(self, cid: Cid) -> bytes:
        """The block, or NotFound."""
        return (await self.get_many([cid]))[cid]

    async def get_many(self, cids: Sequence[Cid]) -> dict[Cid, bytes]:
        """The blocks, or NotFound."""
        self.asked.append(tuple(cids))
        for cid in cids:
            if cid not in self.blocks:
                raise NotFound(f"no block {cid.hex()}")
        return {cid: self.blocks[cid] for cid in cids}

    def peek(self, cid: Cid) -> bytes | None:
        """None: nothing here claims to be in memory, so that callers wait as they would for a Hub."""
        return None
