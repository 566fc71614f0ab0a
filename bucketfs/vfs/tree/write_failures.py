"""Writes that failed: what they leave in the kernel, and which programs are told.

With the writeback cache the kernel takes a program's bytes first and writes them here later. When that write fails, it keeps
the pages as if they had been written, and keeps the length that they gave the file. A program that compares before it writes
(rsync), or goes on from the size it sees, then ends in success over bytes that were never stored. So a failed write *breaks* its
file until the kernel shows what is stored:

1. While a file is broken, writes to it are refused with the same error: the kernel may send pages that lie beyond the lost ones.
2. `facts.ContentLost` makes the mount drop the kernel's pages and set its length of the file (see `mount.amend`). Until that is
   done attributes are given without a time to live, and ``stat`` and ``open`` wait.
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
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from bucketfs.errors import BucketfsError, DiskFailed, TimedOut
from bucketfs.vfs.tree import file_io as files

if TYPE_CHECKING:
    from bucketfs.vfs.handles import OpenFile
    from bucketfs.vfs.tree.node import FileNode

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Loss:
    """What was lost of one file. ``broken``: no write is taken. ``amended`` is set when the kernel shows what is here, or cannot be
    made to (``stranded``), and None when it always did. ``untold``: who opens the file next is told. ``misled`` are the handles of
    the third rule."""

    error: BucketfsError
    broken: bool = False
    stranded: bool = False
    untold: bool = True
    misled: set[OpenFile] = field(default_factory=set)
    amended: trio.Event | None = None

    @property
    def settled(self) -> bool:
        """Whether the kernel may believe what it is told of the file."""
        return self.amended is None or self.amended.is_set()

    def again(self) -> BucketfsError:
        """The error to raise, a fresh one each time: tracebacks are not to grow."""
        return copy.copy(self.error)


def failed(node: FileNode, handles: Iterable[OpenFile], error: BaseException) -> bool:
    """A write to ``node`` has failed; ``handles`` are all that are open on it. Returns whether this is the first failure since
    the kernel was right about the file."""
    loss = node.loss
    if loss is None:
        loss = node.loss = Loss(_cause(node, error))
    first = loss.settled
    if first:
        loss.amended = trio.Event()
    loss.broken = loss.untold = True
    for handle in handles:
        if handle.writable:
            handle.owed = loss.error
            loss.misled.add(handle)
    return first


def unrecorded(node: FileNode, error: BaseException) -> None:
    """What was written to ``node`` is here, and may not survive a crash, for it could not be recorded."""
    if node.loss is None:
        node.loss = Loss(_cause(node, error))


def _cause(node: FileNode, error: BaseException) -> BucketfsError:
    if isinstance(error, BucketfsError):
        return error
    if isinstance(error, trio.Cancelled):
        return TimedOut(f"a write to {node.name!r} was not done in time")
    return DiskFailed(f"a write to {node.name!r} failed")


def check_write(node: FileNode, offset: int) -> None:
    """Raise the error of the loss when a write at ``offset`` is not to be taken."""
    loss = node.loss
    if loss is not None and (loss.broken or (loss.misled and offset > node.content.size_bytes)):
        raise loss.again()


def check_size(node: FileNode, size_bytes: int) -> None:
    """Raise the error of the loss when the file may not get ``size_bytes``. It can always be cut: the kernel then takes that length
    by itself."""
    loss = node.loss
    if loss is not None and (loss.broken or loss.misled) and size_bytes > node.content.size_bytes:
        raise loss.again()


def resized(node: FileNode, old_bytes: int) -> None:
    """The size of ``node`` was set; it was ``old_bytes``."""
    size_bytes = node.content.size_bytes
    if size_bytes > old_bytes and node.writers:
        node.stretched = old_bytes if node.stretched is None else min(node.stretched, old_bytes)
    elif node.stretched is not None:
        node.stretched = None if size_bytes <= node.stretched else node.stretched


def written_back(node: FileNode) -> None:
    """The kernel has written here all that it held: a hole that there is now was meant."""
    node.stretched = None


def cut_back(node: FileNode) -> None:
    """Take off the zeros at the end that what was lost would have filled."""
    if node.stretched is None:
        return
    stop = max(node.stretched, node.content.data_stop)
    if stop < node.content.size_bytes:
        try:
            files.truncate(node, stop, node.mtime_ns, node.ctime_ns)
        except BucketfsError as error:
            log.warning("%r keeps zeros in the place of bytes that were lost: %s", node.name, error)


def check_open(node: FileNode) -> None:
    """Raise the error of the loss to who opens the file when it was told to nobody, or the kernel has a wrong length of it."""
    loss = node.loss
    if loss is None:
        return
    if loss.untold or loss.stranded or not loss.settled:
        loss.untold = False
        error = loss.again()
        settle(node)
        raise error


def emptied(node: FileNode) -> None:
    """The file was opened with O_TRUNC: the kernel drops all it holds of it, and takes 0 for its length."""
    loss = node.loss
    if loss is not None:
        loss.untold = False
        mended(node)


def accept(node: FileNode) -> None:
    """The kernel takes the length now: what it sends from now on was written to the file as it is here."""
    if node.loss is not None:
        node.loss.broken = False


def mended(node: FileNode) -> None:
    """The kernel shows what is here."""
    loss = node.loss
    if loss is not None:
        loss.broken = loss.stranded = False
        if loss.amended is not None:
            loss.amended.set()
        settle(node)


def tell(handle: OpenFile) -> None:
    """Raise what ``handle`` was not told yet."""
    owed, handle.owed = handle.owed, None
    if owed is not None:
        raise copy.copy(owed)


def closed(handle: OpenFile) -> None:
    """Nothing more can be written through ``handle``."""
    loss = handle.node.loss
    if loss is not None:
        loss.misled.discard(handle)
        settle(handle.node)


def settle(node: FileNode) -> None:
    """Forget a loss that concerns nobody any more."""
    loss = node.loss
    if loss is not None and loss.settled and not (loss.stranded or loss.untold or loss.misled):
        node.loss = None
