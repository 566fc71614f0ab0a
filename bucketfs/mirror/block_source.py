"""The blocks a mirror thinks over: those it kept, and the Hub's, of which it keeps the nodes."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from bucketfs.client import NO_UPLOAD
from bucketfs.dag import RAW, codec_of, identity_block
from bucketfs.mirror.state import MirrorState
from bucketfs.remote import NodeSource, Remote
from bucketfs.types import Cid

PENDING_BYTES = 8 << 20


class MirrorSource:
    """All blocks that are asked for, or Corrupt. Nodes, never leaves, are kept: by the next `flush`, when that comes."""

    def __init__(self, remote: Remote, state: MirrorState) -> None:
        self._remote = remote
        self._hub = NodeSource(remote)
        self._state = state
        self._pending: dict[Cid, bytes] = {}
        self._pending_bytes = 0
        self.recorded: dict[Cid, bytes] | None = None
        """Takes in what is asked for, while it is set."""

    async def get(self, cid: Cid) -> bytes:
        """One block."""
        return (await self.get_many([cid]))[cid]

    async def get_many(self, cids: Collection[Cid]) -> dict[Cid, bytes]:
        """All of these blocks. Raises Corrupt when one is neither here nor at the Hub, and what the Remote raises."""
        found = {cid: data for cid in cids if (data := self.peek(cid)) is not None}
        nodes = [cid for cid in dict.fromkeys(cids) if cid not in found and codec_of(cid) != RAW]
        if nodes:
            found |= self._state.blocks(nodes)
        wanted = [cid for cid in dict.fromkeys(cids) if cid not in found]
        if wanted:
            fetched = await self._hub.get_many(wanted)
            self.keep(fetched.items())
            found |= fetched
        if self.recorded is not None:
            self.recorded |= {cid: data for cid, data in found.items() if identity_block(cid) is None}
        return found

    async def at_hub(self, cid: Cid) -> bool:
        """Whether the Hub has this block now. Raises what the Remote raises."""
        return not await self._remote.missing([cid], NO_UPLOAD)

    def peek(self, cid: Cid) -> bytes | None:
        """A block that is in memory."""
        inline = identity_block(cid)
        if inline is not None:
            return inline
        return self._pending.get(cid) or self._hub.peek(cid)

    def keep(self, blocks: Iterable[tuple[Cid, bytes]]) -> None:
        """Keeps the nodes among these blocks, and has them at hand from now on."""
        for cid, data in blocks:
            if codec_of(cid) != RAW and cid not in self._pending:
                self._pending[cid] = data
                self._pending_bytes += len(data)
        if self._pending_bytes > PENDING_BYTES:
            self.flush()

    def flush(self) -> None:
        """Writes what is to be kept. Blocks."""
        pending, self._pending, self._pending_bytes = self._pending, {}, 0
        self._state.keep(pending.items())
