"""`Amends`: what the mount needs to have the kernel show a file as it is here, after writes to it failed (see `losses`)."""

from __future__ import annotations

import logging
from collections.abc import Callable

import trio

from bucketfs.errors import Stale
from bucketfs.types import ROOT_INODE, Inode
from bucketfs.vfs.buckets_root import Top
from bucketfs.vfs.handles import Handles, OpenFile
from bucketfs.vfs.tree import write_failures as losses
from bucketfs.vfs.tree.inode_table import InodeNumbers
from bucketfs.vfs.tree.namespace import Registry
from bucketfs.vfs.tree.node import FileNode, Node
from bucketfs.vfs.tree.stat_types import ContentLost, EntryChanged, Invalidation, Opened

WAIT_S = 3.0
"""How long ``stat`` and ``open`` wait for the kernel to be right. It takes milliseconds, but for a program that asks with the file
locked (lseek to the end, chmod): then the mount and that program wait for one another."""

log = logging.getLogger(__name__)


class Amends:
    """One for each mount. All methods but `settled` are immediate."""

    def __init__(
        self,
        registry: Registry,
        numbers: InodeNumbers,
        handles: Handles,
        top: Top,
        notify: Callable[[Invalidation], None],
    ) -> None:
        self._registry = registry
        self._numbers = numbers
        self._handles = handles
        self._top = top
        self._notify = notify

    def begin(self, node: FileNode, error: BaseException) -> bool:
        """A write to ``node`` failed. Whether the kernel may still believe its attributes for an hour."""
        first = losses.failed(node, self._handles.of(node), error)
        losses.cut_back(node)
        if first:
            log.info("what was written to %r and not taken is dropped: %s", node.name, error)
        self._notify(ContentLost(node.inode))
        return first

    async def settled(self, inode: Inode) -> None:
        """Wait until the kernel shows what is here, if that takes place now."""
        node = self._registry.get(inode)
        if isinstance(node, FileNode) and node.loss is not None and node.loss.amended is not None:
            with trio.move_on_after(WAIT_S):
                await node.loss.amended.wait()

    def place(self, inode: Inode) -> list[bytes] | None:
        """The names that lead from the mount point to a file whose length the kernel must be told; None when there is no need,
        or no way."""
        node = self._registry.get(inode)
        if not isinstance(node, FileNode) or node.loss is None or node.orphan:
            return None
        names: list[bytes] = []
        at: Node = node
        while at.inode != ROOT_INODE:
            if at.parent is None:
                top = [name for name, volume in self._top.volumes.items() if volume.root is at]
                return [*top, *reversed(names)] if top else None
            names.append(at.name)
            at = at.parent
        return list(reversed(names))

    def size_bytes(self, inode: Inode) -> int:
        """How long the file is here."""
        node = self._registry.get(inode)
        return node.content.size_bytes if isinstance(node, FileNode) else 0

    def open(self, inode: Inode) -> Opened:
        """A handle whose change of the size only tells the kernel the size. Raises Stale for a file that needs none."""
        node = self._registry.get(inode)
        if not isinstance(node, FileNode) or node.loss is None:
            raise Stale("nothing of this file was lost")
        node.opens += 1
        return Opened(self._handles.add(OpenFile(node, writable=False, synchronous=False, amending=True)), keep_cache=True)

    def end(self, inode: Inode, *, told: bool) -> None:
        """The kernel holds no pages of before; ``told``: and has the length that the file has here."""
        node = self._registry.get(inode)
        if not isinstance(node, FileNode) or node.loss is None:
            return
        if told or node.orphan or node.loss.settled:
            # If it was broken again meanwhile, that was announced meanwhile.
            if not (told and node.loss.broken):
                losses.mended(node)
        elif not node.opens:
            self.renumber(node)
        else:
            node.loss.stranded = True
            if node.loss.amended is not None:
                node.loss.amended.set()
        node.volume.reclaim(node)

    def closed(self, opened: OpenFile) -> None:
        """A handle is gone."""
        node = opened.node
        losses.closed(opened)
        if node.loss is not None and node.loss.stranded and not node.opens and not node.orphan:
            self.renumber(node)

    def renumber(self, node: FileNode) -> None:
        """Have the kernel forget what it knows under the old number."""
        if self._registry.get(node.inode) is node:
            del self._registry[node.inode]
        node.inode, node.lookups = self._numbers.fresh(), 0
        self._registry[node.inode] = node
        node.volume.remember(node)
        if node.parent is not None:
            self._notify(EntryChanged(node.parent.inode, node.name))
        losses.mended(node)
