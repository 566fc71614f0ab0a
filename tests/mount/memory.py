"""A file system in memory behind the VFS protocol, for tests of the kernel's door. It claims POSIX meaning for what the
tests do, lookup counts included, and nothing else: no permissions, no durability.

Run as a program it mounts itself and takes orders on standard input, one JSON object a line, each answered by one line::

    {"do": "hold"}                 reads wait from now on          {"do": "release"}
    {"do": "write", "name": …}     (remove, chmod, storm) a change from elsewhere, and the kernel is told
    {"do": "counts"}               requests and lookup counts
    {"do": "leave"}                unmount and end
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import trio

from bucketfs.errors import Exists, IsADirectory, NotADirectory, NotEmpty, NotFound, Unavailable
from bucketfs.mount import KernelClock, Mount, MountSettings
from bucketfs.types import ROOT_INODE, Caller, FileHandle, Inode, Kind
from bucketfs.vfs import (
    VFS,
    Attr,
    AttributesChanged,
    DirEntry,
    EntryChanged,
    EntryGone,
    Invalidation,
    Opened,
    Owner,
    RenameFlags,
    SetAttr,
    StatFs,
)

O_TRUNC = 0o1000


@dataclass(eq=False)
class Node:
    inode: Inode
    kind: Kind
    mode: int
    uid: int = 0
    gid: int = 0
    data: bytearray = field(default_factory=bytearray)
    names: dict[bytes, Node] = field(default_factory=dict)
    mtime_ns: int = field(default_factory=time.time_ns)


class MemoryVFS:
    """See above. ``held`` is an event that reads wait for; ``lookups`` are the kernel's lookup counts."""

    def __init__(self, notify: Callable[[Invalidation], None]) -> None:
        self._numbers = itertools.count(ROOT_INODE + 1)
        self._handles = itertools.count(1)
        self.root = Node(ROOT_INODE, Kind.DIRECTORY, 0o755, os.getuid(), os.getgid())
        self.nodes: dict[Inode, Node] = {ROOT_INODE: self.root}
        self.open_nodes: dict[FileHandle, Node] = {}
        self.lookups: Counter[Inode] = Counter()
        self.synced = 0
        self.notify = notify
        self.owner = Owner(os.getuid(), os.getgid(), KernelClock())
        self.held: trio.Event | None = None
        self.files = self
        """The requests about open files, which this VFS answers itself."""

    def attr(self, node: Node) -> Attr:
        size = 0 if node.kind is Kind.DIRECTORY else len(node.data)
        links = 2 if node.kind is Kind.DIRECTORY else 1
        t = node.mtime_ns
        return Attr(node.inode, node.kind, node.mode, links, node.uid, node.gid, size, t, t, t)

    def _known(self, node: Node) -> Attr:
        self.lookups[node.inode] += 1
        return self.attr(node)

    def remember(self, inode: Inode) -> None:
        self.lookups[inode] += 1

    def forget(self, pairs: Iterable[tuple[Inode, int]]) -> None:
        for inode, count in pairs:
            self.lookups[inode] -= count
            assert self.lookups[inode] >= 0, f"inode {inode} forgotten more often than looked up"

    async def lookup(self, parent: Inode, name: bytes) -> Attr:
        if name == b"explode":
            raise ZeroDivisionError("as a bug would")
        if name == b"away":
            raise Unavailable("the Hub is away")
        try:
            return self._known(self.nodes[parent].names[name])
        except KeyError:
            raise NotFound(repr(name)) from None

    async def getattr(self, inode: Inode) -> Attr:
        return self.attr(self.nodes[inode])

    async def setattr(self, inode: Inode, change: SetAttr, handle: FileHandle | None, caller: Caller) -> Attr:
        node = self.nodes[inode]
        if change.size_bytes is not None:
            del node.data[change.size_bytes :]
            node.data.extend(bytes(change.size_bytes - len(node.data)))
        for name in ("mode", "uid", "gid", "mtime_ns"):
            value = getattr(change, name)
            if value is not None:
                setattr(node, name, value)
        return self.attr(node)

    def _make(self, parent: Inode, name: bytes, kind: Kind, mode: int, caller: Caller) -> Node:
        names = self.nodes[parent].names
        if name in names:
            raise Exists(repr(name))
        node = Node(Inode(next(self._numbers)), kind, mode, caller.uid, caller.gid)
        self.nodes[node.inode] = names[name] = node
        return node

    async def readlink(self, inode: Inode) -> bytes:
        return bytes(self.nodes[inode].data)

    async def symlink(self, parent: Inode, name: bytes, target: bytes, caller: Caller) -> Attr:
        node = self._make(parent, name, Kind.SYMLINK, 0o777, caller)
        node.data[:] = target
        return self._known(node)

    async def mkdir(self, parent: Inode, name: bytes, mode: int, caller: Caller) -> Attr:
        return self._known(self._make(parent, name, Kind.DIRECTORY, mode, caller))

    async def unlink(self, parent: Inode, name: bytes, caller: Caller) -> None:
        if self.nodes[parent].names[name].kind is Kind.DIRECTORY:
            raise IsADirectory(repr(name))
        del self.nodes[parent].names[name]

    async def rmdir(self, parent: Inode, name: bytes, caller: Caller) -> None:
        node = self.nodes[parent].names[name]
        if node.kind is not Kind.DIRECTORY:
            raise NotADirectory(repr(name))
        if node.names:
            raise NotEmpty(repr(name))
        del self.nodes[parent].names[name]

    async def rename(
        self, parent_old: Inode, name_old: bytes, parent_new: Inode, name_new: bytes, flags: RenameFlags, caller: Caller
    ) -> None:
        old, new = self.nodes[parent_old].names, self.nodes[parent_new].names
        if flags == RenameFlags.EXCHANGE:
            old[name_old], new[name_new] = new[name_new], old[name_old]
            return
        if flags == RenameFlags.NOREPLACE and name_new in new:
            raise Exists(repr(name_new))
        new[name_new] = old.pop(name_old)

    async def open(self, inode: Inode, flags: int, caller: Caller) -> Opened:
        node = self.nodes[inode]
        if flags & O_TRUNC:
            node.data.clear()
        return self._open(node)

    def _open(self, node: Node) -> Opened:
        handle = FileHandle(next(self._handles))
        self.open_nodes[handle] = node
        return Opened(handle, keep_cache=False)

    async def create(self, parent: Inode, name: bytes, mode: int, flags: int, caller: Caller) -> tuple[Opened, Attr]:
        node = self._make(parent, name, Kind.FILE, mode, caller)
        return self._open(node), self._known(node)

    async def read(self, handle: FileHandle, offset: int, size: int) -> bytes:
        if self.held is not None:
            await self.held.wait()
        return bytes(self.open_nodes[handle].data[offset : offset + size])

    async def write(self, handle: FileHandle, offset: int, data: bytes) -> int:
        node = self.open_nodes[handle]
        node.data.extend(bytes(max(0, offset - len(node.data))))
        node.data[offset : offset + len(data)] = data
        node.mtime_ns = time.time_ns()
        return len(data)

    async def flush(self, handle: FileHandle) -> None:
        assert handle in self.open_nodes

    async def release(self, handle: FileHandle) -> None:
        del self.open_nodes[handle]

    async def fsync(self, handle: FileHandle, datasync: bool) -> None:
        if self.held is not None:
            await self.held.wait()
        self.synced += 1

    async def opendir(self, inode: Inode, caller: Caller) -> FileHandle:
        return self._open(self.nodes[inode]).handle

    async def readdir(self, handle: FileHandle, start: int) -> Sequence[DirEntry]:
        entries = sorted(self.open_nodes[handle].names.items())[start : start + 100]
        return [DirEntry(name, self.attr(node), start + index + 1) for index, (name, node) in enumerate(entries)]

    def dots(self, handle: FileHandle) -> tuple[Attr, Attr]:
        attr = self.attr(self.open_nodes[handle])
        return attr, attr  # the one above is not noted here

    async def releasedir(self, handle: FileHandle) -> None:
        del self.open_nodes[handle]

    async def fsyncdir(self, handle: FileHandle) -> None:
        self.synced += 1

    def statfs(self) -> StatFs:
        return StatFs(block_size=4096, blocks=1 << 20, blocks_free=1 << 19, files=1000, files_free=500)

    # What happens elsewhere.

    def remote_write(self, name: bytes, data: bytes) -> None:
        """Another client replaces (or adds) a file of the root: it has a new inode, as the VFS promises."""
        node = Node(Inode(next(self._numbers)), Kind.FILE, 0o644, data=bytearray(data))
        self.nodes[node.inode] = self.root.names[name] = node
        self.notify(EntryChanged(ROOT_INODE, name))
        self.notify(AttributesChanged(ROOT_INODE))

    def remote_remove(self, name: bytes) -> None:
        node = self.root.names.pop(name)
        self.notify(EntryGone(ROOT_INODE, name, node.inode))

    def remote_chmod(self, name: bytes, mode: int) -> None:
        node = self.root.names[name]
        node.mode = mode
        self.notify(AttributesChanged(node.inode))


async def obey(vfs: MemoryVFS, mount: Mount, order: dict[str, Any]) -> object:
    name = order.get("name", "").encode()
    match order["do"]:
        case "hold":
            vfs.held = trio.Event()
        case "release":
            assert vfs.held is not None
            vfs.held.set()
            vfs.held = None
        case "write":
            vfs.remote_write(name, order["data"].encode())
            await mount.drained()
        case "remove":
            vfs.remote_remove(name)
            await mount.drained()
        case "chmod":
            vfs.remote_chmod(name, order["mode"])
            await mount.drained()
        case "storm":
            for number in range(order["count"]):
                vfs.remote_write(b"storm-%d" % (number % 50), b"%d" % number)
            await mount.drained()
        case "leave":
            mount.leave()
        case "counts":
            lookups = sum(count for inode, count in vfs.lookups.items() if inode != ROOT_INODE)
            return {"lookups": lookups, "handles": len(vfs.open_nodes), "synced": vfs.synced, **mount.figures()}
        case "content":
            return vfs.root.names[name].data.decode()
    return None


async def main(mountpoint: str, settings: dict[str, Any]) -> None:
    vfs = MemoryVFS(lambda news: mount.notify(news))
    mount = Mount(cast(VFS, vfs), Path(mountpoint), MountSettings(**settings))
    async with trio.open_nursery() as nursery:

        async def serve(*, task_status: trio.TaskStatus[Any]) -> None:
            await mount.run(task_status=task_status)
            nursery.cancel_scope.cancel()

        mounted = await nursery.start(serve)
        print(json.dumps({"mounted": str(mounted.mountpoint)}), flush=True)
        async with trio.lowlevel.FdStream(0) as stdin:
            rest = b""
            async for chunk in stdin:
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    print(json.dumps(await obey(vfs, mount, json.loads(line))), flush=True)
        # The one who gave orders is gone, so we part as after a SIGTERM; the end of `serve` ends the rest.
        mount.leave()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")
    trio.run(main, sys.argv[1], json.loads(sys.argv[2]))
