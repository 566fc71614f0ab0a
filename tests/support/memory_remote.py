"""A bucket at a Hub in memory, for tests of whatever talks to a `Remote`.

It claims to behave as `Remote`: it hashes every block, swaps a root only from the expected one, and only when every block below the
new one is there. tests/remote/test_contract.py holds it and the real Hub to the same promises.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field

from bucketfs.client import PutResult
from bucketfs.dag import cid_of, drive, edit_directory, new_blocks, verify
from bucketfs.errors import BlocksMissing, Corrupt, Denied, InvalidArgument, NotFound, RootMoved, Unavailable
from bucketfs.remote import Look
from bucketfs.types import Cid, Link, UploadId


async def nothing() -> None:
    """What happens around a swap unless a test says otherwise."""


async def lose_the_answer() -> None:
    """For ``after_swap``: the Hub has taken the root, and the client never hears of it."""
    raise Unavailable("the answer was lost")


@dataclass
class MemoryRemote:
    """A bucket in memory. ``away`` makes every call fail as a Hub that is down, ``gone`` as one that has no such bucket any more;
    ``refuses`` makes it refuse a new root, as to a reader. ``before_swap`` and ``after_swap`` are awaited around each swap."""

    store: dict[Cid, bytes] = field(default_factory=dict)
    at: Cid = field(init=False)
    away: bool = False
    gone: bool = False
    refuses: bool = False
    before_swap: Callable[[], Awaitable[None]] = nothing
    after_swap: Callable[[], Awaitable[None]] = nothing
    bytes_put: int = 0
    swaps: int = 0

    def __post_init__(self) -> None:
        seed = b"s" * 32
        self.store[cid_of(seed)] = seed
        built = drive(edit_directory(None, {b".textileseed": Link(cid_of(seed), 32)}), self._get)
        self.store.update(built.blocks)
        self.at = built.link.cid

    def _get(self, cids: Sequence[Cid]) -> dict[Cid, bytes]:
        return {cid: self.store[cid] for cid in cids}

    def _reach(self) -> None:
        if self.away:
            raise Unavailable("the Hub is away")

    def _find(self) -> None:
        self._reach()
        if self.gone:
            raise NotFound("the Hub has this bucket no more")

    async def root(self) -> Cid:
        self._find()
        return self.at

    async def look(self) -> Look:
        self._find()
        return Look(self.at)

    async def blocks(self, cids: Collection[Cid]) -> dict[Cid, bytes]:
        self._reach()
        return {cid: self.store[cid] for cid in cids if cid in self.store}

    async def missing(self, cids: Collection[Cid], upload: UploadId) -> set[Cid]:
        self._reach()
        return {cid for cid in cids if cid not in self.store}

    async def put(self, batches: AsyncIterable[Sequence[tuple[Cid, bytes]]], upload: UploadId) -> PutResult:
        async for batch in batches:
            self._reach()
            for cid, data in batch:
                try:
                    verify(cid, data)
                except Corrupt as error:
                    raise InvalidArgument("a block is not what its CID says") from error
                self.store[cid] = data
                self.bytes_put += len(data)
        self._reach()
        return PutResult()

    async def swap(self, expected: Cid, new: Cid, upload: UploadId) -> None:
        await self.before_swap()
        self._find()
        if self.refuses:
            raise Denied("readers do not swap")
        if self.at != expected:
            raise RootMoved("update is non-fast-forward")
        missing: list[Cid] = []

        def get(cids: Sequence[Cid]) -> dict[Cid, bytes]:
            lacking = [cid for cid in cids if cid not in self.store]
            if lacking:
                raise BlocksMissing(cids=lacking)
            return self._get(cids)

        # As the Hub does: what stood below the old root is complete by induction.
        missing = [cid for cid in drive(new_blocks(expected, new), get) if cid not in self.store]
        if missing:
            raise BlocksMissing(cids=missing)
        self.at = new
        self.swaps += 1
        await self.after_swap()
