"""Fetching before it is asked for: the bytes that a sequential reader will want, and the names around one that had to be fetched.

Nothing depends on it. What cannot be had ahead of time is asked for again by the request that needs it, which reports for itself.
"""

from __future__ import annotations

from contextlib import suppress

import trio

from bucketfs.errors import BucketfsError
from bucketfs.vfs.handles import OpenFile
from bucketfs.vfs.tree import file_io as files
from bucketfs.vfs.tree.node import DirectoryNode


class Ahead:
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
                self._nursery = None

    def reads(self, opened: OpenFile, offset: int, size: int) -> None:
        """Take note of a read of ``size`` bytes at ``offset``, and fetch what the reader will want next. Does not await."""
        ahead = opened.ahead(offset, size)
        if ahead is not None and self._nursery is not None and opened.node.content.base is not None:
            opened.ahead_fetches += 1
            self._nursery.start_soon(self._read, opened, *ahead)

    def looks_up(self, directory: DirectoryNode, name: bytes) -> None:
        """A name of a base directory had to be fetched: those that follow it will be looked up next. Does not await."""
        if self._nursery is not None and directory not in self._folders:
            self._folders.add(directory)
            self._nursery.start_soon(self._look, directory, name)

    async def _read(self, opened: OpenFile, start: int, stop: int) -> None:
        node, base_tree = opened.node, opened.node.volume.base_tree
        try:
            base, held = node.content.base, node.content.base_size_bytes
            if base is not None and start < min(stop, held):
                leaves = await base_tree.load(lambda: base_tree.leaves(base, start, min(stop, held)))
                await files.blocks_of(base_tree, leaves)
        except BucketfsError:
            opened.ahead_stop = 0
        finally:
            opened.ahead_fetches -= 1

    async def _look(self, directory: DirectoryNode, name: bytes) -> None:
        volume = directory.volume
        try:
            with suppress(BucketfsError):
                await volume.base_tree.load(lambda: volume.look_ahead(directory, name))
        finally:
            self._folders.discard(directory)
