"""Files that are shorter here than at the Hub, because a power loss took bytes that had been pushed and never synced.

Whatever is in a root that was proposed from here, what is here is the newer state of it; but of a file that lost bytes the Hub may
have more. So it is looked for in that root, at the names that it had when it was proposed. Where nothing that was written is left
here, it is the Hub's again, with the mode and owner that it has here. Where something is left, which may have been written since
and synced, it is not known what the one has and the other lacks: both are kept.

A file is on the list of its volume, with these names, from the replay on until nothing that was proposed can turn up any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial

from bucketfs.types import Kind, Link
from bucketfs.vfs.rebase.plan import RebasePlan
from bucketfs.vfs.rebase.sides import TwoTrees
from bucketfs.vfs.snapshot import BuiltNode
from bucketfs.vfs.tree import DirectoryNode, FileNode, Node, Volume

Theirs = Mapping[DirectoryNode, "Link | None"]
"""What the Hub's side has of folders here, those that differ."""

Both = Callable[[DirectoryNode, FileNode, Link, bool], None]
"""Plans what becomes of a file here and one of the Hub's that have no base; whether the new base has that at this very name."""


class TruncatedFiles:
    """What one plan gives back to the short files of a volume."""

    def __init__(
        self, volume: Volume, trees: TwoTrees, plan: RebasePlan, built: Mapping[Node, BuiltNode], theirs: Theirs, both: Both
    ) -> None:
        self._volume = volume
        self._trees = trees
        self._plan = plan
        self._built = built
        self._theirs = theirs
        self._both = both

    def tasks(self, root: Link) -> Iterator[Callable[[], None]]:
        """What is to be done when all folders have met. Each may raise Wanted."""
        for node, paths in self._volume.push.truncated.items():
            yield partial(self._give_back, node, paths, root)

    def _give_back(self, node: FileNode, paths: list[str], root: Link) -> None:
        parent, name = node.parent, node.name
        if parent is None or node.orphan or not (node.dirty or name in parent.overrides):
            return
        found = [link for link in (self._at(root, path) for path in paths) if link is not None]
        if not found:
            return
        # The names stand in the order in which they were first proposed: this is the newest one that the root has.
        link = found[-1]
        built = self._built.get(node)
        if link.cid in (node.link and node.link.cid, built and built.link.cid):
            return
        found_there = self._trees.node(link)
        theirs = self._theirs.get(parent, parent.link)
        there = None if theirs is None else self._trees.entry(theirs.cid, name)
        in_place = there is not None and there.cid == link.cid
        if any(layer.extents for layer in node.content.layers):
            self._both(parent, node, link, in_place)
        else:
            attributes = replace(node.attributes, mtime_ns=found_there.entry.attributes.mtime_ns)
            self._plan.replace(parent, node, found_there, attributes, in_place=in_place)
        self._plan.add(partial(self._hand_on, node, parent, name))

    def _at(self, root: Link, path: str) -> Link | None:
        """The file that has bytes at a path of the root."""
        link: Link | None = root
        for name in path.encode().split(b"/"):
            if link is None or self._trees.node(link).entry.kind is not Kind.DIRECTORY:
                return None
            link = self._trees.entry(link.cid, name)
        if link is None:
            return None
        entry = self._trees.node(link).entry
        return link if entry.kind is Kind.FILE and not entry.empty else None

    def _hand_on(self, node: FileNode, parent: DirectoryNode, name: bytes) -> None:
        """A later root may have more still of what has the name now."""
        now = parent.children.get(name)
        self._volume.push.hand_on(node, now if isinstance(now, FileNode) else None)
