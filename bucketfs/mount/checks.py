"""The checks before a mount. Each failure is one line, with a hint what to do."""

from __future__ import annotations

import logging
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

from bucketfs.errors import Busy, Denied, NotADirectory, NotEmpty, NotFound, NotPermitted, Unsupported
from bucketfs.mount.settings import MountSettings
from bucketfs.mount.table import Mounted, is_dead, mounted_at, unmount

log = logging.getLogger(__name__)

DEVICE = Path("/dev/fuse")
FUSE_CONF = Path("/etc/fuse.conf")


def prepare(mountpoint: Path, settings: MountSettings) -> Path:
    """Check everything and return the real path of the mount point; a dead mount of ours there is cleared first.

    Blocks, and hangs with a file system on the way that hangs: call it in a thread with a time limit.
    Raises NotFound, NotADirectory, NotEmpty, Busy, NotPermitted, Denied, Unsupported.
    """
    check_system(settings)
    place = real_path(mountpoint)
    clear_dead(place)
    check_place(place)
    return place


def check_system(settings: MountSettings) -> None:
    """The kernel's side. Raises Unsupported, Denied."""
    if not DEVICE.exists():
        raise Unsupported(
            f"this system has no {DEVICE}",
            hint="run 'modprobe fuse' as root; in a container pass --device /dev/fuse and --cap-add SYS_ADMIN",
        )
    if not os.access(DEVICE, os.R_OK | os.W_OK):
        raise Denied(
            f"{DEVICE} may not be opened by you", hint="ask the administrator to add you to its group, or to mount as root"
        )
    # Root calls mount(2) itself. Others need the setuid helper, which asks fuse.conf about --allow-other (mount.fuse3(8)).
    if os.geteuid() == 0:
        return
    if shutil.which("fusermount3") is None:
        raise Unsupported("the program fusermount3 is missing", hint="install the package fuse3, or mount as root")
    if settings.allow_other and not _others_allowed():
        raise Denied(
            f"--allow-other needs the line 'user_allow_other' in {FUSE_CONF}", hint="add it as root, or leave the option out"
        )


def real_path(mountpoint: Path) -> Path:
    """``mountpoint`` made absolute, with symlinks followed, but without touching what may be mounted there."""
    # The last component is not followed: a dead mount on it would answer ENOTCONN.
    place = (
        Path(os.path.realpath(mountpoint.parent)) / mountpoint.name
        if mountpoint.name
        else Path(os.path.realpath(mountpoint))
    )
    if mountpoint.name == "..":
        place = Path(os.path.realpath(mountpoint))
    if mounted_at(place) is None and place.is_symlink():
        place = Path(os.path.realpath(place))
    return place


def clear_dead(place: Path, mounted_at: Callable[[Path], Mounted | None] = mounted_at) -> None:
    """Unmount what a killed bucketfs left here. Raises Busy when a live mount is there."""
    # Mounts can lie on top of each other, so one that is cleared may uncover the next.
    while (mounted := mounted_at(place)) is not None and mounted.type.startswith("fuse"):
        if not mounted.ours:
            raise Busy(f"{place} is in use by another mount ({mounted.type})", hint="unmount that, or choose another folder")
        if not is_dead(place):
            raise Busy(
                f"{place} is mounted already", hint=f"'bucketfs status {place}' shows it, 'bucketfs umount {place}' ends it"
            )
        log.warning("the mount at %s had lost its process and is cleared", place)
        unmount(place, lazy=True)


def check_place(place: Path) -> None:
    """The folder itself. Raises NotFound, NotADirectory, NotEmpty, NotPermitted, Denied."""
    try:
        facts = place.stat()
    except FileNotFoundError:
        raise NotFound(f"the mount point {place} does not exist", hint=f"make it: mkdir -p {place}") from None
    except NotADirectoryError:
        raise NotADirectory(f"a part of the path {place} is not a folder", hint="choose a folder") from None
    except PermissionError:
        raise Denied(f"you may not look into {place.parent}", hint="choose a folder of yours") from None
    if not stat.S_ISDIR(facts.st_mode):
        raise NotADirectory(f"the mount point {place} is not a folder", hint="choose an empty folder")
    # fusermount3 asks for a writable folder only, but a mount hides what is in it from its owner.
    me = os.geteuid()
    if me not in (0, facts.st_uid):
        raise NotPermitted(
            f"the mount point {place} belongs to another user (uid {facts.st_uid})", hint="choose a folder of yours"
        )
    if not os.access(place, os.R_OK | os.W_OK | os.X_OK):
        raise Denied(f"you may not write to {place}", hint=f"chmod u+rwx {place}")
    with os.scandir(place) as entries:
        if next(entries, None) is not None:
            raise NotEmpty(
                f"the mount point {place} is not empty", hint="choose an empty folder, or move its files away first"
            )


def _others_allowed() -> bool:
    try:
        lines = FUSE_CONF.read_text().splitlines()
    except OSError:
        return False
    return any(line.strip() == "user_allow_other" for line in lines)
