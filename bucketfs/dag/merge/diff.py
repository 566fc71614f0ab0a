"""How two trees differ, with each pair of directories compared once, however many paths lead to it.

A DAG may name one directory in many places: thirty directories that each hold the one below twice have a billion paths. A list of
paths that differ (``changes.diff``) is as long as that; a ``Delta`` is not. It says of two directories which names differ, and has
another Delta for each name where both have a directory. Places with the same two directories share one. So the work is bounded by
the blocks that differ, whatever the tree claims, and what only asks (may all of this be changed, did anything change below here)
is answered without unfolding.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field

from bucketfs.dag.codec.cid import DAG_PB, codec_of, multihash_of, same_node
from bucketfs.dag.codec.unixfs import canonical_attributes
from bucketfs.dag.dirs.directory import OpenDirectory, decode_directory, impossible_names, plain_entries, raw_entries
from bucketfs.dag.dirs.hamt import (
    TOP,
    Bucket,
    Entry,
    Place,
    Shard,
    all_entries,
    check_place,
    child_place,
    meet_once,
    open_child,
)
from bucketfs.dag.steps import BATCH_MAX, fetch, gather
from bucketfs.errors import Corrupt, NotADirectory, TooLarge
from bucketfs.types import Cid, Link, NodeAttributes, Steps

DIFFERENCES_MAX = 4_000_000
"""Names that differ, each counted once for every pair of directories."""

PAIRS_FREE = 10_000
PAIRS_PER_DIRECTORY = 4
"""Pairs of directories that are compared: so many, and more in proportion to the directories there are. Two trees in which every
directory of one side meets every directory of the other are no work of a user."""

PAIRS_AT_ONCE = 64
"""Directories whose root blocks, of which some are large, are held at a time."""

DEPTH_MAX = 4096
"""Directories above one another that are descended into: twice what fits a path of the kernel's."""

Difference = tuple[bytes, Link | None, Link | None]


@dataclass(slots=True, eq=False)
class Delta:
    """How one directory became another, one level deep.

    ``whole`` are names that differ as a whole: added, removed, or not directories on both sides. ``below`` are names where both
    sides have a directory and something in it, or of its own attributes, differs. ``impossible`` are names that differ and that
    no directory may hold; they are in neither. ``count`` is the number of differences here and below, each path counted;
    ``names`` that of the names of all their paths below this place.
    """

    attributes: bool = False
    whole: dict[bytes, tuple[Link | None, Link | None]] = field(default_factory=dict)
    below: dict[bytes, tuple[Link, Link, Delta]] = field(default_factory=dict)
    impossible: tuple[bytes, ...] = ()
    is_whole: bool = False
    """One side is no directory, so that the two differ as a whole. Only of the top one; those below stand in ``whole``."""
    count: int = 0
    names: int = 0
    height: int = 0


@dataclass(slots=True, eq=False)
class Comparison:
    """What a comparison found. ``top`` belongs to the roots. ``deltas`` are all of them, children first."""

    top: Delta
    deltas: Sequence[Delta]

    @property
    def distinct(self) -> int:
        """How many differences there are when each pair of directories is counted once."""
        return sum(len(delta.whole) + delta.attributes for delta in self.deltas)


_Key = tuple[bytes, bytes]


@dataclass(slots=True, eq=False)
class _Comparing:
    """The state of a comparison: deltas by the blocks they compare, and pairs that wait."""

    lost: Container[Cid]
    deltas: dict[_Key, Delta] = field(default_factory=dict)
    waiting: list[tuple[Link, Link, Delta]] = field(default_factory=list)
    directories: set[bytes] = field(default_factory=set)
    differences_count: int = 0

    def pair(self, old: Link, new: Link) -> Delta:
        """The delta of two dag-pb nodes, which is found soon if it is not known."""
        key = (multihash_of(old.cid), multihash_of(new.cid))
        delta = self.deltas.get(key)
        if delta is None:
            delta = self.deltas[key] = Delta()
            self.waiting.append((old, new, delta))
            self.directories.update(key)
            if len(self.deltas) > PAIRS_FREE + PAIRS_PER_DIRECTORY * len(self.directories):
                raise TooLarge(f"more than {len(self.deltas)} pairs of directories to compare in {len(self.directories)}")
        return delta

    def sort_out(self, delta: Delta, differences: Sequence[Difference]) -> None:
        """Differing names stand for themselves, or for a pair to look into where both sides may be directories."""
        self.differences_count += len(differences)
        if self.differences_count > DIFFERENCES_MAX:
            raise TooLarge(f"trees with more than {DIFFERENCES_MAX} differences")
        delta.impossible = impossible_names([name for name, _, _ in differences])
        impossible = frozenset(delta.impossible)
        for name, old, new in differences:
            if name in impossible or (old is not None and new is not None and same_node(old.cid, new.cid)):
                continue
            if old is not None and new is not None and self.may_be_pair(old.cid, new.cid):
                delta.below[name] = (old, new, self.pair(old, new))
            else:
                delta.whole[name] = (old, new)

    def may_be_pair(self, old: Cid, new: Cid) -> bool:
        """Whether both may be directories."""
        return codec_of(old) == codec_of(new) == DAG_PB and old not in self.lost


def compare(old: Cid, new: Cid, lost: Container[Cid] = ()) -> Steps[Comparison]:
    """How the tree ``new`` differs from ``old``.

    Equal CIDs are never descended into; how a directory is encoded (shards, CID version, cumulative sizes) is no difference.
    ``lost`` are nodes of the old tree that are not to be had: what stands there now differs as a whole. Raises Corrupt, also beyond
    DEPTH_MAX levels, and TooLarge beyond the limits above.
    """
    comparing = _Comparing(lost)
    if same_node(old, new):
        return Comparison(Delta(), ())
    if not comparing.may_be_pair(old, new):
        return Comparison(Delta(is_whole=True, count=1), ())
    # The cumulative sizes of the roots are not known, and not looked at.
    top = comparing.pair(Link(old, 0), Link(new, 0))
    while comparing.waiting:
        batch = comparing.waiting[-PAIRS_AT_ONCE:]
        del comparing.waiting[-PAIRS_AT_ONCE:]
        opened = yield from _open_pairs(batch)
        differences = yield from gather([directory_differences(*both) for both in opened if both is not None])
        remaining = iter(differences)
        for (_, _, delta), both in zip(batch, opened, strict=True):
            if both is None:
                delta.is_whole = True
                continue
            delta.attributes = own_attributes(both[0]) != own_attributes(both[1])
            comparing.sort_out(delta, next(remaining))
    return Comparison(top, _summed(top))


def _summed(top: Delta) -> list[Delta]:
    """All deltas, children first, with their counts. Pairs that are no directories move to ``whole``, those that are the same
    (but for their encoding) go."""
    done: dict[int, Delta] = {}
    stack = [(top, False)]
    while stack:
        delta, children_done = stack.pop()
        if id(delta) in done:
            continue
        if not children_done:
            stack.append((delta, True))
            stack += [(child, False) for _, _, child in delta.below.values() if id(child) not in done]
            continue
        _sum_up(delta)
        done[id(delta)] = delta
    return list(done.values())


def _sum_up(delta: Delta) -> None:
    if delta.is_whole:
        delta.count = 1
        return
    for name, (old, new, child) in list(delta.below.items()):
        if child.is_whole:
            delta.whole[name] = (old, new)
        if child.is_whole or not (child.count or child.impossible or child.below):
            del delta.below[name]
    children = [child for _, _, child in delta.below.values()]
    delta.count = len(delta.whole) + delta.attributes + sum(child.count for child in children)
    delta.names = len(delta.whole) + sum(child.names + child.count for child in children)
    delta.height = 1 + max((child.height for child in children), default=0)
    if delta.height > DEPTH_MAX:
        raise Corrupt(f"directories more than {DEPTH_MAX} levels deep")


def _open_pairs(pairs: Sequence[tuple[Link, Link, Delta]]) -> Steps[list[tuple[OpenDirectory, OpenDirectory] | None]]:
    """Both directories of each pair; None where one is none.

    The new nodes are looked at first: where one is a file, the old node, which may be nowhere at hand any more, is not needed.
    """
    blocks = yield from fetch(new.cid for _, new, _ in pairs)
    opened_new = [decode_directory(new.cid, blocks[new.cid]) for _, new, _ in pairs]
    blocks = yield from fetch(old.cid for (old, _, _), found in zip(pairs, opened_new, strict=True) if found is not None)
    opened: list[tuple[OpenDirectory, OpenDirectory] | None] = []
    for (old, _, _), new_directory in zip(pairs, opened_new, strict=True):
        old_directory = None if new_directory is None else decode_directory(old.cid, blocks[old.cid])
        opened.append(None if old_directory is None or new_directory is None else (old_directory, new_directory))
    return opened


def own_attributes(directory: OpenDirectory) -> tuple[NodeAttributes, int, bytes]:
    """What a directory says of itself besides its entries."""
    message = directory.message
    return canonical_attributes(message.type, message.attributes), message.mode_extra, message.unknown


# Two directories


def open_both(old: Cid, new: Cid) -> Steps[tuple[OpenDirectory, OpenDirectory]]:
    """Two directories to be compared. Raises NotADirectory, Corrupt."""
    if codec_of(old) != DAG_PB or codec_of(new) != DAG_PB:
        raise NotADirectory("a raw block is not a directory")
    blocks = yield from fetch((old, new))
    before, after = decode_directory(old, blocks[old]), decode_directory(new, blocks[new])
    if before is None or after is None:
        raise NotADirectory("one of two nodes to be compared is not a directory")
    return before, after


def directory_differences(old: OpenDirectory, new: OpenDirectory) -> Steps[list[Difference]]:
    """The names, impossible ones too, whose CIDs differ between two directories whose root blocks are at hand. Raises Corrupt."""
    if old.sharded and new.sharded and old.message.fanout == new.message.fanout:
        return (yield from _shard_differences(old.shard(), new.shard()))
    if old.sharded or new.sharded:
        old_entries = yield from raw_entries(old)
        new_entries = yield from raw_entries(new)
        return _entry_differences(old_entries, new_entries)
    # Two large directories mostly share their links: only what is not in both is looked at.
    touched = {link.name for link in set(old.links) ^ set(new.links)}
    old_entries = plain_entries([link for link in old.links if link.name in touched])
    new_entries = plain_entries([link for link in new.links if link.name in touched])
    return _entry_differences(old_entries, new_entries)


def _entry_differences(old: Mapping[bytes, Link], new: Mapping[bytes, Link]) -> list[Difference]:
    differences: list[Difference] = [(name, link, None) for name, link in old.items() if name not in new]
    for name, link in new.items():
        before = old.get(name)
        if before is None or (before.cid != link.cid and not same_node(before.cid, link.cid)):
            differences.append((name, before, link))
    return differences


def _shard_differences(old: Shard, new: Shard) -> Steps[list[Difference]]:
    """Compare two sharded directories bucket by bucket."""
    differences: list[Difference] = []
    waiting: list[tuple[Link, Link, Place]] = []
    lone: list[tuple[Bucket | None, Bucket | None, Place, int]] = []
    met: set[tuple[bytes, bytes]] = set()
    _compare_buckets(old, new, TOP, differences, waiting, lone)
    while waiting:
        batch = waiting[-BATCH_MAX // 2 :]
        del waiting[-BATCH_MAX // 2 :]
        blocks = yield from fetch(link.cid for old_link, new_link, _ in batch for link in (old_link, new_link))
        for old_link, new_link, place in batch:
            meet_once((multihash_of(old_link.cid), multihash_of(new_link.cid)), met)
            old_child = open_child(old_link.cid, blocks[old_link.cid], old)
            new_child = open_child(new_link.cid, blocks[new_link.cid], new)
            _compare_buckets(old_child, new_child, place, differences, waiting, lone)
    for old_bucket, new_bucket, place, index in lone:
        old_entries = yield from _bucket_entries(old_bucket, old, place, index)
        new_entries = yield from _bucket_entries(new_bucket, new, place, index)
        differences += _entry_differences(old_entries, new_entries)
    return differences


def _compare_buckets(
    old: Shard,
    new: Shard,
    place: Place,
    differences: list[Difference],
    waiting: list[tuple[Link, Link, Place]],
    lone: list[tuple[Bucket | None, Bucket | None, Place, int]],
) -> None:
    """Buckets of one shard: child shards that differ wait to be compared; a child shard that faces none stands alone."""
    for index in old.buckets.keys() | new.buckets.keys():
        before, after = old.buckets.get(index), new.buckets.get(index)
        if before == after:
            continue
        if isinstance(before, Link) and isinstance(after, Link):
            if not same_node(before.cid, after.cid):
                waiting.append((before, after, child_place(place, index, new.bits)))
        elif isinstance(before, Link) or isinstance(after, Link):
            lone.append((before, after, place, index))
        else:
            for entry in (before, after):
                if entry is not None:
                    check_place(entry.name, place, index, new.bits)
            differences += _entry_differences(
                dict((before,)) if before is not None else {}, dict((after,)) if after is not None else {}
            )


def _bucket_entries(bucket: Bucket | None, parent: Shard, place: Place, index: int) -> Steps[dict[bytes, Link]]:
    """All entries in and below a bucket."""
    if bucket is None:
        return {}
    if isinstance(bucket, Entry):
        check_place(bucket.name, place, index, parent.bits)
        return {bucket.name: bucket.link}
    blocks = yield from fetch((bucket.cid,))
    child = open_child(bucket.cid, blocks[bucket.cid], parent)
    return dict((yield from all_entries(child, child_place(place, index, parent.bits))) or [])
