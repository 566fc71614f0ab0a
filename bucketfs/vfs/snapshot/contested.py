"""Which changes here may be what the Hub has by now: those whose names have something new there that looks the same. Pure.

When a slice of a backlog meets another root, only what is in the slice was built, and so compared. The rest of the backlog may be
at the Hub as well: two machines were given the same files, or our own push came through, somebody pushed after it, and a kill
kept us from taking note. What is found here is built before the rebase, so that no equal bytes become a conflict.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from bucketfs.types import Cid, Kind, Link
from bucketfs.vfs.snapshot.batches import Choice, add_to
from bucketfs.vfs.tree import DirectoryNode, FileNode, Node, Read, Volume, Wanted

T = TypeVar("T")


def contested_changes(volume: Volume, root: Cid) -> Choice:
    """The dirty files and links at whose names the tree ``root`` has something else than the base, of the same kind and length.
    An attempt."""
    choice: Choice = {}
    lacking: list[Read] = []
    waiting: list[tuple[DirectoryNode, Link]] = [(volume.root, Link(root, 0))]
    while waiting:
        directory, theirs = waiting.pop()
        if directory.link is not None and directory.link.cid == theirs.cid:
            continue
        try:
            new = volume.tree.base_tree.directory(theirs.cid).entries
            old = {} if directory.link is None else volume.tree.base_tree.directory(directory.link.cid).entries
        except Wanted as wanted:
            lacking += wanted.reads
            continue
        for node in directory.dirty_children:
            link, known = new.get(node.name), old.get(node.name)
            if link is None or (known is not None and known.cid == link.cid):
                continue
            try:
                info = volume.tree.base_tree.shown(link)
            except Wanted as wanted:
                lacking += wanted.reads
                continue
            if info is None or info.kind is not node.kind:
                continue
            if isinstance(node, DirectoryNode):
                waiting.append((node, link))
            elif _length(node) == info.size_bytes or info.kind is Kind.SYMLINK:
                add_to(choice, node)
    if lacking:
        # All that lacks is fetched at once: otherwise each folder would be a round trip of its own.
        raise Wanted(lacking)
    return choice


def without_folders(built: Mapping[Node, T]) -> dict[Node, T]:
    """What was built of files and links: a folder that was built with some of its changes must not be taken for all of it."""
    return {node: one for node, one in built.items() if not isinstance(node, DirectoryNode)}


def _length(node: Node) -> int:
    return node.content.size_bytes if isinstance(node, FileNode) else 0
