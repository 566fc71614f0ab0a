"""Files: balanced trees over leaves, built from leaves and read in any layout (UnixFS specification, "balanced" layout).

A file without attributes and of one chunk is its raw leaf. With attributes it is one File node with the bytes inline. Any
other file is a tree: up to FILE_WIDTH leaves under a node, up to FILE_WIDTH nodes under a node, until one is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from bucketfs.dag.codec.cid import DAG_PB, RAW, cid_of, cid_text, codec_of, identity_block
from bucketfs.dag.codec.dag_pb import PbLink
from bucketfs.dag.codec.nodes import FILE_WIDTH, INLINE_MAX, LEAF_SIZE, Built, build_node, built_node, decode_node, file_size
from bucketfs.dag.codec.unixfs import UnixFs, UnixFsType, canonical_attributes
from bucketfs.dag.steps import BATCH_MAX, fetch, fetch_one
from bucketfs.errors import Corrupt, InvalidArgument, IsADirectory, TooLarge
from bucketfs.types import NO_ATTRIBUTES, Cid, Link, NodeAttributes, Steps

FILE_DEPTH_MAX = 10
"""Levels of nodes in a file from outside: ours needs four for 2⁶³ bytes."""

LEAVES_MAX = 1 << 23
"""Leaves that one answer of ``leaves`` may hold: 2 TiB of ours. A tiny DAG can claim more; ask for a range then."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A piece of a file, ``size`` bytes at ``offset``: ``inline``, or else ``leaf_data(cid, block of cid, size)``."""

    cid: Cid
    offset: int
    size: int
    inline: bytes | None = None


@dataclass(frozen=True, slots=True)
class _Part:
    """A subtree being built: where it is, its file bytes, its cumulative size."""

    cid: Cid
    size: int
    tsize: int


# Reading


def leaves(root: Cid, start: int = 0, stop: int | None = None, size_bytes: int | None = None) -> Steps[list[Leaf]]:
    """The leaves that overlap the bytes [start, stop) of a file, in order; ``stop`` None is the end of the file.

    Any layout is read. Raw leaves are not asked for, except a raw root whose length the caller does not give as
    ``size_bytes`` (its link's tsize). Raises IsADirectory or InvalidArgument when the root is no file, Corrupt when sizes
    contradict each other or the tree is deeper than FILE_DEPTH_MAX, TooLarge beyond LEAVES_MAX leaves.
    """
    if codec_of(root) == RAW:
        inline = identity_block(root)
        if inline is None and size_bytes is None:
            inline = yield from fetch_one(root)
        size = len(inline) if inline is not None else size_bytes or 0
        return [Leaf(root, 0, size, inline)] if _overlaps(0, size, start, stop) else []
    window = (start, stop)
    block = yield from fetch_one(root)
    links, message = decode_node(block) if codec_of(root) == DAG_PB else file_node(root, block)
    if message.type in (UnixFsType.DIRECTORY, UnixFsType.SHARD):
        raise IsADirectory(f"{cid_text(root)} is a directory")
    if message.type is UnixFsType.SYMLINK:
        raise InvalidArgument(f"{cid_text(root)} is a symlink")
    parts = _parts_of(_Subtree(root, 0, file_size(message, len(links))), links, message, window)
    # The root is at hand; its own bytes, often all of a small file, need not be asked for again.
    parts = [Leaf(root, 0, part.size, message.data) if part.cid == root else part for part in parts]
    for _ in range(FILE_DEPTH_MAX):
        if not any(isinstance(part, _Subtree) for part in parts):
            return [part for part in parts if isinstance(part, Leaf)]
        parts = yield from _open_level(parts, window)
    raise Corrupt(f"file {cid_text(root)}: more than {FILE_DEPTH_MAX} levels of nodes")


def leaf_data(cid: Cid, block: bytes, size: int | None = None) -> bytes:
    """The file bytes that the block of a leaf holds itself. Raises Corrupt when they are not ``size`` bytes."""
    if codec_of(cid) == RAW:
        data = block
    else:
        _, message = file_node(cid, block)
        data = message.data
    if size is not None and len(data) != size:
        raise Corrupt(f"leaf {cid_text(cid)}: {len(data)} bytes where {size} were announced")
    return data


def read_file(root: Cid) -> Steps[bytes]:
    """The whole content of a (small) file."""
    pieces: list[bytes] = []
    found = yield from leaves(root)
    for begin in range(0, len(found), BATCH_MAX):
        batch = found[begin : begin + BATCH_MAX]
        blocks = yield from fetch(leaf.cid for leaf in batch if leaf.inline is None)
        for leaf in batch:
            if leaf.inline is not None:
                pieces.append(leaf.inline)
            else:
                pieces.append(leaf_data(leaf.cid, blocks[leaf.cid], leaf.size))
    return b"".join(pieces)


@dataclass(frozen=True, slots=True)
class _Subtree:
    """A dag-pb node of a file that was not looked into yet: what its parent says about it."""

    cid: Cid
    offset: int
    size: int


_Window = tuple[int, int | None]


def _overlaps(at: int, size: int, start: int, stop: int | None) -> bool:
    return size > 0 and at + size > start and (stop is None or at < stop)


def _open_level(parts: Sequence[Leaf | _Subtree], window: _Window) -> Steps[list[Leaf | _Subtree]]:
    """The same parts with each subtree replaced by what is in it, in file order. Few blocks are held at a time."""
    opened: list[Leaf | _Subtree] = []
    for begin in range(0, len(parts), BATCH_MAX):
        batch = parts[begin : begin + BATCH_MAX]
        blocks = yield from fetch(part.cid for part in batch if isinstance(part, _Subtree))
        for part in batch:
            if isinstance(part, Leaf):
                opened.append(part)
            else:
                opened += _parts_of(part, *file_node(part.cid, blocks[part.cid]), window)
        if len(opened) > LEAVES_MAX:
            raise TooLarge(f"file range with more than {LEAVES_MAX} leaves")
    return opened


def file_node(cid: Cid, block: bytes) -> tuple[Sequence[PbLink], UnixFs]:
    """The links of a dag-pb node of a file, and what it says. Raises Corrupt."""
    if codec_of(cid) != DAG_PB:
        raise Corrupt(f"file node {cid_text(cid)}: codec {codec_of(cid):#x}")
    links, message = decode_node(block)
    if message.type not in (UnixFsType.FILE, UnixFsType.RAW):
        raise Corrupt(f"file node {cid_text(cid)}: of type {message.type.name.lower()}")
    return links, message


def _parts_of(node: _Subtree, links: Sequence[PbLink], message: UnixFs, window: _Window) -> list[Leaf | _Subtree]:
    """The parts of one node that overlap the window: its own bytes first, then its children."""
    if file_size(message, len(links)) != node.size:
        raise Corrupt(f"file node {cid_text(node.cid)}: {message.filesize} bytes where {node.size} were announced")
    parts: list[Leaf | _Subtree] = []
    start, stop = window
    at, own = node.offset, len(message.data)
    if _overlaps(at, own, start, stop):
        parts.append(Leaf(node.cid, at, own))
    at += own
    end = node.offset + node.size if stop is None else stop
    for (cid, name, _), size in zip(links, message.blocksizes, strict=True):
        if name:
            raise Corrupt(f"file node {cid_text(node.cid)}: a link with a name")
        after = at + size
        if after > start and size and at < end:
            parts.append(_child(cid, at, size))
        at = after
    return parts


def _child(cid: Cid, offset: int, size: int) -> Leaf | _Subtree:
    codec = codec_of(cid)
    if codec == DAG_PB:
        return _Subtree(cid, offset, size)
    if codec != RAW:
        raise Corrupt(f"file leaf {cid_text(cid)}: codec {codec:#x}")
    inline = identity_block(cid)
    if inline is not None and len(inline) != size:
        raise Corrupt(f"file leaf {cid_text(cid)}: {len(inline)} bytes where {size} were announced")
    return Leaf(cid, offset, size, inline)


# Building


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
    level = [_Part(cid, size, size) for cid, size in parts]
    message = UnixFs(UnixFsType.FILE).with_attributes(canonical_attributes(UnixFsType.FILE, attributes))
    if original is not None and codec_of(original[0]) == DAG_PB:
        _, before = file_node(*original)
        message = replace(message, unknown=before.unknown, mode_extra=before.mode_extra)
    if not level:
        level, whole = [_Part(cid_of(b""), 0, 0)], b""
    return _grow(level, message, whole, width=width, cid_version=1, inline_max=inline_max)


class FileTree:
    """The tree over raw leaves that come one after the other, as ``file_root`` would build it, holding one node of each level.

    Runs of equal leaves, the holes of sparse files, cost in proportion to the levels of the tree and not to their number.
    """

    def __init__(self, *, width: int = FILE_WIDTH) -> None:
        self._width = width
        self._levels: list[list[_Part]] = [[]]
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
        self._add(0, _Part(cid, size, size), count)

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
        self._add(level, _Part(cid, size, tsize), 1)

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

    def _add(self, level: int, part: _Part, count: int) -> None:
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

    def _add_above(self, level: int, parts: list[_Part], count: int) -> None:
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
    level: list[_Part] = []
    last, last_block = b"", b""
    for piece in _chunks((data,) if isinstance(data, bytes) else data, chunk):
        if level:
            keep(level[-1].cid, last_block)
        last = last_block = piece
        cid = cid_of(piece)
        if not raw_leaves:
            link, last_block = build_node(UnixFs(UnixFsType.FILE, data=piece, filesize=len(piece)), [], cid_version)
            cid = link.cid
        level.append(_Part(cid, len(piece), len(last_block)))
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
    level: list[_Part], message: UnixFs, whole: bytes | None, *, width: int, cid_version: int, inline_max: int
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
        parents: list[_Part] = []
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


def _inner(message: UnixFs, children: Sequence[_Part], cid_version: int) -> tuple[_Part, bytes]:
    sized = _sized(message, b"", tuple(child.size for child in children))
    link, block = build_node(sized, [(child.cid, b"", child.tsize) for child in children], cid_version)
    return _Part(link.cid, sized.filesize or 0, link.tsize), block
