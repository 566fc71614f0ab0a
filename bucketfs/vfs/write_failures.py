"""Writes that failed: what they leave in the kernel, and which programs are told.

With the writeback cache the kernel takes a program's bytes first and writes them here later. When that write fails, it keeps
the pages as if they had been written, and keeps the length that they gave the file. A program that compares before it writes
(rsync), or goes on from the size it sees, then ends in success over bytes that were never stored. So a failed write *breaks* its
file until the kernel shows what is stored:

1. While a file is broken, writes to it are refused with the same error: the kernel may send pages that lie beyond the lost ones.
2. `ContentLost` makes the mount drop the kernel's pages and set its length of the file (see `bucketfs.mount.amending`). Until
   that is done attributes are given without a time to live, and ``stat`` and ``open`` wait.
3. A handle that was open for writing when bytes were lost may have a position beyond them. While such a handle is open, no write
   and no new size may leave a hole behind the stored bytes, for that hole would be the lost bytes.
4. A program may set the size while the kernel still holds what it wrote before (rsync does so before it closes). If one of these
   writes is lost, the file is cut back to its last stored byte (``FileNode.stretched``). A hole that a flush or fsync has confirmed
   was meant, and stays.
5. Each handle of rule 3 is told once, at its next flush or fsync. The next program that opens the file is told once, too: a program
   that wrote through a mapping and closed may have heard nothing. O_TRUNC is not told, as it has no use for the lost bytes.
   (Besides, the kernel itself reports a failed write to every fsync, and to the first close.)

When the mount cannot open the file (another owner's file under a mount without root, a folder covered by another mount), the kernel
keeps its wrong length as long as the file is open. Then no other program may open it (``stranded``), and after the last close the
name gets a new inode number, which makes the kernel ask anew.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable

import trio

from bucketfs.errors import BucketfsError, DiskFailed, Stale, TimedOut
from bucketfs.types import ROOT_INODE, FileHandle, Inode
from bucketfs.vfs.buckets_root import BucketsRoot
from bucketfs.vfs.handles import Handles, OpenedFile
from bucketfs.vfs.tree import (
    ContentLost,
    EntryChanged,
    FileNode,
    InodeNumbers,
    Invalidation,
    Node,
    Opened,
    Registry,
    Volume,
    WriteFailure,
)

WAIT_S = 3.0
"""How long ``stat`` and ``open`` wait for the kernel to be right. It takes milliseconds, but for a program that asks with the file
locked (lseek to the end, chmod): then the mount and that program wait for one another."""

log = logging.getLogger(__name__)


class WriteFailures:
    """One for each mount. All methods but `settled` are immediate."""

    def __init__(
        self,
        registry: Registry,
        numbers: InodeNumbers,
        handles: Handles[OpenedFile],
        buckets: BucketsRoot,
        notify: Callable[[Invalidation], None],
    ) -> None:
        self._registry = registry
        self._numbers = numbers
        self._handles = handles
        self._buckets = buckets
        self._notify = notify
        self._amended: dict[Inode, trio.Event] = {}
        """Set when the failure of a file is settled."""

    # What the VFS says

    def write_failed(self, volume: Volume, node: FileNode, error: BaseException) -> bool:
        """A write to ``node`` failed. Whether the kernel may still believe its attributes for an hour."""
        failure = node.failure
        if failure is None:
            failure = node.failure = WriteFailure(_cause(node, error))
        # While the kernel is being amended a further failure changes nothing for it.
        first = failure.settled
        if first:
            failure.settled = False
            self._amended[node.inode] = trio.Event()
            log.info("what was written to %r and not taken is dropped: %s", node.name, error)
        failure.broken = failure.untold = True
        for handle, opened in self._handles.items():
            if opened.node is node and opened.writable:
                opened.owed = failure.error
                failure.misled.add(handle)
        # Before the news: the mount takes the length from here when it acts on them.
        self._cut_back(volume, node)
        self._notify(ContentLost(node.inode))
        return first

    def record_failed(self, node: FileNode, error: BaseException) -> None:
        """What was written to ``node`` is stored here, and may not survive a crash, for it could not be recorded."""
        if node.failure is None:
            node.failure = WriteFailure(_cause(node, error))

    def check_write(self, node: FileNode, offset: int) -> None:
        """Raise the error of the failure when a write at ``offset`` is not to be accepted."""
        failure = node.failure
        if failure is not None and (failure.broken or (failure.misled and offset > node.content.size_bytes)):
            raise _again(failure)

    def check_size(self, node: FileNode, size_bytes: int) -> None:
        """Raise the error of the failure when the file may not get ``size_bytes``. It can always be cut: the kernel then takes that
        length by itself."""
        failure = node.failure
        if failure is not None and (failure.broken or failure.misled) and size_bytes > node.content.size_bytes:
            raise _again(failure)

    def check_open(self, node: FileNode) -> None:
        """Raise the error of the failure when no program was told of it yet, or the kernel has a wrong length of the file."""
        failure = node.failure
        if failure is not None and (failure.untold or failure.stranded or not failure.settled):
            failure.untold = False
            _forget_told(node)
            raise _again(failure)

    def resized(self, node: FileNode, old_bytes: int) -> None:
        """The size of ``node`` was set; it was ``old_bytes``."""
        size_bytes = node.content.size_bytes
        if size_bytes > old_bytes and node.writers:
            node.stretched = old_bytes if node.stretched is None else min(node.stretched, old_bytes)
        elif node.stretched is not None:
            node.stretched = None if size_bytes <= node.stretched else node.stretched

    def emptied(self, node: FileNode) -> None:
        """The file was opened with O_TRUNC: the kernel drops all it holds of it, and takes 0 for its length."""
        if node.failure is not None:
            node.failure.untold = False
            self.mended(node)

    def accept(self, node: FileNode) -> None:
        """The kernel takes the length now: what it sends from now on was written to the file as it is here."""
        if node.failure is not None:
            node.failure.broken = False

    def written_back(self, opened: OpenedFile, *, tell: bool) -> None:
        """The kernel has written here all that it held of a file: a hole that there is now was meant. ``tell``: raises what
        the handle was not told yet."""
        opened.node.stretched = None
        if tell and opened.owed is not None:
            owed, opened.owed = opened.owed, None
            raise copy.copy(owed)

    def closed(self, volume: Volume, handle: FileHandle, node: FileNode) -> None:
        """Nothing more can be written through ``handle``."""
        if node.failure is None:
            return
        node.failure.misled.discard(handle)
        if node.failure.stranded and not node.opens and not node.orphan:
            self._renumber(volume, node)
        _forget_told(node)

    def mended(self, node: FileNode) -> None:
        """The kernel shows what is stored here."""
        if node.failure is not None:
            node.failure.broken, node.failure.stranded, node.failure.settled = False, False, True
            self._settle(node.inode)
            _forget_told(node)

    async def settled(self, inode: Inode) -> None:
        """Wait until the kernel shows what is stored here, if that takes place now."""
        amended = self._amended.get(inode)
        if amended is not None:
            with trio.move_on_after(WAIT_S):
                await amended.wait()

    # What the mount asks and says while it amends the kernel's view

    def place(self, inode: Inode) -> list[bytes] | None:
        """The names that lead from the mount point to a file whose length the kernel must be told; None when there is no need,
        or no way."""
        node = self._registry.get(inode)
        if not isinstance(node, FileNode) or node.failure is None or node.orphan:
            return None
        names: list[bytes] = []
        at: Node = node
        while at.inode != ROOT_INODE:
            if at.parent is None:
                top = [name for name, volume in self._buckets.volumes.items() if volume.root is at]
                return [*top, *reversed(names)] if top else None
            names.append(at.name)
            at = at.parent
        return list(reversed(names))

    def size_bytes(self, inode: Inode) -> int:
        """The stored length of the file."""
        node = self._registry.get(inode)
        return node.content.size_bytes if isinstance(node, FileNode) else 0

    def open(self, inode: Inode) -> Opened:
        """A handle whose change of the size only tells the kernel the size. Raises Stale for a file that needs none."""
        node = self._registry.get(inode)
        if not isinstance(node, FileNode) or node.failure is None:
            raise Stale("no write to this file failed")
        node.opens += 1
        return Opened(self._handles.add(OpenedFile(node, self._buckets.volume_of(node), amending=True)), keep_cache=True)

    def end(self, inode: Inode, *, told: bool) -> None:
        """The kernel holds no pages of before; ``told``: and has the length that the file has here."""
        node = self._registry.get(inode)
        if not isinstance(node, FileNode) or node.failure is None:
            self._settle(inode)
            return
        volume = self._buckets.volume_of(node)
        if told or node.orphan or node.failure.settled:
            # If it was broken again meanwhile, that was announced meanwhile.
            if not (told and node.failure.broken):
                self.mended(node)
        elif not node.opens:
            self._renumber(volume, node)
        else:
            node.failure.stranded = node.failure.settled = True
            self._settle(inode)
        # Its failure has kept it in memory (see `Namespace.reclaim`).
        volume.tree.reclaim(node)

    # Inside

    def _settle(self, inode: Inode) -> None:
        amended = self._amended.pop(inode, None)
        if amended is not None:
            amended.set()

    def _cut_back(self, volume: Volume, node: FileNode) -> None:
        """Take off the zeros at the end that the lost bytes would have filled."""
        if node.stretched is None:
            return
        stop = max(node.stretched, node.content.data_stop)
        if stop < node.content.size_bytes:
            try:
                volume.truncate(node, stop, node.mtime_ns, node.ctime_ns)
            except BucketfsError as error:
                log.warning("%r keeps zeros in the place of bytes that were lost: %s", node.name, error)

    def _renumber(self, volume: Volume, node: FileNode) -> None:
        """Have the kernel forget what it knows under the old number."""
        # Under the old number: waiters wait for that.
        self.mended(node)
        if self._registry.get(node.inode) is node:
            del self._registry[node.inode]
        node.inode, node.lookups = self._numbers.fresh(), 0
        self._registry[node.inode] = node
        volume.tree.remember(node)
        if node.parent is not None:
            self._notify(EntryChanged(node.parent.inode, node.name))


def _cause(node: FileNode, error: BaseException) -> BucketfsError:
    if isinstance(error, BucketfsError):
        return error
    if isinstance(error, trio.Cancelled):
        return TimedOut(f"a write to {node.name!r} was not done in time")
    return DiskFailed(f"a write to {node.name!r} failed")


def _again(failure: WriteFailure) -> BucketfsError:
    """The error to raise, a fresh one each time: tracebacks are not to grow."""
    return copy.copy(failure.error)


def _forget_told(node: FileNode) -> None:
    """Forget a failure that no program has to be told of any more."""
    failure = node.failure
    if failure is not None and failure.settled and not (failure.stranded or failure.untold or failure.misled):
        node.failure = None
