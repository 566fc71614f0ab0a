"""Commands that talk to running mounts: ``status``, ``sync``, ``umount``."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import click

from bucketfs.cli.find_mounts import Document, UserMounts, with_mounts
from bucketfs.cli.options import LocalPath, json_option
from bucketfs.cli.outcome import raise_all
from bucketfs.cli.printing import print_json, print_line, quoted_name
from bucketfs.cli.progress import ProgressLine
from bucketfs.cli.status_text import status_lines
from bucketfs.config import parse_seconds
from bucketfs.errors import BucketfsError, NotFound, TimedOut, Unavailable, Usage
from bucketfs.mount import Mounted, is_dead, unmount, write_back

STATUS_TIMEOUT_S = 10.0
END_MARGIN_S = 30.0
SILENCE_S = 120.0


@click.command()
@click.argument("mountpoint", required=False, type=LocalPath())
@json_option
@with_mounts
def status(mounts: UserMounts, mountpoint: str | None, as_json: bool) -> None:
    """Show what a mount, or each mount of yours, is doing."""
    if mountpoint is not None:
        document = _status(mounts, mounts.at(mountpoint))
        if as_json:
            print_json(document)
        else:
            _print_status([document])
        return
    documents = [_status_or_error(mounts, mounted) for mounted in mounts.all()]
    if as_json:
        print_json(documents)
    elif documents:
        _print_status(documents)
    else:
        text = mounts.none_text()
        print_line(f"{text[0].upper()}{text[1:]}. 'bucketfs mount FOLDER' mounts all buckets.")


def _print_status(documents: list[Document]) -> None:
    for number, document in enumerate(documents):
        for line in [*([""] if number else []), *status_lines(document, time.time())]:
            print_line(line)


def _status(mounts: UserMounts, mounted: Mounted) -> Document:
    return mounts.ask(mounted, "status", timeout_s=STATUS_TIMEOUT_S)


def _status_or_error(mounts: UserMounts, mounted: Mounted) -> Document:
    try:
        return _status(mounts, mounted)
    except (NotFound, TimedOut, Unavailable) as error:
        return {"mountpoint": str(mounted.mountpoint), "trouble": f"{error}: {error.hint}"}


@click.command(short_help="Wait until all changes are at the Hub.")
@click.argument("path", required=False, type=LocalPath())
@click.option("--timeout", metavar="TIME", default=None, help="Give up after this long; the daemon goes on by itself.")
@with_mounts
def sync(mounts: UserMounts, path: str | None, timeout: str | None) -> None:
    """Wait until all changes of the mount around PATH (default: of each mount) are at the Hub."""
    try:
        limit_s = None if timeout is None else parse_seconds(timeout)
    except ValueError as error:
        raise Usage(f"--timeout is {timeout!r}", hint=f"write {error}") from None
    chosen = [mounts.around(path)[0]] if path is not None else mounts.listening()
    failures = []
    for mounted in chosen:
        # One mount in trouble must not keep the others from being waited for.
        try:
            _sync(mounts, mounted, limit_s)
        except BucketfsError as error:
            failures.append(error)
    raise_all(failures)


def _sync(mounts: UserMounts, mounted: Mounted, limit_s: float | None) -> None:
    # The daemon keeps the limit, and reports progress twice a second; the margin here is for a daemon that hangs.
    silence_s = SILENCE_S if limit_s is None else limit_s + END_MARGIN_S
    with ProgressLine() as progress:
        show = partial(_show_progress, progress, mounted)
        if mounted.detached:
            left = _drain(mounts, mounted, progress)
            if left:
                raise Unavailable(left, hint="mount it again to push them")
            return
        # Asked first whether it answers: for a daemon that hangs the kernel would wait without end.
        _status(mounts, mounted)
        # What programs wrote and still have open may be in the kernel's pages only.
        write_back(mounted.mountpoint)
        mounts.ask(mounted, "sync", {"timeout_s": limit_s}, on_progress=show, timeout_s=silence_s)


@click.command(short_help="Push the last changes, and unmount.")
@click.argument("mountpoint", type=LocalPath())
@click.option("--lazy", is_flag=True, help="Also while in use; programs keep what they have open.")
@click.option("--no-wait", is_flag=True, help="Do not wait for the last changes; what cannot be pushed is kept.")
@with_mounts
def umount(mounts: UserMounts, mountpoint: str, lazy: bool, no_wait: bool) -> None:
    """Unmount, and wait until the last changes are at the Hub (as long as the mount's --drain says)."""
    mounted = mounts.at(mountpoint)
    place = quoted_name(str(mounted.mountpoint))
    if mounted.detached and no_wait:
        print_line(f"{place} is unmounted already; its daemon pushes the last changes")
        return
    if not mounted.detached and is_dead(mounted.mountpoint):
        unmount(mounted.mountpoint, lazy=True)
        print_line(f"Unmounted {place}, whose process had died; its changes wait for the next mount")
        return
    with _process_of(mounts, mounted) as process:
        if not mounted.detached:
            unmount(mounted.mountpoint, lazy=lazy)
        left = ""
        if mounted.detached or not (no_wait or process is None):
            with ProgressLine() as progress:
                left = _drain(mounts, mounted, progress)
            if process is not None:
                _wait_for_end(process)
    print_line(f"Unmounted {place}" + (f"; {left}" if left else ""))


def _drain(mounts: UserMounts, mounted: Mounted, progress: ProgressLine) -> str:
    """Follow the daemon until it has nothing more to do. Returns what it leaves behind, in words."""
    show = partial(_show_progress, progress, mounted)
    try:
        # Without a limit: progress comes as long as the daemon drains, which its own --drain bounds.
        return str(mounts.ask(mounted, "stop", on_progress=show, timeout_s=None).get("left", ""))
    except (NotFound, Unavailable):
        return ""  # it had nothing to do, and ended before it could answer


def _show_progress(progress: ProgressLine, mounted: Mounted, document: Document) -> None:
    text = f"{mounted.mountpoint}: {document.get('text', 'working')}"
    progress.show(text, document.get("done_bytes"), document.get("total_bytes"))


def _wait_for_end(process: int) -> None:
    poll = select.poll()
    poll.register(process, select.POLLIN)
    if not poll.poll(END_MARGIN_S * 1000):
        raise TimedOut(f"it is unmounted, but its daemon still runs after {END_MARGIN_S:.0f} s", hint="its log may say why")


@contextmanager
def _process_of(mounts: UserMounts, mounted: Mounted) -> Iterator[int | None]:
    """A pidfd of the daemon behind a mount; ``None`` when it does not say its process."""
    try:
        document: dict[str, Any] = _status(mounts, mounted)
        descriptor = os.pidfd_open(int(document["pid"]))
    except (NotFound, Unavailable, TimedOut, KeyError, OSError):
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)
