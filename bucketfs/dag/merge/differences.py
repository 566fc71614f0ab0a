"""How two trees differ, with each pair of directories compared once, however many paths lead to it.

A DAG may name one directory in many places: thirty directories that each hold the one below twice have a billion paths. A list of
paths that differ (`diff`) is as long as that; a ``Delta`` is not. It says of two directories which names differ, and has
another Delta for each name where both have a directory. Places with the same two directories share one. So the work is bounded by
the blocks that differ, whatever the tree claims, and what only asks (may all of this be changed, did anything change below here)
is answered without unfolding.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, field

from bucketfs.dag.codec import DAG_PB, codec_of, multihash_of, same_node
from bucketfs.dag.dirs import (
    Difference,
    OpenDirectory,
    decode_directory,
    directory_differences,
    impossible_names,
    own_attributes,
    resolve,
)
from bucketfs.dag.steps import fetch, gather
from bucketfs.dag.unfolding import check_unfolding
from bucketfs.errors import Corrupt, NotADirectory, TooLarge
from bucketfs.types import Cid, Link, Steps

DIFFERENCES_MAX = 4_000_000
"""Names that differ, each counted once for every pair of directories."""

PAIRS_FREE = 10_000
PAIRS_PER_DIRECTORY = 4
"""Pairs of directories that are compared: so many, and more in proportion to the directories there are. Two trees in which every
directory of one side meets every directory of the other are an attack."""

PAIRS_AT_ONCE = 64
"""Directories whose root blocks, of which some are large, are held at a time."""

CHANGES_MAX = 4_000_000
"""Differences that one answer may hold, each at a path of its own."""

NAMES_MAX = 32_000_000
"""Names in all paths of an answer."""

DEPTH_MAX = 4096
"""Directories above one another that are descended into: twice what fits a path of the kernel's."""


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


# As a list of changes


@dataclass(frozen=True, slots=True)
class Change:
    """One difference: what stood at a path and what stands there now; None where there is nothing.

    With ``attributes_only`` both are directories whose own attributes differ; what differs below them comes as changes of
    its own. Otherwise the two links differ as a whole: added, removed, replaced, or a file with other bytes or attributes.
    """

    path: tuple[bytes, ...]
    old: Link | None
    new: Link | None
    attributes_only: bool = False


def diff(old: Cid, new: Cid, lost: Container[Cid] = ()) -> Steps[list[Change]]:
    """The changes from one tree to another, at the highest names that differ, in the order of paths.

    Two directories at one name are descended into, equal CIDs never; sharded directories are compared shard by shard. How a
    directory is encoded (shards, CID version, cumulative sizes) is no difference. ``lost`` are nodes of the old tree that cannot be
    had: nothing looks into them, and what stands there now differs as a whole. Names that no directory may hold are left out.
    Raises Corrupt, also beyond DEPTH_MAX levels, and TooLarge beyond CHANGES_MAX changes, or when far more paths differ than
    blocks do (`check_unfolding`).
    """
    comparison = yield from compare(old, new, lost)
    _check_size(comparison)
    top = comparison.top
    changes = sorted(_unfolded(top), key=lambda change: change.path)
    if top.is_whole or top.attributes:
        was = Link(old, 0) if old in lost else (yield from resolve(old, ())) or Link(old, 0)
        now = (yield from resolve(new, ())) or Link(new, 0)
        changes.insert(0, Change((), was, now, attributes_only=not top.is_whole))
    return changes


def _check_size(comparison: Comparison) -> None:
    """Refuse an answer that would be too long, before it is made."""
    if comparison.top.count > CHANGES_MAX or comparison.top.names > NAMES_MAX:
        raise TooLarge(f"trees with more than {CHANGES_MAX} differences")
    check_unfolding(comparison.top.count, comparison.distinct)


def _unfolded(top: Delta) -> list[Change]:
    """The changes below the top, in no order."""
    changes: list[Change] = []
    waiting: list[tuple[tuple[bytes, ...], Delta]] = [((), top)]
    while waiting:
        path, delta = waiting.pop()
        changes += [Change((*path, name), old, new) for name, (old, new) in delta.whole.items()]
        for name, (old, new, child) in delta.below.items():
            if child.attributes:
                changes.append(Change((*path, name), old, new, attributes_only=True))
            if child.count:
                waiting.append(((*path, name), child))
    return changes


def directory_changes(old: Cid, new: Cid) -> Steps[dict[bytes, tuple[Link | None, Link | None]]]:
    """The names of one directory that stand for something else in ``new`` than in ``old``, with what they stood and stand for.

    What differs is not looked into, and impossible names are left out. Two sharded directories are compared shard by shard, so the
    cost is that of the difference. Raises NotADirectory, Corrupt.
    """
    if codec_of(old) != DAG_PB or codec_of(new) != DAG_PB:
        raise NotADirectory("a raw block is not a directory")
    blocks = yield from fetch((old, new))
    before, after = decode_directory(old, blocks[old]), decode_directory(new, blocks[new])
    if before is None or after is None:
        raise NotADirectory("one of two nodes to be compared is not a directory")
    differences = yield from directory_differences(before, after)
    impossible = frozenset(impossible_names([name for name, _, _ in differences]))
    return {name: (was, now) for name, was, now in differences if name not in impossible}
