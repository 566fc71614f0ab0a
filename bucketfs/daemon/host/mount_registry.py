"""Which mounts of this user run, where they listen, and which of them are ending.

Each daemon locks two files as long as it lives and writes into them who it is: one by its mount point, in ``running/`` of the
user's state folder, and the ``lock`` of its journals. So ``status`` finds a mount from any shell, whatever its runtime folder is,
also when the kernel has it no more because the daemon pushes what is left; and a mount that meets a held lock knows whose it is,
and waits for one that is ending. A file without a lock says nothing any more.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import trio

from bucketfs.config import Paths, make_private, tag
from bucketfs.disk import Disk, DiskFile
from bucketfs.errors import BucketfsError, Busy
from bucketfs.mount import mounted_at

log = logging.getLogger(__name__)

LOOK_PERIOD_S = 0.2
OVERDUE_S = 30.0
"""A daemon that should have ended so long ago hangs, and is waited for no more."""
UNKNOWN_TRIES = 10
TELL_PERIOD_S = 5.0


@dataclass(frozen=True, slots=True)
class Running:
    """A daemon: where it mounts, its control socket, its process. ``ends_s``: it is ending, and done with it by then (seconds
    since 1970)."""

    mountpoint: Path
    socket: Path
    pid: int
    ends_s: float | None = None


def running_mounts(paths: Paths) -> list[Running]:
    """All daemons of this user, in the order of their mount points. Reads a small file for each mount point that ever was."""
    disk, top = Disk(), _folder(paths)
    names = disk.list_folder(top) if top.is_dir() else []
    found = [one for name in names if (one := holder(disk, top / name)) is not None]
    return sorted(found, key=lambda one: one.mountpoint)


def running_at(paths: Paths, mountpoint: Path) -> Running | None:
    """The daemon of the mount at ``mountpoint`` (absolute), whether the kernel still has the mount or not."""
    return holder(Disk(), _file(paths, mountpoint))


def holder(disk: Disk, file: Path) -> Running | None:
    """Who holds the lock at ``file``; None when it is free, or the holder does not say."""
    try:
        if not disk.is_locked(file):
            return None
        said = json.loads(disk.read_file(file))
        return Running(_path(said["mountpoint"]), _path(said["socket"]), int(said["pid"]), said["ends_s"])
    except (BucketfsError, ValueError, KeyError, TypeError):
        return None


class Locks:
    """The locks of one daemon, each with its word in it."""

    def __init__(self, disk: Disk, paths: Paths, mine: Running, waiting: Callable[[str], None]) -> None:
        self._disk = disk
        self._paths = paths
        self._mine = mine
        self._waiting = waiting
        self._held: list[DiskFile] = []

    async def take_mountpoint(self) -> None:
        """Be the one at the mount point, after one that is ending there. When another daemon has it (in a container with the same
        home, say), or the state folder cannot be written to, other shells may not find this mount: whether it can be mounted, the
        kernel knows."""
        try:
            make_private(_folder(self._paths))
            await self._take(_file(self._paths, self._mine.mountpoint))
        except (BucketfsError, OSError) as error:
            log.info("'bucketfs status' in another runtime folder will not find this mount: %s", error)

    async def take_journals(self, folder: Path) -> None:
        """Be the one writer of the journals in ``folder``. Raises Busy."""
        await self._take(folder / "lock")

    def ending(self, ends_s: float) -> None:
        """Say that this daemon is ending."""
        self._mine = replace(self._mine, ends_s=ends_s)
        for file in self._held:
            self._say(file)

    def close(self) -> None:
        """Let go of all."""
        while self._held:
            self._disk.close(self._held.pop())

    async def _take(self, path: Path) -> None:
        told_s = 0.0
        unknown = 0
        while True:
            try:
                file = self._disk.lock_file(path)
                break
            except Busy as error:
                other = holder(self._disk, path)
                if other is None or other.ends_s is None:
                    # Without a name it was let go of meanwhile, or is looked at, or its holder is about to write who it is. And one
                    # that was unmounted just now is about to write that it ends.
                    unknown += 1
                    if unknown > UNKNOWN_TRIES or (other is not None and mounted_at(other.mountpoint) is not None):
                        raise _busy(other) from error
                elif time.time() > other.ends_s + OVERDUE_S:
                    raise _busy(other) from error
                elif trio.current_time() - told_s > TELL_PERIOD_S:
                    told_s = trio.current_time()
                    self._waiting(_waiting_text(other))
            await trio.sleep(LOOK_PERIOD_S)
        self._held.append(file)
        self._say(file)

    def _say(self, file: DiskFile) -> None:
        mine = self._mine
        said = {"mountpoint": _text(mine.mountpoint), "socket": _text(mine.socket), "pid": mine.pid, "ends_s": mine.ends_s}
        try:
            self._disk.truncate(file, 0)
            self._disk.pwrite(file, 0, json.dumps(said).encode())
        except BucketfsError as error:
            log.info("%s does not say who holds it: %s", file.path, error)


def _busy(other: Running | None) -> Busy:
    if other is None:
        return Busy("this bucket is mounted already, and its journal has one writer", hint=f"unmount it there, {_APART}")
    return Busy(
        f"this bucket is mounted already at {other.mountpoint} (process {other.pid}), and its journal has one writer",
        hint=f"'bucketfs umount {other.mountpoint}' ends that mount; {_APART}",
    )


_APART = "or give this one a --state folder of its own"


def _waiting_text(other: Running) -> str:
    left = "" if other.ends_s is None else f", for up to {max(0.0, other.ends_s - time.time()):.0f} s more"
    return f"waiting for the mount at {other.mountpoint} (process {other.pid}), which pushes its last changes{left}"


def _folder(paths: Paths) -> Path:
    return paths.state / "running"


def _file(paths: Paths, mountpoint: Path) -> Path:
    return _folder(paths) / f"mount-{tag(mountpoint)}.json"


def _text(path: Path) -> str:
    return os.fsencode(path).hex()


def _path(text: str) -> Path:
    return Path(os.fsdecode(bytes.fromhex(text)))
