"""The local file system as transfers and mirrors see it: what is in a folder, its bytes as leaves, what is changed in it.

Everything here blocks and runs in threads, many small things to a hop. Names and paths are bytes. No symlink is followed below the
folder itself: what a bucket calls a folder is never written through a link that happens to have its name. An OSError becomes one of
ours where it enters (`ours`).
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bucketfs.dag import LEAF_SIZE, FileTree, symlink
from bucketfs.errors import (
    BucketfsError,
    Corrupt,
    Denied,
    DiskFailed,
    InvalidArgument,
    IsADirectory,
    NameInvalid,
    NameTooLong,
    NoSpace,
    NotADirectory,
    NotFound,
)
from bucketfs.types import NO_ATTRIBUTES, Cid, Kind, Link, NodeAttributes

ONE_PATH = (Denied, NotFound, NotADirectory, IsADirectory, NameInvalid, NameTooLong, DiskFailed)
"""What may be wrong with one local path: a name that the file system refuses, a path over 4,096 bytes, a missing permission, a bad
sector. Every command leaves such a path out, reports it, and goes on with the others. A full disk is not among them."""

ONE_FILE = (*ONE_PATH, Corrupt)
"""What may be wrong with one file that is to be written here: also its bytes at the Hub, which another client put together wrongly,
or which the Hub has lost."""

SPECIAL_BITS = stat.S_ISUID | stat.S_ISGID
"""Mode bits that run a program with the rights of its owner, and give new names in a folder to its group."""

KIND_TEXTS = {
    Kind.FILE: "a file",
    Kind.SYMLINK: "a symlink",
    Kind.DIRECTORY: "a folder",
    None: "neither file, folder nor symlink",
}
"""Kinds in messages."""
NOT_CARRIED = KIND_TEXTS[None]
MAY_REPLACE = "remove it first, or pull with --delete"

SECONDS_MAX = 1 << 31
_SHOWN_MAX = 300

_KINDS: dict[tuple[int, ...], type[BucketfsError]] = {
    (errno.ENOENT,): NotFound,
    (errno.EACCES, errno.EPERM): Denied,
    (errno.ENOSPC, errno.EDQUOT): NoSpace,
    (errno.ENAMETOOLONG,): NameTooLong,
    # What file systems say of a name or a link's target that they cannot hold.
    (errno.EINVAL, errno.EILSEQ): NameInvalid,
    (errno.ENOTDIR, errno.ELOOP): NotADirectory,
    (errno.EISDIR,): IsADirectory,
}


@dataclass(frozen=True, slots=True)
class LocalEntry:
    """A name in a folder, by its own status (symlinks not followed). ``kind`` None: a device, socket or pipe."""

    name: bytes
    kind: Kind | None
    size_bytes: int
    mode: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    device: int

    @property
    def is_directory(self) -> bool:
        return self.kind is Kind.DIRECTORY

    @property
    def attributes(self) -> NodeAttributes:
        """What of the status travels: of a symlink no mode."""
        return NodeAttributes(mode=None if self.kind is Kind.SYMLINK else self.mode, mtime_ns=self.mtime_ns)

    def shows_mtime(self, mtime_ns: int | None) -> bool:
        """Whether this is the status after ``mtime_ns`` was set. Beyond 32-bit seconds a file system shows the nearest it can
        hold."""
        return mtime_ns == self.mtime_ns or (mtime_ns is not None and not -SECONDS_MAX <= mtime_ns // 10**9 < SECONDS_MAX)


@dataclass(frozen=True, slots=True)
class Preserve:
    """Which attributes of the bucket files get here, in the sense of rsync: mode and mtime always, uid and gid only if ``owner``,
    set-user-id and set-group-id only if ``special_modes``. A process that is not root gives no owners."""

    owner: bool = False
    special_modes: bool = False

    def mode(self, wanted: int, here: LocalEntry | None = None) -> int:
        """The mode that a path gets. Of a folder that is ``here`` the special bits are this machine's own."""
        if self.special_modes:
            return wanted
        own = here.mode & SPECIAL_BITS if here is not None and here.is_directory else 0
        return wanted & ~SPECIAL_BITS | own


PLAIN = Preserve()


class SystemCalls(Protocol):
    """The system calls that change a disk. They are `os`, except in tests that end a process at any of them."""

    def open(self, path: bytes, flags: int, mode: int, /) -> int: ...
    def pwrite(self, file: int, data: memoryview, offset: int, /) -> int: ...
    def ftruncate(self, file: int, length: int, /) -> None: ...
    def fsync(self, file: int, /) -> None: ...
    def fchmod(self, file: int, mode: int, /) -> None: ...
    def chmod(self, path: bytes, mode: int, /) -> None: ...
    def chown(self, path: bytes | int, uid: int, gid: int, /) -> None: ...
    def utime(self, path: bytes | int, /, *, ns: tuple[int, int], follow_symlinks: bool = True) -> None: ...
    def symlink(self, target: bytes, path: bytes, /) -> None: ...
    def mkdir(self, path: bytes, mode: int, /) -> None: ...
    def rmdir(self, path: bytes, /) -> None: ...
    def unlink(self, path: bytes, /) -> None: ...
    def replace(self, old: bytes, new: bytes, /) -> None: ...


class LocalFs:
    """The folders of this machine. Any thread may call; errors are those of `ours`."""

    def __init__(self, calls: SystemCalls = os) -> None:
        self.calls = calls
        # Held while a folder has an mtime that is not to be seen: by `quietly` against threads that read or set times.
        self._times = threading.Lock()

    # Looking

    def look(self, path: bytes, name: bytes = b"") -> LocalEntry | None:
        """The status of one path; None when nothing is there."""
        try:
            with ours("looking at", path), self._times:
                return self.entry_of(name, os.lstat(path))
        except NotFound:
            return None

    def scan(self, folder: bytes) -> list[LocalEntry]:
        """What is in a folder, in the order of names' bytes. What vanishes meanwhile is left out."""
        entries = []
        # By a descriptor: a name in a folder whose path is just short enough can be looked at that way.
        with ours("reading folder", folder), opened(folder, os.O_DIRECTORY) as file, os.scandir(file) as found:
            for item in found:
                with contextlib.suppress(FileNotFoundError):
                    entries.append(self.entry_of(os.fsencode(item.name), item.stat(follow_symlinks=False)))
        return sorted(entries, key=lambda entry: entry.name)

    def entry_of(self, name: bytes, status: os.stat_result) -> LocalEntry:
        """A status as we keep it."""
        kinds = {stat.S_IFREG: Kind.FILE, stat.S_IFDIR: Kind.DIRECTORY, stat.S_IFLNK: Kind.SYMLINK}
        return LocalEntry(
            name,
            kinds.get(stat.S_IFMT(status.st_mode)),
            status.st_size,
            stat.S_IMODE(status.st_mode),
            status.st_mtime_ns,
            status.st_ctime_ns,
            status.st_ino,
            status.st_dev,
        )

    def file_system(self, path: bytes) -> int:
        """The number of the file system at a path: of most that have an identifier of their own, made from that; else from the
        device's."""
        with ours("looking at", path):
            return os.statvfs(path).f_fsid

    def same_device(self, one: bytes, other: bytes) -> bool:
        """Whether two paths are on one file system."""
        with ours("looking at", other):
            return os.lstat(one).st_dev == os.lstat(other).st_dev

    def is_mount_point(self, path: bytes) -> bool:
        """Whether the file system begins here."""
        return os.path.ismount(path)

    def is_below(self, top: bytes, names: Sequence[bytes]) -> bool:
        """Whether all folders between ``top`` and the last of ``names`` are real ones: where a symlink took the place of one, what
        stands under its name is somewhere else."""
        above = (self.look(os.path.join(top, *names[:depth])) for depth in range(1, len(names)))
        return all(entry is not None and entry.is_directory for entry in above)

    # Reading

    def open_to_read(self, path: bytes) -> int:
        """A descriptor of a file, for `leaves_of`; a symlink is refused, and a pipe that took its place does not block."""
        with ours("reading", path):
            return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)

    def leaves_of(self, file: int, path: bytes) -> Generator[bytes]:
        """The bytes of an open file in leaves. ``path`` is for messages."""
        offset = 0
        with ours("reading", path):
            while data := _read_full(file, offset):
                yield data
                offset += len(data)

    def leaves(self, path: bytes) -> Generator[bytes]:
        """The bytes of a file in leaves, read while it is drawn."""
        file = self.open_to_read(path)
        try:
            yield from self.leaves_of(file, path)
        finally:
            os.close(file)

    def first_leaf(self, path: bytes) -> bytes:
        """The first leaf of a file; b"" of an empty one."""
        with contextlib.closing(self.leaves(path)) as leaves:
            return next(leaves, b"")

    def target(self, path: bytes) -> bytes:
        """Where a symlink leads."""
        with ours("reading link", path):
            return os.readlink(path)

    def cid_of(self, path: bytes, attributes: NodeAttributes, kind: Kind | None = Kind.FILE) -> Cid:
        """The CID that a local file or symlink would have with these attributes, whatever its own are. Memory does not grow
        with the file."""
        if kind is Kind.SYMLINK:
            return symlink(self.target(path), attributes).link.cid
        tree = FileTree()
        for leaf in self.leaves(path):
            tree.add_data(leaf)
            tree.take_blocks()
        return tree.finish(attributes).link.cid

    def is_seed(self, path: bytes, seed: Link | None) -> bool:
        """Whether a file holds just what the Hub keeps under its own name, as other clients leave it in folders."""
        try:
            return seed is not None and self.cid_of(path, NO_ATTRIBUTES) == seed.cid
        except BucketfsError:
            return False

    # Changing

    def make_folder(self, path: bytes, *, replace: bool, new_mode: int = 0o700) -> int | None:
        """A real folder that we can write into at ``path``; with ``replace`` in place of a file or symlink there. Returns the
        mode of one that was there already, None for a new one. Raises NotADirectory where something else stands, also a symlink
        to a folder."""
        entry = self.look(path)
        with ours("making folder", path):
            if entry is not None and not entry.is_directory:
                if not replace:
                    here = KIND_TEXTS[entry.kind]
                    raise NotADirectory(f"{shown(path)} is {here} here and a folder in the bucket", hint=MAY_REPLACE)
                self.calls.unlink(path)
                entry = None
            if entry is None:
                self.calls.mkdir(path, new_mode)
                return None
            if entry.mode & 0o700 != 0o700:
                # Its own mode comes back when everything in it is done.
                self.calls.chmod(path, entry.mode | 0o700)
            return entry.mode

    def set_attributes(self, path: bytes, attributes: NodeAttributes, mode_default: int, preserve: Preserve = PLAIN) -> None:
        """Mode, mtime and (by ``preserve``) owner of a file or folder that is there; what is so already is not set again, because a
        watch would hear of it. Raises Denied where a symlink stands now."""
        with ours("setting attributes of", path), self._times:
            here = os.lstat(path)
            if stat.S_ISLNK(here.st_mode):
                raise Denied(f"{os.fsdecode(path)} is a symlink now")
            wanted = mode_default if attributes.mode is None else attributes.mode
            mode = preserve.mode(wanted, self.entry_of(b"", here))
            is_ours = not preserve.owner or (attributes.uid in (None, here.st_uid) and attributes.gid in (None, here.st_gid))
            if not is_ours:
                self.set_owner(path, attributes, preserve)
            # chown(2) clears the special bits, so the mode is set after the owner.
            if not is_ours or stat.S_IMODE(here.st_mode) != mode:
                self.calls.chmod(path, mode)
            if attributes.mtime_ns is not None and attributes.mtime_ns != here.st_mtime_ns:
                self.calls.utime(path, ns=(attributes.mtime_ns, attributes.mtime_ns))

    def set_owner(self, target: int | bytes, attributes: NodeAttributes, preserve: Preserve) -> None:
        """The owner of a path or open file, as far as ``preserve`` and the rights of this process allow."""
        if preserve.owner and os.geteuid() == 0 and (attributes.uid is not None or attributes.gid is not None):
            uid, gid = (-1 if number is None else number for number in (attributes.uid, attributes.gid))
            self.calls.chown(target, uid, gid)

    def restore(self, path: bytes, before: LocalEntry) -> None:
        """Gives a folder back the mode and mtime that it had."""
        with ours("setting attributes of", path):
            self.calls.chmod(path, before.mode)
            self.calls.utime(path, ns=(before.mtime_ns, before.mtime_ns))

    def sync_folder(self, path: bytes) -> None:
        """Returns when the names in a folder would survive a power loss. One that is gone, or that we may not read, needs none."""
        with contextlib.suppress(NotFound, Denied), ours("syncing folder", path), opened(path) as file:
            self.calls.fsync(file)

    @contextlib.contextmanager
    def quietly(self, path: bytes) -> Iterator[None]:
        """Keeps the mtime of a folder over a change in it that no user made: else it would be sent as news."""
        with self._times:
            before = os.lstat(path)
            yield
            with contextlib.suppress(OSError):
                self.calls.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    # Removing

    def remove_file(self, path: bytes) -> None:
        """Removes a file or symlink; one that is gone already is no error."""
        with contextlib.suppress(NotFound), ours("removing", path):
            self.calls.unlink(path)

    def remove_empty(self, path: bytes) -> None:
        """Removes an empty folder; one that is gone already is no error. Raises DiskFailed when it is not empty."""
        with contextlib.suppress(NotFound), ours("removing", path):
            self.calls.rmdir(path)


def _read_full(file: int, offset: int) -> bytes:
    """A leaf; shorter only at the end of the file. pread(2) may return less than it was asked for."""
    data = os.pread(file, LEAF_SIZE, offset)
    while data and len(data) < LEAF_SIZE and (more := os.pread(file, LEAF_SIZE - len(data), offset + len(data))):
        data += more
    return data


def real_path(path: Path) -> bytes:
    """A path as the user gave it, its symlinks followed."""
    return os.path.realpath(os.fsencode(path))


def check_carried(path: Path) -> None:
    """Raises InvalidArgument for a device, socket or pipe that the user gave by name. Of these ``/dev/stdin``, and what a shell
    writes for ``<(…)``, lead to a place that no path names."""
    with contextlib.suppress(NotFound), ours("looking at", os.fsencode(path)):
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise InvalidArgument(f"{shown(os.fsencode(path))} is {NOT_CARRIED}", hint="the standard input is pushed with -")


def current_umask() -> int:
    """The umask of this process, which can only be read by setting it."""
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


@contextlib.contextmanager
def opened(path: bytes, flags: int = 0) -> Iterator[int]:
    """A descriptor for reading; symlinks are refused, and a pipe put there meanwhile does not block."""
    file = os.open(path, os.O_RDONLY | flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield file
    finally:
        os.close(file)


@contextlib.contextmanager
def ours(doing: str, path: bytes) -> Iterator[None]:
    """Makes an OSError ours, with what was being done to which path."""
    try:
        yield
    except OSError as error:
        kind = next((ours for numbers, ours in _KINDS.items() if error.errno in numbers), DiskFailed)
        raise kind(f"{doing} {shown(path)}: {error.strerror or error}") from error


def shown(path: bytes) -> str:
    """A path for messages; of one that is too long, its end."""
    text = os.fsdecode(path)
    return text if len(text) <= _SHOWN_MAX else "…" + text[-_SHOWN_MAX:]
