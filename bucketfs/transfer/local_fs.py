"""A local folder as `transfer` sees it: what is in it, its bytes as leaves, and files written aside and renamed.

Everything here blocks and runs in threads, many small things to a hop. Names and paths are bytes. No symlink is ever
followed below the folder itself: what a bucket calls a folder is not written through a link that happens to have its name.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bucketfs.dag import LEAF_SIZE, Built, build_file, cid_of, file_root, symlink
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
from bucketfs.transfer.temporaries import Asides
from bucketfs.types import NO_ATTRIBUTES, Cid, Kind, Link, NodeAttributes

Block = tuple[Cid, bytes]

ONE_PATH = (Denied, NotFound, NotADirectory, IsADirectory, NameInvalid, NameTooLong, DiskFailed)
"""What may be wrong with one path here: a name that the file system refuses, a path over 4,096 bytes, a right that is missing, a
bad sector. Every command leaves such a path out, says so, and goes on with the others. A full disk is not among them."""

ONE_FILE = (*ONE_PATH, Corrupt)
"""What may be wrong with one file that is to be written here: also its bytes at the Hub, which somebody put together wrongly, or
which the Hub has lost."""

SPECIAL_BITS = stat.S_ISUID | stat.S_ISGID
"""Modes that make a program run with the rights of its owner, and new names belong to a folder's group."""

KIND_TEXTS = {
    Kind.FILE: "a file",
    Kind.SYMLINK: "a symlink",
    Kind.DIRECTORY: "a folder",
    None: "neither file, folder nor symlink",
}
"""Kinds in messages."""
MAY_REPLACE = "remove it first, or pull with --delete"

READ = os.O_RDONLY
"""How a file is `opened` to be read."""

_times = threading.Lock()
"""Held while a folder has a time that is not to be seen: by `quietly` against who reads or sets times in another thread."""

_ZERO_LEAF = bytes(LEAF_SIZE)

SECONDS_MAX = 1 << 31


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
    def attributes(self) -> NodeAttributes:
        """What of the status travels."""
        return NodeAttributes(mode=self.mode, mtime_ns=self.mtime_ns)


@dataclass(frozen=True, slots=True)
class Rights:
    """What of the attributes that other people gave to a file is given to it here, as rsync has it: mode and mtime always, uid and
    gid only if ``owner``, set-user-id and set-group-id only if ``special_modes``. A process that is not root gives no owners."""

    owner: bool = False
    special_modes: bool = False

    def mode(self, wanted: int, here: LocalEntry | None = None) -> int:
        """The mode that a path gets. Of a folder that is ``here`` the special bits are this machine's own."""
        if self.special_modes:
            return wanted
        own = here.mode & SPECIAL_BITS if here is not None and here.kind is Kind.DIRECTORY else 0
        return wanted & ~SPECIAL_BITS | own


PLAIN = Rights()


def is_shown(mtime_ns: int | None, entry: LocalEntry) -> bool:
    """Whether a status shows an mtime that was set. Beyond 32-bit seconds a file system shows the nearest that it can hold."""
    return mtime_ns == entry.mtime_ns or (mtime_ns is not None and not -SECONDS_MAX <= mtime_ns // 10**9 < SECONDS_MAX)


def real_path(path: Path) -> bytes:
    """A path as the user gave it, its symlinks followed."""
    return os.path.realpath(os.fsencode(path))


def check_carried(path: Path) -> None:
    """Raises InvalidArgument for a device, socket or pipe that the user gave by name. Of these ``/dev/stdin``, and what a shell
    writes for ``<(…)``, lead to a place that no path names."""
    with contextlib.suppress(NotFound), ours("looking at", os.fsencode(path)):
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise InvalidArgument(
                f"{_shown(os.fsencode(path))} is {KIND_TEXTS[None]}", hint="the standard input is pushed with -"
            )


def look(path: bytes, name: bytes = b"") -> LocalEntry | None:
    """The status of one path; None when nothing is there. Raises what `ours` makes of an OSError."""
    try:
        with ours("looking at", path), _times:
            return _entry(name, os.lstat(path))
    except NotFound:
        return None


def file_system(path: bytes) -> int:
    """The number of the file system at a path: of most that have an identifier of their own, made from that; else from the
    device's. Raises what `ours` makes of an OSError."""
    with ours("looking at", path):
        return os.statvfs(path).f_fsid


def check_room(path: bytes, entry: LocalEntry | None, kind: Kind) -> None:
    """Raises IsADirectory unless a file or symlink (``kind``) may take the place of ``entry``, which stands at ``path``. Files
    and symlinks replace each other. A folder, a link that leads to one where a file is to be, a device, socket or pipe stay."""
    if entry is None or (entry.kind is Kind.SYMLINK and kind is Kind.SYMLINK):
        return
    to_folder = entry.kind is Kind.SYMLINK and os.path.isdir(path)
    if to_folder or entry.kind not in (Kind.FILE, Kind.SYMLINK):
        here = "a symlink to a folder" if to_folder else KIND_TEXTS[entry.kind]
        raise IsADirectory(f"{_shown(path)} is {here} here and {KIND_TEXTS[kind]} in the bucket", hint=MAY_REPLACE)


def same_device(one: bytes, other: bytes) -> bool:
    """Whether two paths are on one file system. Raises what `ours` makes of an OSError."""
    with ours("looking at", other):
        return os.lstat(one).st_dev == os.lstat(other).st_dev


def is_mount_point(path: bytes) -> bool:
    """Whether the file system begins here."""
    return os.path.ismount(path)


def is_below(top: bytes, names: Sequence[bytes]) -> bool:
    """Whether all folders between ``top`` and the last of ``names`` are real ones: where a symlink took the place of one, what
    stands under its name is somewhere else."""
    for depth in range(1, len(names)):
        entry = look(os.path.join(top, *names[:depth]))
        if entry is None or entry.kind is not Kind.DIRECTORY:
            return False
    return True


def scan(folder: bytes) -> list[LocalEntry]:
    """What is in a folder, in the order of names' bytes. What vanishes meanwhile is left out."""
    entries = []
    # By a descriptor: a name in a folder whose path is just short enough can be looked at that way.
    with ours("reading folder", folder), opened(folder, READ | os.O_DIRECTORY) as file, os.scandir(file) as found:
        for item in found:
            with contextlib.suppress(FileNotFoundError):
                entries.append(_entry(os.fsencode(item.name), item.stat(follow_symlinks=False)))
    return sorted(entries, key=lambda entry: entry.name)


def _entry(name: bytes, status: os.stat_result) -> LocalEntry:
    kinds = {stat.S_IFREG: Kind.FILE, stat.S_IFDIR: Kind.DIRECTORY, stat.S_IFLNK: Kind.SYMLINK}
    kind = kinds.get(stat.S_IFMT(status.st_mode))
    return LocalEntry(
        name,
        kind,
        status.st_size,
        stat.S_IMODE(status.st_mode),
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_ino,
        status.st_dev,
    )


# Reading


def build_small(path: bytes, entry: LocalEntry, attributes: NodeAttributes) -> tuple[Built, list[Block]] | None:
    """A file of at most one leaf, or a symlink, as a DAG with all its blocks; None for a file that has grown meanwhile."""
    if entry.kind is Kind.SYMLINK:
        with ours("reading link", path):
            built = symlink(os.readlink(path), replace(attributes, mode=None))
        return built, list(built.blocks.items())
    with ours("reading", path), opened(path, os.O_RDONLY) as file:
        data = _read_full(file, LEAF_SIZE + 1, 0)
    if len(data) > LEAF_SIZE:
        return None
    built = build_file(data, attributes)
    return built, list(built.blocks.items())


def read_leaves(file: int, start: int, count: int) -> list[Block]:
    """Up to ``count`` leaves of an open file from ``start``; fewer at its end."""
    leaves: list[Block] = []
    for index in range(count):
        data = _read_full(file, LEAF_SIZE, start + index * LEAF_SIZE)
        if data:
            leaves.append((cid_of(data), data))
        if len(data) < LEAF_SIZE:
            break
    return leaves


def read_leaf(path: bytes) -> list[Block]:
    """The first leaf of a file; none of an empty one."""
    with ours("reading", path), opened(path, READ) as file:
        return read_leaves(file, 0, 1)


def _read_full(file: int, size: int, offset: int) -> bytes:
    data = os.pread(file, size, offset)
    while data and len(data) < size:
        more = os.pread(file, size - len(data), offset + len(data))
        if not more:
            break
        data += more
    return data


def cid_of_content(path: bytes, attributes: NodeAttributes) -> Cid:
    """The CID that a local file would have with these attributes, whatever its own are. Memory does not grow with the
    file.
    """
    parts: list[tuple[Cid, int]] = []
    whole = b""
    with ours("reading", path), opened(path, os.O_RDONLY) as file:
        offset = 0
        while data := _read_full(file, LEAF_SIZE, offset):
            parts.append((cid_of(data), len(data)))
            whole = data
            offset += len(data)
    return file_root(parts, attributes, whole if len(parts) <= 1 else None).link.cid


def is_seed(path: bytes, seed: Link | None) -> bool:
    """Whether a file holds just what the Hub keeps under its own name, as other clients leave it in folders."""
    try:
        return seed is not None and cid_of_content(path, NO_ATTRIBUTES) == seed.cid
    except BucketfsError:
        return False


# Writing


class Aside:
    """A file that is written beside its name and takes its place when it is complete. ``quiet``: the folder that it is written in
    is not being changed by us otherwise, and keeps its time."""

    def __init__(self, path: bytes, size_bytes: int, asides: Asides, *, quiet: bool = False) -> None:
        self.path = path
        self._quiet = quiet
        self._asides = asides
        self._aside = asides.new(path)
        self.file = -1
        try:
            self._make(size_bytes)
        except BucketfsError:
            self._asides.free(self._aside)
            raise

    def _make(self, size_bytes: int) -> None:
        with ours("writing", self.path):
            with self._folder_kept():
                self.file = os.open(self._aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                os.ftruncate(self.file, size_bytes)
            except OSError:
                # A size that this file system cannot have.
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
                    written = os.pwrite(self.file, view, offset)
                    view, offset = view[written:], offset + written

    def empty(self, size_bytes: int) -> None:
        """Forgets what was written: all of it is a hole again."""
        with ours("writing", self.path):
            os.ftruncate(self.file, 0)
            os.ftruncate(self.file, size_bytes)

    def sync(self) -> None:
        """Returns when the bytes are on the disk."""
        with ours("writing", self.path):
            os.fsync(self.file)

    def complete(
        self, attributes: NodeAttributes, mode_default: int, *, durable: bool = False, rights: Rights = PLAIN
    ) -> LocalEntry:
        """Sets what the attributes say; the status. ``durable``: the bytes are on the disk when it returns."""
        with ours("writing", self.path):
            _set_owner(self.file, attributes, rights)
            os.fchmod(self.file, rights.mode(mode_default if attributes.mode is None else attributes.mode))
            if attributes.mtime_ns is not None:
                os.utime(self.file, ns=(attributes.mtime_ns, attributes.mtime_ns))
            if durable:
                os.fsync(self.file)
            return _entry(os.path.basename(self.path), os.fstat(self.file))

    def place(self) -> LocalEntry:
        """Renames; the status under the new name, which itself is the business of `sync_folder`."""
        with ours("writing", self.path):
            os.replace(self._aside, self.path)
            self._asides.free(self._aside)
            status = os.fstat(self.file)
            os.close(self.file)
            self.file = -1
            return _entry(os.path.basename(self.path), status)

    def abandon(self) -> None:
        """Removes what was written, unless it was committed."""
        if self.file >= 0:
            os.close(self.file)
            self.file = -1
            with contextlib.suppress(FileNotFoundError), self._folder_kept():
                os.unlink(self._aside)
            self._asides.free(self._aside)

    def _folder_kept(self) -> contextlib.AbstractContextManager[None]:
        return quietly(os.path.dirname(self._aside)) if self._quiet else contextlib.nullcontext()


def sync_folder(path: bytes) -> None:
    """Returns when the names in a folder would survive a power loss. One that is gone, or that we may not read, needs none."""
    with contextlib.suppress(NotFound, Denied), ours("syncing folder", path), opened(path, os.O_RDONLY) as file:
        os.fsync(file)


class AsideLink:
    """A symlink that is made beside its name and takes its place."""

    def __init__(self, path: bytes, target: bytes, attributes: NodeAttributes, asides: Asides) -> None:
        self.path = path
        self._asides = asides
        self._aside = asides.new(path)
        self._stands = False
        try:
            with ours("making link", path):
                os.symlink(target, self._aside)
                self._stands = True
                if attributes.mtime_ns is not None:
                    os.utime(self._aside, ns=(attributes.mtime_ns, attributes.mtime_ns), follow_symlinks=False)
                self.entry = _entry(os.path.basename(path), os.lstat(self._aside))
        except BucketfsError:
            self.abandon()
            raise

    def place(self) -> LocalEntry:
        """Renames; the status under the new name."""
        with ours("making link", self.path):
            os.replace(self._aside, self.path)
            self._stands = False
            self._asides.free(self._aside)
            return _entry(os.path.basename(self.path), os.lstat(self.path))

    def abandon(self) -> None:
        """Removes it, unless it was placed."""
        if self._stands:
            self._stands = False
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._aside)
        self._asides.free(self._aside)


def make_folder(path: bytes, *, replace: bool, new_mode: int = 0o700) -> int | None:
    """A real folder that we can write into at ``path``; with ``replace`` in place of a file or symlink there. Returns the mode of
    one that was there already, None for a new one. Raises NotADirectory where something else stands, also a symlink to a folder."""
    entry = look(path)
    with ours("making folder", path):
        if entry is not None and entry.kind is not Kind.DIRECTORY:
            if not replace:
                raise NotADirectory(
                    f"{_shown(path)} is {KIND_TEXTS[entry.kind]} here and a folder in the bucket", hint=MAY_REPLACE
                )
            os.unlink(path)
            entry = None
        if entry is None:
            os.mkdir(path, new_mode)
            return None
        if entry.mode & 0o700 != 0o700:
            # Its own mode comes back when everything in it is done.
            os.chmod(path, entry.mode | 0o700)
        return entry.mode


def set_attributes(path: bytes, attributes: NodeAttributes, mode_default: int, rights: Rights = PLAIN) -> None:
    """Mode, mtime and (by ``rights``) owner of a file or folder that is there; what is so already is not set again, which others
    would hear of. Raises Denied where a symlink stands now."""
    with ours("setting attributes of", path), _times:
        here = os.lstat(path)
        if stat.S_ISLNK(here.st_mode):
            raise Denied(f"{os.fsdecode(path)} is a symlink now")
        mode = rights.mode(mode_default if attributes.mode is None else attributes.mode, _entry(b"", here))
        is_ours = not rights.owner or (attributes.uid in (None, here.st_uid) and attributes.gid in (None, here.st_gid))
        if not is_ours:
            _set_owner(path, attributes, rights)
        # A change of owner takes bits of the mode away.
        if not is_ours or stat.S_IMODE(here.st_mode) != mode:
            os.chmod(path, mode)
        if attributes.mtime_ns not in (None, here.st_mtime_ns):
            os.utime(path, ns=(attributes.mtime_ns, attributes.mtime_ns))


def restore(path: bytes, before: LocalEntry) -> None:
    """Gives a folder back the mode and mtime that it had."""
    with ours("setting attributes of", path):
        os.chmod(path, before.mode)
        os.utime(path, ns=(before.mtime_ns, before.mtime_ns))


def remove_file(path: bytes) -> None:
    """Removes a file or symlink; one that is gone already is no error."""
    with contextlib.suppress(NotFound), ours("removing", path):
        os.unlink(path)


def remove_empty(path: bytes) -> None:
    """Removes an empty folder; one that is gone already is no error. Raises DiskFailed when it is not empty."""
    with contextlib.suppress(NotFound), ours("removing", path):
        os.rmdir(path)


def remove(path: bytes) -> None:
    """Removes a file, or a folder with all below it. Raises Denied, and removes nothing, where a file system is mounted in it: its
    mount point would stay, and only what the user keeps in it would go."""
    entry = look(path)
    with ours("removing", path):
        if entry is not None and entry.kind is Kind.DIRECTORY:
            mounted = _mounted_in(path)
            if mounted is not None:
                raise Denied(f"removing {_shown(path)}: {_shown(mounted)} is a mount point", hint="unmount it first")
            for folder in reversed(_folders(path)):
                _remove_folder(folder)
        elif entry is not None:
            os.unlink(path)


def _mounted_in(top: bytes) -> bytes | None:
    """A mount point at or below a folder. Numbers of devices do not tell: a folder of the same file system may be bound there."""
    real = os.path.realpath(top)
    with open("/proc/self/mountinfo", "rb") as mounts:
        for line in mounts:
            # proc(5): blanks, newlines and backslashes of a path are octal.
            where = re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), line.split(b" ")[4])
            if where == real or where.startswith(real + b"/"):
                return where
    return None


def _folders(top: bytes) -> list[bytes]:
    """A folder and all below it, each before those in it, and all such that they can be emptied."""
    # The standard library's rmtree calls itself for each level, and gives up some hundred levels down.
    waiting, found = [top], []
    while waiting:
        folder = waiting.pop()
        found.append(folder)
        mode = stat.S_IMODE(os.lstat(folder).st_mode)
        if mode & 0o700 != 0o700:
            os.chmod(folder, mode | 0o700)
        with os.scandir(folder) as items:
            waiting += [item.path for item in items if item.is_dir(follow_symlinks=False)]
    return found


def _remove_folder(folder: bytes) -> None:
    with os.scandir(folder) as items:
        for item in items:
            os.unlink(item.path)
    os.rmdir(folder)


def current_umask() -> int:
    """The umask of this process, which can only be read by setting it."""
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


def _set_owner(target: int | bytes, attributes: NodeAttributes, rights: Rights) -> None:
    if rights.owner and os.geteuid() == 0 and (attributes.uid is not None or attributes.gid is not None):
        os.chown(target, -1 if attributes.uid is None else attributes.uid, -1 if attributes.gid is None else attributes.gid)


@contextlib.contextmanager
def quietly(path: bytes) -> Iterator[None]:
    """Keeps the mtime of a folder over a change in it that is no user's business: else it would be sent as news."""
    with _times:
        before = os.lstat(path)
        yield
        with contextlib.suppress(OSError):
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@contextlib.contextmanager
def opened(path: bytes, flags: int) -> Iterator[int]:
    """A file descriptor; symlinks are refused, and a pipe put there meanwhile does not block."""
    file = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield file
    finally:
        os.close(file)


@contextlib.contextmanager
def ours(doing: str, path: bytes) -> Iterator[None]:
    """Makes an OSError ours."""
    try:
        yield
    except OSError as error:
        kind = next((ours for numbers, ours in _KINDS.items() if error.errno in numbers), DiskFailed)
        raise kind(f"{doing} {_shown(path)}: {error.strerror or error}") from error


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

_SHOWN_MAX = 300


def _shown(path: bytes) -> str:
    """A path for messages; of one that is too long, its end."""
    text = os.fsdecode(path)
    return text if len(text) <= _SHOWN_MAX else "…" + text[-_SHOWN_MAX:]
