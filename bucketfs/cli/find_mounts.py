"""The mounts that a command is about, and asking their daemons.

None of it needs the settings: with a mistake in config.toml, a running mount can be looked at and ended all the same.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from bucketfs.cli.options import Command
from bucketfs.cli.printing import quoted_name
from bucketfs.config import Paths, find_paths
from bucketfs.daemon import answers, ask, running_mount_at, running_mounts
from bucketfs.errors import BucketfsError, Busy, NotFound, Unavailable
from bucketfs.mount import Mounted, detached, is_dead, mount_above, mounted_at, mounts, real_path

Document = dict[str, Any]


def with_mounts(command: Command) -> Command:
    """Pass the command the mounts of this user as its first argument; a test may give others as the object of click's context."""

    @functools.wraps(command)
    def run(*arguments: Any, **options: Any) -> Any:
        given = click.get_current_context().find_root().obj
        return command(given or UserMounts(find_paths(os.environ)), *arguments, **options)

    return run


class UserMounts:
    """The mounts of one user, who has these folders."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths

    def at(self, mountpoint: str) -> Mounted:
        """The mount at a mount point, or the one that was unmounted there and still pushes. Raises NotFound, and Busy when another
        file system is there."""
        place = real_path(Path(mountpoint).expanduser().absolute())
        mounted = mounted_at(place)
        if mounted is None:
            if self._is_running(place):
                return detached(place)
            raise NotFound(f"nothing is mounted at {place}", hint="'bucketfs status' lists what is")
        if not mounted.ours:
            raise Busy(f"{place} is a mount of {mounted.type}, not of bucketfs", hint="'bucketfs status' lists ours")
        return mounted

    def around(self, path: str) -> tuple[Mounted, str]:
        """The mount that a path lies in, and the path inside it, without slashes at its ends. Raises NotFound."""
        # Symlinks are resolved last: below a mount that hangs, resolving them would hang as well.
        given = Path(os.path.abspath(Path(path).expanduser()))
        for place in (given, Path(os.path.realpath(given))):
            mounted = mount_above(place)
            if mounted is None:
                mounted = next((detached(above) for above in (place, *place.parents) if self._is_running(above)), None)
            if mounted is not None:
                inside = place.relative_to(mounted.mountpoint)
                return mounted, "" if inside == Path() else str(inside)
        raise NotFound(f"{given} is in no bucketfs mount", hint="'bucketfs status' lists the mounts")

    def all(self) -> list[Mounted]:
        """The mounts whose daemons this user can talk to, those whose daemons have died, and those that are unmounted already while
        their daemons push what is left."""
        ours = [one for one in mounts() if one.ours]
        running = running_mounts(self._paths)
        registered = {one.mountpoint for one in running}
        attached = {one.mountpoint for one in ours}
        found = [
            one
            for one in ours
            if one.mountpoint in registered or self._paths.control_socket(one.mountpoint).exists() or is_dead(one.mountpoint)
        ]
        return found + [
            detached(one.mountpoint) for one in running if one.mountpoint not in attached and answers(one.socket)
        ]

    def listening(self) -> list[Mounted]:
        """The mounts with a control socket; one that died under another configuration has none here. Raises NotFound when there are
        none."""
        found = [one for one in self.all() if self._socket(one).exists()]
        if not found:
            raise NotFound(self.none_text(), hint="'bucketfs mount FOLDER' mounts all buckets")
        return found

    def meant(self, path: str | None) -> list[tuple[Mounted, str]]:
        """The mount around a path with the path inside it, or, without one, all that listen. Raises NotFound."""
        return [(mounted, "") for mounted in self.listening()] if path is None else [self.around(path)]

    def none_text(self) -> str:
        """That no mount was found, in words, and which mounts have another configuration."""
        others = sorted({str(one.mountpoint) for one in mounts() if one.ours and one.uid == os.geteuid()})
        if not others:
            return "nothing is mounted"
        return f"nothing is mounted with this HOME and these XDG folders; with others: {', '.join(map(quoted_name, others))}"

    def ask(
        self,
        mounted: Mounted,
        command: str,
        arguments: Document | None = None,
        *,
        on_progress: Callable[[Document], None] = lambda document: None,
        timeout_s: float | None,
    ) -> Document:
        """Ask the daemon behind a mount (see `bucketfs.daemon.ask`). Raises Unavailable when it has died, NotFound when it does not
        listen to this user, and what the daemon raises."""
        socket = self._socket(mounted)
        try:
            return ask(socket, command, arguments, on_progress=on_progress, timeout_s=timeout_s)
        except NotFound as error:
            if answers(socket):
                raise  # it listens, so this is its answer
            place = mounted.mountpoint
            if not mounted.detached and is_dead(place):
                raise Unavailable(
                    f"the process of the mount at {place} has died",
                    hint=f"'bucketfs umount {place}' clears it; no change that was written is lost",
                ) from error
            raise NotFound(f"the daemon behind {place} does not listen", hint=self._elsewhere(mounted)) from error

    def ask_each(
        self, meant: list[tuple[Mounted, str]], command: str, arguments: Document, *, timeout_s: float | None
    ) -> tuple[list[Document], list[BucketfsError]]:
        """Ask several daemons, each about its ``path``: their answers, and what failed. A mount in trouble does not hide what the
        others say."""
        answers: list[Document] = []
        failures: list[BucketfsError] = []
        for mounted, inside in meant:
            try:
                answers.append(self.ask(mounted, command, {**arguments, "path": inside}, timeout_s=timeout_s))
            except BucketfsError as error:
                failures.append(error)
        return answers, failures

    def _socket(self, mounted: Mounted) -> Path:
        """The control socket; the daemon may have been started with another runtime folder."""
        one = running_mount_at(self._paths, mounted.mountpoint)
        return self._paths.control_socket(mounted.mountpoint) if one is None else one.socket

    def _elsewhere(self, mounted: Mounted) -> str:
        if mounted.uid is not None and mounted.uid != os.geteuid():
            return f"it belongs to another user (uid {mounted.uid})"
        folders = f"{self._paths.runtime} or {self._paths.state}"
        return f"nothing in {folders} names it; use the HOME and XDG folders it was mounted with"

    def _is_running(self, mountpoint: Path) -> bool:
        one = running_mount_at(self._paths, mountpoint)
        return one is not None and answers(one.socket)
