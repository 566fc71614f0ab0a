"""The changes that a rebase makes to the overlay: planned one by one, then carried out at once, without an await."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from bucketfs.ops import Conflict
from bucketfs.types import Cid, Kind, Link, NodeAttributes
from bucketfs.vfs.rebase.displaced import may_be_written
from bucketfs.vfs.rebase.two_trees import TreeNode
from bucketfs.vfs.tree.conflict_name import conflict_name
from bucketfs.vfs.tree.inode_table import Number, print_of
from bucketfs.vfs.tree.namespace import DEFAULT_MODE, Displaced
from bucketfs.vfs.tree.node import DirectoryNode, FileNode, Node
from bucketfs.vfs.tree.stat_types import AttributesChanged, EntryChanged, EntryGone, Invalidation
from bucketfs.vfs.tree.volume import Volume


@dataclass(slots=True)
class Rebased:
    """What a rebase did: what the kernel must hear, and the conflicts that it left, which are on `Volume.conflicts` by now."""

    invalidations: list[Invalidation] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)
    lost_count: int = 0
    """Folders that changes stood on and nobody has any more."""


@dataclass(frozen=True, slots=True)
class _Copy:
    """One version of what both sides changed at ``name`` in ``parent``, beside it: ours, or the Hub's."""

    parent: DirectoryNode
    name: bytes
    copy: bytes
    ours: bool

    def conflict(self, root: Cid, now_ns: int) -> Conflict:
        """What the user is told. After the plan: the parent may have moved in them."""
        return Conflict(self.parent.child_path(self.copy), self.parent.child_path(self.name), self.ours, root, now_ns)


@dataclass(frozen=True, slots=True)
class _Hollow:
    """A directory that the Hub's side removed, and that lives on when there is something in it, or when ``keep``."""

    parent: DirectoryNode
    node: DirectoryNode
    keep: bool


class RebasePlan:
    """What is to be done. Each method but `carry_out` plans only; ``parent`` is where the name stands now."""

    def __init__(self, volume: Volume, host: str, when: str) -> None:
        self._volume = volume
        self._host = host
        self._when = when
        self._todo: list[Callable[[], None]] = []
        self._moves: list[Callable[[], None]] = []
        self._hollow: list[_Hollow] = []
        self._copies: list[_Copy] = []
        self._settled: list[Node] = []
        self._told: dict[Invalidation, None] = {}
        self._outdated: set[Link] = set()
        self._given: set[tuple[DirectoryNode, bytes]] = set()

    def carry_out(self, new: Cid) -> Rebased:
        """Do it all: the overlay rests on the root ``new``."""
        volume = self._volume
        for act in [*self._todo, *self._moves]:
            act()
        volume.tree.base = new
        # Those inside come before those around them.
        for hollow in reversed(self._hollow):
            self._fill_or_drop(hollow)
        for node in self._settled:
            node.settle()
        for link in self._outdated:
            volume.tree.base_tree.forget(link)
        conflicts = [copy.conflict(new, volume.now_ns()) for copy in self._copies]
        for conflict in conflicts:
            volume.pending.conflicts.add(conflict)
        return Rebased(list(self._told), conflicts)

    def outdated(self, *links: Link | None) -> None:
        """The base names these no longer, at least not here."""
        self._outdated.update(link for link in links if link is not None)

    def tell(self, *news: Invalidation) -> None:
        """The kernel is to hear this."""
        self._told.update(dict.fromkeys(news))

    def add(self, act: Callable[[], None]) -> None:
        """Something that only the caller knows how to do."""
        self._todo.append(act)

    def settles(self, *nodes: Node) -> None:
        """These may be clean when all is done."""
        self._settled += nodes

    def copy_name(self, parent: DirectoryNode, name: bytes, taken: Callable[[bytes], bool]) -> bytes:
        """A conflict name in ``parent`` that is not ``taken``, and that no other copy of this plan has."""
        copy = conflict_name(name, self._host, self._when, lambda one: (parent, one) in self._given or taken(one))
        self._given.add((parent, copy))
        return copy

    # Names

    def drop(self, parent: DirectoryNode, name: bytes) -> None:
        """What was changed here about a name is no change any more: the base's shows."""
        self._todo.append(lambda: _drop(parent, name))
        self._settled.append(parent)

    def remove(self, parent: DirectoryNode, name: bytes) -> None:
        """The name stays away."""
        self._todo.append(lambda: parent.override(name, None))

    def keep(self, parent: DirectoryNode, ours: Node) -> None:
        """Ours stands, whatever the base has there."""
        self._todo.append(lambda: parent.override(ours.name, ours))

    def keep_with(self, parent: DirectoryNode, ours: Node, attributes: NodeAttributes) -> None:
        """Ours stands, with attributes of both sides."""
        if ours.lookups:
            self.tell(AttributesChanged(ours.inode))

        def act() -> None:
            ours.attributes = spelled_out(ours.kind, attributes)
            parent.override(ours.name, ours)
            ours.touch()

        self._todo.append(act)

    def rest(
        self, parent: DirectoryNode, ours: Node, theirs: Link, seen: TreeNode, attributes: NodeAttributes, *, at: bool
    ) -> None:
        """Ours has the same content as the Hub's: it rests on that, and is dirty as far as ``attributes`` are others. ``at``: the
        base has it at the very name."""
        info = seen.info
        assert info is not None, "what is damaged is like nothing else"
        differs = attributes != seen.entry.attributes
        if ours.lookups:
            self.tell(AttributesChanged(ours.inode))

        def act() -> None:
            if at:
                parent.overrides.pop(ours.name, None)
            ours.link = theirs
            if isinstance(ours, FileNode):
                ours.content.rest_on(theirs.cid, info.size_bytes, ours.content.seal())
            ours.attributes = spelled_out(ours.kind, attributes) if differs else info.attributes
            ours.changed = False
            if differs:
                ours.touch()
            self._volume.tree.remember(ours)

        self._todo.append(act)
        self._settled += [ours, parent]

    def let_go(self, parent: DirectoryNode, ours: Node) -> None:
        """The node is not what its name stands for any more; open handles keep reading it to the end, and what they
        write brings it back (see `displaced`)."""
        if ours.lookups:
            self.tell(EntryGone(parent.inode, ours.name, ours.inode))
        self._todo.append(lambda: self._let_go(parent, ours))
        self._settled.append(parent)

    def _let_go(self, parent: DirectoryNode, ours: Node) -> None:
        name = ours.name
        self._volume.tree.numbers.drop(ours.inode, parent.inode, name)
        parent.detach(ours)
        parent.overrides.pop(name, None)
        if may_be_written(self._volume.tree, ours):
            self._volume.tree.displaced[ours] = Displaced(parent, self._host, self._when)
        else:
            ours.replaced = True
        self._volume.tree.reclaim(ours)

    def replace(
        self, parent: DirectoryNode, ours: Node, theirs: Link, seen: TreeNode, attributes: NodeAttributes | None, *, at: bool
    ) -> None:
        """The Hub's takes the place of ours, under a number of its own: what the kernel holds of ours is right for ours only.
        ``attributes``, unless None, are those it gets; ``at``: the base has it at the very name."""
        name = ours.name
        self.let_go(parent, ours)
        self.tell(EntryChanged(parent.inode, name))
        if attributes == seen.entry.attributes:
            attributes = None
        if at and attributes is None:
            return

        def act() -> None:
            node = self._made(theirs, seen)
            if at:
                parent.attach(name, node)
            else:
                parent.override(name, node)
            self._volume.tree.remember(node)
            if attributes is not None:
                node.attributes = spelled_out(node.kind, attributes)
                node.touch()

        self._todo.append(act)

    def ours_beside(self, parent: DirectoryNode, ours: Node, copy: bytes) -> None:
        """The base's keeps the name, ours gets another."""
        name = ours.name
        self._copies.append(_Copy(parent, name, copy, ours=True))
        self.tell(EntryChanged(parent.inode, name), EntryChanged(parent.inode, copy))

        def act() -> None:
            self._volume.tree.numbers.drop(ours.inode, parent.inode, name)
            parent.overrides.pop(name, None)
            parent.detach(ours)
            parent.override(copy, ours)
            self._volume.tree.remember(ours)
            parent.touch()

        self._todo.append(act)

    def theirs_beside(self, parent: DirectoryNode, ours: Node, copy: bytes, theirs: Link, seen: TreeNode) -> None:
        """Ours keeps the name, the base's gets another."""
        name = ours.name
        self._copies.append(_Copy(parent, name, copy, ours=False))
        self.tell(EntryChanged(parent.inode, name), EntryChanged(parent.inode, copy))

        def act() -> None:
            self.place(parent, copy, theirs, seen)
            parent.override(name, ours)
            parent.touch()

        self._todo.append(act)

    def place(self, parent: DirectoryNode, name: bytes, theirs: Link, seen: TreeNode) -> None:
        """At once: the Hub's node at a free name that the base does not have it at."""
        node = self._made(theirs, seen)
        parent.override(name, node)
        self._volume.tree.remember(node)

    def attach(self, parent: DirectoryNode, name: bytes, theirs: Link, seen: TreeNode) -> DirectoryNode:
        """At once: a directory that the base has at a name."""
        node = self._made(theirs, seen)
        assert isinstance(node, DirectoryNode), "only directories are gone into"
        parent.attach(name, node)
        self._volume.tree.remember(node)
        return node

    def _made(self, theirs: Link, seen: TreeNode) -> Node:
        own_ns = seen.entry.attributes.mtime_ns
        when_ns = self._volume.tree.updated_at_ns if own_ns is None else own_ns
        number = Number(self._volume.tree.numbers.fresh(), when_ns, when_ns, print_of(seen.entry.kind, theirs))
        return self._volume.tree.node_from(theirs, seen.info, number)

    # Directories

    def stand_on(self, node: DirectoryNode, theirs: Link, attributes: NodeAttributes, *, differs: bool) -> None:
        """A directory of both sides rests on the Hub's. ``differs``: its own attributes are not all the Hub's."""

        def act() -> None:
            node.link = theirs
            node.attributes = spelled_out(Kind.DIRECTORY, attributes) if differs else attributes
            if node.changed or differs:
                node.changed = differs
                node.version += 1
            node.spread()

        self._todo.append(act)
        self._settled.append(node)

    def hollow(self, parent: DirectoryNode, node: DirectoryNode, *, keep: bool) -> None:
        """The Hub's side removed a directory: it stands for what is in it here."""
        self._hollow.append(_Hollow(parent, node, keep))

        def act() -> None:
            node.link = None
            node.attributes = spelled_out(Kind.DIRECTORY, node.attributes)
            node.changed = True
            node.version += 1
            parent.override(node.name, node)

        self._todo.append(act)

    def _fill_or_drop(self, hollow: _Hollow) -> None:
        node = hollow.node
        for name in [name for name, override in node.overrides.items() if override is None]:
            del node.overrides[name]
        if hollow.keep or node.overrides:
            return
        if node.lookups:
            self.tell(EntryGone(hollow.parent.inode, node.name, node.inode))
        self._let_go(hollow.parent, node)
        self._settled.append(hollow.parent)

    def move(self, node: Node, find: Callable[[], DirectoryNode], name: bytes, theirs: Link) -> None:
        """The Hub's side renamed ``theirs``, of which ``node`` is another state: that goes to ``name`` in the directory that
        ``find`` gives when all else is done. Its number and whatever is open stay."""
        parent = node.parent
        assert parent is not None, "the root has no name"
        # Said as changed and not as gone: the kernel marks what is gone as dead, and this lives.
        self.tell(EntryChanged(parent.inode, node.name))

        def act() -> None:
            home = find()
            volume = self._volume
            if len(volume.pending.conflicts):
                volume.pending.conflicts.moved(node.path(), home.child_path(name), exchange=False)
            volume.tree.numbers.drop(node.inode, parent.inode, node.name)
            parent.overrides.pop(node.name, None)
            parent.detach(node)
            self.tell(EntryChanged(home.inode, name))
            if node.link is not None and node.link.cid == theirs.cid:
                home.attach(name, node)
            else:
                home.override(name, node)
            volume.tree.remember(node)

        self._moves.append(act)
        self._settled += [parent, node]


def spelled_out(kind: Kind, attributes: NodeAttributes) -> NodeAttributes:
    """With the mode that none stands for: a record of it must say one."""
    return (
        replace(attributes, mode=DEFAULT_MODE[kind]) if attributes.mode is None and kind is not Kind.SYMLINK else attributes
    )


def _drop(parent: DirectoryNode, name: bytes) -> None:
    parent.overrides.pop(name, None)
