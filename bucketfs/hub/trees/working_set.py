"""The block store with blocks on top that are not stored yet.

What an edit makes stays in memory until it is known which of it the new root needs: pushing a thousand files one after another
makes a thousand roots, and only the last one is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TypeVar

from bucketfs.dag import block_links, cid_text, drive
from bucketfs.errors import BucketfsError, Corrupt
from bucketfs.hub.store import BlockStore, BlockWriter, UploadCheck
from bucketfs.types import Cid, Steps

T = TypeVar("T")

PRUNE_BYTES = 32 * 1024 * 1024


def unchecked() -> None:
    """For work that is finished whether or not its call has ended."""


class WorkingSet:
    """For one call, used by one thread at a time.

    ``absent`` is what a block that is not here means: of a bucket, that the Hub has lost it; of a CID that a client brought, that
    it is not found. ``check`` is called whenever blocks are wanted, and raises once the call that all of this is done for has
    ended. ``admission`` is asked before content that is made on the way is stored.
    """

    def __init__(
        self,
        store: BlockStore,
        upload: bytes = b"",
        *,
        absent: type[BucketfsError] = Corrupt,
        check: Callable[[], None] = unchecked,
        admission: UploadCheck | None = None,
    ) -> None:
        self.store = store
        self.upload = upload
        self.check = check
        self._admission = admission
        self._absent = absent
        self._made: dict[Cid, bytes] = {}
        self._hidden_links: dict[Cid, list[Cid]] = {}
        self._made_bytes = 0

    def get_many(self, cids: Iterable[Cid]) -> dict[Cid, bytes]:
        """All of these blocks. Raises Corrupt, what ``absent`` says when one is not here, and what ``check`` raises."""
        self.check()
        wanted = list(cids)
        found = {cid: self._made[cid] for cid in wanted if cid in self._made}
        if len(found) < len(wanted):
            found.update(self.store.get_many([cid for cid in wanted if cid not in found]))
        self._check_complete(wanted, found)
        return found

    def get(self, cid: Cid) -> bytes:
        """One block, as ``get_many``."""
        return self.get_many((cid,))[cid]

    def lengths(self, cids: Iterable[Cid]) -> dict[Cid, int]:
        """How long these blocks are. Raises as ``get_many``."""
        self.check()
        wanted = list(cids)
        found = {cid: len(self._made[cid]) for cid in wanted if cid in self._made}
        found.update(self.store.lengths([cid for cid in wanted if cid not in found]))
        self._check_complete(wanted, found)
        return found

    def receive(self) -> BlockWriter:
        """Takes in content that is made on the way."""
        return self.store.receive(self.upload, self._admission)

    def run(self, steps: Steps[T]) -> T:
        """Drives a computation to its end."""
        return drive(steps, self.get_many)

    def add(self, blocks: Mapping[Cid, bytes], hidden_links: Mapping[Cid, list[Cid]] = MappingProxyType({})) -> None:
        """Blocks that an edit made; of encrypted ones also the CIDs that they link to."""
        self._hidden_links.update(hidden_links)
        for cid, data in blocks.items():
            if cid not in self._made:
                self._made[cid] = data
                self._made_bytes += len(data)

    def forget_all_but(self, root: Cid) -> None:
        """Drops what was made for earlier roots, once that is much."""
        if self._made_bytes > PRUNE_BYTES:
            self._made = self._needed(root)
            self._made_bytes = sum(map(len, self._made.values()))

    def store_for(self, root: Cid, *, makes_room: bool = False) -> None:
        """Stores, durably, what was made and ``root`` needs. ``makes_room``: the bucket becomes smaller by it."""
        needed = self._needed(root)
        if needed:
            self.store.put_many(needed, upload=self.upload, verified=True, makes_room=makes_room)
        self._made.clear()
        self._made_bytes = 0

    def _check_complete(self, wanted: Iterable[Cid], found: Mapping[Cid, object]) -> None:
        for cid in wanted:
            if cid not in found:
                raise self._absent(f"block {cid_text(cid)} is not on this hub")

    def _needed(self, root: Cid) -> dict[Cid, bytes]:
        needed: dict[Cid, bytes] = {}
        ahead = [root]
        while ahead:
            cid = ahead.pop()
            if cid in self._made and cid not in needed:
                needed[cid] = self._made[cid]
                ahead += self._hidden_links.get(cid) or block_links(cid, needed[cid])
        return needed
