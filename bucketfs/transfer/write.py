"""Files of a bucket written into a local folder: aside, then renamed. Large ones come in windows of leaves, one being fetched
while the one before is written."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import trio

from bucketfs.cache import run_steps
from bucketfs.dag import (
    LEAF_SIZE,
    RAW,
    Leaf,
    NodeInfo,
    block_links,
    cid_text,
    codec_of,
    file_root,
    leaf_data,
    leaves,
    node_info,
)
from bucketfs.errors import Corrupt
from bucketfs.remote import first_error
from bucketfs.transfer import local_fs as folder
from bucketfs.transfer.local_fs import LocalEntry
from bucketfs.transfer.options import (
    LEAVES_RANGE_BYTES,
    WINDOW_BYTES,
    Blocks,
    Figures,
    Names,
    Progress,
    bytes_of,
    leaf_windows,
    path_text,
)
from bucketfs.transfer.temporaries import Asides
from bucketfs.types import NO_ATTRIBUTES, Cid, Kind, Link, NodeAttributes

WINDOW_ENTRIES = 256
COPY_LEAVES_PER_HOP = 64


@dataclass(frozen=True, slots=True)
class Item:
    """A file or symlink to be written at ``where``. ``info`` is None for a raw file, which has no attributes."""

    link: Link
    where: bytes
    path: Names
    info: NodeInfo | None
    block: Cid | None
    """The one block that all bytes are in; None when there are several."""

    @property
    def small(self) -> bool:
        return self.block is not None

    @property
    def size_bytes(self) -> int:
        return self.link.tsize if self.info is None else self.info.size_bytes

    @property
    def attributes(self) -> NodeAttributes:
        return NO_ATTRIBUTES if self.info is None else self.info.attributes

    @property
    def is_symlink(self) -> bool:
        return self.info is not None and self.info.kind is Kind.SYMLINK


@dataclass(frozen=True, slots=True)
class _Ready:
    """A file or symlink that only lacks its name, and its status."""

    aside: folder.Aside | folder.AsideLink
    entry: LocalEntry


class FileWriter:
    """Writes items. ``allowed`` is asked, and ``wrote`` told, in a thread, right before and after a file takes its name: False
    leaves what stands there. ``placing`` is told before, in a thread too, of files that are complete. ``finish`` says which
    attributes a file shall have here, ``rights`` which of them it is given. With ``durable`` bytes are on the disk before a name
    is; the names themselves are for the caller to sync.
    """

    def __init__(
        self,
        source: Blocks,
        figures: Figures,
        progress: Progress,
        file_mode: int,
        *,
        asides: Asides | None = None,
        rights: folder.Rights = folder.PLAIN,
        durable: bool = False,
        allowed: Callable[[Item], bool] = lambda item: True,
        placing: Callable[[list[tuple[Item, LocalEntry]]], None] = lambda found: None,
        wrote: Callable[[Item, LocalEntry], None] = lambda item, entry: None,
        finish: Callable[[NodeAttributes], NodeAttributes] = lambda attributes: attributes,
    ) -> None:
        self._source = source
        self._figures = figures
        self._progress = progress
        self._file_mode = file_mode
        self._asides = asides or Asides()
        self._rights = rights
        self._durable = durable
        self._allowed = allowed
        self._placing = placing
        self._wrote = wrote
        self._finish = finish

    def small(self, batch: Sequence[Item], blocks: Mapping[Cid, bytes]) -> list[tuple[Item, str]]:
        """In a thread: items whose bytes are in one block each. Returns those that cannot be written, and why: also those whose
        block is not among ``blocks``."""
        refused: list[tuple[Item, str]] = []
        ready: list[tuple[Item, _Ready]] = []
        try:
            for item in batch:
                try:
                    ready.append((item, self._written(item, blocks)))
                except folder.ONE_FILE as error:
                    # Also a name that this file system cannot have: the others can be written.
                    refused.append((item, str(error)))
            self._placing([(item, one.entry) for item, one in ready])
            for item, one in ready:
                try:
                    self._place(item, one)
                except folder.ONE_PATH as error:
                    refused.append((item, str(error)))
        finally:
            for _, one in ready:
                one.aside.abandon()
        return refused

    def _written(self, item: Item, blocks: Mapping[Cid, bytes]) -> _Ready:
        if item.info is not None and item.info.target is not None:
            link = folder.AsideLink(item.where, item.info.target, item.attributes, self._asides)
            return _Ready(link, link.entry)
        if item.block is not None and item.block not in blocks:
            raise Corrupt(f"the Hub lacks block {cid_text(item.block)} of it")
        data = b"" if item.block is None else leaf_data(item.block, blocks[item.block], item.size_bytes)
        aside = folder.Aside(item.where, len(data), self._asides)
        try:
            aside.write([(0, data)])
            self._figures.bytes_done += len(data)
            return self._complete(item, aside)
        except BaseException:
            aside.abandon()
            raise

    def _complete(self, item: Item, aside: folder.Aside) -> _Ready:
        wanted = self._finish(item.attributes)
        entry = aside.complete(wanted, self._file_mode, durable=self._durable, rights=self._rights)
        return _Ready(aside, entry)

    def _place(self, item: Item, one: _Ready) -> None:
        if self._allowed(item):
            self._wrote(item, one.aside.place())

    async def large(self, item: Item, copy_from: bytes | None = None) -> None:
        """A file of any length; taken from the local file ``copy_from`` if that has the same content. Raises Denied, Corrupt,
        NoSpace, and what the Hub raises."""
        self._figures.path = path_text(item.path)
        aside = await trio.to_thread.run_sync(folder.Aside, item.where, item.size_bytes, self._asides)
        try:
            if copy_from is None or not await trio.to_thread.run_sync(_copy_local, copy_from, item, aside):
                for start in range(0, item.size_bytes, LEAVES_RANGE_BYTES):
                    stop = min(start + LEAVES_RANGE_BYTES, item.size_bytes)
                    found = await run_steps(leaves(item.link.cid, start, stop), self._source)
                    await copy_leaves(self._source, found, aside, self._figures, self._progress)
            await trio.to_thread.run_sync(self.arrived, item, aside)
        finally:
            aside.abandon()

    def arrived(self, item: Item, aside: folder.Aside) -> None:
        """In a thread: a file whose bytes are all written aside."""
        try:
            one = self._complete(item, aside)
            self._placing([(item, one.entry)])
            self._place(item, one)
        finally:
            aside.abandon()


async def copy_leaves(
    source: Blocks, found: Sequence[Leaf], aside: folder.Aside, figures: Figures, progress: Progress
) -> None:
    """Fetches leaves and writes them, one window ahead of the other."""
    entry, exit_ = trio.open_memory_channel[list[tuple[int, bytes]]](0)

    async def fetch() -> None:
        async with entry:
            for window in leaf_windows(found):
                blocks = await source.get_many([leaf.cid for leaf in window if leaf.inline is None])
                await entry.send([(leaf.offset, bytes_of(leaf, blocks)) for leaf in window])

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fetch)
            async for pieces in exit_:
                await trio.to_thread.run_sync(aside.write, pieces)
                figures.bytes_done += sum(len(data) for _, data in pieces)
                progress(figures)
    except BaseExceptionGroup as group:
        raise first_error(group) from group


class LocalCopy:
    """The content of a local file, taken into another a step at a time and hashed on the way. The source is opened at once: it may
    lose its name meanwhile. Blocks. Raises what `folder.ours` makes of an OSError, when it is made only."""

    def __init__(self, source: bytes) -> None:
        with folder.ours("reading", source):
            self._file = os.open(source, folder.READ | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        self._source = source
        self._parts: list[tuple[Cid, int]] = []
        self._whole = b""
        self._failed = False

    def step(self, item: Item, aside: folder.Aside) -> bool:
        """Copies some megabytes; False when there is nothing more to copy."""
        start = len(self._parts) * LEAF_SIZE
        if start > item.size_bytes:
            return False
        try:
            with folder.ours("reading", self._source):
                read = folder.read_leaves(self._file, start, COPY_LEAVES_PER_HOP)
            aside.write([(start + index * LEAF_SIZE, data) for index, (_, data) in enumerate(read)])
        except folder.ONE_PATH:
            # The Hub has it in any case.
            self._failed = True
            return False
        self._parts += [(cid, len(data)) for cid, data in read]
        self._whole = read[0][1] if len(self._parts) == 1 else self._whole
        return len(read) == COPY_LEAVES_PER_HOP

    def finish(self, item: Item, aside: folder.Aside) -> bool:
        """Whether that was what is wanted; if not, nothing of it is left in ``aside``."""
        self.close()
        whole = self._whole if len(self._parts) <= 1 else None
        same = not self._failed and file_root(self._parts, item.attributes, whole).link.cid == item.link.cid
        if not same:
            aside.empty(item.size_bytes)
        return same

    def close(self) -> None:
        """Gives the source back."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _copy_local(source: bytes, item: Item, aside: folder.Aside) -> bool:
    """In a thread: the content out of another local file. False when that is not what was wanted."""
    try:
        copy = LocalCopy(source)
    except folder.ONE_PATH:
        return False
    try:
        while copy.step(item, aside):
            pass
        return copy.finish(item, aside)
    finally:
        copy.close()


def item_of(link: Link, where: bytes, path: Names, block: bytes) -> Item | None:
    """What a link and its root block (not needed of a raw file) stand for; None for a folder."""
    if codec_of(link.cid) == RAW:
        return Item(link, where, path, None, link.cid)
    info = node_info(link.cid, block)
    if info.kind is Kind.DIRECTORY:
        return None
    return Item(link, where, path, info, _one_block(link.cid, block, info.size_bytes))


def _one_block(cid: Cid, block: bytes, size_bytes: int) -> Cid | None:
    below = block_links(cid, block)
    if not below:
        return cid
    return below[0] if len(below) == 1 and codec_of(below[0]) == RAW and size_bytes <= LEAF_SIZE else None


def windows(entries: Sequence[tuple[bytes, Link]]) -> Iterator[list[tuple[bytes, Link]]]:
    """Entries whose root blocks can be fetched together: a node of a file may hold a whole leaf."""
    window: list[tuple[bytes, Link]] = []
    size = 0
    for name, link in entries:
        window.append((name, link))
        size += min(link.tsize, 1 << 18) if codec_of(link.cid) != RAW else 0
        if len(window) >= WINDOW_ENTRIES or size >= WINDOW_BYTES:
            yield window
            window, size = [], 0
    if window:
        yield window


def blocks_of(items: Sequence[Item]) -> list[Cid]:
    """What small items are written from."""
    return [item.block for item in items if item.block is not None]


def batches(items: Sequence[Item]) -> Iterator[list[Item]]:
    """Small files whose blocks can be fetched and written together."""
    batch: list[Item] = []
    size = 0
    for item in items:
        batch.append(item)
        size += item.size_bytes
        if size >= WINDOW_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
