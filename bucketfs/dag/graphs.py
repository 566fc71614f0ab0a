"""Which blocks a DAG has, and which of them another does not: walks that see links and nothing else."""

from __future__ import annotations

from collections.abc import Container, Iterable

from bucketfs.dag.cid import DAG_PB, codec_of, identity_block
from bucketfs.dag.nodes import block_links
from bucketfs.dag.pb import split_pb
from bucketfs.dag.steps import BATCH_MAX, fetch
from bucketfs.types import Cid, Steps


def reachable(root: Cid, known: Container[Cid] = ()) -> Steps[set[Cid]]:
    """All CIDs under a root, itself included, without those in ``known`` and what only they lead to.

    Raw leaves are in the answer but not asked for; identity CIDs are neither. Breadth first. Raises Corrupt for a block that
    is no dag-pb node, or a codec that has no place in a bucket.
    """
    found: set[Cid] = set()
    yield from _walk((root,), known, found)
    return found


def _walk(roots: Iterable[Cid], known: Container[Cid], found: set[Cid]) -> Steps[None]:
    """Add to ``found`` what is reachable from ``roots``; neither ``known`` nor what was found before is entered."""
    level = _enter(roots, known, found)
    while level:
        below: list[Cid] = []
        for begin in range(0, len(level), BATCH_MAX):
            batch = level[begin : begin + BATCH_MAX]
            blocks = yield from fetch(batch)
            for cid in batch:
                below += _enter(block_links(cid, blocks[cid]), known, found)
        level = below


def _enter(cids: Iterable[Cid], known: Container[Cid], found: set[Cid]) -> list[Cid]:
    """Note CIDs that are new; returns those whose blocks have to be looked into."""
    inner: list[Cid] = []
    for cid in cids:
        if cid in found or cid in known:
            continue
        inline = identity_block(cid)
        if inline is None:
            found.add(cid)
        if codec_of(cid) == DAG_PB:
            inner.append(cid)
        else:
            block_links(cid, b"")
    return inner


def new_blocks(old: Cid | None, new: Cid) -> Steps[set[Cid]]:
    """The CIDs reachable from ``new`` that are not met while walking ``old`` in step; equal CIDs are not descended.

    What stands at the same name, bucket or position in both is compared; where only the new side has a node, all of it is
    walked, but not into anything that was met. So the cost is in proportion to the change. A block of the old tree that
    stands far from the changes may be reported as new. Raises as ``reachable``.
    """
    found: set[Cid] = set()
    if old is None:
        yield from _walk((new,), (), found)
        return found
    met = {old}
    unpaired: list[Cid] = []
    pairs = _pair([(None, new)], {None: old}, met, found, unpaired)
    while pairs:
        batch = pairs[-BATCH_MAX // 2 :]
        del pairs[-BATCH_MAX // 2 :]
        blocks = yield from fetch(cid for pair in batch for cid in pair)
        for old_cid, new_cid in batch:
            old_links = _places(blocks[old_cid])
            met.update(cid for _, cid in old_links)
            pairs += _pair(_places(blocks[new_cid]), dict(old_links), met, found, unpaired)
    for cid in unpaired:
        found.discard(cid)
    yield from _walk(unpaired, met, found)
    return found - met


_Key = bytes | int | None


def _pair(
    new_links: Iterable[tuple[_Key, Cid]],
    old_links: dict[_Key, Cid],
    met: set[Cid],
    found: set[Cid],
    unpaired: list[Cid],
) -> list[tuple[Cid, Cid]]:
    """Note the links that are new; returns the pairs of nodes to look into, and adds nodes without a partner to
    ``unpaired``.
    """
    pairs: list[tuple[Cid, Cid]] = []
    for key, cid in new_links:
        if cid in met or not (inner := _enter((cid,), (), found)):
            continue
        partner = old_links.get(key)
        if partner is not None and codec_of(partner) == DAG_PB:
            pairs.append((partner, cid))
        else:
            unpaired += inner
    return pairs


def _places(block: bytes) -> list[tuple[_Key, Cid]]:
    """The links of a node with what they are compared by: bucket in a shard, name in a directory, position in a file."""
    links, data = split_pb(block)
    # Everyone writes the type first. Were it not so, shards would pair by full names, and more would be walked.
    sharded = data is not None and data.startswith(b"\x08\x05")
    return [(link.name[:2] if sharded else link.name or at, link.cid) for at, link in enumerate(links)]
