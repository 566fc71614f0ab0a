"""What was changed in a bucket since the base, and the changes themselves.

The changes cannot fail, check nothing and record nothing: `Volume` checks and records before, and for a replay both were done
already."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace

from bucketfs.journal import Extents, ops
from bucketfs.types import Link, NodeAttributes
from bucketfs.vfs.tree.conflict_copies import Conflicts
from bucketfs.vfs.tree.content import Layer
from bucketfs.vfs.tree.inode_table import Number
from bucketfs.vfs.tree.namespace import Namespace
from bucketfs.vfs.tree.node import DirectoryNode, FileNode, Node, SymlinkNode
from bucketfs.vfs.tree.push_state import PushState

Made = ops.Create | ops.MakeDirectory | ops.MakeSymlink | ops.Place
"""The ops that put a new node on a name."""


class Pending:
    """The pending changes of one bucket, made on the nodes of ``tree``."""

    def __init__(self, tree: Namespace) -> None:
        self.tree = tree
        self.push = PushState()
        self.unrecorded: set[FileNode] = set()
        """Files with bytes, or attributes, that no journal record names yet."""
        self.unsealed: deque[FileNode] = deque()
        """Files that wait for their checksums (see `bucketfs.vfs.sealing`)."""
        self.conflicts = Conflicts()
        self.replaying = False
        self.garbage_drafts = 0
        self.garbage_bytes = 0
        """What is not needed any more, and goes after the next checkpoint."""
        self.moves = 0
        """Counts the renames that make a plan of batches out of date (see `bucketfs.vfs.snapshot.batches`)."""
        self.on_garbage: Callable[[], None] = lambda: None
        self.on_file_gone: Callable[[FileNode], None] = lambda node: None
        tree.on_orphan_gone = self._free_drafts

    # Names

    def make(self, op: Made) -> Node:
        """The node that ``op`` makes, with no name yet. An attempt."""
        tree = self.tree
        # The table of numbers may be lost, and another bucket of the mount have been given this number before the journal was read.
        # The kernel would take the two for one file.
        inode = op.inode if op.inode not in tree.registry else tree.numbers.fresh()
        if isinstance(op, ops.Place):
            return tree.node_of(Link(op.cid, op.tsize), Number(inode, op.time_ns, op.time_ns))
        if isinstance(op, ops.MakeSymlink):
            attributes = NodeAttributes(mtime_ns=op.mtime_ns, uid=op.uid, gid=op.gid)
            return SymlinkNode(tree, inode, None, attributes, op.time_ns, op.time_ns, op.target.encode())
        attributes = NodeAttributes(mode=op.mode, mtime_ns=op.mtime_ns, uid=op.uid, gid=op.gid)
        if isinstance(op, ops.MakeDirectory):
            return DirectoryNode(tree, inode, None, attributes, op.time_ns, op.time_ns)
        return FileNode(tree, inode, None, attributes, op.time_ns, op.time_ns, 0)

    def place(self, parent: DirectoryNode, name: bytes, node: Node, now_ns: int) -> None:
        """Put a node on a free name."""
        self.tree.registry[node.inode] = node
        parent.override(name, node)
        self._entries_changed(parent, now_ns)
        self.tree.remember(node)

    def take_away(self, parent: DirectoryNode, node: Node, now_ns: int) -> None:
        """Take a node off its name. It stays alive while it is open or known to the kernel."""
        name = node.name
        self.tree.base_pins.add_moved(node)
        if len(self.conflicts):
            self.conflicts.resolve(parent.child_path(name))
        self.tree.numbers.drop(node.inode, parent.inode, name)
        if isinstance(node, FileNode):
            self.unrecorded.discard(node)
            self._gives_back(node)
        # Also where the base has nothing at the name: an override of nothing is cheap, and needs no look at the base.
        parent.detach(node)
        parent.override(name, None)
        node.ctime_ns = now_ns
        self._entries_changed(parent, now_ns)
        self.tree.reclaim(node)

    def move(
        self, node: Node, new_parent: DirectoryNode, new_name: bytes, target: Node | None, exchange: bool, now_ns: int
    ) -> None:
        """Move a node onto a name, over or in exchange with what is there."""
        tree, old_parent, old_name = self.tree, node.parent, node.name
        assert old_parent is not None, "a root cannot be renamed"
        tree.base_pins.add_moved(node)
        if target is not None:
            tree.base_pins.add_moved(target)
        # A file that was made here and renamed inside its folder (as editors do) leaves every plan of batches right.
        for moved in (node, target) if exchange and target is not None else (node,):
            if isinstance(moved, DirectoryNode):
                moved.renamed = moved.link is None
            if isinstance(moved, DirectoryNode) or moved.link is not None or old_parent is not new_parent:
                self.moves += 1
        # Before it is detached, for then it has no path.
        if len(self.conflicts):
            self.conflicts.moved(node.path(), new_parent.child_path(new_name), exchange=exchange)
        old_parent.detach(node)
        if target is not None:
            tree.numbers.drop(target.inode, new_parent.inode, new_name)
            new_parent.detach(target)
        # Both numbers leave their places before either is kept at the new one: a place has one row.
        tree.numbers.drop(node.inode, old_parent.inode, old_name)
        old_parent.override(old_name, target if exchange else None)
        new_parent.override(new_name, node)
        node.ctime_ns = now_ns
        tree.remember(node)
        self._entries_changed(old_parent, now_ns)
        self._entries_changed(new_parent, now_ns)
        if target is not None:
            target.ctime_ns = now_ns
            if exchange:
                tree.remember(target)
            else:
                if isinstance(target, FileNode):
                    self._gives_back(target)
                tree.reclaim(target)

    def _gives_back(self, node: FileNode) -> None:
        if not self.replaying:  # what a replay brings is counted when it is done
            self.push.grew(-node.content.size_bytes)
            self.on_file_gone(node)

    def _entries_changed(self, directory: DirectoryNode, now_ns: int) -> None:
        directory.attributes = replace(directory.attributes, mtime_ns=now_ns)
        directory.ctime_ns = now_ns
        self.tree.remember(directory)
        directory.touch()
        self.push.changed(now_ns)

    # Attributes

    def apply_attributes(
        self, node: Node, mode: int | None, uid: int | None, gid: int | None, mtime_ns: int | None, now_ns: int
    ) -> None:
        """Change attributes of a node in memory."""
        old = node.attributes
        node.attributes = replace(
            old,
            mode=old.mode if mode is None else mode & 0o7777,
            uid=_owner(old.uid, uid),
            gid=_owner(old.gid, gid),
            mtime_ns=old.mtime_ns if mtime_ns is None else mtime_ns,
        )
        node.ctime_ns = now_ns
        self.tree.remember(node)
        node.touch()
        self.push.changed(now_ns)

    def recorded(self) -> None:
        """The journal begins with all that is dirty now."""
        for node in self.unrecorded:
            for layer in node.content.layers:
                layer.unrecorded.clear()
        self.unrecorded.clear()
        self.garbage_drafts = self.garbage_bytes = 0

    # Garbage

    def leave_garbage(self, size_bytes: int, drafts: int = 0) -> None:
        """So many bytes, and whole drafts, are not needed any more: the next checkpoint frees them, and a full disk makes it
        due."""
        self.garbage_drafts += drafts
        self.garbage_bytes += size_bytes
        if size_bytes:
            self.on_garbage()

    def _free_drafts(self, node: FileNode) -> None:
        """The drafts of an unlinked file that is not open are garbage now.

        They are deleted after the next checkpoint and not here: until the record of the unlink is on the disk, a power cut
        brings the name back, and then its bytes must be there.
        """
        size_bytes = sum(layer.extents.size_bytes for layer in node.content.layers)
        drafts = len(node.content.layers)
        node.content.layers.clear()
        self.unrecorded.discard(node)
        self.leave_garbage(size_bytes, drafts)


def _owner(old: int | None, new: int | None) -> int | None:
    return old if new is None else None if new == ops.NO_OWNER else new


def content_record(node: FileNode, path: str, layer: Layer, extents: Extents) -> ops.SetContent:
    """The record of ``extents`` of a layer of ``node``, which is at ``path``."""
    size_bytes, limit = node.content.size_bytes, layer.lower_limit_bytes
    return ops.SetContent(path, layer.draft.id, extents.items(), limit, size_bytes, node.mtime_ns, node.ctime_ns)


def stamp_of(node: Node, path: str) -> ops.Stamp:
    """The record of what only this machine knows of ``node``, which is at ``path``."""
    held = node.content.base_held_bytes if isinstance(node, FileNode) else None
    return ops.Stamp(path, node.atime_ns, node.fallback_ns, held, node.ctime_ns)
