"""The Hub's blocks as a `Source`: what the cache asks when it does not have something."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bucketfs.client import BlocksClient, Retry
from bucketfs.dag import cid_text, identity_block
from bucketfs.errors import Corrupt, TimedOut, Unauthenticated, Unavailable
from bucketfs.types import Cid


class HubSource:
    """Blocks from a Hub, asked again within a deadline when it does not answer; below the cache, which joins equal requests.

    ``timeout_s`` bounds a request with its retries; at least one retry is made however short it is. A key that is refused is
    something that passes, too: another one may come while a program waits, and none should see an error for that.
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
        found: dict[Cid, bytes] = {}
        wanted: list[Cid] = []
        for cid in dict.fromkeys(cids):
            inline = identity_block(cid)
            if inline is None:
                wanted.append(cid)
            else:
                found[cid] = inline
        if wanted:
            fetched = await self._patiently(wanted)
            self._answered()
            self.blocks_fetched += len(fetched)
            self.bytes_fetched += sum(map(len, fetched.values()))
            found.update(fetched)
            for cid in wanted:
                if cid not in found:
                    raise Corrupt(f"the Hub lacks block {cid_text(cid)} of a tree that it serves")
        return found

    def hurry(self) -> None:
        """What stood in the way may be gone: whoever waits to try again does so now."""
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
        """Nothing is in memory here but what an identity CID carries in itself."""
        return identity_block(cid)
