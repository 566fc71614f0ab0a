"""Checks that the sizes that links claim are truthful: limits are counted by them.

A link names the cumulative size of what it leads to (dag-pb's Tsize). The client that builds a tree writes these numbers, so a
Hub that keeps limits checks those that are new to a bucket. By induction that is little work: if all links below a child are
truthful, the child's size is that of its block and of what its own links claim. So each new node is read once, links that stood
in the old tree are taken as they are, and of what a new link leads to outside of the new nodes only the node itself is read.

A tree that came while there was no limit was not checked, and its links may lie for as long as they stand there. The collector
measures what is there (``TreeSizes``); from then on a bucket is counted by what its changes add and take.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from bucketfs.dag import DAG_PB, PbLink, cid_text, codec_of, decode_pb
from bucketfs.errors import Corrupt
from bucketfs.hub.trees.public import total_size
from bucketfs.hub.trees.working_set import WorkingSet
from bucketfs.types import Cid

SIZE_MAX = 1 << 56
"""No bucket is larger: the counts of an account are 64 bits wide."""
_BATCH = 500


def check_sizes(blocks: WorkingSet, new: Iterable[Cid], old: Iterable[Cid] = ()) -> None:
    """Raises Corrupt unless the links of the ``new`` nodes claim the sizes of what they lead to.

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


class TreeSizes:
    """Sizes of whole trees by what is there, whatever their links claim. Each node is read once."""

    def __init__(self, blocks: WorkingSet) -> None:
        self._blocks = blocks
        self._sizes: dict[Cid, int] = {}
        """Of nodes; leaves are too many."""

    def measure(self, root: Cid) -> int:
        """The cumulative size of a tree, in which a block counts as often as it is linked to; ``SIZE_MAX`` for more. Raises
        Corrupt, NotFound."""
        if codec_of(root) != DAG_PB:
            return self._blocks.lengths((root,))[root]
        # A node is its block and all that its links lead to, once that is known; depth first, so that few nodes are open at a time.
        open_nodes = [self._opened([root])]
        while open_nodes:
            level = open_nodes[-1]
            if not level:
                open_nodes.pop()
                continue
            cid, (size_bytes, below) = next(reversed(level.items()))
            unknown = [child for child in below if child not in self._sizes][:_BATCH]
            if unknown:
                open_nodes.append(self._opened(unknown))
            else:
                # A few nodes that link to each other many times make any number.
                self._sizes[cid] = min(SIZE_MAX, size_bytes + sum(self._sizes[child] for child in below))
                del level[cid]
        return self._sizes[root]

    def _opened(self, cids: Sequence[Cid]) -> dict[Cid, tuple[int, list[Cid]]]:
        """By node: the size of its block and its leaves, and the nodes below it."""
        opened: dict[Cid, tuple[int, list[Cid]]] = {}
        for cid, length, links in _nodes(self._blocks, dict.fromkeys(cids)):
            leaves = [link.cid for link in links if codec_of(link.cid) != DAG_PB]
            lengths: dict[Cid, int] = {}
            for batch in _batches(dict.fromkeys(leaves)):
                lengths.update(self._blocks.lengths(batch))
            nodes = [link.cid for link in links if codec_of(link.cid) == DAG_PB]
            opened[cid] = length + sum(lengths[leaf] for leaf in leaves), nodes
        return opened


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
