"""Fetching before it is asked for: the bytes that a sequential reader will want, and the names around one that had to be fetched.

Nothing depends on it. What cannot be had ahead of time is asked for again by the request that needs it, which reports for itself.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import trio

from bucketfs.errors import BucketfsError
from bucketfs.vfs.tree import BaseTree, DirectoryNode, FileNode, Volume, blocks_of

WINDOW_BYTES_MIN = 1 << 20
WINDOW_BYTES_MAX = 16 << 20
FETCHES_MAX = 3
"""So that the next bytes are on their way while the former ones come. Each is about a third of the window: in smaller pieces
the calls cost more than the waiting (measured: a Get of 4 MiB takes a sixth more processor time than one of 8)."""


@dataclass(slots=True, eq=False)
class ReadWindow:
    """How far one reader of a file has come, and how far it was read ahead for."""

    next_offset: int = 0
    window_bytes: int = 0
    stop: int = 0
    fetches: int = 0

    def advance(self, offset: int, size: int, file_bytes: int) -> tuple[int, int] | None:
        """Note a read; the range worth fetching before it is asked for, ``None`` when there is none.

        The window doubles each time that a third of it was read, and closes when the reader jumps.
        """
        sequential = offset == self.next_offset
        self.next_offset = offset + size
        # A reader that jumps has no use for the bytes behind.
        if not sequential:
            self.window_bytes = 0
            self.stop = 0
            return None
        held_bytes = max(self.stop - self.next_offset, 0)
        if self.fetches >= FETCHES_MAX or held_bytes > self.window_bytes - self.window_bytes // FETCHES_MAX:
            return None
        self.window_bytes = min(max(self.window_bytes * 2, WINDOW_BYTES_MIN), WINDOW_BYTES_MAX)
        start = max(self.stop, self.next_offset)
        stop = min(self.next_offset + self.window_bytes, file_bytes)
        if start >= stop:
            return None
        self.stop = stop
        return start, stop


class ReadAhead:
    """What one mount fetches ahead. Does nothing unless it runs."""

    def __init__(self) -> None:
        self._nursery: trio.Nursery | None = None
        self._folders: set[DirectoryNode] = set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep what is fetched ahead going until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                # A read that comes later must not begin a task in a nursery that is closed.
                self._nursery = None

    def reads(self, base_tree: BaseTree, node: FileNode, window: ReadWindow, offset: int, size: int) -> None:
        """Note a read of ``size`` bytes at ``offset``, and fetch what the reader will want next. Does not await."""
        ahead = window.advance(offset, size, node.content.size_bytes)
        if ahead is not None and self._nursery is not None and node.content.base is not None:
            window.fetches += 1
            self._nursery.start_soon(self._read, base_tree, node, window, *ahead)

    def looks_up(self, volume: Volume, directory: DirectoryNode, name: bytes) -> None:
        """A name of a base directory had to be fetched: those that follow it will be looked up next. Does not await."""
        if self._nursery is not None and directory not in self._folders:
            self._folders.add(directory)
            self._nursery.start_soon(self._look, volume, directory, name)

    async def _read(self, base_tree: BaseTree, node: FileNode, window: ReadWindow, start: int, stop: int) -> None:
        try:
            base, held = node.content.base, node.content.base_size_bytes
            if base is not None and start < min(stop, held):
                leaves = await base_tree.load(lambda: base_tree.leaves(base, start, min(stop, held)))
                await blocks_of(base_tree, leaves)
        except BucketfsError:
            # Nothing of it came: the next read asks anew from where it is.
            window.stop = 0
        finally:
            window.fetches -= 1

    async def _look(self, volume: Volume, directory: DirectoryNode, name: bytes) -> None:
        try:
            with suppress(BucketfsError):
                await volume.load(lambda: volume.tree.look_ahead(directory, name))
        finally:
            self._folders.discard(directory)
