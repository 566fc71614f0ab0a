"""Files of a bucket written into a local folder: aside, then renamed. Large ones come in windows of leaves, one being fetched while
the one before is written."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from itertools import islice

import trio

from bucketfs.cache import Source, run_steps
from bucketfs.dag import (
    LEAF_SIZE,
    RAW,
    FileTree,
    Leaf,
    NodeInfo,
    block_links,
    cid_text,
    codec_of,
    leaf_data,
    leaves,
    node_info,
)
from bucketfs.errors import Corrupt
from bucketfs.remote import blocks_there, first_error, leaf_contents, windows
from bucketfs.transfer.local_fs import ONE_FILE, ONE_PATH, PLAIN, LocalEntry, LocalFs, Preserve
from bucketfs.transfer.options import Figures, Names, path_text
from bucketfs.transfer.temporaries import AsideFile, AsideLink, Temporaries
from bucketfs.types import NO_ATTRIBUTES, Cid, Kind, Link, NodeAttributes

WINDOW_ENTRIES = 256
STEP_BYTES = 128 << 20
"""A fetch that is begun again repeats at most so much."""
COPY_LEAVES_PER_HOP = 64


@dataclass(frozen=True, slots=True)
class BucketFile:
    """A file or symlink of a bucket that is to be written at ``where``. ``info`` is None for a raw file, which has no
    attributes."""

    link: Link
    where: bytes
    path: Names
    info: NodeInfo | None
    block: Cid | None
    """The one block that all bytes are in; None when there are several."""

    @property
    def is_small(self) -> bool:
        return self.block is not None

    @property
    def size_bytes(self) -> int:
        return self.link.tsize if self.info is None else self.info.size_bytes

    @property
    def attributes(self) -> NodeAttributes:
        return NO_ATTRIBUTES if self.info is None else self.info.attributes

    @property
    def kind(self) -> Kind:
        return Kind.FILE if self.info is None else self.info.kind


def bucket_file(link: Link, where: bytes, path: Names, block: bytes) -> BucketFile | None:
    """What a link and its root block (not needed of a raw file) stand for; None for a folder."""
    if codec_of(link.cid) == RAW:
        return BucketFile(link, where, path, None, link.cid)
    info = node_info(link.cid, block)
    if info.kind is Kind.DIRECTORY:
        return None
    below = block_links(link.cid, block)
    one_block: Cid | None = None
    if not below:
        one_block = link.cid
    elif len(below) == 1 and codec_of(below[0]) == RAW and info.size_bytes <= LEAF_SIZE:
        one_block = below[0]
    return BucketFile(link, where, path, info, one_block)


def entry_windows(entries: Sequence[tuple[bytes, Link]]) -> Iterator[list[tuple[bytes, Link]]]:
    """Entries whose root blocks can be fetched together: a node of a file may hold a whole leaf."""

    def size_of(entry: tuple[bytes, Link]) -> int:
        return 0 if codec_of(entry[1].cid) == RAW else min(entry[1].tsize, LEAF_SIZE)

    return windows(entries, size_of, count_max=WINDOW_ENTRIES)


@dataclass(eq=False, slots=True)
class LocalWriter:
    """Writes files. In a thread, right before a file takes its name ``allowed`` is asked (False leaves what stands there), and
    right after ``wrote`` is told. ``placing`` is told before, in a thread too, of files that are complete. ``finish`` says
    which attributes a file shall have here, ``preserve`` which of them it is given. With ``durable`` bytes are on the disk
    before a name is; the names themselves are for the caller to sync."""

    fs: LocalFs
    source: Source
    figures: Figures
    file_mode: int
    temporaries: Temporaries
    preserve: Preserve = PLAIN
    durable: bool = False
    allowed: Callable[[BucketFile], bool] = lambda file: True
    placing: Callable[[list[tuple[BucketFile, LocalEntry]]], None] = lambda found: None
    wrote: Callable[[BucketFile, LocalEntry], None] = lambda file, entry: None
    finish: Callable[[NodeAttributes], NodeAttributes] = lambda attributes: attributes

    async def small(
        self,
        files: Sequence[BucketFile],
        refuse: Callable[[BucketFile, str], None],
        here: Callable[[Sequence[BucketFile]], dict[Cid, bytes]] = lambda batch: {},
    ) -> None:
        """Files whose bytes are in one block each: fetched and written together. ``refuse`` is told which cannot be written, and
        why; ``here``, in a thread, which blocks need no fetching."""
        for batch in windows(files, lambda file: file.size_bytes):
            blocks = await trio.to_thread.run_sync(here, batch)
            wanted = [file.block for file in batch if file.block is not None and file.block not in blocks]
            blocks |= await blocks_there(self.source, wanted)
            for file, reason in await trio.to_thread.run_sync(self._write_small, batch, blocks):
                refuse(file, reason)
            self.figures.show()

    def _write_small(self, batch: Sequence[BucketFile], blocks: Mapping[Cid, bytes]) -> list[tuple[BucketFile, str]]:
        """In a thread. Returns the files that cannot be written, and why."""
        refused: list[tuple[BucketFile, str]] = []
        ready: list[tuple[BucketFile, AsideFile | AsideLink]] = []
        try:
            for file in batch:
                try:
                    ready.append((file, self._written(file, blocks)))
                except ONE_FILE as error:
                    # Also a name that this file system cannot have: the others can be written.
                    refused.append((file, str(error)))
            self.placing([(file, aside.entry) for file, aside in ready])
            for file, aside in ready:
                try:
                    self._place(file, aside)
                except ONE_PATH as error:
                    refused.append((file, str(error)))
        finally:
            for _, aside in ready:
                aside.abandon()
        return refused

    def _written(self, file: BucketFile, blocks: Mapping[Cid, bytes]) -> AsideFile | AsideLink:
        if file.info is not None and file.info.target is not None:
            return AsideLink(self.fs, file.where, file.info.target, file.attributes, self.temporaries)
        if file.block is None or file.block not in blocks:
            raise Corrupt(f"the Hub lacks block {cid_text(file.block or file.link.cid)} of it")
        data = leaf_data(file.block, blocks[file.block], file.size_bytes)
        aside = AsideFile(self.fs, file.where, len(data), self.temporaries)
        try:
            aside.write([(0, data)])
            self.figures.bytes_done += len(data)
            self._complete(file, aside)
        except BaseException:
            aside.abandon()
            raise
        return aside

    def _complete(self, file: BucketFile, aside: AsideFile) -> None:
        wanted = self.finish(file.attributes)
        aside.complete(wanted, self.file_mode, durable=self.durable, preserve=self.preserve)

    def _place(self, file: BucketFile, aside: AsideFile | AsideLink) -> None:
        if self.allowed(file):
            self.wrote(file, aside.place())

    async def large(self, file: BucketFile, copy_from: bytes | None = None) -> None:
        """A file of any length; taken from the local file ``copy_from`` if that has the same content. Raises Denied, Corrupt,
        NoSpace, and what the Hub raises."""
        self.figures.path = path_text(file.path)
        fetch = await trio.to_thread.run_sync(FileFetch, self.fs, self.source, self.figures, file, copy_from)
        try:
            aside = await trio.to_thread.run_sync(AsideFile, self.fs, file.where, file.size_bytes, self.temporaries)
            try:
                await fetch.run(aside)
                await trio.to_thread.run_sync(self.arrived, file, aside)
            finally:
                aside.abandon()
        finally:
            fetch.close()

    def arrived(self, file: BucketFile, aside: AsideFile) -> None:
        """In a thread: a file whose bytes are all written aside."""
        try:
            self._complete(file, aside)
            self.placing([(file, aside.entry)])
            self._place(file, aside)
        finally:
            aside.abandon()


class FileFetch:
    """The bytes of one file on their way into what is written aside: copied from the local file ``copy_from`` if that has the same
    content, else fetched. After an error `run` may be called again, and goes on."""

    def __init__(
        self, fs: LocalFs, source: Source, figures: Figures, file: BucketFile, copy_from: bytes | None = None
    ) -> None:
        self._source = source
        self._figures = figures
        self._file = file
        self._done_bytes = 0
        self._copy: _LocalCopy | None = None
        if copy_from is not None:
            with suppress(*ONE_PATH):
                self._copy = _LocalCopy(fs, copy_from)

    async def run(self, aside: AsideFile) -> None:
        """Returns when all is written. Raises what the Hub and the disk raise."""
        size_bytes = self._file.size_bytes
        while self._copy is not None:
            if not await trio.to_thread.run_sync(self._copy.step, self._file, aside):
                if await trio.to_thread.run_sync(self._copy.finish, self._file, aside):
                    self._done_bytes = size_bytes
                self._copy = None
        while self._done_bytes < size_bytes:
            stop = min(self._done_bytes + STEP_BYTES, size_bytes)
            found = await run_steps(leaves(self._file.link.cid, self._done_bytes, stop), self._source)
            await self._fetch(found, aside)
            self._done_bytes = stop

    async def _fetch(self, found: Sequence[Leaf], aside: AsideFile) -> None:
        """Fetches leaves and writes them, one window ahead of the other."""
        entry, exit_ = trio.open_memory_channel[list[tuple[int, bytes]]](0)

        async def fetch() -> None:
            async with entry, aclosing(leaf_contents(self._source, found)) as contents:
                async for pieces in contents:
                    await entry.send(pieces)

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(fetch)
                async for pieces in exit_:
                    await trio.to_thread.run_sync(aside.write, pieces)
                    self._figures.bytes_were_done(sum(len(data) for _, data in pieces))
        except BaseExceptionGroup as group:
            raise first_error(group) from group

    def close(self) -> None:
        """Gives the local file back."""
        if self._copy is not None:
            self._copy.close()


class _LocalCopy:
    """The content of a local file, taken into another a step at a time and hashed on the way. The source is opened at once: it may
    lose its name meanwhile. Blocks. Only making one raises (what `ours` makes of an OSError)."""

    def __init__(self, fs: LocalFs, source: bytes) -> None:
        self._file = fs.open_to_read(source)
        self._leaves = fs.leaves_of(self._file, source)
        self._tree = FileTree()
        self._size_bytes = 0
        self._failed = False

    def step(self, file: BucketFile, aside: AsideFile) -> bool:
        """Copies some megabytes; False when there is nothing more to copy."""
        copied = 0
        try:
            for leaf in islice(self._leaves, COPY_LEAVES_PER_HOP):
                aside.write([(self._size_bytes, leaf)])
                self._tree.add_data(leaf)
                self._size_bytes += len(leaf)
                copied += 1
        except ONE_PATH:
            # The Hub has it in any case.
            self._failed = True
        self._tree.take_blocks()
        return not self._failed and copied == COPY_LEAVES_PER_HOP and self._size_bytes < file.size_bytes

    def finish(self, file: BucketFile, aside: AsideFile) -> bool:
        """Whether that was what is wanted; if not, nothing of it is left in ``aside``."""
        self.close()
        same = not self._failed and self._tree.finish(file.attributes).link.cid == file.link.cid
        if not same:
            aside.empty(file.size_bytes)
        return same

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
