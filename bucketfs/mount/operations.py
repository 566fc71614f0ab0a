"""The kernel's requests, translated into calls of the VFS and back.

A handler only translates: names are checked, attributes become pyfuse3's structures, errors become errnos by the one table.
``_answers`` wraps every handler that replies and makes two promises: a request is answered before its deadline, and no exception
but an errno reaches pyfuse3, where any other would end the mount.

A deadline cancels the handler where it waits; a handler that is past its last wait is never cut short. The answer is then EIO, as
for a Hub that is away, because that is what it means to the program that waits.

What pyfuse3 answers with ENOSYS, because no handler is here:

- Extended attributes. The kernel asks for ``security.capability`` before every write while ``getxattr`` is answered. After one
  ENOSYS it stops asking, and tells programs EOPNOTSUPP itself (fs/fuse/xattr.c: ``no_getxattr``).
- ``access``. With ``default_permissions`` the kernel decides from mode, uid and gid (fs/fuse/dir.c: ``fuse_permission``).

Refused: hard links (EPERM, as link(2) has it for a file system without them), device nodes, sockets and FIFOs (EPERM, mknod(2)).
"""

from __future__ import annotations

import functools
import logging
import stat
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FileInfo, FUSEError, ReaddirToken, RequestContext, SetattrFields, StatvfsData

from bucketfs.errors import InvalidArgument, NameInvalid, NotFound, NotPermitted, TimedOut
from bucketfs.mount.errno import errno_of
from bucketfs.mount.settings import MountSettings
from bucketfs.names import check_name_bytes
from bucketfs.types import Caller, FileHandle, Inode, Kind
from bucketfs.vfs import Attr, Opened, RenameFlags, SetAttr

if TYPE_CHECKING:
    from bucketfs.mount.amending import Amender
    from bucketfs.vfs import VFS

log = logging.getLogger(__name__)

PERMISSION_BITS = 0o7777
DOTS = (b".", b"..")
FRAGMENT_BYTES = 4096
NOW_WITHIN_NS = 15_000

_TYPE_BITS = {Kind.FILE: stat.S_IFREG, Kind.DIRECTORY: stat.S_IFDIR, Kind.SYMLINK: stat.S_IFLNK}

P = ParamSpec("P")
R = TypeVar("R")
Handler = Callable[Concatenate["Operations", P], Awaitable[R]]


def _answers(handler: Handler[P, R]) -> Callable[Concatenate[Operations, P], Coroutine[Any, Any, R]]:
    """Give ``handler`` a deadline and turn what it raises into an errno."""
    name = handler.__name__
    waits_for_hub = name in ("fsync", "fsyncdir")

    @functools.wraps(handler)
    async def answered(self: Operations, /, *args: P.args, **kwargs: P.kwargs) -> R:
        self.requests[name] += 1
        # Not trio.fail_after, which costs one generator more on each of ten thousand reads a second.
        limit_s = self._fsync_deadline_s if waits_for_hub else self.deadline_s
        with trio.CancelScope(deadline=trio.current_time() + limit_s):
            try:
                return await handler(self, *args, **kwargs)
            except FUSEError:
                raise
            except Exception as error:
                number = errno_of(error)
                log.debug("%s: %s: %s", name, type(error).__name__, error)
                raise FUSEError(number) from error
        self.overdue += 1
        log.warning("%s was not done after %.0f s and is answered with EIO", name, limit_s)
        raise FUSEError(errno_of(TimedOut(name)))

    return answered


class Operations(pyfuse3.Operations):
    """The handlers, over one VFS. ``requests`` counts them by name, ``overdue`` those that met their deadline; ``begun`` is set
    when the kernel sends its first."""

    # FUSE_EXPORT_SUPPORT: an NFS server finds a file again by looking up "." under its inode number.
    supports_dot_lookup = True
    # FUSE_WRITEBACK_CACHE: write(2) fills pages, which the kernel sends later in large requests, through whichever handle is open
    # for writing. It then keeps length and times of a regular file itself, and believes no answer about them (fs/fuse/inode.c:
    # fuse_change_attributes).
    enable_writeback_cache = True
    # With FUSE_POSIX_ACL the kernel would ask for ACLs, which no bucket holds.
    enable_acl = False

    def __init__(
        self, vfs: VFS, settings: MountSettings, amender: Amender, introduced: Callable[[Inode, bytes], None]
    ) -> None:
        """``introduced`` hears of each name that an answer tells the kernel of."""
        super().__init__()
        self.requests: Counter[str] = Counter()
        self.overdue = 0
        self.begun = trio.Event()
        self.deadline_s = settings.timeout_s + settings.grace_s
        self._fsync_deadline_s = max(self.deadline_s, settings.fsync_timeout_s)
        self._vfs = vfs
        self._amender = amender
        self._introduced = introduced
        self._entry_timeout_s = settings.entry_timeout_s
        self._attr_timeout_s = settings.attr_timeout_s
        self._negative_timeout_s = settings.negative_timeout_s

    def init(self) -> None:
        """The kernel has shaken hands. This set its limits to its defaults, so they may be raised from here on."""
        self.begun.set()

    # Names and attributes.

    @_answers
    async def lookup(self, parent_inode: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        """A name's attributes. A missing name is answered by inode 0, when the kernel may remember that."""
        parent = Inode(parent_inode)
        if name == b".":
            # The answer counts as a lookup. `vfs.lookup` counts its own, `getattr` counts none.
            attr = await self._vfs.getattr(parent)
            self._vfs.remember(parent)
            return self._entry(attr)
        try:
            check_name_bytes(name)
        except NameInvalid as error:
            # Looking for a name that cannot be there is ENOENT; only making one is refused with the reason.
            raise NotFound(str(error)) from error
        try:
            return self._named(parent, name, await self._vfs.lookup(parent, name))
        except NotFound:
            if not self._negative_timeout_s:
                raise
            # Inode 0 with a time to live is a negative entry (fuse_lowlevel.h: fuse_entry_param).
            nothing = EntryAttributes()
            nothing.entry_timeout = self._negative_timeout_s
            return nothing

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        """The kernel gives back that many lookups of each inode."""
        try:
            self._vfs.forget([(Inode(inode), count) for inode, count in inode_list])
        except Exception as error:
            # FUSE_FORGET has no answer, so pyfuse3 cannot pass an errno on: the error is logged.
            errno_of(error)

    @_answers
    async def getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
        attr = await self._vfs.getattr(Inode(inode))
        # The kernel sends the thread's id for the pid. The Amender's own thread must not wait here for what it does itself.
        if not attr.settled and ctx.pid != self._amender.thread:
            await self._vfs.failures.settled(attr.inode)
            attr = await self._vfs.getattr(Inode(inode))
        return self._entry(attr)

    @_answers
    async def setattr(
        self, inode: int, attr: EntryAttributes, fields: SetattrFields, fh: int | None, ctx: RequestContext
    ) -> EntryAttributes:
        """Change what ``fields`` name. With the writeback cache a ctime may be among them: the kernel stamps regular files itself
        and sends the times here later (fs/fuse/dir.c: ``fuse_flush_times``)."""
        change = SetAttr(
            mode=attr.st_mode & PERMISSION_BITS if fields.update_mode else None,
            uid=attr.st_uid if fields.update_uid else None,
            gid=attr.st_gid if fields.update_gid else None,
            size_bytes=attr.st_size if fields.update_size else None,
            atime_ns=attr.st_atime_ns if fields.update_atime else None,
            mtime_ns=self._not_ahead(attr.st_mtime_ns, fields) if fields.update_mtime else None,
            ctime_ns=attr.st_ctime_ns if fields.update_ctime else None,
        )
        handle = None if fh is None else FileHandle(fh)
        return self._entry(await self._vfs.setattr(Inode(inode), change, handle, _caller(ctx)))

    @_answers
    async def readlink(self, inode: int, ctx: RequestContext) -> bytes:
        return bytes(await self._vfs.readlink(Inode(inode)))

    # Making, removing, renaming.

    @_answers
    async def mknod(self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: RequestContext) -> EntryAttributes:
        """An empty regular file, which an NFS server makes like this. Raises NotPermitted for any other kind."""
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            raise NotPermitted("a bucket holds files, folders and symlinks only")
        check_name_bytes(name)
        opened, attr = await self._vfs.create(Inode(parent_inode), name, mode & PERMISSION_BITS, 0, _caller(ctx))
        # The file exists now and counts as looked up. Should the deadline end this release, the kernel would get an error instead
        # of the inode, and never forget it.
        with trio.CancelScope(shield=True):
            await self._vfs.files.release(opened.handle)
        return self._named(Inode(parent_inode), name, attr)

    @_answers
    async def mkdir(self, parent_inode: int, name: bytes, mode: int, ctx: RequestContext) -> EntryAttributes:
        check_name_bytes(name)
        parent = Inode(parent_inode)
        return self._named(parent, name, await self._vfs.mkdir(parent, name, mode & PERMISSION_BITS, _caller(ctx)))

    @_answers
    async def symlink(self, parent_inode: int, name: bytes, target: bytes, ctx: RequestContext) -> EntryAttributes:
        check_name_bytes(name)
        parent = Inode(parent_inode)
        return self._named(parent, name, await self._vfs.symlink(parent, name, target, _caller(ctx)))

    @_answers
    async def link(self, inode: int, new_parent_inode: int, new_name: bytes, ctx: RequestContext) -> EntryAttributes:
        raise NotPermitted("a bucket has no hard links")

    @_answers
    async def unlink(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        check_name_bytes(name)
        await self._vfs.unlink(Inode(parent_inode), name, _caller(ctx))

    @_answers
    async def rmdir(self, parent_inode: int, name: bytes, ctx: RequestContext) -> None:
        check_name_bytes(name)
        await self._vfs.rmdir(Inode(parent_inode), name, _caller(ctx))

    @_answers
    async def rename(
        self, parent_inode_old: int, name_old: bytes, parent_inode_new: int, name_new: bytes, flags: int, ctx: RequestContext
    ) -> None:
        """Rename; the flags are renameat2(2)'s. RENAME_WHITEOUT would make a device node, which no bucket holds."""
        check_name_bytes(name_old)
        check_name_bytes(name_new)
        if flags not in (RenameFlags.NONE, RenameFlags.NOREPLACE, RenameFlags.EXCHANGE):
            raise InvalidArgument(f"rename flags {flags:#x}")
        await self._vfs.rename(
            Inode(parent_inode_old), name_old, Inode(parent_inode_new), name_new, RenameFlags(flags), _caller(ctx)
        )

    # Files.

    @_answers
    async def open(self, inode: int, flags: int, ctx: RequestContext) -> FileInfo:
        if ctx.pid == self._amender.thread:
            return _file_info(self._vfs.failures.open(Inode(inode)))
        return _file_info(await self._vfs.open(Inode(inode), flags, _caller(ctx)))

    @_answers
    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: RequestContext
    ) -> tuple[FileInfo, EntryAttributes]:
        check_name_bytes(name)
        opened, attr = await self._vfs.create(Inode(parent_inode), name, mode & PERMISSION_BITS, flags, _caller(ctx))
        return _file_info(opened), self._named(Inode(parent_inode), name, attr)

    @_answers
    async def read(self, fh: int, off: int, size: int) -> bytes:
        return await self._vfs.files.read(FileHandle(fh), off, size)

    @_answers
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        # Write-back: ``fh`` is any handle open for writing, and the program that wrote may be gone (fs/fuse/file.c:
        # fuse_write_file_get). So there is no caller whose permissions could be checked.
        return await self._vfs.files.write(FileHandle(fh), off, buf)

    @_answers
    async def flush(self, fh: int) -> None:
        # Once for each close(2) of a descriptor, so several times for one open(2) after dup(2) or fork(2).
        await self._vfs.files.flush(FileHandle(fh))

    @_answers
    async def release(self, fh: int) -> None:
        # After the last close(2), which does not wait for it: an error would reach no program.
        await self._vfs.files.release(FileHandle(fh))

    @_answers
    async def fsync(self, fh: int, datasync: bool) -> None:
        await self._vfs.files.fsync(FileHandle(fh), datasync)

    # Directories.

    @_answers
    async def opendir(self, inode: int, ctx: RequestContext) -> int:
        return await self._vfs.opendir(Inode(inode), _caller(ctx))

    @_answers
    async def readdir(self, fh: int, start_id: int, token: ReaddirToken) -> None:
        """Fill the kernel's buffer: ``.`` and ``..``, then what the VFS lists. With FUSE_READDIRPLUS each entry that fits counts
        as a lookup, unless the whole answer becomes an error. The kernel does not count the first two (fs/fuse/readdir.c:
        ``fuse_direntplus_link``)."""
        handle = FileHandle(fh)
        if start_id < len(DOTS):
            for number, (name, attr) in enumerate(zip(DOTS, self._vfs.dots(handle), strict=True), 1):
                if number > start_id and not pyfuse3.readdir_reply(token, name, self._entry(attr), number):
                    return
        position = max(start_id - len(DOTS), 0)
        accepted: list[tuple[Inode, int]] = []
        try:
            while batch := await self._vfs.readdir(handle, position):
                for entry in batch:
                    if not pyfuse3.readdir_reply(token, entry.name, self._entry(entry.attr), entry.next_id + len(DOTS)):
                        return
                    self._vfs.remember(entry.attr.inode)
                    accepted.append((entry.attr.inode, 1))
                    position = entry.next_id
        except BaseException:
            self._vfs.forget(accepted)
            raise

    @_answers
    async def releasedir(self, fh: int) -> None:
        await self._vfs.releasedir(FileHandle(fh))

    @_answers
    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        await self._vfs.fsyncdir(FileHandle(fh))

    @_answers
    async def statfs(self, ctx: RequestContext) -> StatvfsData:
        facts = self._vfs.statfs()
        reply = StatvfsData()
        reply.f_bsize = reply.f_frsize = facts.block_size
        reply.f_blocks = facts.blocks
        # No share of the blocks is reserved for root, so both are the same.
        reply.f_bfree = reply.f_bavail = facts.blocks_free
        reply.f_files = facts.files
        reply.f_ffree = reply.f_favail = facts.files_free
        reply.f_namemax = facts.name_max
        return reply

    def _not_ahead(self, time_ns: int, fields: SetattrFields) -> int:
        """An mtime to set; one that means "now" becomes now by the mount's clock.

        For UTIME_NOW pyfuse3 reads a finer clock than the one files are stamped with, and does not tell the two cases apart: what
        is made next would be older than what was touched before. But pyfuse3 reads the clock within the call that leads here,
        while a time that a program has read needs longer to get here. (Times of regular files come from the kernel, with a
        ctime.)
        """
        now = not fields.update_ctime and 0 <= time.time_ns() - time_ns < NOW_WITHIN_NS
        return self._vfs.owner.now_ns() if now else time_ns

    def _named(self, parent: Inode, name: bytes, attr: Attr) -> EntryAttributes:
        self._introduced(parent, name)
        return self._entry(attr)

    def _entry(self, attr: Attr) -> EntryAttributes:
        entry = EntryAttributes()
        entry.st_ino = attr.inode
        entry.entry_timeout = self._entry_timeout_s
        # While a failed write is being repaired the kernel must ask for the length again each time.
        entry.attr_timeout = self._attr_timeout_s if attr.settled else 0
        entry.st_mode = _TYPE_BITS[attr.kind] | attr.mode
        entry.st_nlink = attr.nlink
        entry.st_uid = attr.uid
        entry.st_gid = attr.gid
        entry.st_size = attr.size_bytes
        entry.st_blksize = FRAGMENT_BYTES
        entry.st_blocks = attr.blocks
        entry.st_atime_ns = attr.atime_ns
        entry.st_mtime_ns = attr.mtime_ns
        entry.st_ctime_ns = attr.ctime_ns
        return entry


def _caller(ctx: RequestContext) -> Caller:
    # Not the umask: without FUSE_DONT_MASK the kernel has applied it to the mode already (fs/fuse/dir.c: fuse_create_open).
    return Caller(ctx.uid, ctx.gid)


def _file_info(opened: Opened) -> FileInfo:
    return FileInfo(fh=opened.handle, keep_cache=opened.keep_cache)
