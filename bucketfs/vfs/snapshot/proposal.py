"""What a push built of dirty nodes; and marking them clean when it turns out that the Hub has just that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bucketfs.types import Link
from bucketfs.vfs.snapshot.snapshot import FrozenDirectory, Snapshot
from bucketfs.vfs.tree import DirectoryNode, FileNode, Namespace, Node


@dataclass(frozen=True, slots=True)
class BuiltNode:
    """What a push built of a dirty node when it had ``version`` and was ``name`` in ``parent`` (None for the root).

    ``gone`` are the names of a directory that the push took away.
    """

    version: int
    link: Link
    parent: DirectoryNode | None
    name: bytes
    gone: frozenset[bytes] = frozenset()


def built_of(snapshot: Snapshot, links: Mapping[Node, Link]) -> dict[Node, BuiltNode]:
    """What a push built of the nodes of ``snapshot``. ``links`` has the link of each."""
    places: dict[Node, tuple[DirectoryNode, bytes]] = {}
    gone: dict[Node, frozenset[bytes]] = {}
    for frozen in snapshot.nodes:
        if isinstance(frozen, FrozenDirectory):
            gone[frozen.node] = frozenset(name for name, change in frozen.changes.items() if change is None)
            for name, change in frozen.changes.items():
                if change is not None and not isinstance(change, Link):
                    places[change.node] = frozen.node, name
    built: dict[Node, BuiltNode] = {}
    for frozen in snapshot.nodes:
        node = frozen.node
        parent, name = places.get(node, (None, b""))
        built[node] = BuiltNode(frozen.version, links[node], parent, name, gone.get(node, frozenset()))
    return built


def agree(tree: Namespace, node: Node, theirs: Link, built: Mapping[Node, BuiltNode]) -> list[Node]:
    """Both sides made the same of a node: it rests on theirs, and is dirty only if it changed since it was built. Returns the nodes
    that may be clean now."""
    clean: list[Node] = []
    unchanged = node.version == built[node].version
    if isinstance(node, FileNode) and unchanged:
        node.content.rest_on(theirs.cid, node.content.size_bytes, node.content.seal())
    if isinstance(node, DirectoryNode) and unchanged:
        waiting = [node]
        for directory in waiting:  # which grows on the way
            waiting += _agree_inside(tree, directory, built, clean)
    node.link = theirs
    tree.remember(node)
    node.changed = not unchanged
    clean.append(node)
    return clean


def _agree_inside(
    tree: Namespace, directory: DirectoryNode, all_built: Mapping[Node, BuiltNode], clean: list[Node]
) -> list[DirectoryNode]:
    """The directory has the names that it was built with, and rests on what was built: so does all in it that is still as it
    was. What was moved or changed since stands as it is, as an override. The directories of which the same holds next."""
    below: list[DirectoryNode] = []
    for child in list(directory.children.values()):
        name, built = child.name, all_built.get(child)
        if built is None or (built.parent, built.name) != (directory, name):
            continue
        # Changed behind the push: it is an override of what the push has built there.
        if built.version != child.version:
            directory.overrides[name] = child
            continue
        directory.overrides.pop(name, None)
        child.link = built.link
        child.changed = False
        if isinstance(child, FileNode):
            child.content.rest_on(built.link.cid, child.content.size_bytes, child.content.seal())
        elif isinstance(child, DirectoryNode):
            below.append(child)
        tree.remember(child)
        clean.append(child)
    for name in all_built[directory].gone:
        if name in directory.overrides and directory.overrides[name] is None:
            del directory.overrides[name]
    return below


def without_folders(built: Mapping[Node, BuiltNode]) -> dict[Node, BuiltNode]:
    """What a push built of files and links: a folder that was built with some of its changes must not be taken for all of it."""
    return {node: one for node, one in built.items() if not isinstance(node, DirectoryNode)}
