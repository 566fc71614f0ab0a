"""Local nodes as facts that `bucketfs.dag.judge` can compare with what stands in a tree.

A node that was not built yet has no CID. Its content is known all the same when only its attributes were changed, when it is
empty, or when a push has built it; otherwise it equals nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from bucketfs.dag import Entry, Outcome, cid_of, content_of, entry_of, judge, symlink
from bucketfs.types import Kind, Link
from bucketfs.vfs.rebase.two_trees import TwoTrees
from bucketfs.vfs.snapshot import BuiltNode
from bucketfs.vfs.tree import DirectoryNode, FileNode, Node, SymlinkNode

NEW_HERE = b"changed here"
"""The content of a node whose CID is not known: no CID is this."""

NO_BYTES = content_of(cid_of(b""))


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
