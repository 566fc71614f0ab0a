"""Building files: balanced trees over leaves (UnixFS specification, "balanced" layout).

A file without attributes and of one chunk is its raw leaf. With attributes it is one File node with the bytes inline. Any
other file is a tree: up to FILE_WIDTH leaves under a node, up to FILE_WIDTH nodes under a node, until one is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bucketfs.dag.codec import (
    FILE_WIDTH,
    INLINE_MAX,
    Built,
    UnixFs,
    UnixFsType,
    build_node,
    built_node,
    canonical_attributes,
    cid_of,
)
from bucketfs.types import NO_ATTRIBUTES, Cid, Link, NodeAttributes


@dataclass(frozen=True, slots=True)
class _Built:
    """A subtree that was built: its CID, its file bytes, its cumulative size."""

    cid: Cid
    size: int
    tsize: int


class FileTree:
    """The tree over raw leaves that come one after the other. It holds one node of each level.

    Runs of equal leaves, the holes of sparse files, cost in proportion to the levels of the tree and not to their number.
    """

    def __init__(self, *, width: int = FILE_WIDTH) -> None:
        self._width = width
        self._levels: list[list[_Built]] = [[]]
        self._blocks: dict[Cid, bytes] = {}
        self._only_leaf: bytes | None = b""
        """All bytes of a file that is at most one leaf so far: its root may hold them itself."""

    def add_data(self, data: bytes) -> None:
        """One more leaf by its bytes; its block is taken with the nodes."""
        cid = cid_of(data)
        self._blocks[cid] = data
        only = data if self._only_leaf == b"" else None
        self.add(cid, len(data))
        self._only_leaf = only

    def add(self, cid: Cid, size: int, count: int = 1) -> None:
        """``count`` more leaves, each the raw block ``cid`` of ``size`` bytes. The leaf of a file that has only one is added by its
        bytes: the root may hold them itself."""
        self._only_leaf = None
        self._add(0, _Built(cid, size, size), count)

    def add_subtree(self, level: int, cid: Cid, size: int, tsize: int) -> None:
        """A node over ``width ** level`` full leaves, of ``size`` bytes. What was added before must fill whole nodes of that level,
        and one such node must not be all that is added."""
        self._only_leaf = None
        while len(self._levels) <= level:
            self._levels.append([])
        for below in range(level):
            held = len(self._levels[below])
            assert held in (0, self._width), "a subtree that does not begin where one of its size does"
            if held:
                self._close(below)
        self._add(level, _Built(cid, size, tsize), 1)

    def take_blocks(self) -> dict[Cid, bytes]:
        """The leaves that were added by their bytes, and the nodes that became full, since the last call; children first."""
        taken, self._blocks = self._blocks, {}
        return taken

    def finish(self, attributes: NodeAttributes = NO_ATTRIBUTES) -> Built:
        """The root over everything that was added, with the blocks not taken yet."""
        if self._only_leaf == b"" and not self._levels[0]:
            self.add_data(b"")
        message = UnixFs(UnixFsType.FILE).with_attributes(canonical_attributes(UnixFsType.FILE, attributes))
        top = 0
        while top + 1 < len(self._levels):
            if self._levels[top]:
                self._close(top)
            top += 1
        parts = self._levels[top]
        if len(parts) == 1 and message.is_plain:
            return Built(Link(parts[0].cid, parts[0].tsize), self.take_blocks())
        if self._only_leaf is not None and len(self._only_leaf) <= INLINE_MAX:
            # The bytes stand in the root: the leaf is no block of this file.
            return built_node(replace(message, data=self._only_leaf, filesize=len(self._only_leaf)), [])
        root, block = _node(message, parts)
        return Built(Link(root.cid, root.tsize), {**self.take_blocks(), root.cid: block})

    def _add(self, level: int, part: _Built, count: int) -> None:
        while count:
            if len(self._levels[level]) == self._width:
                # Only now: a level that stays within one node may be the root.
                self._close(level)
            held = self._levels[level]
            full = (count - 1) // self._width
            if full and not held:
                self._add_above(level, [part] * self._width, full)
                count -= full * self._width
            else:
                fits = min(self._width - len(held), count)
                held += [part] * fits
                count -= fits

    def _close(self, level: int) -> None:
        parts, self._levels[level] = self._levels[level], []
        self._add_above(level, parts, 1)

    def _add_above(self, level: int, parts: list[_Built], count: int) -> None:
        node, block = _node(UnixFs(UnixFsType.FILE), parts)
        self._blocks[node.cid] = block
        if level + 1 == len(self._levels):
            self._levels.append([])
        self._add(level + 1, node, count)


def _node(message: UnixFs, children: Sequence[_Built]) -> tuple[_Built, bytes]:
    sizes = tuple(child.size for child in children)
    sized = replace(message, blocksizes=sizes, filesize=sum(sizes))
    link, block = build_node(sized, [(child.cid, b"", child.tsize) for child in children])
    return _Built(link.cid, sum(sizes), link.tsize), block
