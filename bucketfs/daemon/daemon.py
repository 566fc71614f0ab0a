"""The wiring of one mount: Hub, cache, volumes, VFS, kernel, control socket. This file alone knows every room.

Order matters at both ends. Start: session, cache, journals replayed, then the kernel, then READY. End: pending changes are pushed
while the mount still answers, the kernel writes back what it holds and is unmounted, the rest is pushed as far as the drain time
goes, journals are closed. What is left stays in the journals, and the log says how much.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import time
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import trio

from bucketfs.cache import BlockCache
from bucketfs.client import BucketInfo
from bucketfs.config import OWNER_ONLY, MountOptions, close_to_others, follow_settings, make_private
from bucketfs.daemon.buckets import BucketFolders, MountState, Volumes, drain_until, left_text, report_while
from bucketfs.daemon.control import MountParts, commands_of, mount_status
from bucketfs.daemon.host import (
    ControlServer,
    Document,
    MountLocks,
    Progress,
    RunningMount,
    more_time,
    notify_ready,
    notify_status,
    notify_stopping,
    raise_descriptor_limit,
    report_ready,
    report_waiting,
    return_free_memory_regularly,
    watchdog,
)
from bucketfs.daemon.session import Session, open_session
from bucketfs.disk import Disk
from bucketfs.errors import BucketfsError, NotFound, TimedOut, Unauthenticated, Unavailable, Unsupported
from bucketfs.mount import KernelClock, Mount, MountSettings
from bucketfs.remote import HubSource, Watcher
from bucketfs.sync import Pace
from bucketfs.types import ROOT_INODE, BucketKey
from bucketfs.vfs import VFS, AttributesChanged, ContentChanged, InodeNumbers, Invalidation, Owner

log = logging.getLogger(__name__)

LOOK_AT_START_S = 0.7
"""How long a mount with a cached listing waits for the Hub before it starts without."""
FSYNC_AT_HUB_TIMEOUT_S = 3600.0
"""A push takes its time, and fsync=hub must not fail before the push has."""
RECORD_EVERY_S = 1.0
CLOSE_GRACE_S = 10.0
FAREWELL_S = 5.0
"""How long the end waits for programs that follow events to take the last ones."""
FAREWELL_TURNS = 20
READY_MARGIN_S = 120.0
"""How long a service manager is asked to wait from then on, each time this mount has to wait for another one."""


def run_daemon(options: MountOptions) -> None:
    """Serve one mount until it is unmounted or told to stop. Blocks. Raises what prevents it, as one error."""
    os.umask(OWNER_ONLY)
    close_to_others(options.config.paths)
    raise_descriptor_limit()
    trio.run(_Daemon(options).run)


class _Daemon:
    def __init__(self, options: MountOptions) -> None:
        self._options = options
        self._socket = options.config.paths.control_socket(options.mountpoint)
        self._state = MountState(options)
        self._started_s = time.time()
        self._stop = trio.Event()
        self._ended = trio.Event()
        self._left = ""
        self._ends_s: float | None = None
        self._late_settings: list[str] = []
        self._listed = trio.Event()
        self._buckets: list[BucketInfo] = []
        self._asked_s = self._listed_s = 0.0
        self._mount: Mount | None = None
        mine = RunningMount(options.mountpoint, self._socket, os.getpid())
        self._locks = MountLocks(Disk(), options.config.paths, mine, self._report_waiting)

    async def run(self) -> None:
        config, state = self._options.config, self._state
        async with AsyncExitStack() as stack:
            stack.callback(self._locks.close)
            await self._locks.take_mountpoint()
            session = await stack.enter_async_context(
                open_session(config, timeout_s=config.mount.timeout_s, recall=state.recall_thread)
            )
            listed = await self._ask_at_start(session)
            if listed is not None and not await session.blocks.offered():
                raise Unsupported(
                    f"{session.hub_text} does not offer blocks by CID, and mounting by path is not possible yet",
                    hint="use 'bucketfs buck', or a Hub started with 'bucketfs hub serve'",
                )
            folder = state.folder(session.place, session.who)
            await self._locks.take_journals(folder)
            nursery = await stack.enter_async_context(trio.open_nursery())
            if listed is not None:
                buckets = await state.with_deleted(folder, session, listed)
                state.save(session.thread, buckets)
            else:
                assert state.listing is not None, "without the Hub a mount starts from its cached listing"
                buckets = await state.with_deleted(folder, session, list(state.listing.buckets))
            parts = await self._wire(nursery, session, folder, buckets)
            return_free_memory_regularly()
            stack.callback(nursery.cancel_scope.cancel)
            await self._serve(nursery, parts)

    # Start

    def _report_waiting(self, text: str) -> None:
        log.warning("%s", text)
        notify_status(text)
        more_time(READY_MARGIN_S)
        report_waiting(self._options.ready_fd, text)

    async def _ask_at_start(self, session: Session) -> list[BucketInfo] | None:
        """The buckets of the Hub. A mount with a cached listing waits for a moment only, and gets None when the Hub is away."""
        is_first = self._state.listing is None
        try:
            with trio.move_on_after(float("inf") if is_first else LOOK_AT_START_S):
                return (await session.look(self._options.bucket)).buckets
        except (Unavailable, TimedOut, Unauthenticated) as error:
            if is_first:
                raise
            how = "does not accept the key" if isinstance(error, Unauthenticated) else "is away"
            log.warning("%s %s; the mount starts from what it last listed: %s", session.hub_text, how, error)
            return None
        log.warning("%s does not answer; the mount starts from what it last listed", session.hub_text)
        return None

    async def _wire(self, nursery: trio.Nursery, session: Session, folder: Path, buckets: list[BucketInfo]) -> MountParts:
        options = self._options
        settings = options.config.mount
        uid = os.getuid() if settings.uid is None else settings.uid
        gid = os.getgid() if settings.gid is None else settings.gid
        owner = Owner(uid, gid, KernelClock())
        source = HubSource(session.blocks, settings.timeout_s)
        cache = BlockCache(
            source,
            make_private(options.config.cache_folder) / folder.name,
            memory_bytes=settings.memory_size_bytes,
            disk_bytes=settings.cache_size_bytes,
        )
        await nursery.start(cache.run)
        numbers = InodeNumbers(folder / "inodes.db")
        await nursery.start(numbers.run)
        volumes = Volumes(session, folder, cache, numbers, owner, self._notify, read_only=settings.read_only, pace=Pace())
        folders = BucketFolders(session, volumes)
        await nursery.start(volumes.run)
        folders.start()
        vfs = VFS(
            numbers=numbers,
            registry=volumes.registry,
            owner=owner,
            space=lambda: volumes.space(*_space(folder)),
            notify=self._notify,
            told=self._notify_and_wait,
            bucket_maker=None if options.bucket else folders,
            read_only=settings.read_only,
            make_room=volumes.make_room,
            **({"synced": volumes.drain} if settings.fsync == "hub" else {}),
        )
        folders.vfs = vfs
        await nursery.start(vfs.run)
        await self._show(session, volumes, folders, buckets)
        mount_settings = MountSettings(
            allow_other=settings.allow_other,
            read_only=settings.read_only,
            timeout_s=settings.timeout_s,
            fsync_timeout_s=FSYNC_AT_HUB_TIMEOUT_S if settings.fsync == "hub" else 0.0,
            # Every new name in a folder that the kernel knows is announced to it by the rebase that brings it.
            negative_timeout_s=3600.0,
        )
        mount = self._mount = Mount(vfs, options.mountpoint, mount_settings)
        watcher = Watcher(
            lambda: self._ask(session, volumes),
            session.threads,
            session.thread,
            poll_s=settings.poll_s,
            moved=folders.root_moved,
            listed=self._take_listing,
            back=folders.retry_now,
        )
        return MountParts(options, session, source, cache, volumes, folders, vfs, mount, watcher)

    async def _show(self, session: Session, volumes: Volumes, folders: BucketFolders, buckets: list[BucketInfo]) -> None:
        wanted, prefix = self._options.bucket, self._options.prefix
        if not wanted:
            await folders.listed(buckets, trio.current_time())
            return
        found = next((info for info in buckets if info.key == wanted), None)
        found = found or next((info for info in buckets if info.name == wanted), None)
        found = found or self._renamed(volumes, buckets)
        if found is None:
            names = ", ".join(sorted(info.name or info.key for info in buckets)) or "none"
            raise NotFound(
                f"{session.hub_text} has no bucket {wanted!r}",
                hint=f"make it with 'bucketfs buck create {wanted}'; there are: {names}",
            )
        opened = await volumes.add(found, b"", None if prefix else ROOT_INODE)
        await folders.vfs.show(opened.volume, prefix)
        for info in self._state.deleted:
            # Another bucket has its name by now, and a mount of one bucket has no place for two.
            if info.key != found.key:
                await folders.keep_without_folder(info)

    def _renamed(self, volumes: Volumes, buckets: list[BucketInfo]) -> BucketInfo | None:
        """The bucket that this mount had before it was renamed at the Hub: the changes that wait here are for that one."""
        seen = volumes.keys_seen
        found = next((info for info in buckets if info.key in seen), None)
        if found is not None:
            log.warning("bucket %r was renamed to %r at the Hub", self._options.bucket, found.name)
        return found

    # Running

    async def _serve(self, nursery: trio.Nursery, parts: MountParts) -> None:
        options = self._options
        unmounted = trio.Event()
        broken = True

        async def serve_kernel(*, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
            try:
                await parts.mount.run(task_status=task_status)
            finally:
                unmounted.set()
                self._stop.set()

        try:
            await nursery.start(serve_kernel)
            await nursery.start(parts.watcher.run)
            nursery.start_soon(self._follow_listing, parts)
            nursery.start_soon(self._record_regularly, parts.volumes)
            nursery.start_soon(self._follow_settings, parts)
            nursery.start_soon(self._stop_on_signal)
            nursery.start_soon(watchdog)
            commands = commands_of(parts, status=partial(self._status, parts), stop=partial(self._stop_and_wait, parts))
            await nursery.start(ControlServer(self._socket, commands).run)
            hub = parts.session.hub_text
            notify_ready(f"{options.mountpoint} on {hub}")
            report_ready(options.ready_fd, {"hub": hub, "mountpoint": str(options.mountpoint), "pid": os.getpid()})
            await self._stop.wait()
            broken = False
        finally:
            ending_s = options.config.mount.drain_s + CLOSE_GRACE_S * 2
            self._ends_s = time.time() + ending_s
            self._locks.ending(self._ends_s)
            with trio.move_on_after(ending_s, shield=True):
                await self._end(parts, unmounted, broken)

    async def _end(self, parts: MountParts, unmounted: trio.Event, broken: bool) -> None:
        """Push, unmount, push what the kernel wrote back, and log what is left. A ``broken`` mount, whose tasks are gone, pushes
        nothing and stays dead."""
        drain_s = 0.0 if broken else self._options.config.mount.drain_s
        notify_stopping(f"pushing the last changes, for up to {drain_s:.0f} s")
        deadline = trio.current_time() + drain_s
        opened = parts.volumes.open
        if not broken:
            if not unmounted.is_set():
                await drain_until(list(opened.values()), parts.folders, deadline)
            parts.mount.leave()
        with trio.move_on_after(CLOSE_GRACE_S):
            await unmounted.wait()
        self._record_open_files(parts.volumes)
        if not broken:
            await drain_until(list(opened.values()), parts.folders, deadline)
        left = [text for one in opened.values() if (text := left_text(one))]
        for text in left:
            log.warning("%s", text)
        self._left = "; ".join(left)
        with trio.move_on_after(FAREWELL_S):
            await parts.volumes.feed.close()
        self._ended.set()
        # The task that answers 'umount' needs a few turns for that before the control socket is closed.
        for _ in range(FAREWELL_TURNS):
            await trio.lowlevel.checkpoint()

    def _notify(self, invalidation: Invalidation) -> None:
        if self._mount is not None:
            self._mount.notify(invalidation)

    async def _notify_and_wait(self, invalidation: AttributesChanged | ContentChanged) -> None:
        if self._mount is not None:
            await self._mount.told(invalidation)

    async def _ask(self, session: Session, volumes: Volumes) -> list[BucketInfo]:
        asked_s = trio.current_time()
        found = await session.look(self._options.bucket)
        self._asked_s = asked_s
        await volumes.apply_quota(found.limits)
        return found.buckets

    def _take_listing(self, buckets: list[BucketInfo]) -> None:
        self._buckets, self._listed_s = buckets, self._asked_s
        self._listed.set()

    async def _follow_listing(self, parts: MountParts) -> None:
        saved: list[tuple[BucketKey, str]] = []
        while True:
            await self._listed.wait()
            self._listed = trio.Event()
            asked_s = self._listed_s
            if not self._options.bucket:
                await parts.folders.listed(self._buckets, asked_s)
            buckets = [*self._buckets, *parts.folders.missing(self._buckets)]
            names = [(info.key, info.name) for info in buckets]
            if names != saved:
                saved = names
                self._state.save(parts.session.thread, buckets)

    async def _record_regularly(self, volumes: Volumes) -> None:
        while True:
            await trio.sleep(RECORD_EVERY_S)
            self._record_open_files(volumes)

    def _record_open_files(self, volumes: Volumes) -> None:
        for one in volumes.open.values():
            try:
                one.scheduler.record_open_files()
            except BucketfsError as error:
                log.warning("bucket %r: open files cannot be recorded now: %s", one.info.name, error)

    async def _stop_on_signal(self) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            async for number in signals:
                log.info("stopping on %s", signal.Signals(number).name)
                self._stop.set()

    async def _follow_settings(self, parts: MountParts) -> None:
        def report(lines: list[str]) -> None:
            self._late_settings = lines

        await follow_settings(self._options.config, parts.session.credentials, parts.retry_now, report)

    # What the control socket answers

    def _status(self, parts: MountParts) -> Document:
        return {**mount_status(parts, self._started_s), "ends_s": self._ends_s, "settings": self._late_settings}

    async def _stop_and_wait(self, parts: MountParts, progress: Progress) -> Document:
        self._stop.set()
        await report_while(list(parts.volumes.open.values()), progress, self._ended.wait)
        return {"pid": os.getpid(), "left": self._left}


def _space(folder: Path) -> tuple[int, int]:
    usage = shutil.disk_usage(folder)
    return usage.total, usage.free
