"""Building files: balanced trees over leaves (UnixFS specification, "balanced" layout).

A file without attributes and of one chunk is its raw leaf. With attributes it is one File node with the bytes inline. Any
other file is a tree: up to FILE_WIDTH leaves under a node, up to FILE_WIDTH nodes under a node, until one is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from bucketfs.dag.codec import (
    DAG_PB,
    FILE_WIDTH,
    INLINE_MAX,
    LEAF_SIZE,
    RAW,
    Built,
    UnixFs,
    UnixFsType,
    build_node,
    built_node,
    canonical_attributes,
    cid_of,
    codec_of,
)
from bucketfs.dag.files.read import file_node
from bucketfs.errors import InvalidArgument
from bucketfs.types import NO_ATTRIBUTES, Cid, Link, NodeAttributes


@dataclass(frozen=True, slots=True)
class _Built:
    """A subtree being built: where it is, its file bytes, its cumulative size."""

    cid: Cid
    size: int
    tsize: int


def file_root(
    parts: Iterable[tuple[Cid, int]],
    attributes: NodeAttributes = NO_ATTRIBUTES,
    whole: bytes | None = None,
    *,
    original: tuple[Cid, bytes] | None = None,
    width: int = FILE_WIDTH,
    inline_max: int = INLINE_MAX,
) -> Built:
    """The tree over raw leaves given as (cid, size in bytes); the leaves' own blocks are not repeated in the result.

    A file of at most one leaf is that leaf. When it has attributes (other than a default mode) it is a node that links to
    the leaf, or, up to ``inline_max`` bytes, holds the bytes itself: ``whole`` must be given then (InvalidArgument
    otherwise). No leaves: the empty file, whose block is in the result. ``original`` is the earlier root (cid, block) of
    the file: fields that nobody here knows are taken over from it.
    """
    level = [_Built(cid, size, size) for cid, size in parts]
    message = UnixFs(UnixFsType.FILE).with_attributes(canonical_attributes(UnixFsType.FILE, attributes))
    if original is not None and codec_of(original[0]) == DAG_PB:
        _, before = file_node(*original)
        message = replace(message, unknown=before.unknown, mode_extra=before.mode_extra)
    if not level:
        level, whole = [_Built(cid_of(b""), 0, 0)], b""
    return _grow(level, message, whole, width=width, cid_version=1, inline_max=inline_max)


class FileTree:
    """The tree over raw leaves that come one after the other, as ``file_root`` would build it, holding one node of each level.

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
        if self._only_leaf is not None:
            return build_file(self._only_leaf, attributes)
        top = 0
        while top + 1 < len(self._levels):
            if self._levels[top]:
                self._close(top)
            top += 1
        message = UnixFs(UnixFsType.FILE).with_attributes(canonical_attributes(UnixFsType.FILE, attributes))
        built = _grow(self._levels[top], message, None, width=self._width, cid_version=1, inline_max=0)
        return Built(built.link, self.take_blocks() | dict(built.blocks))

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
        node, block = _inner(UnixFs(UnixFsType.FILE), parts, 1)
        self._blocks[node.cid] = block
        if level + 1 == len(self._levels):
            self._levels.append([])
        self._add(level + 1, node, count)


def build_file(
    data: bytes | Iterable[bytes],
    attributes: NodeAttributes = NO_ATTRIBUTES,
    *,
    chunk: int = LEAF_SIZE,
    width: int = FILE_WIDTH,
    raw_leaves: bool = True,
    cid_version: int = 1,
    inline_max: int = INLINE_MAX,
    sink: Callable[[Cid, bytes], None] | None = None,
) -> Built:
    """Cut a file into chunks and build all of it. Leaf blocks go to ``sink`` when one is given, else into the result.

    Pieces of an iterable may have any size. ``raw_leaves`` False and ``cid_version`` 0 make the layout of older nodes.
    """
    blocks: dict[Cid, bytes] = {}
    keep = sink or blocks.__setitem__
    message = UnixFs(UnixFsType.FILE).with_attributes(canonical_attributes(UnixFsType.FILE, attributes))
    level: list[_Built] = []
    last, last_block = b"", b""
    for piece in _chunks((data,) if isinstance(data, bytes) else data, chunk):
        if level:
            keep(level[-1].cid, last_block)
        last = last_block = piece
        cid = cid_of(piece)
        if not raw_leaves:
            link, last_block = build_node(UnixFs(UnixFsType.FILE, data=piece, filesize=len(piece)), [], cid_version)
            cid = link.cid
        level.append(_Built(cid, len(piece), len(last_block)))
    # A single leaf whose bytes go inline into the root is no block of the file.
    if len(level) > 1 or message.is_plain or len(last) > inline_max:
        keep(level[-1].cid, last_block)
    whole = last if len(level) == 1 else None
    built = _grow(level, message, whole, width=width, cid_version=cid_version, inline_max=inline_max)
    return Built(built.link, blocks | dict(built.blocks))


def _chunks(pieces: Iterable[bytes], chunk: int) -> Iterator[bytes]:
    """The same bytes in pieces of ``chunk``, the last one shorter; one empty piece when there are none."""
    rest = bytearray()
    count = 0
    for piece in pieces:
        rest += piece
        whole = len(rest) - len(rest) % chunk
        for at in range(0, whole, chunk):
            yield bytes(rest[at : at + chunk])
            count += 1
        del rest[:whole]
    if rest or not count:
        yield bytes(rest)


def _grow(
    level: list[_Built], message: UnixFs, whole: bytes | None, *, width: int, cid_version: int, inline_max: int
) -> Built:
    """Group a level of parts under nodes until one is left, the root, which carries what ``message`` says."""
    if len(level) == 1:
        leaf = level[0]
        if message.is_plain:
            link = Link(leaf.cid, leaf.tsize)
            return Built(link, {leaf.cid: whole} if whole == b"" and codec_of(leaf.cid) == RAW else {})
        if leaf.size <= inline_max:
            if whole is None or len(whole) != leaf.size:
                raise InvalidArgument("a small file with attributes is built from its bytes")
            return built_node(_sized(message, whole, ()), [], cid_version)
    blocks: dict[Cid, bytes] = {}
    while len(level) > width:
        parents: list[_Built] = []
        for begin in range(0, len(level), width):
            part, block = _inner(UnixFs(UnixFsType.FILE), level[begin : begin + width], cid_version)
            blocks[part.cid] = block
            parents.append(part)
        level = parents
    root, block = _inner(message, level, cid_version)
    blocks[root.cid] = block
    return Built(Link(root.cid, root.tsize), blocks)


def _sized(message: UnixFs, data: bytes, sizes: tuple[int, ...]) -> UnixFs:
    return replace(message, data=data, blocksizes=sizes, filesize=len(data) + sum(sizes))


def _inner(message: UnixFs, children: Sequence[_Built], cid_version: int) -> tuple[_Built, bytes]:
    sized = _sized(message, b"", tuple(child.size for child in children))
    link, block = build_node(sized, [(child.cid, b"", child.tsize) for child in children], cid_version)
    return _Built(link.cid, sized.filesize or 0, link.tsize), block
