"""``bucketfs mount``: check what can be checked at once, then start the daemon and wait until it is ready."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from bucketfs.cli.options import section, settings
from bucketfs.cli.outcome import daemon_command
from bucketfs.cli.printing import print_line, quoted_name
from bucketfs.config import BY_KEY, Config, MountOptions
from bucketfs.daemon import mirror_above, running_mount_at, spawn
from bucketfs.errors import Usage
from bucketfs.mount import MountSettings, is_dead, mounted_at, prepare, real_path

READY_MARGIN_S = 120.0
"""How long a mount may take to come up, with a large journal to replay. More than any wait inside of the daemon."""


@click.command()
@click.argument("words", nargs=-1, metavar="[BUCKET[/FOLDER]] MOUNTPOINT")
@click.option("--foreground", is_flag=True, help="Stay, and log to standard error: for service managers.")
@daemon_command
@settings("hub", "profile", "identity", "org", "thread", *section("mount"))
def mount(config: Config, words: tuple[str, ...], foreground: bool, ready_fd: int | None) -> None:
    """Mount all buckets, or one, or a folder of one, at MOUNTPOINT.

    Without any configuration this starts a Hub of your own on this machine, with one bucket named home.
    """
    if len(words) not in (1, 2):
        raise Usage(
            "mount takes a mount point, and before it optionally a bucket",
            hint="bucketfs mount [BUCKET[/FOLDER]] MOUNTPOINT",
        )
    bucket, mountpoint = words if len(words) == 2 else ("", words[0])
    if not mountpoint:
        raise Usage("the path of the mount point is empty", hint="write . for the current folder")
    bucket.encode()  # a name that is not UTF-8 fails here and not in the daemon
    name, _, prefix = bucket.strip("/").partition("/")
    if bucket and not name:
        raise Usage(f"{bucket!r} names no bucket", hint="write BUCKET or BUCKET/FOLDER")
    place = real_path(Path(mountpoint).expanduser().absolute())
    above = mirror_above(config.paths, place)
    if above is not None:
        raise Usage(
            f"{place} lies in {above}, which 'bucketfs buck watch' mirrors: the mount would be copied into a bucket",
            hint="choose a folder beside it",
        )
    options = MountOptions(place, config, name, prefix.strip("/"), ready_fd)
    if foreground:
        from bucketfs.daemon import run_daemon

        run_daemon(options)
    else:
        _start_daemon(bucket, options)


def _start_daemon(bucket: str, options: MountOptions) -> None:
    config, place = options.config, options.mountpoint
    mounted, running = mounted_at(place), running_mount_at(config.paths, place)
    # The daemon waits for one that is ending and checks then. A dead mount stays until the daemon has all it needs to take its
    # place: an empty folder in between would look like lost files.
    ending = running is not None and running.ends_s is not None
    if not ending and (mounted is None or not mounted.ours or not is_dead(place)):
        # The daemon checks again, because time passes; here a refusal takes no process.
        place = prepare(place, MountSettings(allow_other=config.mount.allow_other))
    log_file = config.paths.log_file(place)
    verbose = ["-v"] if click.get_current_context().find_root().params.get("verbose") else []
    arguments = [*verbose, "mount", "--foreground", *_given_again(config), "--", *([bucket] if bucket else []), str(place)]
    ready = spawn(arguments, log_file, READY_MARGIN_S, _WaitingLines())
    what = f"bucket {quoted_name(bucket)}" if bucket else "all buckets"
    print_line(f"Mounted {what} of {ready.get('hub') or 'the Hub'} at {quoted_name(str(place))}")
    state, cache, log = (quoted_name(str(path)) for path in (config.state_folder, config.cache_folder, log_file))
    print_line(f"Changes wait in {state}, the cache is in {cache}, the log is {log}")
    print_line(f"Unmount with: bucketfs umount {quoted_name(str(place))}")


class _WaitingLines:
    """Prints what the daemon waits for: elsewhere than on a terminal once, although the daemon repeats it."""

    def __init__(self) -> None:
        self._printed = False

    def __call__(self, text: str) -> None:
        if not self._printed or sys.stderr.isatty():
            print_line(text, err=True)
        self._printed = True


def _given_again(config: Config) -> list[str]:
    """The options of this command line for that of the daemon. No secret is an option. Paths become absolute, because the daemon's
    current folder is another one."""
    arguments = []
    for key, value in config.given.items():
        setting = BY_KEY[key]
        parsed = setting.parse(value)
        text = str(parsed) if isinstance(parsed, Path) else str(value)
        arguments.append(setting.flag if value is True else f"{setting.flag}={text}")
    return arguments
