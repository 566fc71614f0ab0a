"""One mount, from its checks to its end.

``Mount.run`` serves until the folder is unmounted from outside, ``leave`` is called, or it is cancelled. After ``leave`` the
kernel is asked to unmount while requests are still served, so that it can write back the pages it holds; a mount that is in use
is written back and then detached. A cancellation without ``leave`` means that something broke: the kernel writes back what it
holds, and the mount is left dead (ENOTCONN), for an empty folder in its place would tell a program that mirrors it that all was
deleted. Serving has a shield of its own, so that a cancellation of ``run`` reaches it only after that; ``unmount_grace_s`` bounds
the whole.

pyfuse3 keeps its session in global variables: one process can hold one mount.

The trio thread must never touch the mounted folder, since it would wait for its own answer; ``/proc`` and ``/sys`` are safe.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pyfuse3
import trio

from bucketfs.errors import BucketfsError, Busy, NotFound, TimedOut, Unsupported
from bucketfs.mount.amending import Amender
from bucketfs.mount.checks import prepare
from bucketfs.mount.invalidate import Invalidator
from bucketfs.mount.operations import Operations
from bucketfs.mount.settings import MountSettings, raise_limits
from bucketfs.mount.table import Mounted, mounted_at, unmount, write_back
from bucketfs.vfs import VFS, AttributesChanged, ContentChanged, ContentLost, Invalidation

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)

CHECKS_TIMEOUT_S = 15.0
HANDSHAKE_TIMEOUT_S = 5.0
TOLD_TIMEOUT_S = 5.0
DEFAULT_SETTINGS = MountSettings()


class Mount:
    """A VFS shown at a folder. ``notify`` and ``drained`` take the VFS's news to the kernel."""

    def __init__(self, vfs: VFS, mountpoint: Path, settings: MountSettings = DEFAULT_SETTINGS) -> None:
        self.mountpoint = mountpoint
        self._settings = settings
        self._amender = Amender(vfs)
        # One worker each: an announcement that waits for the lock of one kind must not hold up those of another.
        self._names, self._attributes, self._contents = Invalidator(), Invalidator(), Invalidator()
        self._operations = Operations(vfs, settings, self._amender, self._names.introduced)
        self._losses = Invalidator(self._amender)
        self._lanes = (self._names, self._attributes, self._contents, self._losses)
        self._end = trio.Event()
        self._leaving = False
        self._serving = False
        self._mounted: Mounted | None = None
        self._raised: dict[str, int] = {}

    def notify(self, news: Invalidation) -> None:
        """Tell the kernel soon. Never blocks; from the trio thread only."""
        match news:
            case ContentLost():
                self._losses.notify(news)
            case ContentChanged():
                self._contents.notify(news)
            case _:
                self._names.notify(news)

    async def told(self, news: AttributesChanged | ContentChanged) -> None:
        """Tell the kernel, and wait until that was done. Allowed inside a write request: dropping attributes waits for nothing, and
        dropping pages waits for write-back of the same file, but not for direct writes."""
        lane = self._attributes if isinstance(news, AttributesChanged) else self._contents
        with trio.move_on_after(TOLD_TIMEOUT_S):
            await lane.announced(news)

    async def drained(self) -> None:
        """Wait until the kernel knows all news. Never from inside a request."""
        for lane in self._lanes:
            await lane.drained()

    def leave(self) -> None:
        """Ask ``run`` to unmount and return."""
        self._leaving = True
        self._end.set()

    def figures(self) -> dict[str, object]:
        """For ``status``: requests by kind, how many were overdue, what the kernel was told, which limits were raised."""
        return {
            "requests": dict(self._operations.requests),
            "overdue": self._operations.overdue,
            "invalidations": sum(lane.told for lane in self._lanes),
            "kernel": dict(self._raised),
        }

    async def run(self, *, task_status: trio.TaskStatus[Mounted] = trio.TASK_STATUS_IGNORED) -> None:
        """Check, mount, report the mount as started, serve until the end.

        Raises what ``prepare`` raises, TimedOut when the checks hang, Unsupported when the kernel refuses.
        """
        place = await self._prepare()
        _open_session(self._operations, place, self._settings)
        try:
            # From the table of mounts, not by stat(2), which this thread would have to answer itself.
            self._mounted = mounted_at(place)
            self._amender.mounted = self._mounted
            if self._mounted is None:
                raise Unsupported(f"the mount at {place} is not there", hint="was it unmounted in the same moment?")
            async with trio.open_nursery() as nursery:
                serving = await nursery.start(self._serve)
                telling = await nursery.start(self._tell)
                # The handshake sets the kernel's limits to their defaults, so ours come after it.
                with trio.move_on_after(HANDSHAKE_TIMEOUT_S):
                    await self._operations.begun.wait()
                self._raised = raise_limits(self._mounted, self._settings)
                task_status.started(self._mounted)
                try:
                    await self._end.wait()
                finally:
                    await self._part(place)
                    # Announcing ends first: a thread that waits for a lock of a request gets it only while requests are served.
                    telling.cancel()
                    with trio.CancelScope(shield=True):
                        for lane in self._lanes:
                            await lane.at_rest(self._settings.unmount_grace_s)
                    serving.cancel()
        finally:
            self._close_session(place)

    async def _prepare(self) -> Path:
        # A thread that hangs in a system call cannot be interrupted: it is abandoned, and the user gets an answer.
        with trio.move_on_after(CHECKS_TIMEOUT_S):
            return await trio.to_thread.run_sync(prepare, self.mountpoint, self._settings, abandon_on_cancel=True)
        raise TimedOut(
            f"looking at the mount point {self.mountpoint} took more than {CHECKS_TIMEOUT_S:.0f} s",
            hint="a file system on the way to it hangs; choose another folder",
        )

    async def _serve(self, *, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        with trio.CancelScope(shield=True) as scope:
            self._serving = True
            task_status.started(scope)
            try:
                # One task reads a request, starts the next reader and then works on it; at ``max_tasks`` requests stay in the
                # kernel.
                await pyfuse3.main(min_tasks=1, max_tasks=self._settings.tasks_max)
            finally:
                self._serving = False
                self._end.set()

    async def _tell(self, *, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        with trio.CancelScope(shield=True) as scope:
            task_status.started(scope)
            async with trio.open_nursery() as nursery:
                for lane in self._lanes:
                    nursery.start_soon(lane.run)

    async def _part(self, place: Path) -> None:
        """Unmount while requests are still served. Bounded; if it fails, the mount is detached afterwards."""
        if not self._serving or not self._still_there(place):
            return
        grace_s = self._settings.unmount_grace_s
        with trio.move_on_after(grace_s, shield=True) as scope:
            if not self._leaving:
                log.error("%s is left dead, for something broke; the next mount there clears it", place)
                await trio.to_thread.run_sync(write_back, place, abandon_on_cancel=True)
                return
            try:
                await trio.to_thread.run_sync(partial(unmount, place, timeout_s=grace_s), abandon_on_cancel=True)
            except NotFound:
                log.debug("%s was unmounted from outside in the same moment", place)
            except Busy:
                log.warning("%s is in use: it is written back and detached, its programs keep what they have open", place)
                # A lazy unmount writes nothing back, and what stays dirty is lost with this process.
                await trio.to_thread.run_sync(write_back, place, abandon_on_cancel=True)
                await trio.to_thread.run_sync(partial(unmount, place, lazy=True), abandon_on_cancel=True)
            except BucketfsError as error:
                log.warning("%s is detached without asking: %s", place, error)
        if scope.cancelled_caught:
            log.warning("unmounting %s took more than %.0f s; it is detached without asking", place, grace_s)

    def _still_there(self, place: Path) -> bool:
        mounted = mounted_at(place)
        return mounted is not None and self._mounted is not None and mounted.device == self._mounted.device

    def _close_session(self, place: Path) -> None:
        there = self._still_there(place)
        if all(lane.resting for lane in self._lanes):
            pyfuse3.close(unmount=there and self._leaving)
            return
        # A worker is stuck inside the session, which therefore must live on until this process ends.
        log.warning("an announcement to the kernel is stuck; the mount is detached and ends with this process")
        if there and self._leaving:
            unmount(place, lazy=True)


def _open_session(operations: Operations, place: Path, settings: MountSettings) -> None:
    """Mount. Raises Unsupported with what libfuse printed: it explains itself on standard error and nowhere else."""
    said: list[str] = []
    try:
        with _standard_error_into(said):
            pyfuse3.init(operations, str(place), settings.kernel_options())
    except RuntimeError as error:
        reason = "; ".join(line.strip() for line in said) or str(error)
        raise Unsupported(f"mounting at {place} failed: {reason}") from error
    for line in said:
        log.warning("libfuse: %s", line)


@contextmanager
def _standard_error_into(lines: list[str]) -> Iterator[None]:
    """Collect what is written to file descriptor 2 meanwhile, by C libraries and child processes too."""
    # Python's own buffer first, or its text would end up among the lines of the library.
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with tempfile.TemporaryFile() as aside:
            os.dup2(aside.fileno(), 2)
            try:
                yield
            finally:
                sys.stderr.flush()
                os.dup2(kept, 2)
                aside.seek(0)
                lines.extend(aside.read().decode(errors="replace").splitlines())
    finally:
        os.close(kept)
