"""Which mounts of this user run, where they listen, and which of them are ending.

Each daemon locks two files while it lives and writes into them who it is: one named by its mount point, in ``running/`` of the
user's state folder, and the ``lock`` of its journals. So ``status`` finds a mount from any shell, whatever its runtime folder is,
also when the kernel has it no more because the daemon pushes what is left; and a mount that meets a held lock knows which daemon
holds it, and waits for one that is ending.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import trio

from bucketfs.config import Paths, make_private, tag
from bucketfs.daemon.host.locked_note import noted_path, path_note, read_note, write_note
from bucketfs.disk import Disk, DiskFile
from bucketfs.errors import BucketfsError, Busy
from bucketfs.mount import mounted_at

log = logging.getLogger(__name__)

LOOK_PERIOD_S = 0.2
OVERDUE_S = 30.0
"""A daemon that should have ended so long ago hangs, and no mount waits for it."""
UNKNOWN_TRIES = 10
REPORT_PERIOD_S = 5.0


@dataclass(frozen=True, slots=True)
class RunningMount:
    """A daemon: where it mounts, its control socket, its process. ``ends_s``: it is ending, at the latest then (seconds since
    1970)."""

    mountpoint: Path
    socket: Path
    pid: int
    ends_s: float | None = None


def running_mounts(paths: Paths) -> list[RunningMount]:
    """All daemons of this user, in the order of their mount points. Reads a small file for each mount point that ever was."""
    disk, top = Disk(), _folder(paths)
    names = disk.list_folder(top) if top.is_dir() else []
    found = [one for name in names if (one := lock_holder(disk, top / name)) is not None]
    return sorted(found, key=lambda one: one.mountpoint)


def running_mount_at(paths: Paths, mountpoint: Path) -> RunningMount | None:
    """The daemon of the mount at ``mountpoint`` (absolute), whether the kernel still has the mount or not."""
    return lock_holder(Disk(), _file(paths, mountpoint))


def lock_holder(disk: Disk, file: Path) -> RunningMount | None:
    """The daemon that holds the lock at ``file``; None when it is free, or the holder has not written who it is."""
    note = read_note(disk, file)
    if note is None:
        return None
    try:
        mountpoint, socket = noted_path(note["mountpoint"]), noted_path(note["socket"])
        return RunningMount(mountpoint, socket, int(note["pid"]), note["ends_s"])
    except (ValueError, KeyError, TypeError):
        return None


class MountLocks:
    """The locks of one daemon, each with a note that says who it is. ``waiting`` gets a text while a lock is waited for."""

    def __init__(self, disk: Disk, paths: Paths, mine: RunningMount, waiting: Callable[[str], None]) -> None:
        self._disk = disk
        self._paths = paths
        self._mine = mine
        self._waiting = waiting
        self._held: list[DiskFile] = []

    async def take_mountpoint(self) -> None:
        """Be the one daemon at the mount point; waits for one that is ending there. When this fails (a container with the same home
        may have it, or the state folder is read-only), other shells may not find this mount; the kernel decides whether it can be
        mounted."""
        try:
            make_private(_folder(self._paths))
            await self._take(_file(self._paths, self._mine.mountpoint))
        except (BucketfsError, OSError) as error:
            log.info("'bucketfs status' in another runtime folder will not find this mount: %s", error)

    async def take_journals(self, folder: Path) -> None:
        """Be the one writer of the journals in ``folder``. Raises Busy."""
        await self._take(folder / "lock")

    def ending(self, ends_s: float) -> None:
        """Write that this daemon is ending."""
        self._mine = replace(self._mine, ends_s=ends_s)
        for file in self._held:
            self._write(file)

    def close(self) -> None:
        """Let go of all locks."""
        while self._held:
            self._disk.close(self._held.pop())

    async def _take(self, path: Path) -> None:
        reported_s = 0.0
        unknown = 0
        while True:
            try:
                file = self._disk.lock_file(path)
                break
            except Busy as error:
                other = lock_holder(self._disk, path)
                if other is None or other.ends_s is None:
                    # Not final: a holder without a note is about to write it, or only looks at the lock; and one that was
                    # unmounted just now is about to write that it ends.
                    unknown += 1
                    if unknown > UNKNOWN_TRIES or (other is not None and mounted_at(other.mountpoint) is not None):
                        raise _busy(other) from error
                elif time.time() > other.ends_s + OVERDUE_S:
                    raise _busy(other) from error
                elif trio.current_time() - reported_s > REPORT_PERIOD_S:
                    reported_s = trio.current_time()
                    self._waiting(_waiting_text(other))
            await trio.sleep(LOOK_PERIOD_S)
        self._held.append(file)
        self._write(file)

    def _write(self, file: DiskFile) -> None:
        mine = self._mine
        note = {"mountpoint": path_note(mine.mountpoint), "socket": path_note(mine.socket)}
        try:
            write_note(self._disk, file, {**note, "pid": mine.pid, "ends_s": mine.ends_s})
        except BucketfsError as error:
            log.info("%s does not say which daemon holds it: %s", file.path, error)


_APART = "or give this one a --state folder of its own"


def _busy(other: RunningMount | None) -> Busy:
    if other is None:
        return Busy("this bucket is mounted already, and its journal has one writer", hint=f"unmount it there, {_APART}")
    return Busy(
        f"this bucket is mounted already at {other.mountpoint} (process {other.pid}), and its journal has one writer",
        hint=f"'bucketfs umount {other.mountpoint}' ends that mount; {_APART}",
    )


def _waiting_text(other: RunningMount) -> str:
    left = "" if other.ends_s is None else f", for up to {max(0.0, other.ends_s - time.time()):.0f} s more"
    return f"waiting for the mount at {other.mountpoint} (process {other.pid}), which pushes its last changes{left}"


def _folder(paths: Paths) -> Path:
    return paths.state / "running"


def _file(paths: Paths, mountpoint: Path) -> Path:
    return _folder(paths) / f"mount-{tag(mountpoint)}.json"
