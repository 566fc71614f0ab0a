"""Checks the nodes of a tree before it becomes part of a bucket, whichever call brings it.

Blocks are checked when they are stored, each by itself (``dag.check_block``). That is not enough: the same bytes may have been
stored under a CID by which they are a file's content, and a directory is a valid block whatever its entries are called, and
wherever a shard of it stands. A name that no file system takes (``..``, ``a/b``, one of 300 bytes), or a shard that clients
refuse, would meet everyone who lists the bucket. So every node that is new to a bucket is read once more before the bucket gets
it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress

from bucketfs.dag import DAG_PB, check_entries, check_shards, codec_of, directory_block
from bucketfs.errors import Corrupt
from bucketfs.hub.trees.working_set import WorkingSet
from bucketfs.types import Cid

_BATCH = 256


def check_nodes(blocks: WorkingSet, new: Iterable[Cid], old: Iterable[Cid] = ()) -> None:
    """Raises Corrupt unless each of the ``new`` nodes makes sense and names its entries as a directory may.

    A name that a directory among the ``old`` nodes has already is no reason: buckets of before may hold such names, and must
    be changed and cleaned.
    """
    new = set(new)
    doubtful: list[Cid] = []
    sharded: set[Cid] = set()
    parts: set[Cid] = set()
    for cid, block in _nodes(blocks, new):
        found = directory_block(cid, block)
        if found is not None and found.sharded:
            sharded.add(cid)
            parts.update(found.shards)
        try:
            check_entries(cid, block)
        except Corrupt:
            doubtful.append(cid)
    for cid in sharded - parts:
        # Shards that were there before stood in their places.
        blocks.run(check_shards(cid, new))
    if doubtful:
        known: set[bytes] = set()
        for cid, block in _nodes(blocks, old):
            with suppress(Corrupt):
                old_block = directory_block(cid, block)
                known.update(() if old_block is None else old_block.names)
        for cid, block in _nodes(blocks, doubtful):
            check_entries(cid, block, known)


def _nodes(blocks: WorkingSet, cids: Iterable[Cid]) -> Iterator[tuple[Cid, bytes]]:
    nodes = [cid for cid in cids if codec_of(cid) == DAG_PB]
    for start in range(0, len(nodes), _BATCH):
        yield from blocks.get_many(nodes[start : start + _BATCH]).items()
