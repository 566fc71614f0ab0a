"""Building the new tree from a `Picture`: changed leaves, then files, then directories, bottom-up.

Only what changed is read and hashed: of a large file the leaves that a write touched, of a directory the entries that are
different. Drafts are read and hashed in a thread, in batches, so that one hop carries many small files or some megabytes. Blocks
are handed on as they are made and never kept, so memory is bounded whatever the size of the push.

A file whose draft is damaged on the disk here is no part of any tree. All such files of a picture are found before that is said.
A file that was removed since the picture was taken is built all the same: a picture is one moment, and a folder without some of its
files may never have been. When that is not worth it the push is given up as a whole (see `load`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import trio

from bucketfs.cache import run_steps
from bucketfs.dag import (
    FILE_WIDTH,
    LEAF_SIZE,
    RAW,
    Built,
    FileTree,
    Leaf,
    Subtree,
    build_file,
    cid_of,
    codec_of,
    drive,
    edit_directory,
    subtrees,
    symlink,
    with_attributes,
)
from bucketfs.errors import Corrupt
from bucketfs.types import NO_ATTRIBUTES, Cid, Link, NodeAttributes
from bucketfs.vfs import (
    BasePiece,
    BaseTree,
    DraftDamaged,
    DraftPiece,
    FrozenDirectory,
    FrozenFile,
    FrozenSymlink,
    Node,
    Picture,
    Piece,
    ZeroPiece,
    draft_bytes,
    pieces,
    read_base,
)

Block = tuple[Cid, bytes]
Emit = Callable[[Sequence[Block]], Awaitable[None]]

SMALL_FILES_PER_HOP = 128
SMALL_BYTES_PER_HOP = 4 << 20
LEAVES_PER_HOP = 16
ROW_MAX = 1024
"""Leaves kept and leaves hashed that are handed to the tree at once."""

WINDOW_BYTES = FILE_WIDTH * LEAF_SIZE
"""How much of a base is looked up at once: what one node spans."""

CHANGES_IN_LOOP_MAX = 500
"""A directory with more changes than this is built in a thread: about twenty milliseconds of work."""

_ZERO_LEAF = bytes(LEAF_SIZE)
_ZERO_CID = cid_of(_ZERO_LEAF)


@dataclass(frozen=True, slots=True)
class BuiltFile:
    """A file as it was when ``link`` was built for it."""

    version: int
    base: Link | None
    size_bytes: int
    attributes: NodeAttributes
    link: Link

    def holds_for(self, frozen: FrozenFile) -> bool:
        """Whether building ``frozen`` would make the same."""
        then = (self.version, self.base, self.size_bytes, self.attributes)
        return then == (frozen.version, frozen.base, frozen.size_bytes, frozen.attributes)


class FilesDamaged(Corrupt):
    """Some files of a picture cannot be built, for the disk of this machine has damaged what they hold. ``files`` says why."""

    def __init__(self, files: Mapping[FrozenFile, DraftDamaged]) -> None:
        first = next(iter(files.values()))
        super().__init__(str(first), hint=first.hint)
        self.files = files


NOTHING_KNOWN: Mapping[Node, BuiltFile] = {}


async def build(
    picture: Picture, emit: Emit, *, attributes: bool = True, known: Mapping[Node, BuiltFile] = NOTHING_KNOWN
) -> dict[Node, Link]:
    """The link of every node of the picture; new blocks go to ``emit``, children before parents.

    ``attributes`` False leaves mode, mtime and owners out of everything that is built. ``known`` are files that were built before,
    with the same ``attributes``, and the blocks of which are where ``emit`` brings them: those that are still the same are not
    built again. Raises what the base's source raises, and FilesDamaged when nothing else is in the way.
    """
    builder = _Builder(picture.volume.base_tree, emit, attributes)
    for frozen in picture.nodes:
        if isinstance(frozen, FrozenFile):
            earlier = known.get(frozen.node)
            if earlier is not None and earlier.holds_for(frozen):
                builder.links[frozen.node] = earlier.link
            else:
                await builder.file(frozen)
        elif isinstance(frozen, FrozenSymlink):
            await builder.symlink(frozen)
        else:
            await builder.flush()
            await builder.directory(frozen)
    await builder.flush()
    if builder.damaged:
        raise FilesDamaged(builder.damaged)
    return builder.links


def built_files(picture: Picture, links: Mapping[Node, Link]) -> dict[Node, BuiltFile]:
    """What `build` made of the files of a picture, for building them no second time."""
    return {
        frozen.node: BuiltFile(frozen.version, frozen.base, frozen.size_bytes, frozen.attributes, links[frozen.node])
        for frozen in picture.nodes
        if isinstance(frozen, FrozenFile)
    }


@dataclass(frozen=True, slots=True)
class _Small:
    """A file of at most one leaf, waiting for its hop. ``parts`` are its bytes, or where in a draft they are."""

    frozen: FrozenFile
    parts: tuple[bytes | DraftPiece, ...]


_Ready = tuple[Cid, int, int]
"""Leaves that need no building: their block, its size in bytes, how many of them."""

_Plan = list[bytes | DraftPiece]
"""The bytes of a leaf that must be hashed, or where in drafts they are."""


class _Builder:
    def __init__(self, base_tree: BaseTree, emit: Emit, attributes: bool) -> None:
        self.links: dict[Node, Link] = {}
        self.damaged: dict[FrozenFile, DraftDamaged] = {}
        self._base_tree = base_tree
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
            try:
                await self._large(frozen)
            except DraftDamaged as error:
                self.damaged[frozen] = error

    async def directory(self, frozen: FrozenDirectory) -> None:
        if self.damaged:
            return  # nothing comes of it, and only the files are worth the work
        changes: dict[bytes, Link | None] = {}
        for name, change in frozen.changes.items():
            changes[name] = change if change is None or isinstance(change, Link) else self.links[change.node]
        base = frozen.base.cid if frozen.base is not None else None
        steps = edit_directory(base, changes, self._wanted(frozen.attributes))
        if len(changes) <= CHANGES_IN_LOOP_MAX:
            built = await run_steps(steps, self._base_tree.source)
        else:
            # The generator's own work is what takes long; only its fetches come back to the loop.
            built = await trio.to_thread.run_sync(drive, steps, self._get_from_thread)
        self.links[frozen.node] = built.link
        await self._emit(list(built.blocks.items()))

    def _get_from_thread(self, cids: Sequence[Cid]) -> dict[Cid, bytes]:
        return trio.from_thread.run(self._base_tree.source.get_many, list(cids))

    async def _other_attributes(self, frozen: FrozenFile, base: Link) -> None:
        """Only mode, owner or mtime changed: the root block is written anew, no leaf is touched."""
        block = await self._base_tree.source.get(base.cid)
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
        for small, made in zip(batch, built, strict=True):
            if isinstance(made, DraftDamaged):
                self.damaged[small.frozen] = made
            else:
                self.links[small.frozen.node] = made.link
                blocks += made.blocks.items()
        await self._emit(blocks)

    def _build_small(self, batch: Sequence[_Small]) -> list[Built | DraftDamaged]:
        results: list[Built | DraftDamaged] = []
        for small in batch:
            try:
                data = _bytes_of(small.frozen, small.parts)
            except DraftDamaged as error:
                results.append(error)
            else:
                results.append(build_file(data, self._wanted(small.frozen.attributes)))
        return results

    # Large files: what changed leaf by leaf, what did not in runs

    async def _large(self, frozen: FrozenFile) -> None:
        rows = _Rows(frozen, self._emit)
        zeros_sent = False
        for run in _runs(pieces(frozen.layers, frozen.base_size_bytes, 0, frozen.size_bytes), frozen.size_bytes):
            if isinstance(run, list):
                await rows.add(await self._gather(frozen, run))
            elif isinstance(run, BasePiece):
                await self._kept(frozen, run, rows)
            else:
                if not zeros_sent:
                    zeros_sent = True
                    await self._emit([(_ZERO_CID, _ZERO_LEAF)])
                await rows.add((_ZERO_CID, LEAF_SIZE, (run.stop - run.start) // LEAF_SIZE))
        built = await rows.finish(self._wanted(frozen.attributes))
        self.links[frozen.node] = built.link
        await self._emit(list(built.blocks.items()))

    async def _kept(self, frozen: FrozenFile, run: BasePiece, rows: _Rows) -> None:
        """Whole leaves of the base: subtrees that stand where the fixed layout has them, and the leaves between them."""
        assert frozen.base is not None, "a piece of the base without a base"
        if run.stop - run.start < WINDOW_BYTES:
            # No subtree fits.
            await self._untouched(frozen, run.start, run.stop, rows)
            return
        steps = subtrees(frozen.base.cid, frozen.base_size_bytes, run.start, run.stop, frozen.size_bytes)
        # In a thread: up to a few hundred nodes are decoded on each level.
        for part in await trio.to_thread.run_sync(drive, steps, self._get_from_thread):
            if isinstance(part, Subtree):
                await rows.add(part)
                continue
            for start in range(part.start, part.stop, WINDOW_BYTES):
                await self._untouched(frozen, start, min(start + WINDOW_BYTES, part.stop), rows)

    async def _untouched(self, frozen: FrozenFile, start: int, stop: int, rows: _Rows) -> None:
        """Whole leaves of the base. Those that stand where the fixed layout has them are kept, those of foreign layouts are cut
        anew. One window of them is looked up at a time: all of a base's leaves may be more than memory holds."""
        assert frozen.base is not None, "a piece of the base without a base"
        base, base_tree = frozen.base.cid, self._base_tree
        found: list[Leaf] = []
        if frozen.base_size_bytes > LEAF_SIZE:
            found = await base_tree.load(lambda: base_tree.leaves(base, start, stop))
        at_offset = {leaf.offset: leaf for leaf in found if leaf.inline is None and codec_of(leaf.cid) == RAW}
        for offset in range(start, stop, LEAF_SIZE):
            size = min(LEAF_SIZE, stop - offset)
            leaf = at_offset.get(offset)
            if leaf is not None and leaf.size == size:
                await rows.add((leaf.cid, size, 1))
            else:
                await rows.add(await self._gather(frozen, [BasePiece(offset, offset + size)]))

    async def _gather(self, frozen: FrozenFile, plan: Sequence[Piece]) -> list[bytes | DraftPiece]:
        parts: list[bytes | DraftPiece] = []
        for piece in plan:
            if isinstance(piece, DraftPiece):
                parts.append(piece)
            elif isinstance(piece, BasePiece):
                assert frozen.base is not None, "a piece of the base without a base"
                parts.append(await read_base(self._base_tree, frozen.base.cid, piece.start, piece.stop))
            else:
                size = piece.stop - piece.start
                parts.append(_ZERO_LEAF if size == LEAF_SIZE else bytes(size))
        return parts


class _Rows:
    """The leaves of one large file on their way into its tree, in rows that are hashed in one hop to a thread."""

    def __init__(self, frozen: FrozenFile, emit: Emit) -> None:
        self._frozen = frozen
        self._emit = emit
        self._tree = FileTree()
        self._row: list[_Ready | _Plan | Subtree] = []
        self._plans = 0

    async def add(self, item: _Ready | _Plan | Subtree) -> None:
        """The next leaf, or run of equal leaves, or subtree."""
        self._row.append(item)
        self._plans += isinstance(item, list)
        if self._plans >= LEAVES_PER_HOP or len(self._row) >= ROW_MAX:
            await self._hash()

    async def finish(self, attributes: NodeAttributes) -> Built:
        """The root over all leaves; with blocks that were not emitted yet."""
        await self._hash()
        return await trio.to_thread.run_sync(self._tree.finish, attributes)

    async def _hash(self) -> None:
        row, self._row, self._plans = self._row, [], 0
        if row:
            await self._emit(await trio.to_thread.run_sync(_plant, self._frozen, self._tree, row))


def _runs(plan: Sequence[Piece], size_bytes: int) -> Iterator[BasePiece | ZeroPiece | list[Piece]]:
    """A large file's pieces by leaves: runs of whole leaves that are base (the last of the file may be a short one) or zeros, and
    else the pieces of one leaf."""
    leaf: list[Piece] = []
    for piece in plan:
        at = piece.start
        while at < piece.stop:
            if not leaf and not isinstance(piece, DraftPiece):
                stop = piece.stop - piece.stop % LEAF_SIZE
                if isinstance(piece, BasePiece) and piece.stop == size_bytes:
                    stop = size_bytes
                if at < stop:
                    yield replace(piece, start=at, stop=stop)
                    at = stop
                    continue
            stop = min(piece.stop, at - at % LEAF_SIZE + LEAF_SIZE)
            leaf.append(replace(piece, start=at, stop=stop))
            at = stop
            if at % LEAF_SIZE == 0 or at == size_bytes:
                yield leaf
                leaf = []


def _plant(frozen: FrozenFile, tree: FileTree, row: Sequence[_Ready | _Plan | Subtree]) -> list[Block]:
    """Add a row of leaves to a tree; the blocks that this made, leaves first. Blocks: reads drafts and hashes. Raises
    DraftDamaged."""
    blocks: dict[Cid, bytes] = {}
    for item in row:
        if isinstance(item, tuple):
            tree.add(*item)
        elif isinstance(item, Subtree):
            tree.add_subtree(item.level, item.cid, item.size, item.tsize)
        else:
            data = _bytes_of(frozen, item)
            cid = cid_of(data)
            blocks[cid] = data
            tree.add(cid, len(data))
    return list((blocks | tree.take_blocks()).items())


def _bytes_of(frozen: FrozenFile, parts: Sequence[bytes | DraftPiece]) -> bytes:
    return b"".join(part if isinstance(part, bytes) else draft_bytes(frozen.node, part) for part in parts)
