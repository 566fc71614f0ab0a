"""``Source``: where blocks come from, whoever has them. A cache wears the face of what it caches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

from bucketfs.errors import NotFound
from bucketfs.types import Cid, Steps

T = TypeVar("T")


class Source(Protocol):
    """Blocks by CID. Every block handed out is what its CID names: whoever brings bytes in from outside has checked them.

    Identity CIDs are never asked for. Errors of ``get`` and ``get_many``: NotFound (nobody has it), Unavailable and TimedOut
    (may be retried), Corrupt (what came was not what the CID names).
    """

    async def get(self, cid: Cid) -> bytes:
        """The block. May return without a checkpoint when the bytes are at hand."""
        ...

    async def get_many(self, cids: Sequence[Cid]) -> dict[Cid, bytes]:
        """All of these blocks, by CID; raises when one cannot be had."""
        ...

    def peek(self, cid: Cid) -> bytes | None:
        """The block if it is in memory. Never waits, neither for a disk nor for a network."""
        ...


class Shelter(Protocol):
    """Blocks that are kept somewhere on this machine, and not for being fast. Each that is handed out is what its CID names."""

    def __contains__(self, cid: Cid) -> bool:
        """Whether `get_many` is worth asking. Immediate."""
        ...

    async def get_many(self, cids: Sequence[Cid]) -> dict[Cid, bytes]:
        """Those of the blocks that are there; raises nothing."""
        ...


async def run_steps(steps: Steps[T], source: Source) -> T:
    """Run a computation over blocks, fetching what it asks for from ``source``."""
    try:
        wanted = next(steps)
        while True:
            try:
                blocks = await source.get_many(list(wanted))
            except Exception as error:
                wanted = steps.throw(error)
            else:
                wanted = steps.send(blocks)
    except StopIteration as done:
        result: T = done.value
        return result


class DictSource:
    """The blocks of a mapping, and how they were asked for. For tests."""

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
