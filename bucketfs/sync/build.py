"""Building the new tree from a `Picture`: changed leaves, then files, then directories, bottom-up.

Only what changed is read and hashed: of a large file the leaves that a write touched, of a directory the entries that are
different. Drafts are read and hashed in a thread, in batches, so that one hop carries many small files or some megabytes. Blocks
are handed on as they are made and never kept, so memory is bounded whatever the size of the push.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import trio

from bucketfs.dag import (
    LEAF_SIZE,
    RAW,
    Leaf,
    build_file,
    cid_of,
    codec_of,
    drive,
    edit_directory,
    file_root,
    symlink,
    with_attributes,
)
from bucketfs.errors import Corrupt
from bucketfs.types import NO_ATTRIBUTES, Cid, Link, NodeAttributes
from bucketfs.vfs import (
    BasePiece,
    DraftPiece,
    FrozenDirectory,
    FrozenFile,
    FrozenSymlink,
    Lens,
    Node,
    Picture,
    Piece,
    pieces,
    read_base,
    run_steps,
)

Block = tuple[Cid, bytes]
Emit = Callable[[Sequence[Block]], Awaitable[None]]

SMALL_FILES_PER_HOP = 128
SMALL_BYTES_PER_HOP = 4 << 20
LEAVES_PER_HOP = 16
CHANGES_IN_LOOP_MAX = 500
"""A directory with more changes than this is built in a thread: about twenty milliseconds of work."""

_ZERO_LEAF = bytes(LEAF_SIZE)
_ZERO_CID = cid_of(_ZERO_LEAF)


async def build(picture: Picture, emit: Emit, *, attributes: bool = True) -> dict[Node, Link]:
    """The link of every node of the picture; new blocks go to ``emit``, children before parents.

    ``attributes`` False leaves mode, mtime and owners out of everything that is built. Raises what the base's source raises.
    """
    builder = _Builder(picture.volume.lens, emit, attributes)
    for frozen in picture.nodes:
        if isinstance(frozen, FrozenFile):
            await builder.file(frozen)
        elif isinstance(frozen, FrozenSymlink):
            await builder.symlink(frozen)
        else:
            await builder.flush()
            await builder.directory(frozen)
    await builder.flush()
    return builder.links


@dataclass(frozen=True, slots=True)
class _Small:
    """A file of at most one leaf, waiting for its hop. ``parts`` are its bytes, or where in a draft they are."""

    frozen: FrozenFile
    parts: tuple[bytes | DraftPiece, ...]


class _Builder:
    def __init__(self, lens: Lens, emit: Emit, attributes: bool) -> None:
        self.links: dict[Node, Link] = {}
        self._lens = lens
        self._emit = emit
        self._attributes = attributes
        self._small: list[_Small] = []
        self._small_bytes = 0

    def _wanted(self, attributes: NodeAttributes) -> NodeAttributes:
        return attributes if self._attributes else NO_ATTRIBUTES

    async def symlink(self, frozen: FrozenSymlink) -> None:
        built = symlink(frozen.target, self._wanted(frozen.attributes))
        self.links[frozen.node] = built.link
        await self._emit(list(built.blocks.items()))

    async def file(self, frozen: FrozenFile) -> None:
        if not frozen.layers and frozen.base is not None:
            await self._other_attributes(frozen, frozen.base)
        elif frozen.size_bytes <= LEAF_SIZE:
            await self._add_small(frozen)
        else:
            await self._large(frozen)

    async def directory(self, frozen: FrozenDirectory) -> None:
        changes: dict[bytes, Link | None] = {}
        for name, change in frozen.changes.items():
            changes[name] = change if change is None or isinstance(change, Link) else self.links[change.node]
        base = frozen.base.cid if frozen.base is not None else None
        steps = edit_directory(base, changes, self._wanted(frozen.attributes))
        if len(changes) <= CHANGES_IN_LOOP_MAX:
            built = await run_steps(steps, self._lens.source)
        else:
            # The generator's own work is what takes long; only its fetches come back to the loop.
            built = await trio.to_thread.run_sync(drive, steps, self._get_from_thread)
        self.links[frozen.node] = built.link
        await self._emit(list(built.blocks.items()))

    def _get_from_thread(self, cids: Sequence[Cid]) -> dict[Cid, bytes]:
        return trio.from_thread.run(self._lens.source.get_many, list(cids))

    async def _other_attributes(self, frozen: FrozenFile, base: Link) -> None:
        """Only mode, owner or mtime changed: the root block is written anew, no leaf is touched."""
        block = await self._lens.source.get(base.cid)
        built = with_attributes(base.cid, block, self._wanted(frozen.attributes), base.tsize)
        self.links[frozen.node] = built.link
        await self._emit(list(built.blocks.items()))

    # Small files: one hop for many

    async def _add_small(self, frozen: FrozenFile) -> None:
        parts = await self._gather(frozen, pieces(frozen.layers, frozen.base_size_bytes, 0, frozen.size_bytes))
        self._small.append(_Small(frozen, tuple(parts)))
        self._small_bytes += frozen.size_bytes
        if len(self._small) >= SMALL_FILES_PER_HOP or self._small_bytes >= SMALL_BYTES_PER_HOP:
            await self.flush()

    async def flush(self) -> None:
        """Build the small files that wait."""
        if not self._small:
            return
        batch, self._small, self._small_bytes = self._small, [], 0
        built = await trio.to_thread.run_sync(self._build_small, batch)
        blocks: list[Block] = []
        for small, (link, made) in zip(batch, built, strict=True):
            self.links[small.frozen.node] = link
            blocks += made
        await self._emit(blocks)

    def _build_small(self, batch: Sequence[_Small]) -> list[tuple[Link, list[Block]]]:
        results = []
        for small in batch:
            data = b"".join(part if isinstance(part, bytes) else _draft_bytes(part) for part in small.parts)
            built = build_file(data, self._wanted(small.frozen.attributes))
            results.append((built.link, list(built.blocks.items())))
        return results

    # Large files: leaf by leaf

    async def _large(self, frozen: FrozenFile) -> None:
        old = await self._old_leaves(frozen)
        parts: list[tuple[Cid, int]] = []
        leaves_count = -(-frozen.size_bytes // LEAF_SIZE)
        pending: list[tuple[int, list[bytes | DraftPiece]]] = []
        for index in range(leaves_count):
            start, stop = index * LEAF_SIZE, min((index + 1) * LEAF_SIZE, frozen.size_bytes)
            plan = pieces(frozen.layers, frozen.base_size_bytes, start, stop)
            kept = old.get(index)
            if len(plan) == 1 and isinstance(plan[0], BasePiece) and kept is not None and kept.size == stop - start:
                parts.append((kept.cid, kept.size))
            else:
                parts.append((_ZERO_CID, stop - start))
                pending.append((index, await self._gather(frozen, plan)))
            if len(pending) >= LEAVES_PER_HOP:
                await self._hash_leaves(pending, parts)
                pending = []
            elif index % 1024 == 0:
                await trio.lowlevel.checkpoint()
        await self._hash_leaves(pending, parts)
        built = await trio.to_thread.run_sync(file_root, parts, self._wanted(frozen.attributes))
        self.links[frozen.node] = built.link
        await self._emit(list(built.blocks.items()))

    async def _old_leaves(self, frozen: FrozenFile) -> dict[int, Leaf]:
        """The base's leaves that stand where the fixed layout has them, by index; foreign layouts are cut anew."""
        if frozen.base is None or frozen.base_size_bytes <= LEAF_SIZE:
            return {}
        base, size_bytes = frozen.base.cid, frozen.base_size_bytes
        limit = min((layer.lower_limit_bytes for layer in frozen.layers), default=size_bytes)
        stop = min(size_bytes, limit)
        if stop <= 0:
            return {}
        leaves = await self._lens.settle(lambda: self._lens.leaves(base, 0, stop))
        return {
            leaf.offset // LEAF_SIZE: leaf
            for leaf in leaves
            if leaf.offset % LEAF_SIZE == 0 and leaf.inline is None and codec_of(leaf.cid) == RAW
        }

    async def _gather(self, frozen: FrozenFile, plan: Sequence[Piece]) -> list[bytes | DraftPiece]:
        parts: list[bytes | DraftPiece] = []
        for piece in plan:
            if isinstance(piece, DraftPiece):
                parts.append(piece)
            elif isinstance(piece, BasePiece):
                assert frozen.base is not None, "a piece of the base without a base"
                parts.append(await read_base(self._lens, frozen.base.cid, piece.start, piece.stop))
            else:
                size = piece.stop - piece.start
                parts.append(_ZERO_LEAF if size == LEAF_SIZE else bytes(size))
        return parts

    async def _hash_leaves(
        self, pending: Sequence[tuple[int, list[bytes | DraftPiece]]], parts: list[tuple[Cid, int]]
    ) -> None:
        if not pending:
            return
        made = await trio.to_thread.run_sync(_leaf_blocks, [plan for _, plan in pending])
        for (index, _), (cid, data) in zip(pending, made, strict=True):
            parts[index] = (cid, len(data))
        await self._emit(list(dict(made).items()))


def _leaf_blocks(plans: Sequence[Sequence[bytes | DraftPiece]]) -> list[Block]:
    blocks: list[Block] = []
    for plan in plans:
        if len(plan) == 1 and plan[0] is _ZERO_LEAF:
            blocks.append((_ZERO_CID, _ZERO_LEAF))
            continue
        data = b"".join(part if isinstance(part, bytes) else _draft_bytes(part) for part in plan)
        blocks.append((cid_of(data), data))
    return blocks


def _draft_bytes(piece: DraftPiece) -> bytes:
    data = piece.draft.read(piece.start, piece.stop - piece.start)
    if len(data) != piece.stop - piece.start:
        raise Corrupt(f"draft {piece.draft.id} is shorter than its records say")
    return data
