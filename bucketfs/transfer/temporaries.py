"""Temporaries in users' folders: files and symlinks are written beside their names and renamed; later runs remove those of dead
ones.

A temporary is called ``.bucketfs-aside-TOKEN-COUNT``. TOKEN is 32 hex digits drawn for the run. Before the run makes its first
file, TOKEN is listed in the state folder of the user, on the disk, in a file that is locked while the run lives. So the exact
form of a name and the list tell that we made it, and whether the run is alive. Any other name that begins with
``.bucketfs-aside-`` is a user's: it is neither skipped nor removed.

    state/aside/TOKEN    {"top": "2f686f6d65…", "inode": 1234}    the folder that the run writes into, its path in hex
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path

from bucketfs.dag import LEAF_SIZE
from bucketfs.disk import Disk
from bucketfs.errors import BucketfsError, Busy, NotFound
from bucketfs.transfer.local_fs import PLAIN, LocalEntry, LocalFs, Preserve, ours
from bucketfs.types import NodeAttributes

ASIDE_PREFIX = b".bucketfs-aside-"

UNNAMED_S = 3600.0
"""After this time an entry without its name is a dead run's."""

_ZERO_LEAF = bytes(LEAF_SIZE)
_NAME = re.compile(re.escape(ASIDE_PREFIX) + rb"([0-9a-f]{32})-[0-9]+")
_TOKEN = re.compile(r"[0-9a-f]{32}")


class Temporaries:
    """The names of one run's temporaries. Without a ``place``, the folder of the list, they are known to this run only."""

    def __init__(self, place: Path | None = None) -> None:
        self._place = place
        self._token = secrets.token_hex(16)
        self._counts = itertools.count()
        self._standing: set[bytes] = set()

    @property
    def token(self) -> str:
        """What the names of this run have in them."""
        return self._token

    @property
    def standing(self) -> set[bytes]:
        """The paths that were given out and not freed."""
        return self._standing

    def new(self, path: bytes) -> bytes:
        """A path beside ``path`` for a temporary."""
        name = b"%s%s-%d" % (ASIDE_PREFIX, self._token.encode(), next(self._counts))
        aside = os.path.join(os.path.dirname(path), name)
        self._standing.add(aside)
        return aside

    def free(self, aside: bytes) -> None:
        """Nothing stands at this path any more."""
        self._standing.discard(aside)

    def is_temporary(self, name: bytes) -> bool:
        """Whether a run of this user, alive or dead, made what has this name."""
        token = _token_of(name)
        if token is None:
            return False
        return token == self._token or (self._place is not None and (self._place / token).exists())

    def clear_dead(self, top: bytes) -> int:
        """Removes what dead runs have left in ``top``, or in a folder around or inside it; the count of files. A run whose folder
        is not there, or is another one, stays listed."""
        if self._place is None:
            return 0
        removed = 0
        disk = Disk()
        for token in sorted(os.listdir(self._place)):
            if token.startswith("."):
                _clear_unnamed(disk, self._place / token)
            if _TOKEN.fullmatch(token) is None or token == self._token:
                continue
            file = self._place / token
            with suppress(Busy, NotFound):
                # As long as its lock is held, the run is alive.
                lock = disk.lock_file(file)
                try:
                    removed += _clear_run(disk, file, token, top)
                finally:
                    disk.close(lock)
        return removed


class _Temporary:
    """Something written beside its name, which takes its place when it is complete. ``entry`` is its status then."""

    def __init__(self, fs: LocalFs, path: bytes, temporaries: Temporaries) -> None:
        self.path = path
        self._fs = fs
        self._temporaries = temporaries
        self._where = temporaries.new(path)
        self._stands = False
        self.entry: LocalEntry

    def place(self) -> LocalEntry:
        """Renames; the status under the new name, which itself is the business of `LocalFs.sync_folder`."""
        with ours("writing", self.path):
            self._fs.calls.replace(self._where, self.path)
            self._stands = False
            self._temporaries.free(self._where)
            return self._fs.entry_of(os.path.basename(self.path), self._status())

    def abandon(self) -> None:
        """Removes it, unless it was placed."""
        if self._stands:
            self._stands = False
            with suppress(FileNotFoundError):
                self._unlink()
        self._temporaries.free(self._where)

    def _status(self) -> os.stat_result:
        return os.lstat(self.path)

    def _unlink(self) -> None:
        self._fs.calls.unlink(self._where)


class AsideFile(_Temporary):
    """A file of ``size_bytes``, a hole until it is written. ``quiet``: the folder that it is written in is not being changed by us
    otherwise, and keeps its time."""

    def __init__(self, fs: LocalFs, path: bytes, size_bytes: int, temporaries: Temporaries, *, quiet: bool = False) -> None:
        super().__init__(fs, path, temporaries)
        self._quiet = quiet
        self._file = -1
        try:
            with ours("writing", path):
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                with self._folder_kept():
                    self._file = fs.calls.open(self._where, flags, 0o600)
                self._stands = True
                fs.calls.ftruncate(self._file, size_bytes)
        except BucketfsError:
            # Also a size that this file system cannot have.
            self.abandon()
            raise

    def write(self, pieces: Sequence[tuple[int, bytes]]) -> None:
        """Bytes at offsets. Leaves of zeros stay holes."""
        with ours("writing", self.path):
            for offset, data in pieces:
                if data == _ZERO_LEAF:
                    continue
                view = memoryview(data)
                while view:
                    written = self._fs.calls.pwrite(self._file, view, offset)
                    view, offset = view[written:], offset + written

    def empty(self, size_bytes: int) -> None:
        """Forgets what was written: all of it is a hole again."""
        with ours("writing", self.path):
            self._fs.calls.ftruncate(self._file, 0)
            self._fs.calls.ftruncate(self._file, size_bytes)

    def sync(self) -> None:
        """Returns when the bytes are on the disk."""
        with ours("writing", self.path):
            self._fs.calls.fsync(self._file)

    def complete(
        self, attributes: NodeAttributes, mode_default: int, *, durable: bool = False, preserve: Preserve = PLAIN
    ) -> None:
        """Sets what the attributes say. ``durable``: the bytes are on the disk when it returns."""
        calls = self._fs.calls
        with ours("writing", self.path):
            # chown(2) clears the special bits, so the mode is set after the owner.
            self._fs.set_owner(self._file, attributes, preserve)
            calls.fchmod(self._file, preserve.mode(mode_default if attributes.mode is None else attributes.mode))
            if attributes.mtime_ns is not None:
                calls.utime(self._file, ns=(attributes.mtime_ns, attributes.mtime_ns))
            if durable:
                calls.fsync(self._file)
            self.entry = self._fs.entry_of(os.path.basename(self.path), os.fstat(self._file))

    def _status(self) -> os.stat_result:
        # Of the open file: by now the user may have put another one under the name.
        status = os.fstat(self._file)
        self._close()
        return status

    def _unlink(self) -> None:
        self._close()
        with self._folder_kept():
            super()._unlink()

    def _close(self) -> None:
        file, self._file = self._file, -1
        os.close(file)

    def _folder_kept(self) -> AbstractContextManager[None]:
        return self._fs.quietly(os.path.dirname(self._where)) if self._quiet else nullcontext()


class AsideLink(_Temporary):
    """A symlink."""

    def __init__(
        self, fs: LocalFs, path: bytes, target: bytes, attributes: NodeAttributes, temporaries: Temporaries
    ) -> None:
        super().__init__(fs, path, temporaries)
        try:
            with ours("making link", path):
                fs.calls.symlink(target, self._where)
                self._stands = True
                if attributes.mtime_ns is not None:
                    mtimes_ns = (attributes.mtime_ns, attributes.mtime_ns)
                    fs.calls.utime(self._where, ns=mtimes_ns, follow_symlinks=False)
                self.entry = fs.entry_of(os.path.basename(path), os.lstat(self._where))
        except BucketfsError:
            self.abandon()
            raise


# Runs and their list


@contextmanager
def listed_temporaries(place: Path, local: Path) -> Iterator[Temporaries]:
    """Names for a run that writes the folder or file ``local``, listed in the folder ``place`` while it lives. What dead runs left
    there is removed first. Raises what a disk raises."""
    top = os.path.realpath(os.fsencode(local))
    temporaries = Temporaries(place)
    temporaries.clear_dead(top)
    disk = Disk()
    new, file = place / f".{temporaries.token}", place / temporaries.token
    # Locked before it has its name: an entry without a lock is a dead run's.
    lock = disk.lock_file(new)
    try:
        disk.pwrite(lock, 0, json.dumps({"top": top.hex(), "inode": _inode_of_folder(top)}).encode())
        disk.fsync(lock)
        disk.rename(new, file)
        disk.fsync_folder(place)
        yield temporaries
        if not temporaries.standing:
            disk.unlink(file)
    except BaseException:
        if not temporaries.standing:
            # When the disk is full, it has its first name still.
            for one in (new, file):
                with suppress(BucketfsError):
                    disk.unlink(one)
        raise
    finally:
        disk.close(lock)


def _clear_unnamed(disk: Disk, file: Path) -> None:
    """Removes the entry of a run that was killed before the entry had its name. A young one may be on its way to it."""
    with suppress(FileNotFoundError):
        if time.time() - file.stat().st_mtime > UNNAMED_S:
            disk.unlink(file)


def _clear_run(disk: Disk, file: Path, token: str, top: bytes) -> int:
    """Removes what a dead run has left, and then its entry, unless something could not be looked at."""
    stored = json.loads(disk.read_file(file))
    there = bytes.fromhex(stored["top"])
    inode = _inode_of_folder(there)
    if not _overlap(there, top) or stored["inode"] not in (0, inode):
        return 0
    # What was written for a single file stood beside it.
    count, complete = _clear_folder(os.path.dirname(there), token, [])
    waiting = [there] if inode else []
    while waiting:
        here, looked = _clear_folder(waiting.pop(), token, waiting)
        count += here
        complete &= looked
    if complete:
        disk.unlink(file)
    return count


def _clear_folder(folder: bytes, token: str, below: list[bytes]) -> tuple[int, bool]:
    """Removes the temporaries of a run in one folder, and adds the folders in it to ``below``. Returns how many there were, and
    whether the folder could be read."""
    count = 0
    try:
        before = os.lstat(folder)
        with os.scandir(folder) as found:
            for item in found:
                if item.is_dir(follow_symlinks=False):
                    below.append(item.path)
                elif _token_of(item.name) == token:
                    os.unlink(item.path)
                    count += 1
        if count:
            # A watch would send the new time of the folder as news.
            with suppress(PermissionError):
                os.utime(folder, ns=(before.st_atime_ns, before.st_mtime_ns))
    except OSError as error:
        # Where a path is too long, we made none.
        return count, error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)
    return count, True


def _inode_of_folder(path: bytes) -> int:
    """0 where no folder is."""
    try:
        status = os.lstat(path)
    except OSError:
        return 0
    return status.st_ino if stat.S_ISDIR(status.st_mode) else 0


def _token_of(name: bytes) -> str | None:
    matched = _NAME.fullmatch(name)
    return None if matched is None else matched[1].decode()


def _overlap(one: bytes, other: bytes) -> bool:
    return any(os.path.commonpath([one, other]) == each for each in (one, other))
