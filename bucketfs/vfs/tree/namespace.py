"""Looking into a bucket: what names stand for, from the overlay where it has them, else from the base.

All methods but `open_root` are attempts in the sense of `base_tree`, or immediate.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bucketfs.dag import NodeInfo
from bucketfs.errors import NotADirectory, NotFound
from bucketfs.names import SEED
from bucketfs.types import NO_ATTRIBUTES, BucketKey, Cid, Inode, Kind, Link
from bucketfs.vfs.tree.base_tree import BaseTree
from bucketfs.vfs.tree.inode_table import InodeNumbers, Number, print_of
from bucketfs.vfs.tree.node import DirectoryNode, FileNode, Node, SymlinkNode
from bucketfs.vfs.tree.permissions import Rights
from bucketfs.vfs.tree.stat_types import Attr
from bucketfs.vfs.tree.tree_reader import Wanted, together

if TYPE_CHECKING:
    from bucketfs.vfs.tree.volume import Volume

DEFAULT_MODE = {Kind.FILE: 0o644, Kind.DIRECTORY: 0o755, Kind.SYMLINK: 0o777}
DIRECTORY_SIZE = 4096

DAMAGED_PRINT = b"?"
"""The `print_of` of what cannot be known: when it can be again, it gets a number of its own."""

LOOK_AHEAD_MAX = 256
LOOK_AHEAD_GROWTH = 16

Registry = MutableMapping[Inode, Node]


@dataclass(frozen=True, slots=True)
class Owner:
    """Who owns what no node says an owner for, and the clock of the mount."""

    uid: int
    gid: int
    now_ns: Callable[[], int]


@dataclass(frozen=True, slots=True)
class Displaced:
    """Where a node stood that the Hub took the place of, and what its conflict copy would be named after."""

    home: DirectoryNode
    host: str
    when: str


class View(ABC):
    """The nodes of one bucket in memory over its base. ``base`` is the root that the nodes' links belong to."""

    def __init__(
        self,
        key: BucketKey,
        *,
        base_tree: BaseTree,
        numbers: InodeNumbers,
        registry: Registry,
        owner: Owner,
        updated_at_ns: int,
    ) -> None:
        self.key = key
        self.base_tree = base_tree
        self.numbers = numbers
        self.registry = registry
        self.owner = owner
        self.updated_at_ns = updated_at_ns
        self.base = Cid(b"")
        self.root: DirectoryNode
        self.rights: Rights | None = None
        self.displaced: dict[Node, Displaced] = {}
        self._path_times: Mapping[str, int] = {}

    async def open_root(self, base: Cid, inode: Inode, known: Number | None = None) -> None:
        """Begin with ``base`` and nothing changed. ``known``: what the table has of the root."""
        link = Link(base, 0)
        info = await self.base_tree.load(lambda: self.base_tree.info(link))
        if info.kind is not Kind.DIRECTORY:
            raise NotADirectory("the root of the bucket is not a directory; a private bucket cannot be mounted yet")
        fallback = self.updated_at_ns
        self.base = base
        own = info.attributes.mtime_ns
        number = known or Number(inode, fallback if own is None else own, fallback)
        self.root = DirectoryNode(self.volume, inode, link, info.attributes, number.ctime_ns, number.fallback_ns)
        self._registered(self.root, replace(number, inode=inode))

    def learn_times(self, updated_at_ns: int, path_times: Mapping[str, int]) -> None:
        """When the Hub says the bucket and its paths were changed: the mtime of what carries none, when it is first seen."""
        self.updated_at_ns = updated_at_ns or self.updated_at_ns
        self._path_times = path_times

    def find(self, directory: DirectoryNode, name: bytes) -> Node | None:
        """The node that a name stands for, taken into memory when it was not; ``None`` when the name is free."""
        node = directory.children.get(name)
        if node is not None or name in directory.overrides:
            return self._mended(directory, node) if isinstance(node, FileNode) and node.damaged else node
        link = self.base_entry(directory, name)
        return None if link is None else self._materialize(directory, name, link)

    def _mended(self, directory: DirectoryNode, node: FileNode) -> Node:
        """A damaged node, or, when its block is there again, a node for what it truly is, with a number of its own: what the
        kernel knows under the old one is wrong."""
        assert node.link is not None, "only the base can be damaged"
        info = self.base_tree.shown(node.link)
        if info is None:
            return node
        own = info.attributes.mtime_ns
        number = Number(
            self.numbers.fresh(), node.ctime_ns if own is None else own, node.fallback_ns, print_of(info.kind, node.link)
        )
        name = node.name
        mended = self.node_of(node.link, number)
        self.numbers.keep(directory.inode, name, number)
        directory.detach(node)
        if name in directory.overrides:
            directory.override(name, mended)
        else:
            directory.attach(name, mended)
        self.reclaim(node)
        return mended

    def child(self, directory: DirectoryNode, name: bytes) -> Node:
        """Like `find`; raises NotFound."""
        node = self.find(directory, name)
        if node is None:
            raise NotFound(f"no entry {name.decode(errors='replace')!r}")
        return node

    def base_entry(self, directory: DirectoryNode, name: bytes) -> Link | None:
        """What the base says for a name of this directory, as far as it may be seen."""
        if directory.link is None or (directory is self.root and name == SEED):
            return None
        if self.rights is not None and not self.rights.shows(self.path_under(directory, name)):
            return None
        return self.base_tree.directory(directory.link.cid).entries.get(name)

    def names(self, directory: DirectoryNode) -> list[bytes]:
        """All names of a directory: the base's in byte order, then those made here, oldest first."""
        names: list[bytes] = []
        overrides = directory.overrides
        if directory.link is not None:
            entries = self.base_tree.directory(directory.link.cid).entries
            names = [name for name in entries if name not in overrides] if overrides else list(entries)
        if directory is self.root and SEED in names:
            names.remove(SEED)
        if self.rights is not None:
            names = [name for name in names if self.rights.shows(self.path_under(directory, name))]
        names += [name for name, node in overrides.items() if node is not None]
        return names

    def materialize_all(self, directory: DirectoryNode, names: list[bytes]) -> list[Node]:
        """The nodes of several names, with one fetch for all that is lacking. Names that are gone are left out."""
        if directory.link is not None:
            entries = self.base_tree.directory(directory.link.cid).entries
            new = [name for name in names if name not in directory.children and name not in directory.overrides]
            together(self.base_tree.shown, (entries[name] for name in new if name in entries))
        found = [self.find(directory, name) for name in names]
        return [node for node in found if node is not None]

    def is_empty(self, directory: DirectoryNode) -> bool:
        """Whether a directory has no entries (those that the Hub keeps for itself do not count, those that may not be seen
        do)."""
        if any(node is not None for node in directory.overrides.values()):
            return False
        if directory.link is None:
            return True
        entries = self.base_tree.directory(directory.link.cid).entries
        hidden = {SEED} if directory is self.root else frozenset[bytes]()
        return all(name in directory.overrides or name in hidden for name in entries)

    def attr(self, node: Node) -> Attr:
        """What ``stat`` shows for a node."""
        attributes, holes = node.attributes, 0
        settled = True
        if isinstance(node, FileNode):
            size = node.content.size_bytes
            holes = size - node.content.held_bytes
            settled = node.loss is None or node.loss.settled
        elif isinstance(node, SymlinkNode):
            size = len(node.target)
        else:
            size = DIRECTORY_SIZE
        mtime_ns = node.mtime_ns
        return Attr(
            inode=node.inode,
            generation=0,
            kind=node.kind,
            mode=DEFAULT_MODE[node.kind] if attributes.mode is None else attributes.mode,
            # One link for a directory says, as btrfs does, that its links are not counted; `find` then looks everywhere.
            nlink=0 if node.parent is None and node.orphan else 1,
            uid=self.owner.uid if attributes.uid is None else attributes.uid,
            gid=self.owner.gid if attributes.gid is None else attributes.gid,
            size_bytes=size,
            atime_ns=node.atime_ns,
            mtime_ns=mtime_ns,
            ctime_ns=node.ctime_ns,
            settled=settled,
            hole_bytes=holes,
        )

    def _materialize(self, directory: DirectoryNode, name: bytes, link: Link) -> Node:
        try:
            info = self.base_tree.shown(link)
        except Wanted:
            directory.fetched += 1
            raise
        return self.bring_in(directory, name, link, info)

    def look_ahead(self, directory: DirectoryNode, name: bytes) -> None:
        """Have what is behind a name in memory, where lookups had to fetch: rsync goes through a tree by name, and lists nothing.
        That is nothing after the first lookup, then more each time; many names at once below a folder of which this is known.
        An attempt."""
        above = directory.parent.fetched if directory.parent is not None else 0
        count = min(LOOK_AHEAD_MAX, LOOK_AHEAD_GROWTH ** (directory.fetched - 1 + above)) if directory.fetched else 0
        if count <= 1 or directory.link is None:
            return
        entries = self.base_tree.directory(directory.link.cid).entries
        names = list(entries)
        first = bisect_right(names, name)
        together(self.base_tree.shown, (entries[other] for other in names[first : first + count]))

    def bring_in(self, directory: DirectoryNode, name: bytes, link: Link, info: NodeInfo | None) -> Node:
        """Take what the base has at a name into memory. ``info`` is what its root block says, None when that is damaged."""
        known = self.numbers.at(directory.inode, name)
        if known is not None and known.inode in self.registry:
            known = None
        found = DAMAGED_PRINT if info is None else print_of(info.kind, link)
        if known is None or known.print != found:
            own = info.attributes.mtime_ns if info is not None else None
            fallback = self.updated_at_ns
            if own is None and self._path_times:
                fallback = self._path_times.get(self.path_under(directory, name), fallback)
            own = fallback if own is None else own
            # Another client may have set any mtime on other bytes of the same length, and its clock may be another one; number
            # and ctime tell that these are others.
            ctime_ns = own if known is None else max(self.owner.now_ns(), known.ctime_ns + 1)
            known = Number(self.numbers.fresh(), ctime_ns, fallback, found)
            self.numbers.keep(directory.inode, name, known)
            self.numbers.urge(known.inode)
        node = self.node_from(link, info, known)
        directory.attach(name, node)
        return node

    def node_of(self, link: Link, number: Number) -> Node:
        """A clean node for a DAG of the base. An attempt."""
        return self.node_from(link, self.base_tree.shown(link), number)

    def node_from(self, link: Link, info: NodeInfo | None, number: Number) -> Node:
        """A clean node for a DAG of the base whose root block says ``info``, or is damaged (None)."""
        node: Node
        if info is None:
            # What it is nobody can say; most things are files, and about as long as what their trees hold.
            node = FileNode(
                self.volume, number.inode, link, NO_ATTRIBUTES, number.ctime_ns, number.fallback_ns, size_bytes=link.tsize
            )
            node.damaged = True
            return self._registered(node, number)
        common = (self.volume, number.inode, link, info.attributes, number.ctime_ns, number.fallback_ns)
        if info.kind is Kind.DIRECTORY:
            node = DirectoryNode(*common)
        elif info.kind is Kind.SYMLINK:
            node = SymlinkNode(*common, target=info.target or b"")
        else:
            node = FileNode(*common, size_bytes=info.size_bytes)
            held = info.size_bytes - info.hole_bytes if number.held_bytes is None else number.held_bytes
            node.content.base_held_bytes = held
        return self._registered(node, number)

    def _registered(self, node: Node, number: Number) -> Node:
        if number.atime_ns is not None:
            node.atime_ns = number.atime_ns
        self.registry[number.inode] = node
        return node

    def reclaim(self, node: Node) -> None:
        """Let go of a node that nobody holds and that its link can bring back; then of the directories above it."""
        at: Node | None = node
        while at is not None and at is not self.root:
            if at.lookups or at.opens or (isinstance(at, DirectoryNode) and (at.children or self._is_home(at))):
                return
            if isinstance(at, FileNode) and at in self.volume.short:
                return  # what is written to it must not pass for newer than what it has lost
            if isinstance(at, FileNode) and at.loss is not None and not at.orphan:
                return  # who opens it next has to be told
            above = at.parent
            if above is not None:
                if at.dirty or at.name in above.overrides:
                    return
                above.detach(at)
            else:
                displaced = self.displaced.pop(at, None)
                above = None if displaced is None else displaced.home
                if isinstance(at, FileNode):
                    self.forsake(at)
                if at.link is not None:
                    self.base_tree.forget(at.link)
            if self.registry.get(at.inode) is at:
                del self.registry[at.inode]
            at = above

    def settle_in(self, node: Node) -> None:
        """A displaced node has a name again."""
        displaced = self.displaced.pop(node, None)
        if displaced is not None:
            self.reclaim(displaced.home)

    def _is_home(self, directory: DirectoryNode) -> bool:
        return any(displaced.home is directory for displaced in self.displaced.values())

    @property
    @abstractmethod
    def volume(self) -> Volume:
        """The bucket that the nodes belong to: this, with the changes."""

    @abstractmethod
    def forsake(self, node: FileNode) -> None:
        """An unlinked file that nobody has open goes out of memory."""

    def path_under(self, parent: DirectoryNode, name: bytes) -> str:
        above = parent.path()
        # A name of the base may be no text; then nobody has a right on it alone.
        text = name.decode(errors="replace")
        return f"{above}/{text}" if above else text
