"""The native Remote: a Hub that offers ``bucketfs.v1.Blocks``."""

from __future__ import annotations

from collections.abc import AsyncIterable, Collection, Generator, Sequence
from contextlib import contextmanager

from bucketfs.client import BlocksClient, BucketsClient, PutResult
from bucketfs.errors import NotFound
from bucketfs.remote.remote import Look
from bucketfs.types import BucketKey, Cid, ThreadId, UploadId


class NativeRemote:
    """One bucket, by its key, through the clients of a connection."""

    def __init__(self, blocks: BlocksClient, buckets: BucketsClient, thread: ThreadId, key: BucketKey) -> None:
        self._blocks = blocks
        self._buckets = buckets
        self._thread = thread
        self._key = key

    async def root(self) -> Cid:
        """As `Remote.root`."""
        with _gone_when_not_found():
            return (await self._buckets.root(self._key)).root

    async def look(self) -> Look:
        """As `Remote.look`."""
        with _gone_when_not_found():
            details = await self._buckets.details(self._key)
        times = {path: rights.updated_at_ns for path, rights in details.paths.items() if rights.updated_at_ns}
        roles = {path: rights.roles for path, rights in details.paths.items() if rights.roles}
        return Look(details.info.root, details.info.updated_at_ns, times, details.info.owner, roles)

    async def blocks(self, cids: Collection[Cid]) -> dict[Cid, bytes]:
        """As `Remote.blocks`."""
        return await self._blocks.get(cids)

    async def missing(self, cids: Collection[Cid], upload: UploadId) -> set[Cid]:
        """As `Remote.missing`."""
        return await self._blocks.missing(cids, upload)

    async def put(self, batches: AsyncIterable[Sequence[tuple[Cid, bytes]]], upload: UploadId) -> PutResult:
        """As `Remote.put`."""
        return await self._blocks.put(batches, upload)

    async def swap(self, expected: Cid, new: Cid, upload: UploadId) -> None:
        """As `Remote.swap`."""
        with _gone_when_not_found():
            await self._blocks.swap_root(self._thread, self._key, expected, new, upload)


@contextmanager
def _gone_when_not_found() -> Generator[None]:
    """A Hub says that an instance is not found. That is the bucket itself: the error says what that means for its user."""
    try:
        yield
    except NotFound as error:
        raise NotFound(
            "the Hub has this bucket no more, or shares it no more",
            hint="copy what you want to keep to another bucket, then empty and remove the folder of this one",
        ) from error
