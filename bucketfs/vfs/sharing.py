"""Other rights while a mount is in use: what may be seen appears, what may not be seen any more goes."""

from __future__ import annotations

from collections.abc import Callable

from bucketfs.vfs.facts import AttributesChanged, EntryChanged, Invalidation
from bucketfs.vfs.nodes import DirectoryNode, Node
from bucketfs.vfs.rights import Rights
from bucketfs.vfs.view import SEED
from bucketfs.vfs.volume import Volume


async def apply_rights(volume: Volume, rights: Rights | None) -> list[Invalidation]:
    """Let ``rights`` hold for a volume from now on; what the kernel must be told. Nothing that waits to be pushed is let go, and
    nothing that is open.

    Awaits only while it fetches directories that the kernel knows. Raises Unavailable, TimedOut, Corrupt with nothing changed.
    """
    if rights == volume.rights:
        return []
    return await volume.lens.settle(lambda: _apply(volume, rights))


def _apply(volume: Volume, rights: Rights | None) -> list[Invalidation]:
    """An attempt."""
    told: list[Invalidation] = []
    gone: list[Callable[[], None]] = []
    known = [volume.root, *(node for node in volume.root.walk() if isinstance(node, DirectoryNode) and not node.orphan)]
    for directory in known:
        if directory.link is None:
            continue
        changed = False
        for name in volume.lens.directory(directory.link.cid).entries:
            path = volume.path_under(directory, name)
            if name == SEED or name in directory.overrides or _shows(volume.rights, path) == _shows(rights, path):
                continue
            changed = True
            told.append(EntryChanged(directory.inode, name))
            child = directory.children.get(name)
            if child is not None and not child.dirty and not _in_use(child) and not _shows(rights, path):
                gone.append(_letting_go(volume, directory, child))
        if changed:
            told.append(AttributesChanged(directory.inode))
    for act in gone:
        act()
    volume.rights = rights
    return told


def _letting_go(volume: Volume, directory: DirectoryNode, child: Node) -> Callable[[], None]:
    def act() -> None:
        directory.detach(child)
        volume.reclaim(child)

    return act


def _in_use(node: Node) -> bool:
    """Whether something is open in or below ``node``: what is written to it must still find its name."""
    return node.opens > 0 or (isinstance(node, DirectoryNode) and any(below.opens for below in node.walk()))


def _shows(rights: Rights | None, path: str) -> bool:
    return rights is None or rights.shows(path)
