"""Other permissions while a mount is in use: what may be seen appears, what may not be seen any more goes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from bucketfs.dag import list_directory
from bucketfs.names import SEED
from bucketfs.types import Link
from bucketfs.vfs.tree import (
    AttributesChanged,
    DirectoryNode,
    EntryChanged,
    Invalidation,
    Node,
    Permissions,
    TreeReader,
    Volume,
    together,
)


async def apply_permissions(volume: Volume, permissions: Permissions | None) -> list[Invalidation]:
    """Let ``permissions`` hold for a volume from now on; what the kernel must be told. Nothing that waits to be pushed is let
    go, and nothing that is open.

    Awaits only while it fetches directories that the kernel knows. Raises Unavailable, TimedOut, Corrupt with nothing changed.
    """
    if permissions == volume.tree.permissions:
        return []
    reader = TreeReader(volume.tree.base_tree.source)
    return await reader.load(lambda: _apply(volume, permissions, reader))


def _apply(volume: Volume, permissions: Permissions | None, reader: TreeReader) -> list[Invalidation]:
    """An attempt."""
    told: list[Invalidation] = []
    gone: list[Callable[[], None]] = []
    known = [volume.root, *(node for node in volume.root.walk() if isinstance(node, DirectoryNode) and not node.orphan)]
    for directory, names in _names(known, reader):
        changed = False
        for name in names:
            path = directory.child_path(name)
            if (
                name == SEED
                or name in directory.overrides
                or _shows(volume.tree.permissions, path) == _shows(permissions, path)
            ):
                continue
            changed = True
            told.append(EntryChanged(directory.inode, name))
            child = directory.children.get(name)
            if child is not None and not child.dirty and not _in_use(child) and not _shows(permissions, path):
                gone.append(_letting_go(volume, directory, child))
        if changed:
            told.append(AttributesChanged(directory.inode))
    # After the loop: with a node those above it may go out of memory, and their paths are asked for there.
    for act in gone:
        act()
    volume.tree.permissions = permissions
    return told


def _names(directories: Sequence[DirectoryNode], reader: TreeReader) -> list[tuple[DirectoryNode, Mapping[bytes, Link]]]:
    """The names that the base has in each of those that rest on it."""
    resting = [(directory, directory.link.cid) for directory in directories if directory.link is not None]
    found = together(lambda one: reader.read(list_directory, one[1]).entries, resting)
    return [(directory, entries) for (directory, _), entries in zip(resting, found, strict=True)]


def _letting_go(volume: Volume, directory: DirectoryNode, child: Node) -> Callable[[], None]:
    def act() -> None:
        directory.detach(child)
        volume.tree.reclaim(child)

    return act


def _in_use(node: Node) -> bool:
    """Whether something is open in or below ``node``: what is written to it must still find its name."""
    return node.opens > 0 or (isinstance(node, DirectoryNode) and any(below.opens for below in node.walk()))


def _shows(permissions: Permissions | None, path: str) -> bool:
    return permissions is None or permissions.shows(path)
