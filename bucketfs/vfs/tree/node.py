"""The nodes in memory: base ⊕ overlay, as far as it was looked at.

A node stands for one file, directory or symbolic link that the kernel holds, that was changed, or that lies above such a one. Its
``link`` is the DAG it has in the base (``None`` for what was made here since). A node that is not dirty is exactly its link.

A directory's entries are those of its link, replaced name by name by its ``overrides``: a node, or ``None`` for a name that is
gone. ``children`` holds the nodes in memory, by name, overriding or not. So a renamed directory is one override at its new
place (with its link, and all below it untouched) and one ``None`` at its old.

Invariants
 1. A node with a parent is ``parent.children[name]``; every overriding node is also a child.
 2. A node is in ``parent.dirty_children`` exactly when it is dirty and has a parent.
 3. A node without a parent is a root, or it was unlinked and lives for its open handles and the kernel's references only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import InitVar, dataclass, field
from typing import ClassVar, Protocol

from bucketfs.errors import BucketfsError, Corrupt
from bucketfs.types import FileHandle, Inode, Kind, Link, NodeAttributes
from bucketfs.vfs.tree.content import Content


class NodeTree(Protocol):
    """What a node knows of the tree that it belongs to."""

    root: DirectoryNode

    def note_dirty(self, node: Node) -> None:
        """``node`` was changed; called before anything awaits."""


@dataclass(slots=True, eq=False, repr=False)
class Node:
    """What a name stands for. Identity matters, not value.

    ``version`` counts the changes. ``opens`` and ``lookups`` are the open handles and the references of the kernel.
    """

    kind: ClassVar[Kind]
    tree: NodeTree
    inode: Inode
    link: Link | None
    attributes: NodeAttributes
    ctime_ns: int
    fallback_ns: int
    """The mtime to show while the attributes have none."""
    atime_ns: int = field(init=False)
    """As it was set last, at first the mtime. Reading does not move it, nor does writing."""
    parent: DirectoryNode | None = field(default=None, init=False)
    name: bytes = field(default=b"", init=False)
    lookups: int = field(default=0, init=False)
    opens: int = field(default=0, init=False)
    changed: bool = field(default=False, init=False)
    replaced: bool = field(default=False, init=False)
    """Whether a rebase took it off its name while it was not open for writing: nothing brings it back."""
    version: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.atime_ns = self.mtime_ns

    @property
    def dirty(self) -> bool:
        """Whether this node, or anything below it, differs from its link."""
        return self.changed

    @property
    def mtime_ns(self) -> int:
        """The mtime to show: the node's own, or the one chosen when it was first seen without one."""
        own = self.attributes.mtime_ns
        return self.fallback_ns if own is None else own

    @property
    def stale(self) -> bool:
        """Whether a rebase took it, or a directory above it, off its name for good. Changes to it would be lost, and a program that
        comes by its name was told an old number."""
        at = self
        while at.parent is not None:
            at = at.parent
        return at.replaced

    def touch(self) -> None:
        """Mark as changed here; all directories above learn of it."""
        self.version += 1
        # What is dirty already was noted, or will be by the survey that follows each checkpoint.
        if not self.changed:
            self.changed = True
            self.spread()
            self.tree.note_dirty(self)

    def spread(self) -> None:
        """Tell the directories above that there is something dirty below them."""
        node: Node = self
        # Stops at the first directory that knows: those above it know by invariant 2.
        while node.parent is not None and node not in node.parent.dirty_children:
            node.parent.dirty_children.add(node)
            node = node.parent

    def mark_clean(self) -> None:
        """Tell the directories above when nothing here is dirty any more."""
        node: Node = self
        while node.parent is not None and not node.dirty and node in node.parent.dirty_children:
            node.parent.dirty_children.discard(node)
            node = node.parent

    def path(self) -> str:
        """The path inside the bucket, ``""`` for its root. Only for nodes that are not orphans."""
        names: list[str] = []
        node: Node = self
        while node.parent is not None:
            names.append(node.name.decode())
            node = node.parent
        return "/".join(reversed(names))

    @property
    def orphan(self) -> bool:
        """Whether no path leads here any more."""
        node: Node = self
        while node.parent is not None:
            node = node.parent
        return node is not self.tree.root

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.inode} {self.name!r}{' dirty' if self.dirty else ''}>"


@dataclass(slots=True, eq=False)
class WriteFailure:
    """What failed writes have left of one file in the kernel (see `bucketfs.vfs.write_failures`).

    ``broken``: no write is accepted. ``settled``: the kernel shows what is stored here, or cannot be made to (``stranded``).
    ``untold``: the next program that opens the file is told. ``misled``: open handles that may have a position beyond the
    lost bytes."""

    error: BucketfsError
    broken: bool = False
    settled: bool = True
    stranded: bool = False
    untold: bool = True
    misled: set[FileHandle] = field(default_factory=set)


@dataclass(slots=True, eq=False, repr=False)
class FileNode(Node):
    """A regular file.

    Of its ``opens`` so many ``writers`` may write, and of these so many ``directs`` write past the kernel's cache (O_DIRECT).
    ``damaged``: the base has it, and its root block cannot be had: it can be moved, removed and written anew, and no more.
    ``truncated``: a power loss took bytes of it that the Hub may have (see `bucketfs.vfs.rebase.truncated`). ``failure``:
    writes to it failed. ``stretched``: its size was set beyond this length, and the kernel may not have written yet what it
    holds for the room in between."""

    kind = Kind.FILE
    size_bytes: InitVar[int]
    content: Content = field(init=False)
    damaged: bool = field(default=False, init=False)
    truncated: bool = field(default=False, init=False)
    failure: WriteFailure | None = field(default=None, init=False)
    writers: int = field(default=0, init=False)
    directs: int = field(default=0, init=False)
    stretched: int | None = field(default=None, init=False)

    def __post_init__(self, size_bytes: int) -> None:
        Node.__post_init__(self)
        self.content = Content(self.link.cid if self.link is not None else None, size_bytes)


@dataclass(slots=True, eq=False, repr=False)
class SymlinkNode(Node):
    """A symbolic link; its target never changes."""

    kind = Kind.SYMLINK
    target: bytes


@dataclass(slots=True, eq=False, repr=False)
class DirectoryNode(Node):
    """A directory: its link's entries under its overrides. ``renamed``: that was made here, and got its name by a rename.
    ``fetched`` is how many lookups of single names had to fetch something."""

    kind = Kind.DIRECTORY
    overrides: dict[bytes, Node | None] = field(default_factory=dict, init=False)
    children: dict[bytes, Node] = field(default_factory=dict, init=False)
    dirty_children: set[Node] = field(default_factory=set, init=False)
    renamed: bool = field(default=False, init=False)
    fetched: int = field(default=0, init=False)

    @property
    def dirty(self) -> bool:
        return self.changed or bool(self.overrides) or bool(self.dirty_children)

    def attach(self, name: bytes, node: Node) -> None:
        """Make ``node`` the child in memory under ``name``, without making it an override."""
        node.parent = self
        node.name = name
        self.children[name] = node
        if node.dirty:
            node.spread()

    def detach(self, node: Node) -> None:
        """Take a child out of memory, or off its name."""
        del self.children[node.name]
        self.dirty_children.discard(node)
        # Its name stays: errors tell it, and an evicted file comes back to it.
        node.parent = None

    def override(self, name: bytes, node: Node | None) -> None:
        """Let ``name`` stand for ``node`` here, or for nothing; what stood there before must be detached already."""
        # An override of nothing makes the directory dirty, too.
        self.overrides[name] = node
        if node is not None:
            self.attach(name, node)
        self.spread()

    def child_path(self, name: bytes) -> str:
        """The path of ``name`` in this directory."""
        above = self.path()
        # A name of the base may not be UTF-8; then no permission names its path.
        text = name.decode(errors="replace")
        return f"{above}/{text}" if above else text

    def walk(self) -> Iterator[Node]:
        """Every node in memory below this one, parents first."""
        # With a list of its own, as everything that goes down a tree here: a path may have more levels than Python has frames.
        waiting = list(reversed(self.children.values()))
        while waiting:
            node = waiting.pop()
            yield node
            if isinstance(node, DirectoryNode):
                waiting += reversed(node.children.values())


def check_sound(node: Node) -> None:
    """Raise Corrupt when the Hub has no right root block for ``node``: what was there cannot be read, nor changed in part."""
    if isinstance(node, FileNode) and node.damaged:
        raise Corrupt(f"the Hub has no right block for {node.name!r}", hint="remove it or write it anew")


def is_new_here(node: Node) -> bool:
    """Whether ``node``, or a folder above it, was given its name here."""
    at: Node = node
    while at.parent is not None:
        if at.name in at.parent.overrides:
            return True
        at = at.parent
    return False


def is_below(node: Node, ancestor: Node) -> bool:
    """Whether ``node`` is ``ancestor`` or lies under it."""
    at: Node | None = node
    while at is not None:
        if at is ancestor:
            return True
        at = at.parent
    return False
