"""The temporaries that runs put into users' folders: how they are named, and how a later run removes those of a dead one.

A file is written beside its place, as ``.bucketfs-aside-TOKEN-COUNT``, and renamed. TOKEN is 32 hex digits drawn for the run.
Before the run makes its first file, TOKEN is listed in the state folder of the user, on the disk, in a file that is locked while
the run lives. So its exact form and the list tell that we made a name, and whether the run is alive. Any other name that begins
with ``.bucketfs-aside-`` is a user's: it is neither skipped nor removed.

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
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bucketfs.disk import Disk
from bucketfs.errors import BucketfsError, Busy, NotFound

ASIDE_PREFIX = b".bucketfs-aside-"

UNNAMED_S = 3600.0
"""After this time an entry without its name is a dead run's."""

_NAME = re.compile(re.escape(ASIDE_PREFIX) + rb"([0-9a-f]{32})-[0-9]+")
_TOKEN = re.compile(r"[0-9a-f]{32}")


class Asides:
    """The temporaries of one run. Without a ``place``, which is the folder of the list, they are known to this run only."""

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
        """The paths that were given out and not told to be free again."""
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

    def made(self, name: bytes) -> bool:
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


@contextmanager
def listed_asides(place: Path, local: Path) -> Iterator[Asides]:
    """Names for a run that writes the folder or file ``local``, listed in the folder ``place`` while it lives. What dead runs left
    there is removed first. Raises what a disk raises."""
    top = os.path.realpath(os.fsencode(local))
    asides = Asides(place)
    asides.clear_dead(top)
    disk = Disk()
    new, file = place / f".{asides.token}", place / asides.token
    # Locked before it has its name: a list entry that nobody holds is a dead run's.
    lock = disk.lock_file(new)
    try:
        disk.pwrite(lock, 0, json.dumps({"top": top.hex(), "inode": _inode_of_folder(top)}).encode())
        disk.fsync(lock)
        disk.rename(new, file)
        disk.fsync_folder(place)
        yield asides
        if not asides.standing:
            disk.unlink(file)
    except BaseException:
        if not asides.standing:
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
    said = json.loads(disk.read_file(file))
    there = bytes.fromhex(said["top"])
    inode = _inode_of_folder(there)
    if not _overlap(there, top) or said["inode"] not in (0, inode):
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
