"""`OpenFiles`: the requests of the kernel about open files, and everything else that changes their bytes."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

import trio

from bucketfs.errors import BucketfsError, NoSpace, ReadOnly, Stale
from bucketfs.types import FileHandle
from bucketfs.vfs.handles import Handles, OpenedFile
from bucketfs.vfs.readahead import ReadAhead
from bucketfs.vfs.rebase import bring_home
from bucketfs.vfs.sealing import queue_for_seal
from bucketfs.vfs.tree import (
    AttributesChanged,
    ContentChanged,
    FileNode,
    Invalidation,
    Opened,
    SetAttr,
    Unreadable,
    Volume,
    Wanted,
    read_file,
)
from bucketfs.vfs.write_failures import WriteFailures

T = TypeVar("T")

ROOM_BYTES = 8 << 20
"""What is asked for when the disk is full: enough that not every write has to ask again."""


class OpenFiles:
    """The open files of one mount.

    ``make_room`` frees so many bytes of a full disk, and says how many; ``told`` tells the kernel, and awaits that it was;
    ``synced`` is awaited by every fsync after the local disk has it.
    """

    def __init__(
        self,
        handles: Handles[OpenedFile],
        failures: WriteFailures,
        readahead: ReadAhead,
        notify: Callable[[Invalidation], None],
        *,
        make_room: Callable[[int], Awaitable[int]],
        told: Callable[[AttributesChanged | ContentChanged], Awaitable[None]],
        synced: Callable[[Volume], Awaitable[None]],
        read_only: bool,
    ) -> None:
        self._handles = handles
        self._failures = failures
        self._readahead = readahead
        self._notify = notify
        self._make_room = make_room
        self._told = told
        self._synced = synced
        self._read_only = read_only
        self._writing: dict[FileNode, trio.Lock] = {}

    async def open(self, volume: Volume, node: FileNode, flags: int) -> Opened:
        """Open a file. Raises Denied when it is opened for changes that the Hub would refuse, Stale when they would be lost.

        Between a rebase and the moment that the kernel is told of it, a name still leads to the number it had. Told that this is
        stale, the kernel looks the name up anew, and the program opens what is there now without noticing.
        """
        writable = flags & os.O_ACCMODE != os.O_RDONLY
        if writable or flags & os.O_TRUNC:
            if node.stale:
                raise Stale("the file was replaced elsewhere")
            volume.tree.check_changing(node)
        if writable and self._read_only:
            raise ReadOnly("the mount is read-only")
        if flags & os.O_TRUNC:
            # Does not wait for the kernel to be amended: it has locked the file meanwhile. It stamps the file itself, and
            # tells of it when that is news.
            await self._decide(volume, lambda: self._truncate(volume, node, 0, node.mtime_ns, node.ctime_ns))
            self._failures.emptied(node)
        elif node.failure is not None:
            await self._failures.settled(node.inode)
            self._failures.check_open(node)
        # A remotely changed file gets a new inode, so what the kernel holds of this one is right, but for direct writes.
        keep_cache = not node.directs
        direct = writable and bool(flags & os.O_DIRECT)
        node.opens += 1
        node.writers += writable
        node.directs += direct
        opened = OpenedFile(node, volume, writable, bool(flags & (os.O_SYNC | os.O_DSYNC)), direct)
        return Opened(self._handles.add(opened), keep_cache=keep_cache)

    async def read(self, handle: FileHandle, offset: int, size: int) -> bytes:
        """Bytes of an open file; fewer than asked only at its end."""
        opened = self._handles[handle]
        base_tree = opened.volume.tree.base_tree
        # Before this read waits: what the reader wants next is fetched at the same time.
        self._readahead.reads(base_tree, opened.node, opened.window, offset, size)
        return await read_file(base_tree, opened.node, offset, size)

    async def write(self, handle: FileHandle, offset: int, data: bytes) -> int:
        """Write to an open file; the number of bytes taken, which is all."""
        opened = self._handles[handle]
        node, volume = opened.node, opened.volume

        def attempt() -> None:
            if node.failure is not None:
                self._failures.check_write(node, offset)
            if data and volume.tree.evicted:
                self._bring_home(volume, node)
            volume.write(node, offset, data)

        # BaseException: a cancelled request (its deadline) has lost its bytes as any other that failed.
        try:
            await self._in_turn(volume, node, attempt, ROOM_BYTES + len(data))
        except BaseException as error:
            if self._failures.write_failed(volume, node, error) and isinstance(error, Exception):
                # Before the program hears of it: what it asks next must come here.
                await self._told(AttributesChanged(node.inode))
            raise
        if opened.direct and node.opens > node.directs:
            # The kernel drops the pages under a direct write before that, and (AIO) not once more after it: a reader may have
            # filled one from here in between.
            await self._told(ContentChanged(node.inode))
        if opened.synchronous:
            await self._sync(volume, node)
        return len(data)

    async def flush(self, handle: FileHandle) -> None:
        """A descriptor is closed: what was written is in the journal when this returns, or its error is close's."""
        opened = self._handles[handle]
        node, volume = opened.node, opened.volume
        try:
            await self._decide(volume, lambda: volume.record(node))
        except BucketfsError as error:
            self._failures.record_failed(node, error)
            raise
        self._failures.written_back(opened, tell=True)

    async def release(self, handle: FileHandle) -> None:
        """The last descriptor of an open file is closed."""
        # No program sees the answer to a release (fs/fuse/file.c): an error is kept for the next open.
        opened = self._handles.close(handle)
        node, volume = opened.node, opened.volume
        # Counted down first: what follows asks whether the file is still open, or open for writing.
        node.opens -= 1
        node.writers -= opened.writable
        if opened.direct:
            node.directs -= 1
            self._notify(ContentChanged(node.inode))
        if not node.writers:
            self._failures.written_back(opened, tell=False)
        self._failures.closed(volume, handle, node)
        try:
            volume.record(node)
        except BucketfsError as error:
            self._failures.record_failed(node, error)
            raise
        finally:
            queue_for_seal(volume, node)
            volume.tree.reclaim(node)

    async def fsync(self, handle: FileHandle, datasync: bool) -> None:
        """Return when the file survives a power cut."""
        opened = self._handles[handle]
        await self._sync(opened.volume, opened.node)
        self._failures.written_back(opened, tell=True)

    async def set_size(self, volume: Volume, node: FileNode, change: SetAttr, handle: FileHandle | None) -> bool:
        """Set the size that ``change`` says; whether that was all there was to do."""
        if handle is not None and self._handles[handle].amending:
            # The mount itself sets the size: nothing is cut, the kernel takes it from the answer. Its times are as any others.
            self._failures.accept(node)
            with suppress(BucketfsError):  # the disk may be full, and the kernel must get its answer
                volume.set_attributes(node, SetAttr(mtime_ns=change.mtime_ns, ctime_ns=change.ctime_ns))
            return True
        size_bytes = change.size_bytes or 0
        try:
            await self._decide(volume, lambda: self._truncate(volume, node, size_bytes, change.mtime_ns, change.ctime_ns))
        except BucketfsError:
            self._notify(ContentChanged(node.inode))
            raise
        return False

    # Inside

    def _truncate(self, volume: Volume, node: FileNode, size_bytes: int, mtime_ns: int | None, ctime_ns: int | None) -> None:
        """An attempt."""
        self._failures.check_size(node, size_bytes)
        old_bytes = node.content.size_bytes
        if size_bytes != old_bytes:
            self._bring_home(volume, node)
        volume.truncate(node, size_bytes, mtime_ns, ctime_ns)
        self._failures.resized(node, old_bytes)

    def _bring_home(self, volume: Volume, node: FileNode) -> None:
        for invalidation in bring_home(volume, node):
            self._notify(invalidation)

    async def _decide(self, volume: Volume, attempt: Callable[[], T], room_bytes: int = ROOM_BYTES) -> T:
        return await volume.decide(attempt, lambda: self._make_room(room_bytes))

    async def _in_turn(self, volume: Volume, node: FileNode, attempt: Callable[[], None], room_bytes: int) -> None:
        """As `_decide`, and after those that came before: while one waits for room, a smaller one that still finds some must not
        leave a hole in its place."""
        if node not in self._writing:
            # Mostly all is at hand, and there is room. What cannot be read gets its own error below.
            with suppress(NoSpace, Wanted, Unreadable):
                attempt()
                return
        # trio.Lock is fair: those that wait get it in the order in which they came.
        lock = self._writing.setdefault(node, trio.Lock())
        try:
            lock.acquire_nowait()
        except trio.WouldBlock:
            await lock.acquire()
        try:
            await self._decide(volume, attempt, room_bytes)
        finally:
            lock.release()
            if not lock.locked():
                self._writing.pop(node, None)

    async def _sync(self, volume: Volume, node: FileNode) -> None:
        # The record first: a sync makes durable what is in the journal when it begins.
        volume.record(node)
        await volume.journal.sync()
        if not node.orphan:
            await self._synced(volume)
