"""`VFS`: the file system as the kernel's door sees it, for one bucket, a folder of one, or all of them.

Every method is one request. It finds its nodes, lets the volume decide and change, and answers with facts. Names and
attributes that are in memory are answered without an await; only what the base has and nobody looked at yet is fetched.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TypeVar

import trio

from bucketfs.errors import (
    BucketfsError,
    CrossDevice,
    Exists,
    InvalidArgument,
    IsADirectory,
    NoSpace,
    NotADirectory,
    NotPermitted,
    ReadOnly,
    Stale,
)
from bucketfs.names import check_name
from bucketfs.ops import Conflict
from bucketfs.types import ROOT_INODE, Caller, FileHandle, Inode
from bucketfs.vfs.buckets_root import Buckets, Top
from bucketfs.vfs.conflicts import Keep, resolve
from bucketfs.vfs.handles import Handles, OpenDirectory, OpenFile
from bucketfs.vfs.kernel_amends import Amends
from bucketfs.vfs.readahead import Ahead
from bucketfs.vfs.rebase.displaced import bring_home
from bucketfs.vfs.sealing import closed
from bucketfs.vfs.tree import file_io as files
from bucketfs.vfs.tree import write_failures as losses
from bucketfs.vfs.tree.inode_table import InodeNumbers
from bucketfs.vfs.tree.namespace import Owner
from bucketfs.vfs.tree.node import DirectoryNode, FileNode, Node, SymlinkNode
from bucketfs.vfs.tree.stat_types import (
    Attr,
    AttributesChanged,
    ContentChanged,
    DirEntry,
    Invalidation,
    Opened,
    RenameFlags,
    SetAttr,
    StatFs,
)
from bucketfs.vfs.tree.volume import Volume

T = TypeVar("T")

ROOM_BYTES = 8 << 20
"""What is asked for when the disk is full: enough that not every write has to ask again."""

LISTING_BATCH = 256
"""Names of one answer to readdir; their root blocks are fetched together."""


class VFS:
    """One mount. ``notify`` takes what the kernel must be told, ``told`` too, and awaits that it was; ``space`` tells (total, free)
    bytes that writes can use."""

    def __init__(
        self,
        *,
        numbers: InodeNumbers,
        registry: dict[Inode, Node],
        owner: Owner,
        space: Callable[[], tuple[int, int]],
        notify: Callable[[Invalidation], None] = lambda invalidation: None,
        told: Callable[[AttributesChanged | ContentChanged], Awaitable[None]] | None = None,
        buckets: Buckets | None = None,
        read_only: bool = False,
        synced: Callable[[Volume], Awaitable[None]] | None = None,
        make_room: Callable[[int], Awaitable[int]] | None = None,
    ) -> None:
        """``synced``, when given, is awaited by every fsync after the local disk has it (the mount option fsync=hub).
        ``make_room`` gives up so many bytes of something dearer to nobody when the disk is full; what it says is how many.
        """
        self.numbers = numbers
        self.registry = registry
        self.owner = owner
        self.notify = notify
        self._all = Top(owner, numbers, notify, None if read_only else buckets)
        self._read_only = read_only
        self._space = space
        self._synced = synced
        self._make_room = make_room
        self._top: DirectoryNode | None = None
        self._handles = Handles()
        self._ahead = Ahead()
        self._told = told
        self._writing: dict[FileNode, trio.Lock] = {}
        self.amends = Amends(registry, numbers, self._handles, self._all, notify)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep what reads and looks ahead going until cancelled."""
        await self._ahead.run(task_status=task_status)

    # Volumes

    @property
    def names(self) -> Collection[bytes]:
        """The names of the buckets at the top of an all-buckets mount."""
        return self._all.names

    async def show(self, volume: Volume, prefix: str = "") -> None:
        """Make ``volume``, or the folder ``prefix`` of it, the root of the mount."""
        node: Node = volume.root
        for name in [part.encode() for part in prefix.split("/") if part]:
            if not isinstance(node, DirectoryNode):
                raise NotADirectory(f"{prefix!r} leads through what is no folder")
            node = await self._child(node, name)
        if not isinstance(node, DirectoryNode):
            raise NotADirectory(f"{prefix!r} is not a folder of the bucket")
        self.registry.pop(node.inode, None)
        node.inode = ROOT_INODE
        node.lookups += 1
        self.registry[ROOT_INODE] = node
        self._top = node

    def add(self, name: bytes, volume: Volume) -> None:
        """Show a volume as a folder at the top of an all-buckets mount."""
        self._all.add(name, volume)

    def hold(self, name: bytes, error: BucketfsError) -> None:
        """Show a folder at the top whose bucket cannot be opened yet, until `add` or `drop`. All that is asked inside it
        fails with Unavailable."""
        self._all.hold(name, error)

    def rename_folders(self, names: Mapping[bytes, bytes]) -> None:
        """Folders at the top are called otherwise from now on, old names to new ones, all at once. Nodes in use stay what they
        are."""
        self._all.rename(names)

    def drop(self, name: bytes) -> None:
        """Take a folder off the top; nodes in use go on until they are closed."""
        self._all.drop(name)

    @property
    def open_count(self) -> int:
        """How many files and directories are open."""
        return len(self._handles)

    # Names

    async def lookup(self, parent: Inode, name: bytes) -> Attr:
        """The attributes of a name; the kernel holds one more reference to it."""
        if self._is_top(parent):
            check_name(name)
            held = self._all.held.get(name)
            return self._referenced(self._all.volume(name).root) if held is None else self._all.held_attr(held.inode)
        directory = self._directory(parent)
        check_name(name)
        fetched = directory.fetched
        node = await self._child(directory, name)
        if directory.fetched != fetched:
            self._ahead.looks_up(directory, name)
        return self._referenced(node)

    def remember(self, inode: Inode) -> None:
        """The kernel took a reference through a listing."""
        if not self._all.is_held(inode):
            self._node(inode).lookups += 1

    def forget(self, pairs: Iterable[tuple[Inode, int]]) -> None:
        """The kernel gives references back."""
        for inode, count in pairs:
            node = self.registry.get(inode)
            if node is not None:
                node.lookups = max(0, node.lookups - count)
                node.volume.reclaim(node)

    async def getattr(self, inode: Inode) -> Attr:
        """The attributes of an inode."""
        if self._is_top(inode):
            self.numbers.write_urgent()
            return self._all.attr()
        if self._all.is_held(inode):
            return self._all.held_attr(inode)
        return self._attr(self._node(inode))

    async def setattr(self, inode: Inode, change: SetAttr, handle: FileHandle | None, caller: Caller) -> Attr:
        """Change attributes, the size of a file among them; the new attributes."""
        if self._is_top(inode):
            raise NotPermitted("the folder of all buckets has no attributes of its own")
        node = self._node(inode)
        if handle is None:
            if node.stale and not node.opens:
                raise Stale("what had this name was replaced elsewhere")
            # Else it was asked when the file was opened; the kernel sends the time of writes with the handle, too.
            node.volume.check_changing(node)
        if change.size_bytes is not None:
            if not isinstance(node, FileNode):
                raise IsADirectory("only a file has a size to set")
            if handle is not None and self._handles.file(handle).amending:
                return self._amended(node, change)
            await self._set_size(node, change)
        if change != SetAttr(size_bytes=change.size_bytes):
            await self._decided(node.volume, lambda: node.volume.set_attributes(node, change))
            self.numbers.write_urgent()
        return self._attr(node)

    async def readlink(self, inode: Inode) -> bytes:
        """The target of a symbolic link."""
        node = self._node(inode)
        if not isinstance(node, SymlinkNode):
            raise InvalidArgument("not a symbolic link")
        return node.target

    async def mkdir(self, parent: Inode, name: bytes, mode: int, caller: Caller) -> Attr:
        """A new directory; at the top of an all-buckets mount a new bucket."""
        if self._is_top(parent):
            return self._referenced((await self._all.create(name)).root)
        directory = self._directory(parent)
        volume = directory.volume
        made = await self._decided(volume, lambda: volume.make_directory(directory, name, mode, caller.uid, caller.gid))
        return self._referenced(made)

    async def symlink(self, parent: Inode, name: bytes, target: bytes, caller: Caller) -> Attr:
        """A new symbolic link."""
        directory = self._directory(parent)
        volume = directory.volume
        made = await self._decided(volume, lambda: volume.make_symlink(directory, name, target, caller.uid, caller.gid))
        return self._referenced(made)

    async def unlink(self, parent: Inode, name: bytes, caller: Caller) -> None:
        """Take a name away that is no directory."""
        if self._is_top(parent):
            self._all.volume(name)
            raise IsADirectory("a bucket is removed with rmdir")
        directory = self._directory(parent)
        volume = directory.volume
        await self._decided(volume, lambda: volume.remove(directory, name, directory=False))

    async def rmdir(self, parent: Inode, name: bytes, caller: Caller) -> None:
        """Take an empty directory away; at the top of an all-buckets mount an empty bucket."""
        if self._is_top(parent):
            await self._all.remove(name)
            return
        directory = self._directory(parent)
        volume = directory.volume
        await self._decided(volume, lambda: volume.remove(directory, name, directory=True))

    async def rename(
        self, old_parent: Inode, old_name: bytes, new_parent: Inode, new_name: bytes, flags: RenameFlags, caller: Caller
    ) -> None:
        """Move a name, as renameat2(2); between buckets CrossDevice, so that tools copy instead."""
        if self._is_top(old_parent):
            self._all.volume(old_name)
            raise NotPermitted("a bucket keeps its name; make a new one and move the files")
        if self._is_top(new_parent):
            raise CrossDevice("only buckets stand at the top")
        source, target = self._directory(old_parent), self._directory(new_parent)
        if source.volume is not target.volume:
            raise CrossDevice("a rename cannot cross buckets")
        if flags & ~(RenameFlags.NOREPLACE | RenameFlags.EXCHANGE) or flags == RenameFlags(3):
            raise InvalidArgument(f"rename flags {int(flags)} are not known")
        volume = source.volume
        await self._decided(volume, lambda: volume.rename(source, old_name, target, new_name, flags))

    async def resolve(self, volume: Volume, conflict: Conflict, keep: Keep) -> None:
        """Settle a conflict, and tell the kernel. Raises as `resolve.resolve` does."""
        for invalidation in await self._decided(volume, lambda: resolve(volume, conflict, keep)):
            self.notify(invalidation)

    # Files

    async def open(self, inode: Inode, flags: int, caller: Caller) -> Opened:
        """Open a file."""
        node = self._node(inode)
        if not isinstance(node, FileNode):
            raise IsADirectory("only files are opened")
        return await self._open(node, flags)

    async def create(self, parent: Inode, name: bytes, mode: int, flags: int, caller: Caller) -> tuple[Opened, Attr]:
        """Make a file and open it; an existing one is opened unless O_EXCL says otherwise."""
        if self._is_top(parent):
            raise NotPermitted("only buckets stand at the top; make one with mkdir")
        directory = self._directory(parent)
        volume = directory.volume

        def attempt() -> FileNode:
            check_name(name)
            found = volume.find(directory, name)
            if found is None:
                return volume.create(directory, name, mode, caller.uid, caller.gid)
            if flags & os.O_EXCL:
                raise Exists("the file exists")
            if not isinstance(found, FileNode):
                raise IsADirectory("not a file")
            return found

        node = await self._decided(volume, attempt)
        opened = await self._open(node, flags)
        return opened, self._referenced(node)

    async def read(self, handle: FileHandle, offset: int, size: int) -> bytes:
        """Bytes of an open file; fewer than asked only at its end."""
        opened = self._handles.file(handle)
        self._ahead.reads(opened, offset, size)
        return await files.read(opened.node, offset, size)

    async def write(self, handle: FileHandle, offset: int, data: bytes) -> int:
        """Write to an open file; the number of bytes taken."""
        opened = self._handles.file(handle)
        node = opened.node
        try:
            taken = await self._in_turn(node, lambda: self._write(node, offset, data), ROOM_BYTES + len(data))
        except BaseException as error:
            if self.amends.begin(node, error) and isinstance(error, Exception):
                # Before the program hears of it: what it asks next must come here.
                await self._tell(AttributesChanged(node.inode))
            raise
        if opened.direct and node.opens > node.directs:
            # The kernel drops the pages under a direct write before that, and (AIO) not once more after it: a reader may have
            # filled one from here in between.
            await self._tell(ContentChanged(node.inode))
        if opened.synchronous:
            await self._sync_file(opened.node)
        return taken

    async def flush(self, handle: FileHandle) -> None:
        """A descriptor is closed: what was written is in the journal when this returns, or its error is close's."""
        opened = self._handles.file(handle)
        node = opened.node
        try:
            await self._decided(node.volume, lambda: files.record(node))
        except BucketfsError as error:
            losses.unrecorded(node, error)
            raise
        losses.written_back(node)
        losses.tell(opened)

    async def release(self, handle: FileHandle) -> None:
        """The last descriptor of an open file is closed."""
        opened = self._handles.close(handle)
        if isinstance(opened, OpenFile):
            node = opened.node
            node.opens -= 1
            node.writers -= opened.writable
            if opened.direct:
                node.directs -= 1
                self.notify(ContentChanged(node.inode))
            if not node.writers:
                losses.written_back(node)
            self.amends.closed(opened)
            try:
                files.record(node)
            except BucketfsError as error:
                losses.unrecorded(node, error)
                raise
            finally:
                closed(node)
                node.volume.reclaim(node)

    async def fsync(self, handle: FileHandle, datasync: bool) -> None:
        """Return when the file survives a power cut."""
        opened = self._handles.file(handle)
        await self._sync_file(opened.node)
        losses.written_back(opened.node)
        losses.tell(opened)

    # Directories

    async def opendir(self, inode: Inode, caller: Caller) -> FileHandle:
        """Open a directory for reading."""
        if self._is_top(inode):
            return self._handles.add(OpenDirectory(None))
        node = self._directory(inode)
        node.opens += 1
        return self._handles.add(OpenDirectory(node))

    async def readdir(self, handle: FileHandle, start: int) -> Sequence[DirEntry]:
        """Some entries from position ``start`` on; none at the end."""
        opened = self._handles.directory(handle)
        directory = opened.node
        if directory is None:
            self.numbers.write_urgent()
            return self._all.entries(opened, start)
        assert isinstance(directory, DirectoryNode)
        volume = directory.volume
        if opened.names is None or start == 0:
            opened.names = await volume.base_tree.load(lambda: volume.names(directory))
        names = opened.names
        while start < len(names):
            stop = min(start + LISTING_BATCH, len(names))
            batch = names[start:stop]
            nodes = await volume.base_tree.load(partial(volume.materialize_all, directory, batch))
            positions = {name: start + index + 1 for index, name in enumerate(batch)}
            self.numbers.write_urgent()
            entries = [DirEntry(node.name, self._attr(node), positions[node.name]) for node in nodes]
            if entries:
                return entries
            start = stop
        return []

    def dots(self, handle: FileHandle) -> tuple[Attr, Attr]:
        """The attributes of an open directory, and of the one above it; of the mount's root that is itself."""
        node = self._handles.directory(handle).node
        if node is None:
            return self._all.attr(), self._all.attr()
        if node.inode == ROOT_INODE or (node.parent is None and self._top is not None):
            return self._attr(node), self._attr(node)
        return self._attr(node), self._all.attr() if node.parent is None else self._attr(node.parent)

    async def releasedir(self, handle: FileHandle) -> None:
        """Close a directory."""
        opened = self._handles.close(handle)
        directory = opened.node
        if isinstance(directory, DirectoryNode):
            directory.opens -= 1
            # Nodes that a listing brought into memory and the kernel did not take are not worth keeping.
            for child in list(directory.children.values()):
                if not child.lookups:
                    directory.volume.reclaim(child)
            directory.volume.reclaim(directory)

    async def fsyncdir(self, handle: FileHandle) -> None:
        """Return when all names made so far survive a power cut."""
        node = self._handles.directory(handle).node
        volumes = [node.volume] if node is not None else list(self._all.volumes.values())
        for volume in volumes:
            await volume.journal.sync()
            if self._synced is not None:
                await self._synced(volume)

    def statfs(self) -> StatFs:
        """How much fits: the room for drafts on this machine."""
        total, free = self._space()
        # Files are not counted, as on btrfs: `df -i` shows a dash, and no share that means nothing.
        return StatFs(block_size=4096, blocks=total // 4096, blocks_free=free // 4096, files=0, files_free=0)

    # Inside

    def _is_top(self, inode: Inode) -> bool:
        return inode == ROOT_INODE and self._top is None

    def _node(self, inode: Inode) -> Node:
        node = self.registry.get(inode)
        if node is None:
            self._all.check_held(inode)
            raise Stale(f"inode {inode} is gone")
        return node

    def _directory(self, inode: Inode) -> DirectoryNode:
        if self._is_top(inode):
            raise NotPermitted("only buckets stand at the top; make one with mkdir")
        node = self._node(inode)
        if not isinstance(node, DirectoryNode):
            raise NotADirectory("not a directory")
        return node

    async def _child(self, directory: DirectoryNode, name: bytes) -> Node:
        volume = directory.volume
        return await volume.base_tree.load(lambda: volume.child(directory, name))

    async def _decided(self, volume: Volume, attempt: Callable[[], T], room_bytes: int = ROOM_BYTES) -> T:
        """Make an attempt; when the disk is full, once more after what can be given up was."""
        try:
            return await volume.base_tree.load(attempt)
        except NoSpace:
            if self._make_room is None or not await self._make_room(room_bytes):
                raise
        return await volume.base_tree.load(attempt)

    async def _in_turn(self, node: FileNode, attempt: Callable[[], T], room_bytes: int) -> T:
        """As `_decided`, and after those that came before: while one waits for room, a smaller one that still finds some must not
        leave a hole in its place."""
        lock = self._writing.setdefault(node, trio.Lock())
        try:
            lock.acquire_nowait()
        except trio.WouldBlock:
            await lock.acquire()
        try:
            return await self._decided(node.volume, attempt, room_bytes)
        finally:
            lock.release()
            if not lock.locked():
                self._writing.pop(node, None)

    async def _tell(self, news: AttributesChanged | ContentChanged) -> None:
        if self._told is not None:
            await self._told(news)

    def _write(self, node: FileNode, offset: int, data: bytes) -> int:
        """An attempt."""
        losses.check_write(node, offset)
        if data:
            self._bring_home(node)
        return files.write(node, offset, data)

    def _amended(self, node: FileNode, change: SetAttr) -> Attr:
        """The mount itself sets the size: nothing is cut, the kernel takes it from the answer. Its times are as any others."""
        losses.accept(node)
        with suppress(BucketfsError):  # the disk may be full, and the kernel must get its answer
            node.volume.set_attributes(node, SetAttr(mtime_ns=change.mtime_ns, ctime_ns=change.ctime_ns))
        return self._attr(node)

    async def _set_size(self, node: FileNode, change: SetAttr) -> None:
        size_bytes, times = change.size_bytes or 0, (change.mtime_ns, change.ctime_ns)
        try:
            await self._decided(node.volume, lambda: self._truncate(node, size_bytes, *times))
        except BucketfsError:
            self.notify(ContentChanged(node.inode))
            raise

    def _truncate(self, node: FileNode, size_bytes: int, mtime_ns: int | None = None, ctime_ns: int | None = None) -> None:
        """An attempt."""
        losses.check_size(node, size_bytes)
        old_bytes = node.content.size_bytes
        if size_bytes != old_bytes:
            self._bring_home(node)
        files.truncate(node, size_bytes, mtime_ns, ctime_ns)
        losses.resized(node, old_bytes)

    def _empty(self, node: FileNode) -> None:
        """An attempt. The kernel, which asked for it by an open, stamps the file itself, and tells of it when that is news."""
        self._truncate(node, 0, node.mtime_ns, node.ctime_ns)

    def _bring_home(self, node: FileNode) -> None:
        for invalidation in bring_home(node):
            self.notify(invalidation)

    async def _sync_file(self, node: FileNode) -> None:
        await files.fsync(node)
        if self._synced is not None and not node.orphan:
            await self._synced(node.volume)

    def _attr(self, node: Node) -> Attr:
        return node.volume.attr(node)

    def _referenced(self, node: Node) -> Attr:
        node.lookups += 1
        self.numbers.write_urgent()
        return self._attr(node)

    async def _open(self, node: FileNode, flags: int) -> Opened:
        _check_opening(node, flags)
        writable = flags & os.O_ACCMODE != os.O_RDONLY
        if writable and self._read_only:
            raise ReadOnly("the mount is read-only")
        if flags & os.O_TRUNC:
            # Does not wait: the kernel has locked the file meanwhile.
            await self._decided(node.volume, lambda: self._empty(node))
            losses.emptied(node)
        elif node.loss is not None:
            await self.amends.settled(node.inode)
            losses.check_open(node)
        # A remotely changed file gets a new inode, so what the kernel holds of this one is right, but for direct writes.
        keep_cache = not node.directs
        direct = writable and bool(flags & os.O_DIRECT)
        node.opens += 1
        node.writers += writable
        node.directs += direct
        opened = OpenFile(node, writable, bool(flags & (os.O_SYNC | os.O_DSYNC)), direct)
        return Opened(self._handles.add(opened), keep_cache=keep_cache)


def _check_opening(node: FileNode, flags: int) -> None:
    """Raise Denied when a file is opened for changes that the Hub would refuse, Stale when they would be lost.

    Between a rebase and the moment that the kernel is told of it, a name still leads to the number it had. Told that this is
    stale, the kernel looks the name up anew, and the program opens what is there now without noticing.
    """
    if flags & os.O_ACCMODE != os.O_RDONLY or flags & os.O_TRUNC:
        if node.stale:
            raise Stale("the file was replaced elsewhere")
        node.volume.check_changing(node)
