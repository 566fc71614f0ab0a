"""Trees built bottom-up: files from their leaves, then each folder from what is in it.

A push of a mount, a push of a local folder and the scan of a mirror feed the same builder. It reads and hashes in threads: many
small files to one hop, large files in rows of leaves. Blocks go to ``emit`` as they are made, children before parents, and are not
kept, so memory is bounded by one batch of small files or one row of leaves, whatever the size of the tree.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol, TypeVar

import trio

from bucketfs.cache import Source, run_steps
from bucketfs.dag import LEAF_SIZE, Built, FileTree, Subtree, drive, edit_directory, symlink, with_attributes
from bucketfs.errors import BucketfsError
from bucketfs.remote.fetch import windows
from bucketfs.remote.upload import Block, Emit
from bucketfs.types import Cid, Link, NodeAttributes

SMALL_FILES_PER_HOP = 128
SMALL_BYTES_PER_HOP = 4 << 20
LEAVES_PER_HOP = 16
PARTS_PER_HOP = 1024

CHANGES_IN_LOOP_MAX = 500
"""A directory with more changes than this is built in a thread: about twenty milliseconds of work."""


@dataclass(frozen=True, slots=True)
class LeafRun:
    """``count`` equal leaves of ``size_bytes`` each, whose block needs no sending."""

    cid: Cid
    size_bytes: int
    count: int = 1


Part = bytes | LeafRun | Subtree
"""The next leaf of a file by its bytes, or leaves and nodes that are at the Hub already."""


class FileSource(Protocol):
    """A file or symlink that is to be built."""

    @property
    def size_bytes(self) -> int:
        """How long the file is expected to be. One of at most LEAF_SIZE is small: it is built together with others."""

    @property
    def attributes(self) -> NodeAttributes:
        """What its root node says."""

    def target(self) -> bytes | None:
        """Where a symlink leads; None for a file. In a thread; raises BucketfsError."""

    def parts(self) -> Generator[Part]:
        """The content in order: every part but the last fills whole leaves. Drawn in threads, one row at a time; what has to await
        goes through ``trio.from_thread``. Raises BucketfsError; closed when it is left early."""


F = TypeVar("F", bound=FileSource)

Outcome = Built | BucketfsError
"""What became of a file: its root with the blocks that were not emitted yet, or why it could not be read."""

Done = Callable[[F, Outcome], Awaitable[bool]]


class TreeBuilder:
    """``source`` has the blocks of the tree that is changed. ``read`` is told after each hop how many bytes of files were read."""

    def __init__(self, source: Source, emit: Emit, read: Callable[[int], None] = lambda size_bytes: None) -> None:
        self._source = source
        self._emit = emit
        self._read = read
        # A thread of its own: a feed may wait in it for the Hub, and must not hold up the other users of trio's threads.
        self._thread = trio.CapacityLimiter(1)

    async def files(self, files: Sequence[F], done: Done[F]) -> None:
        """Builds files in any order and reports each to ``done``. That says whether the blocks of a small file are wanted; those of
        a large one are emitted while it is read. Raises what ``emit`` and ``done`` raise."""
        small = (file for file in files if file.size_bytes <= LEAF_SIZE)
        for batch in windows(small, lambda file: file.size_bytes, SMALL_BYTES_PER_HOP, SMALL_FILES_PER_HOP):
            await self._small(batch, done)
        for file in files:
            if file.size_bytes > LEAF_SIZE:
                await done(file, await self._streamed(file))

    async def file(self, file: FileSource) -> Built:
        """A file of any length; all its blocks are emitted. Raises why it cannot be read, and what ``emit`` raises."""
        outcome = await self._streamed(file)
        if isinstance(outcome, BucketfsError):
            raise outcome
        return outcome

    async def directory(self, base: Cid | None, changes: Mapping[bytes, Link | None], attributes: NodeAttributes) -> Built:
        """A directory as an edit of ``base``; its blocks are for the caller to emit. Raises what ``source`` raises."""
        steps = edit_directory(base, changes, attributes)
        if len(changes) <= CHANGES_IN_LOOP_MAX:
            return await run_steps(steps, self._source)
        # The generator's own work is what takes long; only its fetches come back to the loop.
        return await trio.to_thread.run_sync(drive, steps, self._get_from_thread, limiter=self._thread)

    async def with_attributes(self, link: Link, attributes: NodeAttributes) -> Link:
        """A file whose bytes stay: only its root block is written anew."""
        built = with_attributes(link.cid, await self._source.get(link.cid), attributes, link.tsize)
        await self._emit(list(built.blocks.items()))
        return built.link

    def _get_from_thread(self, cids: Sequence[Cid]) -> dict[Cid, bytes]:
        return trio.from_thread.run(self._source.get_many, list(cids))

    async def _small(self, batch: Sequence[F], done: Done[F]) -> None:
        blocks: list[Block] = []
        read_bytes = 0
        outcomes = await trio.to_thread.run_sync(_build_small, batch, limiter=self._thread)
        for file, outcome in zip(batch, outcomes, strict=True):
            if outcome is None:
                await done(file, await self._streamed(file))
                continue
            read_bytes += file.size_bytes if isinstance(outcome, Built) else 0
            if await done(file, outcome) and isinstance(outcome, Built):
                blocks += outcome.blocks.items()
        self._read(read_bytes)
        await self._emit(blocks)

    async def _streamed(self, file: FileSource) -> Outcome:
        tree = FileTree()
        with closing(file.parts()) as parts:
            more = True
            while more:
                row = await trio.to_thread.run_sync(_draw, parts, tree, limiter=self._thread)
                if isinstance(row, BucketfsError):
                    return row
                size_bytes, more = row
                self._read(size_bytes)
                await self._emit(list(tree.take_blocks().items()))
        built = await trio.to_thread.run_sync(tree.finish, file.attributes, limiter=self._thread)
        await self._emit(list(built.blocks.items()))
        return built


def _build_small(batch: Sequence[FileSource]) -> list[Outcome | None]:
    """In a thread: the files in the order of ``batch``; None for one that has grown and is small no longer."""
    outcomes: list[Outcome | None] = []
    for file in batch:
        try:
            target = file.target()
            outcomes.append(_whole(file) if target is None else symlink(target, file.attributes))
        except BucketfsError as error:
            outcomes.append(error)
    return outcomes


def _whole(file: FileSource) -> Built | None:
    tree = FileTree()
    with closing(file.parts()) as parts:
        for count, part in enumerate(parts, 1):
            if count > 1 or not isinstance(part, bytes):
                return None
            tree.add_data(part)
    return tree.finish(file.attributes)


def _draw(parts: Generator[Part], tree: FileTree) -> tuple[int, bool] | BucketfsError:
    """In a thread: adds the next row of parts to a tree. How many bytes were hashed, and whether there may be more."""
    hashed = size_bytes = 0
    try:
        for count, part in enumerate(parts, 1):
            if isinstance(part, bytes):
                tree.add_data(part)
                hashed += 1
                size_bytes += len(part)
            elif isinstance(part, LeafRun):
                tree.add(part.cid, part.size_bytes, part.count)
            else:
                tree.add_subtree(part.level, part.cid, part.size, part.tsize)
            if hashed == LEAVES_PER_HOP or count == PARTS_PER_HOP:
                return size_bytes, True
    except BucketfsError as error:
        return error
    return size_bytes, False
