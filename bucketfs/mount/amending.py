"""Making the kernel show a file as it is stored, after a write to it failed.

A notification drops pages but carries no length. With the writeback cache the kernel believes no length of a regular file but its
own (fs/fuse/inode.c: ``fuse_change_attributes``), which only a program's truncate changes. So the mount acts as that program: it
opens the file by its name and sets the length that is stored. The VFS knows the handle, changes nothing, and answers with the
length. This takes the inode's lock in the kernel, so a worker does it, as with announcements.
"""

from __future__ import annotations

import errno
import logging
import os
import threading

import pyfuse3
import trio

from bucketfs.mount.table import Mounted, mount_number
from bucketfs.types import Inode
from bucketfs.vfs import VFS, ContentLost, Invalidation

log = logging.getLogger(__name__)


class Amender:
    """For one mount. Call it in one of trio's worker threads; it blocks."""

    def __init__(self, vfs: VFS) -> None:
        self.mounted: Mounted | None = None
        self.thread: int | None = None
        """The worker that acts on the mount now. Its own requests must not wait for what it does: ``open`` and ``getattr`` tell
        it by this number."""
        self._vfs = vfs

    def __call__(self, news: Invalidation) -> None:
        assert isinstance(news, ContentLost), news
        inode = news.inode
        _drop_pages(inode)
        self.thread = threading.get_native_id()
        try:
            told = self._tell_size(inode)
        finally:
            self.thread = None
        # Pages that were dirty until now are clean, written or refused: they go too.
        _drop_pages(inode)
        trio.from_thread.run_sync(lambda: self._vfs.failures.end(inode, told=told))

    def _tell_size(self, inode: Inode) -> bool:
        names = trio.from_thread.run_sync(self._vfs.failures.place, inode)
        if names is None or self.mounted is None:
            return False
        path = os.path.join(os.fsencode(self.mounted.mountpoint), *names)
        # O_NOFOLLOW and O_NONBLOCK: whatever has the name by now must neither lead elsewhere nor block, as a FIFO would.
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError as error:
            log.debug("the kernel keeps the length of inode %d until it is closed: %s", inode, error)
            return False
        try:
            # Another file system may be mounted over ours, and its file must not be cut.
            if mount_number(descriptor) != self.mounted.number:
                return False
            os.ftruncate(descriptor, trio.from_thread.run_sync(self._vfs.failures.size_bytes, inode))
        except OSError as error:
            log.debug("the kernel keeps the length of inode %d until it is closed: %s", inode, error)
            return False
        finally:
            os.close(descriptor)
        return True


def _drop_pages(inode: Inode) -> None:
    try:
        pyfuse3.invalidate_inode(inode, attr_only=False)
    except OSError as error:
        # As in invalidate.py: the kernel does not hold it, or the mount is going away.
        if error.errno not in (errno.ENOENT, errno.ENODEV, errno.ENOTCONN):
            log.debug("pages of inode %d could not be dropped: %s", inode, error)
