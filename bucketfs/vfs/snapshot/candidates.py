"""Which changes here may be at the Hub already: those at whose names its tree has something new that looks the same. Pure.

When a batch of a backlog meets another root, only what is in the batch was built, and so compared. The rest of the backlog may be
at the Hub as well: two machines were given the same files; or our own push came through, another client pushed after it, and a kill
kept us from recording it. What is found here is built before the rebase, so that no equal bytes become a conflict.
"""

from __future__ import annotations

from bucketfs.types import Cid, Kind, Link
from bucketfs.vfs.snapshot.batches import Choice, add_to
from bucketfs.vfs.tree import DirectoryNode, FileNode, Node, Volume, together


def equal_candidates(volume: Volume, root: Cid) -> Choice:
    """The dirty files and links at whose names the tree ``root`` has something else than the base, of the same kind and length.
    An attempt; it asks for all that lacks of a level of folders at once."""
    choice: Choice = {}
    level: list[tuple[Node, Link]] = [(volume.root, Link(root, 0))]
    while level:
        below = [found for changed in together(lambda pair: _changed(volume, *pair), level) for found in changed]
        infos = together(lambda pair: volume.tree.base_tree.shown(pair[1]), below)
        level = []
        for (node, link), info in zip(below, infos, strict=True):
            if info is None or info.kind is not node.kind:
                continue
            if isinstance(node, DirectoryNode):
                level.append((node, link))
            elif info.kind is Kind.SYMLINK or (isinstance(node, FileNode) and node.content.size_bytes == info.size_bytes):
                add_to(choice, node)
    return choice


def _changed(volume: Volume, directory: Node, theirs: Link) -> list[tuple[Node, Link]]:
    """The dirty children of ``directory`` whose names are others in ``theirs`` than in its base, with what they are there."""
    base = directory.link
    if not isinstance(directory, DirectoryNode) or (base is not None and base.cid == theirs.cid):
        return []
    new = volume.tree.base_tree.directory(theirs.cid).entries
    old = {} if base is None else volume.tree.base_tree.directory(base.cid).entries
    found: list[tuple[Node, Link]] = []
    for node in directory.dirty_children:
        link, known = new.get(node.name), old.get(node.name)
        if link is not None and (known is None or known.cid != link.cid):
            found.append((node, link))
    return found
