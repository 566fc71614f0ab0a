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
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from bucketfs.cache import BlockCache
from bucketfs.client import BucketInfo
from bucketfs.daemon.config import MountOptions, load_config
from bucketfs.daemon.control import Arguments, ControlServer, Document, Progress
from bucketfs.daemon.places import make_private
from bucketfs.daemon.ready import tell_ready
from bucketfs.daemon.report import mount_status
from bucketfs.daemon.session import Session, open_session
from bucketfs.daemon.systemd import ready, stopping, watchdog
from bucketfs.daemon.volumes import OpenVolume, Volumes
from bucketfs.disk import Disk, OpenFile
from bucketfs.errors import BucketfsError, Busy, NotFound, Unsupported
from bucketfs.mount import Mount, MountSettings
from bucketfs.sync import HubSource, Pace, Watcher
from bucketfs.types import ROOT_INODE, BucketKey
from bucketfs.vfs import VFS, InodeNumbers, Invalidation, Owner

log = logging.getLogger(__name__)

POLL_S = 30.0
RECORD_EVERY_S = 1.0
CLOSE_GRACE_S = 10.0


def run_daemon(options: MountOptions) -> None:
    """Serve one mount until it is unmounted or told to stop. Blocks. Raises what stands in the way, as one error."""
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


class _Daemon:
    def __init__(self, options: MountOptions) -> None:
        self._options = options
        self._started_s = time.time()
        self._stop = trio.Event()
        self._listed = trio.Event()
        self._buckets: list[BucketInfo] = []
        self._told: Callable[[Invalidation], None] = lambda invalidation: None
        self._disk = Disk()

    async def run(self) -> None:
        options = self._options
        config = load_config()
        async with AsyncExitStack() as stack:
            session = await stack.enter_async_context(
                open_session(options.profile, options.hub, config, timeout_s=options.timeout_s)
            )
            if not await session.blocks.offered():
                raise Unsupported(
                    f"{session.hub_text} does not offer blocks by CID, and mounting by path is not possible yet",
                    hint="use 'bucketfs buck', or a Hub started with 'bucketfs hub serve'",
                )
            folder = self._state_folder(session)
            stack.callback(self._disk.close, self._lock(folder))
            nursery = await stack.enter_async_context(trio.open_nursery())
            parts = await self._wire(nursery, session, folder)
            stack.callback(nursery.cancel_scope.cancel)
            await self._serve(nursery, parts)

    # Up

    def _state_folder(self, session: Session) -> Path:
        who = f"{session.endpoint}\n{session.profile.name}\n{self._options.bucket}\n{self._options.prefix}"
        name = hashlib.sha256(who.encode()).hexdigest()[:16]
        return make_private(self._options.state_folder / "mounts" / name)

    def _lock(self, folder: Path) -> OpenFile:
        try:
            return self._disk.lock_file(folder / "lock")
        except Busy as error:
            raise Busy(
                "this bucket is mounted already, and its journal has one writer",
                hint="'bucketfs umount' the other mount, or give this one a --state folder of its own",
            ) from error

    async def _wire(self, nursery: trio.Nursery, session: Session, folder: Path) -> _Parts:
        options = self._options
        uid = os.getuid() if options.uid is None else options.uid
        gid = os.getgid() if options.gid is None else options.gid
        owner = Owner(uid, gid, time.time_ns)
        source = HubSource(session.blocks, options.timeout_s)
        cache = BlockCache(
            source,
            make_private(options.cache_folder) / folder.name,
            memory_bytes=options.memory_size_bytes,
            disk_bytes=options.cache_size_bytes,
        )
        await nursery.start(cache.run)
        numbers = InodeNumbers(folder / "inodes.db")
        await nursery.start(numbers.run)
        volumes = Volumes(session, folder, cache, numbers, owner, self._notify, read_only=options.read_only, pace=Pace())
        await nursery.start(volumes.run)
        vfs = VFS(
            numbers=numbers,
            registry=volumes.registry,
            owner=owner,
            space=lambda: _space(folder),
            notify=self._notify,
            buckets=None if options.bucket else volumes,
            read_only=options.read_only,
        )
        volumes.vfs = vfs
        await nursery.start(vfs.run)
        await self._show(session, volumes, vfs)
        settings = MountSettings(allow_other=options.allow_other, read_only=options.read_only, timeout_s=options.timeout_s)
        mount = Mount(vfs, options.mountpoint, settings)
        self._told = mount.notify
        watcher = Watcher(
            session.blocks,
            session.threads,
            session.thread,
            poll_s=POLL_S,
            moved=lambda key: self._moved(volumes, key),
            listed=self._take_listing,
        )
        return _Parts(session, source, cache, volumes, vfs, mount, watcher)

    async def _show(self, session: Session, volumes: Volumes, vfs: VFS) -> None:
        buckets = [info for info in await session.blocks.roots() if info.thread == session.thread]
        wanted = self._options.bucket
        if not wanted:
            await volumes.listed(buckets)
            return
        found = next((info for info in buckets if info.key == wanted), None)
        found = found or next((info for info in buckets if info.name == wanted), None)
        if found is None:
            names = ", ".join(sorted(info.name or info.key for info in buckets)) or "none"
            raise NotFound(
                f"{session.hub_text} has no bucket {wanted!r}",
                hint=f"make it with 'bucketfs buck create {wanted}'; there are: {names}",
            )
        prefix = self._options.prefix
        opened = await volumes.add(found, b"", None if prefix else ROOT_INODE)
        await vfs.show(opened.volume, prefix)

    # Running

    async def _serve(self, nursery: trio.Nursery, parts: _Parts) -> None:
        options = self._options
        mounted = trio.Event()

        async def serve_kernel(*, task_status: trio.TaskStatus[Any] = trio.TASK_STATUS_IGNORED) -> None:
            try:
                await parts.mount.run(task_status=task_status)
            finally:
                mounted.set()
                self._stop.set()

        try:
            await nursery.start(serve_kernel)
            await nursery.start(parts.watcher.run)
            if not options.bucket:
                nursery.start_soon(self._follow_listing, parts)
            nursery.start_soon(self._record, parts)
            nursery.start_soon(self._signals)
            nursery.start_soon(watchdog)
            control = ControlServer(options.places.control_socket(options.mountpoint), self._commands(parts))
            await nursery.start(control.run)
            hub = parts.session.hub_text
            ready(f"{options.mountpoint} on {hub}")
            tell_ready(options.ready_fd, {"hub": hub, "mountpoint": str(options.mountpoint), "pid": os.getpid()})
            await self._stop.wait()
        finally:
            with trio.move_on_after(options.drain_s + CLOSE_GRACE_S * 2, shield=True):
                await self._down(parts, mounted)

    async def _down(self, parts: _Parts, unmounted: trio.Event) -> None:
        """Push, unmount, push what the kernel wrote back, and say what is left."""
        stopping(f"pushing what waits, for up to {self._options.drain_s:.0f} s")
        deadline = trio.current_time() + self._options.drain_s
        if not unmounted.is_set():
            await _drain(parts.volumes, deadline)
        parts.mount.leave()
        with trio.move_on_after(CLOSE_GRACE_S):
            await unmounted.wait()
        self._record_all(parts)
        await _drain(parts.volumes, deadline)
        for one in parts.volumes.open.values():
            if one.syncer.dirty:
                why = f": {one.syncer.trouble.error}" if one.syncer.trouble is not None else ""
                log.warning(
                    "%d changes (%d bytes) of bucket %r stay in the journal until the next mount%s",
                    one.syncer.pending_count,
                    one.syncer.pending_bytes,
                    one.info.name,
                    why,
                )

    def _notify(self, invalidation: Invalidation) -> None:
        self._told(invalidation)

    def _moved(self, volumes: Volumes, key: BucketKey) -> None:
        opened = volumes.open.get(key)
        if opened is not None:
            opened.syncer.heard()

    def _take_listing(self, buckets: list[BucketInfo]) -> None:
        self._buckets = buckets
        self._listed.set()

    async def _follow_listing(self, parts: _Parts) -> None:
        while True:
            await self._listed.wait()
            self._listed = trio.Event()
            await parts.volumes.listed(self._buckets)

    async def _record(self, parts: _Parts) -> None:
        while True:
            await trio.sleep(RECORD_EVERY_S)
            self._record_all(parts)

    def _record_all(self, parts: _Parts) -> None:
        for one in parts.volumes.open.values():
            try:
                one.syncer.record_open_files()
            except BucketfsError as error:
                log.warning("bucket %r: open files cannot be recorded now: %s", one.info.name, error)

    async def _signals(self) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            async for number in signals:
                log.info("stopping on %s", signal.Signals(number).name)
                self._stop.set()

    # Commands of the control socket

    def _commands(self, parts: _Parts) -> dict[str, Callable[[Arguments, Progress], Any]]:
        async def status(arguments: Arguments, progress: Progress) -> Document:
            return mount_status(
                self._options,
                parts.session,
                parts.volumes,
                parts.watcher,
                parts.cache,
                parts.source,
                parts.mount,
                self._started_s,
            )

        async def sync(arguments: Arguments, progress: Progress) -> Document:
            parts.watcher.look()
            return await _sync(parts, str(arguments.get("path", "")), self._options, progress)

        async def stop(arguments: Arguments, progress: Progress) -> Document:
            self._stop.set()
            return {"pid": os.getpid()}

        return {"status": status, "sync": sync, "stop": stop}


async def _sync(parts: _Parts, path: str, options: MountOptions, progress: Progress) -> Document:
    """Push what is dirty in the buckets that ``path`` (absolute; empty: all) lies in, and show what the Hub has."""
    chosen = list(parts.volumes.open.values())
    if path and not options.bucket:
        inside = Path(path).relative_to(options.mountpoint).parts
        if inside:
            chosen = [one for one in chosen if one.name == os.fsencode(inside[0])]
            if not chosen:
                raise NotFound(f"{path} is in no bucket of this mount")

    async def report() -> None:
        while True:
            await progress({"pending_count": sum(one.syncer.pending_count for one in chosen), **_sent(chosen)})
            await trio.sleep(0.5)

    failure: BucketfsError | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(report)
        for one in chosen:
            try:
                await one.syncer.settle()
            except BucketfsError as error:
                failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
    await parts.mount.drained()
    return {"buckets": [str(one.info.key) for one in chosen]}


def _sent(chosen: list[OpenVolume]) -> Document:
    pushing = [one.syncer.pushing for one in chosen if one.syncer.pushing is not None]
    return {"bytes_sent": sum(sent.bytes_sent for sent in pushing), "blocks_sent": sum(sent.blocks_sent for sent in pushing)}


async def _drain(volumes: Volumes, deadline: float) -> None:
    """Push everything, each bucket at least tried once, none past the deadline (of trio's clock)."""

    async def one_volume(one: OpenVolume) -> None:
        try:
            await one.syncer.settle()
        except BucketfsError as error:
            log.info("bucket %r could not be pushed at the end: %s", one.info.name, error)

    with trio.move_on_at(deadline):
        async with trio.open_nursery() as nursery:
            for one in volumes.open.values():
                if one.syncer.dirty:
                    nursery.start_soon(one_volume, one)


def _space(folder: Path) -> tuple[int, int]:
    usage = shutil.disk_usage(folder)
    return usage.total, usage.free
