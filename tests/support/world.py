"""A volume on a real journal, over a Hub in memory that checks what it is given: for tests of vfs and sync."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

from support.memory_remote import MemoryRemote

from bucketfs.cache import Shelter
from bucketfs.disk import Disk
from bucketfs.errors import Corrupt
from bucketfs.journal import Journal, Resources
from bucketfs.sync import Pusher
from bucketfs.types import ROOT_INODE, BucketKey, Caller, Cid, Inode, Kind
from bucketfs.vfs import (
    VFS,
    BaseTree,
    BatchLimits,
    ContentLost,
    FileNode,
    InodeNumbers,
    Invalidation,
    Namespace,
    Node,
    Owner,
    Pending,
    RenameFlags,
    SetAttr,
    Volume,
    recover,
)

ME = Caller(uid=1000, gid=1000)


class RemoteSource:
    """The face of a cache over a remote, with everything in memory once it was fetched."""

    def __init__(self, remote: MemoryRemote) -> None:
        self._remote = remote
        self._held: dict[Cid, bytes] = {}
        self.shelters: list[Shelter] = []
        self.asked: list[tuple[Cid, ...]] = []
        """Each request, as it was made."""
        self.fetched: set[Cid] = set()
        """What came from the remote."""

    async def get(self, cid: Cid) -> bytes:
        return (await self.get_many([cid]))[cid]

    async def get_many(self, cids: Sequence[Cid]) -> dict[Cid, bytes]:
        self.asked.append(tuple(cids))
        lacking = [cid for cid in cids if cid not in self._held]
        for shelter in self.shelters:
            self._held.update(await shelter.get_many(lacking))
        lacking = [cid for cid in lacking if cid not in self._held]
        if lacking:
            found = await self._remote.blocks(lacking)
            for cid in lacking:
                if cid not in found:
                    raise Corrupt("the Hub lacks a block of a tree that it serves")
            self._held.update(found)
            self.fetched.update(found)
        return {cid: self._held[cid] for cid in cids}

    async def at_hand(self, cids: Sequence[Cid]) -> dict[Cid, bytes]:
        for shelter in self.shelters:
            self._held.update(await shelter.get_many([cid for cid in cids if cid not in self._held]))
        return {cid: self._held[cid] for cid in cids if cid in self._held}

    def peek(self, cid: Cid) -> bytes | None:
        return self._held.get(cid)

    def put_many(self, blocks: Iterable[tuple[Cid, bytes]]) -> None:
        self._held.update(blocks)

    def forget(self) -> None:
        """Forget everything, as after a restart without a cache."""
        self._held.clear()


class Clock:
    """A clock that goes one microsecond a look."""

    def __init__(self) -> None:
        self.at_ns = 1_700_000_000_000_000_000

    def __call__(self) -> int:
        self.at_ns += 1000
        return self.at_ns


class World:
    """One mount of one bucket, without a kernel, with verbs that take paths."""

    def __init__(self, folder: Path, remote: MemoryRemote) -> None:
        self.folder = folder
        self.remote = remote
        self.source = RemoteSource(remote)
        self.monotonic_s = 0.0
        self.told: list[Invalidation] = []
        self.clock = Clock()
        self.journal: Journal
        self.volume: Volume
        self.vfs: VFS
        self.quarantined: list[str] = []

    async def open(self) -> World:
        owner = Owner(1000, 1000, self.clock)
        self.folder.mkdir(exist_ok=True)
        self.journal = Journal.open(Disk(), self.folder / "journal", Resources.below(Disk(), self.folder))
        self.source.shelters = [self.journal.pins]
        self.numbers = InodeNumbers(self.folder / "inodes.db")
        registry: dict[Inode, Node] = {}
        self.vfs = VFS(
            numbers=self.numbers,
            registry=registry,
            owner=owner,
            space=lambda: (1 << 40, 1 << 39),
            notify=self._hear,
            make_room=self.make_room,
        )
        base_tree = BaseTree(self.source, monotonic_s=lambda: self.monotonic_s)
        tree = Namespace(base_tree, self.numbers, registry, owner, updated_at_ns=5_000_000_000)
        self.volume = Volume(BucketKey("bafzbeitest"), tree, Pending(tree), self.journal)
        self.quarantined = await recover(self.volume, self.remote.at, ROOT_INODE)
        if self.volume.owes_checkpoint:
            await Pusher(self.volume, self.remote, self.source, self.told.append).checkpoints.write()
        await self.vfs.show(self.volume)
        return self

    def pusher(self, *, attributes: bool = True, limits: BatchLimits | None = None) -> Pusher:
        """What pushes this mount's changes and follows the Hub."""
        return Pusher(self.volume, self.remote, self.source, self.told.append, attributes=attributes, limits=limits)

    def close(self) -> None:
        """End as a kill does: nothing more is recorded or pushed."""
        self.journal.close()
        self.numbers.close()

    async def make_room(self, size_bytes: int) -> int:
        """Called when the disk is full; how many bytes were freed."""
        return 0

    def _hear(self, news: Invalidation) -> None:
        """As a kernel that does at once what it is told."""
        self.told.append(news)
        if isinstance(news, ContentLost):
            node = self.vfs.registry[news.inode]
            assert isinstance(node, FileNode)
            self.vfs.failures.mended(node)

    async def inode(self, path: str) -> Inode:
        at = ROOT_INODE
        for name in [part for part in path.split("/") if part]:
            at = (await self.vfs.lookup(at, name.encode())).inode
        return at

    async def _parent(self, path: str) -> tuple[Inode, bytes]:
        above, _, name = path.rpartition("/")
        return await self.inode(above), name.encode()

    async def write(self, path: str, data: bytes, offset: int = 0, truncate: bool = True) -> None:
        flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if truncate else 0)
        opened, attr = await self.vfs.create(*(await self._parent(path)), 0o644, flags, ME)
        await self.vfs.files.write(opened.handle, offset, data)
        # As the kernel does, which stamps a file when a program writes to it.
        now_ns = self.clock()
        await self.vfs.setattr(attr.inode, SetAttr(mtime_ns=now_ns, ctime_ns=now_ns), opened.handle, ME)
        await self.vfs.files.flush(opened.handle)
        await self.vfs.files.release(opened.handle)

    async def truncate(self, path: str, size: int) -> None:
        await self.vfs.setattr(await self.inode(path), SetAttr(size_bytes=size), None, ME)

    async def read(self, path: str) -> bytes:
        inode = await self.inode(path)
        size = (await self.vfs.getattr(inode)).size_bytes
        opened = await self.vfs.open(inode, os.O_RDONLY, ME)
        try:
            return await self.vfs.files.read(opened.handle, 0, size + 1)
        finally:
            await self.vfs.files.release(opened.handle)

    async def mkdir(self, path: str) -> None:
        await self.vfs.mkdir(*(await self._parent(path)), 0o755, ME)

    async def symlink(self, path: str, target: str) -> None:
        await self.vfs.symlink(*(await self._parent(path)), target.encode(), ME)

    async def unlink(self, path: str) -> None:
        await self.vfs.unlink(*(await self._parent(path)), ME)

    async def rmdir(self, path: str) -> None:
        await self.vfs.rmdir(*(await self._parent(path)), ME)

    async def rename(self, old: str, new: str, flags: RenameFlags = RenameFlags.NONE) -> None:
        await self.vfs.rename(*(await self._parent(old)), *(await self._parent(new)), flags, ME)

    async def chmod(self, path: str, mode: int) -> None:
        await self.vfs.setattr(await self.inode(path), SetAttr(mode=mode), None, ME)

    async def utime(self, path: str, mtime_ns: int) -> None:
        await self.vfs.setattr(await self.inode(path), SetAttr(mtime_ns=mtime_ns), None, ME)

    async def names(self, path: str = "") -> list[str]:
        handle = await self.vfs.opendir(await self.inode(path), ME)
        found: list[str] = []
        position = 0
        while entries := await self.vfs.readdir(handle, position):
            found += [entry.name.decode() for entry in entries]
            position = entries[-1].next_id
        await self.vfs.releasedir(handle)
        return sorted(found)

    async def tree(self, path: str = "") -> dict[str, object]:
        """Everything below a path: contents of files, targets of links, ``None`` for folders."""
        return {name: value for name, (value, _, _) in (await self.stat_tree(path)).items()}

    async def stat_tree(self, path: str = "") -> dict[str, tuple[object, int, int]]:
        """As `tree`, with modes and mtimes."""
        found: dict[str, tuple[object, int, int]] = {}
        for name in await self.names(path):
            below = f"{path}/{name}" if path else name
            inode = await self.inode(below)
            attr = await self.vfs.getattr(inode)
            value: object = None
            if attr.kind is Kind.FILE:
                value = await self.read(below)
            elif attr.kind is Kind.SYMLINK:
                value = "-> " + (await self.vfs.readlink(inode)).decode()
            found[below] = value, stat.S_IMODE(attr.mode), attr.mtime_ns
            if attr.kind is Kind.DIRECTORY:
                found.update(await self.stat_tree(below))
        return found
