"""What was changed in a bucket since the base, and the changes themselves.

They cannot fail, ask nobody whether they may be made, and record nothing: the operations (`volume`) do both before, and for a
replay it was done already.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace

from bucketfs import ops
from bucketfs.journal import Journal
from bucketfs.types import BucketKey, Cid, Inode
from bucketfs.vfs.tree.base_pins import Footing
from bucketfs.vfs.tree.base_tree import BaseTree
from bucketfs.vfs.tree.conflict_index import Conflicts
from bucketfs.vfs.tree.inode_table import InodeNumbers, Number, print_of
from bucketfs.vfs.tree.namespace import Owner, Registry, View
from bucketfs.vfs.tree.node import DirectoryNode, FileNode, Node
from bucketfs.vfs.tree.quota import Growth


class Overlay(View):
    """The nodes of one bucket with what was changed here."""

    def __init__(
        self,
        key: BucketKey,
        *,
        journal: Journal,
        base_tree: BaseTree,
        numbers: InodeNumbers,
        registry: Registry,
        owner: Owner,
        updated_at_ns: int,
        read_only: bool = False,
    ) -> None:
        super().__init__(
            key, base_tree=base_tree, numbers=numbers, registry=registry, owner=owner, updated_at_ns=updated_at_ns
        )
        self.journal = journal
        self.read_only = read_only
        self.unrecorded: set[FileNode] = set()
        self.closed: deque[FileNode] = deque()
        """Files that were written to, closed, and wait for their checksums (see `sealing`)."""
        self.changed_since_ns: int | None = None
        self.changed_last_ns = 0
        self.replaying = False
        self.garbage_drafts = 0
        self.garbage_bytes = 0
        """What nobody needs any more, and goes behind the next checkpoint."""
        self.root_place: tuple[Inode, bytes] | None = None
        """Where the table of numbers keeps the root."""
        self.new_here = False
        """Whether no mount on this machine has shown the bucket before."""
        self.proposed: set[Cid] = set()
        self.arrived: Cid | None = None
        """The newest root of ours that the Hub is known to have taken, when a journal says so and the base is an older one."""
        self.short: dict[FileNode, list[str]] = {}
        """Files that a power loss took bytes of which the Hub may have, with the names that they may have there (see `short`)."""
        self.left: dict[Cid, int] = {}
        """Roots before the base, oldest first, with the time that the Hub told of the bucket then."""
        self.base_time_ns = 0
        """The time that the Hub told of the bucket while ``base`` was its root; 0 when it was not asked."""
        self.conflicts = Conflicts()
        self.owes_checkpoint = False
        self.growth = Growth()
        self.footing = Footing()
        self.moves = 0
        """Counts the renames that a plan of what to push in which order cannot outlive (see `slices`)."""
        self.on_change: Callable[[], None] = lambda: None
        self.on_garbage: Callable[[], None] = lambda: None
        # A file lost its name.
        self.on_gone: Callable[[FileNode], None] = lambda node: None
        # The base was one root and is another one, which was pushed from here or not.
        self.on_base: Callable[[Cid, Cid, bool], None] = lambda old, new, ours: None

    def dirty_nodes(self) -> Iterator[Node]:
        """Every dirty node below the root, parents first."""
        waiting: list[Node] = [self.root] if self.root.dirty else []
        while waiting:
            node = waiting.pop()
            yield node
            if isinstance(node, DirectoryNode):
                waiting += node.dirty_children

    def agree(self, still: frozenset[Cid] = frozenset()) -> None:
        """Of the roots that were proposed from here the Hub turns out to have none any more but ``still``."""
        self.proposed = set(still)
        if not still:
            short, self.short = self.short, {}
            for node in short:
                self.reclaim(node)

    def place(self, parent: DirectoryNode, name: bytes, node: Node, now_ns: int) -> None:
        """Put a node on a free name."""
        self.registry[node.inode] = node
        parent.override(name, node)
        self._entries_changed(parent, now_ns)
        self.remember(node)

    def take_away(self, parent: DirectoryNode, node: Node, now_ns: int) -> None:
        """Take a node off its name. It stays alive while it is open or known to the kernel."""
        name = node.name
        self.footing.left(node)
        if len(self.conflicts):
            self.conflicts.settle(self.path_under(parent, name))
        self.numbers.drop(node.inode, parent.inode, name)
        if isinstance(node, FileNode):
            self.unrecorded.discard(node)
            self._gives_back(node)
        parent.detach(node)
        parent.override(name, None)
        node.ctime_ns = now_ns
        self._entries_changed(parent, now_ns)
        self.reclaim(node)

    def move(
        self, node: Node, new_parent: DirectoryNode, new_name: bytes, target: Node | None, exchange: bool, now_ns: int
    ) -> None:
        """Move a node onto a name, over or in exchange with what is there."""
        old_parent, old_name = node.parent, node.name
        assert old_parent is not None, "a root cannot be renamed"
        self.footing.left(node)
        if target is not None:
            self.footing.left(target)
        for moved in (node, target) if exchange and target is not None else (node,):
            if isinstance(moved, DirectoryNode):
                moved.renamed = moved.link is None
            if isinstance(moved, DirectoryNode) or moved.link is not None or old_parent is not new_parent:
                self.moves += 1
        if len(self.conflicts):
            self.conflicts.moved(node.path(), self.path_under(new_parent, new_name), exchange=exchange)
        old_parent.detach(node)
        if target is not None:
            self.numbers.drop(target.inode, new_parent.inode, new_name)
            new_parent.detach(target)
        self.numbers.drop(node.inode, old_parent.inode, old_name)
        old_parent.override(old_name, target if exchange else None)
        new_parent.override(new_name, node)
        node.ctime_ns = now_ns
        self.remember(node)
        self._entries_changed(old_parent, now_ns)
        self._entries_changed(new_parent, now_ns)
        if target is not None:
            target.ctime_ns = now_ns
            if exchange:
                self.remember(target)
            else:
                if isinstance(target, FileNode):
                    self._gives_back(target)
                self.reclaim(target)

    def _gives_back(self, node: FileNode) -> None:
        if not self.replaying:  # what a replay brings is counted when it is done
            self.growth.note(-node.content.size_bytes)
            self.on_gone(node)

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
        self.remember(node)
        node.touch()
        self.noted(now_ns)

    def noted(self, now_ns: int) -> None:
        """Take note of a change: the clock of the push begins to run."""
        if self.changed_since_ns is None:
            self.changed_since_ns = now_ns
        self.changed_last_ns = now_ns
        if not self.replaying:
            self.on_change()

    def remember(self, node: Node) -> None:
        """Keep the number of a node, and the times that its link does not say, for the next mount."""
        place = self.root_place if node is self.root else None
        if node.parent is not None:
            place = node.parent.inode, node.name
        if place is not None:
            held = node.content.base_held_bytes if isinstance(node, FileNode) else None
            print_ = print_of(node.kind, node.link)
            self.numbers.keep(*place, Number(node.inode, node.ctime_ns, node.fallback_ns, print_, node.atime_ns, held))

    def remember_root(self, parent: Inode, name: bytes) -> None:
        """Keep the number of the root, which stands at the top of an all-buckets mount, for the next mount."""
        self.root_place = parent, name
        self.remember(self.root)
        self.numbers.urge(self.root.inode)

    def stamp(self, node: Node, atime_ns: int, fallback_ns: int, ctime_ns: int) -> None:
        """Change the times that are this machine's own. Nothing becomes dirty."""
        node.atime_ns, node.fallback_ns, node.ctime_ns = atime_ns, fallback_ns, ctime_ns
        self.remember(node)

    def _entries_changed(self, directory: DirectoryNode, now_ns: int) -> None:
        directory.attributes = replace(directory.attributes, mtime_ns=now_ns)
        directory.ctime_ns = now_ns
        self.remember(directory)
        directory.touch()
        self.noted(now_ns)

    def forsake(self, node: FileNode) -> None:
        """The drafts of an unlinked file that nobody has open are garbage now.

        They are deleted behind the next checkpoint and not here: until the record of the unlink is on the disk, a power cut
        brings the name back, and then its bytes must be there.
        """
        size_bytes = sum(layer.extents.size_bytes for layer in node.content.layers)
        self.garbage_drafts += len(node.content.layers)
        node.content.layers.clear()
        self.unrecorded.discard(node)
        self.leave_garbage(size_bytes)

    def leave_garbage(self, size_bytes: int) -> None:
        """So many bytes of drafts are needed no more: the next checkpoint frees them, and a full disk makes it due."""
        self.garbage_bytes += size_bytes
        if size_bytes:
            self.on_garbage()


def _owner(old: int | None, new: int | None) -> int | None:
    return old if new is None else None if new == ops.NO_OWNER else new
