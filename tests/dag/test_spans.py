"""Whole subtrees taken over from a file that changed in part: the same tree as built from all leaves, at the cost of the change."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from bucketfs.dag import FILE_WIDTH, LEAF_SIZE, FileTree, Subtree, cid_of, drive, subtrees
from bucketfs.dag.files.spans import Span
from bucketfs.types import Cid, NodeAttributes

ATTRIBUTES = NodeAttributes(mode=0o600, mtime_ns=1)
WIDTH = FILE_WIDTH
HOLE = cid_of(bytes(LEAF_SIZE))

Run = tuple[Cid, int]
"""A leaf, and how often it stands there."""


class Blocks:
    def __init__(self) -> None:
        self.all: dict[Cid, bytes] = {}
        self.asked: set[Cid] = set()

    def __call__(self, cids: Sequence[Cid]) -> dict[Cid, bytes]:
        self.asked.update(cids)
        return {cid: self.all[cid] for cid in cids}

    def build(self, runs: Sequence[Run], tail: int = 0) -> Cid:
        """The file of these leaves, and of one shorter leaf of ``tail`` bytes."""
        tree = FileTree()
        for cid, count in runs:
            tree.add(cid, LEAF_SIZE, count)
        if tail:
            tree.add(cid_of(bytes(tail)), tail)
        built = tree.finish(ATTRIBUTES)
        self.all |= tree.take_blocks() | dict(built.blocks)
        return built.link.cid


def leaf(number: int) -> Cid:
    return cid_of(number.to_bytes(8, "big"))


def rebuilt(blocks: Blocks, base: Cid, base_size: int, leaves: Sequence[Run], tail: int, changed: int, more: int) -> Cid:
    """The base with the leaf ``changed`` (by number) replaced by leaf 0, and ``more`` of these behind it."""
    count = sum(times for _, times in leaves)
    size = count * LEAF_SIZE + tail
    assert size == base_size
    new_size = size + more * LEAF_SIZE
    tree = FileTree()
    for start, stop in ((0, changed * LEAF_SIZE), ((changed + 1) * LEAF_SIZE, size)):
        for part in drive(subtrees(base, size, start, stop, new_size), blocks) if start < stop else ():
            if isinstance(part, Subtree):
                tree.add_subtree(part.level, part.cid, part.size, part.tsize)
                continue
            assert part.stop - part.start <= (WIDTH + 1) * LEAF_SIZE, "a span of whole subtrees"
            for at in range(part.start, part.stop, LEAF_SIZE):
                if size - at < LEAF_SIZE:
                    tree.add(cid_of(bytes(tail)), tail)
                else:
                    tree.add(_at(leaves, at // LEAF_SIZE), LEAF_SIZE)
        if not start:
            tree.add(leaf(0), LEAF_SIZE)
    tree.add(leaf(0), LEAF_SIZE, more)
    return tree.finish(ATTRIBUTES).link.cid


def _at(leaves: Sequence[Run], index: int) -> Cid:
    for cid, times in leaves:
        if index < times:
            return cid
        index -= times
    raise AssertionError("behind the end")


def _wanted(leaves: Sequence[Run], changed: int, more: int) -> list[Run]:
    before: list[Run] = []
    after: list[Run] = []
    at = 0
    for cid, times in leaves:
        low, high = max(0, min(times, changed - at)), max(0, min(times, at + times - changed - 1))
        before.append((cid, low))
        after.append((cid, high))
        at += times
    return [*before, (leaf(0), 1), *after, *([(leaf(0), more)] if more else [])]


@pytest.mark.parametrize("seed", range(12))
def test_as_built_from_all_leaves(seed: int) -> None:
    """A file that was changed in part gets the CID that the same bytes have by any other way."""
    chance = random.Random(seed)
    blocks = Blocks()
    runs = [
        (chance.choice([HOLE, leaf(number)]), chance.choice([1, 3, WIDTH - 1, WIDTH, 7 * WIDTH, WIDTH**2, WIDTH**3]))
        for number in range(1, chance.randint(2, 9))
    ]
    count = sum(times for _, times in runs)
    if count < 2:
        return
    tail = chance.choice([0, 1, LEAF_SIZE - 1])
    base = blocks.build(runs, tail)
    changed = chance.choice([0, count - 1, chance.randrange(count), (count - 1) // WIDTH * WIDTH])
    more = 0 if tail else chance.choice([0, 1, WIDTH])
    made = rebuilt(blocks, base, count * LEAF_SIZE + tail, runs, tail, changed, more)
    wanted = _wanted(runs, changed, more)
    assert made == Blocks().build(wanted, tail)


def test_sixteen_tebibytes_of_hole_cost_a_handful_of_blocks() -> None:
    """A sparse file of 16 TiB can be pushed in a moment."""
    blocks = Blocks()
    count = (16 << 40) // LEAF_SIZE
    base = blocks.build([(HOLE, count)])
    made = rebuilt(blocks, base, 16 << 40, [(HOLE, count)], 0, count // 3, 0)
    assert made == Blocks().build(_wanted([(HOLE, count)], count // 3, 0))
    assert len(blocks.asked) < 20


def test_foreign_nodes_are_not_taken_over() -> None:
    """A subtree of the right size with other nodes in it, and one that lies about it."""
    blocks = Blocks()
    wide = FileTree(width=2 * WIDTH)
    wide.add(HOLE, LEAF_SIZE, 8 * WIDTH)
    built = wide.finish()
    blocks.all |= wide.take_blocks() | dict(built.blocks)
    size = 8 * WIDTH * LEAF_SIZE
    assert drive(subtrees(built.link.cid, size, 0, size, size + LEAF_SIZE), blocks) == [Span(0, size)]
    raw = leaf(1)
    assert drive(subtrees(raw, LEAF_SIZE, 0, LEAF_SIZE, size), blocks) == [Span(0, LEAF_SIZE)]
