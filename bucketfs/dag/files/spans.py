"""What of a large file stays as it is when a part of it changes: whole subtrees, found at the cost of the change. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bucketfs.dag.codec import DAG_PB, FILE_WIDTH, LEAF_SIZE, RAW, codec_of
from bucketfs.dag.files.read import FILE_DEPTH_MAX, FilePart, children_of, file_node
from bucketfs.dag.steps import fetch, fetch_one
from bucketfs.types import Cid, Steps


@dataclass(frozen=True, slots=True)
class Subtree:
    """A node of a file that is what `FileTree` builds of ``FILE_WIDTH ** level`` full leaves, with all that is below it."""

    level: int
    cid: Cid
    size: int
    tsize: int


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes ``[start, stop)`` of a file, to be looked at leaf by leaf (see `leaves`)."""

    start: int
    stop: int


def subtrees(root: Cid, size_bytes: int, start: int, stop: int, new_size_bytes: int) -> Steps[list[Subtree | Span]]:
    """The bytes ``[start, stop)`` of a file of ``size_bytes``, for one of ``new_size_bytes`` that has them at the same place: whole
    subtrees, and spans between them, in order.

    ``start``, and ``stop`` unless it is the end of the file, stand between leaves. Of foreign layouts, and where sizes cannot be
    trusted, all is spans. Fetches the nodes at both ends of the range and the topmost inside of it, and no others. Raises Corrupt.
    """
    found: list[Subtree | Span] = []
    yield from _look(FilePart(root, 0, size_bytes, 0), start, stop, new_size_bytes, 0, found)
    return list(_joined(found))


def _look(
    node: FilePart, start: int, stop: int, new_size_bytes: int, depth: int, found: list[Subtree | Span]
) -> Steps[None]:
    """Add what is in ``node``."""
    span = Span(max(node.offset, start), min(node.stop, stop))
    if codec_of(node.cid) != DAG_PB or depth == FILE_DEPTH_MAX:
        found.append(span)
        return
    links, message = file_node(node.cid, (yield from fetch_one(node.cid)))
    parts = children_of(node, links, message)
    wanted = [part for part in parts if part.size and part.offset < stop and part.stop > start]
    # Our nodes have no bytes of their own.
    if message.data or not 0 < len(parts) <= FILE_WIDTH or any(part.offset % LEAF_SIZE for part in wanted):
        found.append(span)
        return
    levels = {part: level for part in wanted if (level := _level_of(part, new_size_bytes))}
    levels = {part: level for part, level in levels.items() if start <= part.offset and part.stop <= stop}
    blocks = yield from fetch({part.cid for part in levels})
    for part in wanted:
        known = levels.get(part)
        if known is not None and _is_whole(part, known, blocks[part.cid]):
            found.append(Subtree(known, part.cid, part.size, part.tsize))
        elif start <= part.offset and part.stop <= stop and part is not parts[-1]:
            found.append(Span(part.offset, part.stop))
        else:
            yield from _look(part, start, stop, new_size_bytes, depth + 1, found)


def _level_of(part: FilePart, new_size_bytes: int) -> int:
    """The level of a subtree of this size; 0 when there is none, or when it would be the whole of the new file: the root has
    attributes, and is built."""
    level, size = 1, FILE_WIDTH * LEAF_SIZE
    while size < part.size:
        level, size = level + 1, size * FILE_WIDTH
    fits = size == part.size < new_size_bytes and not part.offset % size
    return level if fits and codec_of(part.cid) == DAG_PB else 0


def _is_whole(part: FilePart, level: int, block: bytes) -> bool:
    """Whether a node has the children that `FileTree` gives it."""
    links, message = file_node(part.cid, block)
    size = part.size // FILE_WIDTH
    codec = RAW if level == 1 else DAG_PB
    return (
        not message.data
        and message.is_plain
        and message.filesize == part.size
        and list(message.blocksizes) == [size] * FILE_WIDTH
        and all(codec_of(cid) == codec and not name for cid, name, _ in links)
    )


def _joined(parts: list[Subtree | Span]) -> Iterator[Subtree | Span]:
    """The same with spans that touch made one."""
    open_span: Span | None = None
    for part in parts:
        if isinstance(part, Span):
            open_span = part if open_span is None else Span(open_span.start, part.stop)
            continue
        if open_span is not None:
            yield open_span
            open_span = None
        yield part
    if open_span is not None:
        yield open_span
