"""``bucketfs mount``: check what can be checked at once, then start the daemon and wait until it is ready."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from bucketfs.cli.options import configured, settings
from bucketfs.cli.outcome import telling
from bucketfs.cli.printing import named, say
from bucketfs.config import MountOptions
from bucketfs.daemon import running_at, spawn, watched_above
from bucketfs.errors import Usage
from bucketfs.mount import MountSettings, is_dead, mounted_at, prepare, real_path

READY_MARGIN_S = 120.0
"""How long a mount may take to come up: replaying a large journal takes its time. More than any wait inside of it."""

_KEYS = (
    "hub",
    "profile",
    "identity",
    "org",
    "thread",
    "mount.state",
    "mount.cache",
    "mount.cache_size",
    "mount.memory_size",
    "mount.uid",
    "mount.gid",
    "mount.allow_other",
    "mount.read_only",
    "mount.timeout",
    "mount.drain",
    "mount.poll",
    "mount.fsync",
)


@click.command()
@click.argument("places", nargs=-1, metavar="[BUCKET[/FOLDER]] MOUNTPOINT")
@settings(*_KEYS)
@click.option("--foreground", is_flag=True, help="Stay, and log to standard error: for service managers.")
@click.option("--ready-fd", type=int, default=None, hidden=True)
def mount(places: tuple[str, ...], foreground: bool, ready_fd: int | None, **options: Any) -> None:
    """Mount all buckets, or one, or a folder of one, at MOUNTPOINT.

    Without any configuration this starts a Hub of your own on this machine, with one bucket named home.
    """
    with telling(ready_fd):
        _mount(places, foreground, ready_fd, options)


def _mount(places: tuple[str, ...], foreground: bool, ready_fd: int | None, options: dict[str, Any]) -> None:
    if len(places) not in (1, 2):
        raise Usage(
            "mount takes a mount point, and before it perhaps a bucket", hint="bucketfs mount [BUCKET[/FOLDER]] MOUNTPOINT"
        )
    bucket, mountpoint = places if len(places) == 2 else ("", places[0])
    if not mountpoint:
        raise Usage("the path of the mount point is empty", hint="the current folder is written .")
    config = configured("mount", options)
    name, _, prefix = bucket.strip("/").partition("/")
    bucket.encode()  # fails here and not in the daemon when it is no text
    place = real_path(Path(mountpoint).expanduser().absolute())
    wanted = MountOptions(place, config, name, prefix.strip("/"), ready_fd)
    if bucket and not name:
        raise Usage(f"{bucket!r} names no bucket", hint="write BUCKET or BUCKET/FOLDER")
    above = watched_above(wanted.config.paths, wanted.mountpoint)
    if above is not None:
        raise Usage(
            f"{wanted.mountpoint} lies in {above}, which 'bucketfs buck watch' keeps in a bucket: that would be put into itself",
            hint="choose a folder beside it",
        )
    if foreground:
        from bucketfs.daemon import run_daemon

        run_daemon(wanted)
    else:
        _start(bucket, wanted, options)


def _start(bucket: str, wanted: MountOptions, options: dict[str, Any]) -> None:
    place = wanted.mountpoint
    # A dead mount stays until the daemon has all it needs to take its place: meanwhile it must not look like an empty folder.
    mounted = mounted_at(place)
    before = running_at(wanted.config.paths, place)
    if before is not None and before.ends_s is not None:
        pass  # the daemon waits for it, and checks then
    elif mounted is None or not mounted.ours or not is_dead(place):
        # Refused here too, where it takes no process: the daemon checks again, because time passes.
        place = prepare(place, MountSettings(allow_other=wanted.config.mount.allow_other))
    log_file = wanted.config.paths.log_file(place)
    verbose = ["-v"] if click.get_current_context().find_root().params.get("verbose") else []
    arguments = [*verbose, "mount", "--foreground", *_again(options)]
    ready = spawn([*arguments, "--", *([bucket] if bucket else []), str(place)], log_file, READY_MARGIN_S, _Waiting())
    what = f"bucket {named(bucket)}" if bucket else "all buckets"
    hub = str(ready.get("hub", "")) or "the Hub"
    say(f"Mounted {what} of {hub} at {named(str(place))}")
    state, cache = named(str(wanted.config.state_folder)), named(str(wanted.config.cache_folder))
    say(f"Changes wait in {state}, the cache is in {cache}, the log is {named(str(log_file))}")
    say(f"Unmount with: bucketfs umount {named(str(place))}")


class _Waiting:
    """Says what is waited for; how long still, again and again on a terminal only."""

    def __init__(self) -> None:
        self._said = False

    def __call__(self, text: str) -> None:
        if not self._said or sys.stderr.isatty():
            say(text, err=True)
        self._said = True


def _again(options: dict[str, Any]) -> list[str]:
    """The options as they were given, for the daemon's command line. There are no secrets among them. Paths are made
    absolute, since the daemon stands in another folder."""
    arguments = []
    for name, value in options.items():
        flag = "--" + name.replace("_", "-")
        if value is True:
            arguments.append(flag)
        elif value is not None and value is not False:
            text = (
                str(Path(value).expanduser().absolute()) if name in ("state", "cache", "identity") and value else str(value)
            )
            arguments.append(f"{flag}={text}")
    return arguments
