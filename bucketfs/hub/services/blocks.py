"""Blocks by CID, ``bucketfs.v1.Blocks``: bulk reads and writes, and the compare-and-swap that makes a push visible.

A CID is the capability to read a block. Writing blocks needs an account, and no more: what no bucket links to is collected. A
bucket changes by ``SwapRoot`` only, which is in swap.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from bucketfs.dag import DAG_PB, check_block, codec_of, drive, list_directory, node_info, parse_cid
from bucketfs.errors import Corrupt, InvalidArgument, NotADirectory
from bucketfs.hub.context import Hub
from bucketfs.hub.rpc import INSECURE_KEY, WARNING_TRAILER, Code, Context, Service, Status
from bucketfs.hub.services.buckets import BucketWriter
from bucketfs.hub.services.swap_root import Swapping
from bucketfs.hub.store import BlockStore, BlockWriter, StoredCounts
from bucketfs.types import Cid, Kind
from bucketfs.wire import blocks_pb2 as pb
from bucketfs.wire.blockmessage import BlockMessage

NAME = "bucketfs.v1.Blocks"
REPLY_BYTES = 1024 * 1024
"""Size that reply messages grow to: measured, the fastest."""
REPLY_BLOCKS_MAX = 4096
UPLOAD_BYTES_MAX = 64
DEPTH_MAX = 32
_BATCH = 256


def service(hub: Hub) -> Service:
    """The service over these stores."""
    blocks, swapping = Blocks(hub), Swapping(BucketWriter(hub))
    return Service(
        NAME,
        {
            "Get": blocks.get,
            "GetTree": blocks.get_tree,
            "Missing": blocks.missing,
            "Put": blocks.put,
            "SwapRoot": swapping.swap_root,
            "Roots": blocks.roots,
        },
    )


class Blocks:
    """The methods."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._upload_quota = hub.upload_quota

    def get(self, request: Any, context: Context) -> Iterator[Any]:
        """``Get``: blocks in the order asked. A damaged one ends the call with DATA_LOSS."""
        cids = [parse_cid(cid) for cid in request.cids]
        return _bundled(self._hub.blockstore.iterate(cids))

    def get_tree(self, request: Any, context: Context) -> Iterator[Any]:
        """``GetTree``: a directory's blocks and, down to ``depth``, the root blocks of what is in it."""
        if not 0 <= request.depth <= DEPTH_MAX:
            raise InvalidArgument(f"a depth of {request.depth}; 0 to {DEPTH_MAX} are allowed")
        return _bundled(_TreeWalk(self._hub.blockstore, context).run(parse_cid(request.cid), request.depth))

    def missing(self, request: Any, context: Context) -> Any:
        """``Missing``: which are not here; those that are stay until the upload's lease ends."""
        upload = check_upload(request.upload)
        self._upload_quota.renew(context.call.payer, upload)
        return pb.MissingReply(cids=self._hub.blockstore.missing([parse_cid(cid) for cid in request.cids], upload))

    def put(self, requests: Iterator[Any], context: Context) -> Any:
        """``Put``: each message is stored whole or not at all; the reply says that everything is durable."""
        counts = StoredCounts()
        receivings: dict[bytes, BlockWriter] = {}
        for request in requests:
            upload = check_upload(request.upload)
            if upload not in receivings:
                receivings[upload] = self._hub.blockstore.receive(upload, self._upload_quota.of(context.call.payer, upload))
            blocks = _checked(request.blocks)
            counts += receivings[upload].put(blocks, verified=True)
        for receiving in receivings.values():
            receiving.finish()
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
            # Everybody who mounts or looks at buckets makes this call.
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
            # On the way in, wrong bytes are the sender's mistake and no loss of ours.
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


class _TreeWalk:
    """Gives out each block once, as it is met: all shards of a directory, then the root blocks of its children."""

    def __init__(self, store: BlockStore, context: Context) -> None:
        self._store = store
        self._context = context
        self._given: set[Cid] = set()
        self._directories: set[Cid] = set()
        """Those children that were given out and are directories."""

    def run(self, cid: Cid, depth: int) -> Iterator[tuple[Cid, bytes | None]]:
        found = self._store.get_many((cid,))
        if cid not in found:
            yield cid, None
            return
        level = [cid]
        # Each directory once, at the highest level that names it: from there its children are given out as deep as from any other.
        opened = {cid}
        for left in range(depth, -1, -1):
            below: list[Cid] = []
            for directory in level:
                self._context.check_active()
                blocks, children = self._open(directory)
                yield from blocks
                if left:
                    yield from self._children(children, below if left > 1 else None)
            level = [one for one in dict.fromkeys(below) if one not in opened]
            opened.update(level)

    def _open(self, cid: Cid) -> tuple[list[tuple[Cid, bytes | None]], list[Cid]]:
        """The blocks of a directory that were not given out yet, and its children that have a block of their own."""
        seen: dict[Cid, bytes | None] = {}

        def fetch(cids: Iterable[Cid]) -> dict[Cid, bytes]:
            self._context.check_active()
            wanted = list(cids)
            held = self._store.get_many(wanted)
            for one in wanted:
                seen[one] = held.get(one)
            if len(held) < len(set(wanted)):
                raise _Incomplete
            return held

        try:
            entries = drive(list_directory(cid), fetch).entries
        except (NotADirectory, _Incomplete):
            entries = {}
        if not seen and cid not in self._given:
            # Something without directory blocks: the block itself is all there is to give.
            seen.update(self._store.get_many((cid,)))
        fresh = [(one, data) for one, data in seen.items() if one not in self._given]
        self._given.update(seen)
        return fresh, [link.cid for link in entries.values() if codec_of(link.cid) == DAG_PB]

    def _children(self, cids: list[Cid], directories: list[Cid] | None) -> Iterator[tuple[Cid, bytes | None]]:
        wanted = list(dict.fromkeys(cids))
        fresh = [cid for cid in wanted if cid not in self._given]
        for start in range(0, len(fresh), _BATCH):
            batch = fresh[start : start + _BATCH]
            held = self._store.get_many(batch)
            for cid in batch:
                data = held.get(cid)
                self._given.add(cid)
                if data is not None and _is_directory(cid, data):
                    self._directories.add(cid)
                yield cid, data
        if directories is not None:
            directories += [cid for cid in wanted if cid in self._directories]


class _Incomplete(Exception):
    """A shard of a directory is not here."""


def _is_directory(cid: Cid, data: bytes) -> bool:
    try:
        return node_info(cid, data).kind is Kind.DIRECTORY
    except Corrupt:
        return False
