"""Collecting blocks that are needed no more: mark from the roots of all buckets, then the store sweeps the rest.

Safe beside servers, in this process or others. What keeps a block:

1. a bucket's root leads to it. Roots are read, walked, and read again inside each deleting transaction; if one is new, the
   transaction is given up and the new root walked first.
2. an upload has a lease on it. A call that is about to make a root leases the blocks that it needs *before* it asks whether
   they are here, and releases them *after* the root was saved (``store/block_store.py``, promise 4).
3. it was stored less than the grace age ago.

When a tree cannot be walked to its end, because a node is damaged or missing, nothing is deleted at all: what lies below is not
known."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import sqlalchemy as sa

from bucketfs.dag import multihash_of, reachable
from bucketfs.errors import BucketfsError, Corrupt
from bucketfs.hub.config import HubConfig
from bucketfs.hub.db import Accounting, Database
from bucketfs.hub.db import schema as tables
from bucketfs.hub.store import BlockStore, Collected, DiskBlockStore, give_up_reserve, take_reserve
from bucketfs.hub.trees import PrivateTree, TreeSizes, WorkingSet, tree_size
from bucketfs.types import Cid

GRACE_S = 3600.0

Roots = set[tuple[Cid, bytes | None]]
"""Root and, of a private bucket, its link key."""


def collect(config: HubConfig, grace_s: float = GRACE_S) -> Collected:
    """Collects in the stores of a Hub, which may be running, then recounts what accounts use. Raises Corrupt when a bucket is
    damaged, NoSpace, DiskFailed."""
    give_up_reserve(config.data)
    try:
        with (
            closing(Database(config.database_url or tables.sqlite_url(config.data))) as database,
            closing(DiskBlockStore(config.data / "blocks")) as store,
        ):
            done = store.collect(RootMarks(store, lambda: _roots(database)), grace_s)
            blocks = WorkingSet(store)
            sizes = TreeSizes(blocks)
            Accounting(database).correct_usage(
                lambda root, link_key: tree_size(blocks, root, link_key) if link_key else sizes.measure(root)
            )
            return done
    finally:
        take_reserve(config.data)


def _roots(database: Database) -> Roots:
    with database.read() as connection:
        rows = connection.execute(sa.select(tables.buckets.c.root, tables.buckets.c.link_key).distinct())
        return {(Cid(row.root), row.link_key) for row in rows}


class RootMarks:
    """``Marks`` by walking. ``roots`` reads the roots of all buckets anew at each call."""

    def __init__(self, store: BlockStore, roots: Callable[[], Roots]) -> None:
        self._store = store
        self._roots = roots
        self._walked: Roots = set()
        # By CID and not by multihash: the same bytes may be a leaf here and a node with children there.
        self._marked: set[Cid] = set()
        self._kept: set[bytes] = set()

    def hold(self, multihash: bytes) -> bool:
        return multihash in self._kept

    def are_current(self) -> bool:
        return self._roots() <= self._walked

    def update(self) -> None:
        for root, link_key in self._roots() - self._walked:
            blocks = WorkingSet(self._store)
            try:
                if link_key is None:
                    found = blocks.run(reachable(root, self._marked))
                else:
                    found = PrivateTree(blocks, link_key).reachable(root, self._marked)
            except BucketfsError as error:
                raise Corrupt(f"nothing was collected, because a bucket's tree cannot be read: {error}") from error
            self._marked |= found
            self._kept.update(map(multihash_of, found))
            self._walked.add((root, link_key))
