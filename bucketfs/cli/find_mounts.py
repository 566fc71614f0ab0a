"""Finding the mounts that a command is about, and asking their daemons.

None of it needs the settings: with a mistake in config.toml a mount that runs can be looked at and ended all the same.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from bucketfs.cli.printing import named
from bucketfs.config import Paths, find_paths
from bucketfs.daemon import answers, ask, running_at, running_mounts
from bucketfs.errors import Busy, NotFound, Unavailable
from bucketfs.mount import Mounted, detached, is_dead, mount_above, mounted_at, mounts, real_path


def paths_of_user() -> Paths:
    """Where the mounts of this user are found."""
    return find_paths(os.environ)


def socket_of(paths: Paths, mounted: Mounted) -> Path:
    """The control socket of the daemon behind a mount, which may have been started with another runtime folder."""
    one = running_at(paths, mounted.mountpoint)
    return paths.control_socket(mounted.mountpoint) if one is None else one.socket


def ask_mount(paths: Paths, mounted: Mounted, command: str, *arguments: dict[str, Any], **how: Any) -> dict[str, Any]:
    """Ask the daemon behind a mount. Raises Unavailable when there is none any more, NotFound when it does not listen to us."""
    path = socket_of(paths, mounted)
    try:
        return ask(path, command, *arguments, **how)
    except NotFound as error:
        if answers(path):
            raise  # it listens, so this is its answer
        if not mounted.detached and is_dead(mounted.mountpoint):
            lost = f"the mount at {mounted.mountpoint} has lost its process"
            raise Unavailable(lost, hint=_clear_hint(mounted)) from error
        raise NotFound(f"the daemon behind {mounted.mountpoint} does not listen", hint=_elsewhere(paths, mounted)) from error


def _clear_hint(mounted: Mounted) -> str:
    return f"'bucketfs umount {mounted.mountpoint}' clears it; no change that was written is lost"


def _elsewhere(paths: Paths, mounted: Mounted) -> str:
    if mounted.uid is not None and mounted.uid != os.geteuid():
        return f"it is of another user (uid {mounted.uid})"
    return f"nothing in {paths.runtime} or {paths.state} tells of it; use the HOME and XDG folders it was mounted with"


def mount_of(paths: Paths, mountpoint: str) -> Mounted:
    """The mount at a mount point, also one that ends and is unmounted already. Raises NotFound, Busy when another file system is
    there."""
    place = real_path(Path(mountpoint).expanduser().absolute())
    mounted = mounted_at(place)
    if mounted is None:
        if _runs(paths, place):
            return detached(place)
        raise NotFound(f"nothing is mounted at {place}", hint="'bucketfs status' lists what is")
    if not mounted.ours:
        raise Busy(f"{place} is a mount of {mounted.type}, not of bucketfs", hint="'bucketfs status' lists ours")
    return mounted


def mount_around(paths: Paths, path: str) -> tuple[Mounted, str]:
    """The mount that a path lies in, and the path inside it, without slashes at its ends. Raises NotFound."""
    # Not resolved by asking the file system first: below a mount that hangs, that would hang as well.
    given = Path(os.path.abspath(Path(path).expanduser()))
    for place in (given, Path(os.path.realpath(given))):
        mounted = mount_above(place)
        if mounted is None:
            mounted = next((detached(above) for above in (place, *place.parents) if _runs(paths, above)), None)
        if mounted is not None:
            inside = place.relative_to(mounted.mountpoint)
            return mounted, "" if inside == Path() else str(inside)
    raise NotFound(f"{given} is in no bucketfs mount", hint="'bucketfs status' lists the mounts")


def my_mounts(paths: Paths) -> list[Mounted]:
    """The mounts whose daemons this user can talk to, those that nobody can talk to any more, and those that the kernel has no more
    while their daemons push what is left."""
    ours = [one for one in mounts() if one.ours]
    told = running_mounts(paths)
    known = {one.mountpoint for one in told}
    there = {one.mountpoint for one in ours}
    found = [
        one
        for one in ours
        if one.mountpoint in known or paths.control_socket(one.mountpoint).exists() or is_dead(one.mountpoint)
    ]
    return found + [detached(one.mountpoint) for one in told if one.mountpoint not in there and answers(one.socket)]


def listening_mounts(paths: Paths) -> list[Mounted]:
    """The mounts of this configuration, dead ones that never were its own left out. Raises NotFound when there are none."""
    found = [one for one in my_mounts(paths) if socket_of(paths, one).exists()]
    if not found:
        raise NotFound(nothing_mounted(paths), hint="'bucketfs mount FOLDER' mounts all buckets")
    return found


def nothing_mounted(paths: Paths) -> str:
    """That no mount was found, in words, and which ones there are that this configuration does not know."""
    others = sorted({str(one.mountpoint) for one in mounts() if one.ours and one.uid == os.geteuid()})
    if not others:
        return "nothing is mounted"
    return f"nothing is mounted with this HOME and these XDG folders; with others: {', '.join(map(named, others))}"


def _runs(paths: Paths, mountpoint: Path) -> bool:
    one = running_at(paths, mountpoint)
    return one is not None and answers(one.socket)
