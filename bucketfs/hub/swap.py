"""``SwapRoot``: a bucket gets another root, if it still has the one that the client built on, may have it, and has all of it.

That everything under the new root is here is checked by walking it in step with the expected one: what stands at the same place
in both is not entered, because a bucket's root was complete when it became one. Rights are asked for every path that differs, as if
each had been pushed by itself. Where bytes are limited, the sizes that the new links claim are checked, for they are what is
counted.

Entries of paths: those of changed paths get the time, those of removed ones go. A path that has no entry gets none. By path each
pushed file gets an (empty) one; here that would mean a row per file of every tree ever pushed, and access.py treats a file that
exists as if it had one.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from bucketfs.dag import DAG_PB, Change, codec_of, diff, drive, new_blocks, node_info, parse_cid, reachable
from bucketfs.errors import Corrupt, InvalidArgument, NotFound, RootMoved
from bucketfs.hub import access
from bucketfs.hub.access import Touch
from bucketfs.hub.blockstore import BlockStore
from bucketfs.hub.bucketpaths import SEED_NAME, SEED_REFUSED, path_text
from bucketfs.hub.bucketwrite import ATTEMPTS_MAX, Desk, may_all
from bucketfs.hub.call import Call, Context
from bucketfs.hub.feed import Action
from bucketfs.hub.rows import BucketRow, PathEntry
from bucketfs.hub.sizes import SIZE_MAX, check_sizes
from bucketfs.hub.status import NON_FAST_FORWARD, Code, Status
from bucketfs.hub.tree import PublicTree, WorkingSet, total_size
from bucketfs.types import Cid, Kind, Link
from bucketfs.wire import blocks_pb2 as pb

MISSING_TRAILER = "bucketfs-missing-bin"
MISSING_NAMED_MAX = 100
"""CIDs named in the trailer: metadata of more than 8 KiB is dropped by gRPC clients."""
PRIVATE_REFUSED = "a private bucket is changed by path: the hub encrypts it, so its blocks cannot be pushed"


class Swapping:
    """The method."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def swap_root(self, request: Any, context: Context) -> Any:
        """``SwapRoot``."""
        expected, new = parse_cid(request.expected), parse_cid(request.new)
        if len(request.upload) > 64:
            raise InvalidArgument("an upload identifier is too long")
        upload = request.upload or secrets.token_bytes(16)
        for attempt in range(ATTEMPTS_MAX):
            row = self._desk.row(context.call, request.key)
            if row.private:
                raise Status(Code.FAILED_PRECONDITION, PRIVATE_REFUSED)
            if row.root != expected:
                raise Status(Code.FAILED_PRECONDITION, NON_FAST_FORWARD)
            if new == expected:
                return pb.SwapRootReply(root=row.root, updated_at=row.updated_at_ns)
            self._check_complete(expected, new, upload)
            after = self._planned(context.call, row, new)
            try:
                saved = self._desk.hub.metadata.save_bucket(after, expected, self._desk.hub.config.limits)
            except RootMoved:
                # Perhaps only roles changed; what is allowed is asked again then.
                if attempt == ATTEMPTS_MAX - 1:
                    raise
            except NotFound as error:
                raise Status(Code.UNKNOWN, str(error)) from error
            else:
                break
        self._desk.hub.blockstore.release(upload)
        self._desk.hub.pledges.drop(context.call.payer, upload)
        self._desk.hub.feed.publish(saved.thread, saved.key, Action.SAVE)
        return pb.SwapRootReply(root=saved.root, updated_at=saved.updated_at_ns)

    def _check_complete(self, expected: Cid, new: Cid, upload: bytes) -> None:
        """Raises Status NOT_FOUND, with names in the trailer, unless all blocks below ``new`` are here. Leases them. Raises
        Status INVALID_ARGUMENT for a root that no bucket may have."""
        store = self._desk.hub.blockstore
        try:
            walk = walked(store, expected, new)
            missing = walk.missing(store, upload)
            if not missing:
                if node_info(new, store.get(new)).kind is not Kind.DIRECTORY:
                    raise InvalidArgument("the new root is not a directory")
                if self._desk.counts_bytes:
                    check_sizes(WorkingSet(store), walk.below, walk.seen - walk.below)
        except Corrupt as error:
            raise Status(Code.INVALID_ARGUMENT, f"the new root: {error}") from error
        if missing:
            named = pb.MissingBlocks(cids=missing[:MISSING_NAMED_MAX]).SerializeToString()
            text = f"{len(missing)} blocks under the new root are not on this hub"
            raise Status(Code.NOT_FOUND, text, trailers={MISSING_TRAILER: named})

    def _planned(self, call: Call, row: BucketRow, new: Cid) -> BucketRow:
        """The row after the swap. Raises Denied, OverQuota, Corrupt, Status."""
        blocks = WorkingSet(self._desk.hub.blockstore)
        try:
            changes = blocks.run(diff(row.root, new))
        except Corrupt as error:
            # All blocks are here, so it is what the new nodes say (names that no path can have, say), unless the old ones are
            # damaged: that shows when they are read.
            blocks.run(reachable(row.root))
            raise Status(Code.INVALID_ARGUMENT, f"the new root: {error}") from error
        if not may_all(row, call.writer):
            access.check_changes(row, _touches(row, blocks, changes), call.writer)
        if any(change.path == (SEED_NAME.encode(),) for change in changes):
            raise Status(Code.PERMISSION_DENIED, SEED_REFUSED)
        claimed_bytes = total_size(new, blocks.get(new))
        if claimed_bytes > SIZE_MAX:
            raise Status(Code.INVALID_ARGUMENT, f"the new root: its links claim {claimed_bytes} bytes")
        size_bytes = PublicTree(blocks).size_after(row.root, row.size_bytes, Link(new, claimed_bytes))
        if size_bytes > row.size_bytes:
            self._desk.check_quota(row, size_bytes)
        now_ns = max(time.time_ns(), row.updated_at_ns + 1)
        entries = entries_after(row, changes, now_ns)
        return replace(row, root=new, metadata=entries, updated_at_ns=now_ns, size_bytes=size_bytes)


@dataclass(frozen=True, slots=True)
class Walk:
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


def walked(store: BlockStore, expected: Cid, new: Cid) -> Walk:
    """Raises Corrupt when ``new`` is no tree that a bucket may hold."""
    seen: set[Cid] = set()
    absent: set[Cid] = set()

    def fetch(cids: Iterable[Cid]) -> dict[Cid, bytes]:
        wanted = list(cids)
        seen.update(wanted)
        found = _readable(store, wanted)
        for cid in wanted:
            if cid not in found:
                absent.add(cid)
                # A node without links: the walk goes on beside it.
                found[cid] = b""
        return found

    return Walk(drive(new_blocks(expected, new), fetch), seen, absent)


def _readable(store: BlockStore, cids: list[Cid]) -> dict[Cid, bytes]:
    """The blocks that are here and sound: a damaged one is as good as missing, and mended when it is sent again."""
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


def _touches(row: BucketRow, blocks: WorkingSet, changes: list[Change]) -> Iterator[tuple[str, Touch]]:
    """What the changes do, path by path."""
    for change in changes:
        path = path_text(change.path)
        if change.attributes_only:
            yield path, Touch.REPLACE
        elif change.old is None:
            yield path, Touch.ADD
        elif change.new is None:
            yield path, Touch.REMOVE
        else:
            was_directory = _is_directory(blocks, change.old)
            # Pushed files have entries, directories only when roles were granted on them: without one, a file that is pushed
            # in the place of a directory is a new entry, and those are the owner's to make.
            yield path, Touch.ADD if was_directory and path not in row.metadata else Touch.REPLACE
            if was_directory:
                yield path, Touch.REMOVE
            elif _is_directory(blocks, change.new):
                yield path, Touch.ADD


def _is_directory(blocks: WorkingSet, link: Link) -> bool:
    return codec_of(link.cid) == DAG_PB and node_info(link.cid, blocks.get(link.cid)).kind is Kind.DIRECTORY


def entries_after(row: BucketRow, changes: Iterable[Change], now_ns: int) -> dict[str, PathEntry]:
    """The entries of a bucket after these changes to its tree."""
    by_path = {path_text(change.path): change for change in changes if change.path}
    # Where a directory went or became something else, what was below it is gone.
    whole = {path for path, change in by_path.items() if not change.attributes_only}
    kept = {}
    for place, entry in row.metadata.items():
        change = by_path.get(place)
        if change is not None and change.new is None:
            continue
        if any(ancestor in whole for ancestor in list(access.lineage(place))[1:]):
            continue
        kept[place] = replace(entry, updated_at_ns=now_ns) if change is not None else entry
    return kept
