"""An immutable snapshot of the pending changes, for a push.

`freeze` takes one of all that is dirty, or of a batch of it: facts about nodes, with the layers of files sealed. The push
builds the new tree from the snapshot alone, while programs go on changing the nodes. When the tree is at the Hub,
`Snapshot.mark_pushed` moves the base under the pending changes: each node of the snapshot gets the link that was built for
it, and is clean unless it changed since. When the push failed, `Snapshot.release` makes the layers writable again."""

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
class Snapshot:
    """What was dirty in one moment: all of it when ``whole``. The oldest of these changes was made at ``since_ns``. ``nodes`` has
    children before their parents."""

    volume: Volume
    base: Cid
    root: FrozenDirectory
    since_ns: int
    nodes: list[Frozen] = field(default_factory=list)
    whole: bool = True

    @property
    def files(self) -> Iterator[FrozenFile]:
        """Its files."""
        return (frozen for frozen in self.nodes if isinstance(frozen, FrozenFile))

    @property
    def grown_bytes(self) -> int:
        """How much longer its files are than they were in the base."""
        return sum(file.size_bytes - file.base_size_bytes for file in self.files)

    @property
    def drafts_count(self) -> int:
        """How many drafts are not needed once it is pushed."""
        return sum(len(file.layers) for file in self.files)

    def release(self) -> None:
        """Its push failed: all of it is still dirty, and may be written to again without new layers."""
        for file in self.files:
            file.node.content.reopen()
            # Only now: while a push reads the layers none may be copied into another.
            squash(self.volume.pending, file.node)
        self.volume.push.put_back(self.since_ns)

    def mark_pushed(self, links: Mapping[Node, Link]) -> None:
        """The Hub's root is the tree that was built from it. ``links`` has what was built for each node. What changed since the
        snapshot stays dirty, on the new base."""
        volume, tree = self.volume, self.volume.tree
        tree.base = links[volume.root].cid
        for frozen in self.nodes:
            _rest(tree, frozen, links[frozen.node])
        # When all rest: a directory is clean only when nothing below it is dirty.
        for frozen in self.nodes:
            frozen.node.mark_clean()
        for frozen in self.nodes:
            tree.reclaim(frozen.node)
        if not volume.root.dirty:
            volume.push.wait_since(None)
        elif volume.push.since_ns is None:
            volume.push.wait_since(volume.now_ns())


def _rest(tree: Namespace, frozen: Frozen, link: Link) -> None:
    """Let a node rest on what was built for it."""
    node = frozen.node
    if node.link is not None and node.link.cid != link.cid:
        tree.base_tree.forget(node.link)
    node.link = link
    # What was changed after the snapshot is dirty against the new link.
    if node.version == frozen.version:
        node.changed = False
    if isinstance(frozen, FrozenFile):
        frozen.node.content.rest_on(link.cid, frozen.size_bytes, frozen.layers)
    elif isinstance(frozen, FrozenDirectory):
        overrides = frozen.node.overrides
        for name, then in frozen.overrides.items():
            # An override that was replaced meanwhile is another change.
            if name in overrides and overrides[name] is then:
                del overrides[name]
    # The table has the print of its former link: the next mount would take a file for another one, with another number.
    tree.remember(node)


def freeze(volume: Volume, choice: Choice | None = None) -> Snapshot | None:
    """A snapshot of all that is dirty, or of the changes that ``choice`` names; ``None`` when nothing is dirty. Raises NoSpace or
    DiskFailed when a record cannot be written."""
    # What a push carries must be in the journal: after a kill behind the swap a replay would put an older file over it.
    for file in list(volume.pending.unrecorded):
        volume.record(file)
    if not volume.root.dirty:
        return None
    dirty: list[Node] = [volume.root]
    # A list and no recursion: a path may have more levels than Python has frames.
    for node in dirty:  # which grows on the way
        if isinstance(node, DirectoryNode):
            dirty += _dirty_below(node, choice)
    frozen: dict[Node, Frozen] = {}
    for node in reversed(dirty[1:]):
        frozen[node] = _freeze(node, frozen, choice)
    root = frozen[volume.root] = _freeze_directory(volume.root, frozen, choice)
    since_ns = volume.push.take(volume.now_ns())
    return Snapshot(volume, volume.base, root, since_ns, list(frozen.values()), choice is None)


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
        return _freeze_directory(node, below, choice)
    if isinstance(node, FileNode):
        content = node.content
        base_size_bytes = content.base_size_bytes
        return FrozenFile(
            node, node.version, node.link, base_size_bytes, content.seal(), content.size_bytes, node.attributes
        )
    assert isinstance(node, SymlinkNode), "there are three kinds of nodes"
    return FrozenSymlink(node, node.version, node.target, node.attributes)


def _freeze_directory(node: DirectoryNode, below: Mapping[Node, Frozen], choice: Choice | None) -> FrozenDirectory:
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
