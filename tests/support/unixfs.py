"""Files built leaf by leaf into a list and then grouped, in any layout: a second builder beside `bucketfs.dag.FileTree`.

It makes what older and other writers make (dag-pb leaves, CIDv0, other widths), and tells whether the streaming builder, which
holds one node of each level, comes to the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from bucketfs.dag.codec import (
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
from bucketfs.types import NO_ATTRIBUTES, Cid, Link, NodeAttributes


@dataclass(frozen=True, slots=True)
class _Built:
    """A subtree being built: where it is, its file bytes, its cumulative size."""

    cid: Cid
    size: int
    tsize: int


def file_root(parts: Iterable[tuple[Cid, int]], *, width: int = FILE_WIDTH) -> Built:
    """The nodes over raw leaves given as (cid, size in bytes), of which there is at least one."""
    level = [_Built(cid, size, size) for cid, size in parts]
    return _grow(level, UnixFs(UnixFsType.FILE), None, width=width, cid_version=1, inline_max=INLINE_MAX)


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
                raise ValueError("a small file with attributes is built from its bytes")
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
