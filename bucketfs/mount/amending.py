"""Having the kernel show a file as it is here, after a write to it failed.

A notification drops pages, and tells no length: with the writeback cache the kernel takes that of a regular file from nothing but a
change of it that a program asks for. So the mount is such a program for a moment: it opens the file by its name and sets the length
that the file has here. The VFS knows the handle, changes nothing, and answers with the length. This takes the file's lock in the
kernel, so it is done in a worker, as announcements are.
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
    """For one mount. Calling it blocks; from a worker of trio's."""

    def __init__(self, vfs: VFS) -> None:
        self.mounted: Mounted | None = None
        self.thread: int | None = None
        """The worker that acts on the mount now. Its requests must not wait for what it does."""
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
        # What was dirty is clean now, whether it was taken or refused.
        _drop_pages(inode)
        trio.from_thread.run_sync(lambda: self._vfs.amends.end(inode, told=told))

    def _tell_size(self, inode: Inode) -> bool:
        names = trio.from_thread.run_sync(self._vfs.amends.place, inode)
        if names is None or self.mounted is None:
            return False
        path = os.path.join(os.fsencode(self.mounted.mountpoint), *names)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError as error:
            log.debug("the kernel keeps the length of inode %d until it is closed: %s", inode, error)
            return False
        try:
            # Another file system may be mounted over ours. (A file of ours that needs no amends cannot be opened so.)
            if mount_number(descriptor) != self.mounted.number:
                return False
            os.ftruncate(descriptor, trio.from_thread.run_sync(self._vfs.amends.size_bytes, inode))
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
        if error.errno not in (errno.ENOENT, errno.ENODEV, errno.ENOTCONN):
            log.debug("pages of inode %d could not be dropped: %s", inode, error)
