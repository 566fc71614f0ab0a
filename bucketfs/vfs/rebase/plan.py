"""What a rebase does to the overlay: edits planned one by one, then carried out at once, without an await."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from bucketfs.journal import Conflict
from bucketfs.types import Cid, Kind, Link, NodeAttributes
from bucketfs.vfs.rebase.sides import TreeNode
from bucketfs.vfs.tree import (
    DEFAULT_MODE,
    AttributesChanged,
    DirectoryNode,
    EntryChanged,
    EntryGone,
    Eviction,
    FileNode,
    Invalidation,
    Node,
    Number,
    Volume,
    conflict_name,
    print_of,
)

Edit = Callable[[], None]


@dataclass(slots=True)
class Rebased:
    """What a rebase did: what the kernel is to be told, and the conflicts that it left, which are recorded in the volume by now."""

    invalidations: list[Invalidation] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)
    lost_count: int = 0
    """Folders of the base that changes stood on and that could not be read."""


@dataclass(frozen=True, slots=True)
class _Copy:
    """One version of what both sides changed at ``name`` in ``parent``, beside it: ours, or the Hub's."""

    parent: DirectoryNode
    name: bytes
    copy: bytes
    ours: bool

    def conflict(self, root: Cid, now_ns: int) -> Conflict:
        """What the user is told. To be asked after the edits, which may move the parent."""
        return Conflict(self.parent.child_path(self.copy), self.parent.child_path(self.name), self.ours, root, now_ns)


@dataclass(frozen=True, slots=True)
class _RemovedThere:
    """A directory that the Hub's side removed. It stays when anything is left in it, or when ``keep``."""

    parent: DirectoryNode
    node: DirectoryNode
    keep: bool


class RebasePlan:
    """Edits of the overlay. Each method but `carry_out`, `place` and `attach` only plans.

    ``parent`` is where a name stands before the rebase, ``ours`` the node at the name, ``theirs`` what the Hub's tree has.
    ``in_place`` says that the new base has ``theirs`` at this very name, so that no override is needed to show it there.
    """

    def __init__(self, volume: Volume, host: str, when: str) -> None:
        self._volume = volume
        self._tree = volume.tree
        self._host = host
        self._when = when
        self._edits: list[Edit] = []
        self._moves: list[Edit] = []
        self._removed_there: list[_RemovedThere] = []
        self._copies: list[_Copy] = []
        self._given: set[tuple[DirectoryNode, bytes]] = set()
        self._perhaps_clean: list[Node] = []
        self._invalidations: dict[Invalidation, None] = {}
        self._forgotten: set[Link] = set()

    def carry_out(self, new: Cid) -> Rebased:
        """Make all edits: the overlay rests on the root ``new``."""
        # The moves last: the folder that something moves to may be made, or get its place, by an edit.
        for edit in [*self._edits, *self._moves]:
            edit()
        self._tree.base = new
        # Inner directories were planned after the ones around them, and must be empty before those are looked at.
        for removed in reversed(self._removed_there):
            self._keep_or_let_go(removed)
        # When all rest on the new base: a folder is clean only when nothing below it is dirty.
        for node in self._perhaps_clean:
            node.mark_clean()
        for link in self._forgotten:
            self._tree.base_tree.forget(link)
        conflicts = [copy.conflict(new, self._volume.now_ns()) for copy in self._copies]
        for conflict in conflicts:
            self._volume.pending.conflicts.add(conflict)
        return Rebased(list(self._invalidations), conflicts)

    def forget(self, link: Link | None) -> None:
        """The base names this node no longer, at least not here: its decoded form goes out of memory."""
        if link is not None:
            self._forgotten.add(link)

    def invalidate(self, *invalidations: Invalidation) -> None:
        """The kernel is to be told this."""
        self._invalidations.update(dict.fromkeys(invalidations))

    def add(self, edit: Edit) -> None:
        """An edit of the caller's own."""
        self._edits.append(edit)

    def perhaps_clean(self, *nodes: Node) -> None:
        """These nodes may be clean after the edits."""
        self._perhaps_clean += nodes

    def copy_name(self, parent: DirectoryNode, name: bytes, taken: Callable[[bytes], bool]) -> bytes:
        """A conflict name in ``parent`` that is not ``taken``, and that no other copy of this plan has."""
        copy = conflict_name(name, self._host, self._when, lambda one: (parent, one) in self._given or taken(one))
        self._given.add((parent, copy))
        return copy

    # Names

    def drop(self, parent: DirectoryNode, name: bytes) -> None:
        """The override of a name goes: the base shows."""
        self._edits.append(lambda: _drop(parent, name))
        self._perhaps_clean.append(parent)

    def remove(self, parent: DirectoryNode, name: bytes) -> None:
        """The name is free, whatever the base has there."""
        self._edits.append(lambda: parent.override(name, None))

    def keep(self, parent: DirectoryNode, ours: Node) -> None:
        """Ours stands, whatever the base has there."""
        self._edits.append(lambda: parent.override(ours.name, ours))

    def keep_with(self, parent: DirectoryNode, ours: Node, attributes: NodeAttributes) -> None:
        """Ours stands, with attributes of both sides."""
        if ours.lookups:
            self.invalidate(AttributesChanged(ours.inode))

        def edit() -> None:
            ours.attributes = spelled_out(ours.kind, attributes)
            parent.override(ours.name, ours)
            ours.touch()

        self._edits.append(edit)

    def rest_on(
        self, parent: DirectoryNode, ours: Node, theirs: TreeNode, attributes: NodeAttributes, *, in_place: bool
    ) -> None:
        """Ours has the same content as the Hub's: it rests on that, and is dirty as far as ``attributes`` are others."""
        info = theirs.info
        assert info is not None, "what cannot be read is like nothing else"
        differs = attributes != theirs.entry.attributes
        if ours.lookups:
            self.invalidate(AttributesChanged(ours.inode))

        def edit() -> None:
            if in_place:
                _drop(parent, ours.name)
            ours.link = theirs.link
            if isinstance(ours, FileNode):
                ours.content.rest_on(theirs.link.cid, info.size_bytes, ours.content.seal())
            ours.attributes = spelled_out(ours.kind, attributes) if differs else info.attributes
            ours.changed = False
            if differs:
                ours.touch()
            self._tree.remember(ours)

        self._edits.append(edit)
        self._perhaps_clean += [ours, parent]

    def let_go(self, parent: DirectoryNode, ours: Node) -> None:
        """The node has its name no longer. Open handles keep reading it, and what they write brings it back (see `evicted`)."""
        if ours.lookups:
            self.invalidate(EntryGone(parent.inode, ours.name, ours.inode))
        self._edits.append(lambda: self._let_go(parent, ours))
        self._perhaps_clean.append(parent)

    def _let_go(self, parent: DirectoryNode, ours: Node) -> None:
        self._tree.numbers.drop(ours.inode, parent.inode, ours.name)
        _drop(parent, ours.name)
        parent.detach(ours)
        if self._tree.may_be_written(ours):
            self._tree.evicted[ours] = Eviction(parent, self._host, self._when)
        else:
            ours.replaced = True
        self._tree.reclaim(ours)

    def replace(
        self, parent: DirectoryNode, ours: Node, theirs: TreeNode, attributes: NodeAttributes, *, in_place: bool
    ) -> None:
        """The Hub's takes the place of ours, with these attributes, under an inode number of its own: the pages that the kernel
        holds under the old one are right for ours only."""
        name = ours.name
        self.let_go(parent, ours)
        self.invalidate(EntryChanged(parent.inode, name))
        differs = attributes != theirs.entry.attributes
        if in_place and not differs:
            return

        def edit() -> None:
            node = self.attach(parent, name, theirs) if in_place else self.place(parent, name, theirs)
            if differs:
                node.attributes = spelled_out(node.kind, attributes)
                node.touch()

        self._edits.append(edit)

    def ours_beside(self, parent: DirectoryNode, ours: Node, copy: bytes, theirs: TreeNode, *, in_place: bool) -> None:
        """The Hub's keeps the name, ours gets another."""
        name = ours.name
        self._add_copy(_Copy(parent, name, copy, ours=True))

        def edit() -> None:
            self._tree.numbers.drop(ours.inode, parent.inode, name)
            _drop(parent, name)
            parent.detach(ours)
            parent.override(copy, ours)
            self._tree.remember(ours)
            parent.touch()
            if not in_place:
                self.place(parent, name, theirs)

        self._edits.append(edit)

    def theirs_beside(self, parent: DirectoryNode, ours: Node, copy: bytes, theirs: TreeNode) -> None:
        """Ours keeps the name, the Hub's gets another."""
        name = ours.name
        self._add_copy(_Copy(parent, name, copy, ours=False))

        def edit() -> None:
            self.place(parent, copy, theirs)
            parent.override(name, ours)
            parent.touch()

        self._edits.append(edit)

    def _add_copy(self, copy: _Copy) -> None:
        self._copies.append(copy)
        self.invalidate(EntryChanged(copy.parent.inode, copy.name), EntryChanged(copy.parent.inode, copy.copy))

    def place(self, parent: DirectoryNode, name: bytes, theirs: TreeNode) -> Node:
        """At once: a node for the Hub's at a free name where the base does not have it."""
        node = self._new_node(theirs)
        parent.override(name, node)
        self._tree.remember(node)
        return node

    def attach(self, parent: DirectoryNode, name: bytes, theirs: TreeNode) -> Node:
        """At once: a node for what the base has at a name."""
        node = self._new_node(theirs)
        parent.attach(name, node)
        self._tree.remember(node)
        return node

    def attach_directory(self, parent: DirectoryNode, name: bytes, theirs: TreeNode) -> DirectoryNode:
        """At once: a node for a directory that the base has at a name."""
        node = self.attach(parent, name, theirs)
        assert isinstance(node, DirectoryNode), "only directories are gone into"
        return node

    def _new_node(self, theirs: TreeNode) -> Node:
        own_ns = theirs.entry.attributes.mtime_ns
        when_ns = self._tree.updated_at_ns if own_ns is None else own_ns
        number = Number(self._tree.numbers.fresh(), when_ns, when_ns, print_of(theirs.entry.kind, theirs.link))
        return self._tree.node_from(theirs.link, theirs.info, number)

    # Directories

    def stand_on(self, node: DirectoryNode, theirs: TreeNode, attributes: NodeAttributes) -> None:
        """A directory of both sides rests on the Hub's, and is dirty as far as ``attributes`` are others."""
        info = theirs.info
        assert info is not None, "a directory that can be read is not damaged"
        differs = attributes != theirs.entry.attributes

        def edit() -> None:
            node.link = theirs.link
            node.attributes = spelled_out(Kind.DIRECTORY, attributes) if differs else info.attributes
            if node.changed or differs:
                node.changed = differs
                node.version += 1
            node.spread()

        self._edits.append(edit)
        self._perhaps_clean.append(node)

    def stand_alone(self, parent: DirectoryNode, node: DirectoryNode, *, keep: bool) -> None:
        """The Hub's side removed a directory: it has no base any more, and stays for what is in it here."""
        self._removed_there.append(_RemovedThere(parent, node, keep))

        def edit() -> None:
            node.link = None
            node.attributes = spelled_out(Kind.DIRECTORY, node.attributes)
            node.changed = True
            node.version += 1
            parent.override(node.name, node)

        self._edits.append(edit)

    def _keep_or_let_go(self, removed: _RemovedThere) -> None:
        node = removed.node
        # It has no base any more that a name could be taken away from.
        for name in [name for name, override in node.overrides.items() if override is None]:
            del node.overrides[name]
        if removed.keep or node.overrides:
            return
        if node.lookups:
            self.invalidate(EntryGone(removed.parent.inode, node.name, node.inode))
        self._let_go(removed.parent, node)
        self._perhaps_clean.append(removed.parent)

    def move(self, node: Node, find: Callable[[], DirectoryNode], name: bytes, theirs: Link) -> None:
        """The Hub's side renamed ``theirs``, of which ``node`` is another state. That goes to ``name`` in the directory that
        ``find`` gives after all other edits, with its inode number and its open handles."""
        parent = node.parent
        assert parent is not None, "the root has no name"
        # EntryChanged, not EntryGone: the kernel marks an inode that is gone as deleted, and this one lives.
        self.invalidate(EntryChanged(parent.inode, node.name))

        def edit() -> None:
            home, conflicts = find(), self._volume.pending.conflicts
            if len(conflicts):
                conflicts.moved(node.path(), home.child_path(name), exchange=False)
            self._tree.numbers.drop(node.inode, parent.inode, node.name)
            _drop(parent, node.name)
            parent.detach(node)
            self.invalidate(EntryChanged(home.inode, name))
            if node.link is not None and node.link.cid == theirs.cid:
                home.attach(name, node)
            else:
                home.override(name, node)
            self._tree.remember(node)

        self._moves.append(edit)
        self._perhaps_clean += [parent, node]


def spelled_out(kind: Kind, attributes: NodeAttributes) -> NodeAttributes:
    """With the default mode written out: a record in the journal says every attribute."""
    if attributes.mode is not None or kind is Kind.SYMLINK:
        return attributes
    return replace(attributes, mode=DEFAULT_MODE[kind])


def _drop(parent: DirectoryNode, name: bytes) -> None:
    parent.overrides.pop(name, None)
