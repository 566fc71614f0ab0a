"""The wiring of one mount: Hub, cache, volumes, VFS, kernel, control socket. This file alone knows every room.

Order matters at both ends. Up: session, cache, journals replayed, then the kernel, then READY. Down: what waits is pushed while
the mount still answers, the kernel writes back what it holds and is unmounted, the rest is pushed as far as the drain time
goes, journals are closed. What is left stays in the journals, and the log says how much.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import signal
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import trio

from bucketfs.cache import BlockCache
from bucketfs.client import BucketInfo
from bucketfs.config import EMBEDDED, OWNER_ONLY, MountOptions, close_to_others, follow_settings, make_private
from bucketfs.daemon.buckets.deleted import gone_buckets
from bucketfs.daemon.buckets.draining import drain, left_of, reporting
from bucketfs.daemon.buckets.hub_cache import Known, recall, remember
from bucketfs.daemon.buckets.volumes import Volumes
from bucketfs.daemon.control.commands import commands_of
from bucketfs.daemon.control.socket import ControlServer, Document, Progress
from bucketfs.daemon.control.status import mount_status
from bucketfs.daemon.host.allocator import give_back_now_and_then
from bucketfs.daemon.host.descriptors import raise_descriptor_limit
from bucketfs.daemon.host.mount_registry import Locks, Running
from bucketfs.daemon.host.ready import tell_ready, tell_waiting
from bucketfs.daemon.host.systemd import more_time, notify_ready, notify_status, notify_stopping, watchdog
from bucketfs.daemon.mount_paths import Where
from bucketfs.daemon.session import Session, open_session
from bucketfs.disk import Disk
from bucketfs.errors import BucketfsError, NotFound, TimedOut, Unauthenticated, Unavailable, Unsupported
from bucketfs.mount import KernelClock, Mount, MountSettings
from bucketfs.remote import HubSource, Watcher
from bucketfs.sync import Pace
from bucketfs.types import ROOT_INODE, BucketKey, ThreadId
from bucketfs.vfs import VFS, AttributesChanged, ContentChanged, InodeNumbers, Invalidation, Owner

log = logging.getLogger(__name__)

LOOK_AT_START_S = 0.7
FSYNC_AT_HUB_TIMEOUT_S = 3600.0
"""A push takes its time, and whoever asked for fsync=hub would rather wait than not know."""
RECORD_EVERY_S = 1.0
CLOSE_GRACE_S = 10.0
FAREWELL_S = 5.0
"""How long the end waits for programs that follow events to take the last ones."""
FAREWELL_TURNS = 20
READY_MARGIN_S = 120.0
"""For so long a service manager waits from then on when a mount waits for another one."""


def run_daemon(options: MountOptions) -> None:
    """Serve one mount until it is unmounted or told to stop. Blocks. Raises what stands in the way, as one error."""
    os.umask(OWNER_ONLY)
    close_to_others(options.config.paths)
    raise_descriptor_limit()
    trio.run(_Daemon(options).run)


@dataclass(slots=True)
class _Parts:
    """What is wired together."""

    session: Session
    source: HubSource
    cache: BlockCache
    volumes: Volumes
    vfs: VFS
    mount: Mount
    watcher: Watcher

    def hurry(self) -> None:
        """What stood in the way may be gone: whoever waits to try again does so now."""
        self.source.hurry()
        self.watcher.hurry()
        self.volumes.hurry()


class _Daemon:
    def __init__(self, options: MountOptions) -> None:
        self._options = options
        self._where = Where(options.mountpoint, bool(options.bucket), options.prefix)
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
        self._disk = Disk()
        mine = Running(options.mountpoint, options.config.paths.control_socket(options.mountpoint), os.getpid())
        self._locks = Locks(self._disk, options.config.paths, mine, self._waiting)
        self._known: Known | None = None
        self._known_file = Path()
        self._gone: list[BucketInfo] = []

    async def run(self) -> None:
        config = self._options.config
        async with AsyncExitStack() as stack:
            stack.callback(self._locks.close)
            await self._locks.take_mountpoint()
            session = await stack.enter_async_context(
                open_session(config, timeout_s=config.mount.timeout_s, recall=self._recalled_thread)
            )
            buckets = await self._look(session)
            if buckets is not None and not await session.blocks.offered():
                raise Unsupported(
                    f"{session.hub_text} does not offer blocks by CID, and mounting by path is not possible yet",
                    hint="use 'bucketfs buck', or a Hub started with 'bucketfs hub serve'",
                )
            folder = self._state_folder(session.place, session.who)
            await self._locks.take_journals(folder)
            nursery = await stack.enter_async_context(trio.open_nursery())
            if buckets is None:
                assert self._known is not None, "without the Hub a mount begins with what it knew"
                buckets = list(self._known.buckets)
                self._gone = await self._waited_for(folder, session, buckets)
            else:
                self._gone = await self._waited_for(folder, session, buckets)
                self._remember(session, [*buckets, *self._gone])
            buckets = [*buckets, *self._gone]
            parts = await self._wire(nursery, session, folder, buckets)
            give_back_now_and_then()
            stack.callback(nursery.cancel_scope.cancel)
            await self._serve(nursery, parts)

    # Up

    def _waiting(self, text: str) -> None:
        log.warning("%s", text)
        notify_status(text)
        more_time(READY_MARGIN_S)
        tell_waiting(self._options.ready_fd, text)

    def _state_folder(self, place: str, acting: str) -> Path:
        folder = self._options.config.state_folder / "mounts" / self._tag(place, acting)
        # The embedded Hub was known by its socket once, which stood in the runtime folder.
        before = folder.with_name(
            self._tag(f"unix:{self._options.config.paths.hub_socket(self._options.config.hub_data)}", acting)
        )
        if place.startswith(EMBEDDED) and before.is_dir() and not folder.exists():
            self._move_state(before, folder)
        return make_private(folder)

    def _move_state(self, before: Path, folder: Path) -> None:
        """With the lock of its journals held: a daemon that has them goes by their paths. Raises Busy."""
        lock = self._disk.lock_file(before / "lock")
        try:
            before.rename(folder)
        finally:
            self._disk.close(lock)

    def _tag(self, place: str, acting: str) -> str:
        who = f"{place}\n{acting}\n{self._options.bucket}\n{self._options.prefix}"
        return hashlib.sha256(os.fsencode(who)).hexdigest()[:16]

    def _recalled_thread(self, place: str, acting: str) -> ThreadId | None:
        self._known_file = self._state_folder(place, acting) / "known.json"
        self._known = recall(self._known_file)
        return self._known.thread if self._known is not None else None

    async def _look(self, session: Session) -> list[BucketInfo] | None:
        """The buckets of the Hub. A mount that was here before waits for a moment only, and gets None when the Hub is
        away."""
        try:
            with trio.move_on_after(float("inf") if self._known is None else LOOK_AT_START_S):
                return (await session.look(self._options.bucket)).buckets
        except (Unavailable, TimedOut, Unauthenticated) as error:
            if self._known is None:
                raise
            how = "does not accept the key" if isinstance(error, Unauthenticated) else "is away"
            log.warning("%s %s; the mount shows what it knew: %s", session.hub_text, how, error)
            return None
        log.warning("%s does not answer; the mount shows what it knew", session.hub_text)
        return None

    async def _waited_for(self, folder: Path, session: Session, buckets: list[BucketInfo]) -> list[BucketInfo]:
        found = await trio.to_thread.run_sync(gone_buckets, folder, buckets, self._known, session.thread)
        for info in found:
            log.warning(
                "changes wait here for bucket %r (%s), which the Hub has no more, or shares no more", info.name, info.key
            )
        return found

    def _remember(self, session: Session, buckets: list[BucketInfo]) -> None:
        try:
            remember(self._disk, self._known_file, session.thread, buckets)
        except BucketfsError as error:
            log.warning("the next start will need the Hub: %s", error)

    async def _wire(self, nursery: trio.Nursery, session: Session, folder: Path, buckets: list[BucketInfo]) -> _Parts:
        options = self._options
        wanted = options.config.mount
        uid = os.getuid() if wanted.uid is None else wanted.uid
        gid = os.getgid() if wanted.gid is None else wanted.gid
        owner = Owner(uid, gid, KernelClock())
        source = HubSource(session.blocks, wanted.timeout_s)
        cache = BlockCache(
            source,
            make_private(options.config.cache_folder) / folder.name,
            memory_bytes=wanted.memory_size_bytes,
            disk_bytes=wanted.cache_size_bytes,
        )
        await nursery.start(cache.run)
        numbers = InodeNumbers(folder / "inodes.db")
        await nursery.start(numbers.run)
        volumes = Volumes(session, folder, cache, numbers, owner, self._notify, read_only=wanted.read_only, pace=Pace())
        await nursery.start(volumes.run)
        vfs = VFS(
            numbers=numbers,
            registry=volumes.registry,
            owner=owner,
            space=lambda: volumes.space(*_space(folder)),
            notify=self._notify,
            told=self._notify_now,
            bucket_maker=None if options.bucket else volumes,
            read_only=wanted.read_only,
            make_room=volumes.make_room,
            **({"synced": volumes.settle} if wanted.fsync == "hub" else {}),
        )
        volumes.vfs = vfs
        await nursery.start(vfs.run)
        await self._show(session, volumes, vfs, buckets)
        settings = MountSettings(
            allow_other=wanted.allow_other,
            read_only=wanted.read_only,
            timeout_s=wanted.timeout_s,
            fsync_timeout_s=FSYNC_AT_HUB_TIMEOUT_S if wanted.fsync == "hub" else 0.0,
            # Every new name in a folder that the kernel knows is announced to it by the rebase that brings it.
            negative_timeout_s=3600.0,
        )
        mount = Mount(vfs, options.mountpoint, settings)
        self._mount = mount
        watcher = Watcher(
            lambda: self._ask(session, volumes),
            session.threads,
            session.thread,
            poll_s=wanted.poll_s,
            moved=lambda key: self._moved(volumes, key),
            listed=self._take_listing,
            back=volumes.hurry,
        )
        return _Parts(session, source, cache, volumes, vfs, mount, watcher)

    async def _show(self, session: Session, volumes: Volumes, vfs: VFS, buckets: list[BucketInfo]) -> None:
        wanted = self._options.bucket
        if not wanted:
            await volumes.listed(buckets, trio.current_time())
            return
        found = next((info for info in buckets if info.key == wanted), None)
        found = found or next((info for info in buckets if info.name == wanted), None)
        found = found or self._called_otherwise(volumes, buckets)
        if found is None:
            names = ", ".join(sorted(info.name or info.key for info in buckets)) or "none"
            raise NotFound(
                f"{session.hub_text} has no bucket {wanted!r}",
                hint=f"make it with 'bucketfs buck create {wanted}'; there are: {names}",
            )
        prefix = self._options.prefix
        opened = await volumes.add(found, b"", None if prefix else ROOT_INODE)
        await vfs.show(opened.volume, prefix)
        for info in self._gone:
            # Another one has its name by now, and a mount of one bucket has no place for two.
            if info.key != found.key:
                await volumes.put_off(info)

    def _called_otherwise(self, volumes: Volumes, buckets: list[BucketInfo]) -> BucketInfo | None:
        """The bucket that this mount was of before it had another name at the Hub: what was changed here waits for no other."""
        known = volumes.known_keys
        found = next((info for info in buckets if info.key in known), None)
        if found is not None:
            log.warning("bucket %r is called %r at the Hub now", self._options.bucket, found.name)
        return found

    # Running

    async def _serve(self, nursery: trio.Nursery, parts: _Parts) -> None:
        options = self._options
        mounted = trio.Event()
        broken = True

        async def serve_kernel(*, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
            try:
                await parts.mount.run(task_status=task_status)
            finally:
                mounted.set()
                self._stop.set()

        try:
            await nursery.start(serve_kernel)
            await nursery.start(parts.watcher.run)
            nursery.start_soon(self._follow_listing, parts)
            nursery.start_soon(self._record, parts)
            nursery.start_soon(self._follow_settings, parts)
            nursery.start_soon(self._signals)
            nursery.start_soon(watchdog)
            commands = commands_of(
                parts.volumes,
                self._where,
                parts.cache,
                parts.mount,
                parts.watcher,
                describe=partial(self._describe, parts),
                stop=partial(self._stop_it, parts),
            )
            control = ControlServer(options.config.paths.control_socket(options.mountpoint), commands)
            await nursery.start(control.run)
            hub = parts.session.hub_text
            notify_ready(f"{options.mountpoint} on {hub}")
            tell_ready(options.ready_fd, {"hub": hub, "mountpoint": str(options.mountpoint), "pid": os.getpid()})
            await self._stop.wait()
            broken = False
        finally:
            ending_s = options.config.mount.drain_s + CLOSE_GRACE_S * 2
            self._ends_s = time.time() + ending_s
            self._locks.ending(self._ends_s)
            with trio.move_on_after(ending_s, shield=True):
                await self._down(parts, mounted, broken)

    async def _down(self, parts: _Parts, unmounted: trio.Event, broken: bool) -> None:
        """Push, unmount, push what the kernel wrote back, and say what is left. What is ``broken`` pushes nothing, for its
        tasks are gone, and leaves the mount dead."""
        drain_s = 0.0 if broken else self._options.config.mount.drain_s
        notify_stopping(f"pushing what waits, for up to {drain_s:.0f} s")
        deadline = trio.current_time() + drain_s
        if not broken:
            if not unmounted.is_set():
                await drain(parts.volumes, deadline)
            parts.mount.leave()
        with trio.move_on_after(CLOSE_GRACE_S):
            await unmounted.wait()
        self._record_all(parts)
        if not broken:
            await drain(parts.volumes, deadline)
        left = [line for one in parts.volumes.open.values() if (line := left_of(one))]
        for line in left:
            log.warning("%s", line)
        self._left = "; ".join(left)
        with trio.move_on_after(FAREWELL_S):
            await parts.volumes.feed.close()
        self._ended.set()
        # Whoever asked us to stop gets the answer before the control socket goes: its task needs a few turns for that.
        for _ in range(FAREWELL_TURNS):
            await trio.lowlevel.checkpoint()

    def _notify(self, invalidation: Invalidation) -> None:
        if self._mount is not None:
            self._mount.notify(invalidation)

    async def _notify_now(self, invalidation: AttributesChanged | ContentChanged) -> None:
        if self._mount is not None:
            await self._mount.told(invalidation)

    def _moved(self, volumes: Volumes, key: BucketKey) -> None:
        volumes.heard(key)

    async def _ask(self, session: Session, volumes: Volumes) -> list[BucketInfo]:
        asked_s = trio.current_time()
        found = await session.look(self._options.bucket)
        self._asked_s = asked_s
        await volumes.learn(found.limits)
        return found.buckets

    def _take_listing(self, buckets: list[BucketInfo]) -> None:
        self._buckets, self._listed_s = buckets, self._asked_s
        self._listed.set()

    async def _follow_listing(self, parts: _Parts) -> None:
        remembered: list[BucketInfo] = []
        while True:
            await self._listed.wait()
            self._listed = trio.Event()
            asked_s = self._listed_s
            if not self._options.bucket:
                await parts.volumes.listed(self._buckets, asked_s)
            buckets = [*self._buckets, *parts.volumes.missing(self._buckets)]
            if [(info.key, info.name) for info in buckets] != [(info.key, info.name) for info in remembered]:
                remembered = buckets
                self._remember(parts.session, remembered)

    async def _record(self, parts: _Parts) -> None:
        while True:
            await trio.sleep(RECORD_EVERY_S)
            self._record_all(parts)

    def _record_all(self, parts: _Parts) -> None:
        for one in parts.volumes.open.values():
            try:
                one.scheduler.record_open_files()
            except BucketfsError as error:
                log.warning("bucket %r: open files cannot be recorded now: %s", one.info.name, error)

    async def _signals(self) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            async for number in signals:
                log.info("stopping on %s", signal.Signals(number).name)
                self._stop.set()

    async def _follow_settings(self, parts: _Parts) -> None:
        options = self._options

        def tell(lines: list[str]) -> None:
            self._late_settings = lines

        await follow_settings(options.config, parts.session.credentials, parts.hurry, tell)

    # What the control socket is told

    def _describe(self, parts: _Parts) -> Document:
        document = mount_status(
            self._options,
            self._where,
            parts.session,
            parts.volumes,
            parts.watcher,
            parts.cache,
            parts.source,
            parts.mount,
            self._started_s,
        )
        return {**document, "ends_s": self._ends_s, "settings": self._late_settings}

    async def _stop_it(self, parts: _Parts, progress: Progress) -> Document:
        self._stop.set()
        await reporting(list(parts.volumes.open.values()), progress, self._ended.wait)
        return {"pid": os.getpid(), "left": self._left}


def _space(folder: Path) -> tuple[int, int]:
    usage = shutil.disk_usage(folder)
    return usage.total, usage.free
