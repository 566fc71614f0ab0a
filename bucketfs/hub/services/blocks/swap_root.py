"""``SwapRoot``: a bucket gets another root, if it still has the one that the client built on, may have it, and has all of it.

That everything under the new root is here is checked by walking it in step with the expected one: what stands at the same place
in both is not entered, because a bucket's root was complete when it became one. Rights are asked for every path that differs,
as if each had been pushed by itself. Where bytes are limited, the sizes that the new links claim are checked, for they are what
is counted.

Entries of paths: those of changed paths get the time, those of removed ones go. A file without one gets an (empty) one, as by
path, while there are few; a row per file of every tree ever pushed would be too much, and access.py treats a file that exists
as if it had one."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from bucketfs.dag import DAG_PB, codec_of, compare, drive, new_blocks, node_info, parse_cid, reachable
from bucketfs.errors import Corrupt, Denied, InvalidArgument, TooLarge
from bucketfs.hub.db import BucketRow
from bucketfs.hub.rpc import NON_FAST_FORWARD, Code, Context, Status
from bucketfs.hub.services.buckets import SEED_REFUSED, BucketWriter, later_ns
from bucketfs.hub.store import BlockStore
from bucketfs.hub.trees import (
    SIZE_MAX,
    ChangedPaths,
    PublicTree,
    WorkingSet,
    access,
    check_nodes,
    check_sizes,
    entries_after,
    total_size,
)
from bucketfs.names import SEED
from bucketfs.types import Cid, Kind, Link
from bucketfs.wire import blocks_pb2 as pb

MISSING_TRAILER = "bucketfs-missing-bin"
MISSING_NAMED_MAX = 100
"""CIDs named in the trailer: headers and trailers of more than 8 KiB are dropped by gRPC clients."""
PRIVATE_REFUSED = "a private bucket is changed by path: the hub encrypts it, so its blocks cannot be pushed"


class RootSwaps:
    """The method."""

    def __init__(self, writer: BucketWriter) -> None:
        self._writer = writer
        self._hub = writer.hub

    def swap_root(self, request: Any, context: Context) -> Any:
        """``SwapRoot``."""
        expected, new = parse_cid(request.expected), parse_cid(request.new)
        if len(request.upload) > 64:
            raise InvalidArgument("an upload identifier is too long")
        upload = request.upload or secrets.token_bytes(16)
        below: set[Cid] = set()

        def step(row: BucketRow) -> BucketRow | None:
            nonlocal below
            if row.private:
                raise Status(Code.FAILED_PRECONDITION, PRIVATE_REFUSED)
            if row.root != expected:
                raise Status(Code.FAILED_PRECONDITION, NON_FAST_FORWARD)
            if new == expected:
                return None
            below = self._check_complete(context, expected, new, upload)
            # Called anew after another process saved: perhaps only roles changed, and what is allowed is asked again.
            return self._planned(context, row, new)

        saved = self._writer.commit(context.call, request.key, step, upload)
        self._hub.upload_quota.redeem(context.call.payer, request.upload, below)
        return pb.SwapRootReply(root=saved.root, updated_at=saved.updated_at_ns)

    def _check_complete(self, context: Context, expected: Cid, new: Cid, upload: bytes) -> set[Cid]:
        """What is new below ``new``, all of which is leased. Raises Status NOT_FOUND, with names in the trailer, unless all blocks
        below ``new`` are here, and INVALID_ARGUMENT for a root that no bucket may have."""
        store = self._hub.blockstore
        try:
            walk = walk_new(store, expected, new, context.check_active)
            missing = walk.missing(store, upload)
            if not missing:
                if node_info(new, store.get(new)).kind is not Kind.DIRECTORY:
                    raise InvalidArgument("the new root is not a directory")
                blocks = WorkingSet(store, check=context.check_active)
                check_nodes(blocks, walk.below, walk.seen - walk.below)
                if self._writer.counts_bytes:
                    check_sizes(blocks, walk.below, walk.seen - walk.below)
        except Corrupt as error:
            raise Status(Code.INVALID_ARGUMENT, f"the new root: {error}") from error
        if missing:
            named = pb.MissingBlocks(cids=missing[:MISSING_NAMED_MAX]).SerializeToString()
            text = f"{len(missing)} blocks under the new root are not on this hub"
            raise Status(Code.NOT_FOUND, text, trailers={MISSING_TRAILER: named})
        return walk.below

    def _planned(self, context: Context, row: BucketRow, new: Cid) -> BucketRow:
        """The row after the swap. Raises Denied, OverQuota, Corrupt, Status."""
        blocks = WorkingSet(self._hub.blockstore, check=context.check_active)
        try:
            comparison = blocks.run(compare(row.root, new))
        except (Corrupt, TooLarge) as error:
            # All blocks are here, so the new nodes are at fault, unless the old ones are damaged: that shows when they are read.
            blocks.run(reachable(row.root))
            raise Status(Code.INVALID_ARGUMENT, f"the new root: {error}") from error
        top = comparison.top
        is_directory = _KindCache(blocks).is_directory
        if not access.may_all(row, context.call.writer):
            access.check_changes(row, ChangedPaths(row, comparison, is_directory), context.call.writer)
            if any(delta.impossible for delta in comparison.deltas):
                # No entry stands above names that no path has, so only a caller that may do everything may change them.
                raise Denied(access.DENIED)
        if SEED in top.whole or SEED in top.below:
            raise Status(Code.PERMISSION_DENIED, SEED_REFUSED)
        claimed_bytes = total_size(new, blocks.get(new))
        if claimed_bytes > SIZE_MAX:
            raise Status(Code.INVALID_ARGUMENT, f"the new root: its links claim {claimed_bytes} bytes")
        size_bytes = PublicTree(blocks).size_after(row.root, row.size_bytes, Link(new, claimed_bytes))
        if size_bytes > row.size_bytes:
            self._writer.check_quota(row, size_bytes)
        now_ns = later_ns(row)
        entries = entries_after(row, top, now_ns, is_directory)
        return replace(row, root=new, entries=entries, updated_at_ns=now_ns, size_bytes=size_bytes)


@dataclass(frozen=True, slots=True)
class NewBlocksWalk:
    """What was met on the way through a new root beside the old one: what is new ``below`` it, all nodes that were ``seen``, and
    those of them that are ``absent``."""

    below: set[Cid]
    seen: set[Cid]
    absent: set[Cid]

    def missing(self, store: BlockStore, upload: bytes) -> list[Cid]:
        """New CIDs that are not here; those that are stay while the upload's lease lasts.

        Below a node that is missing nothing can be seen, so an empty answer is the only complete one.
        """
        gone = set(store.missing(self.below, upload)) | (self.absent & self.below)
        return [cid for cid in self.below if cid in gone]


def walk_new(store: BlockStore, expected: Cid, new: Cid, check: Callable[[], None]) -> NewBlocksWalk:
    """``check`` raises when the walk is not wanted any more. Raises Corrupt when ``new`` is no tree that a bucket may hold."""
    seen: set[Cid] = set()
    absent: set[Cid] = set()

    def fetch(cids: Iterable[Cid]) -> dict[Cid, bytes]:
        check()
        wanted = list(cids)
        seen.update(wanted)
        found = _readable(store, wanted)
        for cid in wanted:
            if cid not in found:
                absent.add(cid)
                # As a node without links: the walk goes on beside it.
                found[cid] = b""
        return found

    return NewBlocksWalk(drive(new_blocks(expected, new), fetch), seen, absent)


def _readable(store: BlockStore, cids: list[Cid]) -> dict[Cid, bytes]:
    """The blocks that are here and sound: a damaged one counts as missing, and is mended when it is sent again."""
    try:
        return store.get_many(cids)
    except Corrupt:
        found = {}
        for cid in cids:
            try:
                found.update(store.get_many((cid,)))
            except Corrupt:
                continue
        return found


class _KindCache:
    """Which nodes are directories; each is looked at once."""

    def __init__(self, blocks: WorkingSet) -> None:
        self._blocks = blocks
        self._known: dict[Cid, bool] = {}

    def is_directory(self, link: Link) -> bool:
        """Whether what stands at a link is one."""
        if codec_of(link.cid) != DAG_PB:
            return False
        if link.cid not in self._known:
            self._known[link.cid] = node_info(link.cid, self._blocks.get(link.cid)).kind is Kind.DIRECTORY
        return self._known[link.cid]
