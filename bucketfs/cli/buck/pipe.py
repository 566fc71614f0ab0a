"""The standard input as a file that can be pushed.

A push starts over when others change the bucket meanwhile, but a pipe can be read only once: so it is copied to a file in the
cache folder first. The command locks the file while it runs; the next one removes the files of runs that were killed.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import trio

from bucketfs.config import make_private
from bucketfs.disk import Disk
from bucketfs.errors import Busy, DiskFailed, NoSpace, NotFound

STANDARD_INPUT = 0
PREFIX = "pipe-"
READ_BYTES = 1 << 20


@contextmanager
def spooled(cache: Path) -> Iterator[Path]:
    """An empty file in the cache folder, with the mode of any new file; removed at the end. Raises what a disk raises."""
    disk, place = Disk(), make_private(cache)
    _sweep(disk, place)
    name = PREFIX + secrets.token_hex(16)
    new, file = place / f".{name}", place / name
    # Locked before it has its name, because the next run removes files of that name that are not locked.
    lock = disk.lock_file(new)
    try:
        umask = os.umask(0o077)
        os.umask(umask)
        new.chmod(0o666 & ~umask)
        disk.rename(new, file)
        yield file
    finally:
        for path in (new, file):
            with suppress(NotFound):
                disk.unlink(path)
        disk.close(lock)


def _sweep(disk: Disk, place: Path) -> None:
    for file in place.glob(f"{PREFIX}*"):
        with suppress(Busy, NotFound):
            lock = disk.lock_file(file)
            try:
                disk.unlink(file)
            finally:
                disk.close(lock)


async def spool(file: Path) -> None:
    """Write the standard input to ``file``. Raises NoSpace, DiskFailed."""
    try:
        with file.open("wb") as copy:
            while data := await _read():
                copy.write(data)
    except OSError as error:
        kind = NoSpace if error.errno in _FULL else DiskFailed
        raise kind(f"cannot keep the standard input in {file.parent}: {error.strerror or error}") from error


async def _read() -> bytes:
    """The next bytes; none at the end. Read by descriptor: sys.stdin may have been replaced, or have read ahead."""
    while True:
        await trio.lowlevel.checkpoint()
        # A regular file, which is always ready, cannot be waited for (EPERM).
        with suppress(PermissionError):
            await trio.lowlevel.wait_readable(STANDARD_INPUT)
        # Another process at the same pipe may have read the data first.
        with suppress(BlockingIOError):
            return os.read(STANDARD_INPUT, READ_BYTES)


_FULL = (errno.ENOSPC, errno.EDQUOT)
