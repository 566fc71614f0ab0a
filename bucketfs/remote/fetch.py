"""Blocks of a bucket as a `Source`: what a cache or a walk over trees asks. All that was asked for, or Corrupt."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import TypeVar

from cachetools import LRUCache

from bucketfs.cache import Source, run_steps
from bucketfs.client import BlocksClient, Retry
from bucketfs.dag import RAW, Leaf, cid_text, codec_of, identity_block, leaf_data, leaves, node_info
from bucketfs.errors import Corrupt, TimedOut, Unauthenticated, Unavailable
from bucketfs.remote.remote import Remote
from bucketfs.types import Cid, Kind, Link

T = TypeVar("T")

NODES_CACHE_BYTES = 32 << 20
WINDOW_BYTES = 8 << 20
"""About how much is asked of the Hub at once."""
NODES_AT_ONCE = 256
LEAVES_RANGE_BYTES = 1 << 30
"""The leaves of a huge file are listed for this many bytes at a time."""


class HubSource:
    """Blocks from a Hub, asked again within a deadline when it does not answer; below the cache, which joins equal requests.

    ``timeout_s`` bounds a request with its retries; at least one retry is made however short it is. A refused key is retried, too:
    another one may come while a program waits, which then sees no error.
    """

    def __init__(self, blocks: BlocksClient, timeout_s: float, answered: Callable[[], None] = lambda: None) -> None:
        self._blocks = blocks
        self._timeout_s = timeout_s
        self._answered = answered
        self._waiting: set[Retry] = set()
        self.blocks_fetched = 0
        self.bytes_fetched = 0

    async def get(self, cid: Cid) -> bytes:
        """One block."""
        return (await self.get_many([cid]))[cid]

    async def get_many(self, cids: Sequence[Cid]) -> dict[Cid, bytes]:
        """All of ``cids``. Raises Corrupt when the Hub lacks one: the tree that names it is damaged there, and no name of it
        must look as if it were deleted."""
        found = {cid: inline for cid in cids if (inline := identity_block(cid)) is not None}
        wanted = [cid for cid in dict.fromkeys(cids) if cid not in found]
        if wanted:
            fetched = await self._patiently(wanted)
            self._answered()
            self.blocks_fetched += len(fetched)
            self.bytes_fetched += sum(map(len, fetched.values()))
            found |= _all_of(wanted, fetched)
        return found

    def hurry(self) -> None:
        """What stood in the way may be gone: retry now."""
        for retry in self._waiting:
            retry.reset()

    async def _patiently(self, wanted: Sequence[Cid]) -> dict[Cid, bytes]:
        retry = Retry(errors=(Unavailable, TimedOut, Unauthenticated))
        self._waiting.add(retry)
        try:
            return await retry(lambda: self._blocks.get(wanted), give_up_after_s=self._timeout_s)
        finally:
            self._waiting.discard(retry)

    def peek(self, cid: Cid) -> bytes | None:
        """Only what an identity CID carries in itself is in memory."""
        return identity_block(cid)


class NodeSource:
    """A Remote's blocks for walks over trees: small and recent nodes stay in memory."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self._kept: LRUCache[Cid, bytes] = LRUCache(NODES_CACHE_BYTES, getsizeof=len)

    async def get(self, cid: Cid) -> bytes:
        """One block."""
        return (await self.get_many([cid]))[cid]

    async def get_many(self, cids: Collection[Cid]) -> dict[Cid, bytes]:
        """All of these blocks. Raises Corrupt when the Hub lacks one: the tree that names it is damaged there."""
        found = {cid: data for cid in cids if (data := self.peek(cid)) is not None}
        wanted = [cid for cid in dict.fromkeys(cids) if cid not in found]
        if wanted:
            fetched = _all_of(wanted, await self._remote.blocks(wanted))
            for cid, data in fetched.items():
                if codec_of(cid) != RAW:
                    self._kept[cid] = data
            found |= fetched
        return found

    def peek(self, cid: Cid) -> bytes | None:
        """A block that is in memory."""
        inline = identity_block(cid)
        return self._kept.get(cid) if inline is None else inline


def _all_of(wanted: Sequence[Cid], fetched: Mapping[Cid, bytes]) -> dict[Cid, bytes]:
    for cid in wanted:
        if cid not in fetched:
            raise Corrupt(f"the Hub lacks block {cid_text(cid)} of a tree that it serves")
    return {cid: fetched[cid] for cid in wanted}


async def blocks_there(source: Source, cids: Sequence[Cid]) -> dict[Cid, bytes]:
    """Those of these blocks that the Hub has, whole: what one file lacks must not hold up others."""
    try:
        return await source.get_many(cids)
    except Corrupt:
        found: dict[Cid, bytes] = {}
        for cid in dict.fromkeys(cids):
            with suppress(Corrupt):
                found[cid] = await source.get(cid)
        return found


async def kinds_of(source: Source, links: Mapping[T, Link]) -> dict[T, Kind]:
    """What links stand for; their root blocks are fetched together, some at a time: each may be a small file with all its bytes."""
    kinds = {key: Kind.FILE for key, link in links.items() if codec_of(link.cid) == RAW}
    for window in windows([key for key in links if key not in kinds], lambda key: 0, count_max=NODES_AT_ONCE):
        nodes = await source.get_many([links[key].cid for key in window])
        kinds |= {key: node_info(links[key].cid, nodes[links[key].cid]).kind for key in window}
    return kinds


async def folder_at(source: Source, link: Link | None) -> Cid | None:
    """The folder that a link stands for; None where there is nothing, or a file or symlink."""
    return link.cid if link is not None and (await kinds_of(source, {0: link}))[0] is Kind.DIRECTORY else None


async def read_content(source: Source, link: Link) -> AsyncGenerator[bytes, None]:
    """The bytes of a file in order, checked, some megabytes in memory at a time. Raises IsADirectory, InvalidArgument (a
    symlink), Corrupt. To be closed (``aclosing``) when left."""
    start = 0
    while found := await run_steps(leaves(link.cid, start, start + LEAVES_RANGE_BYTES), source):
        async with aclosing(leaf_contents(source, found)) as contents:
            async for window in contents:
                for _, data in window:
                    yield data
        start += LEAVES_RANGE_BYTES


async def leaf_contents(source: Source, found: Sequence[Leaf]) -> AsyncGenerator[list[tuple[int, bytes]], None]:
    """The bytes of leaves with their offsets, as many at a time as are fetched together."""
    for window in windows(found, lambda leaf: leaf.size):
        blocks = await source.get_many([leaf.cid for leaf in window if leaf.inline is None])
        yield [
            (leaf.offset, leaf.inline if leaf.inline is not None else leaf_data(leaf.cid, blocks[leaf.cid], leaf.size))
            for leaf in window
        ]


def windows(
    items: Iterable[T], size_of: Callable[[T], int], bytes_max: int = WINDOW_BYTES, count_max: int = 1 << 30
) -> Iterator[list[T]]:
    """Cuts items into runs that are carried together: of about ``bytes_max`` bytes, and at most ``count_max`` items."""
    window: list[T] = []
    size_bytes = 0
    for item in items:
        window.append(item)
        size_bytes += size_of(item)
        if size_bytes >= bytes_max or len(window) >= count_max:
            yield window
            window, size_bytes = [], 0
    if window:
        yield window
