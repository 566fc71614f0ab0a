"""Commands that talk to mounts that run: ``status``, ``sync``, ``umount``."""

from __future__ import annotations

import json
import os
import select
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from bucketfs.cli.find_mounts import (
    ask_mount,
    listening_mounts,
    mount_around,
    mount_of,
    my_mounts,
    nothing_mounted,
    paths_of_user,
    socket_of,
)
from bucketfs.cli.options import LocalPath
from bucketfs.cli.outcome import raise_all
from bucketfs.cli.printing import named, say
from bucketfs.cli.status_text import Ticker, status_lines
from bucketfs.config import Paths, parse_seconds
from bucketfs.daemon import ask
from bucketfs.errors import BucketfsError, NotFound, TimedOut, Unavailable, Usage
from bucketfs.mount import Mounted, is_dead, unmount, write_back

STATUS_TIMEOUT_S = 10.0
END_MARGIN_S = 30.0
SILENCE_S = 120.0


@click.command()
@click.argument("mountpoint", required=False, type=LocalPath())
@click.option("--json", "as_json", is_flag=True, help="For programs: the whole document.")
def status(mountpoint: str | None, as_json: bool) -> None:
    """Show what a mount, or each mount of yours, is doing."""
    paths = paths_of_user()
    if mountpoint is not None:
        mounted = mount_of(paths, mountpoint)
        document = _status(paths, mounted)
        if as_json:
            click.echo(json.dumps(document, indent=2))
        else:
            _show([document])
        return
    documents = [_status_or_why_not(paths, mounted) for mounted in my_mounts(paths)]
    if as_json:
        click.echo(json.dumps(documents, indent=2))
    elif documents:
        _show(documents)
    else:
        text = nothing_mounted(paths)
        say(f"{text[0].upper()}{text[1:]}. 'bucketfs mount FOLDER' mounts all buckets.")


def _show(documents: list[dict[str, Any]]) -> None:
    for number, document in enumerate(documents):
        for line in [*([""] if number else []), *status_lines(document, time.time())]:
            say(line)


@click.command(short_help="Wait until all changes are at the Hub.")
@click.argument("path", required=False, type=LocalPath())
@click.option("--timeout", metavar="TIME", default=None, help="Give up after this long; the daemon goes on by itself.")
def sync(path: str | None, timeout: str | None) -> None:
    """Wait until all changes of the mount around PATH (default: of each mount) are at the Hub."""
    paths = paths_of_user()
    try:
        limit_s = None if timeout is None else parse_seconds(timeout)
    except ValueError as error:
        raise Usage(f"--timeout is {timeout!r}", hint=f"write {error}") from None
    chosen = [mount_around(paths, path)[0]] if path is not None else listening_mounts(paths)
    # One mount in trouble must not keep the others from being waited for.
    failures = [found for mounted in chosen if (found := _synced(paths, mounted, limit_s)) is not None]
    raise_all(failures)


def _synced(paths: Paths, mounted: Mounted, limit_s: float | None) -> BucketfsError | None:
    # The daemon keeps the limit, and tells how far it is twice a second; the margin here is for a daemon that hangs.
    silence_s = SILENCE_S if limit_s is None else limit_s + END_MARGIN_S
    try:
        with Ticker(f"{mounted.mountpoint}") as ticker:
            if mounted.detached:
                return _still_left(_drained(paths, mounted, ticker))
            # The kernel would wait for a daemon that hangs, and without end, so it is asked first whether it answers.
            _status(paths, mounted)
            # What programs wrote and still have open may be in the kernel's pages only.
            write_back(mounted.mountpoint)
            ask_mount(paths, mounted, "sync", {"timeout_s": limit_s}, on_progress=ticker.show, timeout_s=silence_s)
    except BucketfsError as error:
        return error
    return None


@click.command(short_help="Push the last changes, and unmount.")
@click.argument("mountpoint", type=LocalPath())
@click.option("--lazy", is_flag=True, help="Also while in use; programs keep what they have open.")
@click.option("--no-wait", is_flag=True, help="Leave the last changes to the next mount; they are kept.")
def umount(mountpoint: str, lazy: bool, no_wait: bool) -> None:
    """Unmount, and wait until the last changes are at the Hub (as long as the mount's --drain says)."""
    paths = paths_of_user()
    mounted = mount_of(paths, mountpoint)
    if mounted.detached:
        _follow_end(paths, mounted, no_wait)
        return
    if is_dead(mounted.mountpoint):
        unmount(mounted.mountpoint, lazy=True)
        say(f"Unmounted {named(str(mounted.mountpoint))}, which had lost its process; its changes wait for the next mount")
        return
    with _process_of(paths, mounted) as process:
        unmount(mounted.mountpoint, lazy=lazy)
        if no_wait or process is None:
            say(f"Unmounted {named(str(mounted.mountpoint))}")
            return
        with Ticker(f"{mounted.mountpoint}") as ticker:
            left = _drained(paths, mounted, ticker)
        _wait_for_end(process)
    say(f"Unmounted {named(str(mounted.mountpoint))}" + (f"; {left}" if left else ""))


def _follow_end(paths: Paths, mounted: Mounted, no_wait: bool) -> None:
    """It is unmounted already, and its daemon pushes what is left."""
    place = named(str(mounted.mountpoint))
    if no_wait:
        say(f"{place} is unmounted already; its daemon pushes the last changes")
        return
    with _process_of(paths, mounted) as process, Ticker(f"{mounted.mountpoint}") as ticker:
        left = _drained(paths, mounted, ticker)
        if process is not None:
            _wait_for_end(process)
    say(f"Unmounted {place}" + (f"; {left}" if left else ""))


def _still_left(left: str) -> BucketfsError | None:
    return Unavailable(left, hint="mount it again to push them") if left else None


def _drained(paths: Paths, mounted: Mounted, ticker: Ticker) -> str:
    """Follow the daemon until it has nothing more to do. Returns what it leaves behind, in words."""
    try:
        # Progress comes as long as the daemon drains; its own --drain bounds that.
        document = ask(socket_of(paths, mounted), "stop", on_progress=ticker.show, timeout_s=None)
    except (NotFound, Unavailable):
        return ""  # it had nothing to do, and was quicker than our question
    return str(document.get("left", "") or "")


def _wait_for_end(process: int) -> None:
    poll = select.poll()
    poll.register(process, select.POLLIN)
    if not poll.poll(END_MARGIN_S * 1000):
        raise TimedOut(f"it is unmounted, but its daemon still runs after {END_MARGIN_S:.0f} s", hint="its log may say why")


@contextmanager
def _process_of(paths: Paths, mounted: Mounted) -> Iterator[int | None]:
    """A pidfd of the daemon behind a mount; ``None`` when it does not say who it is."""
    try:
        document = ask(socket_of(paths, mounted), "status", timeout_s=STATUS_TIMEOUT_S)
        descriptor = os.pidfd_open(int(document["pid"]))
    except (NotFound, Unavailable, TimedOut, KeyError, OSError):
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _status(paths: Paths, mounted: Mounted) -> dict[str, Any]:
    return ask_mount(paths, mounted, "status", timeout_s=STATUS_TIMEOUT_S)


def _status_or_why_not(paths: Paths, mounted: Mounted) -> dict[str, Any]:
    try:
        return _status(paths, mounted)
    except (NotFound, TimedOut, Unavailable) as error:
        return {"mountpoint": str(mounted.mountpoint), "trouble": f"{error}: {error.hint}"}
