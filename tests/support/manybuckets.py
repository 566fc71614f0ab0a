"""An all-buckets mount without a kernel, over a Hub in memory: the real `Volumes`, `BucketFolders`, VFS, journals and schedulers.

`MemorySession` claims to be what `Volumes` asks of a `Session`: the buckets are `MemoryRemote`, so what is put and swapped is
checked as a Hub does, and a bucket whose remote is ``away`` answers nothing.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import trio
from support.memory_remote import MemoryRemote
from support.world import ME, Clock

from bucketfs.cache import BlockCache, Source
from bucketfs.client import BucketDetails, BucketInfo, Credentials, PutResult
from bucketfs.daemon.buckets import BucketFolders, Volumes
from bucketfs.daemon.session import Session
from bucketfs.errors import Corrupt, NotFound
from bucketfs.sync import Pace
from bucketfs.types import ROOT_INODE, BucketKey, Cid, Inode, ThreadId, UploadId
from bucketfs.vfs import VFS, InodeNumbers, Invalidation, Owner

THREAD = ThreadId(b"thread")


@dataclass
class MemorySession:
    """A Hub with buckets in memory, as one session sees it. It is its own ``blocks`` and ``buckets``."""

    remotes: dict[BucketKey, MemoryRemote] = field(default_factory=dict)
    names: dict[BucketKey, str] = field(default_factory=dict)
    guest: bool = False

    @property
    def blocks(self) -> MemorySession:
        return self

    @property
    def buckets(self) -> MemorySession:
        return self

    def credentials(self) -> Credentials:
        return Credentials()

    async def me(self) -> str:
        return ""

    def make(self, name: str) -> BucketInfo:
        """A new empty bucket."""
        key = BucketKey(f"bafzbei{name}")
        self.remotes[key], self.names[key] = MemoryRemote(), name
        return self.info(key)

    def info(self, key: BucketKey) -> BucketInfo:
        return BucketInfo(key, self.names[key], THREAD, self.remotes[key].at, 1, 5_000_000_000, False, "")

    def listing(self) -> list[BucketInfo]:
        """What a poll would bring."""
        return [self.info(key) for key in self.remotes]

    def _remote(self, key: BucketKey) -> MemoryRemote:
        if key not in self.remotes:
            raise NotFound("no such bucket")
        return self.remotes[key]

    # As BucketsClient

    async def create(self, name: str) -> BucketInfo:
        await trio.lowlevel.checkpoint()
        return self.make(name)

    async def details(self, key: BucketKey) -> BucketDetails:
        remote = self._remote(key)
        await remote.look()
        return BucketDetails(self.info(key), {})

    async def root(self, key: BucketKey) -> BucketInfo:
        return (await self.details(key)).info

    async def remove(self, key: BucketKey) -> None:
        await self._remote(key).root()
        del self.remotes[key]

    # As BlocksClient

    async def get(self, cids: Collection[Cid]) -> dict[Cid, bytes]:
        found: dict[Cid, bytes] = {}
        for remote in sorted(self.remotes.values(), key=lambda remote: remote.away):
            here = [cid for cid in cids if cid in remote.store and cid not in found]
            if here:
                found |= await remote.blocks(here)
        return found

    async def get_many(self, cids: Sequence[Cid]) -> dict[Cid, bytes]:
        """As `HubSource`, without its patience."""
        found = await self.get(cids)
        for cid in cids:
            if cid not in found:
                raise Corrupt("the Hub lacks a block")
        return found

    def peek(self, cid: Cid) -> None:
        return None

    async def missing(self, cids: Collection[Cid], upload: UploadId) -> set[Cid]:
        return {cid for cid in cids if all(cid not in remote.store for remote in self.remotes.values())}

    async def put(self, batches: AsyncIterable[Sequence[tuple[Cid, bytes]]], upload: UploadId) -> PutResult:
        async for batch in batches:
            for remote in self.remotes.values():
                remote.store.update(batch)
        return PutResult()

    async def swap_root(self, thread: ThreadId, key: BucketKey, expected: Cid, new: Cid, upload: UploadId) -> Any:
        return await self._remote(key).swap(expected, new, upload)


class ManyBuckets:
    """The mount, with verbs that take paths."""

    def __init__(
        self, session: MemorySession, volumes: Volumes, folders: BucketFolders, vfs: VFS, told: list[Invalidation]
    ) -> None:
        self.session = session
        self.volumes = volumes
        self.folders = folders
        self.vfs = vfs
        self.told = told

    async def listed(self) -> None:
        """A poll's answer arrives."""
        await self.folders.listed(self.session.listing(), trio.current_time())

    async def names(self, path: str = "") -> list[str]:
        handle = await self.vfs.opendir(await self.inode(path), ME)
        found: list[str] = []
        while entries := await self.vfs.readdir(handle, len(found)):
            found += [entry.name.decode() for entry in entries]
        await self.vfs.releasedir(handle)
        return sorted(found)

    async def inode(self, path: str) -> Inode:
        at = ROOT_INODE
        for name in filter(None, path.split("/")):
            at = (await self.vfs.lookup(at, name.encode())).inode
        return at

    async def write(self, path: str, data: bytes) -> None:
        above, _, name = path.rpartition("/")
        opened, _ = await self.vfs.create(await self.inode(above), name.encode(), 0o644, os.O_WRONLY | os.O_TRUNC, ME)
        await self.vfs.files.write(opened.handle, 0, data)
        await self.vfs.files.flush(opened.handle)
        await self.vfs.files.release(opened.handle)

    async def read(self, path: str) -> bytes:
        opened = await self.vfs.open(await self.inode(path), os.O_RDONLY, ME)
        try:
            return await self.vfs.files.read(opened.handle, 0, 1 << 20)
        finally:
            await self.vfs.files.release(opened.handle)


@asynccontextmanager
async def many_buckets(
    folder: Path, session: MemorySession, known: Sequence[BucketInfo] | None = None, open_patience_s: float = 5.0
) -> AsyncGenerator[ManyBuckets, None]:
    """Mount all buckets of ``session`` with state and cache in ``folder``; ``known`` are those that are known when it begins.
    Nothing is pushed by itself."""
    await trio.Path(folder).mkdir(exist_ok=True)
    told: list[Invalidation] = []
    owner = Owner(1000, 1000, Clock())
    cache = BlockCache(cast(Source, session), folder / "cache", 1 << 24, 1 << 24)
    hub = cast(
        Session,
        SimpleNamespace(
            blocks=session, buckets=session, guest=session.guest, credentials=session.credentials, me=session.me
        ),
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(cache.run)
        numbers = InodeNumbers(folder / "inodes.db")
        never = Pace(1e9, 1e9)
        volumes = Volumes(hub, folder, cache, numbers, owner, told.append, read_only=False, pace=never)
        folders = BucketFolders(hub, volumes, open_patience_s=open_patience_s)
        await nursery.start(volumes.run)
        folders.start()
        vfs = VFS(
            numbers=numbers,
            registry=volumes.registry,
            owner=owner,
            space=lambda: (1 << 40, 1 << 39),
            notify=told.append,
            bucket_maker=folders,
        )
        folders.vfs = vfs
        await folders.listed(session.listing() if known is None else list(known), trio.current_time())
        yield ManyBuckets(session, volumes, folders, vfs, told)
        nursery.cancel_scope.cancel()
    numbers.close()
