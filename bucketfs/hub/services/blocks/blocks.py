"""``Get``, ``GetTree``, ``Missing``, ``Put`` and ``Roots``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from bucketfs.dag import check_block, parse_cid
from bucketfs.errors import Corrupt, InvalidArgument
from bucketfs.hub.context import Hub
from bucketfs.hub.rpc import INSECURE_KEY, WARNING_TRAILER, Code, Context, Status
from bucketfs.hub.services.blocks.tree_walk import TreeWalk
from bucketfs.hub.store import BlockWriter, StoredCounts
from bucketfs.types import Cid
from bucketfs.wire import blocks_pb2 as pb
from bucketfs.wire.blockmessage import BlockMessage

REPLY_BYTES = 1024 * 1024
"""Size that reply messages grow to: measured, the fastest."""
REPLY_BLOCKS_MAX = 4096
UPLOAD_BYTES_MAX = 64
DEPTH_MAX = 32


class BlockCalls:
    """The methods."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def get(self, request: Any, context: Context) -> Iterator[Any]:
        """``Get``: blocks in the order asked. A damaged one ends the call with DATA_LOSS."""
        cids = [parse_cid(cid) for cid in request.cids]
        return _bundled(self._hub.blockstore.iterate(cids))

    def get_tree(self, request: Any, context: Context) -> Iterator[Any]:
        """``GetTree``: a directory's blocks and, down to ``depth``, the root blocks of what is in it."""
        if not 0 <= request.depth <= DEPTH_MAX:
            raise InvalidArgument(f"a depth of {request.depth}; 0 to {DEPTH_MAX} are allowed")
        return _bundled(TreeWalk(self._hub.blockstore, context).run(parse_cid(request.cid), request.depth))

    def missing(self, request: Any, context: Context) -> Any:
        """``Missing``: which are not here; those that are stay until the upload's lease ends."""
        upload = check_upload(request.upload)
        self._hub.upload_quota.renew(context.call.payer, upload)
        return pb.MissingReply(cids=self._hub.blockstore.missing([parse_cid(cid) for cid in request.cids], upload))

    def put(self, requests: Iterator[Any], context: Context) -> Any:
        """``Put``: each message is stored whole or not at all; the reply says that everything is durable."""
        counts = StoredCounts()
        writers: dict[bytes, BlockWriter] = {}
        for request in requests:
            upload = check_upload(request.upload)
            if upload not in writers:
                writers[upload] = self._hub.blockstore.receive(upload, self._hub.upload_quota.of(context.call.payer, upload))
            blocks = _checked(request.blocks)
            counts += writers[upload].put(blocks, verified=True)
        for writer in writers.values():
            writer.finish()
        return pb.PutReply(
            blocks_received=counts.blocks_received,
            blocks_stored=counts.blocks_stored,
            bytes_received=counts.bytes_received,
            bytes_stored=counts.bytes_stored,
        )

    def roots(self, request: Any, context: Context) -> Any:
        """``Roots``: of every bucket in the threads of the acting account."""
        call, database = context.call, self._hub.database
        if not call.signed:
            # Every client that mounts or lists buckets makes this call.
            context.set_trailers({WARNING_TRAILER: INSECURE_KEY})
        rows = database.buckets_of(call.account, call.realm)
        limits, used = self._hub.config.limits, database.usage(call.payer)
        return pb.RootsReply(
            buckets=[
                pb.RootsReply.Bucket(
                    key=row.key,
                    name=row.name,
                    thread=row.thread,
                    root=row.root,
                    created_at=row.created_at_ns,
                    updated_at=row.updated_at_ns,
                    private=row.private,
                    owner=row.owner,
                )
                for row in rows
            ],
            bytes_limit=limits.bytes,
            bytes_used=used.bytes,
            buckets_limit=limits.buckets,
            buckets_used=used.buckets,
            threads_limit=limits.threads,
            threads_used=used.threads,
            bucket_bytes_limit=self._hub.config.bucket_bytes_max,
        )


def check_upload(upload: bytes) -> bytes:
    """The identifier of an upload. Raises InvalidArgument for one that is too long."""
    if len(upload) > UPLOAD_BYTES_MAX:
        raise InvalidArgument(f"an upload identifier of {len(upload)} bytes; at most {UPLOAD_BYTES_MAX} are allowed")
    return upload


def _checked(blocks: Iterable[Any]) -> list[tuple[Cid, bytes]]:
    """The blocks of one message, each hashed and looked at. Raises InvalidArgument."""
    checked = []
    for block in blocks:
        cid = parse_cid(block.cid)
        try:
            check_block(cid, block.data)
        except Corrupt as error:
            # On the way in, wrong bytes are the fault of the sender and no loss of ours.
            raise Status(Code.INVALID_ARGUMENT, str(error)) from error
        checked.append((cid, block.data))
    return checked


def _bundled(blocks: Iterable[tuple[Cid, bytes | None]]) -> Iterator[Any]:
    """Reply messages of about REPLY_BYTES. A block of ``None`` is one that is not here."""
    reply = BlockMessage()
    for cid, data in blocks:
        length = len(cid) if data is None else len(cid) + len(data)
        if reply.blocks and (reply.size_bytes + length > REPLY_BYTES + 4096 or reply.blocks >= REPLY_BLOCKS_MAX):
            yield reply
            reply = BlockMessage()
        reply.add(cid, data)
    if reply.blocks:
        yield reply
