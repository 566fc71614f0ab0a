"""Pack files: where the Hub keeps blocks that are too large for a row of a database.

A pack is blocks' bytes one after another and nothing else; which bytes are which block stands in the index (blockindex.py),
whose rows are written only after the pack was synced. So a pack may end in bytes that no row names (a crash, a failed
batch): a writer that adopts the pack cuts them off, and until then no reader looks at them.

One file per block would cost a create, a rename and a sync each: measured, a third of the speed of appending a batch and
syncing once. A pack is appended to by one process at a time, which holds an exclusive ``flock`` on it; readers need no lock.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bucketfs.errors import BucketfsError, DiskFailed, NoSpace, NotFound

READERS_MAX = 128
_WRITE_PIECES_MAX = 512  # well below IOV_MAX
_PUNCH_AND_KEEP_SIZE = 0x02 | 0x01  # FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE of <linux/falloc.h>

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


def disk_error(error: OSError, what: str) -> BucketfsError:
    """An ``OSError`` of the store's disk as one of ours."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(f"{what}: the disk of the hub is full")
    return DiskFailed(f"{what}: {error.strerror or error}")


class PackWriter:
    """The one pack that this process appends to. Not thread-safe: the block store's write lock is held around every call."""

    def __init__(self, path: Path, number: int, descriptor: int, end: int) -> None:
        self.path = path
        self.number = number
        self.end = end
        self._descriptor = descriptor

    @classmethod
    def create(cls, path: Path, number: int) -> PackWriter:
        """A new empty pack, its name durable. Raises NoSpace, DiskFailed."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise disk_error(error, "making a pack") from error
        return cls(path, number, descriptor, 0)

    @classmethod
    def adopt(cls, path: Path, number: int) -> PackWriter | None:
        """An existing pack to go on with; ``None`` when gone or in use by another process. ``cut`` it before appending."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found = os.fstat(descriptor)
        except OSError:
            os.close(descriptor)
            return None
        if found.st_nlink == 0:  # the collector removed it between our open and our lock
            os.close(descriptor)
            return None
        return cls(path, number, descriptor, found.st_size)

    def cut(self, end: int) -> None:
        """Drops everything from ``end`` on: bytes that no row of the index names."""
        try:
            os.ftruncate(self._descriptor, end)
        except OSError as error:
            raise disk_error(error, "cutting a pack") from error
        self.end = end

    def append(self, pieces: Sequence[bytes]) -> int:
        """Appends all pieces and returns the offset of the first; when they do not all fit, none is there and it raises."""
        start = self.end
        try:
            for index in range(0, len(pieces), _WRITE_PIECES_MAX):
                self._write_all(pieces[index : index + _WRITE_PIECES_MAX])
        except OSError as error:
            self.cut(start)
            raise disk_error(error, "storing blocks") from error
        return start

    def _write_all(self, pieces: Sequence[bytes]) -> None:
        total = sum(map(len, pieces))
        written = os.pwritev(self._descriptor, pieces, self.end)
        self.end += written
        if written == total:
            return
        # A short write is rare (the disk is nearly full): go on with one flat buffer until an error says why.
        rest = memoryview(b"".join(pieces))[written:]
        while rest:
            count = os.pwrite(self._descriptor, rest, self.end)
            self.end += count
            rest = rest[count:]

    def sync(self) -> None:
        """Everything appended so far survives a power cut. Raises NoSpace, DiskFailed."""
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            raise disk_error(error, "syncing a pack") from error

    def close(self) -> None:
        """Gives the pack and its lock up."""
        os.close(self._descriptor)


class PackReaders:
    """Open descriptors of packs, for reading from many threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._open: OrderedDict[int, int] = OrderedDict()
        self._users: dict[int, int] = {}
        self._closing: set[int] = set()

    def read(self, number: int, offset: int, size_bytes: int) -> bytes:
        """Up to ``size_bytes`` bytes, fewer when the pack ends before. NotFound when the pack is gone, else DiskFailed."""
        descriptor = self._take(number)
        try:
            return os.pread(descriptor, size_bytes, offset)
        except OSError as error:
            raise disk_error(error, "reading a block") from error
        finally:
            self._give_back(descriptor)

    def close(self) -> None:
        """Closes every descriptor that is not in use, and the others when they come back."""
        self.prune(*self._open)

    def prune(self, *numbers: int) -> None:
        """Closes these packs: an open descriptor keeps the space of a removed file."""
        with self._lock:
            for number in numbers:
                if number in self._open:
                    self._retire(self._open.pop(number))

    def prune_removed(self) -> None:
        """Closes packs that another process has removed."""
        self.prune(*(number for number in list(self._open) if not pack_path(self._folder, number).exists()))

    def _take(self, number: int) -> int:
        with self._lock:
            descriptor = self._open.get(number)
            if descriptor is None:
                try:
                    descriptor = os.open(pack_path(self._folder, number), os.O_RDONLY | os.O_CLOEXEC)
                except FileNotFoundError as error:
                    raise NotFound(f"pack {number} is gone") from error
                except OSError as error:
                    raise disk_error(error, "opening a pack") from error
                self._open[number] = descriptor
                if len(self._open) > READERS_MAX:
                    self._retire(self._open.popitem(last=False)[1])
            else:
                self._open.move_to_end(number)
            self._users[descriptor] = self._users.get(descriptor, 0) + 1
            return descriptor

    def _give_back(self, descriptor: int) -> None:
        with self._lock:
            self._users[descriptor] -= 1
            if not self._users[descriptor]:
                del self._users[descriptor]
                if descriptor in self._closing:
                    self._closing.discard(descriptor)
                    os.close(descriptor)

    def _retire(self, descriptor: int) -> None:
        # A descriptor in use must not be closed: its number could be given to another file under the reader's hands.
        if descriptor in self._users:
            self._closing.add(descriptor)
        else:
            os.close(descriptor)


@contextmanager
def open_pack(folder: Path, number: int) -> Iterator[int | None]:
    """The descriptor of a pack for `punch`, None when the pack is gone. Raises DiskFailed."""
    try:
        descriptor = os.open(pack_path(folder, number), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        yield None
        return
    except OSError as error:
        raise disk_error(error, "opening a pack") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def punch(descriptor: int | None, offset: int, size_bytes: int) -> None:
    """Give the room of some bytes of a pack back to the disk; they read as zeros. Nothing happens where the file system has no
    holes, or the pack is gone. Raises DiskFailed."""
    if descriptor is None:
        return
    if _libc.fallocate(descriptor, _PUNCH_AND_KEEP_SIZE, offset, size_bytes):
        number = ctypes.get_errno()
        if number not in (errno.EOPNOTSUPP, errno.ENOSYS):
            raise disk_error(OSError(number, os.strerror(number)), "freeing a part of a pack")


def pack_path(folder: Path, number: int) -> Path:
    """The file of a pack."""
    return folder / f"{number:08d}.pack"
