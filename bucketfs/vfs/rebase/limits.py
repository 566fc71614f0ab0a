"""How many folders that differ a rebase goes into, so that no tree can hang a mount. Pure.

Where neither side's folder rests on the other's, every folder below them is compared. A tree of forty small blocks may have a
million million folders, because a folder may hold another one twice. Past a limit the two are not merged: each stands whole, under
a name of its own.
"""

from __future__ import annotations

from bucketfs.vfs.rebase.sides import TwoTrees
from bucketfs.vfs.tree import DirectoryNode, Volume, together

FOLDERS_MAX = 10_000
NAMES_MAX = 200_000
"""Below one folder; a node in memory for each."""


class Unbounded(Exception):
    """There is too much below a folder to be compared: the plan is to be made anew without. Internal to a rebase."""

    def __init__(self, node: DirectoryNode) -> None:
        super().__init__("too many folders to be compared")
        self.node = node


class FolderLimits:
    """What one plan has taken into memory, by the topmost folder that it did so for."""

    def __init__(self, volume: Volume, trees: TwoTrees) -> None:
        self._volume = volume
        self._trees = trees
        self._top: dict[DirectoryNode, DirectoryNode] = {}
        self._below: dict[DirectoryNode, set[DirectoryNode]] = {}
        self._names: dict[DirectoryNode, int] = {}

    def bring_in(self, node: DirectoryNode) -> None:
        """All names of a folder that came from elsewhere as nodes in memory, so that each can be told apart. Raises Wanted,
        Unbounded."""
        if node.link is None:
            return
        entries = self._trees.base_entries(node.link.cid)
        self._enter(node, len(entries))
        names = [name for name in entries if name not in node.children and name not in node.overrides]
        found = together(self._trees.node, (entries[name] for name in names))
        for name, there in zip(names, found, strict=True):
            self._volume.tree.bring_in(node, name, entries[name], there.info)

    def _enter(self, node: DirectoryNode, names_count: int) -> None:
        """A folder is gone into, again or not."""
        top = self._top.get(node) or (self._top.get(node.parent, node) if node.parent is not None else node)
        self._top[node] = top
        below = self._below.setdefault(top, set())
        if node is top or node in below:
            return
        below.add(node)
        self._names[top] = self._names.get(top, 0) + names_count
        if len(below) > FOLDERS_MAX or self._names[top] > NAMES_MAX:
            raise Unbounded(top)
