"""`Remote`: one bucket at a Hub, seen as a DAG of blocks under a root that moves.

The rooms above know a Hub only through this door. Two kinds are meant to stand behind it: `native` (blocks travel by CID) and, for
Hubs without our extension, one by path (not built yet; `status` and mounting say so).
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from bucketfs.client import PutResult
from bucketfs.types import Cid, UploadId
from bucketfs.vfs import Roles


@dataclass(frozen=True, slots=True)
class Look:
    """What the Hub says of a bucket: its root, when it was last changed, and when each path was that it keeps a record of
    (nanoseconds since 1970); whose it is, and the roles by path, as far as the caller may know them."""

    root: Cid
    updated_at_ns: int = 0
    path_times: Mapping[str, int] = field(default_factory=dict)
    owner: str = ""
    roles: Roles = field(default_factory=dict)


class Remote(Protocol):
    """Every method raises Unavailable or TimedOut when the Hub cannot be asked, Unauthenticated or Denied when it refuses."""

    async def root(self) -> Cid:
        """The bucket's root now. Raises NotFound when it is gone."""

    async def look(self) -> Look:
        """The bucket now, with its times. Raises NotFound when it is gone."""

    async def blocks(self, cids: Collection[Cid]) -> dict[Cid, bytes]:
        """Blocks by CID, each checked against it; one that the Hub lacks is left out. Raises Corrupt for wrong bytes."""

    async def missing(self, cids: Collection[Cid], upload: UploadId) -> set[Cid]:
        """Which of ``cids`` the Hub lacks; it keeps the others while the lease of ``upload`` runs."""

    async def put(self, batches: AsyncIterable[Sequence[tuple[Cid, bytes]]], upload: UploadId) -> PutResult:
        """Store blocks. May be repeated at will; what was stored before a failure stays while the lease runs. Raises
        InvalidArgument for a block that is not what its CID says, which is not stored."""

    async def swap(self, expected: Cid, new: Cid, upload: UploadId) -> None:
        """Make ``new`` the root if it is ``expected`` now. Raises RootMoved, BlocksMissing, OverQuota, Denied. After
        Unavailable or TimedOut it may have happened."""
