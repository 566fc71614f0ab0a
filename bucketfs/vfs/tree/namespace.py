"""What the names of a bucket stand for: from the nodes in memory where something was changed or looked at, else from the base.

All methods but `open_root` are attempts in the sense of `base_tree`, or immediate.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, replace

from bucketfs.dag import NodeInfo
from bucketfs.errors import Denied, NotADirectory, NotFound
from bucketfs.names import SEED
from bucketfs.roles import PathChange
from bucketfs.types import NO_ATTRIBUTES, Cid, Inode, Kind, Link
from bucketfs.vfs.tree.base_pins import BasePins
from bucketfs.vfs.tree.base_tree import BaseTree
from bucketfs.vfs.tree.inode_table import InodeNumbers, Number, print_of
from bucketfs.vfs.tree.node import DirectoryNode, FileNode, Node, SymlinkNode, is_new_here
from bucketfs.vfs.tree.permissions import Permissions
from bucketfs.vfs.tree.stat_types import Attr
from bucketfs.vfs.tree.tree_reader import Wanted, together

DEFAULT_MODE = {Kind.FILE: 0o644, Kind.DIRECTORY: 0o755, Kind.SYMLINK: 0o777}
DIRECTORY_SIZE = 4096

DAMAGED_PRINT = b"?"
"""The `print_of` of a damaged node: once its block can be read it gets a new number."""

LOOK_AHEAD_MAX = 256
LOOK_AHEAD_GROWTH = 16

Registry = MutableMapping[Inode, Node]
"""The nodes of all buckets of a mount, by the number that the kernel knows them by."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The owner of nodes that carry none, and the clock of the mount."""

    uid: int
    gid: int
    now_ns: Callable[[], int]


@dataclass(frozen=True, slots=True)
class Eviction:
    """Where a node stood whose name now belongs to a node of the Hub, and what its conflict copy would be named after."""

    home: DirectoryNode
    host: str
    when: str


class Namespace:
    """The nodes of one bucket in memory, over its base. ``base`` is the root that the nodes' links belong to."""

    def __init__(
        self, base_tree: BaseTree, numbers: InodeNumbers, registry: Registry, owner: Owner, *, updated_at_ns: int
    ) -> None:
        self.base_tree = base_tree
        self.numbers = numbers
        self.registry = registry
        self.owner = owner
        self.updated_at_ns = updated_at_ns
        self.base = Cid(b"")
        self.root: DirectoryNode
        self.permissions: Permissions | None = None
        self.evicted: dict[Node, Eviction] = {}
        self.base_pins = BasePins()
        self.note_dirty = self.base_pins.add_dirty
        self.new_here = False
        """Whether no mount on this machine has shown the bucket before."""
        self.on_orphan_gone: Callable[[FileNode], None] = lambda node: None
        """Called when an unlinked file that is neither open nor known to the kernel goes out of memory."""
        self._path_times: Mapping[str, int] = {}
        self._root_place: tuple[Inode, bytes] | None = None

    async def open_root(self, base: Cid, inode: Inode, known: Number | None = None) -> None:
        """Begin with ``base`` and nothing changed. ``known``: what the table of numbers has of the root."""
        link = Link(base, 0)
        info = await self.base_tree.load(lambda: self.base_tree.info(link))
        if info.kind is not Kind.DIRECTORY:
            raise NotADirectory("the root of the bucket is not a directory; a private bucket cannot be mounted yet")
        fallback = self.updated_at_ns
        self.base = base
        own = info.attributes.mtime_ns
        number = known or Number(inode, fallback if own is None else own, fallback)
        self.root = DirectoryNode(self, inode, link, info.attributes, number.ctime_ns, number.fallback_ns)
        self._register(self.root, replace(number, inode=inode))

    def learn_times(self, updated_at_ns: int, path_times: Mapping[str, int]) -> None:
        """When the Hub says the bucket and its paths were changed: the mtime of what carries none, when it is first seen."""
        self.updated_at_ns = updated_at_ns or self.updated_at_ns
        self._path_times = path_times

    # Names

    def find(self, directory: DirectoryNode, name: bytes) -> Node | None:
        """The node that a name stands for, taken into memory when it was not; ``None`` when the name is free."""
        # A name that is overridden by nothing was removed here: the base must not show through.
        node = directory.children.get(name)
        if node is not None or name in directory.overrides:
            return self._mended(directory, node) if isinstance(node, FileNode) and node.damaged else node
        link = self.base_entry(directory, name)
        if link is None:
            return None
        try:
            info = self.base_tree.shown(link)
        except Wanted:
            directory.fetched += 1
            raise
        return self.bring_in(directory, name, link, info)

    def child(self, directory: DirectoryNode, name: bytes) -> Node:
        """Like `find`; raises NotFound."""
        node = self.find(directory, name)
        if node is None:
            raise NotFound(f"no entry {name.decode(errors='replace')!r}")
        return node

    def base_entry(self, directory: DirectoryNode, name: bytes) -> Link | None:
        """What the base has for a name of this directory, as far as the user may see it."""
        if directory.link is None or (directory is self.root and name == SEED):
            return None
        if self.permissions is not None and not self.permissions.shows(directory.child_path(name)):
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
        if self.permissions is not None:
            names = [name for name in names if self.permissions.shows(directory.child_path(name))]
        # Behind the base's, so that a name that appears while a listing is read shifts no position before it.
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

    def look_ahead(self, directory: DirectoryNode, name: bytes) -> None:
        """Bring the root blocks of the names behind ``name`` into memory where lookups had to fetch: rsync goes through a tree by
        name, and lists nothing. None after the first lookup, then more each time; many at once below a folder where this happened.
        An attempt."""
        above = directory.parent.fetched if directory.parent is not None else 0
        count = min(LOOK_AHEAD_MAX, LOOK_AHEAD_GROWTH ** (directory.fetched - 1 + above)) if directory.fetched else 0
        if count <= 1 or directory.link is None:
            return
        entries = self.base_tree.directory(directory.link.cid).entries
        names = list(entries)
        first = bisect_right(names, name)
        together(self.base_tree.shown, (entries[other] for other in names[first : first + count]))

    def is_empty(self, directory: DirectoryNode) -> bool:
        """Whether a directory has no entries (the Hub's own do not count, those that the user may not see do)."""
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
            settled = node.failure is None or node.failure.settled
        elif isinstance(node, SymlinkNode):
            size = len(node.target)
        else:
            size = DIRECTORY_SIZE
        return Attr(
            inode=node.inode,
            kind=node.kind,
            mode=DEFAULT_MODE[node.kind] if attributes.mode is None else attributes.mode,
            # One link for a directory says, as btrfs does, that its links are not counted; `find` then looks everywhere.
            nlink=0 if node.parent is None and node.orphan else 1,
            uid=self.owner.uid if attributes.uid is None else attributes.uid,
            gid=self.owner.gid if attributes.gid is None else attributes.gid,
            size_bytes=size,
            atime_ns=node.atime_ns,
            mtime_ns=node.mtime_ns,
            ctime_ns=node.ctime_ns,
            settled=settled,
            hole_bytes=holes,
        )

    # What the roles at the Hub allow. Without permissions to ask (the owner's case) each of these is one comparison.

    def check_changing(self, node: Node) -> None:
        """Raise Denied when the Hub would refuse other bytes or attributes of ``node``. Nodes that were made here, and those
        that are open, were checked when they were made or opened."""
        if self.permissions is not None and not node.orphan and _in_base(node):
            self._require(node.path(), PathChange.REPLACE)

    def check_taking(self, node: Node) -> None:
        """Raise Denied when the Hub would refuse to remove ``node``."""
        if self.permissions is not None and _in_base(node):
            self._require(node.path(), PathChange.REMOVE)

    def check_placing(self, parent: DirectoryNode, name: bytes) -> None:
        """Raise Denied when the Hub would refuse something new at a name."""
        if self.permissions is not None:
            known = self.base_entry(parent, name) is not None
            self._require(parent.child_path(name), PathChange.REPLACE if known else PathChange.ADD)

    def _require(self, path: str, change: PathChange) -> None:
        if self.permissions is not None and not self.permissions.may(path, change):
            raise Denied(f"{path!r} may not be {change.value} by you", hint="the owner of the bucket grants roles")

    # Nodes

    def bring_in(self, directory: DirectoryNode, name: bytes, link: Link, info: NodeInfo | None) -> Node:
        """Take what the base has at a name into memory. ``info`` is what its root block says, None when that is damaged."""
        # A number in use belongs to its node: two with one number would be one file to the kernel.
        known = self.numbers.at(directory.inode, name)
        if known is not None and known.inode in self.registry:
            known = None
        found = DAMAGED_PRINT if info is None else print_of(info.kind, link)
        if known is None or known.print != found:
            own = info.attributes.mtime_ns if info is not None else None
            fallback = self.updated_at_ns
            if own is None and self._path_times:
                fallback = self._path_times.get(directory.child_path(name), fallback)
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

    def _mended(self, directory: DirectoryNode, node: FileNode) -> Node:
        """A damaged node; or, when its block can be read again, a node for what it truly is, with a new number: what the kernel
        knows under the old one is wrong."""
        assert node.link is not None, "only nodes of the base can be damaged"
        info = self.base_tree.shown(node.link)
        if info is None:
            return node
        own = info.attributes.mtime_ns
        number = Number(
            self.numbers.fresh(), node.ctime_ns if own is None else own, node.fallback_ns, print_of(info.kind, node.link)
        )
        mended = self.node_of(node.link, number)
        # Nothing can fail from here on: `shown` and `node_of` were the looks of this attempt.
        self.numbers.keep(directory.inode, node.name, number)
        self.replace(node, mended)
        return mended

    def replace(self, node: Node, fresh: Node) -> None:
        """Put ``fresh`` on the name of ``node``."""
        parent, name = node.parent, node.name
        assert parent is not None, "a root has no name"
        overriding = name in parent.overrides
        parent.detach(node)
        if overriding:
            parent.override(name, fresh)
        else:
            parent.attach(name, fresh)
        self.reclaim(node)

    def node_of(self, link: Link, number: Number) -> Node:
        """A clean node for a DAG of the base. An attempt."""
        return self.node_from(link, self.base_tree.shown(link), number)

    def node_from(self, link: Link, info: NodeInfo | None, number: Number) -> Node:
        """A clean node for a DAG of the base whose root block says ``info``, or is damaged (None)."""
        node: Node
        if info is None:
            # Its kind and length cannot be known; most nodes are files, and about as long as what their trees hold.
            node = FileNode(
                self, number.inode, link, NO_ATTRIBUTES, number.ctime_ns, number.fallback_ns, size_bytes=link.tsize
            )
            node.damaged = True
            return self._register(node, number)
        common = (self, number.inode, link, info.attributes, number.ctime_ns, number.fallback_ns)
        if info.kind is Kind.DIRECTORY:
            node = DirectoryNode(*common)
        elif info.kind is Kind.SYMLINK:
            node = SymlinkNode(*common, target=info.target or b"")
        else:
            node = FileNode(*common, size_bytes=info.size_bytes)
            held = info.size_bytes - info.hole_bytes if number.held_bytes is None else number.held_bytes
            node.content.base_held_bytes = held
        return self._register(node, number)

    def _register(self, node: Node, number: Number) -> Node:
        if number.atime_ns is not None:
            node.atime_ns = number.atime_ns
        self.registry[number.inode] = node
        return node

    def reclaim(self, node: Node) -> None:
        """Drop a node from memory that is not in use and that its link can bring back; then the directories above it."""
        at: Node | None = node
        while at is not None and at is not self.root:
            # The kernel may come back by number to what it has looked up, and by handle to what is open.
            if at.lookups or at.opens or (isinstance(at, DirectoryNode) and (at.children or self._is_home(at))):
                return
            # The next program that opens it has to be told of the failure; and what is written to a truncated file must not
            # pass for newer than what it has lost.
            if isinstance(at, FileNode) and (at.truncated or (at.failure is not None and not at.orphan)):
                return
            above = at.parent
            if above is not None:
                if at.dirty or at.name in above.overrides:
                    return
                above.detach(at)
            else:
                evicted = self.evicted.pop(at, None)
                above = None if evicted is None else evicted.home
                if isinstance(at, FileNode):
                    self.on_orphan_gone(at)
                if at.link is not None:
                    self.base_tree.forget(at.link)
            # Its number may stand for another node by now.
            if self.registry.get(at.inode) is at:
                del self.registry[at.inode]
            at = above

    def may_be_written(self, node: Node) -> bool:
        """Whether ``node`` is a file that is open for writing, or a directory with one below, or one that an evicted file
        comes back to."""
        if isinstance(node, FileNode):
            return node.writers > 0
        if not isinstance(node, DirectoryNode):
            return False
        homes = {evicted.home for evicted in self.evicted.values()}
        return node in homes or any(
            below in homes or (isinstance(below, FileNode) and below.writers) for below in node.walk()
        )

    def forget_evicted(self, node: Node) -> None:
        """A evicted node has a name again."""
        evicted = self.evicted.pop(node, None)
        if evicted is not None:
            self.reclaim(evicted.home)

    def _is_home(self, directory: DirectoryNode) -> bool:
        return any(evicted.home is directory for evicted in self.evicted.values())

    # Numbers

    def remember(self, node: Node) -> None:
        """Keep the number of a node, and the times that its link does not say, for the next mount."""
        place = self._root_place if node is self.root else None
        if node.parent is not None:
            place = node.parent.inode, node.name
        if place is not None:
            held = node.content.base_held_bytes if isinstance(node, FileNode) else None
            print_ = print_of(node.kind, node.link)
            self.numbers.keep(*place, Number(node.inode, node.ctime_ns, node.fallback_ns, print_, node.atime_ns, held))

    def remember_root(self, parent: Inode, name: bytes) -> None:
        """Keep the number of the root, which stands at the top of an all-buckets mount, for the next mount."""
        self._root_place = parent, name
        self.remember(self.root)
        self.numbers.urge(self.root.inode)

    def stamp(self, node: Node, atime_ns: int, fallback_ns: int, ctime_ns: int) -> None:
        """Set the times that only this machine keeps. Nothing becomes dirty."""
        node.atime_ns, node.fallback_ns, node.ctime_ns = atime_ns, fallback_ns, ctime_ns
        self.remember(node)

    def dirty_nodes(self) -> Iterator[Node]:
        """Every dirty node below the root, parents first."""
        waiting: list[Node] = [self.root] if self.root.dirty else []
        while waiting:
            node = waiting.pop()
            yield node
            if isinstance(node, DirectoryNode):
                waiting += node.dirty_children


def _in_base(node: Node) -> bool:
    """Whether the Hub has something at the path of ``node``, as far as this mount knows."""
    return node.link is not None and not is_new_here(node)
