"""Commands that talk to mounts that run: ``status``, ``sync``, ``umount``."""

from __future__ import annotations

import json
import os
import select
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from bucketfs.cli.report import Ticker, status_lines
from bucketfs.daemon import Places, answers, ask, load_config, parse_seconds
from bucketfs.errors import BucketfsError, Busy, NotFound, TimedOut, Unavailable, Usage
from bucketfs.mount import Mounted, is_dead, mount_above, mounted_at, mounts, real_path, unmount, write_back

STATUS_TIMEOUT_S = 10.0
END_MARGIN_S = 30.0


@click.command()
@click.argument("mountpoint", required=False)
@click.option("--json", "as_json", is_flag=True, help="For programs: the whole document.")
def status(mountpoint: str | None, as_json: bool) -> None:
    """Show what a mount, or each mount of yours, is doing."""
    places = load_config().places
    if mountpoint is not None:
        mounted = _mount_of(mountpoint)
        document = _status(places, mounted)
        click.echo(json.dumps(document, indent=2) if as_json else "\n".join(status_lines(document, time.time())))
        return
    documents = [_status_or_why_not(places, mounted) for mounted in _mine(places)]
    if as_json:
        click.echo(json.dumps(documents, indent=2))
    elif documents:
        click.echo("\n\n".join("\n".join(status_lines(document, time.time())) for document in documents))
    else:
        click.echo("Nothing is mounted. 'bucketfs mount FOLDER' mounts all buckets.")


@click.command()
@click.argument("path", required=False)
@click.option("--timeout", metavar="TIME", default=None, help="Give up after this long; the daemon goes on by itself.")
def sync(path: str | None, timeout: str | None) -> None:
    """Wait until all changes of the mount around PATH (default: of each mount) are at the Hub."""
    places = load_config().places
    try:
        limit_s = None if timeout is None else parse_seconds(timeout)
    except ValueError as error:
        raise Usage(f"--timeout is {timeout!r}", hint=f"write {error}") from None
    # A mount that lost its process but never was this configuration's is not waited for.
    mine = [one for one in _mine(places) if places.control_socket(one.mountpoint).exists()]
    chosen = [_mount_around(path)] if path is not None else mine
    if not chosen:
        raise NotFound("nothing is mounted", hint="'bucketfs mount FOLDER' mounts all buckets")
    # One mount in trouble must not keep the others from being waited for.
    failures = [found for mounted in chosen if (found := _synced(places, mounted, limit_s)) is not None]
    for failure in failures[1:]:
        click.echo(f"bucketfs: {failure}", err=True)
    if failures:
        raise failures[0]


def _synced(places: Places, mounted: Mounted, limit_s: float | None) -> BucketfsError | None:
    # The daemon keeps the limit; the margin here is for a daemon that hangs.
    silence_s = None if limit_s is None else limit_s + END_MARGIN_S
    try:
        with Ticker(f"{mounted.mountpoint}") as ticker:
            if not is_dead(mounted.mountpoint):
                # What programs wrote and still have open may be in the kernel's pages only.
                write_back(mounted.mountpoint)
            _ask(places, mounted, "sync", {"timeout_s": limit_s}, on_progress=ticker.show, timeout_s=silence_s)
    except BucketfsError as error:
        return error
    return None


@click.command()
@click.argument("mountpoint")
@click.option("--lazy", is_flag=True, help="Also while in use; programs keep what they have open.")
@click.option("--no-wait", is_flag=True, help="Leave the last changes to the next mount; they are kept.")
def umount(mountpoint: str, lazy: bool, no_wait: bool) -> None:
    """Unmount, and wait until the last changes are at the Hub (as long as the mount's --drain says)."""
    places = load_config().places
    mounted = _mount_of(mountpoint)
    if is_dead(mounted.mountpoint):
        unmount(mounted.mountpoint, lazy=True)
        click.echo(f"Unmounted {mounted.mountpoint}, which had lost its process; its changes wait for the next mount")
        return
    with _process_of(places, mounted) as process:
        unmount(mounted.mountpoint, lazy=lazy)
        if no_wait or process is None:
            click.echo(f"Unmounted {mounted.mountpoint}")
            return
        with Ticker(f"{mounted.mountpoint}") as ticker:
            left = _drained(places, mounted, ticker)
        _wait_for_end(process)
    click.echo(f"Unmounted {mounted.mountpoint}" + (f"; {left}" if left else ""))


def _drained(places: Places, mounted: Mounted, ticker: Ticker) -> str:
    """Follow the daemon until it has nothing more to do. Returns what it leaves behind, in words."""
    try:
        # Progress comes as long as the daemon drains; its own --drain bounds that.
        document = ask(places.control_socket(mounted.mountpoint), "stop", on_progress=ticker.show, timeout_s=None)
    except (NotFound, Unavailable):
        return ""  # it had nothing to do, and was quicker than our question
    return str(document.get("left", "") or "")


def _wait_for_end(process: int) -> None:
    poll = select.poll()
    poll.register(process, select.POLLIN)
    if not poll.poll(END_MARGIN_S * 1000):
        raise TimedOut(f"it is unmounted, but its daemon still runs after {END_MARGIN_S:.0f} s", hint="its log may say why")


@contextmanager
def _process_of(places: Places, mounted: Mounted) -> Iterator[int | None]:
    """A pidfd of the daemon behind a mount; ``None`` when it does not say who it is."""
    try:
        document = ask(places.control_socket(mounted.mountpoint), "status", timeout_s=STATUS_TIMEOUT_S)
        descriptor = os.pidfd_open(int(document["pid"]))
    except (NotFound, Unavailable, TimedOut, KeyError, OSError):
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _status(places: Places, mounted: Mounted) -> dict[str, Any]:
    return _ask(places, mounted, "status", timeout_s=STATUS_TIMEOUT_S)


def _ask(places: Places, mounted: Mounted, command: str, *arguments: dict[str, Any], **how: Any) -> dict[str, Any]:
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


def _status_or_why_not(places: Places, mounted: Mounted) -> dict[str, Any]:
    try:
        return _status(places, mounted)
    except (NotFound, TimedOut, Unavailable) as error:
        return {"mountpoint": str(mounted.mountpoint), "trouble": f"{error}: {error.hint}"}


def _mount_of(mountpoint: str) -> Mounted:
    """The mount at a mount point. Raises NotFound, Busy when another file system is there."""
    place = real_path(Path(mountpoint).expanduser().absolute())
    mounted = mounted_at(place)
    if mounted is None:
        raise NotFound(f"nothing is mounted at {place}", hint="'bucketfs status' lists what is")
    if not mounted.ours:
        raise Busy(f"{place} is a mount of {mounted.type}, not of bucketfs", hint="'bucketfs status' lists ours")
    return mounted


def _mount_around(path: str) -> Mounted:
    """The mount that a path lies in. Raises NotFound."""
    # Not resolved by asking the file system first: below a mount that hangs, that would hang as well.
    place = Path(os.path.abspath(Path(path).expanduser()))
    mounted = mount_above(place) or mount_above(Path(os.path.realpath(place)))
    if mounted is None:
        raise NotFound(f"{place} is in no bucketfs mount", hint="'bucketfs status' lists the mounts")
    return mounted


def _mine(places: Places) -> list[Mounted]:
    """The mounts whose daemons this user can talk to, and those that nobody can talk to any more."""
    return [
        one for one in mounts() if one.ours and (places.control_socket(one.mountpoint).exists() or is_dead(one.mountpoint))
    ]
