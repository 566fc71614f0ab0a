"""Finding the mounts that a command is about, and asking their daemons."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from bucketfs.daemon import Places, answers, ask
from bucketfs.errors import Busy, NotFound, Unavailable
from bucketfs.mount import Mounted, is_dead, mount_above, mounted_at, mounts, real_path


def ask_mount(places: Places, mounted: Mounted, command: str, *arguments: dict[str, Any], **how: Any) -> dict[str, Any]:
    """Ask the daemon behind a mount. Raises Unavailable when there is none any more, NotFound when it does not listen to us."""
    path = places.control_socket(mounted.mountpoint)
    try:
        return ask(path, command, *arguments, **how)
    except NotFound as error:
        if answers(path):
            raise  # it listens, so this is its answer
        if is_dead(mounted.mountpoint):
            lost = f"the mount at {mounted.mountpoint} has lost its process"
            raise Unavailable(lost, hint=_clear_hint(mounted)) from error
        raise NotFound(f"the daemon behind {mounted.mountpoint} does not listen", hint="is it of another user?") from error


def _clear_hint(mounted: Mounted) -> str:
    return f"'bucketfs umount {mounted.mountpoint}' clears it; no change that was written is lost"


def mount_of(mountpoint: str) -> Mounted:
    """The mount at a mount point. Raises NotFound, Busy when another file system is there."""
    place = real_path(Path(mountpoint).expanduser().absolute())
    mounted = mounted_at(place)
    if mounted is None:
        raise NotFound(f"nothing is mounted at {place}", hint="'bucketfs status' lists what is")
    if not mounted.ours:
        raise Busy(f"{place} is a mount of {mounted.type}, not of bucketfs", hint="'bucketfs status' lists ours")
    return mounted


def mount_around(path: str) -> tuple[Mounted, str]:
    """The mount that a path lies in, and the path inside it, without slashes at its ends. Raises NotFound."""
    # Not resolved by asking the file system first: below a mount that hangs, that would hang as well.
    given = Path(os.path.abspath(Path(path).expanduser()))
    for place in (given, Path(os.path.realpath(given))):
        mounted = mount_above(place)
        if mounted is not None:
            inside = place.relative_to(mounted.mountpoint)
            return mounted, "" if inside == Path() else str(inside)
    raise NotFound(f"{given} is in no bucketfs mount", hint="'bucketfs status' lists the mounts")


def my_mounts(places: Places) -> list[Mounted]:
    """The mounts whose daemons this user can talk to, and those that nobody can talk to any more."""
    return [
        one for one in mounts() if one.ours and (places.control_socket(one.mountpoint).exists() or is_dead(one.mountpoint))
    ]


def listening_mounts(places: Places) -> list[Mounted]:
    """The mounts of this configuration, dead ones that never were its own left out. Raises NotFound when there are none."""
    found = [one for one in my_mounts(places) if places.control_socket(one.mountpoint).exists()]
    if not found:
        raise NotFound("nothing is mounted", hint="'bucketfs mount FOLDER' mounts all buckets")
    return found
