"""Building the new tree from a `Snapshot`: it feeds the builder of `bucketfs.remote` with what is frozen.

Only what changed is read and hashed: of a large file the leaves that a write touched, of a directory the entries that differ.

A file whose draft is damaged on the disk of this machine is part of no tree. All such files of a snapshot are found before the
error is raised. A file that was removed since the snapshot was taken is built all the same: a snapshot is one moment, and a folder
without some of its files may never have existed. When that is not worth it the push is given up as a whole (see `push_size`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import trio

from bucketfs.dag import FILE_WIDTH, LEAF_SIZE, RAW, Leaf, Subtree, cid_of, codec_of, drive, subtrees
from bucketfs.errors import BucketfsError, Corrupt
from bucketfs.remote import Emit, LeafRun, Outcome, Part, TreeBuilder
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
    Piece,
    Snapshot,
    ZeroPiece,
    draft_bytes,
    pieces,
    read_base,
)

T = TypeVar("T")

WINDOW_BYTES = FILE_WIDTH * LEAF_SIZE
"""How much of a base is looked up at once: what one node spans."""

_ZERO_LEAF = bytes(LEAF_SIZE)
_ZERO_CID = cid_of(_ZERO_LEAF)


FileVersion = tuple[Node, int, Link | None, int, NodeAttributes]
"""A file as it was frozen: two builds of one version make the same."""


def version_of(frozen: FrozenFile) -> FileVersion:
    """Which version of its file was frozen."""
    return frozen.node, frozen.version, frozen.base, frozen.size_bytes, frozen.attributes


class FilesDamaged(Corrupt):
    """Some files of a snapshot cannot be built, because the disk of this machine has damaged what they hold. ``files`` says why."""

    def __init__(self, files: Mapping[FrozenFile, DraftDamaged]) -> None:
        first = next(iter(files.values()))
        super().__init__(str(first), hint=first.hint)
        self.files = files


async def build(
    snapshot: Snapshot, emit: Emit, *, attributes: bool = True, known: Mapping[FileVersion, Link] | None = None
) -> dict[Node, Link]:
    """The link of every node of the snapshot; new blocks go to ``emit``, children before parents.

    ``attributes`` False leaves mode, mtime and owners out of everything that is built. ``known`` are files that were built before,
    with the same ``attributes``, and the blocks of which are where ``emit`` brings them: they are not built again. Raises what the
    base's source raises, and FilesDamaged when nothing else is in the way.
    """
    base_tree = snapshot.volume.tree.base_tree
    builder = TreeBuilder(base_tree.source, emit)
    links: dict[Node, Link] = {}
    damaged: dict[FrozenFile, DraftDamaged] = {}
    sources: list[_FileSource | _SymlinkSource] = []
    for frozen in snapshot.nodes:
        wanted = frozen.attributes if attributes else NO_ATTRIBUTES
        if isinstance(frozen, FrozenSymlink):
            sources.append(_SymlinkSource(frozen, wanted))
        elif isinstance(frozen, FrozenFile):
            if known and (link := known.get(version_of(frozen))) is not None:
                links[frozen.node] = link
            elif not frozen.layers and frozen.base is not None:
                links[frozen.node] = await builder.with_attributes(frozen.base, wanted)
            else:
                sources.append(_FileSource(frozen, wanted, base_tree))

    async def done(source: _FileSource | _SymlinkSource, outcome: Outcome) -> bool:
        if isinstance(source, _FileSource) and isinstance(outcome, DraftDamaged):
            damaged[source.frozen] = outcome
        elif isinstance(outcome, BucketfsError):
            raise outcome
        else:
            links[source.frozen.node] = outcome.link
        return True

    await builder.files(sources, done)
    if damaged:
        raise FilesDamaged(damaged)
    for frozen in snapshot.nodes:
        if isinstance(frozen, FrozenDirectory):
            changes = {
                name: change if change is None or isinstance(change, Link) else links[change.node]
                for name, change in frozen.changes.items()
            }
            base = frozen.base.cid if frozen.base is not None else None
            built = await builder.directory(base, changes, frozen.attributes if attributes else NO_ATTRIBUTES)
            await emit(list(built.blocks.items()))
            links[frozen.node] = built.link
    return links


def built_files(snapshot: Snapshot, links: Mapping[Node, Link]) -> dict[FileVersion, Link]:
    """What `build` made of the files of a snapshot, so that the next build can take it over."""
    return {version_of(frozen): links[frozen.node] for frozen in snapshot.nodes if isinstance(frozen, FrozenFile)}


@dataclass(frozen=True, slots=True, eq=False)
class _SymlinkSource:
    frozen: FrozenSymlink
    attributes: NodeAttributes
    size_bytes: int = 0

    def target(self) -> bytes:
        return self.frozen.target

    def parts(self) -> Generator[Part]:
        yield from ()


@dataclass(frozen=True, slots=True, eq=False)
class _FileSource:
    """What changed of a file leaf by leaf, what did not in runs."""

    frozen: FrozenFile
    attributes: NodeAttributes
    base_tree: BaseTree

    @property
    def size_bytes(self) -> int:
        return self.frozen.size_bytes

    def target(self) -> None:
        return None

    def parts(self) -> Generator[Part]:
        """Raises DraftDamaged, and what the base's source raises."""
        frozen = self.frozen
        plan = pieces(frozen.layers, frozen.base_size_bytes, 0, frozen.size_bytes)
        if frozen.size_bytes <= LEAF_SIZE:
            # The root of a file that is one leaf may hold the bytes, so they are needed even if they are those of the base.
            yield self._bytes(plan)
            return
        zeros_made = False
        for run in _runs(plan, frozen.size_bytes):
            if isinstance(run, list):
                yield self._bytes(run)
            elif isinstance(run, BasePiece):
                yield from self._kept(run)
            else:
                count = (run.stop - run.start) // LEAF_SIZE
                if not zeros_made:
                    # As bytes once, so that the Hub gets the block.
                    zeros_made, count = True, count - 1
                    yield _ZERO_LEAF
                if count:
                    yield LeafRun(_ZERO_CID, LEAF_SIZE, count)

    def _kept(self, run: BasePiece) -> Iterator[Part]:
        """Whole leaves of the base: subtrees that stand where the fixed layout has them, and the leaves between them."""
        if run.stop - run.start < WINDOW_BYTES:
            # No subtree fits.
            yield from self._untouched(run.start, run.stop)
            return
        frozen = self.frozen
        steps = subtrees(self._base(), frozen.base_size_bytes, run.start, run.stop, frozen.size_bytes)
        for part in drive(steps, lambda cids: _await(self.base_tree.source.get_many, list(cids))):
            if isinstance(part, Subtree):
                yield part
                continue
            for start in range(part.start, part.stop, WINDOW_BYTES):
                yield from self._untouched(start, min(start + WINDOW_BYTES, part.stop))

    def _untouched(self, start: int, stop: int) -> Iterator[Part]:
        """Whole leaves of the base. Those that stand where the fixed layout has them are kept, those of foreign layouts are cut
        anew. One window of them is looked up at a time: all of a base's leaves may be more than memory holds."""
        base, base_tree = self._base(), self.base_tree
        found: list[Leaf] = []
        if self.frozen.base_size_bytes > LEAF_SIZE:
            found = _await(base_tree.load, lambda: base_tree.leaves(base, start, stop))
        at_offset = {leaf.offset: leaf for leaf in found if leaf.inline is None and codec_of(leaf.cid) == RAW}
        for offset in range(start, stop, LEAF_SIZE):
            size = min(LEAF_SIZE, stop - offset)
            leaf = at_offset.get(offset)
            if leaf is not None and leaf.size == size:
                yield LeafRun(leaf.cid, size)
            else:
                yield self._bytes([BasePiece(offset, offset + size)])

    def _bytes(self, plan: Sequence[Piece]) -> bytes:
        return b"".join(map(self._piece_bytes, plan))

    def _piece_bytes(self, piece: Piece) -> bytes:
        if isinstance(piece, DraftPiece):
            return draft_bytes(self.frozen.node, piece)
        if isinstance(piece, BasePiece):
            return _await(read_base, self.base_tree, self._base(), piece.start, piece.stop)
        return bytes(piece.stop - piece.start)

    def _base(self) -> Cid:
        assert self.frozen.base is not None, "a piece of the base without a base"
        return self.frozen.base.cid


def _await(act: Callable[..., Awaitable[T]], *arguments: object) -> T:
    """From a thread: what has to wait for the Hub runs on the loop."""
    found: T = trio.from_thread.run(act, *arguments)
    return found


def _runs(plan: Sequence[Piece], size_bytes: int) -> Iterator[BasePiece | ZeroPiece | list[Piece]]:
    """A large file's pieces by leaves: runs of whole leaves that are base (the last of the file may be a short one) or zeros, and
    else the pieces of one leaf."""
    leaf: list[Piece] = []
    for piece in plan:
        at = piece.start
        while at < piece.stop:
            if not leaf and not isinstance(piece, DraftPiece):
                # A leaf begins at ``at``: the pieces of the one before are all together.
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
