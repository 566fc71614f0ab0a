"""Every durable action on files, so that a test can put a faulty disk in its place.

What must survive a crash goes through a ``Disk``. One method is about one system call, so a test can stop at the n-th of them and
forget what was not synced. Rules:

1. Errors of the operating system become ours here, with the path and what was attempted, by the table ``_ERRORS``; an errno that is
   not in it is DiskFailed.
2. ``write`` and ``pwrite`` write all or raise. After an error a leading part may have been written; the caller cuts it off.
3. Nothing is durable before ``fsync`` of the file returned, and a new, renamed or removed *name* not before ``fsync_folder`` of its
   folder. After a failed ``fsync`` the kernel marks the pages clean (lwn.net/Articles/752063), so a second one
   proves nothing: the caller must write the bytes again, elsewhere.
4. All methods block. ``Workers`` runs them on threads for the trio side; short ones (a ``write`` into the page cache) may be called
   directly.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TypeVar, TypeVarTuple

import trio

from bucketfs import errors

PathLike = str | os.PathLike[str]
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


@dataclass(eq=False, slots=True)
class DiskFile:
    """A file that a ``Disk`` has open. ``descriptor`` means something to that disk only."""

    descriptor: int
    path: str


class Disk:
    """The disk of this machine. Stateless; its methods may be called from any thread."""

    # Files

    def open(self, path: PathLike, *, create: bool = False, exclusive: bool = False) -> DiskFile:
        """Opens for reading and writing at offsets. NotFound, or Exists when ``exclusive`` and it is there already."""
        return self._open(path, os.O_RDWR, create, exclusive)

    def open_append(self, path: PathLike, *, create: bool = False, exclusive: bool = False) -> DiskFile:
        """Opens so that every ``write`` goes to the end of the file."""
        return self._open(path, os.O_RDWR | os.O_APPEND, create, exclusive)

    def _open(self, path: PathLike, flags: int, create: bool, exclusive: bool) -> DiskFile:
        flags |= os.O_CLOEXEC | (os.O_CREAT if create or exclusive else 0) | (os.O_EXCL if exclusive else 0)
        with _attempt("open", path):
            return DiskFile(os.open(path, flags, 0o600), os.fspath(path))

    def close(self, file: DiskFile) -> None:
        """Gives the descriptor back. Says nothing about durability."""
        with _attempt("close", file.path):
            os.close(file.descriptor)

    def write(self, file: DiskFile, data: bytes | memoryview) -> None:
        """Writes all of ``data`` at the end (``open_append``), nearly always with one write(2)."""
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(file.descriptor, rest) :]
        except OSError as error:
            _fail(error, "write to", file.path)

    def pwrite(self, file: DiskFile, offset: int, data: bytes | memoryview) -> None:
        """Writes all of ``data`` at ``offset`` bytes; the gap it may leave reads as zeros."""
        rest = memoryview(data)
        try:
            while rest:
                written = os.pwrite(file.descriptor, rest, offset)
                offset += written
                rest = rest[written:]
        except OSError as error:
            _fail(error, "write to", file.path)

    def pread(self, file: DiskFile, offset: int, size: int) -> bytes:
        """Reads ``size`` bytes at ``offset``; fewer only at the end of the file."""
        parts = []
        try:
            while size and (data := os.pread(file.descriptor, size, offset)):
                parts.append(data)
                size -= len(data)
                offset += len(data)
        except OSError as error:
            _fail(error, "read", file.path)
        return b"".join(parts)  # of one part the part itself, not a copy

    def size(self, file: DiskFile) -> int:
        """The file's length in bytes."""
        with _attempt("look at", file.path):
            return os.fstat(file.descriptor).st_size

    def fsync(self, file: DiskFile) -> None:
        """Returns when the file's bytes and length would survive a power loss; for its *name* see ``fsync_folder``."""
        with _attempt("sync", file.path):
            os.fsync(file.descriptor)

    def truncate(self, file: DiskFile, size: int) -> None:
        """Cuts the file to ``size`` bytes, or extends it with a hole."""
        with _attempt("cut", file.path):
            os.ftruncate(file.descriptor, size)

    def allocate(self, file: DiskFile, size: int) -> None:
        """Makes the file ``size`` bytes long and takes the room for them now. NoSpace leaves its length as it was."""
        before = self.size(file)
        try:
            os.posix_fallocate(file.descriptor, 0, size)
        except OSError as error:
            if before < size:
                self.truncate(file, before)
            _fail(error, "reserve room in", file.path)

    # Names

    def read_file(self, path: PathLike) -> bytes:
        """All bytes of the file. NotFound when it is absent."""
        with _attempt("read", path), open(path, "rb", buffering=0) as file:
            return file.read()

    def file_size(self, path: PathLike) -> int:
        """The length in bytes of what is at ``path``. NotFound when nothing is."""
        with _attempt("look at", path):
            return os.stat(path).st_size

    def replace_file(self, path: PathLike, data: bytes) -> None:
        """Durably puts ``data`` at ``path``: writes aside, syncs, renames over, syncs the folder. The old or the new bytes are
        there at every moment."""
        aside = f"{os.fspath(path)}.new"
        file = self.open(aside, create=True)
        try:
            self.truncate(file, 0)
            self.pwrite(file, 0, data)
            self.fsync(file)
        finally:
            self.close(file)
        self.rename(aside, path)
        self.fsync_folder(os.path.dirname(os.fspath(path)))

    def rename(self, old: PathLike, new: PathLike) -> None:
        """``old`` becomes ``new`` and replaces what stood there, in one step."""
        with _attempt("rename", old):
            os.rename(old, new)

    def unlink(self, path: PathLike) -> None:
        """The file at ``path`` is gone. NotFound when it was not there."""
        with _attempt("remove", path):
            os.unlink(path)

    # Folders

    def list_folder(self, path: PathLike) -> list[str]:
        """The names in the folder, in no order."""
        with _attempt("list", path):
            return os.listdir(path)

    def make_folder(self, path: PathLike) -> bool:
        """Makes the folder, for its owner alone. False when it was there already; NotFound when its parent is not."""
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            return False
        except OSError as error:
            _fail(error, "make the folder", path)
        return True

    def fsync_folder(self, path: PathLike) -> None:
        """Returns when the names in the folder would survive a power loss."""
        with _attempt("sync the folder", path):
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def free_bytes(self, path: PathLike) -> int:
        """How much an ordinary user may still write on the file system of ``path``."""
        with _attempt("look at", path):
            figures = os.statvfs(path)
        return figures.f_bavail * figures.f_frsize

    def lock_file(self, path: PathLike) -> DiskFile:
        """Takes the lock at ``path`` until the file is closed or the process ends. Busy when another process holds it."""
        file = self.open(path, create=True)
        try:
            # flock and not lockf: it belongs to the open file, so a second opener in the same process is refused as well.
            fcntl.flock(file.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.close(file)
            raise errors.Busy(f"{file.path} is locked by another process") from error
        except OSError as error:
            self.close(file)
            _fail(error, "lock", path)
        return file

    def is_locked(self, path: PathLike) -> bool:
        """Whether a process holds the lock at ``path``. While this asks, the lock cannot be taken. NotFound when there is no such
        file."""
        file = self.open(path)
        try:
            fcntl.flock(file.descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError as error:
            _fail(error, "look at the lock", path)
        finally:
            self.close(file)
        return False


def make_private_folder(folder: PathLike) -> None:
    """Makes ``folder`` and its missing parents, all with mode 0700 (``mkdir -p`` gives parents what the umask leaves, which may
    be open to all). Raises what `Disk.make_folder` raises."""
    path = Path(folder)
    for part in reversed((path, *path.parents)):
        if part.is_dir():
            continue
        try:
            os.mkdir(part, 0o700)
        except OSError as error:
            if part.is_dir():
                continue  # another process has made it meanwhile
            if isinstance(error, FileExistsError):
                raise errors.NotADirectory(f"cannot make the folder {path}: {part} is no folder") from error
            _fail(error, "make the folder", part)


def make_private_file(path: PathLike) -> None:
    """Makes the file, or leaves its bytes as they are, for its owner alone. SQLite would make a database with what the umask
    leaves; it gives -wal and -shm the mode of the database. Raises what `Disk.open` raises."""
    with _attempt("open", path):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        os.chmod(path, 0o600)


class Workers:
    """Threads for blocking work, at most ``threads_max`` at a time. With one thread, one after the other, in the order asked."""

    def __init__(self, threads_max: int = 1) -> None:
        self._limiter = trio.CapacityLimiter(threads_max)

    async def run(self, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """Runs ``work(*arguments)`` on a thread and returns what it returns. Once begun it is waited for even when the caller is
        cancelled, since a system call cannot be interrupted."""
        return await trio.to_thread.run_sync(work, *arguments, limiter=self._limiter)


_ERRORS: dict[int, type[errors.BucketfsError]] = {
    errno.ENOSPC: errors.NoSpace,
    errno.EDQUOT: errors.NoSpace,
    errno.ENOENT: errors.NotFound,
    errno.EEXIST: errors.Exists,
    errno.ENOTEMPTY: errors.NotEmpty,
    errno.ENOTDIR: errors.NotADirectory,
    errno.EISDIR: errors.IsADirectory,
    errno.EACCES: errors.Denied,
    errno.EPERM: errors.Denied,
    errno.EROFS: errors.ReadOnly,
    errno.EFBIG: errors.TooLarge,
    errno.EBUSY: errors.Busy,
    errno.EINVAL: errors.InvalidArgument,
    errno.ENAMETOOLONG: errors.NameTooLong,
    errno.EMFILE: errors.TooManyOpen,
    errno.ENFILE: errors.TooManyOpen,
}

_HINTS: dict[type[errors.BucketfsError], str] = {
    errors.ReadOnly: "make that disk writable; the kernel's log says why it is not",
    errors.NoSpace: "make room on that disk",
    errors.TooManyOpen: "raise the limit of open files (ulimit -n, or LimitNOFILE= of the service) and mount again",
}


@contextlib.contextmanager
def _attempt(verb: str, path: PathLike) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        _fail(error, verb, path)


def _fail(error: OSError, verb: str, path: PathLike) -> NoReturn:
    kind = _ERRORS.get(error.errno or 0, errors.DiskFailed)
    raise kind(f"cannot {verb} {os.fspath(path)}: {os.strerror(error.errno or 0)}", hint=_HINTS.get(kind, "")) from error
