"""Which blocks a DAG has, and which of them another does not: walks that see links and nothing else."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass, field

from bucketfs.dag.codec import DAG_PB, block_links, codec_of, decode_pb, decode_unixfs, identity_block
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


def new_blocks(old: Cid, new: Cid) -> Steps[set[Cid]]:
    """The CIDs reachable from ``new`` that are not met while walking ``old`` in step; equal CIDs are not descended.

    What stands at the same name or position in both is compared; where only the new side has a node, all of it is walked, but
    not into anything that was met. So the cost is in proportion to the change. A block of the old tree that stands far from
    the changes may be reported as new. Raises as ``reachable``.
    """
    found: set[Cid] = set()
    walk = _InStep(met={old}, found=found)
    walk.compare(_Places([(None, new)]), _Places([(None, old)]))
    while walk.pairs:
        batch = walk.pairs[-BATCH_MAX // 2 :]
        del walk.pairs[-BATCH_MAX // 2 :]
        blocks = yield from fetch(cid for pair in batch for cid in pair)
        for old_cid, new_cid in batch:
            walk.compare(_places(blocks[new_cid]), _places(blocks[old_cid]))
    while walk.dissolved:
        # Each once: shards that link to one shard many times would unfold otherwise.
        batch_of_old = [cid for cid in dict.fromkeys(walk.dissolved[:BATCH_MAX]) if cid not in walk.opened]
        walk.opened.update(batch_of_old)
        del walk.dissolved[:BATCH_MAX]
        blocks = yield from fetch(batch_of_old)
        for cid in batch_of_old:
            walk.meet(_places(blocks[cid]))
    found.difference_update(walk.unpaired)
    yield from _walk(walk.unpaired, walk.met, found)
    return found - walk.met


_Key = bytes | int | None


@dataclass(frozen=True, slots=True)
class _Places:
    """The links of a node by what they are compared by: the link's name, or its position in a file.

    ``digits`` is how many of them name a bucket when the node is a shard, 0 when it is none.
    """

    links: list[tuple[_Key, Cid]]
    digits: int = 0


def _places(block: bytes) -> _Places:
    links, data = decode_pb(block)
    digits = 0
    # Everyone writes the type first. Were it not so, some more blocks would be reported.
    if data is not None and data.startswith(b"\x08\x05"):
        digits = len(f"{(decode_unixfs(data).fanout or 1) - 1:X}")
    return _Places([(link.name or at, link.cid) for at, link in enumerate(links)], digits)


@dataclass(slots=True, eq=False)
class _InStep:
    """Two trees walked in step: what was met in the old one, what was found in the new one, and what to look into next."""

    met: set[Cid]
    found: set[Cid]
    pairs: list[tuple[Cid, Cid]] = field(default_factory=list)
    unpaired: list[Cid] = field(default_factory=list)
    dissolved: list[Cid] = field(default_factory=list)
    opened: set[Cid] = field(default_factory=set)
    """Shards among the dissolved ones that were looked into."""

    def compare(self, new: _Places, old: _Places) -> None:
        """Note the links of a new node beside those of the old one in its place."""
        partners = dict(old.links)
        self.met.update(cid for _, cid in old.links)
        if old.digits and not new.digits and new.links:
            # No longer sharded: the entries come from all over the old shards.
            self.meet(old)
        for key, cid in new.links:
            if cid in self.met:
                continue
            inner = _enter((cid,), (), self.found)
            partner = partners.get(key)
            if partner is None and old.digits and isinstance(key, bytes) and len(key) > old.digits:
                # An entry where a child shard was may come from below it: removing the others brought it up.
                shard = partners.get(key[: old.digits])
                self.dissolved += () if shard is None else (shard,)
            if inner and partner is not None and codec_of(partner) == DAG_PB:
                self.pairs.append((partner, cid))
            else:
                self.unpaired += inner

    def meet(self, old: _Places) -> None:
        """Note what stood in a dissolved shard, and which shards were below it."""
        if old.digits:
            self.met.update(cid for _, cid in old.links)
            self.dissolved += (cid for key, cid in old.links if isinstance(key, bytes) and len(key) == old.digits)
