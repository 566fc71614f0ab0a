"""The least a pyfuse3 file system in Python can be: every request goes straight to a folder below.

It is the measure of what FUSE, pyfuse3 and Python cost before bucketfs has done anything; benchmarks run beside it. It does
its disk calls on the trio thread, and is not meant for anything else.

    python tests/bench/passthrough.py SOURCE MOUNTPOINT     serves in the foreground; writes "ready" when it is
"""

from __future__ import annotations

import errno
import faulthandler
import os
import stat
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyfuse3
import trio

TTL_S = 3600.0
"""Long, as bucketfs has it: only this process changes the folder."""

STAT_FIELDS = ["st_mode", "st_nlink", "st_uid", "st_gid", "st_rdev", "st_size", "st_atime_ns", "st_mtime_ns", "st_ctime_ns"]
STATVFS_FIELDS = ["f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree", "f_favail", "f_namemax"]


@contextmanager
def as_fuse_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise pyfuse3.FUSEError(error.errno or errno.EIO) from None


class Passthrough(pyfuse3.Operations):
    """Inode numbers are those below; a path is kept for each that the kernel knows."""

    supports_dot_lookup = True
    enable_writeback_cache = True

    def __init__(self, source: str) -> None:
        super().__init__()
        self._source = os.fsencode(source)
        self._paths: dict[int, bytes] = {pyfuse3.ROOT_INODE: self._source}
        self._lookups: defaultdict[int, int] = defaultdict(int)

    # Names

    def _child(self, parent: int, name: bytes) -> bytes:
        return os.path.join(self._paths[parent], name)

    def _attributes(self, path: bytes, *, looked_up: bool = False) -> pyfuse3.EntryAttributes:
        with as_fuse_errors():
            found = os.lstat(path)
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = pyfuse3.ROOT_INODE if path == self._source else found.st_ino
        for name in (
            "st_mode",
            "st_nlink",
            "st_uid",
            "st_gid",
            "st_rdev",
            "st_size",
            "st_atime_ns",
            "st_mtime_ns",
            "st_ctime_ns",
        ):
            setattr(entry, name, getattr(found, name))
        entry.st_blksize = 4096
        entry.st_blocks = found.st_blocks
        entry.generation = 0
        entry.attr_timeout = entry.entry_timeout = TTL_S
        if looked_up:
            self._paths[entry.st_ino] = path
            self._lookups[entry.st_ino] += 1
        return entry

    async def lookup(self, parent_inode: Any, name: Any, ctx: Any) -> Any:
        return self._attributes(self._child(parent_inode, name), looked_up=True)

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        for inode, count in inode_list:
            self._lookups[inode] -= count
            if self._lookups[inode] <= 0 and inode != pyfuse3.ROOT_INODE:
                self._lookups.pop(inode)
                self._paths.pop(inode, None)

    async def getattr(self, inode: Any, ctx: Any) -> Any:
        return self._attributes(self._paths[inode])

    async def setattr(self, inode: Any, attr: Any, fields: Any, fh: Any, ctx: Any) -> Any:
        path = self._paths[inode]
        with as_fuse_errors():
            if fields.update_size:
                os.truncate(path, attr.st_size)
            if fields.update_mode:
                os.chmod(path, stat.S_IMODE(attr.st_mode))
            if fields.update_uid or fields.update_gid:
                uid = attr.st_uid if fields.update_uid else -1
                os.chown(path, uid, attr.st_gid if fields.update_gid else -1, follow_symlinks=False)
            if fields.update_atime or fields.update_mtime:
                now = os.lstat(path)
                atime = attr.st_atime_ns if fields.update_atime else now.st_atime_ns
                mtime = attr.st_mtime_ns if fields.update_mtime else now.st_mtime_ns
                os.utime(path, ns=(atime, mtime), follow_symlinks=False)
        return self._attributes(path)

    async def readlink(self, inode: Any, ctx: Any) -> Any:
        with as_fuse_errors():
            return os.readlink(self._paths[inode])

    async def symlink(self, parent_inode: Any, name: Any, target: Any, ctx: Any) -> Any:
        path = self._child(parent_inode, name)
        with as_fuse_errors():
            os.symlink(target, path)
        return self._attributes(path, looked_up=True)

    async def mkdir(self, parent_inode: Any, name: Any, mode: Any, ctx: Any) -> Any:
        path = self._child(parent_inode, name)
        with as_fuse_errors():
            os.mkdir(path, mode & ~ctx.umask)
        return self._attributes(path, looked_up=True)

    async def unlink(self, parent_inode: Any, name: Any, ctx: Any) -> Any:
        with as_fuse_errors():
            os.unlink(self._child(parent_inode, name))

    async def rmdir(self, parent_inode: Any, name: Any, ctx: Any) -> Any:
        with as_fuse_errors():
            os.rmdir(self._child(parent_inode, name))

    async def rename(
        self, parent_inode_old: Any, name_old: Any, parent_inode_new: Any, name_new: Any, flags: Any, ctx: Any
    ) -> Any:
        if flags:
            raise pyfuse3.FUSEError(errno.EINVAL)
        old, new = self._child(parent_inode_old, name_old), self._child(parent_inode_new, name_new)
        with as_fuse_errors():
            moved = os.lstat(old).st_ino
            os.rename(old, new)
        # Paths below a moved directory are stale until looked up again; no benchmark moves one.
        if moved in self._paths:
            self._paths[moved] = new

    async def statfs(self, ctx: Any) -> Any:
        found = os.statvfs(self._source)
        answer = pyfuse3.StatvfsData()
        for name in (
            "f_bsize",
            "f_frsize",
            "f_blocks",
            "f_bfree",
            "f_bavail",
            "f_files",
            "f_ffree",
            "f_favail",
            "f_namemax",
        ):
            setattr(answer, name, getattr(found, name))
        return answer

    # Directories: a handle is the inode; a listing is taken anew for each batch, in name order

    async def opendir(self, inode: Any, ctx: Any) -> Any:
        return inode

    async def readdir(self, fh: Any, start_id: Any, token: Any) -> Any:
        path = self._paths[fh]
        with as_fuse_errors():
            names = sorted(os.listdir(path))
        for number, name in enumerate(names[start_id:], start_id + 1):
            entry = self._attributes(os.path.join(path, name))
            if not pyfuse3.readdir_reply(token, name, entry, number):
                return
            self._paths[entry.st_ino] = os.path.join(path, name)
            self._lookups[entry.st_ino] += 1

    async def fsyncdir(self, fh: Any, datasync: Any) -> Any:
        return None

    # Bytes: a handle is a file descriptor

    def _open(self, path: bytes, flags: int, mode: int = 0) -> int:
        # With the write-back cache the kernel reads to fill pages and places appends itself.
        if flags & os.O_ACCMODE == os.O_WRONLY:
            flags = flags & ~os.O_ACCMODE | os.O_RDWR
        with as_fuse_errors():
            return os.open(path, flags & ~os.O_APPEND, mode)

    async def open(self, inode: Any, flags: Any, ctx: Any) -> Any:
        return pyfuse3.FileInfo(fh=self._open(self._paths[inode], flags & ~(os.O_CREAT | os.O_EXCL)), keep_cache=True)

    async def create(self, parent_inode: Any, name: Any, mode: Any, flags: Any, ctx: Any) -> Any:
        path = self._child(parent_inode, name)
        descriptor = self._open(path, flags | os.O_CREAT, mode & ~ctx.umask)
        return pyfuse3.FileInfo(fh=descriptor, keep_cache=True), self._attributes(path, looked_up=True)

    async def read(self, fh: Any, off: Any, size: Any) -> Any:
        with as_fuse_errors():
            return os.pread(fh, size, off)

    async def write(self, fh: Any, off: Any, buf: Any) -> Any:
        with as_fuse_errors():
            return os.pwrite(fh, buf, off)

    async def flush(self, fh: Any) -> Any:
        return None

    async def release(self, fh: Any) -> Any:
        os.close(fh)

    async def fsync(self, fh: Any, datasync: Any) -> Any:
        with as_fuse_errors():
            os.fdatasync(fh) if datasync else os.fsync(fh)


async def serve() -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await pyfuse3.main()


def main() -> None:
    faulthandler.enable()
    source, mountpoint = sys.argv[1:]
    options = set(pyfuse3.default_options) | {"fsname=passthrough"}
    options.discard("default_permissions")
    pyfuse3.init(Passthrough(os.path.abspath(source)), mountpoint, options)
    try:
        trio.run(serve)
    finally:
        pyfuse3.close(unmount=True)


if __name__ == "__main__":
    main()
