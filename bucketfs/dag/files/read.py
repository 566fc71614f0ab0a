"""Reading files in any layout: trees of nodes over leaves, which may hold bytes themselves (UnixFS specification)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bucketfs.dag.codec import (
    DAG_PB,
    RAW,
    PbLink,
    UnixFs,
    UnixFsType,
    cid_text,
    codec_of,
    decode_node,
    file_size,
    identity_block,
)
from bucketfs.dag.steps import BATCH_MAX, fetch, fetch_one
from bucketfs.errors import Corrupt, InvalidArgument, IsADirectory, TooLarge
from bucketfs.types import Cid, Steps

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
class FilePart:
    """A node of a file that was not looked into yet: where in the file it is, and what its parent says about it."""

    cid: Cid
    offset: int
    size: int
    tsize: int = 0

    @property
    def stop(self) -> int:
        return self.offset + self.size


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
    parts = _parts_in(FilePart(root, 0, file_size(message, len(links))), links, message, window)
    # The root is at hand; its own bytes, often all of a small file, need not be asked for again.
    parts = [Leaf(root, 0, part.size, message.data) if part.cid == root else part for part in parts]
    for _ in range(FILE_DEPTH_MAX):
        if not any(isinstance(part, FilePart) for part in parts):
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


_Window = tuple[int, int | None]


def _overlaps(at: int, size: int, start: int, stop: int | None) -> bool:
    return size > 0 and at + size > start and (stop is None or at < stop)


def _open_level(parts: Sequence[Leaf | FilePart], window: _Window) -> Steps[list[Leaf | FilePart]]:
    """The same parts with each subtree replaced by what is in it, in file order. Few blocks are held at a time."""
    opened: list[Leaf | FilePart] = []
    for begin in range(0, len(parts), BATCH_MAX):
        batch = parts[begin : begin + BATCH_MAX]
        blocks = yield from fetch(part.cid for part in batch if isinstance(part, FilePart))
        for part in batch:
            if isinstance(part, Leaf):
                opened.append(part)
            else:
                opened += _parts_in(part, *file_node(part.cid, blocks[part.cid]), window)
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


def children_of(node: FilePart, links: Sequence[PbLink], message: UnixFs) -> list[FilePart]:
    """The parts that a node links to, in file order. Raises Corrupt when its sizes contradict each other, or its parent's."""
    if file_size(message, len(links)) != node.size:
        raise Corrupt(f"file node {cid_text(node.cid)}: {message.filesize} bytes where {node.size} were announced")
    at = node.offset + len(message.data)
    parts: list[FilePart] = []
    for (cid, _, tsize), size in zip(links, message.blocksizes, strict=True):
        parts.append(FilePart(cid, at, size, tsize))
        at += size
    return parts


def _parts_in(node: FilePart, links: Sequence[PbLink], message: UnixFs, window: _Window) -> list[Leaf | FilePart]:
    """The parts of one node that overlap the window: its own bytes first, then its children."""
    children, own = children_of(node, links, message), len(message.data)
    if any(link.name for link in links):
        raise Corrupt(f"file node {cid_text(node.cid)}: a link with a name")
    parts: list[Leaf | FilePart] = [Leaf(node.cid, node.offset, own)] if _overlaps(node.offset, own, *window) else []
    parts += [_leaf_or_node(child) for child in children if _overlaps(child.offset, child.size, *window)]
    return parts


def _leaf_or_node(part: FilePart) -> Leaf | FilePart:
    codec = codec_of(part.cid)
    if codec == DAG_PB:
        return part
    if codec != RAW:
        raise Corrupt(f"file leaf {cid_text(part.cid)}: codec {codec:#x}")
    inline = identity_block(part.cid)
    if inline is not None and len(inline) != part.size:
        raise Corrupt(f"file leaf {cid_text(part.cid)}: {len(inline)} bytes where {part.size} were announced")
    return Leaf(part.cid, part.offset, part.size, inline)
