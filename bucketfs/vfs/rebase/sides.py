"""What stands at a name on each side of a rebase: in the Hub's new tree, in the base that pending changes rest on, and here.

Of the two trees all that was read is held until the rebase is done, so that no bound of a cache makes it ask twice. Of two states
of a folder only the names that differ are held, however many it has.

The base may be lost: the Hub collects a tree that was replaced, and what is kept here (`base_pins`) may be damaged or incomplete.
A folder of the base that cannot be read does not keep all others from being rebased: it counts as lost, and the plan goes by what
is in memory. A folder of the Hub's that cannot be read does stop a rebase, because its names are not known.

Here stand nodes. One that was not built yet has no CID: its content is known all the same when only its attributes were changed,
when it is empty, or when a push has built it; otherwise it equals nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, TypeVar, TypeVarTuple

from bucketfs.cache import Source
from bucketfs.dag import (
    Entry,
    NodeInfo,
    Outcome,
    TreePath,
    cid_of,
    content_of,
    directory_changes,
    entry_of,
    fetch_one,
    find_moved,
    judge,
    list_directory,
    lookup,
    node_info,
    symlink,
)
from bucketfs.errors import TooLarge
from bucketfs.types import Cid, Kind, Link, Steps
from bucketfs.vfs.snapshot import BuiltNode
from bucketfs.vfs.tree import DirectoryNode, FileNode, Node, SymlinkNode, TreeReader, Unreadable, raw_info

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

NEW_HERE = b"changed here"
"""The content of a node whose CID is not known: no CID is this."""
NO_BYTES = content_of(cid_of(b""))

LOST_ROUNDS_MAX = 64
"""A comparison of two trees begins anew for each set of lost blocks that it meets."""


@dataclass(frozen=True, slots=True)
class TreeNode:
    """What a link stands for. ``info`` is None when its block cannot be read: then ``entry`` equals no other, and is a file unless
    it is known to be a directory."""

    link: Link
    entry: Entry
    info: NodeInfo | None


def _facts(cid: Cid) -> Steps[tuple[Entry, NodeInfo]]:
    block = yield from fetch_one(cid)
    return entry_of(cid, block), node_info(cid, block)


class TwoTrees(TreeReader):
    """Both trees. Every method but `load` is immediate, and raises Wanted, Unreadable."""

    ONE_BLOCK: ClassVar = frozenset({_facts})

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self.lost: set[Cid] = set()
        """Directories of the base that cannot be read."""
        self._theirs: set[Cid] = set()
        self._folders: set[Cid] = set()

    def changes(self, base: Cid, theirs: Cid) -> Mapping[bytes, tuple[Link | None, Link | None]] | None:
        """The names that differ between a directory of the base and one of the Hub's tree; None when that of the base is lost."""
        self._theirs.add(theirs)
        return self._of_base(base, directory_changes, base, theirs)

    def entries(self, directory: Cid) -> Mapping[bytes, Link]:
        """All names of a directory of the Hub's tree."""
        self._theirs.add(directory)
        return self.read(list_directory, directory).entries

    def base_entries(self, directory: Cid) -> Mapping[bytes, Link]:
        """All names of a directory of the base; none of one that is lost."""
        found = self._of_base(directory, list_directory, directory)
        return {} if found is None else found.entries

    def entry(self, directory: Cid, name: bytes) -> Link | None:
        """One name of a directory of the Hub's tree."""
        self._theirs.add(directory)
        return self.read(lookup, directory, name)

    def base_entry(self, directory: Cid, name: bytes) -> Link | None:
        """One name of a directory of the base; nothing in one that is lost."""
        return self._of_base(directory, lookup, directory, name)

    def _of_base(self, directory: Cid, compute: Callable[[*Ts], Steps[T]], *args: *Ts) -> T | None:
        """What is computed of a directory of the base; None when that is lost."""
        if directory in self.lost:
            return None
        try:
            return self.read(compute, *args)
        except Unreadable:
            if not self._is_lost(directory):
                raise
            return None

    def _is_lost(self, directory: Cid) -> bool:
        """Whether a directory of the base, which is none of the Hub's, cannot be read."""
        if directory in self._theirs:
            return False
        try:
            self.read(list_directory, directory)
        except Unreadable:
            self.lost.add(directory)
            return True
        return False

    def moved(self, base: Cid, theirs: Cid) -> tuple[Mapping[Cid, Sequence[TreePath]], Mapping[Cid, int]]:
        """Where nodes stand that came to a name of the Hub's tree (two places at most), and how many names each was taken off, as
        far as it can be read. Nothing when the Hub's tree is damaged, or too much differs: that must not stop a rebase."""
        lost: frozenset[Cid] = frozenset()
        for _ in range(LOST_ROUNDS_MAX):
            try:
                # With more blocks known to be lost it is another read: the same one has failed, and that is remembered.
                return self.read(find_moved, base, theirs, lost)
            except Unreadable as unreadable:
                if isinstance(unreadable.cause, TooLarge) or unreadable.missing <= lost:
                    break
                lost |= unreadable.missing
        return {}, {}

    def expect_folder(self, cid: Cid) -> None:
        """This is known to be a directory, should it be lost."""
        self._folders.add(cid)

    def node(self, link: Link) -> TreeNode:
        """What stands at ``link``. A block that cannot be read must not stop the rebase of everything else."""
        info = raw_info(link)
        if info is not None:
            return TreeNode(link, entry_of(link.cid), info)
        try:
            if link.cid not in self.lost:
                return TreeNode(link, *self.read(_facts, link.cid))
        except Unreadable:
            pass
        kind = Kind.DIRECTORY if link.cid in self._folders or link.cid in self.lost else Kind.FILE
        return TreeNode(link, Entry(kind, b"damaged " + link.cid), None)

    def entry_at(self, link: Link | None) -> Entry | None:
        """What stands at ``link``, as a fact for `judge`."""
        return None if link is None else self.node(link).entry

    def is_directory(self, link: Link) -> bool:
        return self.node(link).entry.kind is Kind.DIRECTORY


# Here


def rests_on(node: Node | None, link: Link | None) -> bool:
    """Whether a node's link, what it was when it was last clean, is just ``link``."""
    # By CID alone: links that are made here for a root, or for a directory that is known by its CID, have no size.
    return node is not None and node.link is not None and link is not None and node.link.cid == link.cid


def entry_here(node: Node, trees: TwoTrees, all_built: Mapping[Node, BuiltNode]) -> Entry:
    """What a node is. Raises Wanted."""
    if not node.dirty and node.link is not None:
        return trees.node(node.link).entry
    attributes = node.attributes
    if isinstance(node, SymlinkNode):
        made = symlink(node.target, attributes)
        return entry_of(made.link.cid, made.blocks[made.link.cid])
    if isinstance(node, DirectoryNode):
        return Entry(Kind.DIRECTORY, NEW_HERE, attributes)
    assert isinstance(node, FileNode)
    built = all_built.get(node)
    content, empty = NEW_HERE, node.content.size_bytes == 0
    if empty:
        content = NO_BYTES
    elif not node.content.layers and node.link is not None:
        content = trees.node(node.link).entry.content
    elif built is not None and built.version == node.version:
        content = trees.node(built.link).entry.content
    return Entry(Kind.FILE, content, attributes, empty)


def as_it_was(directory: DirectoryNode, was: Link, trees: TwoTrees, built: Mapping[Node, BuiltNode]) -> bool:
    """Whether nothing in a directory is other than in the base, although something was set to what it was. Raises Wanted."""
    if not rests_on(directory, was):
        return False
    waiting: list[Node] = [directory]
    for node in waiting:  # which grows on the way
        assert node.link is not None, "what has no link is an override"
        entry, base = entry_here(node, trees, built), trees.node(node.link).entry
        if isinstance(node, DirectoryNode):
            if node.overrides:
                return False
            waiting += node.dirty_children
            entry = replace(entry, content=base.content)
        if judge(base, entry, None).outcome is not Outcome.NOTHING:
            return False
    return True


def against_memory(node: DirectoryNode, new: Mapping[bytes, Link]) -> dict[bytes, tuple[Link | None, Link | None]]:
    """The names that differ between a folder whose base is lost and the Hub's, ``new``, as far as the nodes in memory tell. A name
    that was removed here is not known to have been there, and so comes back; one that was made or replaced here meets the Hub's
    as if both sides had made it."""
    found: dict[bytes, tuple[Link | None, Link | None]] = {}
    for name in dict.fromkeys([*new, *node.children]):
        child = node.children.get(name)
        was = None if child is None or name in node.overrides else child.link
        now = new.get(name)
        if (was and was.cid) != (now and now.cid):
            found[name] = was, now
    return found
