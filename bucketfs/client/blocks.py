"""Blocks by CID: the client of ``bucketfs.v1.Blocks`` (blocks.proto), bucketfs' own extension of a Hub.

Blocks from the Hub are checked against their CIDs on the stream's worker thread. A message bundles blocks up to about 1 MiB, the
size measured fastest; a few such messages are in memory at a time.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Sequence
from dataclasses import dataclass

from bucketfs.client.bucket_info import AccountQuota, BucketInfo, Holdings
from bucketfs.client.channel import Channel
from bucketfs.dag import parse_cid, verify
from bucketfs.errors import Corrupt, InvalidArgument, Unsupported
from bucketfs.keys import parse_thread
from bucketfs.types import BucketKey, Cid, ThreadId, UploadId
from bucketfs.wire import blocks_pb2
from bucketfs.wire.blockmessage import BlockMessage

MESSAGE_BYTES = 1 << 20
MESSAGES_AT_ONCE = 8
"""Messages of blocks that a worker thread hands over together, if they come quickly."""
GET_CIDS_MAX = 1024
MISSING_CIDS_MAX = 8192
NO_UPLOAD = UploadId(b"")
STORE_TIMEOUT_S = 120.0
"""For each message of Put and for its reply: the Hub syncs its disk."""
SWAP_TIMEOUT_S = 600.0
"""The Hub walks all that is new under the root before it answers; after a first push that is everything."""

_SERVICE = blocks_pb2.DESCRIPTOR.services_by_name["Blocks"]


@dataclass(frozen=True, slots=True)
class PutResult:
    """What a Put carried, and how much of it was new to the Hub."""

    blocks_received: int = 0
    blocks_stored: int = 0
    bytes_received: int = 0
    bytes_stored: int = 0


class BlocksClient:
    """Each call raises what the channel raises, and Unsupported at a Hub without the extension."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._offered: bool | None = None

    async def offered(self) -> bool:
        """Whether this Hub offers the extension: the answer to an empty question, remembered once it is known."""
        if self._offered is None:
            try:
                await self.missing(())
            except Unsupported:
                self._offered = False
            else:
                self._offered = True
        return self._offered

    async def get(self, cids: Iterable[Cid]) -> dict[Cid, bytes]:
        """The blocks of ``cids``, verified; one that the Hub does not hold is left out. Raises Corrupt for wrong bytes."""
        found: dict[Cid, bytes] = {}
        async for cid, data in self.get_each(cids):
            if data is not None:
                found[cid] = data
        return found

    async def get_each(self, cids: Iterable[Cid]) -> AsyncIterator[tuple[Cid, bytes | None]]:
        """Each of ``cids`` with its verified block, or None, in the order asked and as they come: for more than fits memory.
        Raises Corrupt for wrong bytes, or for an answer about other CIDs. To be closed (``aclosing``) when left early."""
        wanted = list(dict.fromkeys(cids))
        for start in range(0, len(wanted), GET_CIDS_MAX):
            batch = wanted[start : start + GET_CIDS_MAX]
            request = blocks_pb2.GetRequest(cids=batch)
            answered = 0
            async with self._channel.stream_out(_SERVICE, "Get", request, _checked, bundle=MESSAGES_AT_ONCE) as replies:
                async for blocks in replies:
                    if [cid for cid, _ in blocks] != batch[answered : answered + len(blocks)]:
                        raise Corrupt("Get: the Hub answered with other blocks than were asked for")
                    answered += len(blocks)
                    for block in blocks:
                        yield block
            if answered != len(batch):
                raise Corrupt(f"Get: the Hub answered for {answered} of {len(batch)} blocks")

    async def missing(self, cids: Iterable[Cid], upload: UploadId = NO_UPLOAD) -> set[Cid]:
        """Which of ``cids`` the Hub lacks. Those it has are kept from collection until the lease of ``upload`` ends."""
        wanted = list(dict.fromkeys(cids))
        lacked: set[Cid] = set()
        for start in range(0, max(1, len(wanted)), MISSING_CIDS_MAX):
            request = blocks_pb2.MissingRequest(cids=wanted[start : start + MISSING_CIDS_MAX], upload=upload)
            reply: blocks_pb2.MissingReply = await self._channel.unary(_SERVICE, "Missing", request)
            lacked.update(Cid(cid) for cid in reply.cids)
        return lacked.intersection(wanted)

    async def put(self, blocks: AsyncIterable[Sequence[tuple[Cid, bytes]]], upload: UploadId = NO_UPLOAD) -> PutResult:
        """Stores what ``blocks`` yields, batch by batch, asking for the next batch when there is room on the link. What ``blocks``
        raises cancels the call; blocks already sent stay at the Hub as the lease of ``upload`` says. Raises InvalidArgument for a
        block that is not what its CID says."""
        reply: blocks_pb2.PutReply = await self._channel.stream_in(
            _SERVICE, "Put", _bundled(blocks, upload), timeout_s=max(STORE_TIMEOUT_S, self._channel.timeout_s)
        )
        return PutResult(reply.blocks_received, reply.blocks_stored, reply.bytes_received, reply.bytes_stored)

    async def swap_root(
        self, thread: ThreadId, key: BucketKey, expected: Cid, new: Cid, upload: UploadId = NO_UPLOAD
    ) -> Cid:
        """Makes ``new`` the bucket's root if that is ``expected`` now; returns the root afterwards. Raises RootMoved, BlocksMissing
        (with ``cids``) and Denied. After Unavailable or TimedOut it may have happened: read the root."""
        request = blocks_pb2.SwapRootRequest(key=key, expected=expected, new=new, upload=upload)
        reply: blocks_pb2.SwapRootReply = await self._channel.unary(
            _SERVICE, "SwapRoot", request, thread=thread, timeout_s=max(SWAP_TIMEOUT_S, self._channel.timeout_s)
        )
        return parse_cid(reply.root)

    async def holdings(self) -> Holdings:
        """Every bucket of the acting account, in all its threads, with its present root; and the account's limits."""
        reply: blocks_pb2.RootsReply = await self._channel.unary(_SERVICE, "Roots", blocks_pb2.RootsRequest())
        limits = AccountQuota(reply.bytes_limit, reply.bytes_used, reply.bucket_bytes_limit)
        return Holdings([_info_of(bucket) for bucket in reply.buckets], limits)


def _checked(reply: blocks_pb2.GetReply) -> list[tuple[Cid, bytes | None]]:
    """On a worker thread: the blocks of a message, checked against their CIDs."""
    for block in reply.blocks:
        if not block.missing:
            verify(Cid(block.cid), block.data)
    return [(Cid(block.cid), None if block.missing else block.data) for block in reply.blocks]


async def _bundled(batches: AsyncIterable[Sequence[tuple[Cid, bytes]]], upload: UploadId) -> AsyncIterator[BlockMessage]:
    message = BlockMessage(upload)
    async for batch in batches:
        for cid, data in batch:
            if message.blocks and message.size_bytes + len(data) > MESSAGE_BYTES:
                yield message
                message = BlockMessage(upload)
            message.add(cid, data)
    if message.blocks:
        yield message


def _info_of(bucket: blocks_pb2.RootsReply.Bucket) -> BucketInfo:
    try:
        thread, root = parse_thread(bucket.thread), parse_cid(bucket.root)
    except InvalidArgument as error:
        raise Corrupt(f"Roots: the Hub's answer about bucket {bucket.key!r} makes no sense") from error
    return BucketInfo(
        BucketKey(bucket.key),
        bucket.name,
        thread,
        root,
        bucket.created_at,
        bucket.updated_at,
        bucket.private,
        bucket.owner,
    )
