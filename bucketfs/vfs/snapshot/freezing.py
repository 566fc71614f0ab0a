"""Freezing the overlay for a push, and letting go of what a push has carried to the Hub.

`freeze` takes a picture of everything dirty, or of a slice of it: immutable facts about nodes, with file layers sealed. The push
builds the new tree from the picture alone, while the kernel goes on changing the nodes. `pushed` then moves the base under the
overlay: every node of the picture rests on the link that was built for it, and is clean unless it changed since.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from bucketfs.types import Cid, Link, NodeAttributes
from bucketfs.vfs.snapshot.batches import Choice
from bucketfs.vfs.tree import DirectoryNode, FileNode, FrozenLayer, Namespace, Node, SymlinkNode, Volume, squash


@dataclass(frozen=True, slots=True, eq=False)
class FrozenFile:
    """A dirty file. Without ``layers`` only attributes changed (or the file is new and empty: ``base`` is None)."""

    node: FileNode
    version: int
    base: Link | None
    base_size_bytes: int
    layers: tuple[FrozenLayer, ...]
    size_bytes: int
    attributes: NodeAttributes


@dataclass(frozen=True, slots=True, eq=False)
class FrozenSymlink:
    """A dirty symlink."""

    node: SymlinkNode
    version: int
    target: bytes
    attributes: NodeAttributes


@dataclass(frozen=True, slots=True, eq=False)
class FrozenDirectory:
    """A dirty directory: its link, and what replaces or joins the link's entries."""

    node: DirectoryNode
    version: int
    base: Link | None
    attributes: NodeAttributes
    changes: Mapping[bytes, Frozen | Link | None]
    overrides: Mapping[bytes, Node | None]


Frozen = FrozenFile | FrozenSymlink | FrozenDirectory


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """What was dirty in one moment: all of it when ``whole``. ``since_ns`` is when the oldest change that waited was made;
    ``nodes`` has children before their parents."""

    volume: Volume
    base: Cid
    root: FrozenDirectory
    since_ns: int
    nodes: list[Frozen] = field(default_factory=list)
    whole: bool = True

    @property
    def grown_bytes(self) -> int:
        """How much longer its files are than they were in the base."""
        return sum(frozen.size_bytes - frozen.base_size_bytes for frozen in self._files)

    @property
    def drafts_count(self) -> int:
        """How many drafts nobody needs once it is pushed."""
        return sum(len(frozen.layers) for frozen in self._files)

    @property
    def _files(self) -> Iterator[FrozenFile]:
        return (frozen for frozen in self.nodes if isinstance(frozen, FrozenFile))


def freeze(volume: Volume, choice: Choice | None = None) -> Picture | None:
    """The picture of everything dirty, or of the changes that ``choice`` names; ``None`` when nothing is dirty. Raises NoSpace or
    DiskFailed when a record cannot be written."""
    for file in list(volume.pending.unrecorded):
        volume.record(file)
    if not volume.root.dirty:
        return None
    dirty: list[Node] = [volume.root]
    for node in dirty:  # which grows on the way
        if isinstance(node, DirectoryNode):
            dirty += _dirty_below(node, choice)
    frozen: dict[Node, Frozen] = {}
    for node in reversed(dirty):
        frozen[node] = _freeze(node, frozen, choice)
    root = frozen[volume.root]
    assert isinstance(root, FrozenDirectory), "the root is a directory"
    since_ns = volume.push.take(volume.now_ns())
    return Picture(volume, volume.base, root, since_ns, list(frozen.values()), choice is None)


def _dirty_below(directory: DirectoryNode, choice: Choice | None) -> list[Node]:
    """The dirty nodes right under a directory, those that are chosen."""
    if choice is not None:
        chosen = (directory.children.get(name) for name in choice.get(directory, ()))
        return [node for node in chosen if node is not None and node.dirty]
    found = [node for node in directory.overrides.values() if node is not None and node.dirty]
    return found + [child for child in directory.dirty_children if child.name not in directory.overrides]


def _freeze(node: Node, below: Mapping[Node, Frozen], choice: Choice | None) -> Frozen:
    """The facts about one node. ``below`` has those of all dirty nodes under it."""
    if isinstance(node, DirectoryNode):
        changes: dict[bytes, Frozen | Link | None] = {child.name: below[child] for child in _dirty_below(node, choice)}
        overrides = node.overrides
        if choice is not None:
            overrides = {name: overrides[name] for name in choice.get(node, ()) if name in overrides}
        for name, override in overrides.items():
            if override is None:
                changes[name] = None
            elif not override.dirty:
                assert override.link is not None, "a clean node has a link"
                changes[name] = override.link
        return FrozenDirectory(node, node.version, node.link, node.attributes, changes, dict(overrides))
    if isinstance(node, FileNode):
        content = node.content
        return FrozenFile(
            node, node.version, node.link, content.base_size_bytes, content.seal(), content.size_bytes, node.attributes
        )
    assert isinstance(node, SymlinkNode)
    return FrozenSymlink(node, node.version, node.target, node.attributes)


def thaw(picture: Picture) -> None:
    """The push of ``picture`` failed: all of it is still dirty, and may be written to again without new layers."""
    for frozen in picture.nodes:
        if isinstance(frozen, FrozenFile):
            frozen.node.content.thaw()
            squash(picture.volume.pending, frozen.node)
    picture.volume.push.put_back(picture.since_ns)


def pushed(picture: Picture, links: Mapping[Node, Link]) -> None:
    """The Hub's root is the tree that was built from ``picture``: let the overlay rest on it.

    ``links`` has what was built for every node of the picture. What changed since the picture stays dirty, on the new base.
    """
    volume, tree = picture.volume, picture.volume.tree
    tree.base = links[volume.root].cid
    for frozen in picture.nodes:
        _rest(tree, frozen, links)
    for frozen in picture.nodes:
        frozen.node.settle()
    for frozen in picture.nodes:
        volume.tree.reclaim(frozen.node)
    if not volume.root.dirty:
        volume.push.wait_since(None)
    elif volume.push.since_ns is None:
        volume.push.wait_since(tree.owner.now_ns())


def _rest(tree: Namespace, frozen: Frozen, links: Mapping[Node, Link]) -> None:
    node = frozen.node
    if node.link is not None and node.link.cid != links[node].cid:
        tree.base_tree.forget(node.link)
    node.link = links[node]
    if node.version == frozen.version:
        node.changed = False
    if isinstance(frozen, FrozenFile):
        frozen.node.content.rest_on(frozen.node.link.cid if frozen.node.link else None, frozen.size_bytes, frozen.layers)
    elif isinstance(frozen, FrozenDirectory):
        overrides = frozen.node.overrides
        for name, then in frozen.overrides.items():
            if name in overrides and overrides[name] is then:
                del overrides[name]
    tree.remember(node)
