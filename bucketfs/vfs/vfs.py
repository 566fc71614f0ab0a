"""`VFS`: the file system as the kernel's door sees it, for one bucket, a folder of one, or all of them.

Every method is one request. It finds its nodes, lets the volume decide and change, and answers with facts. Names and
attributes that are in memory are answered without an await; only what the base has and was not looked at yet is fetched.
Requests about open files are those of `VFS.files`.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import TypeVar

import trio

from bucketfs.errors import (
    CrossDevice,
    Exists,
    InvalidArgument,
    IsADirectory,
    NotADirectory,
    NotPermitted,
    Stale,
)
from bucketfs.journal import Conflict
from bucketfs.names import check_name
from bucketfs.types import ROOT_INODE, Caller, FileHandle, Inode
from bucketfs.vfs.buckets_root import BucketMaker, BucketsRoot
from bucketfs.vfs.conflicts import Keep, resolve
from bucketfs.vfs.handles import Handles, OpenedDirectory, OpenedFile
from bucketfs.vfs.open_files import ROOM_BYTES, OpenFiles
from bucketfs.vfs.readahead import ReadAhead
from bucketfs.vfs.tree import (
    Attr,
    AttributesChanged,
    ContentChanged,
    DirectoryNode,
    DirEntry,
    FileNode,
    InodeNumbers,
    Invalidation,
    Node,
    Opened,
    Owner,
    Registry,
    RenameFlags,
    SetAttr,
    StatFs,
    SymlinkNode,
    Volume,
)
from bucketfs.vfs.write_failures import WriteFailures

T = TypeVar("T")

LISTING_BATCH = 256
"""Names of one answer to readdir; their root blocks are fetched together."""


async def _no_room(size_bytes: int) -> int:
    return 0


async def _nothing(about: object) -> None:
    return


class VFS:
    """One mount. ``notify`` takes what the kernel must be told; ``told`` does so, too, and awaits that it was; ``space`` says
    how many bytes writes can use, as (total, free)."""

    def __init__(
        self,
        *,
        numbers: InodeNumbers,
        registry: Registry,
        owner: Owner,
        space: Callable[[], tuple[int, int]],
        notify: Callable[[Invalidation], None] = lambda invalidation: None,
        told: Callable[[AttributesChanged | ContentChanged], Awaitable[None]] = _nothing,
        bucket_maker: BucketMaker | None = None,
        read_only: bool = False,
        synced: Callable[[Volume], Awaitable[None]] = _nothing,
        make_room: Callable[[int], Awaitable[int]] = _no_room,
    ) -> None:
        """``synced`` is awaited by every fsync after the local disk has it (the mount option fsync=hub). ``make_room`` frees
        so many bytes of a full disk that are not needed as much; it returns how many."""
        self.numbers = numbers
        self.registry = registry
        self.owner = owner
        self.notify = notify
        self.buckets = BucketsRoot(owner, numbers, registry, notify, None if read_only else bucket_maker)
        self._space = space
        self._synced = synced
        self._make_room = make_room
        self._top: DirectoryNode | None = None
        self._directories: Handles[OpenedDirectory] = Handles()
        self._open_files: Handles[OpenedFile] = Handles()
        self._readahead = ReadAhead()
        self.failures = WriteFailures(registry, numbers, self._open_files, self.buckets, notify)
        self.files = OpenFiles(
            self._open_files,
            self.failures,
            self._readahead,
            notify,
            make_room=make_room,
            told=told,
            synced=synced,
            read_only=read_only,
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep read-ahead going until cancelled."""
        await self._readahead.run(task_status=task_status)

    # Volumes

    async def show(self, volume: Volume, prefix: str = "") -> None:
        """Make ``volume``, or the folder ``prefix`` of it, the root of the mount."""
        node: Node = volume.root
        for name in [part.encode() for part in prefix.split("/") if part]:
            if not isinstance(node, DirectoryNode):
                raise NotADirectory(f"{prefix!r} leads through what is no folder")
            node = await self._child(volume, node, name)
        if not isinstance(node, DirectoryNode):
            raise NotADirectory(f"{prefix!r} is not a folder of the bucket")
        # The kernel knows the root by number 1 whatever number the folder has in its bucket.
        self.registry.pop(node.inode, None)
        node.inode = ROOT_INODE
        node.lookups += 1
        self.registry[ROOT_INODE] = node
        self._top = node
        self.buckets.mount(volume)

    @property
    def open_count(self) -> int:
        """How many files and directories are open."""
        return len(self._open_files) + len(self._directories)

    # Names

    async def lookup(self, parent: Inode, name: bytes) -> Attr:
        """The attributes of a name; the kernel holds one more reference to it."""
        if self._is_top(parent):
            check_name(name)
            held = self.buckets.held.get(name)
            if held is not None:
                return self.buckets.attr(held.inode)
            volume = self.buckets.volume(name)
            return self._referenced(volume, volume.root)
        volume, directory = self._directory(parent)
        check_name(name)
        # A lookup that had to wait for the Hub is a sign that its neighbours will be asked for one by one.
        fetched = directory.fetched
        node = await self._child(volume, directory, name)
        if directory.fetched != fetched:
            self._readahead.looks_up(volume, directory, name)
        return self._referenced(volume, node)

    def remember(self, inode: Inode) -> None:
        """The kernel took a reference through a listing."""
        if not self.buckets.is_held(inode):
            self._node(inode)[1].lookups += 1

    def forget(self, pairs: Iterable[tuple[Inode, int]]) -> None:
        """The kernel gives references back."""
        for inode, count in pairs:
            node = self.registry.get(inode)
            if node is not None and self.buckets.is_mounted(node):
                node.lookups = max(0, node.lookups - count)
                self.buckets.volume_of(node).tree.reclaim(node)
        self.buckets.let_go()

    async def getattr(self, inode: Inode) -> Attr:
        """The attributes of an inode."""
        if self._is_top(inode):
            self.numbers.write_urgent()
            return self.buckets.attr()
        if self.buckets.is_held(inode):
            return self.buckets.attr(inode)
        volume, node = self._node(inode)
        return volume.tree.attr(node)

    async def setattr(self, inode: Inode, change: SetAttr, handle: FileHandle | None, caller: Caller) -> Attr:
        """Change attributes, the size of a file among them; the new attributes."""
        if self._is_top(inode):
            raise NotPermitted("the folder of all buckets has no attributes of its own")
        volume, node = self._node(inode)
        if handle is None:
            if node.stale and not node.opens:
                raise Stale("what had this name was replaced elsewhere")
            # Else it was asked when the file was opened; the kernel sends the time of writes with the handle, too.
            volume.tree.check_changing(node)
        if change.size_bytes is not None:
            if not isinstance(node, FileNode):
                raise IsADirectory("only a file has a size to set")
            if await self.files.set_size(volume, node, change, handle):
                return volume.tree.attr(node)
        if change != SetAttr(size_bytes=change.size_bytes):
            await self._decide(volume, lambda: volume.set_attributes(node, change))
            self.numbers.write_urgent()
        return volume.tree.attr(node)

    async def readlink(self, inode: Inode) -> bytes:
        """The target of a symbolic link."""
        _, node = self._node(inode)
        if not isinstance(node, SymlinkNode):
            raise InvalidArgument("not a symbolic link")
        return node.target

    async def mkdir(self, parent: Inode, name: bytes, mode: int, caller: Caller) -> Attr:
        """A new directory; at the root of an all-buckets mount a new bucket."""
        if self._is_top(parent):
            volume = await self.buckets.create(name)
            return self._referenced(volume, volume.root)
        volume, directory = self._directory(parent)
        made = await self._decide(volume, lambda: volume.make_directory(directory, name, mode, caller.uid, caller.gid))
        return self._referenced(volume, made)

    async def symlink(self, parent: Inode, name: bytes, target: bytes, caller: Caller) -> Attr:
        """A new symbolic link."""
        volume, directory = self._directory(parent)
        made = await self._decide(volume, lambda: volume.make_symlink(directory, name, target, caller.uid, caller.gid))
        return self._referenced(volume, made)

    async def unlink(self, parent: Inode, name: bytes, caller: Caller) -> None:
        """Take the name of a file or symbolic link away."""
        if self._is_top(parent):
            self.buckets.volume(name)
            raise IsADirectory("a bucket is removed with rmdir")
        volume, directory = self._directory(parent)
        await self._decide(volume, lambda: volume.remove(directory, name, directory=False))

    async def rmdir(self, parent: Inode, name: bytes, caller: Caller) -> None:
        """Take an empty directory away; at the root of an all-buckets mount an empty bucket."""
        if self._is_top(parent):
            await self.buckets.remove(name)
            return
        volume, directory = self._directory(parent)
        await self._decide(volume, lambda: volume.remove(directory, name, directory=True))

    async def rename(
        self, old_parent: Inode, old_name: bytes, new_parent: Inode, new_name: bytes, flags: RenameFlags, caller: Caller
    ) -> None:
        """Move a name, as renameat2(2); between buckets CrossDevice, so that tools copy instead."""
        if self._is_top(old_parent):
            self.buckets.volume(old_name)
            raise NotPermitted("a bucket keeps its name; make a new one and move the files")
        if self._is_top(new_parent):
            raise CrossDevice("only buckets stand at the top")
        volume, source = self._directory(old_parent)
        other, target = self._directory(new_parent)
        if volume is not other:
            raise CrossDevice("a rename cannot cross buckets")
        # Both together are an error: renameat2(2).
        if flags & ~(RenameFlags.NOREPLACE | RenameFlags.EXCHANGE) or flags == RenameFlags(3):
            raise InvalidArgument(f"rename flags {int(flags)} are not known")
        await self._decide(volume, lambda: volume.rename(source, old_name, target, new_name, flags))

    async def resolve(self, volume: Volume, conflict: Conflict, keep: Keep) -> None:
        """Resolve a conflict, and tell the kernel. Raises as `conflicts.resolve` does."""
        for invalidation in await self._decide(volume, lambda: resolve(volume, conflict, keep)):
            self.notify(invalidation)

    # Files

    async def open(self, inode: Inode, flags: int, caller: Caller) -> Opened:
        """Open a file."""
        volume, node = self._node(inode)
        if not isinstance(node, FileNode):
            raise IsADirectory("only files are opened")
        return await self.files.open(volume, node, flags)

    async def create(self, parent: Inode, name: bytes, mode: int, flags: int, caller: Caller) -> tuple[Opened, Attr]:
        """Make a file and open it; an existing one is opened unless O_EXCL says otherwise."""
        if self._is_top(parent):
            raise NotPermitted("only buckets stand at the top; make one with mkdir")
        volume, directory = self._directory(parent)

        # The kernel has looked the name up, but another request may have made it since.
        def attempt() -> FileNode:
            check_name(name)
            found = volume.tree.find(directory, name)
            if found is None:
                return volume.create(directory, name, mode, caller.uid, caller.gid)
            if flags & os.O_EXCL:
                raise Exists("the file exists")
            if not isinstance(found, FileNode):
                raise IsADirectory("not a file")
            return found

        node = await self._decide(volume, attempt)
        opened = await self.files.open(volume, node, flags)
        return opened, self._referenced(volume, node)

    # Directories

    async def opendir(self, inode: Inode, caller: Caller) -> FileHandle:
        """Open a directory for reading."""
        if self._is_top(inode):
            return self._directories.add(OpenedDirectory())
        volume, node = self._directory(inode)
        node.opens += 1
        return self._directories.add(OpenedDirectory(node, volume))

    async def readdir(self, handle: FileHandle, start: int) -> Sequence[DirEntry]:
        """Some entries from position ``start`` on; none at the end."""
        opened = self._directories[handle]
        directory, volume = opened.node, opened.volume
        if directory is None or volume is None:
            self.numbers.write_urgent()
            if opened.names is None or start == 0:
                opened.names = sorted(self.buckets.names)
            return self.buckets.entries(opened.names, start)
        # Names as of the first read: positions stay right while entries come and go (POSIX leaves open which are shown).
        if opened.names is None or start == 0:
            opened.names = await volume.load(lambda: volume.tree.names(directory))
        names = opened.names
        while start < len(names):
            stop = min(start + LISTING_BATCH, len(names))
            batch = names[start:stop]
            nodes = await volume.load(partial(volume.tree.materialize_all, directory, batch))
            positions = {name: start + index + 1 for index, name in enumerate(batch)}
            self.numbers.write_urgent()
            entries = [DirEntry(node.name, volume.tree.attr(node), positions[node.name]) for node in nodes]
            if entries:
                return entries
            start = stop
        return []

    def dots(self, handle: FileHandle) -> tuple[Attr, Attr]:
        """The attributes of an open directory, and of the one above it; of the mount's root that is itself."""
        opened = self._directories[handle]
        node, volume = opened.node, opened.volume
        if node is None or volume is None:
            return self.buckets.attr(), self.buckets.attr()
        attr = volume.tree.attr
        if node.inode == ROOT_INODE or (node.parent is None and self._top is not None):
            return attr(node), attr(node)
        return attr(node), self.buckets.attr() if node.parent is None else attr(node.parent)

    async def releasedir(self, handle: FileHandle) -> None:
        """Close a directory."""
        opened = self._directories.close(handle)
        directory, volume = opened.node, opened.volume
        if directory is not None and volume is not None:
            directory.opens -= 1
            # Nodes that a listing brought into memory and the kernel did not take are not worth keeping.
            for child in list(directory.children.values()):
                if not child.lookups:
                    volume.tree.reclaim(child)
            volume.tree.reclaim(directory)

    async def fsyncdir(self, handle: FileHandle) -> None:
        """Return when all names made so far survive a power cut."""
        volume = self._directories[handle].volume
        for one in [volume] if volume is not None else list(self.buckets.volumes.values()):
            await one.journal.sync()
            await self._synced(one)

    def statfs(self) -> StatFs:
        """How much fits: the room for drafts on this machine."""
        total, free = self._space()
        # Files are not counted, as on btrfs: `df -i` shows a dash, and no share that means nothing.
        return StatFs(block_size=4096, blocks=total // 4096, blocks_free=free // 4096, files=0, files_free=0)

    # Inside

    def _is_top(self, inode: Inode) -> bool:
        return inode == ROOT_INODE and self._top is None

    def _node(self, inode: Inode) -> tuple[Volume, Node]:
        node = self.registry.get(inode)
        if node is None:
            self.buckets.check_held(inode)
            raise Stale(f"inode {inode} is gone")
        return self.buckets.volume_of(node), node

    def _directory(self, inode: Inode) -> tuple[Volume, DirectoryNode]:
        if self._is_top(inode):
            raise NotPermitted("only buckets stand at the top; make one with mkdir")
        volume, node = self._node(inode)
        if not isinstance(node, DirectoryNode):
            raise NotADirectory("not a directory")
        return volume, node

    async def _child(self, volume: Volume, directory: DirectoryNode, name: bytes) -> Node:
        return await volume.load(lambda: volume.tree.child(directory, name))

    async def _decide(self, volume: Volume, attempt: Callable[[], T]) -> T:
        return await volume.decide(attempt, lambda: self._make_room(ROOM_BYTES))

    def _referenced(self, volume: Volume, node: Node) -> Attr:
        node.lookups += 1
        # Before the answer: a program that was told a number finds the file under it after a kill, too.
        self.numbers.write_urgent()
        return volume.tree.attr(node)
