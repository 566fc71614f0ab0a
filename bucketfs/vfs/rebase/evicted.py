"""Files whose name the Hub's side replaced or removed while they are open for writing here.

A program goes on reading the file that it has open, whatever another client does to the name, and what it writes is kept like any
other edit. So a rebase remembers where such a file stood: it is *evicted*. The first write brings it home, to its own name when
that is free (the edit survives), else beside what stands there now, under a conflict name. A file that is closed without a write
leaves nothing.

A directory is evicted when such a file is somewhere below it. It does not come back itself, because what else was in it is gone
at the Hub: a new one is made for the file.
"""

from __future__ import annotations

from bucketfs.journal import Conflict
from bucketfs.vfs.recovery import entry_ops
from bucketfs.vfs.tree import (
    DEFAULT_MODE,
    AttributesChanged,
    DirectoryNode,
    EntryChanged,
    Eviction,
    FileNode,
    Invalidation,
    Namespace,
    Node,
    Volume,
    conflict_name,
)


def bring_home(volume: Volume, node: Node) -> list[Invalidation]:
    """Give an orphan that was evicted a name again; what the kernel must be told. Nothing happens to other orphans.

    An attempt. Raises NoSpace, DiskFailed, and Denied when the roles at the Hub allow no such name; then nothing is changed but
    that directories may have been made.
    """
    if not volume.tree.evicted:
        return []
    why = _eviction(volume.tree, node)
    if why is None:
        return []
    told: list[Invalidation] = []
    home = _home(volume, node.parent or why.home, why, told)
    if home is None:
        return []
    old = node.parent
    name = _free(volume, home, node.name, why)
    volume.tree.check_placing(home, name)
    path = home.child_path(name)
    # The conflict is recorded first: after a kill in between its copy is looked for in vain, and the item goes off the list.
    # The other way round the copy would never be listed.
    conflict = None
    if name != node.name:
        conflict = Conflict(path, home.child_path(node.name), True, volume.base, volume.now_ns())
        volume.append(conflict)
    for op in entry_ops(node, path):
        volume.append(op)
    if isinstance(node, FileNode):
        for layer in node.content.layers:
            layer.unrecorded.clear()
    if conflict is not None:
        volume.pending.conflicts.add(conflict)
    if old is not None:
        old.detach(node)
        volume.tree.reclaim(old)
    volume.pending.place(home, name, node, volume.now_ns())
    volume.tree.forget_evicted(node)
    return [*told, EntryChanged(home.inode, name), AttributesChanged(home.inode)]


def _eviction(tree: Namespace, node: Node) -> Eviction | None:
    """How ``node``, or the directory that it went away with, was evicted."""
    at = node
    while at.parent is not None:
        at = at.parent
    return tree.evicted.get(at)


def _home(volume: Volume, directory: DirectoryNode, why: Eviction, told: list[Invalidation]) -> DirectoryNode | None:
    """The directory that stands where ``directory`` stood, made when there is none; ``None`` when it was removed here."""
    lost: list[DirectoryNode] = []
    at = directory
    while at.orphan:
        lost.append(at)
        if at.parent is not None:
            at = at.parent
        elif (evicted := volume.tree.evicted.get(at)) is not None:
            at = evicted.home
        else:
            return None
    for gone in reversed(lost):
        found = volume.tree.find(at, gone.name)
        if isinstance(found, DirectoryNode):
            at = found
            continue
        name = _free(volume, at, gone.name, why)
        told += [EntryChanged(at.inode, name), AttributesChanged(at.inode)]
        a = gone.attributes
        mode = DEFAULT_MODE[gone.kind] if a.mode is None else a.mode
        uid = volume.tree.owner.uid if a.uid is None else a.uid
        gid = volume.tree.owner.gid if a.gid is None else a.gid
        at = volume.make_directory(at, name, mode, uid, gid)
    return at


def _free(volume: Volume, home: DirectoryNode, name: bytes, why: Eviction) -> bytes:
    """``name`` if it is free in ``home``, else a conflict name that is."""

    def taken(candidate: bytes) -> bool:
        if candidate in home.children or home.overrides.get(candidate) is not None:
            return True
        return candidate not in home.overrides and volume.tree.base_entry(home, candidate) is not None

    return conflict_name(name, why.host, why.when, taken) if taken(name) else name
