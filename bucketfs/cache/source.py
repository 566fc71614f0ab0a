"""``Source``: where blocks come from. A cache is a Source over another one, so its callers cannot tell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from bucketfs.types import Cid, Steps

T = TypeVar("T")


class Source(Protocol):
    """Blocks by CID. Every block handed out is what its CID names: it was checked where it came in from outside.

    Identity CIDs are never asked for. ``get`` and ``get_many`` raise NotFound (no source has it), Unavailable and TimedOut (may be
    retried), Corrupt (what came was not what the CID names).
    """

    async def get(self, cid: Cid) -> bytes:
        """The block. May return without a checkpoint when the bytes are at hand."""
        ...

    async def get_many(self, cids: Sequence[Cid]) -> dict[Cid, bytes]:
        """All of these blocks, by CID; raises when one is not to be had."""
        ...

    def peek(self, cid: Cid) -> bytes | None:
        """The block if it is in memory. Never waits, neither for a disk nor for a network."""
        ...


class KeepingSource(Source, Protocol):
    """A source that keeps what it was asked for, as a cache does: what pushes and rebases need of it."""

    async def at_hand(self, cids: Sequence[Cid]) -> dict[Cid, bytes]:
        """Those of the blocks that are on this machine. Awaits no network; raises nothing."""
        ...

    def put_many(self, blocks: Iterable[tuple[Cid, bytes]]) -> None:
        """Take in blocks that were made here. Does not await."""
        ...


class Shelter(Protocol):
    """Blocks that this machine keeps for another reason than speed. Each that is handed out is what its CID names."""

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
