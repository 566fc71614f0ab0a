"""Following what was renamed on one side and changed on the other, by CID.

A tree does not say that something was moved. But a node that is gone from one name and stands at another, the same to the last bit,
mtime included, was very likely moved there. It is taken for that when its CID is gone from one name only and new at one name only;
and it matters only where the other side changed what was at the old name. Then the three trees are rewritten: the change is put
where the node went, on the side that moved it, and the old name is gone from all three. A merge by names does the rest.

Moves may depend on one another. A file that one side moved into a folder, which the other side moved on: first the file is put into
the folder, then the folder moves. Each move waits so for at most one other, because only the other side can have moved the place
that it goes to. Where they wait for one another in a ring (each side moved its folder into the other's), following would put
a folder below itself, and none of the ring is followed.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace

from bucketfs.dag.codec import DAG_PB, cid_of, codec_of
from bucketfs.dag.dirs import TreePath, decode_directory, directory_entries, edit_tree, empty_directory, entries_named
from bucketfs.dag.merge.differences import diff
from bucketfs.dag.merge.rules import Side
from bucketfs.dag.steps import BATCH_MAX, fetch, gather
from bucketfs.errors import TooLarge
from bucketfs.types import Cid, Link, Steps

LOOKED_INTO_MAX = 100_000
"""Nodes that are looked into for what was moved. Beyond, the names of that side are taken for what they are: gone, and new."""

NEW_FOLDERS_MAX = 2000
"""The same, of new folders of the Hub's in a rebase."""

NAMES_MAX = 1_000_000
"""Names that are seen while looking."""

WAVES_MAX = 16
"""How often a moved place may be moved on by the other side, in turns."""

TELL_NOTHING = frozenset((cid_of(b""), empty_directory().link.cid))
"""An empty file or folder without attributes is the same as any other: that one is gone and one is new is no move."""


@dataclass(frozen=True, slots=True)
class Three:
    """The roots of three trees."""

    base: Cid
    ours: Cid
    theirs: Cid

    def of(self, side: Side) -> Cid:
        return self.ours if side is Side.OURS else self.theirs


@dataclass(frozen=True, slots=True)
class RemovedName:
    """A name that ``side`` removed while the other changed what was there: the node ``cid``."""

    path: TreePath
    side: Side
    cid: Cid


@dataclass(frozen=True, slots=True)
class Move:
    """What was at ``source`` stands at ``target`` on ``side``."""

    side: Side
    source: TreePath
    target: TreePath


def follow(trees: Three, removed: Sequence[RemovedName], *, threshold: int) -> Steps[tuple[Three, dict[Cid, bytes]] | None]:
    """The trees with what was moved followed, and the blocks that this made; None when nothing of it was moved.

    Raises Corrupt.
    """
    moves: list[Move] = []
    for side in Side:
        moves += yield from _find_moves(trees.base, trees.of(side), [one for one in removed if one.side is side])
    waves = _waves(_outermost(moves))
    if not waves:
        return None
    made: dict[Cid, bytes] = {}
    for wave in waves:
        (trees,) = yield from gather([_apply(trees, wave, made, threshold)], dict(made))
    return trees, made


# Finding


def _find_moves(base: Cid, tree: Cid, removed: Sequence[RemovedName]) -> Steps[list[Move]]:
    """The moves of one side among the names it removed."""
    wanted = {one.cid for one in removed} - TELL_NOTHING
    if not wanted:
        return []
    try:
        changes = yield from diff(base, tree)
    except TooLarge:
        return []
    new, all_new = yield from _places(
        [(change.path, change.new) for change in changes if change.old is None], LOOKED_INTO_MAX, wanted
    )
    gone, all_gone = yield from _places(
        [(change.path, change.old) for change in changes if change.new is None], LOOKED_INTO_MAX, wanted
    )
    if not (all_new and all_gone):
        return []
    return [
        Move(one.side, one.path, new[one.cid][0])
        for one in removed
        if one.cid in wanted and len(new.get(one.cid, ())) == 1 and gone.get(one.cid) == [one.path]
    ]


@dataclass(frozen=True, slots=True, eq=False)
class _Place:
    """A name below others. Its path is put together only when it is asked for."""

    above: _Place | None
    name: bytes
    top: TreePath = ()

    @property
    def path(self) -> TreePath:
        names: list[bytes] = []
        at = self
        while at.above is not None:
            names.append(at.name)
            at = at.above
        return (*at.top, *reversed(names))


def find_moved(old: Cid, new: Cid, lost: frozenset[Cid]) -> Steps[tuple[dict[Cid, list[TreePath]], Counter[Cid]]]:
    """What a rebase asks of the Hub's side: where each node stands that came to a name (of more than two places two), and how many
    names each was taken off.

    Folders that were moved whole are not looked into, nor are ``lost`` nodes, which cannot be had; and of a great many new folders
    only the upper ones. Raises Corrupt, TooLarge.
    """
    changes = [change for change in (yield from diff(old, new, lost)) if not change.attributes_only]
    left = Counter(change.old.cid for change in changes if change.old is not None and change.new is None)
    tops = [(change.path, change.new) for change in changes]
    came, _ = yield from _places(tops, NEW_FOLDERS_MAX, closed=lost | left.keys())
    return came, left


def _places(
    tops: Iterable[tuple[TreePath, Link | None]],
    nodes_max: int,
    wanted: Set[Cid] | None = None,
    closed: Set[Cid] = frozenset(),
) -> Steps[tuple[dict[Cid, list[TreePath]], bool]]:
    """Where nodes stand among and below some names, two places of each at most; and whether that is all, within the limits.
    ``wanted`` None is for all nodes; ``closed`` nodes are not looked into. Upper names come first."""
    waiting = deque((_Place(None, b"", path), link) for path, link in tops if link is not None)
    found: dict[Cid, list[TreePath]] = {}
    looked_into = seen = 0
    is_all = True
    while waiting:
        batch = [waiting.popleft() for _ in range(min(BATCH_MAX, len(waiting)))]
        for place, link in batch:
            if (wanted is None or link.cid in wanted) and len(found.get(link.cid, ())) < 2:
                found.setdefault(link.cid, []).append(place.path)
        is_all = looked_into <= nodes_max and seen <= NAMES_MAX
        if not is_all:
            continue
        inner = [(place, link.cid) for place, link in batch if codec_of(link.cid) == DAG_PB and link.cid not in closed]
        blocks = yield from fetch(cid for _, cid in inner)
        opened = [(place, decode_directory(cid, blocks[cid])) for place, cid in inner]
        folders = [(place, directory) for place, directory in opened if directory is not None]
        entries = yield from gather([directory_entries(directory) for _, directory in folders])
        looked_into += len(inner)
        for (place, _), names in zip(folders, entries, strict=True):
            seen += len(names)
            waiting += [(_Place(place, name), link) for name, link in names.items()]
    return found, is_all


# Ordering


def _outermost(moves: Sequence[Move]) -> list[Move]:
    """The moves whose source is not below another's: what is below goes with it."""
    sources: set[TreePath] = set()
    chosen: list[Move] = []
    for move in sorted(moves, key=lambda move: len(move.source)):
        if not any(move.source[:length] in sources for length in range(1, len(move.source))):
            sources.add(move.source)
            chosen.append(move)
    return chosen


def _waves(moves: Sequence[Move]) -> list[list[Move]]:
    """The moves in an order in which each comes before the one that moves its target on; those in a ring are left out."""
    by_source = {(move.side, move.source): move for move in moves}
    after = {move: _carrier(move, by_source) for move in moves}
    before_count = dict.fromkeys(moves, 0)
    for carrier in after.values():
        if carrier is not None:
            before_count[carrier] += 1
    wave_of: dict[Move, int] = {}
    ready = [(move, 0) for move in moves if not before_count[move]]
    for move, number in ready:  # which grows on the way
        wave_of[move] = number
        carrier = after[move]
        if carrier is not None:
            before_count[carrier] -= 1
            if not before_count[carrier]:
                ready.append((carrier, number + 1))
    # A move in a ring was never ready. ``ready`` is in the order of numbers, so the last move that comes to a carrier has the
    # highest number of those it waits for.
    waves: list[list[Move]] = [[] for _ in range(min(WAVES_MAX, max(wave_of.values(), default=-1) + 1))]
    for move, number in wave_of.items():
        if number < WAVES_MAX:
            waves[number].append(move)
    return waves


def _carrier(move: Move, by_source: Mapping[tuple[Side, TreePath], Move]) -> Move | None:
    """The move of the other side that takes along what this one's target is in."""
    for length in range(1, len(move.target)):
        carrier = by_source.get((move.side.other, move.target[:length]))
        if carrier is not None:
            return carrier
    return None


# Rewriting


def _apply(trees: Three, moves: Sequence[Move], made: dict[Cid, bytes], threshold: int) -> Steps[Three]:
    """The trees after moves that do not depend on one another: what the other side made of the source stands at the target."""
    edits: dict[Side, dict[TreePath, Link | None]] = {side: {} for side in Side}
    base_edits: dict[TreePath, Link | None] = {}
    for side in Side:
        mine = [move for move in moves if move.side is side]
        found = yield from _find_all(trees.of(side.other), [move.source for move in mine])
        for move in mine:
            if move.source in found:
                edits[side][move.target] = found[move.source]
                edits[side.other][move.source] = None
                base_edits[move.source] = None
    base = yield from edit_tree(trees.base, base_edits, threshold=threshold)
    ours = yield from edit_tree(trees.ours, edits[Side.OURS], threshold=threshold)
    theirs = yield from edit_tree(trees.theirs, edits[Side.THEIRS], threshold=threshold)
    for built in (base, ours, theirs):
        made |= built.blocks
    return replace(trees, base=base.link.cid, ours=ours.link.cid, theirs=theirs.link.cid)


def _find_all(root: Cid, paths: Sequence[TreePath]) -> Steps[dict[TreePath, Link]]:
    """What stands at many paths; each directory on the way is read once. Paths where nothing is are left out."""
    found: dict[TreePath, Link] = {}
    level: dict[TreePath, tuple[Cid, list[TreePath]]] = {(): (root, list(paths))} if paths else {}
    depth = 0
    while level:
        blocks = yield from fetch(cid for cid, _ in level.values() if codec_of(cid) == DAG_PB)
        opened = [
            (directory, [path[depth] for path in inside], inside)
            for cid, inside in level.values()
            if (directory := decode_directory(cid, blocks.get(cid, b""))) is not None
        ]
        entries = yield from gather([entries_named(directory, names) for directory, names, _ in opened])
        level = {}
        for (_, _, inside), links in zip(opened, entries, strict=True):
            for path in inside:
                link = links.get(path[depth])
                if link is not None and len(path) == depth + 1:
                    found[path] = link
                elif link is not None:
                    level.setdefault(path[: depth + 1], (link.cid, []))[1].append(path)
        depth += 1
    return found
