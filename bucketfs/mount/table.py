"""The kernel's table of mounts, and taking one of ours out of it.

Nothing here asks the mounted file system itself, which may be dead or hanging, except ``is_dead``, which says so.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shutil
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

from bucketfs.errors import Busy, DiskFailed, NotFound, NotPermitted, TimedOut

TYPE = "fuse.bucketfs"
"""How the kernel names a mount with ``subtype=bucketfs``."""

ANSWER_LIMIT_S = 2.0
"""How long the process behind a mount has to answer the kernel before it counts as one that hangs."""

_MOUNTINFO = Path("/proc/self/mountinfo")
_ESCAPE = re.compile(rb"\\([0-7]{3})")
_UMOUNT_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Mounted:
    """One line of mountinfo (proc_pid_mountinfo(5)). ``device`` is ``major:minor``, empty for a mount of ours that the kernel no
    longer has while its daemon still runs. ``uid`` is the user who mounted, where a FUSE mount says so; ``number`` is the mount's
    id."""

    mountpoint: Path
    type: str
    source: str
    device: str
    uid: int | None = None
    number: int = 0

    @property
    def detached(self) -> bool:
        """Whether the kernel no longer has it."""
        return not self.device

    @property
    def ours(self) -> bool:
        """Whether a bucketfs made it."""
        return self.type == TYPE


def mounts() -> list[Mounted]:
    """Every mount this process sees, lower ones first. Reads one file of /proc."""
    return parse_mountinfo(_MOUNTINFO.read_bytes())


def parse_mountinfo(data: bytes) -> list[Mounted]:
    """The mounts of a mountinfo file: proc(5). Pure."""
    found = []
    for line in data.splitlines():
        # A varying number of optional fields comes before the separator (proc_pid_mountinfo(5)).
        before, _, after = line.partition(b" - ")
        fields, tail = before.split(b" "), after.split(b" ")
        found.append(
            Mounted(
                mountpoint=Path(os.fsdecode(_unescape(fields[4]))),
                type=os.fsdecode(tail[0]),
                source=os.fsdecode(_unescape(tail[1])),
                device=os.fsdecode(fields[2]),
                uid=_uid(tail),
                number=int(fields[0]),
            )
        )
    return found


def detached(mountpoint: Path) -> Mounted:
    """A mount of ours that the kernel no longer has."""
    return Mounted(mountpoint, TYPE, "", "")


def _uid(tail: list[bytes]) -> int | None:
    found = re.search(rb"(?:^|,)user_id=(\d+)", tail[2]) if len(tail) > 2 else None
    return None if found is None else int(found[1])


def mounted_at(mountpoint: Path) -> Mounted | None:
    """The topmost mount at exactly this path (absolute, without symlinks), or ``None``."""
    # A later line lies on top of an earlier one with the same path.
    return next((mount for mount in reversed(mounts()) if mount.mountpoint == mountpoint), None)


def mount_number(descriptor: int) -> int:
    """Through which mount a file was opened. Asks no file system but /proc."""
    for line in Path(f"/proc/self/fdinfo/{descriptor}").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "mnt_id":
            return int(value)
    raise NotFound(f"/proc tells no mount of descriptor {descriptor}")


def mount_above(path: Path) -> Mounted | None:
    """The bucketfs mount that ``path`` (absolute, without symlinks) lies in, or ``None``."""
    ours = {mount.mountpoint: mount for mount in mounts() if mount.ours}
    return next((ours[place] for place in (path, *path.parents) if place in ours), None)


def is_dead(mountpoint: Path, limit_s: float = ANSWER_LIMIT_S) -> bool:
    """Whether the process behind a FUSE mount is gone. Blocks for at most ``limit_s``; a process that does not answer by then (it
    hangs, it was stopped) is there."""
    found: list[bool] = []
    # A thread that waits for the answer cannot be interrupted. It is left behind, and ends with the answer or with this process.
    asking = threading.Thread(target=lambda: found.append(_has_no_process(mountpoint)), name="is_dead", daemon=True)
    asking.start()
    asking.join(limit_s)
    return found == [True]


def _has_no_process(mountpoint: Path) -> bool:
    try:
        # Not stat(2): the kernel would answer from attributes that it may believe for an hour.
        os.statvfs(mountpoint)
    except OSError as error:
        # The first call after the death gets ECONNABORTED (its request was aborted), later ones ENOTCONN.
        return error.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    return False


def unmount(mountpoint: Path, *, lazy: bool = False, timeout_s: float = _UMOUNT_TIMEOUT_S) -> None:
    """Unmount, as root or as the user who mounted. Blocks while the kernel writes back what it holds.

    ``lazy`` detaches a mount that is in use: it is gone from the tree at once, and from its users when they let go. Raises
    NotFound (nothing is mounted there), Busy, NotPermitted, TimedOut, DiskFailed.
    """
    if mounted_at(mountpoint) is None:
        raise NotFound(f"nothing is mounted at {mountpoint}")
    command = _command(mountpoint, lazy)
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s, env={**os.environ, "LC_ALL": "C"}
        )
    except subprocess.TimeoutExpired:
        raise TimedOut(f"unmounting {mountpoint} took more than {timeout_s:.0f} s") from None
    if done.returncode == 0:
        return
    # fusermount3 exits with 1 for every failure, so only its text (in English, by LC_ALL) tells them apart.
    text = done.stderr.decode(errors="replace").strip().replace("\n", "; ")
    lowered = text.lower()
    if "busy" in lowered:
        raise Busy(f"{mountpoint} is in use", hint="leave it with every program and shell (lsof names them), or add --lazy")
    if "not mounted" in lowered or "not found in" in lowered:
        raise NotFound(f"nothing is mounted at {mountpoint}")
    if "not permitted" in lowered or "must be superuser" in lowered or "permission denied" in lowered:
        raise NotPermitted(f"{mountpoint} was mounted by another user", hint="unmount it as that user or as root")
    raise DiskFailed(f"{command[0]} could not unmount {mountpoint}: {text or f'exit code {done.returncode}'}")


def write_back(mountpoint: Path) -> None:
    """Make the kernel write back the dirty pages of the file system at ``mountpoint``: syncfs(2). Blocks. Raises DiskFailed.

    Through ctypes, which releases the GIL: another thread must answer the writes. (pyfuse3.syncfs holds it, and would wait for
    itself.)
    """
    library = ctypes.CDLL(None, use_errno=True)
    try:
        descriptor = os.open(mountpoint, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise DiskFailed(f"cannot open {mountpoint}: {error.strerror}") from error
    try:
        if library.syncfs(descriptor) != 0:
            raise DiskFailed(f"cannot write back {mountpoint}: {os.strerror(ctypes.get_errno())}")
    finally:
        os.close(descriptor)


def _command(mountpoint: Path, lazy: bool) -> list[str]:
    fusermount = shutil.which("fusermount3")
    if fusermount is not None:
        return [fusermount, "-u", *(["-z"] if lazy else []), "--", str(mountpoint)]
    # For root in a small container that has no fusermount3.
    return ["umount", *(["-l"] if lazy else []), "--", str(mountpoint)]


def _unescape(field: bytes) -> bytes:
    return _ESCAPE.sub(lambda match: bytes([int(match[1], 8)]), field)
