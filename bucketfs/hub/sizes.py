"""Whether the links of a tree tell the sizes that are there: a limit is counted by them.

A link names the cumulative size of what it leads to (dag-pb's Tsize). Whoever builds a tree writes these numbers, so a hub that
keeps limits checks those that are new to a bucket. By induction that is little work: if all links below a child tell the truth,
the child's size is that of its block and of what its own links claim. So each new node is read once, links that stood in the old
tree are taken as they are, and what a new link leads to outside of the new nodes is looked at and not walked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from bucketfs.dag import DAG_PB, PbLink, cid_text, codec_of, decode_pb
from bucketfs.errors import Corrupt
from bucketfs.hub.tree import WorkingSet, total_size
from bucketfs.types import Cid

SIZE_MAX = 1 << 56
"""No bucket is larger: the counts of an account are 64 bits wide."""
_BATCH = 500


def check_sizes(blocks: WorkingSet, new: Iterable[Cid], old: Iterable[Cid] = ()) -> None:
    """Raises Corrupt unless the links of the ``new`` nodes tell the sizes of what they lead to.

    ``old`` are nodes that are trusted; so is a link that one of them has. All of these blocks, and what they link to, are here.
    """
    trusted = {(link.cid, link.tsize) for _, _, links in _nodes(blocks, old) for link in links}
    sizes: dict[Cid, int] = {}
    claims: dict[Cid, int] = {}
    for cid, length, links in _nodes(blocks, new):
        sizes[cid] = length + sum(link.tsize for link in links)
        for link in links:
            if (link.cid, link.tsize) not in trusted and claims.setdefault(link.cid, link.tsize) != link.tsize:
                raise Corrupt(f"links name two sizes of {cid_text(link.cid)}")
    for batch in _batches(cid for cid in claims if cid not in sizes):
        leaves = [cid for cid in batch if codec_of(cid) != DAG_PB]
        sizes.update(blocks.lengths(leaves))
        nodes = blocks.get_many([cid for cid in batch if codec_of(cid) == DAG_PB])
        sizes.update((cid, total_size(cid, block)) for cid, block in nodes.items())
    for cid, claimed in claims.items():
        if sizes[cid] != claimed:
            raise Corrupt(f"a link says that {cid_text(cid)} has {claimed} bytes with all below it; it has {sizes[cid]}")


def _nodes(blocks: WorkingSet, cids: Iterable[Cid]) -> Iterator[tuple[Cid, int, Sequence[PbLink]]]:
    """The length and the links of each node among these, read in batches."""
    for batch in _batches(cid for cid in cids if codec_of(cid) == DAG_PB):
        for cid, block in blocks.get_many(batch).items():
            yield cid, len(block), decode_pb(block).links


def _batches(cids: Iterable[Cid]) -> Iterator[list[Cid]]:
    batch: list[Cid] = []
    for cid in cids:
        batch.append(cid)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
